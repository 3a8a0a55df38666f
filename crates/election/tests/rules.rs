//! Rules of the quorum lease by name, and its message and record counts.

#[path = "support/stage.rs"]
mod stage;

use std::time::Duration;

use quorate_election::{
    Body, Config, Error, Event, Lost, Message, QuorumLease, Record, Reply, Request, Term, Token,
};
use quorate_sim::script::{Crash, Script};
use quorate_transport::{Incarnation, Machine, NodeId, Peer, Start, Ticket, Time};
use stage::{Leases, MS, N1, N2, N3, N4, N5, guard, holders, leases, led_leases, live};

/// Lines of a story that begin or go on so.
fn lines(story: &str, what: &str) -> usize {
    story.lines().filter(|line| line.contains(what)).count()
}

/// Three voters and one observer, of which node 1 leads.
fn observed() -> Leases {
    let mut stage = Script::new(4, |start| {
        let mut config = Config::new([N1, N2, N3]);
        config.observers = vec![N4];
        QuorumLease::new(start, config).expect("a valid configuration")
    });
    stage.timer(N1);
    stage.run();
    stage.take_story();
    stage
}

#[test]
fn a_restarted_voter_grants_nothing_while_a_forgotten_promise_may_hold() {
    let mut stage = led_leases(3, N1);
    stage.isolate(N3); // its promise ends, N1's lease goes on with N2
    while stage.node(N1).deadline() < stage.node(N3).deadline() {
        stage.timer(N1);
        stage.run();
    }
    stage.crash(N2, Crash::Kill);
    stage.start(N2);
    stage.heal();
    stage.isolate(N1);
    stage.timer(N3);
    stage.run();
    assert!(guard(&stage, N1).is_some(), "N2 had promised it");
    assert!(guard(&stage, N3).is_none(), "two leases overlap");
}

#[test]
fn a_vote_outlives_a_power_loss_and_no_term_has_two_leaders() {
    let mut stage = leases(5);
    stage.cut(N1, N4); // N4 and N5 know nothing of the first election
    stage.cut(N1, N5);
    stage.timer(N1);
    stage.run();
    let first = guard(&stage, N1).expect("N1, N2 and N3 are a majority").token();
    stage.crash(N3, Crash::Power);
    stage.start(N3);
    stage.isolate(N1);
    stage.isolate(N2);
    let mut tokens = vec![(first, N1)];
    live(&mut stage, &[N3, N4, N5], Duration::from_secs(5), |stage| {
        for node in holders(stage) {
            tokens.push((guard(stage, node).expect("it holds one").token(), node));
        }
    });
    assert!(tokens.iter().any(|(_, node)| *node != N1), "N3, N4 and N5 are a majority too");
    for (token, node) in &tokens {
        assert!(*token > first || *node == N1, "E1 {node} leads {token:?}, as N1 did");
    }
}

#[test]
fn a_lease_counts_from_when_the_promise_was_asked_for() {
    let mut stage = led_leases(3, N1);
    stage.timer(N1);
    let (sent, before) = (stage.now(), guard(&stage, N1).expect("it leads").valid_until());
    for node in [N2, N3] {
        stage.deliver(N1, node);
        stage.sync(node);
    }
    stage.advance(MS * 150); // the promises travel for long
    stage.deliver(N2, N1);
    let until = guard(&stage, N1).expect("it leads").valid_until();
    assert!(until > before);
    assert_eq!(until, sent + MS * 999, "a second less 1000 ppm");
}

#[test]
fn a_promise_lasts_longer_than_the_lease_by_the_bound_on_the_clocks() {
    let mut stage = led_leases(3, N1);
    let answers = |stage: &mut Leases| {
        stage.inject(N3, N2, Message { config: 1, term: Term(2), body: Body::PreVote });
        stage.lose(|flight| flight.message.body == Body::PreVoted)
    };
    stage.advance(Duration::from_secs(1) + MS); // a second and 1000 ppm since it was received
    assert_eq!(answers(&mut stage), 0);
    stage.advance(Duration::from_nanos(1));
    assert_eq!(answers(&mut stage), 1);
}

#[test]
fn only_promises_of_a_majority_of_voters_extend_a_lease() {
    let mut stage = led_leases(5, N1);
    stage.timer(N1);
    let before = guard(&stage, N1).expect("it leads").valid_until();
    let round = match stage.wire()[0].message.body {
        Body::Renew { round } => round,
        other => panic!("{other:?}"),
    };
    let renewed = |round| Message { config: 1, term: Term(1), body: Body::Renewed { round } };
    stage.inject(NodeId(9), N1, renewed(round));
    stage.inject(N2, N1, renewed(round));
    stage.inject(N2, N1, renewed(round)); // once more is no other voter
    stage.inject(N3, N1, renewed(round - 1)); // of an earlier sending
    stage.inject(N3, N1, Message { config: 2, ..renewed(round) });
    assert_eq!(guard(&stage, N1).map(|guard| guard.valid_until()), Some(before));
    stage.inject(N3, N1, renewed(round));
    assert!(guard(&stage, N1).is_some_and(|guard| guard.valid_until() > before));
}

#[test]
fn whoever_resigns_has_no_lease_and_the_next_waits_for_none() {
    let mut stage = led_leases(3, N1);
    let token = guard(&stage, N1).expect("it leads").token();
    let id = stage.request(N1, Request::Resign);
    assert_eq!(guard(&stage, N1), None, "it stops before it says so");
    stage.run();
    assert_eq!(stage.answer(N1, id), Some(&Reply::Resigned));
    let lost = Event::Lost { token, why: Lost::Resigned };
    assert_eq!(stage.events(N1).last(), Some(&lost));
    assert_eq!(stage.node(N2).leader(), None);
    let wait_max = Some(stage.now() + MS * 300);
    assert!(stage.node(N1).deadline() <= wait_max, "its promise to itself is void too");
    let resigned = stage.now();
    stage.timer(N2);
    stage.run();
    let next = guard(&stage, N2).expect("it is elected").token();
    assert!(next > token);
    assert!(stage.now().since(resigned) <= MS * 300, "a campaign's wait, no lease");
    let id = stage.request(N1, Request::Resign);
    assert_eq!(stage.answer(N1, id), Some(&Reply::NotLeader));
}

#[test]
fn a_vote_is_for_one_life_of_a_node() {
    let mut stage = led_leases(3, N1);
    stage.request(N1, Request::Resign);
    stage.run();
    let asks = Message { config: 1, term: Term(1), body: Body::Vote };
    let votes = |stage: &mut Leases| {
        stage.inject(N1, N2, asks);
        stage.sync(N2);
        stage.lose(|flight| matches!(flight.message.body, Body::Voted { .. }))
    };
    assert_eq!(votes(&mut stage), 1, "asked again, it says so again");
    stage.request(N1, Request::Resign);
    stage.advance(Duration::from_secs(2)); // no promise is in the way
    stage.crash(N1, Crash::Kill);
    stage.start(N1);
    assert_eq!(votes(&mut stage), 0, "E1 another process might lead in the same term");
}

#[test]
fn a_late_resignation_frees_no_promise_to_a_later_leader() {
    let mut stage = led_leases(3, N1);
    stage.request(N1, Request::Resign);
    let late = stage.wire()[0].message;
    stage.run();
    stage.timer(N1);
    stage.run();
    assert_eq!(holders(&stage), [N1], "it is elected again, in another term");
    stage.inject(N1, N2, late);
    assert_eq!(stage.node(N2).leader(), Some(N1));
    stage.isolate(N1);
    stage.inject(N3, N2, Message { config: 1, term: Term(9), body: Body::Vote });
    assert_eq!(stage.node(N2).vote().map(|peer| peer.node), Some(N1), "N2 keeps its promise");
}

#[test]
fn an_observer_hears_who_leads_and_counts_for_nothing() {
    let mut stage = observed();
    let token = guard(&stage, N1).expect("it leads").token();
    assert_eq!(stage.events(N4), [Event::Observed { leader: N1, token }]);
    assert_eq!(stage.node(N4).deadline(), None, "it never campaigns");
    let id = stage.request(N4, Request::Status);
    let status = Reply::Status { term: Term(1), leader: Some(N1), guard: None };
    assert_eq!(stage.answer(N4, id), Some(&status));
    let refused = stage.node(N1).stats().refused;
    stage.inject(N4, N1, Message { config: 1, term: Term(9), body: Body::Vote });
    stage.inject(N4, N1, Message { config: 1, term: Term(1), body: Body::Renewed { round: 1 } });
    assert_eq!(stage.node(N1).stats().refused, refused + 2);
    stage.inject(N2, N4, Message { config: 1, term: Term(9), body: Body::PreVote });
    stage.inject(N2, N4, Message { config: 1, term: Term(9), body: Body::Vote });
    stage.run();
    assert_eq!(stage.node(N4).vote(), None);
    stage.request(N1, Request::Resign);
    stage.run();
    assert_eq!(stage.node(N4).leader(), None, "it hears of a resignation too");
}

#[test]
fn a_leader_whose_timer_is_late_by_a_quarter_of_its_lease_gives_it_up() {
    let mut stage = led_leases(3, N1);
    let token = guard(&stage, N1).expect("it leads").token();
    let due = stage.node(N1).deadline().expect("a renewal");
    let to_due = due.since(stage.now());
    stage.advance(to_due + MS * 250);
    stage.timer(N1);
    assert!(guard(&stage, N1).is_some(), "a quarter is tolerated");
    stage.run();
    let due = stage.node(N1).deadline().expect("a renewal");
    let to_due = due.since(stage.now());
    stage.advance(to_due + MS * 251);
    assert!(guard(&stage, N1).is_some(), "by its clock the lease holds");
    let id = stage.request(N1, Request::Status);
    stage.settle(N1);
    let status = Reply::Status { term: Term(1), leader: None, guard: None };
    assert_eq!(stage.answer(N1, id), Some(&status), "but it must be confirmed anew");
    assert_eq!(stage.events(N1).last(), Some(&Event::Lost { token, why: Lost::Stalled }));
    let wait_max = Some(stage.now() + MS * 300);
    assert!(stage.node(N1).deadline() <= wait_max, "its promise to itself is void too");
    stage.run();
    stage.timer(N2);
    stage.run();
    assert_eq!(holders(&stage), [N2], "its voters were freed");
}

#[test]
fn a_lease_ends_by_the_leaders_own_clock() {
    let mut stage = led_leases(3, N1);
    let until = guard(&stage, N1).expect("it leads").valid_until();
    stage.isolate(N1);
    while stage.node(N1).deadline().is_some_and(|at| at < until) {
        stage.timer(N1);
    }
    assert!(guard(&stage, N1).is_some());
    stage.timer(N1);
    assert_eq!(stage.now(), until);
    assert_eq!(guard(&stage, N1), None);
    let why = Lost::Expired;
    assert!(matches!(stage.events(N1).last(), Some(Event::Lost { why: w, .. }) if *w == why));
}

#[test]
fn tokens_rise_with_the_configuration_first_and_the_term_within() {
    let token = |config, term| Token { config, term: Term(term) };
    let rising = [token(1, 1), token(1, 2), token(1, 1 << 62), token(2, 1), token(3, 0)];
    for pair in rising.windows(2) {
        assert!(pair[0] < pair[1]);
        assert!(pair[0].to_u128() < pair[1].to_u128());
    }
    let mut stage = leases(3);
    let mut last = None;
    for turn in 0..6 {
        let node = [N1, N2, N3][turn % 3];
        stage.timer(node);
        stage.run();
        let token = guard(&stage, node).expect("it is elected").token();
        assert!(last < Some(token), "E2 {last:?} {token:?}");
        last = Some(token);
        stage.crash(node, Crash::Power); // terms are durable
        stage.start(node);
        stage.advance(Duration::from_secs(2)); // every promise has ended
    }
}

#[test]
fn an_election_costs_four_messages_a_peer_and_one_record_a_voter() {
    for n in [1, 3, 5, 9] {
        let mut stage = leases(n);
        stage.timer(N1);
        stage.run();
        let story = stage.take_story();
        let peers = n as usize - 1;
        for body in ["body: PreVote ", "body: PreVoted ", "body: Vote ", "body: Voted {"] {
            assert_eq!(lines(&story, body), peers, "{body} of {n}\n{story}");
        }
        assert_eq!(lines(&story, " persists "), n as usize, "{story}");
        // The first renewal follows at once; from then on it is all there is.
        assert_eq!(lines(&story, " -> "), 6 * peers);
        for _ in 0..5 {
            stage.timer(N1);
            stage.run();
            let story = stage.take_story();
            assert_eq!((lines(&story, " -> "), lines(&story, " persists ")), (2 * peers, 0));
        }
    }
}

#[test]
fn a_resignation_and_an_observer_cost_one_message_each() {
    let mut stage = observed();
    stage.timer(N1);
    stage.run();
    assert_eq!(lines(&stage.take_story(), " -> "), 2 * 2 + 1);
    stage.request(N1, Request::Resign);
    stage.run();
    assert_eq!(lines(&stage.take_story(), " -> "), 3);
}

#[test]
fn a_checkpoint_moves_the_vote_forward() {
    let mut stage = led_leases(3, N1);
    stage.checkpoint(N2, Ticket(9));
    stage.run();
    stage.crash(N2, Crash::Power);
    let vote = Some(Peer { node: N1, incarnation: Incarnation(1) });
    assert_eq!(stage.journal(N2), [(Ticket(2), Record { term: Term(1), vote })]);
}

#[test]
fn a_journal_that_contradicts_itself_is_refused() {
    let start = || Start { node: N1, incarnation: Incarnation(2), seed: 1, now: Time::ZERO };
    let vote = |node| Some(Peer { node, incarnation: Incarnation(1) });
    let record = |term, vote| Record { term: Term(term), vote };
    let contradictions = [
        [record(2, None), record(1, None)],
        [record(2, vote(N1)), record(2, vote(N2))],
        [record(2, vote(N1)), record(2, None)],
    ];
    for [one, two] in contradictions {
        let mut node = QuorumLease::new(start(), Config::new([N1])).expect("a valid one");
        node.replay(Ticket(1), one).expect("the first is fine");
        assert_eq!(node.replay(Ticket(2), two), Err(Error::Journal { at: Ticket(2) }));
    }
    let config = quorate_election::bully::Config::new([N1]);
    let mut bully = quorate_election::Bully::new(start(), config).expect("a valid one");
    let record = |term| quorate_election::bully::Record { term: Term(term) };
    bully.replay(Ticket(1), record(2)).expect("the first is fine");
    assert_eq!(bully.replay(Ticket(2), record(1)), Err(Error::Journal { at: Ticket(2) }));
}

/// Each change of a valid configuration, and the field it breaks.
#[test]
fn every_rule_of_the_configuration_is_kept() {
    type Change = fn(&mut Config);
    let broken: [(&str, &str, Change); 13] = [
        ("voters", "1 to 31", |c| c.voters.clear()),
        ("voters", "1 to 31", |c| c.voters = (1..=32).map(NodeId).collect()),
        ("observers", "1024", |c| c.observers = (100..1125).map(NodeId).collect()),
        ("voters", "twice", |c| c.voters.push(N1)),
        ("voters", "twice", |c| c.observers.push(N2)),
        ("voters", "this node", |c| c.voters.retain(|node| *node != N1)),
        ("lease", "a year", |c| c.lease = Duration::from_secs(366 * 86_400)),
        ("renew_interval", "1 ms", |c| c.renew_interval = Duration::from_micros(999)),
        ("renew_interval", "half", |c| c.renew_interval = c.lease / 2 + Duration::from_nanos(1)),
        ("campaign_wait_min", "1 ms", |c| c.campaign_wait_min = Duration::ZERO),
        ("campaign_wait_max", "below", |c| c.campaign_wait_max = Duration::from_millis(49)),
        ("campaign_wait_max", "below", |c| c.campaign_wait_max = Duration::MAX),
        ("drift_ppm", "100,000", |c| c.drift_ppm = 100_001),
    ];
    let valid = Config::new([N1, N2, N3]);
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
    let mut config = valid;
    (config.voters, config.observers) = (vec![N2], vec![N1, N5]);
    assert_eq!(config.validate(N1), Ok(()), "an observer need not vote");
}
