//! The rules of the algorithm, and what breaks it elsewhere, a test each.

#[path = "support/stage.rs"]
mod stage;

use std::time::Duration;

use quorate_dmutex::{Config, Event, Message, Rejection, Reply, Request, RicartAgrawala};
use quorate_sim::script::{Crash, Script};
use quorate_transport::{Incarnation, Machine, NodeId, RequestId, Ticket, Time};
use stage::{N1, N2, N3, Stage, acquire, cancel, fence, holders, name, release, stage, strangers};

fn ask(text: &str, stamp: u64) -> Message {
    Message::Request { name: name(text), stamp, again: false }
}

/// Who was reported silent at `node`, report by report.
fn told(stage: &Stage, node: NodeId) -> Vec<Vec<NodeId>> {
    let silent = |event: &Event| match event {
        Event::Silent { peers } => Some(peers.clone()),
        Event::Joined => None,
    };
    stage.events(node).iter().filter_map(silent).collect()
}

fn run_until(stage: &mut Stage, node: NodeId, millis: u64) {
    while stage.now() < Time::from_millis(millis) {
        stage.run();
        stage.advance(Duration::from_millis(1));
        stage.timer(node);
    }
    stage.run();
}

#[test]
fn an_entry_costs_twice_the_number_of_peers_in_messages() {
    // [Ricart and Agrawala 1981, §3.1]
    for nodes in 2..=64 {
        let mut stage = stage(nodes);
        let sent = |stage: &Stage| -> u64 {
            let stats = stage.nodes().map(|node| stage.node(node).status().stats);
            stats.map(|s| s.requests_sent + s.permissions_sent + s.requests_again).sum()
        };
        let id = acquire(&mut stage, N1, "a");
        stage.run();
        release(&mut stage, N1, id);
        assert_eq!(sent(&stage), 2 * (nodes - 1), "{nodes} nodes, no contention");
        let all: Vec<_> = stage.nodes().collect();
        let asked: Vec<_> =
            all.iter().map(|node| (*node, acquire(&mut stage, *node, "a"))).collect();
        for _ in &asked {
            stage.run();
            let held = holders(&stage, "a");
            assert_eq!(held.len(), 1);
            let (_, id) = asked.iter().find(|(node, _)| *node == held[0]).expect("it asked");
            release(&mut stage, held[0], *id);
        }
        stage.run();
        assert_eq!(sent(&stage), (nodes + 1) * 2 * (nodes - 1), "{nodes} nodes at once");
    }
}

#[test]
fn grants_follow_the_stamps_and_fences_grow() {
    let mut stage = stage(3);
    let mut asked = Vec::new();
    for node in [N3, N2, N1] {
        asked.push((node, acquire(&mut stage, node, "a")));
        stage.run(); // the others have heard of it before they ask
    }
    let mut fences = Vec::new();
    for (node, id) in asked {
        assert_eq!(holders(&stage, "a"), [node]);
        fences.push(fence(&stage, node, id).expect("held"));
        release(&mut stage, node, id);
        stage.run();
    }
    assert!(fences.is_sorted_by(|a, b| a < b && a.to_u128() < b.to_u128()), "{fences:?}");
    assert_eq!(holders(&stage, "a"), []);
}

#[test]
fn of_two_requests_of_one_stamp_the_lower_node_goes_first() {
    let mut stage = stage(2);
    acquire(&mut stage, N2, "a");
    let first = acquire(&mut stage, N1, "a");
    stage.sync(N1);
    stage.sync(N2);
    assert_eq!(stage.node(N1).wants(&name("a")), stage.node(N2).wants(&name("a")), "a tie");
    stage.run();
    assert_eq!(holders(&stage, "a"), [N1]);
    release(&mut stage, N1, first);
    stage.run();
    assert_eq!(holders(&stage, "a"), [N2]);
}

#[test]
fn a_waiting_node_compares_with_the_stamp_it_asked_with() {
    // A clock that has run on since must not let a later request pass: the stamp is frozen.
    let mut stage = stage(3);
    acquire(&mut stage, N1, "a");
    stage.sync(N1);
    stage.deliver(N1, N2);
    stage.deliver(N1, N3);
    stage.inject(N3, N1, ask("c", 50));
    acquire(&mut stage, N2, "a");
    stage.run();
    assert_eq!(holders(&stage, "a"), [N1], "n2 asked after it had heard n1");
}

#[test]
fn resources_do_not_wait_for_each_other() {
    let mut stage = stage(3);
    acquire(&mut stage, N1, "a");
    acquire(&mut stage, N2, "b");
    stage.run();
    assert_eq!((holders(&stage, "a"), holders(&stage, "b")), (vec![N1], vec![N2]));
}

#[test]
fn requests_of_one_node_for_one_resource_take_turns() {
    let mut stage = stage(2);
    let ids = [(); 3].map(|()| acquire(&mut stage, N1, "a"));
    stage.run();
    let mut last = None;
    for (at, id) in ids.into_iter().enumerate() {
        let held = fence(&stage, N1, id);
        assert!(held > last, "turn {at}");
        let granted = ids.iter().filter(|id| fence(&stage, N1, **id).is_some()).count();
        assert_eq!(granted, at + 1);
        last = held;
        release(&mut stage, N1, id);
        stage.run();
    }
}

#[test]
fn doubled_and_late_messages_change_nothing() {
    let mut stage = stage(3);
    let first = acquire(&mut stage, N1, "a");
    stage.sync(N1);
    stage.duplicate(N1, N2);
    stage.duplicate(N1, N3);
    while stage.deliver(N1, N2) {}
    stage.duplicate(N2, N1);
    stage.run();
    assert_eq!(holders(&stage, "a"), [N1]);
    // A permission of the first request does not count for the second.
    let stamp = fence(&stage, N1, first).expect("held").stamp;
    release(&mut stage, N1, first);
    let second = acquire(&mut stage, N1, "a");
    stage.settle(N1);
    for from in [N2, N3] {
        let to = Incarnation(1);
        stage.inject(from, N1, Message::Permission { name: name("a"), stamp, to });
    }
    assert_eq!(fence(&stage, N1, second), None);
    // A request that comes again long after it was granted is permitted again, in vain.
    stage.inject(N1, N2, ask("a", stamp));
    stage.run();
    assert!(fence(&stage, N1, second).is_some());
}

#[test]
fn a_lost_request_and_a_lost_permission_are_made_good() {
    for lost in [N1, N2] {
        let mut stage = stage(3);
        let id = acquire(&mut stage, N1, "a");
        stage.sync(N1);
        if lost == N2 {
            stage.deliver(N1, N2);
            stage.deliver(N1, N3);
        }
        assert!(stage.lose(|_| true) > 0);
        stage.timer(N1);
        stage.run();
        assert!(fence(&stage, N1, id).is_some(), "lost on the way from {lost}");
    }
    // The permission that was put off until the release is lost.
    let mut stage = stage(2);
    let held = acquire(&mut stage, N1, "a");
    stage.run();
    let waits = acquire(&mut stage, N2, "a");
    stage.run();
    release(&mut stage, N1, held);
    assert_eq!(stage.lose(|flight| flight.from.node == N1), 1);
    stage.timer(N2);
    stage.run();
    assert!(fence(&stage, N2, waits).is_some());
}

#[test]
fn a_request_taken_back_leaves_nothing_behind() {
    let mut stage = stage(3);
    let held = acquire(&mut stage, N1, "a");
    stage.run();
    let gone = acquire(&mut stage, N2, "a");
    stage.run();
    let third = acquire(&mut stage, N3, "a");
    stage.run(); // n2 has put n3 off, for it asked before
    let taken_back = cancel(&mut stage, N2, gone);
    assert_eq!(stage.answer(N2, taken_back), Some(&Reply::Cancelled));
    assert_eq!(stage.answer(N2, gone), Some(&Reply::Rejected(Rejection::Cancelled)));
    release(&mut stage, N1, held);
    stage.run();
    assert_eq!(holders(&stage, "a"), [N3], "n2 let it pass");
    let again = cancel(&mut stage, N2, gone);
    assert_eq!(stage.answer(N2, again), Some(&Reply::Rejected(Rejection::NotWaiting)));
    release(&mut stage, N3, third);
    stage.run();
    for node in stage.nodes() {
        let status = stage.node(node).status();
        assert_eq!((status.held, status.wanted), (0, 0), "{node}");
    }
}

#[test]
fn patience_ends_and_the_next_waiter_goes_on() {
    let mut stage = stage(2);
    let held = acquire(&mut stage, N1, "a");
    stage.run();
    let patience = Some(Duration::from_millis(500));
    let hasty = || Request::Acquire { name: name("a"), patience };
    let short = stage.request(N2, hasty());
    let long = acquire(&mut stage, N2, "a");
    let late = stage.request(N2, hasty());
    run_until(&mut stage, N2, 600);
    for id in [short, late] {
        assert_eq!(stage.answer(N2, id), Some(&Reply::Rejected(Rejection::TimedOut)));
    }
    release(&mut stage, N1, held);
    stage.run();
    assert!(fence(&stage, N2, long).is_some());
}

#[test]
fn only_the_holder_releases() {
    let mut stage = stage(2);
    let held = acquire(&mut stage, N1, "a");
    let waits = acquire(&mut stage, N1, "a");
    stage.run();
    for wrong in [waits, RequestId(99)] {
        let id = release(&mut stage, N1, wrong);
        assert_eq!(stage.answer(N1, id), Some(&Reply::Rejected(Rejection::NotHeld)));
    }
    assert_eq!(fence(&stage, N1, waits), None);
    let id = release(&mut stage, N1, held);
    assert_eq!(stage.answer(N1, id), Some(&Reply::Released));
    let id = release(&mut stage, N1, held);
    assert_eq!(stage.answer(N1, id), Some(&Reply::Rejected(Rejection::NotHeld)));
}

#[test]
fn a_new_life_asks_with_a_later_stamp_than_any_it_permitted_before() {
    for how in [Crash::Kill, Crash::Power] {
        let mut stage = stage(3);
        // n2's clock runs far ahead of all that n1 ever reserved.
        stage.inject(N3, N2, ask("x", 100_000));
        stage.run();
        let waits = acquire(&mut stage, N2, "a");
        stage.sync(N2);
        stage.deliver(N2, N1);
        stage.deliver(N1, N2); // n1 permits; n3 has not been asked yet
        stage.crash(N1, how);
        stage.start(N1);
        let new = acquire(&mut stage, N1, "a");
        assert_eq!(stage.node(N1).wants(&name("a")), None, "it does not compete before it knows");
        stage.run();
        assert_eq!(holders(&stage, "a"), [N2]);
        assert!(fence(&stage, N1, new).is_none());
        release(&mut stage, N2, waits);
        stage.run();
        assert!(fence(&stage, N1, new).is_some());
    }
}

#[test]
fn a_permission_to_a_former_life_does_not_count() {
    let mut stage = stage(2);
    stage.crash(N1, Crash::Power);
    stage.start(N1);
    stage.run();
    let id = acquire(&mut stage, N1, "a");
    stage.sync(N1);
    let stamp = stage.node(N1).wants(&name("a")).expect("it waits");
    stage.lose(|_| true);
    for (life, held) in [(1, false), (2, true)] {
        let to = Incarnation(life);
        stage.inject(N2, N1, Message::Permission { name: name("a"), stamp, to });
        assert_eq!(fence(&stage, N1, id).is_some(), held, "life {life}");
    }
}

#[test]
fn fences_grow_even_when_everyone_has_lost_power() {
    let mut stage = stage(3);
    let id = acquire(&mut stage, N2, "a");
    stage.run();
    let before = fence(&stage, N2, id).expect("held");
    [N1, N2, N3].into_iter().for_each(|node| stage.crash(node, Crash::Power));
    stage.lose(|_| true);
    [N1, N2, N3].into_iter().for_each(|node| stage.start(node));
    stage.run();
    let id = acquire(&mut stage, N1, "a");
    stage.run();
    assert!(fence(&stage, N1, id).expect("held") > before);
}

#[test]
fn nobody_hears_of_a_stamp_that_is_not_reserved() {
    let mut stage = stage(2);
    acquire(&mut stage, N1, "a");
    stage.settle(N1);
    assert_eq!(stage.wire().len(), 0);
    stage.sync(N1);
    assert_eq!(stage.wire().len(), 1);
}

#[test]
fn a_dead_peer_is_reported_and_blocks_until_it_is_back() {
    let mut stage = stage(3);
    stage.crash(N3, Crash::Kill);
    let id = acquire(&mut stage, N1, "a");
    run_until(&mut stage, N1, 5000);
    assert_eq!(told(&stage, N1), [vec![N3]], "once, and by name");
    assert_eq!(fence(&stage, N1, id), None, "nobody guesses that it is dead");
    stage.start(N3);
    stage.run();
    assert_eq!(told(&stage, N1), [vec![N3], vec![]]);
    assert!(fence(&stage, N1, id).is_some());
}

#[test]
fn a_holder_that_takes_long_is_not_called_silent() {
    let mut stage = stage(2);
    acquire(&mut stage, N1, "a");
    stage.run();
    acquire(&mut stage, N2, "a");
    run_until(&mut stage, N2, 20_000);
    assert_eq!(told(&stage, N2), [[]; 0], "it answers that the turn is its own");
}

#[test]
fn a_holder_that_died_leaves_the_resource_to_the_next() {
    let mut stage = stage(3);
    acquire(&mut stage, N1, "a");
    stage.run();
    let id = acquire(&mut stage, N2, "a");
    stage.run();
    stage.crash(N1, Crash::Kill);
    stage.run();
    assert_eq!(fence(&stage, N2, id), None);
    stage.start(N1);
    stage.run();
    assert!(fence(&stage, N2, id).is_some(), "the new life holds nothing");
}

#[test]
fn an_absurd_stamp_does_not_end_the_clock() {
    let mut stage = stage(2);
    for stamp in [u64::MAX, (1 << 62) + 1] {
        stage.inject(N2, N1, ask("a", stamp));
        stage.inject(N2, N1, Message::Welcome { to: Incarnation(1), clock: stamp });
    }
    let status = stage.node(N1).status();
    assert_eq!((status.clock, status.stats.refused), (0, 4));
    stage.inject(N2, N1, ask("a", 1 << 62));
    let id = acquire(&mut stage, N1, "b");
    assert_eq!(stage.answer(N1, id), Some(&Reply::Rejected(Rejection::ClockExhausted)));
    assert_eq!(stage.node(N1).status().wanted, 0);
}

#[test]
fn limits_refuse_and_are_counted() {
    let mut stage = Script::new(2, |start| {
        let mut config = Config::new([N1, N2]);
        (config.resources_max, config.waiters_max) = (1, 1);
        RicartAgrawala::new(start, config).expect("a valid configuration")
    });
    stage.run();
    let ids = ["a", "a", "a", "b"].map(|text| acquire(&mut stage, N1, text));
    let busy = Reply::Rejected(Rejection::Busy);
    let answers = ids.map(|id| stage.answer(N1, id).copied());
    assert_eq!(answers, [None, None, Some(busy), Some(busy)]);
    assert_eq!(stage.node(N1).status().stats.busy, 2);
}

#[test]
fn a_checkpoint_moves_the_one_record() {
    let mut stage = stage(2);
    acquire(&mut stage, N1, "a");
    stage.run();
    let clock = stage.node(N1).status().clock;
    let last = stage.journal(N1).last().expect("a record").0;
    stage.checkpoint(N1, Ticket(last.0 + 1));
    stage.sync(N1);
    stage.crash(N1, Crash::Power);
    assert_eq!(stage.journal(N1).len(), 1, "the old one is released");
    stage.start(N1);
    assert!(stage.node(N1).status().clock >= clock);
}

#[test]
fn before_it_has_joined_a_node_waits_and_says_for_whom() {
    let mut stage = strangers(2);
    stage.crash(N2, Crash::Kill);
    stage.lose(|_| true);
    let id = acquire(&mut stage, N1, "a");
    run_until(&mut stage, N1, 4000);
    assert_eq!(told(&stage, N1), [vec![N2]]);
    let gone = cancel(&mut stage, N1, id);
    assert_eq!(stage.answer(N1, gone), Some(&Reply::Cancelled));
    assert_eq!(stage.node(N1).status().wanted, 0);
}
