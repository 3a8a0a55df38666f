//! Nodes tell each other things; the stamps say what happened before what.

use std::collections::BTreeMap;

use anyhow::bail;
use quorate_clocks::diagram::{Event, What, render};
use quorate_transport::NodeId;

use super::{Tour, until};
use quorate_node::wire::{Drill, Report, Told};

const SYSTEM: &str = "clocks";
/// Characters of a line of the diagram.
const WIDTH: usize = 96;

impl Tour<'_> {
    pub(super) async fn order(&mut self) -> anyhow::Result<()> {
        self.page(
            "Clocks",
            "Real messages between the processes, with the stamps they carried. Time runs down;\n\
             the number is Lamport's, the vector says how much of each node's past is known.",
        );
        let [one, two, three] = self.three();
        self.say(one, None, "begins").await?;
        self.say(one, Some(two), "hello").await?;
        self.heard(two, 1).await?;
        self.say(two, Some(three), "pass it on").await?;
        self.heard(three, 1).await?;
        // Neither knows of the other's yet.
        self.say(one, None, "works").await?;
        self.say(three, None, "works").await?;
        self.say(three, Some(one), "done").await?;
        self.say(two, Some(one), "done").await?;
        self.heard(one, 2).await?;
        self.say(one, Some(three), "thanks").await?;
        self.heard(three, 2).await?;

        let mut all: Vec<(u64, Told)> = Vec::new();
        for node in [one, two, three] {
            all.extend(self.story(node).await?.into_iter().map(|told| (node, told)));
        }
        all.sort_by_key(|(node, told)| (told.time, *node));
        for line in diagram(&all) {
            println!("  {line}");
        }
        println!();
        let (mut ordered, mut concurrent, mut wrong) = (0, 0, 0);
        for (at, (_, a)) in all.iter().enumerate() {
            for (_, b) in &all[at + 1..] {
                match (is_within(a, b), is_within(b, a)) {
                    (true, false) => ordered += 1,
                    (false, false) => concurrent += 1,
                    // In Lamport's order a stands before b: b cannot have happened before.
                    _ => wrong += 1,
                }
            }
        }
        let what =
            format!("of {ordered} pairs where one happened first, Lamport's order has none wrong");
        self.check(SYSTEM, wrong == 0 && ordered > 0, what)?;
        let what = format!("the vectors tell {concurrent} pairs as concurrent");
        self.check(SYSTEM, concurrent > 0, what)?;
        let late = all.iter().filter(|(_, told)| told.heard).all(|(_, heard)| {
            let is_send = |(_, told): &&(u64, Told)| !told.heard && told.message == heard.message;
            all.iter().find(is_send).is_some_and(|(_, sent)| {
                sent.time < heard.time && is_within(sent, heard) && !is_within(heard, sent)
            })
        });
        self.check(SYSTEM, late, "every receipt is after its send, by both clocks")
    }

    async fn say(&self, node: u64, to: Option<u64>, word: &str) -> anyhow::Result<()> {
        match self.drill(node, Drill::Say { to, word: word.into() }).await? {
            Report::Done => Ok(()),
            other => bail!("node {node}: {other:?}"),
        }
    }

    async fn story(&self, node: u64) -> anyhow::Result<Vec<Told>> {
        match self.drill(node, Drill::Story).await? {
            Report::Story(story) => Ok(story),
            other => bail!("node {node}: {other:?}"),
        }
    }

    /// Waits until a node has heard so many words.
    async fn heard(&self, node: u64, count: usize) -> anyhow::Result<()> {
        let what = format!("node {node} hears {count} words");
        until(&what, async || {
            let story = self.story(node).await.ok()?;
            (story.iter().filter(|told| told.heard).count() >= count).then_some(())
        })
        .await
    }
}

/// All that `a` knows, `b` knows too: `a` is `b`, or happened before it.
fn is_within(a: &Told, b: &Told) -> bool {
    a.vector.iter().all(|(node, life, count)| {
        b.vector.iter().any(|(n, l, known)| (n, l) == (node, life) && known >= count)
    })
}

fn diagram(all: &[(u64, Told)]) -> Vec<String> {
    let mut numbers: BTreeMap<(u64, u64, u64), u64> = BTreeMap::new();
    let events = all.iter().map(|(node, told)| {
        let what = told.message.map_or(What::Local, |message| {
            let next = numbers.len() as u64 + 1;
            let number = *numbers.entry(message).or_insert(next);
            if told.heard { What::Receive(number) } else { What::Send(number) }
        });
        let vector = told.vector.iter().map(|(node, _, count)| format!("n{node}:{count}"));
        let vector = vector.collect::<Vec<_>>().join(" ");
        let note = format!("{:<12} {:>3}  [{vector}]", told.word, told.time);
        Event { node: NodeId(*node), what, note }
    });
    render(&events.collect::<Vec<_>>(), WIDTH)
}
