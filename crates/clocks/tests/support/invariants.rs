//! What must hold of stamps, one function an invariant, each with its name.
//!
//! Each compares the clocks of a whole run with what really happened before what.

use quorate_clocks::{Causality, HlcTime};

use super::{EPSILON_NANOS, Event, RESERVE};

/// K1: what happened before has the earlier stamp, and no two events share one.
pub(crate) fn k1(events: &[Event]) -> Result<(), String> {
    for (f, later) in events.iter().enumerate() {
        for (e, event) in events.iter().enumerate().take(f) {
            if later.before_by_node.has(e) && event.lamport.time >= later.lamport.time {
                return Err(format!("K1 {e} -> {f}: {} and {}", event.lamport, later.lamport));
            }
            if event.lamport == later.lamport {
                return Err(format!("K1 {e} and {f} are both {}", event.lamport));
            }
        }
    }
    Ok(())
}

/// K2: the order of the vectors is happened-before, in both directions.
pub(crate) fn k2(events: &[Event]) -> Result<(), String> {
    for (f, later) in events.iter().enumerate() {
        for (e, event) in events.iter().enumerate().take(f) {
            let truth = match later.before_by_life.has(e) {
                true => Causality::Before,
                false => Causality::Concurrent,
            };
            let (told, dominates) =
                (event.vector.compare(&later.vector), later.vector.dominates(&event.vector));
            if told != truth || dominates != (truth == Causality::Before) {
                let (a, b) = (&event.vector, &later.vector);
                return Err(format!("K2 {e}, {f} are {truth:?}, not {told:?}: {a} {b}"));
            }
        }
    }
    Ok(())
}

/// K4: agrees with happened-before; its time is the greatest wall time known, so never behind the
/// own clock and ahead of it by no more than the clocks differ; its counter counts events.
pub(crate) fn k4(events: &[Event]) -> Result<(), String> {
    let unit = 1 << HlcTime::COUNTER_BITS;
    let reserve = RESERVE.as_nanos() as u64 + 2 * unit;
    for (f, later) in events.iter().enumerate() {
        let before = |e: &usize| later.before_by_node.has(*e);
        if let Some(e) = (0..f).filter(before).find(|e| events[*e].hlc >= later.hlc) {
            return Err(format!("K4 {e} -> {f}: {} and {}", events[e].hlc, later.hlc));
        }
        let ahead_max = EPSILON_NANOS + unit + later.restarts * reserve;
        let (l, pt) = (later.hlc.wall().0, HlcTime::at(later.wall).wall().0);
        if l != later.known || l < pt || l - pt > ahead_max {
            let known = later.known;
            return Err(format!("K4 {f}: l {l}, pt {pt}, greatest known {known}"));
        }
        let same = (0..f).filter(before).filter(|e| events[*e].hlc.wall().0 == l).count();
        if later.hlc.counter() as usize > same + 1 {
            return Err(format!("K4 {f}: {} after {same} events of that time", later.hlc));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_clocks::LamportTime;

    use super::*;
    use crate::support::History;

    /// Breaks one event of a good run, and asks the invariant.
    fn broken(
        check: fn(&[Event]) -> Result<(), String>,
        damage: impl Fn(&mut Vec<Event>),
    ) -> Result<(), String> {
        let mut events = History::of(3).events;
        check(&events).unwrap();
        damage(&mut events);
        check(&events)
    }

    /// Two events, the first of which happened before the second.
    fn pair(events: &[Event]) -> (usize, usize) {
        let later = events.len() - 1;
        let before = (0..later).rev().find(|e| events[later].before_by_life.has(*e));
        (before.unwrap(), later)
    }

    #[test]
    fn k1_sees_an_inversion_and_a_stamp_given_twice() {
        let inverted = broken(k1, |events| {
            let (_, later) = pair(events);
            events[later].lamport.time = LamportTime(1);
        });
        assert!(inverted.is_err());
        assert!(
            broken(k1, |events| {
                let copy = events[5].lamport;
                events
                    .iter_mut()
                    .skip(9)
                    .for_each(|event| event.before_by_node = Default::default());
                events[9].lamport = copy;
            })
            .is_err_and(|what| what.contains("both"))
        );
    }

    #[test]
    fn k2_sees_order_where_there_is_none_and_none_where_there_is() {
        assert!(
            broken(k2, |events| {
                let (before, later) = pair(events);
                events[before].vector = events[later].vector.clone();
            })
            .is_err()
        );
        assert!(
            broken(k2, |events| {
                let (_, later) = pair(events);
                events[later].before_by_life = Default::default();
            })
            .is_err()
        );
    }

    #[test]
    fn k4_sees_an_inversion_a_carry_a_clock_behind_and_a_counter_from_nowhere() {
        let set = |change: fn(HlcTime) -> u64| {
            broken(k4, move |events| {
                let event = events.last_mut().unwrap();
                event.hlc = HlcTime::from_bits(change(event.hlc));
            })
        };
        assert!(set(|time| time.to_bits()).is_ok());
        assert!(set(|time| time.wall().0 - (1 << 40)).is_err());
        assert!(set(|time| time.to_bits() + (1 << HlcTime::COUNTER_BITS)).is_err());
        assert!(set(|time| time.wall().0 + 5000).is_err());
    }
}
