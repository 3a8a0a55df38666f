//! The article's handler: it permits whoever asks unless it holds the resource itself, though it
//! may be waiting with an earlier stamp. Two enter at once, and the check sees it.

#[path = "support/stage.rs"]
mod stage;

use quorate_dmutex::{Config, Error, Event, Message, Record, Reply, Request, RicartAgrawala};
use quorate_sim::script::Script;
use quorate_transport::{
    Digest, Effect, Input, Machine, NodeId, Outbox, Rename, Start, Ticket, Time,
};
use stage::{N1, N2, N3, name};

#[derive(Clone)]
struct Article(RicartAgrawala);

fn convert(effect: Effect<RicartAgrawala>) -> Effect<Article> {
    match effect {
        Effect::Persist { ticket, record } => Effect::Persist { ticket, record },
        Effect::Send { to, message, after } => Effect::Send { to, message, after },
        Effect::Emit { event, after } => Effect::Emit { event, after },
        Effect::Answer { ids, reply, after } => Effect::Answer { ids, reply, after },
        Effect::Release { upto, after } => Effect::Release { upto, after },
        Effect::Store(op) => Effect::Store(op),
        Effect::Work(work) => Effect::Work(work),
        Effect::Halt(halt) => Effect::Halt(halt),
    }
}

impl Machine for Article {
    type Config = Config;
    type Error = Error;
    type Message = Message;
    type Record = Record;
    type Request = Request;
    type Reply = Reply;
    type Event = Event;

    fn new(start: Start, config: Config) -> Result<Self, Error> {
        RicartAgrawala::new(start, config).map(Self)
    }

    fn replay(&mut self, at: Ticket, record: Record) -> Result<(), Error> {
        self.0.replay(at, record)
    }

    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let input = match input {
            Input::Message { from, message } => {
                if let Message::Request { name, stamp, .. } = &message
                    && self.0.wants(name).is_some()
                {
                    // The planted bug: waiting is no reason to put anyone off.
                    let (name, stamp, to) = (name.clone(), *stamp, from.incarnation);
                    out.send(from.node, Message::Permission { name, stamp, to });
                }
                Input::Message { from, message }
            }
            Input::Started => Input::Started,
            Input::Timer => Input::Timer,
            Input::Request { id, request } => Input::Request { id, request },
            _ => return,
        };
        let inner = &mut self.0;
        let run = |inner_out: &mut Outbox<_>| inner.handle(now, input, inner_out);
        out.nest(&mut Outbox::default(), run, |effect, out| out.push(convert(effect)));
    }

    fn deadline(&self) -> Option<Time> {
        self.0.deadline()
    }

    fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        self.0.digest(now, rename, into);
    }
}

/// Two ask at once, each message arrives: who holds it?
fn holders<M>(view: impl Fn(&M) -> &RicartAgrawala) -> Vec<NodeId>
where
    M: Machine<Config = Config, Request = Request>,
{
    let mut script = Script::new(3, |start| {
        M::new(start, Config::new([N1, N2, N3])).expect("a valid configuration")
    });
    script.run();
    for node in [N1, N2] {
        script.request(node, Request::Acquire { name: name("a"), patience: None });
    }
    script.run();
    let holds = |node: &NodeId| view(script.node(*node)).held().any(|(held, _)| *held == name("a"));
    script.nodes().filter(holds).collect()
}

#[test]
fn a_node_that_permits_while_it_waits_lets_two_enter() {
    assert_eq!(holders::<Article>(|article| &article.0), [N1, N2]);
    assert_eq!(holders::<RicartAgrawala>(|mutex| mutex), [N1]);
}
