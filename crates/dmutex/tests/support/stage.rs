//! A few nodes moved by hand.
#![allow(dead_code, reason = "each test uses some of it")]

use quorate_dmutex::{Config, Fence, Name, Reply, Request, RicartAgrawala};
use quorate_sim::script::Script;
use quorate_transport::{Machine, NodeId, RequestId};

pub(crate) type Stage = Script<'static, RicartAgrawala>;

pub(crate) const N1: NodeId = NodeId(1);
pub(crate) const N2: NodeId = NodeId(2);
pub(crate) const N3: NodeId = NodeId(3);

/// `count` nodes that have not joined yet.
pub(crate) fn strangers(count: u64) -> Stage {
    Script::new(count, move |start| {
        let config = Config::new((1..=count).map(NodeId));
        RicartAgrawala::new(start, config).expect("a valid configuration")
    })
}

/// `count` nodes that all take part.
pub(crate) fn stage(count: u64) -> Stage {
    let mut stage = strangers(count);
    stage.run();
    stage.take_story();
    stage
}

pub(crate) fn name(text: &str) -> Name {
    Name::try_from(text).expect("a short name")
}

pub(crate) fn acquire(stage: &mut Stage, node: NodeId, text: &str) -> RequestId {
    stage.request(node, Request::Acquire { name: name(text), patience: None })
}

pub(crate) fn release(stage: &mut Stage, node: NodeId, acquired: RequestId) -> RequestId {
    stage.request(node, Request::Release { acquired })
}

pub(crate) fn cancel(stage: &mut Stage, node: NodeId, waiting: RequestId) -> RequestId {
    stage.request(node, Request::Cancel { waiting })
}

/// The fence of an acquired request, once it is held.
pub(crate) fn fence(stage: &Stage, node: NodeId, id: RequestId) -> Option<Fence> {
    match stage.answer(node, id) {
        Some(Reply::Held { fence }) => Some(*fence),
        _ => None,
    }
}

/// Who holds it now.
pub(crate) fn holders(stage: &Stage, text: &str) -> Vec<NodeId> {
    let holds = |node: &NodeId| stage.node(*node).held().any(|(held, _)| *held == name(text));
    stage.nodes().filter(|node| stage.is_up(*node)).filter(holds).collect()
}
