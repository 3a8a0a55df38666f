//! Rules of the bully algorithm by name, and its message counts.

#[path = "support/stage.rs"]
mod stage;

use std::time::Duration;

use quorate_election::{Error, Term, bully};
use quorate_sim::script::Crash;
use quorate_transport::{Machine, NodeId, Ticket};
use stage::{Bullies, MS, N1, N2, N3, announcing, bullies, coordinators, led_bullies};

/// What all nodes that are up have sent since the last call: ELECTION, ANSWER, COORDINATOR.
fn sent(stage: &Bullies) -> (u64, u64, u64) {
    let up = stage.nodes().filter(|node| stage.is_up(*node));
    up.map(|node| stage.node(node).stats()).fold((0, 0, 0), |(e, a, c), stats| {
        (e + stats.elections_sent, a + stats.answers_sent, c + stats.coordinators_sent)
    })
}

fn counted(count: u64, starter: u64) -> (u64, u64, u64) {
    let mut stage = led_bullies(count);
    stage.crash(NodeId(count), Crash::Kill);
    let before = sent(&stage);
    stage.request(NodeId(starter), bully::Request::Elect);
    while coordinators(&stage).is_empty() {
        stage.run();
        stage.timer(NodeId(count - 1)); // nobody above it answers
    }
    stage.run();
    assert_eq!(coordinators(&stage), [NodeId(count - 1)]);
    let records = stage.take_story().lines().filter(|line| line.contains(" persists ")).count();
    assert_eq!(records as u64, count - 1, "one at each node that lives");
    for node in (1..count).map(NodeId) {
        let leader = stage.node(node).advisory().map(|a| a.leader);
        assert_eq!(leader, Some(NodeId(count - 1)), "E3, E4: all follow the highest that lives");
    }
    let after = sent(&stage);
    (after.0 - before.0, after.1 - before.1, after.2 - before.2)
}

#[test]
fn the_lowest_starts_and_the_messages_are_n_times_n_less_one() {
    for n in [2, 3, 5, 10, 50] {
        let (elections, answers, coordinators) = counted(n, 1);
        assert_eq!(elections, n * (n - 1) / 2, "ELECTION of {n}");
        assert_eq!(answers, (n - 1) * (n - 2) / 2, "ANSWER of {n}");
        // The article announces to n - 1 others; one of them is dead.
        assert_eq!(coordinators, n - 1, "COORDINATOR of {n}");
        assert_eq!(elections + answers + coordinators, n * (n - 1));
    }
}

#[test]
fn the_second_highest_starts_and_the_messages_are_n() {
    for n in [2, 3, 5, 10, 50] {
        assert_eq!(counted(n, n - 1), (1, 0, n - 1), "{n}");
    }
}

#[test]
fn the_highest_leads_without_asking_anybody() {
    let mut stage = bullies(3);
    stage.lose(|_| true); // ELECTIONs of the lower two
    let bodies: Vec<_> = stage.wire().iter().map(|flight| flight.message.body).collect();
    assert_eq!(bodies, [], "the term is not durable yet");
    stage.sync(N3);
    let bodies: Vec<_> = stage.wire().iter().map(|flight| flight.message.body).collect();
    assert_eq!(bodies, [bully::Body::Coordinator; 2]);
}

#[test]
fn a_term_is_durable_before_it_is_announced_and_outlives_a_crash() {
    let mut stage = led_bullies(2);
    assert_eq!(stage.node(N2).term(), Term(1));
    stage.crash(N2, Crash::Power);
    stage.start(N2);
    stage.run();
    assert_eq!(stage.node(N2).term(), Term(2), "E2");
    assert_eq!(stage.node(N1).advisory().map(|a| a.term), Some(Term(2)));
    assert_eq!(stage.journal(N2).last().map(|(_, record)| record.term), Some(Term(2)));
}

#[test]
fn every_wait_times_out() {
    let mut stage = bullies(3);
    stage.lose(|_| true);
    // ELECTION without an ANSWER: it leads itself.
    stage.timer(N2);
    assert_eq!(stage.node(N2).advisory().map(|a| a.leader), Some(N2));
    stage.lose(|_| true);
    // ANSWER without a COORDINATOR: it asks again.
    stage.inject(N3, N1, bully::Message { term: Term(0), body: bully::Body::Answer });
    let waits_until = stage.node(N1).deadline().expect("a wait");
    assert_eq!(waits_until, stage.now() + MS * 1000);
    let before = stage.node(N1).stats().elections;
    stage.advance(MS * 10);
    stage.inject(N3, N1, bully::Message { term: Term(0), body: bully::Body::Answer });
    assert_eq!(stage.node(N1).deadline(), Some(waits_until), "a second ANSWER wins no time");
    stage.timer(N1);
    assert_eq!(stage.node(N1).stats().elections, before + 1);
    // A leader without a further COORDINATOR: it is doubted.
    let mut stage = announcing(3);
    stage.run();
    stage.crash(N3, Crash::Kill);
    assert_eq!(stage.node(N1).deadline(), Some(stage.now() + MS * 1000));
    stage.timer(N1);
    let last = stage.events(N1).last();
    assert!(matches!(last, Some(bully::Event::Doubted(a)) if a.leader == N3), "{last:?}");
}

#[test]
fn a_leader_that_announces_itself_again_ends_a_split() {
    let mut stage = announcing(3);
    stage.isolate(N3);
    stage.run();
    stage.timer(N2);
    stage.run();
    assert_eq!(coordinators(&stage), [N2, N3]);
    stage.heal();
    stage.timer(N2);
    stage.timer(N3);
    stage.run();
    assert_eq!(coordinators(&stage), [N3]);
    stage.take_story();
    stage.timer(N3);
    stage.run();
    let story = stage.take_story();
    assert_eq!(story.lines().count(), 2, "in rest n - 1 messages, and nothing else:\n{story}");
    assert_eq!(stage.node(N1).advisory().map(|a| a.leader), Some(N3));
}

#[test]
fn a_lower_node_that_announces_itself_is_bullied_at_once() {
    let mut stage = led_bullies(3);
    let announced = |term| bully::Message { term: Term(term), body: bully::Body::Coordinator };
    stage.inject(N1, N3, announced(4));
    assert_eq!(stage.node(N3).advisory().map(|a| (a.leader, a.term)), Some((N3, Term(5))));
    stage.inject(N1, N2, announced(4));
    assert_eq!(stage.node(N2).advisory(), None, "it asks those above it");
    stage.run();
    assert_eq!(coordinators(&stage), [N3]);
}

#[test]
fn an_overtaken_announcement_of_a_lower_term_is_ignored() {
    let mut stage = led_bullies(3);
    stage.request(N3, bully::Request::Elect);
    stage.run();
    let refused = stage.node(N1).stats().refused;
    let old = bully::Message { term: Term(1), body: bully::Body::Coordinator };
    stage.inject(N2, N1, old);
    assert_eq!(stage.node(N1).advisory().map(|a| (a.leader, a.term)), Some((N3, Term(2))));
    assert_eq!(stage.node(N1).stats().refused, refused + 1);
}

#[test]
fn words_that_make_no_sense_are_counted_and_change_nothing() {
    let mut stage = led_bullies(3);
    let absurd = [
        (NodeId(9), Term(1), bully::Body::Coordinator),
        (N2, Term(1), bully::Body::Coordinator),
        (N2, Term(u64::MAX), bully::Body::Coordinator),
        (N3, Term(1), bully::Body::Election),
        (N3, Term(1), bully::Body::Answer),
    ];
    let before = stage.node(N1).stats().refused;
    for (count, (from, term, body)) in (before + 1..).zip(absurd) {
        stage.inject(from, N1, bully::Message { term, body });
        assert_eq!(stage.node(N1).stats().refused, count, "{body:?} of {from}");
        assert_eq!(stage.node(N1).advisory().map(|a| (a.leader, a.term)), Some((N3, Term(1))));
    }
}

#[test]
fn the_last_term_halts_rather_than_goes_round() {
    let mut stage = led_bullies(2);
    let last = bully::Message { term: Term(1 << 62), body: bully::Body::Election };
    stage.inject(N1, N2, last);
    stage.run();
    assert!(stage.halted(N2).is_some());
}

#[test]
fn a_checkpoint_moves_the_term_forward() {
    let mut stage = led_bullies(2);
    stage.checkpoint(N2, Ticket(9));
    stage.run();
    assert_eq!(stage.journal(N2).last().map(|(at, r)| (*at, r.term)), Some((Ticket(2), Term(1))));
    stage.crash(N2, Crash::Power);
    assert_eq!(stage.journal(N2).len(), 1, "the older record is gone");
}

#[test]
fn requests_are_answered() {
    let mut stage = bullies(2);
    let id = stage.request(N1, bully::Request::Status);
    stage.settle(N1);
    assert_eq!(stage.answer(N1, id), Some(&bully::Reply::Status(None)));
    stage.run();
    let id = stage.request(N1, bully::Request::Status);
    let Some(bully::Reply::Status(Some(believed))) = stage.answer(N1, id) else {
        panic!("{:?}", stage.answer(N1, id))
    };
    assert_eq!(format!("{believed:?}"), "n1 believes n2 leads at T1");
    let id = stage.request(N1, bully::Request::Elect);
    assert_eq!(stage.answer(N1, id), Some(&bully::Reply::Begun));
}

/// Each change of a valid configuration, and the field it breaks.
#[test]
fn every_rule_of_the_configuration_is_kept() {
    type Change = fn(&mut bully::Config);
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    let broken: [(&str, &str, Change); 11] = [
        ("nodes", "128", |c| c.nodes = (1..=129).map(NodeId).collect()),
        ("nodes", "twice", |c| c.nodes.push(N1)),
        ("nodes", "this node", |c| c.nodes.retain(|node| *node != N1)),
        ("answer_timeout", "1 ms", |c| c.answer_timeout = Duration::from_micros(999)),
        ("coordinator_timeout", "above", |c| c.coordinator_timeout = c.answer_timeout),
        ("coordinator_timeout", "a year", |c| c.coordinator_timeout = YEAR * 2),
        ("announce_interval", "1 ms", |c| c.announce_interval = Some(Duration::ZERO)),
        ("announce_interval", "a year", |c| c.announce_interval = Some(YEAR * 2)),
        ("leader_timeout", "twice", |c| c.leader_timeout = MS * 399),
        ("leader_timeout", "a year", |c| c.leader_timeout = YEAR * 2),
        ("leader_timeout", "1 ms", |c| {
            (c.announce_interval, c.leader_timeout) = (None, Duration::ZERO);
        }),
    ];
    let valid = bully::Config::new([N1, N2, N3]);
    assert_eq!(valid.validate(N1), Ok(()));
    for (field, rule, change) in broken {
        let mut config = valid.clone();
        change(&mut config);
        match config.validate(N1) {
            Err(Error::Config { field: f, rule: r }) => {
                assert!(f == field && r.contains(rule), "{field} {rule}: {f} {r}");
            }
            other => panic!("{field} {rule}: {other:?}"),
        }
    }
}
