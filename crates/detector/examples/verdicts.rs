//! One node watches another over a network that grows slower: what a fixed timeout and what phi
//! make of the same heartbeats. Prints each verdict, and how the tolerance of each moved.

use std::time::Duration;

use quorate_detector::{Config, Event, Fixed, Heartbeats, Message, Monitor};
use quorate_transport::{
    Effect, Incarnation, Input, Machine, NodeId, Outbox, Peer, Rng, Start, Time,
};

const INTERVAL: Duration = Duration::from_millis(100);

/// When heartbeats arrive: ever later and ever less regularly, and after 30 s none.
fn arrivals(rng: &mut Rng) -> Vec<Time> {
    let sent = (1..300).map(|number| Time::ZERO + INTERVAL * number);
    let slow = |at: Time| 1 + at.as_nanos() / 100;
    let mut all: Vec<_> = sent.map(|at| at + Duration::from_nanos(rng.below(slow(at)))).collect();
    all.sort_unstable();
    all
}

fn watch(name: &str, monitor: Option<Monitor>, arrivals: &[Time]) {
    let (me, peer) = (NodeId(1), Peer { node: NodeId(2), incarnation: Incarnation(1) });
    let start = Start { node: me, incarnation: Incarnation(1), seed: 1, now: Time::ZERO };
    let mut config = Config::new([peer.node]);
    config.heartbeat_interval = INTERVAL;
    config.monitor = monitor.unwrap_or(config.monitor);
    let mut detector = Heartbeats::new(start, config).expect("a valid configuration");
    let mut out = Outbox::default();
    let mut suspicions = 0;
    let mut tell = |now: Time, out: &mut Outbox<Heartbeats>| {
        for effect in out.drain() {
            let Effect::Emit { event, .. } = effect else { continue };
            suspicions += u32::from(matches!(event, Event::Suspected { .. }));
            if matches!(event, Event::Failed { .. }) {
                println!("{name}: {suspicions} suspicions, failed at {now}");
            }
        }
    };
    detector.handle(Time::ZERO, Input::Started, &mut out);
    let end = Time::ZERO + Duration::from_secs(40);
    let mut arrivals = (1..).zip(arrivals).peekable();
    while let Some(due) = detector.deadline().filter(|due| *due < end) {
        if let Some((number, at)) = arrivals.next_if(|(_, at)| **at <= due) {
            let message = Message::Heartbeat { number };
            detector.handle(*at, Input::Message { from: peer, message }, &mut out);
            tell(*at, &mut out);
        } else {
            detector.handle(due, Input::Timer, &mut out);
            tell(due, &mut out);
        }
    }
}

fn main() {
    let arrivals = arrivals(&mut Rng::new(7));
    println!("a heartbeat every {INTERVAL:?}; the last at {}", arrivals[arrivals.len() - 1]);
    for millis in [150, 250, 1000] {
        let timeout = Duration::from_millis(millis);
        let monitor = Monitor::Fixed(Fixed { timeout });
        watch(&format!("fixed {millis} ms"), Some(monitor), &arrivals);
    }
    watch("phi of 8", None, &arrivals);
}
