//! Three real nodes, every order of events within bounds.

use std::time::Duration;

use quorate_raft::{Config, Index, Proposals, Raft, Record, Request};
use quorate_sim::explorer::{Bounds, Model, Prelude, Report, State, explore};
use quorate_transport::{Machine, NodeId, Start};

/// Searches; `prelude` as in the model; `plant` forgets votes over a crash.
pub(crate) fn run(bounds: Bounds, prelude: Option<Prelude<'_, Raft>>, plant: bool) -> Report {
    let make = |start: Start| {
        let mut config = Config::new([1, 2, 3].map(NodeId));
        // One length: a random one would tell states apart that behave alike.
        config.election_timeout_min = Duration::from_millis(100);
        config.election_timeout_max = Duration::from_millis(100);
        // As small as it gets, a window has but one size.
        (config.batch_bytes_max, config.window_bytes_max) = (1 << 10, 2 << 10);
        Raft::new(start, config).expect("a valid configuration")
    };
    let request = |raft: &Raft| raft.is_leader().then(|| Request::Propose(Proposals::one(b"x")));
    let within = |raft: &Raft| raft.term().0 <= 2;
    let keeps = |record: &Record| !plant || !matches!(record, Record::Vote { .. });
    let model =
        Model { nodes: 3, make: &make, request: &request, within: &within, keeps: &keeps, prelude };
    explore(&model, bounds, &check)
}

/// One leader a term over the whole run, and committed entries that agree for ever.
fn check(state: &mut State<Raft>) -> Result<(), String> {
    const ENTRY: u64 = 1 << 32;
    let mut facts = Vec::new();
    for (at, raft) in state.machines().enumerate() {
        if raft.is_leader() {
            facts.push((raft.term().0, at as u64));
        }
        let mut index = Index(1);
        while index <= raft.commit() {
            if let Some((term, _)) = raft.entry(index) {
                facts.push((ENTRY | index.0, term.0));
            }
            index = index.next();
        }
    }
    for (name, value) in facts {
        match state.ghost.iter().find(|(known, _)| *known == name) {
            Some((_, known)) if *known != value && name & ENTRY == 0 => {
                return Err(format!("R1: n{} and n{} lead term {name}", known + 1, value + 1));
            }
            Some((_, known)) if *known != value => {
                let index = name & !ENTRY;
                return Err(format!("R7: terms {known} and {value} committed at {index}"));
            }
            Some(_) => {}
            None => {
                state.ghost.push((name, value));
                state.ghost.sort_unstable();
            }
        }
    }
    Ok(())
}
