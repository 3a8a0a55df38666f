//! Taking part in transactions: the resource that votes, and the loop that asks it.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_driver::{Gone, Handle};
use quorate_transport::NodeId;
use quorate_txn::{Event, Request, Standing, TwoPhaseCommit, TxnId, Vote};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// What takes part in transactions on one node: accounts, files, anything that can be prepared.
pub trait Resource: Send + 'static {
    /// Prepares; after a yes it must be able to commit and to abort, in this life and in later
    /// ones. `None`: the vote comes later, as [`Request::Vote`].
    fn prepare(&mut self, txn: TxnId, payload: &Bytes) -> Option<Vote>;

    /// After a restart: this was voted yes on in a former life. Takes its locks again.
    fn recover(&mut self, txn: TxnId, payload: &Bytes);

    /// Carries it out, durably. May be asked again for the same transaction.
    fn commit(&mut self, txn: TxnId);

    /// Undoes it. May be asked again, and for a transaction that it does not know.
    fn abort(&mut self, txn: TxnId);

    /// Nobody who could know the outcome answers: its locks stay held until one of them is back.
    fn blocked(&mut self, _txn: TxnId, _peers: &[NodeId]) {}
}

/// Answers the transactions of one node with `resource`, until the node stops. `events` must have
/// been subscribed to before the node ran, or what was in doubt is not recovered.
pub async fn participate(
    transactions: Handle<TwoPhaseCommit>,
    mut events: Receiver<Event>,
    mut resource: impl Resource,
) {
    let mut asked = BTreeSet::new();
    loop {
        let done = match events.recv().await {
            Ok(event) => one(&transactions, event, &mut asked, &mut resource).await,
            Err(RecvError::Lagged(_)) => catch_up(&transactions, &mut asked, &mut resource).await,
            Err(RecvError::Closed) => return,
        };
        if done.is_err() {
            return;
        }
    }
}

async fn one(
    transactions: &Handle<TwoPhaseCommit>,
    event: Event,
    asked: &mut BTreeSet<TxnId>,
    resource: &mut impl Resource,
) -> Result<(), Gone> {
    let request = match event {
        Event::Prepare { txn, payload } => {
            asked.insert(txn);
            match resource.prepare(txn, &payload) {
                Some(vote) => Request::Vote { txn, vote },
                None => return Ok(()),
            }
        }
        Event::Recovered { txn, payload } => {
            asked.insert(txn);
            resource.recover(txn, &payload);
            return Ok(());
        }
        Event::Commit { txn } => {
            resource.commit(txn);
            asked.remove(&txn);
            Request::Done { txn }
        }
        Event::Abort { txn } => {
            resource.abort(txn);
            asked.remove(&txn);
            Request::Done { txn }
        }
        Event::Blocked { txn, peers } => {
            resource.blocked(txn, &peers);
            return Ok(());
        }
    };
    // A vote that is no longer awaited is refused, and that is all.
    transactions.request(request).await.map(drop)
}

/// Events were missed: what stands open tells what they said. What was asked to be prepared and
/// never heard of here is voted no on, which is always safe.
async fn catch_up(
    transactions: &Handle<TwoPhaseCommit>,
    asked: &mut BTreeSet<TxnId>,
    resource: &mut impl Resource,
) -> Result<(), Gone> {
    let held: Vec<_> = transactions.look(|machine| machine.held().collect::<Vec<_>>()).await?;
    let open: BTreeSet<_> = held.iter().map(|(txn, _)| *txn).collect();
    // What was prepared stays open until its outcome is carried out here: the rest was refused.
    for txn in asked.iter().filter(|txn| !open.contains(txn)) {
        resource.abort(*txn);
    }
    asked.retain(|txn| open.contains(txn));
    for (txn, standing) in held {
        match standing {
            Standing::Committed => {
                one(transactions, Event::Commit { txn }, asked, resource).await?
            }
            Standing::Aborted => one(transactions, Event::Abort { txn }, asked, resource).await?,
            Standing::Voting if !asked.contains(&txn) => {
                let vote = Request::Vote { txn, vote: Vote::No };
                transactions.request(vote).await?;
            }
            Standing::Voting | Standing::Prepared => {}
        }
    }
    Ok(())
}
