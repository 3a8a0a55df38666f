//! The chronicle under the laws of every machine, and its own rules, one by one.

use quorate_clocks::Causality;
use quorate_node::chronicle::{Chronicle, Config, Happening, Kind, Message, Reply, Request};
use quorate_sim::laws::{Subject, check};
use quorate_transport::{
    Effect, Incarnation, Input, Key, Machine, NodeId, Outbox, Peer, RequestId, Rng, Start, Time,
    WireError, decode_message, encode_message,
};

fn chronicle(node: u64, keep: usize) -> Chronicle {
    let start = Start { node: NodeId(node), incarnation: Incarnation(1), seed: 0, now: Time::ZERO };
    let peers = (1..=3).filter(|peer| *peer != node).map(NodeId);
    Chronicle::new(start, Config { keep, ..Config::new(peers) }).expect("a valid configuration")
}

fn peer(node: u64) -> Peer {
    Peer { node: NodeId(node), incarnation: Incarnation(1) }
}

/// Asks, and gives the answer and what was sent.
fn ask(of: &mut Chronicle, request: Request) -> (Reply, Vec<(NodeId, Message)>) {
    let mut out = Outbox::default();
    of.handle(Time::ZERO, Input::Request { id: RequestId(0), request }, &mut out);
    let (mut reply, mut sent) = (None, Vec::new());
    for effect in out.drain() {
        match effect {
            Effect::Answer { reply: said, .. } => reply = Some(said),
            Effect::Send { to, message, .. } => sent.push((to, message)),
            other => panic!("{other:?}"),
        }
    }
    (reply.expect("every request is answered"), sent)
}

fn say(of: &mut Chronicle, to: u64, word: &str) -> Message {
    let request = Request::Say { to: NodeId(to), word: word.into() };
    let (reply, mut sent) = ask(of, request);
    assert_eq!((reply, sent.len()), (Reply::Done, 1));
    sent.remove(0).1
}

fn tell(to: &mut Chronicle, from: u64, message: Message) {
    let mut out = Outbox::default();
    to.handle(Time::ZERO, Input::Message { from: peer(from), message }, &mut out);
    assert!(out.as_slice().is_empty(), "a word needs no answer");
}

fn story(of: &mut Chronicle) -> Vec<Happening> {
    match ask(of, Request::Story).0 {
        Reply::Story(story) => story,
        other => panic!("{other:?}"),
    }
}

/// A message of some node of its own, with whatever stamps that has come to.
fn message(rng: &mut Rng) -> Message {
    let mut other = chronicle(2 + rng.below(2), 4);
    for _ in 0..rng.below(4) {
        ask(&mut other, Request::Note { word: "x".into() });
    }
    say(&mut other, 1, &"w".repeat(rng.below(65) as usize))
}

#[test]
fn the_chronicle_keeps_the_laws_whatever_it_is_told() {
    let subject = Subject {
        make: &|start: Start| {
            let peers = (1..=5).map(NodeId).filter(|peer| *peer != start.node);
            Chronicle::new(start, Config { keep: 8, ..Config::new(peers) }).expect("valid")
        },
        message: &message,
        request: &|rng: &mut Rng| match rng.below(4) {
            0 => Request::Story,
            1 => Request::Say { to: NodeId(rng.below(7)), word: "word".into() },
            _ => Request::Note { word: "n".repeat(rng.below(80) as usize) },
        },
        stored: &|_, _| None,
        contradiction: &|_, _| Ok(()),
        effects_max: 10,
    };
    for seed in 0..300 {
        if let Err(broken) = check(&subject, seed, 200) {
            panic!("{broken}");
        }
    }
}

#[test]
fn what_is_heard_happened_after_what_was_said_and_strangers_are_not_heard() {
    let (mut one, mut two) = (chronicle(1, 9), chronicle(2, 9));
    let hello = say(&mut one, 2, "hello");
    ask(&mut two, Request::Note { word: "works".into() });
    tell(&mut two, 1, hello.clone());
    let (said, heard) = (story(&mut one).remove(0), story(&mut two));
    assert_eq!(said.vector.compare(&heard[0].vector), Causality::Concurrent);
    assert_eq!(said.vector.compare(&heard[1].vector), Causality::Before);
    assert!(said.time < heard[1].time);
    let (Kind::Said(sent), Kind::Heard(came)) = (said.kind, heard[1].kind) else {
        panic!("{heard:?}")
    };
    assert_eq!(sent, came, "one message has one name");
    tell(&mut two, 7, hello);
    assert_eq!((story(&mut two).len(), two.stats().refused), (2, 1));
}

#[test]
fn a_stamp_that_claims_more_of_this_node_than_there_was_changes_nothing() {
    let (mut one, mut two) = (chronicle(1, 9), chronicle(2, 9));
    let first = say(&mut one, 2, "a");
    tell(&mut two, 1, first);
    let back = say(&mut two, 1, "b");
    // The same node in the same life, without its past: what `back` knows of it has not been.
    let mut young = chronicle(1, 9);
    tell(&mut young, 2, back);
    assert_eq!((story(&mut young).len(), young.stats().refused), (0, 1));
    let note = Request::Note { word: "goes on".into() };
    assert_eq!(ask(&mut young, note).0, Reply::Done);
    assert_eq!(story(&mut young)[0].time.0, 1, "neither clock was moved");
}

#[test]
fn a_story_is_bounded_and_too_long_a_word_or_a_stranger_is_refused() {
    let mut one = chronicle(1, 3);
    for number in 0..10 {
        ask(&mut one, Request::Note { word: format!("{number}") });
    }
    let words: Vec<_> = story(&mut one).into_iter().map(|told| told.word).collect();
    assert_eq!(words, ["7", "8", "9"]);
    let long = "x".repeat(65);
    let refused = ask(&mut one, Request::Note { word: long }).0;
    assert_eq!(refused, Reply::Refused("word: has at most 64 bytes"));
    let stranger = Request::Say { to: NodeId(1), word: "me".into() };
    assert_eq!(ask(&mut one, stranger).0, Reply::Refused("to: is a peer"));
    assert_eq!(one.stats().refused, 2);
}

#[test]
fn a_configuration_that_breaks_a_rule_is_named() {
    let start = Start { node: NodeId(1), incarnation: Incarnation(1), seed: 0, now: Time::ZERO };
    let good = Config::new([NodeId(2)]);
    for (config, want) in [
        (Config::new([NodeId(1)]), "peers: does not hold this node"),
        (Config { keep: 0, ..good.clone() }, "keep: is 1 to 65,536"),
        (Config { keep: usize::MAX, ..good }, "keep: is 1 to 65,536"),
    ] {
        assert_eq!(Chronicle::new(start, config).unwrap_err().to_string(), want);
    }
}

#[test]
fn a_message_comes_back_as_it_was_and_nothing_malformed_panics() {
    let mut rng = Rng::new(1);
    let mut scratch = bytes::BytesMut::new();
    for _ in 0..2_000 {
        let message = message(&mut rng);
        let frame = encode_message(Key::new(8, 0), &message, &mut scratch);
        assert_eq!(decode_message::<Message>(&frame), Ok(message));
        let mut bad = frame.clone();
        let mut head = bytes::BytesMut::from(&frame.head[..]);
        let at = rng.below(head.len() as u64) as usize;
        head[at] ^= 1 << rng.below(8);
        bad.head = head.freeze();
        let read: Result<Message, WireError> = decode_message(&bad);
        drop(read);
    }
}
