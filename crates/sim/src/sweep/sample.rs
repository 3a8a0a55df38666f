//! Other runs that break the same as one that failed, with less: where little can be left out of a
//! failure because it hangs on much luck, a small one is found sooner than made.
//!
//! Faults are crowded into a second or two, of a few kinds, and of all that is drawn only a share
//! happens. Such a run takes a hundredth of the time of a whole one.

use std::collections::BTreeMap;

use super::Run;
use super::shrink::{FEW, Search};
use crate::limits::{Choice, Limits};
use crate::nemesis::Fault;

/// Faults begin to strike.
const BEGIN: u64 = 500_000_000;
/// How long they do, in nanoseconds.
const WINDOWS: [u64; 6] =
    [300_000_000, 700_000_000, 1_200_000_000, 2_000_000_000, 3_000_000_000, 5_000_000_000];
/// What is found may be as much as this, however little is left: it may be made small more easily.
const ENOUGH: usize = 300;
/// Nor is what is found that is so many times as much as what is left.
const MORE: usize = 4;
/// For how long they are looked for, in hundredths of the time.
const WHILE: u32 = 10;
/// How many times as often.
const HURRIES: [u64; 4] = [1, 3, 8, 20];
/// Of strikes, operations, and what befalls single frames: runs in which much happens, and quick
/// ones.
const SHARES: [[[u32; 4]; 3]; 2] = [
    [
        [1_000_000, 1_000_000, 1_000_000, 400_000],
        [1_000_000, 1_000_000, 300_000, 0],
        [1_000_000, 200_000, 20_000, 0],
    ],
    [
        [1_000_000, 1_000_000, 600_000, 300_000],
        [300_000, 50_000, 0, 0],
        [1_000_000, 200_000, 20_000, 0],
    ],
];
/// Operations a second before the calm: of few each client and the operator has its share.
const PACES: [Option<u64>; 4] = [None, None, Some(60), Some(20)];
/// So many at a time on each core.
const BATCH: usize = 32;

impl<F: Fn(u64, bool) -> Run + Sync, L: Fn() -> u32 + Sync> Search<'_, F, L> {
    /// Looks for runs that break the same, each with fewer events than the one before, for a while;
    /// makes the last one small, and keeps what it leaves where that is less.
    pub(super) fn find_smaller(&mut self) {
        self.or_as_it_was(|search| {
            search.most = (search.taken.len() * MORE).max(ENOUGH);
            let mut found = false;
            while (search.spent)() < search.late && !(found && search.most <= FEW) {
                let some: Vec<_> = (0..search.threads * BATCH).map(|_| search.sample()).collect();
                if search.try_all(&some).is_some() {
                    found = true;
                    let good = Some(search.limits.clone());
                    search.good = good.filter(|limits| limits.calm_at.is_some());
                    search.fix();
                    search.most = search.taken.len().saturating_sub(1);
                }
            }
            search.most = search.taken.len();
            if found {
                search.polish(100);
            }
            found
        });
    }

    /// Looks for another whole seed that breaks the same about as soon, makes it small for a while,
    /// and keeps what it leaves where that is less: how much can be left out of one is luck. False
    /// where there was none.
    pub(super) fn begin_with_another(&mut self) -> bool {
        self.or_as_it_was(|search| {
            let whole = Limits { until: search.until(search.at), ..search.given.clone() };
            search.most = usize::MAX;
            let mut found = false;
            while !found && (search.spent)() < search.late {
                let from = search.fresh + 1;
                search.fresh += (search.threads * BATCH) as u64;
                let some: Vec<_> =
                    (from..=search.fresh).map(|seed| (seed, whole.clone())).collect();
                found = search.try_all(&some).is_some();
            }
            if found {
                search.polish(((search.spent)() + WHILE).min(100));
            }
            found
        })
    }

    /// Looks elsewhere for a while, and comes back where more is left of what was found there.
    fn or_as_it_was(&mut self, look: impl FnOnce(&mut Self) -> bool) -> bool {
        let (seed, at, before) = (self.seed, self.at, self.taken.len());
        let (limits, taken) = (self.limits.clone(), self.taken.clone());
        self.late = ((self.spent)() + WHILE).min(100);
        let found = look(self);
        if self.taken.len() > before {
            (self.seed, self.at, self.limits, self.taken) = (seed, at, limits, taken);
        }
        (self.most, self.late) = (self.taken.len(), 100);
        found
    }

    /// Another seed, or the same, of which less happens.
    fn sample(&mut self) -> (u64, Limits) {
        let dice = &mut self.dice;
        let mut limits = self.given.clone();
        if let Some(good) = self.good.clone().filter(|_| dice.below(2) == 0) {
            // What has broken it once, in another place and in less time.
            self.fresh += 1;
            let window = good.calm_at.map_or(WINDOWS[5], |at| at - BEGIN);
            let calm_at = BEGIN + dice.between(window / 2, window);
            let salt = 1 + dice.below(1 << 32);
            let (most, until) = (Some(self.most), self.until(calm_at));
            return (self.fresh, Limits { salt, calm_at: Some(calm_at), most, until, ..good });
        }
        // What did not matter may not matter here.
        let keep = [1_000_000, 500_000, 0][dice.below(3) as usize];
        let masked = self.limits.masked.iter().copied();
        limits.masked.extend(masked.filter(|_| dice.chance_ppm(keep)));
        limits.hurry = HURRIES[dice.below(4) as usize];
        match dice.below(3) {
            0 => {
                let share = [200_000, 500_000, 800_000][dice.below(3) as usize];
                let kinds = Fault::FOLLOW.into_iter().chain(Fault::STRIKES);
                limits.masked.extend(kinds.filter(|_| dice.chance_ppm(share)));
            }
            1 => {
                // A few kinds of which some matter, and often.
                let mut few = Fault::STRIKES.to_vec();
                few.retain(|kind| !self.limits.masked.contains(kind));
                let most = dice.between(1, 4) as usize;
                while few.len() > most {
                    few.swap_remove(dice.below(few.len() as u64) as usize);
                }
                limits.masked.extend(Fault::STRIKES.into_iter().filter(|kind| !few.contains(kind)));
                limits.hurry *= 4;
            }
            _ => {}
        }
        limits.masked.sort_unstable();
        limits.masked.dedup();
        limits.salt = 1 + dice.below(1 << 32);
        limits.small = dice.below(2) == 0;
        limits.chaos_pace = PACES[dice.below(4) as usize];
        let shares = SHARES[dice.below(2) as usize];
        limits.shares = Some(shares.map(|shares| shares[dice.below(4) as usize]));
        limits.most = Some(self.most);
        let calm_at = BEGIN + WINDOWS[dice.below(6) as usize];
        limits.calm_at = Some(calm_at);
        let same = dice.below(4) == 0;
        limits.until = self.until(calm_at);
        if !same {
            self.fresh += 1;
        }
        (if same { self.seed } else { self.fresh }, limits)
    }

    /// Says of what has happened what it is, in place of which share.
    fn fix(&mut self) {
        let mut only = BTreeMap::new();
        let frames = Fault::FOLLOW.map(Choice::Frame);
        for choice in [Choice::Strike, Choice::Ask].into_iter().chain(frames) {
            only.insert(choice, self.left(choice).into_iter().collect());
        }
        (self.limits.only, self.limits.shares, self.limits.most) = (only, None, None);
    }
}
