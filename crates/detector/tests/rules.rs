//! Each rule of the detector by name.

use std::time::Duration;

use quorate_detector::{
    Config, Error, Event, Fixed, Heartbeats, Message, Monitor, Phi, PhiParams, Reply, Request,
    Status,
};
use quorate_sim::script::{Crash, Script};
use quorate_transport::{Incarnation, LinkState, Machine, NodeId};

type Stage = Script<'static, Heartbeats>;
const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const MS: Duration = Duration::from_millis(1);

fn fixed() -> Stage {
    fixed_with(MS * 200)
}

fn fixed_with(stall_max: Duration) -> Stage {
    Script::new(2, move |start| {
        let mut config = Config::new([N1, N2].into_iter().filter(|node| *node != start.node));
        config.monitor = Monitor::Fixed(Fixed { timeout: MS * 350 });
        config.stall_max = stall_max;
        Heartbeats::new(start, config).expect("a valid configuration")
    })
}

fn status(stage: &Stage) -> Status {
    stage.node(N1).status(stage.now(), N2).expect("a peer").status
}

/// Node 1's timers alone, until this time.
fn alone(stage: &mut Stage, until: u64) {
    while stage.node(N1).deadline().is_some_and(|at| at.as_nanos() <= until * 1_000_000) {
        stage.timer(N1);
    }
}

#[test]
fn a_crashed_peer_is_suspected_then_failed_and_each_is_told_once() {
    let mut stage = fixed();
    stage.run();
    stage.crash(N2, Crash::Kill);
    let last_heartbeat = Some(stage.now());
    alone(&mut stage, 349);
    assert_eq!(status(&stage), Status::Alive);
    alone(&mut stage, 1349);
    assert_eq!(status(&stage), Status::Suspect);
    alone(&mut stage, 9000);
    let node = N2;
    let suspected = Event::Suspected { node, last_heartbeat };
    assert_eq!(stage.events(N1), [suspected, Event::Failed { node, last_heartbeat }]);
}

#[test]
fn a_peer_that_never_spoke_is_suspected_too() {
    let mut stage = fixed();
    stage.isolate(N2);
    alone(&mut stage, 400);
    assert_eq!(stage.events(N1), [Event::Suspected { node: N2, last_heartbeat: None }]);
}

#[test]
fn a_node_that_stood_still_convicts_nobody() {
    let mut stage = fixed();
    stage.run();
    stage.advance(Duration::from_secs(60));
    stage.timer(N1);
    assert!(stage.events(N1).is_empty(), "{:?}", stage.events(N1));
    assert_eq!(stage.node(N1).stats().stalls, 1);
    alone(&mut stage, 60_351);
    assert_eq!(status(&stage), Status::Suspect, "but silence after it counts");
    stage.advance(Duration::from_secs(60));
    stage.timer(N1);
    assert_eq!(status(&stage), Status::Suspect, "a suspicion is not turned into a verdict either");
}

#[test]
fn a_closed_connection_suspects_sooner_and_convicts_no_sooner() {
    let mut stage = fixed();
    stage.run();
    stage.link(N1, N2, LinkState::Down);
    alone(&mut stage, 100);
    assert_eq!(status(&stage), Status::Suspect);
    alone(&mut stage, 1349);
    assert_eq!(status(&stage), Status::Suspect, "350 ms of patience and a second of suspicion");
    alone(&mut stage, 1350);
    assert_eq!(status(&stage), Status::Failed);
}

#[test]
fn a_stall_after_a_closed_connection_hastens_no_verdict() {
    let mut stage = fixed_with(MS * 20);
    stage.run();
    stage.crash(N2, Crash::Kill);
    stage.link(N1, N2, LinkState::Down);
    alone(&mut stage, 100);
    assert_eq!(status(&stage), Status::Suspect, "the hint");
    stage.advance(MS * 150);
    stage.timer(N1);
    assert_eq!(stage.node(N1).stats().stalls, 1);
    alone(&mut stage, 1349);
    assert_eq!(
        status(&stage),
        Status::Suspect,
        "patience and time for a verdict, from the last word"
    );
    alone(&mut stage, 1351);
    assert_eq!(status(&stage), Status::Failed);
}

#[test]
fn a_restart_is_no_silence_and_words_of_a_former_life_are_none() {
    let mut stage = fixed();
    stage.run();
    stage.timer(N2); // a heartbeat under way
    stage.crash(N2, Crash::Kill);
    let late = stage.wire()[0].clone();
    stage.lose(|_| true);
    stage.start(N2);
    stage.run();
    let restarted = Event::Restarted { node: N2, incarnation: Incarnation(2) };
    assert_eq!(stage.events(N1), [restarted]);
    assert_eq!(late.from.incarnation, Incarnation(1));
    let mut out = quorate_transport::Outbox::default();
    let mut node = stage.node(N1).clone();
    let (from, message) = (late.from, late.message);
    let refused = node.stats().refused;
    node.handle(stage.now(), quorate_transport::Input::Message { from, message }, &mut out);
    assert_eq!(node.stats().refused, refused + 1);
    assert!(out.as_slice().is_empty());
}

#[test]
fn a_repeated_heartbeat_is_no_sign_of_life() {
    let mut stage = fixed();
    stage.run();
    for _ in 0..3 {
        let until = stage.now().as_nanos() / 1_000_000 + 100;
        alone(&mut stage, until);
        stage.inject(N2, N1, Message::Heartbeat { number: 1 });
    }
    alone(&mut stage, 400);
    assert_eq!(status(&stage), Status::Suspect);
    stage.inject(N2, N1, Message::Heartbeat { number: 2 });
    let trusted = Event::Trusted { node: N2, was: Status::Suspect };
    assert_eq!(stage.events(N1).last(), Some(&trusted));
}

#[test]
fn requests_are_answered() {
    let mut stage = fixed();
    let id = stage.request(N1, Request::Status(NodeId(9)));
    assert_eq!(stage.answer(N1, id), Some(&Reply::NoSuchPeer(NodeId(9))));
    let id = stage.request(N1, Request::Members);
    let Some(Reply::Members(all)) = stage.answer(N1, id) else { panic!("members") };
    assert_eq!((all.len(), all[0].node, all[0].status), (1, N2, Status::Alive));
}

#[test]
fn a_stranger_and_an_echo_of_this_node_are_counted_and_ignored() {
    let mut stage = fixed();
    stage.run();
    let refused = stage.node(N1).stats().refused;
    stage.inject(NodeId(9), N1, Message::Heartbeat { number: 50 });
    stage.inject(N1, N1, Message::Heartbeat { number: 50 });
    assert_eq!(stage.node(N1).stats().refused, refused + 2);
    assert!(stage.node(N1).status(stage.now(), NodeId(9)).is_none());
}

#[test]
fn phi_tolerates_what_it_has_seen_and_a_fixed_timeout_does_not() {
    let stage = |monitor: Monitor| -> Stage {
        Script::new(2, move |start| {
            let mut config = Config::new([N1, N2].into_iter().filter(|n| *n != start.node));
            config.monitor = monitor;
            Heartbeats::new(start, config).expect("a valid configuration")
        })
    };
    let fixed = Monitor::Fixed(Fixed { timeout: MS * 400 });
    let phi = Monitor::Phi(Phi::new(MS * 100, PhiParams::default()));
    let suspicions = [fixed, phi].map(|monitor| {
        let mut stage = stage(monitor);
        stage.run();
        for number in 2..60 {
            let until = stage.now().as_nanos() / 1_000_000 + [50, 350, 650][number as usize % 3];
            alone(&mut stage, until);
            let now = stage.now();
            stage.advance(MS * until as u32 - now.since(quorate_transport::Time::ZERO));
            stage.inject(N2, N1, Message::Heartbeat { number });
        }
        let early = stage.events(N1).len();
        (early, stage.node(N1).stats().suspicions)
    });
    assert_eq!(suspicions[0].1, 20, "each interval of 650 ms");
    assert!(suspicions[1].1 < 8, "phi has learned: {suspicions:?}");
}

/// Each change of a valid configuration, and the field it breaks.
#[test]
fn every_rule_of_the_configuration_is_kept() {
    type Change = fn(&mut Config);
    fn phi(change: fn(&mut PhiParams)) -> Monitor {
        let mut params = PhiParams::default();
        change(&mut params);
        Monitor::Phi(Phi::new(MS * 100, params))
    }
    const YEARS: Duration = Duration::from_secs(2 * 365 * 86_400);
    let broken: [(&str, &str, Change); 15] = [
        ("peers", "1024", |c| c.peers = (2..1027).map(NodeId).collect()),
        ("peers", "twice", |c| c.peers.push(N2)),
        ("peers", "this node", |c| c.peers.push(N1)),
        ("heartbeat_interval", "1 ms", |c| c.heartbeat_interval = Duration::from_micros(999)),
        ("heartbeat_interval", "a year", |c| c.heartbeat_interval = YEARS),
        ("monitor", "sensible", |c| c.monitor = Monitor::Fixed(Fixed { timeout: Duration::ZERO })),
        ("monitor", "sensible", |c| c.monitor = Monitor::Fixed(Fixed { timeout: YEARS })),
        ("monitor", "sensible", |c| c.monitor = phi(|params| params.threshold = f64::NAN)),
        ("monitor", "sensible", |c| c.monitor = phi(|params| params.deviation_min = YEARS)),
        ("monitor", "sensible", |c| c.monitor = phi(|params| params.memory = 3)),
        ("monitor", "interval", |c| c.monitor = Monitor::Fixed(Fixed { timeout: MS * 100 })),
        ("failure_after", "1 ms", |c| c.failure_after = Duration::ZERO),
        ("failure_after", "a year", |c| c.failure_after = YEARS),
        ("stall_max", "1 ms", |c| c.stall_max = Duration::ZERO),
        ("stall_max", "a year", |c| c.stall_max = YEARS),
    ];
    let valid = Config::new([N2]);
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
