//! What a run is judged by: a machine that breaks rules, and who minds.

use quorate_transport::{
    Decoder, Digest, Encoder, Halt, Host, Input, Key, Machine, MachineRef, NodeId, Outbox, Peer,
    Port, Rename, RequestRange, Rng, Start, Ticket, Time, Wire, WireError,
};

use super::{Ask, System, Violation, World};
use crate::limits::{Limits, limit};
use crate::nemesis::Plan;

/// Answers numbers, and stops itself when it is asked for a thirteenth time.
#[derive(Clone)]
struct Nervous(u64);

#[derive(Clone, Debug)]
struct Nothing;

impl Wire for Nothing {
    fn encode(&self, _: &mut Encoder<'_>) {}
    fn decode(_: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self)
    }
}

impl Machine for Nervous {
    type Config = ();
    type Error = WireError;
    type Message = Nothing;
    type Record = Nothing;
    type Request = ();
    type Reply = u64;
    type Event = ();

    fn new(_: Start, (): ()) -> Result<Self, WireError> {
        Ok(Self(0))
    }
    fn replay(&mut self, _: Ticket, _: Nothing) -> Result<(), WireError> {
        Ok(())
    }
    fn handle(&mut self, _: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        if let Input::Request { id, .. } = input {
            self.0 += 1;
            match self.0 {
                13 => out.halt("Z1", "thirteen"),
                number => out.answer(id, number),
            }
        }
    }
    fn deadline(&self) -> Option<Time> {
        None
    }
    fn digest(&self, _: Time, _: &Rename, into: &mut Digest) {
        into.u64(self.0);
    }
}

#[derive(Default)]
struct Ear(Vec<u64>);

impl Port<Nervous> for Ear {
    fn answer(&mut self, _: RequestRange, reply: u64) {
        self.0.push(reply);
    }
    fn event(&mut self, (): ()) {}
    fn halted(&mut self, _: &Halt) {}
}

/// One node that is asked every millisecond; its check complains of `complaint` from the start.
struct Alone {
    complaint: Option<&'static str>,
    answers: Vec<u64>,
}

impl System for Alone {
    type App = MachineRef<Nervous, Ear>;

    fn boot(&mut self, _: Peer, host: &mut Host) -> Self::App {
        host.add(Key::new(99, 0), (), Ear::default()).expect("a valid configuration")
    }
    fn drain(&mut self, _: NodeId, app: &mut Self::App, ask: &mut Ask<'_>) {
        if let Some(host) = ask.host() {
            self.answers.append(&mut host.port(*app).0);
        }
    }
    fn check(&mut self, _: NodeId, _: &Self::App, _: &Host) -> Result<(), String> {
        self.complaint.map_or(Ok(()), |what| Err(what.to_owned()))
    }
    fn alarm(&mut self, node: NodeId, _: u64, app: Option<&mut Self::App>, ask: &mut Ask<'_>) {
        if let Some(app) = app {
            let _ = ask.request(*app, ());
        }
        ask.alarm(1_000_000, node, 0);
    }
    fn died(&mut self, _: NodeId, _: Self::App) {}
}

/// Runs for ten seconds, judged by these.
fn run(judges: Option<&[&str]>, complaint: Option<&'static str>) -> (World<Alone>, Option<String>) {
    let judges = judges.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
    limit(Limits { judges, ..Limits::default() });
    let mut plan = Plan::draw(&mut Rng::new(1));
    plan.kinds = vec![(crate::nemesis::Fault::Heal, 1)]; // it does no harm
    let mut world = World::new(1, 1, plan, Alone { complaint, answers: Vec::new() });
    world.alarm(1_000_000, NodeId(1), 0);
    let broken = world.run(10_000_000_000).err().map(|Violation { what, .. }| what);
    limit(Limits::default());
    (world, broken)
}

#[test]
fn a_machine_that_stops_itself_ends_the_run_or_is_started_again() {
    let (world, broken) = run(None, None);
    assert!(broken.expect("it ends").contains("halted: "));
    assert_eq!(world.system.answers, (1..13).collect::<Vec<_>>());
    let (world, broken) = run(Some(&["R1"]), None);
    assert_eq!(broken, None);
    assert!(world.counts().restarts > 2, "again and again");
    let lives = world.system.answers.iter().filter(|number| **number == 1).count() as u64;
    assert!(lives >= world.counts().restarts, "each life has answered");
}

#[test]
fn a_machine_that_stops_itself_in_every_life_breaks_a_law() {
    let (world, broken) = run(Some(&["R1", "law 3"]), None);
    let broken = broken.expect("it ends");
    assert!(broken.starts_with("law 3: a node stops itself again and again: "), "{broken}");
    assert_eq!(world.counts().restarts, 3, "in its fourth life");
}

#[test]
fn only_what_is_listed_is_minded() {
    let broken = |judges, complaint| run(judges, Some(complaint)).1;
    assert_eq!(broken(Some(&["R1", "M"]), "R14 a rule inside"), None);
    assert_eq!(
        broken(Some(&["R1", "M"]), "M3 not linearizable"),
        Some("M3 not linearizable".into())
    );
    assert_eq!(broken(None, "R14 a rule inside"), Some("R14 a rule inside".into()));
}
