//! What must hold of a replicated state machine, one function an invariant, each with its name, and
//! with a test that shows it a broken thing and a good one.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_raft::Index;

/// The state after each index, as first seen: its digest, and the time in the log.
#[derive(Default)]
pub(crate) struct States(BTreeMap<Index, (u128, Duration)>);

impl States {
    /// M4: one state an index, on all replicas, for all time.
    pub(crate) fn m4(&mut self, applied: Index, state: (u128, Duration)) -> Result<(), String> {
        let known = *self.0.entry(applied).or_insert(state);
        if known == state {
            return Ok(());
        }
        Err(format!("M4 two states at {applied}: {known:x?} and {state:x?}"))
    }

    /// M2: an answer is of a state that somebody has had.
    pub(crate) fn m2(&self, index: Index) -> Result<(), String> {
        if self.0.keys().next_back().is_some_and(|last| index <= *last) {
            return Ok(());
        }
        Err(format!("M2 an answer is of {index}, which nobody applied"))
    }
}

/// M1: no command of a session is applied twice.
pub(crate) fn m1(doubled: Option<u64>) -> Result<(), String> {
    doubled.map_or(Ok(()), |op| Err(format!("M1 op {op} was applied twice")))
}

/// M1: whoever asks again is answered alike.
pub(crate) fn m1_answer(op: usize, first: u64, again: u64) -> Result<(), String> {
    if first == again {
        return Ok(());
    }
    Err(format!("M1 op {op} was answered {first}, then {again}"))
}

/// M5: in one life what is applied grows, and is committed and durable here.
pub(crate) fn m5(
    (before, applied): (Index, Index),
    durable: Index,
    commit: Index,
) -> Result<(), String> {
    if applied < before {
        return Err(format!("M5 {applied} is applied after {before}"));
    }
    if applied > durable || applied > commit {
        return Err(format!("M5 {applied} is applied, {durable} durable here, {commit} committed"));
    }
    Ok(())
}

/// D1: what was acknowledged happened. M7: what was refused did not.
pub(crate) fn d1_m7(
    op: usize,
    happened: bool,
    (acknowledged, refused): (bool, bool),
) -> Result<(), String> {
    match (happened, acknowledged, refused) {
        (false, true, _) => Err(format!("D1 op {op} was acknowledged and is lost")),
        (true, _, true) => Err(format!("M7 op {op} was rejected and happened")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaks(id: &str, result: Result<(), String>) {
        let what = result.expect_err("it did not see it");
        assert!(what.starts_with(id), "{what}");
    }

    #[test]
    fn m1_sees_a_command_applied_twice_and_one_answered_otherwise() {
        m1(None).unwrap();
        breaks("M1", m1(Some(7)));
        m1_answer(1, 5, 5).unwrap();
        breaks("M1", m1_answer(1, 5, 6));
    }

    #[test]
    fn m2_and_m4_see_a_state_that_nobody_had_and_two_at_one_index() {
        let mut states = States::default();
        breaks("M2", states.m2(Index(0)));
        states.m4(Index(3), (7, Duration::ZERO)).unwrap();
        states.m4(Index(3), (7, Duration::ZERO)).unwrap();
        states.m2(Index(3)).unwrap();
        breaks("M2", states.m2(Index(4)));
        breaks("M4", states.m4(Index(3), (8, Duration::ZERO)));
        breaks("M4", states.m4(Index(3), (7, Duration::MAX)));
    }

    #[test]
    fn m5_sees_what_falls_and_what_is_not_durable_or_not_committed() {
        let both = (Index(4), Index(5));
        m5(both, Index(5), Index(5)).unwrap();
        breaks("M5", m5((Index(5), Index(4)), Index(9), Index(9)));
        breaks("M5", m5(both, Index(4), Index(9)));
        breaks("M5", m5(both, Index(9), Index(4)));
    }

    #[test]
    fn d1_m7_see_what_is_lost_and_what_happened_all_the_same() {
        for happened in [false, true] {
            d1_m7(1, happened, (false, false)).unwrap();
        }
        d1_m7(1, true, (true, false)).unwrap();
        d1_m7(1, false, (false, true)).unwrap();
        breaks("D1", d1_m7(1, false, (true, false)));
        breaks("M7", d1_m7(1, true, (false, true)));
    }
}
