//! The gates, the bursts and the ticket map, seen through a machine that does as it is told.

use bytes::BytesMut;
use quorate_transport::{
    BurstId, Class, Decoder, Digest, Encoder, Frame, Halt, Host, HostOptions, Incarnation, Input,
    Key, Machine, MachineRef, NodeId, Outbox, Peer, Port, Rename, RequestId, RequestRange, Shell,
    Start, StoreOp, Ticket, Time, Wire, WireError, Work, decode_message, encode_message,
    encode_record,
};

/// A number as message, record, event and reply.
#[derive(Clone, Debug, PartialEq)]
struct Word(u64);

impl Wire for Word {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(&self.0);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        from.value("word").map(Self)
    }
}

#[derive(Debug)]
enum Ask {
    /// Persist twice, then one effect of each gate.
    Gates,
    /// Answer two ids at once: this and the one before.
    Pair,
    Halt,
    Sleep(Time),
    /// Hand work over that adds one to this.
    Work(u64),
}

#[derive(Clone)]
struct Puppet {
    replayed: Vec<u64>,
    deadline: Option<Time>,
}

impl Machine for Puppet {
    type Config = ();
    type Error = WireError;
    type Message = Word;
    type Record = Word;
    type Request = Ask;
    type Reply = Word;
    type Event = Word;

    fn new(_: Start, (): ()) -> Result<Self, WireError> {
        Ok(Self { replayed: vec![], deadline: None })
    }

    fn replay(&mut self, _: Ticket, record: Word) -> Result<(), WireError> {
        self.replayed.push(record.0);
        Ok(())
    }

    fn handle(&mut self, _: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let peer = NodeId(2);
        match input {
            Input::Request { id, request: Ask::Gates } => {
                let first = out.persist(Word(10));
                out.persist(Word(11));
                out.send(peer, Word(1));
                out.send_after(first, peer, Word(2));
                out.send_eager(peer, Word(3));
                out.answer(id, Word(4));
            }
            Input::Request { id, request: Ask::Pair } => {
                out.answer(RequestRange::new(RequestId(id.0 - 1), id), Word(5));
            }
            Input::Request { request: Ask::Halt, .. } => {
                out.persist(Word(12));
                out.send(peer, Word(6));
                out.halt("a rule", "a reason");
                out.send_eager(peer, Word(7));
            }
            Input::Request { request: Ask::Sleep(until), .. } => self.deadline = Some(until),
            Input::Request { request: Ask::Work(word), .. } => {
                out.persist(Word(word));
                out.work(Work::new(word, |word: u64| Word(word + 1)));
            }
            Input::Worked(worked) => out.emit(*worked.take().expect("its own work")),
            Input::Timer => {
                self.deadline = None;
                out.emit(Word(8));
            }
            Input::Durable { upto } => out.emit(Word(100 + upto.0)),
            Input::Message { message, .. } => out.emit(message),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    fn digest(&self, _: Time, _: &Rename, _: &mut Digest) {}
}

#[derive(Default)]
struct Ear(Vec<String>);

impl Port<Puppet> for Ear {
    fn answer(&mut self, ids: RequestRange, reply: Word) {
        self.0.push(format!("answer {}..={} {}", ids.first.0, ids.last.0, reply.0));
    }
    fn event(&mut self, event: Word) {
        self.0.push(format!("event {}", event.0));
    }
    fn halted(&mut self, halt: &Halt) {
        self.0.push(format!("halted {halt}"));
    }
}

#[derive(Default)]
struct World(Vec<String>, Vec<Work>);

impl Shell for World {
    fn send(&mut self, to: NodeId, _: Class, frame: Frame) {
        let word: Word = decode_message(&frame).unwrap();
        self.0.push(format!("send {to} {}", word.0));
    }
    fn append(&mut self, key: Key, ticket: Ticket, _: Frame) {
        self.0.push(format!("append {key} {ticket}"));
    }
    fn release(&mut self, key: Key, upto: Ticket) {
        self.0.push(format!("release {key} {upto}"));
    }
    fn store(&mut self, _: Key, _: StoreOp) {}
    fn work(&mut self, key: Key, work: Work) {
        self.0.push(format!("work {key}"));
        self.1.push(work);
    }
    fn halted(&mut self, key: Key, _: &Halt) {
        self.0.push(format!("halted {key}"));
    }
}

const KEY: Key = Key::new(1, 0);
const NOW: Time = Time::ZERO;

fn host() -> (Host, MachineRef<Puppet, Ear>, World) {
    let start = Start { node: NodeId(1), incarnation: Incarnation(1), seed: 1, now: NOW };
    let mut host = Host::new(start, HostOptions { unsynced_bytes_max: 40 });
    let puppet = host.add::<Puppet, Ear>(KEY, (), Ear::default()).unwrap();
    (host, puppet, World::default())
}

fn take(lines: &mut Vec<String>) -> Vec<String> {
    std::mem::take(lines)
}

#[test]
fn each_effect_waits_for_its_own_gate_and_no_other() {
    let (mut host, puppet, mut world) = host();
    host.request(NOW, puppet, Ask::Gates, &mut world);
    assert_eq!(host.settle(NOW, &mut world), Some(BurstId(1)));
    assert_eq!(take(&mut world.0), ["append p1/g0 t1", "append p1/g0 t2", "send n2 3"]);
    assert!(host.port(puppet).0.is_empty(), "the answer waits for the journal");

    host.durable(NOW, BurstId(1), &mut world);
    assert_eq!(take(&mut world.0), ["send n2 2", "send n2 1"]);
    assert_eq!(take(&mut host.port(puppet).0), ["answer 0..=0 4"]);
    assert_eq!(host.settle(NOW, &mut world), None);
    assert_eq!(take(&mut host.port(puppet).0), ["event 102"], "what it says to that, at the end");
}

#[test]
fn work_leaves_at_once_and_comes_back_to_its_machine() {
    let (mut host, puppet, mut world) = host();
    for word in [20, 30] {
        host.request(NOW, puppet, Ask::Work(word), &mut world);
    }
    host.settle(NOW, &mut world);
    assert_eq!(
        take(&mut world.0),
        ["append p1/g0 t1", "work p1/g0", "append p1/g0 t2", "work p1/g0"],
        "it waits for no record"
    );
    host.durable(NOW, BurstId(1), &mut world);
    host.settle(NOW, &mut world);
    let _ = take(&mut host.port(puppet).0);
    for work in std::mem::take(&mut world.1).into_iter().rev() {
        host.worked(NOW, KEY, work.run(), &mut world);
    }
    host.worked(NOW, Key::new(2, 0), Work::new(1, |one: u64| one).run(), &mut world);
    host.settle(NOW, &mut world);
    assert_eq!(take(&mut host.port(puppet).0), ["event 31", "event 21"]);
}

#[test]
fn the_effects_of_a_burst_leave_when_they_are_asked_for_and_in_order() {
    let (mut host, puppet, mut world) = host();
    host.request(NOW, puppet, Ask::Gates, &mut world);
    assert!(world.0.is_empty() && !host.cell(puppet).is_settled());
    host.flush(&mut world);
    assert_eq!(take(&mut world.0), ["append p1/g0 t1", "append p1/g0 t2", "send n2 3"]);
    assert!(host.cell(puppet).is_settled());
    host.request(NOW, puppet, Ask::Gates, &mut world);
    assert_eq!(host.settle(NOW, &mut world), Some(BurstId(1)), "one burst of the journal");
    assert_eq!(take(&mut world.0), ["append p1/g0 t3", "append p1/g0 t4", "send n2 3"]);
}

#[test]
fn a_burst_becomes_durable_whole_and_in_order() {
    let (mut host, puppet, mut world) = host();
    host.request(NOW, puppet, Ask::Gates, &mut world);
    host.settle(NOW, &mut world);
    host.request(NOW, puppet, Ask::Gates, &mut world);
    host.settle(NOW, &mut world);
    assert!(!host.is_open(), "too much waits for the disk");
    host.durable(NOW, BurstId(2), &mut world);
    assert!(host.is_open());
    host.settle(NOW, &mut world);
    let heard = take(&mut host.port(puppet).0);
    assert_eq!(heard, ["answer 0..=0 4", "answer 1..=1 4", "event 102", "event 104"]);
}

#[test]
fn requests_are_numbered_consecutively_and_may_share_an_answer() {
    let (mut host, puppet, mut world) = host();
    host.request(NOW, puppet, Ask::Sleep(NOW), &mut world);
    host.request(NOW, puppet, Ask::Pair, &mut world);
    host.settle(NOW, &mut world);
    assert_eq!(take(&mut host.port(puppet).0), ["answer 0..=1 5"]);
}

#[test]
fn nothing_leaves_a_machine_that_has_stopped() {
    let (mut host, puppet, mut world) = host();
    host.request(NOW, puppet, Ask::Halt, &mut world);
    assert_eq!(world.0.last().unwrap(), "halted p1/g0", "at once, and nothing is fed to it again");
    host.request(NOW, puppet, Ask::Gates, &mut world);
    host.settle(NOW, &mut world);
    host.durable(NOW, BurstId(1), &mut world);
    host.request(NOW, puppet, Ask::Gates, &mut world);
    assert_eq!(take(&mut world.0), ["append p1/g0 t1", "halted p1/g0"]);
    assert_eq!(take(&mut host.port(puppet).0), ["halted a rule: a reason"]);
    assert_eq!(host.deadline(), None);
}

#[test]
fn tickets_go_on_after_a_restart() {
    let (mut host, puppet, mut world) = host();
    let record = encode_record(&Word(9), &mut BytesMut::new());
    host.replay(KEY, Ticket(7), &record).unwrap();
    assert!(host.replay(KEY, Ticket(7), &record).is_err(), "tickets increase");
    assert!(host.replay(Key::new(2, 0), Ticket(1), &record).is_err(), "nobody's record");
    host.skip_released(KEY, Ticket(20));
    host.start(NOW, &mut world);
    host.request(NOW, puppet, Ask::Gates, &mut world);
    host.settle(NOW, &mut world);
    assert_eq!(host.machine(puppet).replayed, [9]);
    assert_eq!(take(&mut world.0)[0], "append p1/g0 t21");
}

#[test]
fn timers_fire_when_due_and_frames_for_nobody_are_counted() {
    let (mut host, puppet, mut world) = host();
    host.request(NOW, puppet, Ask::Sleep(Time::from_millis(5)), &mut world);
    host.timer(Time::from_millis(4), &mut world);
    host.settle(NOW, &mut world);
    assert!(host.port(puppet).0.is_empty());
    host.timer(Time::from_millis(5), &mut world);
    host.settle(NOW, &mut world);
    assert_eq!(take(&mut host.port(puppet).0), ["event 8"]);

    let from = Peer { node: NodeId(2), incarnation: Incarnation(1) };
    let scratch = &mut BytesMut::new();
    host.message(NOW, from, &encode_message(KEY, &Word(3), scratch), &mut world);
    host.message(NOW, from, &encode_message(Key::new(9, 9), &Word(3), scratch), &mut world);
    host.message(NOW, from, &Frame::default(), &mut world);
    host.settle(NOW, &mut world);
    assert_eq!(take(&mut host.port(puppet).0), ["event 3"]);
    let stats = host.stats();
    assert_eq!((stats.frames, stats.strangers, stats.malformed), (3, 1, 1));
}
