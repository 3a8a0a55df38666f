//! What became of the commands of one request.

use alloc::vec;
use alloc::vec::Vec;
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
            Few::One(one) => match one.take() {
                None => *one = Some(outcome),
                Some(first) => self.0 = Few::Many(vec![first, outcome]),
            },
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
                let list: Vec<_> = outcomes.into_iter().collect();
                assert_eq!(list, kinds[..count]);
            }
        }
    }
}
