//! What a demonstration may ask of a node's machines. A server answers it only with `--drills`:
//! locks and transactions for clients belong on the replicated store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_dmutex::{Name, Reply as MutexReply, Request as MutexRequest};
use quorate_driver::Gone;
use quorate_election::bully;
use quorate_node::Resource;
use quorate_node::chronicle::{self, Happening, Kind};
use quorate_transport::{NodeId, RequestId};
use quorate_txn::{Reply as TxnReply, Request as TxnRequest, TxnId, Vote};
use serde::{Deserialize, Serialize};

use crate::server::Machines;
use quorate_node::wire::{Balance, Drill, Leaders, Report, Told};

/// What every account begins with.
pub(crate) const OPENING: i64 = 100;
/// Transactions of which it is remembered that they were carried out.
const APPLIED_MAX: usize = 1024;

/// One node's account: the resource of its transactions, in a file.
#[derive(Clone)]
pub(crate) struct Accounts(Arc<Mutex<Book>>);

struct Book {
    path: PathBuf,
    page: Page,
    /// Prepared: what each would add.
    reserved: BTreeMap<TxnId, i64>,
    /// Votes held back.
    held: BTreeSet<TxnId>,
}

/// What the file says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    balance: i64,
    /// The newest transactions that were carried out.
    applied: Vec<String>,
}

impl Accounts {
    /// Opens the account in a directory.
    ///
    /// # Errors
    /// The file is not one.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("accounts.json");
        let page = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?,
            Err(_) => Page { balance: OPENING, applied: Vec::new() },
        };
        let book = Book { path, page, reserved: BTreeMap::new(), held: BTreeSet::new() };
        Ok(Self(Arc::new(Mutex::new(book))))
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn balance(&self) -> i64 {
        self.lock().page.balance
    }

    fn take_held(&self) -> BTreeSet<TxnId> {
        std::mem::take(&mut self.lock().held)
    }
}

impl Book {
    fn write(&self) -> std::io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = fs::File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(&self.page)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        self.path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
    }
}

impl Resource for Accounts {
    fn prepare(&mut self, txn: TxnId, payload: &Bytes) -> Option<Vote> {
        let mut book = self.lock();
        let Ok((delta, hold)) = postcard::from_bytes::<(i64, bool)>(payload) else {
            return Some(Vote::No);
        };
        let spoken_for: i64 = book.reserved.values().filter(|delta| **delta < 0).sum();
        if book.page.balance.saturating_add(spoken_for).saturating_add(delta) < 0 {
            return Some(Vote::No);
        }
        book.reserved.insert(txn, delta);
        if hold {
            book.held.insert(txn);
            return None;
        }
        Some(Vote::Yes)
    }

    fn recover(&mut self, txn: TxnId, payload: &Bytes) {
        if let Ok((delta, _)) = postcard::from_bytes::<(i64, bool)>(payload) {
            self.lock().reserved.insert(txn, delta);
        }
    }

    fn commit(&mut self, txn: TxnId) {
        let mut book = self.lock();
        let Some(delta) = book.reserved.remove(&txn) else { return };
        let name = txn.to_string();
        if book.page.applied.contains(&name) {
            return; // in a former life, just before its end
        }
        book.page.balance += delta;
        book.page.applied.push(name);
        if book.page.applied.len() > APPLIED_MAX {
            book.page.applied.remove(0);
        }
        if let Err(error) = book.write() {
            tracing::error!(%error, "the account cannot be written: giving up");
            std::process::exit(1); // what is not durable must not be reported as done
        }
    }

    fn abort(&mut self, txn: TxnId) {
        let mut book = self.lock();
        book.reserved.remove(&txn);
        book.held.remove(&txn);
    }
}

/// Carries out one exercise.
pub(crate) async fn run(machines: &Machines, accounts: &Accounts, drill: Drill) -> Report {
    match carry_out(machines, accounts, drill).await {
        Ok(report) => report,
        Err(Gone) => Report::Failed(Gone.to_string()),
    }
}

async fn carry_out(machines: &Machines, accounts: &Accounts, drill: Drill) -> Result<Report, Gone> {
    Ok(match drill {
        Drill::Lock { name, patience_ms } => lock(machines, &name, patience_ms).await?,
        Drill::Unlock { request } => {
            let release = MutexRequest::Release { acquired: RequestId(request) };
            match machines.mutex.request(release).await? {
                MutexReply::Released => Report::Done,
                other => Report::Failed(format!("{other:?}")),
            }
        }
        Drill::MutexCounts => {
            let stats = machines.mutex.look(|mutex| mutex.status().stats).await?;
            Report::MutexCounts {
                requests: stats.requests_sent,
                permissions: stats.permissions_sent,
                again: stats.requests_again,
            }
        }
        Drill::Say { to, word } => {
            let request = match to {
                Some(to) => chronicle::Request::Say { to: NodeId(to), word },
                None => chronicle::Request::Note { word },
            };
            match machines.chronicle.request(request).await? {
                chronicle::Reply::Done => Report::Done,
                other => Report::Failed(format!("{other:?}")),
            }
        }
        Drill::Story => match machines.chronicle.request(chronicle::Request::Story).await? {
            chronicle::Reply::Story(story) => Report::Story(story.iter().map(told).collect()),
            other => Report::Failed(format!("{other:?}")),
        },
        Drill::Elections => Report::Elections(leaders(machines).await?),
        Drill::Transfer { parts } => transfer(machines, parts).await?,
        Drill::Release => {
            for txn in accounts.take_held() {
                let vote = TxnRequest::Vote { txn, vote: Vote::Yes };
                machines.transactions.request(vote).await?;
            }
            Report::Done
        }
        Drill::Accounts => {
            let look = machines.transactions.look(|machine| {
                let open = machine.held();
                let open =
                    open.map(|(txn, at)| (txn.to_string(), format!("{at:?}").to_lowercase()));
                let awaited = machine.awaited().flat_map(|(_, nodes)| nodes).map(|node| node.0);
                (open.collect(), awaited.collect(), machine.stats().blocked)
            });
            let (open, awaited, blocked) = look.await?;
            Report::Accounts(Balance { balance: accounts.balance(), open, awaited, blocked })
        }
    })
}

async fn lock(machines: &Machines, name: &str, patience_ms: u64) -> Result<Report, Gone> {
    let Ok(name) = Name::try_from(name) else {
        return Ok(Report::Failed("name: a name has 1 to 255 bytes".into()));
    };
    let patience = Some(Duration::from_millis(patience_ms));
    let acquire = MutexRequest::Acquire { name, patience };
    Ok(match machines.mutex.request_numbered(acquire).await? {
        (id, MutexReply::Held { fence }) => {
            Report::Locked { request: id.0, fence: fence.to_u128() }
        }
        (_, other) => Report::Failed(format!("{other:?}")),
    })
}

fn told(happening: &Happening) -> Told {
    let (message, heard) = match happening.kind {
        Kind::Local => (None, false),
        Kind::Said(id) => (Some(id), false),
        Kind::Heard(id) => (Some(id), true),
    };
    let entries = happening.vector.iter();
    Told {
        message: message.map(|id| (id.from.node.0, id.from.incarnation.0, id.number)),
        heard,
        word: happening.word.clone(),
        time: happening.time.0,
        vector: entries.map(|(peer, count)| (peer.node.0, peer.incarnation.0, count)).collect(),
    }
}

async fn leaders(machines: &Machines) -> Result<Leaders, Gone> {
    let bully = match machines.bully.request(bully::Request::Status).await? {
        bully::Reply::Status(advisory) => {
            advisory.map(|opinion| (opinion.leader.0, opinion.term.0))
        }
        bully::Reply::Begun => None,
    };
    match machines.lease.request(quorate_election::Request::Status).await? {
        quorate_election::Reply::Status { term, leader, guard } => Ok(Leaders {
            lease: (leader.map(|leader| leader.0), term.0),
            bully,
            token: guard.map(|guard| guard.token().to_u128()),
        }),
        _ => Err(Gone),
    }
}

async fn transfer(machines: &Machines, parts: Vec<(u64, i64, bool)>) -> Result<Report, Gone> {
    let part = |(node, delta, hold): (u64, i64, bool)| {
        let payload = postcard::to_allocvec(&(delta, hold)).expect("a number and a flag serialize");
        (NodeId(node), Bytes::from(payload))
    };
    let begin = TxnRequest::Begin { parts: parts.into_iter().map(part).collect() };
    Ok(match machines.transactions.request(begin).await? {
        TxnReply::Committed { txn } => Report::Committed { txn: txn.to_string() },
        TxnReply::Aborted { txn, reason } => {
            Report::Aborted { txn: txn.to_string(), reason: format!("{reason:?}") }
        }
        other => Report::Failed(format!("{other:?}")),
    })
}

#[cfg(test)]
mod tests {
    use quorate_transport::Incarnation;

    use super::*;

    fn payload(delta: i64, hold: bool) -> Bytes {
        postcard::to_allocvec(&(delta, hold)).unwrap().into()
    }

    fn txn(counter: u64) -> TxnId {
        TxnId { node: NodeId(1), incarnation: Incarnation(1), counter }
    }

    #[test]
    fn what_is_reserved_cannot_be_spent_twice_and_a_commit_counts_once_over_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let mut accounts = Accounts::open(directory.path()).unwrap();
        assert_eq!(accounts.prepare(txn(1), &payload(-70, false)), Some(Vote::Yes));
        assert_eq!(accounts.prepare(txn(2), &payload(-70, false)), Some(Vote::No));
        assert_eq!(accounts.prepare(txn(3), &payload(30, true)), None, "held back");
        assert_eq!(accounts.prepare(txn(4), &Bytes::from_static(b"")), Some(Vote::No));
        accounts.commit(txn(1));
        accounts.commit(txn(1));
        accounts.abort(txn(3));
        assert_eq!(accounts.balance(), 30);
        let mut again = Accounts::open(directory.path()).unwrap();
        again.recover(txn(1), &payload(-70, false));
        again.commit(txn(1));
        assert_eq!(again.balance(), 30, "it was carried out in the former life");
    }

    #[test]
    fn an_account_that_is_none_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("accounts.json"), "{}").unwrap();
        let error = Accounts::open(directory.path()).err().unwrap().to_string();
        assert!(error.contains("accounts.json") && error.contains("balance"), "{error}");
    }
}
