//! Draws an exchange of three nodes with their vector stamps, and says which events are concurrent:
//! `cargo run -p quorate-clocks --example diagram`.

use std::collections::BTreeMap;

use quorate_clocks::diagram::{Event, What, render};
use quorate_clocks::{Causality, Error, VectorClock};
use quorate_transport::{Incarnation, NodeId, Peer};

const WIDTH: usize = 90;

/// Three processes, the stamps of the messages they sent, and all that happened.
#[derive(Default)]
struct Group {
    clocks: BTreeMap<u64, VectorClock>,
    messages: BTreeMap<u64, VectorClock>,
    events: Vec<Event>,
    stamps: Vec<VectorClock>,
}

impl Group {
    fn happens(&mut self, node: u64, what: What) -> Result<(), Error> {
        let own = Peer { node: NodeId(node), incarnation: Incarnation(1) };
        let clock = self.clocks.entry(node).or_default();
        match what {
            What::Receive(message) => clock.receive(own, &self.messages[&message])?,
            What::Send(_) | What::Local => clock.tick(own)?,
        };
        if let What::Send(message) = what {
            self.messages.insert(message, clock.clone());
        }
        let note = format!("{}  {clock}", name(self.stamps.len()));
        self.events.push(Event { node: NodeId(node), what, note });
        self.stamps.push(clock.clone());
        Ok(())
    }
}

fn name(event: usize) -> char {
    char::from(b'a' + event as u8)
}

fn main() -> Result<(), Error> {
    let story = [
        (1, What::Send(1)),
        (3, What::Local),
        (2, What::Receive(1)),
        (2, What::Send(2)),
        (3, What::Send(3)),
        (1, What::Local),
        (3, What::Receive(2)),
        (1, What::Receive(3)),
    ];
    let mut group = Group::default();
    for (node, what) in story {
        group.happens(node, what)?;
    }
    for line in render(&group.events, WIDTH) {
        println!("{line}");
    }
    println!();
    for (later, stamp) in group.stamps.iter().enumerate() {
        let concurrent: String = (0..later)
            .filter(|event| group.stamps[*event].compare(stamp) == Causality::Concurrent)
            .map(name)
            .collect();
        if !concurrent.is_empty() {
            println!("{} is concurrent with {concurrent}", name(later));
        }
    }
    Ok(())
}
