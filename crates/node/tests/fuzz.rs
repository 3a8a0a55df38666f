//! Whatever a client, a file or a snapshot may hold: no panic, no growth, and what is read is what
//! was written.

#[path = "../src/config.rs"]
#[allow(dead_code, reason = "what decodes is under test")]
mod config;
#[path = "../src/table.rs"]
#[allow(dead_code, reason = "what decodes is under test")]
mod table;

use bytes::{Bytes, BytesMut};
use quorate_smr::{Outputs, StateMachine};
use quorate_transport::Rng;

use quorate_node::kv;
use quorate_node::wire::{
    self, Answer, Ask, Balance, Body, Drill, GroupChange, GroupInfo, MemberInfo, NodeStatus,
    Report, Said,
};

fn iterations() -> u64 {
    let text = std::env::var("QUORATE_FUZZ_ITERATIONS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.below(4) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        let len = (rng.below(12) as usize).min(bytes.len() - at);
        match rng.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + len)),
            2 => bytes.extend_from_within(at..at + len),
            3 => bytes[at..at + len].fill(rng.next_u64() as u8),
            4 => bytes.insert(at, rng.next_u64() as u8),
            _ if len > 0 => bytes[at] ^= 1 << rng.below(8),
            _ => {}
        }
    }
}

fn asks() -> Vec<Ask> {
    let command = kv::put(b"key", b"value").to_vec();
    let bodies = [
        Body::Open,
        Body::Apply { stamp: Some((1, 2, 3)), command: command.clone() },
        Body::Apply { stamp: None, command },
        Body::Query { query: kv::get(b"key").to_vec(), stale: true },
        Body::ReadIndex,
        Body::Watch { after: 300, filter: wire::Filter::Prefix(b"k".to_vec()), wait_ms: 2000 },
        Body::Status,
        Body::Digest,
        Body::Audit,
        Body::Transfer { to: Some(2) },
        Body::Members,
        Body::Group,
        Body::Change(GroupChange::Replace { old: 1, new: 300, address: "host:1".into() }),
        Body::Metrics,
        Body::Drill(Drill::Lock { name: "counter".into(), patience_ms: 9 }),
        Body::Drill(Drill::Transfer { parts: vec![(1, -5, false), (300, 5, true)] }),
    ];
    (300..).zip(bodies).map(|(id, body)| Ask { id, body }).collect()
}

fn said() -> Vec<Said> {
    let status = NodeStatus {
        node: 1,
        role: "leader".into(),
        term: 300,
        leader: Some(1),
        last: 5,
        commit: 5,
        applied: 4,
        snapshot: 0,
        sessions: 9,
        digest: u128::MAX,
        audited: Some((4, 1 << 77)),
    };
    let member = MemberInfo {
        node: 2,
        address: "127.0.0.1:7102".into(),
        standing: "active".into(),
        milliphi: 300,
        heartbeat_ms: Some(90),
        generation: 4,
    };
    let open = vec![("n1.i1.7".into(), "prepared".into())];
    let balance = Balance { balance: -1, open, awaited: vec![2], blocked: 1 };
    let answers = [
        Answer::Done(vec![1]),
        Answer::Value(vec![7; 200]),
        Answer::Status(status.into()),
        Answer::Digest { index: 1 << 40, digest: 1 << 100 },
        Answer::Audited { index: 9, digest: 3 },
        Answer::NotLeader { leader: Some(3) },
        Answer::Refused("no".into()),
        Answer::ReadIndex(300),
        Answer::Compacted { first: 1 << 30 },
        Answer::Changes { after: 1, upto: 9, changes: vec![(3, b"key".to_vec(), vec![1, 2])] },
        Answer::Busy,
        Answer::Members(vec![member]),
        Answer::Changed { index: 300 },
        Answer::Group(GroupInfo { index: 7, voters: vec![1, 300], ..GroupInfo::default() }),
        Answer::Metrics("up 1\n".into()),
        Answer::Drill(Report::Locked { request: 3, fence: 1 << 90 }),
        Answer::Drill(Report::Accounts(balance)),
    ];
    (1..).zip(answers).map(|(id, answer)| Said { id, answer }).collect()
}

#[test]
fn what_arrives_at_server_or_client_is_a_message_or_an_error() {
    let mut good: Vec<Vec<u8>> = Vec::new();
    let mut keep = |put: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        put(&mut out);
        good.push(out.to_vec());
    };
    asks().iter().for_each(|ask| keep(&|out| wire::put(ask, out)));
    said().iter().for_each(|said| keep(&|out| wire::put(said, out)));
    let mut rng = Rng::new(1);
    let (mut taken, mut refused, mut waits) = (0, 0, 0);
    for round in 0..iterations() {
        let mut bytes = good[rng.below(good.len() as u64) as usize].clone();
        mutate(&mut bytes, &mut rng);
        for server in [true, false] {
            let mut buffer = BytesMut::from(&bytes[..]);
            loop {
                let before = buffer.len();
                let next = if server {
                    wire::take::<Ask>(&mut buffer).map(|ask| ask.map(|_| ()))
                } else {
                    wire::take::<Said>(&mut buffer).map(|said| said.map(|_| ()))
                };
                match next {
                    Ok(Some(())) => assert!(buffer.len() < before, "round {round}"),
                    Ok(None) => waits += 1,
                    Err(_) => refused += 1,
                }
                if !matches!(next, Ok(Some(()))) {
                    break;
                }
                taken += 1;
            }
        }
    }
    let few = iterations() / 20;
    assert!(taken > few && refused > few && waits > few, "{taken} {refused} {waits}");
}

#[test]
fn commands_queries_answers_and_snapshots_of_the_map_are_total() {
    let mut good = vec![kv::delete(b"b"), kv::get(b"a"), kv::list(b"a", Some(b"ab"))];
    good.extend([kv::put(b"a", b"1"), kv::put(b"ab", b""), kv::put(b"b", &[7; 40])]);
    good.extend([
        kv::compare_and_set(b"a", Some(b"1"), Some(b"23")),
        kv::compare_and_set(b"ab", Some(b""), None),
    ]);
    let mut rng = Rng::new(2);
    let mut map = kv::Map::default();
    let (mut done, mut strange, mut restored, mut refused) = (0, 0, 0, 0);
    for round in 0..iterations() {
        let mut bytes = good[rng.below(good.len() as u64) as usize].to_vec();
        mutate(&mut bytes, &mut rng);
        let mut outputs = Outputs::default();
        let mut other = map.clone();
        other.apply(&mut [&bytes[..]].into_iter(), &mut outputs);
        let answer = other.query(&bytes);
        let _ = (kv::value(&answer), kv::value(&Bytes::from(bytes.clone())));
        let pairs = kv::pairs(bytes.clone().into());
        let held: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(held <= bytes.len(), "round {round}");
        let size = |map: &kv::Map| map.snapshot().map(|piece| piece.len()).sum::<usize>();
        let (before, after) = (size(&map), size(&other));
        assert!(after <= before + bytes.len(), "round {round}");
        match before == after {
            true => strange += 1,
            false => done += 1,
        }
        // What one map wrote, a fresh one takes over; a mutated piece it takes over or refuses.
        let mut copy = kv::Map::default();
        let taken = other.snapshot().try_for_each(|piece| copy.restore(&piece));
        assert!(taken.is_ok() && copy.snapshot().eq(other.snapshot()), "round {round}");
        match kv::Map::default().restore(&bytes) {
            Ok(()) => restored += 1,
            Err(_) => refused += 1,
        }
        map = if after > 300 { kv::Map::default() } else { other };
    }
    let few = iterations() / 50;
    assert!(done > few && strange > few, "{done} {strange}");
    assert!(restored > few && refused > few, "{restored} {refused}");
}

const CONFIG: &str = r#"cluster = 7
node = 1
data_dir = "data"
peer_listen = "127.0.0.1:1"
client_listen = "127.0.0.1:2"
[[members]]
node = 1
peer = "127.0.0.1:1"
client = "127.0.0.1:2"
"#;

#[test]
fn a_configuration_file_is_one_or_says_in_one_line_what_is_wrong() {
    let mut rng = Rng::new(3);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..iterations() / 4 {
        let mut bytes = CONFIG.as_bytes().to_vec();
        mutate(&mut bytes, &mut rng);
        let text = String::from_utf8_lossy(&bytes);
        let merged = config::parse(&text).and_then(|file| {
            let merged = config::Config::merge(file, config::Overrides::default());
            merged.map_err(|error| error.to_string())
        });
        match merged {
            Ok(_) => good += 1,
            Err(what) => {
                bad += 1;
                assert!(!what.is_empty() && !what.contains('\n'), "{what:?} of {text:?}");
            }
        }
    }
    let few = iterations() / 200;
    assert!(good > few && bad > few, "{good} {bad}");
}

#[test]
fn a_table_is_read_whole_or_its_line_is_named() {
    let mut rng = Rng::new(4);
    let (mut good, mut bad) = (0, 0);
    let text = "# towns\na,1\nbb\t22\nccc,333,3\n\ndddd\té\n";
    for _ in 0..iterations() {
        let mut bytes = text.as_bytes().to_vec();
        mutate(&mut bytes, &mut rng);
        match table::decode("t", &bytes) {
            Ok(rows) => {
                good += 1;
                let held: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
                assert!(held < bytes.len() && rows.iter().all(|(key, _)| !key.is_empty()));
            }
            Err(table::TableError::Line { line, .. }) => {
                bad += 1;
                assert!(
                    (1..=1 + bytes.iter().filter(|byte| **byte == b'\n').count()).contains(&line)
                );
            }
            Err(table::TableError::Empty(_)) => bad += 1,
            Err(other) => panic!("{other}"),
        }
    }
    let few = iterations() / 50;
    assert!(good > few && bad > few, "{good} {bad}");
}
