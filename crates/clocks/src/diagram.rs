//! A space-time diagram as text: one column a node, time running down, one line an event.
//!
//! Pure: events in, lines out. Lines are never wider than asked for; one for an event, one above
//! and at most one below.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_transport::NodeId;

/// How wide a node's column is at most.
const COLUMN_MAX: usize = 12;
/// How narrow, before nodes are left out.
const COLUMN_MIN: usize = 5;
/// How much of a line is left to the notes where columns can be narrower for it.
const NOTE_MIN: usize = 20;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Something of the node's own.
    Local,
    /// The node sent this message. A number names one message of one diagram.
    Send(u64),
    /// The node received this message; once for each copy.
    Receive(u64),
}

/// One event, in the order in which they are to be drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where.
    pub node: NodeId,
    /// What.
    pub what: What,
    /// What stands beside it: a stamp, a name. Cut where it does not fit.
    pub note: String,
}

/// Draws `events`, which are in an order that could have been (a receipt after its send), in lines
/// of at most `width` characters. Nodes that do not fit are left out, and the last line says so.
///
/// ```text
/// n1          n2          n3
/// ○           │           │           send 1       [n1:1]
/// ├────1─────▶●           │           receive 1    [n1:1 n2:1]
/// │           │           ●           a local event
/// ```
#[must_use]
pub fn render(events: &[Event], width: usize) -> Vec<String> {
    let nodes: BTreeSet<NodeId> = events.iter().map(|event| event.node).collect();
    let layout = Layout::new(&nodes, width);
    let mut lines = Vec::with_capacity(events.len() + 2);
    lines.push(layout.head());
    let mut sent: BTreeMap<u64, NodeId> = BTreeMap::new();
    for event in events {
        let from = match event.what {
            What::Receive(message) => sent.get(&message).copied(),
            What::Send(message) => {
                sent.insert(message, event.node);
                None
            }
            What::Local => None,
        };
        lines.extend(layout.line(event, from));
    }
    let omitted = nodes.len() - layout.nodes.len();
    if omitted > 0 {
        lines.push(cut(&format!("({omitted} nodes do not fit)"), width));
    }
    lines
}

/// Which column each node has, and how wide they are.
struct Layout {
    nodes: Vec<NodeId>,
    column: usize,
    width: usize,
}

impl Layout {
    fn new(nodes: &BTreeSet<NodeId>, width: usize) -> Self {
        let count = nodes.len().max(1);
        let column = (width.saturating_sub(NOTE_MIN) / count).clamp(COLUMN_MIN, COLUMN_MAX);
        let nodes = nodes.iter().copied().take(width / column).collect();
        Self { nodes, column, width }
    }

    fn head(&self) -> String {
        let mut line = String::new();
        for node in &self.nodes {
            let name = cut(&format!("{node}"), self.column - 1);
            line.push_str(&format!("{name:<width$}", width = self.column));
        }
        self.finish(line, "")
    }

    fn place(&self, node: NodeId) -> Option<usize> {
        self.nodes.binary_search(&node).ok()
    }

    fn line(&self, event: &Event, from: Option<NodeId>) -> Option<String> {
        let at = self.place(event.node)?;
        let mut cells: Vec<char> = Vec::with_capacity(self.nodes.len() * self.column);
        for column in 0..self.nodes.len() {
            let mark = match event.what {
                _ if column != at => '│',
                What::Send(_) => '○',
                What::Local | What::Receive(_) => '●',
            };
            cells.push(mark);
            cells.extend(core::iter::repeat_n(' ', self.column - 1));
        }
        let what = match event.what {
            What::Local => String::new(),
            What::Send(message) => format!("send {message}"),
            What::Receive(message) => {
                if let Some(from) = from.and_then(|from| self.place(from)) {
                    self.arrow(&mut cells, from, at, message);
                }
                format!("receive {message}")
            }
        };
        let note = match (what.is_empty(), event.note.is_empty()) {
            (true, _) => event.note.clone(),
            (false, true) => what,
            (false, false) => format!("{what:<12} {}", event.note),
        };
        Some(self.finish(cells.into_iter().collect(), &note))
    }

    /// Draws the message from column `from` to column `to`, with its number in the middle.
    fn arrow(&self, cells: &mut [char], from: usize, to: usize, message: u64) {
        let (from, to) = (from * self.column, to * self.column);
        if from == to {
            return;
        }
        let (left, right) = (from.min(to), from.max(to));
        for (at, cell) in cells.iter_mut().enumerate().take(right).skip(left + 1) {
            *cell = if at % self.column == 0 { '┼' } else { '─' };
        }
        let (head, foot) = if from < to { ('▶', '├') } else { ('◀', '┤') };
        cells[from] = foot;
        cells[if from < to { right - 1 } else { left + 1 }] = head;
        let number = format!("{message}");
        // In the column beside the sender, where two arrows never differ in how they are drawn.
        let room = self.column - 3;
        if number.len() <= room {
            let start = if from < to { from + 1 } else { from - self.column + 2 };
            let start = start + (room - number.len()) / 2;
            for (at, digit) in number.chars().enumerate() {
                cells[start + at] = digit;
            }
        }
    }

    fn finish(&self, mut line: String, note: &str) -> String {
        line.extend(note.chars().map(|c| if c.is_control() { ' ' } else { c }));
        let mut line = cut(&line, self.width);
        line.truncate(line.trim_end().len());
        line
    }
}

/// The first `width` characters, the last of them an ellipsis where some are cut off.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return String::from(text);
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: u64, what: What, note: &str) -> Event {
        Event { node: NodeId(node), what, note: String::from(note) }
    }

    fn exchange() -> Vec<Event> {
        Vec::from([
            event(1, What::Send(1), "[n1:1]"),
            event(3, What::Local, "a local event"),
            event(2, What::Receive(1), "[n1:1 n2:1]"),
            event(2, What::Send(2), ""),
            event(3, What::Send(3), "lost"),
            event(1, What::Receive(2), ""),
            event(3, What::Receive(1), "a copy"),
            event(1, What::Receive(9), "from before"),
            event(1, What::Receive(3), ""),
        ])
    }

    #[test]
    fn an_exchange_is_drawn_line_by_line() {
        let lines = render(&exchange(), 60);
        let expected = [
            "n1          n2          n3",
            "○           │           │           send 1       [n1:1]",
            "│           │           ●           a local event",
            "├────1─────▶●           │           receive 1    [n1:1 n2:1]",
            "│           ○           │           send 2",
            "│           │           ○           send 3       lost",
            "●◀────2─────┤           │           receive 2",
            "├────1──────┼──────────▶●           receive 1    a copy",
            "●           │           │           receive 9    from before",
            "●◀──────────┼─────3─────┤           receive 3",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn no_line_is_wider_than_asked_for() {
        for width in 0..80 {
            let lines = render(&exchange(), width);
            assert!(lines.len() <= exchange().len() + 2);
            for line in lines {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn nodes_that_do_not_fit_are_left_out_and_counted() {
        let lines = render(&exchange(), 12);
        let expected = ["n1   n2", "○    │    s…", "├1──▶●    r…", "│    ○    s…", "●◀2──┤    r…"];
        assert_eq!(lines[..5], expected);
        assert_eq!(lines.last().unwrap(), "(1 nodes do…");
    }

    #[test]
    fn a_note_cannot_break_its_line_and_a_long_number_stays_out_of_the_arrow() {
        let message = u64::MAX;
        let events = [
            event(1, What::Send(message), "two\nlines"),
            event(2, What::Receive(message), ""),
            event(1, What::Send(3), ""),
            event(1, What::Receive(3), "its own"),
        ];
        let lines = render(&events, 70);
        assert_eq!(lines[1], format!("○           │           send {message} two lines"));
        assert_eq!(lines[2], format!("├──────────▶●           receive {message}"));
        assert_eq!(lines[4], "●           │           receive 3    its own");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(render(&[], 40), [""]);
    }
}
