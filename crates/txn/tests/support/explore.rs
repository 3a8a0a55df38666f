//! A coordinator and two participants, every order of events within bounds.

use bytes::Bytes;
use quorate_sim::explorer::{Bounds, Model, Report, State, explore};
use quorate_transport::{Machine, NodeId, Start};
use quorate_txn::{Config, Record, Request, Standing, TwoPhaseCommit, Vote};

/// Searches; `plant` is the coordinator without a log.
pub(crate) fn run(bounds: Bounds, plant: bool) -> Report {
    let make = |start: Start| {
        TwoPhaseCommit::new(start, Config::new([1, 2, 3].map(NodeId))).expect("valid")
    };
    let within = |_: &TwoPhaseCommit| true;
    let keeps = |record: &Record| !plant || !matches!(record, Record::Decided { .. });
    let model = Model {
        nodes: 3,
        make: &make,
        request: &ask,
        within: &within,
        keeps: &keeps,
        prelude: None,
    };
    explore(&model, bounds, &check)
}

/// The coordinator begins once; participants vote yes. Nothing is reported as done, so that each
/// outcome stays to be seen.
fn ask(machine: &TwoPhaseCommit) -> Option<Request> {
    if machine.node() == NodeId(1) {
        let parts = [2, 3].map(|id| (NodeId(id), Bytes::new())).to_vec();
        return (machine.stats().begun == 0).then_some(Request::Begin { parts });
    }
    let mut voting = machine.held().filter(|(_, standing)| *standing == Standing::Voting);
    voting.next().map(|(txn, _)| Request::Vote { txn, vote: Vote::Yes })
}

/// AC1 and AC2 over the whole run.
fn check(state: &mut State<TwoPhaseCommit>) -> Result<(), String> {
    let mut facts = Vec::new();
    for machine in state.machines() {
        for (txn, standing) in machine.held() {
            let name = txn.incarnation.0 << 32 | txn.counter;
            match standing {
                Standing::Committed => facts.push((name, 1)),
                Standing::Aborted => facts.push((name, 0)),
                Standing::Voting | Standing::Prepared => {}
            }
        }
    }
    for (name, value) in facts {
        match state.ghost.iter().find(|(known, _)| *known == name) {
            Some((_, known)) if *known != value => {
                return Err(format!("AC1: transaction {name:x} is committed and aborted"));
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
