//! What must hold of nodes that watch each other, one function an invariant, each with its name.
//!
//! Each has a test that shows it a broken thing and a good one.

use std::time::Duration;

use quorate_detector::{Event, PeerStatus, Status};
use quorate_transport::{Incarnation, NodeId, Time};

/// What one node thinks of another.
pub(crate) type View = (NodeId, NodeId, Status);

/// F1 completeness and F2 accuracy, of one node that is cut off: who is on the other side counts
/// as failed, who is not stays trusted.
pub(crate) fn f1_f2(victim: NodeId, views: &[View]) -> Result<(), String> {
    for (node, peer, status) in views {
        let cut = *node == victim || *peer == victim;
        if *status != if cut { Status::Failed } else { Status::Alive } {
            let id = if cut { "F1" } else { "F2" };
            return Err(format!("{id} {victim} is cut off, {node} thinks {peer} {status:?}"));
        }
    }
    Ok(())
}

/// F2 and F4: while all is calm all trust all, and nobody changes its mind.
pub(crate) fn f2_f4(verdicts: u64, views: &[View]) -> Result<(), String> {
    if verdicts == 0 && views.iter().all(|(.., status)| *status == Status::Alive) {
        return Ok(());
    }
    Err(format!("F2, F4 {verdicts} verdicts in the calm: {views:?}"))
}

/// F2: a verdict takes all of its time. `least` is what a fixed monitor waits before it convicts.
pub(crate) fn f2_takes_its_time(
    now: Time,
    heard: Option<Time>,
    least: Duration,
) -> Result<(), String> {
    match heard {
        Some(at) if now.since(at) < least => {
            Err(format!("F2 a peer was heard at {at:?} and is convicted at {now:?}"))
        }
        _ => Ok(()),
    }
}

/// F3: Alive, Suspect, Failed, and back by a heartbeat alone.
pub(crate) fn f3(before: Status, event: &Event) -> Result<(), String> {
    let legal = match event {
        Event::Suspected { .. } => before == Status::Alive,
        Event::Failed { .. } => before == Status::Suspect,
        Event::Trusted { was, .. } => *was == before && before != Status::Alive,
        Event::Restarted { .. } => true,
    };
    if legal { Ok(()) } else { Err(format!("F3 {event:?} of a peer that was {before:?}")) }
}

/// F3 and F9: a restart is told once, in order, and only where there was one.
pub(crate) fn f3_restarted(
    before: Incarnation,
    told: Incarnation,
    lives: Incarnation,
) -> Result<(), String> {
    if told > before && told <= lives && told > Incarnation(1) {
        return Ok(());
    }
    Err(format!("F3 life {told:?} was told after {before:?}, the peer is in {lives:?}"))
}

/// F6: who was not awake for so long convicts nobody.
pub(crate) fn f6(now: Time, woke: Time, failure_after: Duration) -> Result<(), String> {
    if now.since(woke) >= failure_after {
        return Ok(());
    }
    Err(format!("F6 a node woke at {woke:?} and convicts at {now:?}"))
}

/// F7 and F9: a level is a number, and nothing is known of a life that has not begun.
pub(crate) fn f7(status: &PeerStatus, lives: Incarnation) -> Result<(), String> {
    if status.level.is_finite() && status.level >= 0.0 && status.incarnation <= lives {
        return Ok(());
    }
    Err(format!("F7 {status:?} of a peer in life {lives:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);
    const THREE: NodeId = NodeId(3);
    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn breaks<T>(id: &str, result: Result<T, String>) {
        let what = result.err().unwrap_or_else(|| panic!("{id} did not see it"));
        assert!(what.starts_with(id), "{what}");
    }

    #[test]
    fn f1_f2_see_who_is_trusted_wrongly_and_who_is_convicted_wrongly() {
        let good = [(ONE, TWO, Status::Failed), (THREE, TWO, Status::Failed)];
        let well = (ONE, THREE, Status::Alive);
        f1_f2(TWO, &[good[0], good[1], well]).unwrap();
        breaks("F1", f1_f2(TWO, &[good[0], (THREE, TWO, Status::Suspect), well]));
        breaks("F1", f1_f2(TWO, &[(TWO, ONE, Status::Alive)]));
        breaks("F2", f1_f2(TWO, &[good[0], (ONE, THREE, Status::Suspect)]));
    }

    #[test]
    fn f2_f4_see_doubts_in_the_calm() {
        f2_f4(0, &[(ONE, TWO, Status::Alive)]).unwrap();
        breaks("F2", f2_f4(1, &[(ONE, TWO, Status::Alive)]));
        breaks("F2", f2_f4(0, &[(ONE, TWO, Status::Suspect)]));
    }

    #[test]
    fn f2_and_f6_see_haste() {
        f2_takes_its_time(at(50), Some(at(10)), 40 * MS).unwrap();
        f2_takes_its_time(at(50), None, 40 * MS).unwrap();
        breaks("F2", f2_takes_its_time(at(49), Some(at(10)), 40 * MS));
        f6(at(50), at(10), 40 * MS).unwrap();
        breaks("F6", f6(at(49), at(10), 40 * MS));
    }

    #[test]
    fn f3_sees_steps_that_are_left_out() {
        let suspected = Event::Suspected { node: ONE, last_heartbeat: None };
        let failed = Event::Failed { node: ONE, last_heartbeat: None };
        let trusted = Event::Trusted { node: ONE, was: Status::Failed };
        f3(Status::Alive, &suspected).unwrap();
        f3(Status::Suspect, &failed).unwrap();
        f3(Status::Failed, &trusted).unwrap();
        breaks("F3", f3(Status::Failed, &suspected));
        breaks("F3", f3(Status::Alive, &failed));
        breaks("F3", f3(Status::Suspect, &trusted));
    }

    #[test]
    fn f3_sees_restarts_that_were_none() {
        let told =
            |before, told| f3_restarted(Incarnation(before), Incarnation(told), Incarnation(3));
        told(0, 2).unwrap();
        told(2, 3).unwrap();
        breaks("F3", told(2, 2));
        breaks("F3", told(3, 4));
        breaks("F3", told(0, 1));
    }

    #[test]
    fn f7_sees_what_is_no_number_and_a_life_to_come() {
        let status = |level, life| PeerStatus {
            node: ONE,
            status: Status::Alive,
            level,
            last_heartbeat: None,
            incarnation: Incarnation(life),
        };
        f7(&status(0.5, 2), Incarnation(2)).unwrap();
        breaks("F7", f7(&status(f64::NAN, 2), Incarnation(2)));
        breaks("F7", f7(&status(f64::INFINITY, 2), Incarnation(2)));
        breaks("F7", f7(&status(0.5, 3), Incarnation(2)));
    }
}
