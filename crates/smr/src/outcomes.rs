//! What became of the commands of one request.

use alloc::vec::{self, Vec};
use core::ops::Deref;
use core::{iter, option, slice};

use crate::applier::Outcome;

/// What became of each command of a request, in order: a slice of outcomes. One alone, as most
/// are, takes no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcomes(Few);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Few {
    One(Option<Outcome>),
    Many(Vec<Outcome>),
}

impl Outcomes {
    /// Room for `count` outcomes.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self(if count > 1 { Few::Many(Vec::with_capacity(count)) } else { Few::One(None) })
    }

    pub(crate) fn push(&mut self, outcome: Outcome) {
        match &mut self.0 {
            Few::One(one @ None) => *one = Some(outcome),
            Few::One(Some(_)) => {
                let Few::One(one) = core::mem::replace(&mut self.0, Few::Many(Vec::new())) else {
                    return;
                };
                self.0 = Few::Many(one.into_iter().chain([outcome]).collect());
            }
            Few::Many(many) => many.push(outcome),
        }
    }
}

impl Deref for Outcomes {
    type Target = [Outcome];

    fn deref(&self) -> &[Outcome] {
        match &self.0 {
            Few::One(one) => one.as_slice(),
            Few::Many(many) => many,
        }
    }
}

impl FromIterator<Outcome> for Outcomes {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let outcomes = outcomes.into_iter();
        let mut all = Self::with_capacity(outcomes.size_hint().0);
        outcomes.for_each(|outcome| all.push(outcome));
        all
    }
}

impl IntoIterator for Outcomes {
    type Item = Outcome;
    type IntoIter = iter::Chain<option::IntoIter<Outcome>, vec::IntoIter<Outcome>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self.0 {
            Few::One(one) => (one, Vec::new()),
            Few::Many(many) => (None, many),
        };
        one.into_iter().chain(many)
    }
}

impl<'a> IntoIterator for &'a Outcomes {
    type Item = &'a Outcome;
    type IntoIter = slice::Iter<'a, Outcome>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn however_many_are_expected_and_come_they_stand_in_order() {
        let kinds = [Outcome::Strange, Outcome::Forgotten, Outcome::Expired];
        for expected in 0..4 {
            for count in 0..=3 {
                let mut outcomes = Outcomes::with_capacity(expected);
                kinds[..count].iter().for_each(|kind| outcomes.push(kind.clone()));
                assert_eq!(outcomes[..], kinds[..count], "{expected} expected");
                assert_eq!(outcomes.iter().len(), count);
                let list: Vec<_> = outcomes.clone().into_iter().collect();
                assert_eq!(list, kinds[..count].to_vec());
                let again: Outcomes = list.into_iter().collect();
                assert_eq!(again[..], outcomes[..]);
            }
        }
        assert_eq!(Outcomes::with_capacity(0).into_iter().collect::<Vec<_>>(), vec![]);
    }
}
