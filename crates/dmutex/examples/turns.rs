//! Five nodes take turns at one resource; prints who holds it, the fences, and what it cost.

use quorate_dmutex::{Config, Name, Request, RicartAgrawala};
use quorate_sim::script::Script;
use quorate_transport::{Machine, NodeId};

fn main() {
    let nodes = 5;
    let mut script = Script::new(nodes, |start| {
        let config = Config::new((1..=nodes).map(NodeId));
        RicartAgrawala::new(start, config).expect("a valid configuration")
    });
    script.run();
    let name = Name::try_from("the door").expect("a short name");
    let ids: Vec<_> = script
        .nodes()
        .map(|node| {
            let request = Request::Acquire { name: name.clone(), patience: None };
            (node, script.request(node, request))
        })
        .collect();
    for _ in &ids {
        script.run();
        let holder = script.nodes().find_map(|node| {
            let (_, fence) = script.node(node).held().next()?;
            Some((node, fence))
        });
        let (node, fence) = holder.expect("somebody's turn has come");
        println!("{node} holds {name}, fence {fence:?}");
        let acquired = ids[node.0 as usize - 1].1;
        script.request(node, Request::Release { acquired });
    }
    let stats = script.nodes().map(|node| script.node(node).status().stats);
    let sent: u64 = stats.map(|s| s.requests_sent + s.permissions_sent).sum();
    println!("{sent} messages for {nodes} entries: 2(N-1) each");
}
