//! The model of client sessions over any other model: what is asked twice takes effect once.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;

use super::Model;

/// The object `M`, with operations that clients may ask for again until they are answered.
///
/// A session numbers its operations, upwards. One asked for again is answered as the first time
/// and takes no second effect; one that comes after a later one of its session is
/// [`SessionOutput::Late`]. The object must be deterministic: one answer in one state.
pub struct Sessions<M>(PhantomData<M>);

/// An operation of a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionOp<O> {
    /// Whose.
    pub session: u64,
    /// Which of it; asked for again, it keeps its number.
    pub number: u64,
    /// What is asked of the object.
    pub op: O,
}

/// What an operation of a session is answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionOutput<O> {
    /// The object's answer, now or the first time.
    Answer(O),
    /// The session has gone on: the answer is no longer known.
    Late,
}

/// The last operation of a session that took effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Last<S, O> {
    /// It was answered.
    Answered(O),
    /// Nobody was told the answer: the object before and after tells it.
    Untold { before: S, after: S },
}

/// The object and what its sessions asked for last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionState<S, O> {
    object: S,
    last: BTreeMap<u64, (u64, Last<S, O>)>,
}

impl<M: Model> Model for Sessions<M>
where
    M::State: Debug,
    M::Output: Ord,
{
    type Key = M::Key;
    type State = SessionState<M::State, M::Output>;
    type Op = SessionOp<M::Op>;
    type Output = SessionOutput<M::Output>;

    fn init() -> Self::State {
        SessionState { object: M::init(), last: BTreeMap::new() }
    }

    fn step(
        state: &Self::State,
        op: &Self::Op,
        output: Option<&Self::Output>,
    ) -> Option<Self::State> {
        let SessionOp { session, number, op } = op;
        let answer = match output {
            Some(SessionOutput::Answer(answer)) => Some(answer),
            Some(SessionOutput::Late) => {
                let is_late = state.last.get(session).is_some_and(|(last, _)| number < last);
                return is_late.then(|| state.clone());
            }
            None => None,
        };
        let mut next = state.clone();
        match state.last.get(session) {
            Some((last, _)) if number < last => return answer.is_none().then_some(next),
            Some((last, told)) if number == last => {
                let told = Self::again(told, op, answer)?;
                next.last.insert(*session, (*number, told));
            }
            _ => {
                let after = M::step(&state.object, op, answer)?;
                let told = match answer {
                    Some(answer) => Last::Answered(answer.clone()),
                    None => Last::Untold { before: state.object.clone(), after: after.clone() },
                };
                next.object = after;
                next.last.insert(*session, (*number, told));
            }
        }
        Some(next)
    }

    fn partition_key(op: &Self::Op) -> M::Key {
        M::partition_key(&op.op)
    }
}

impl<M: Model> Sessions<M> {
    /// What is known of an operation's answer once it was asked for again and answered `answer`.
    fn again(
        told: &Last<M::State, M::Output>,
        op: &M::Op,
        answer: Option<&M::Output>,
    ) -> Option<Last<M::State, M::Output>>
    where
        M::Output: Ord,
    {
        let Some(answer) = answer else { return Some(told.clone()) };
        let fits = match told {
            Last::Answered(first) => first == answer,
            Last::Untold { before, after } => {
                M::step(before, op, Some(answer)).is_some_and(|state| state == *after)
            }
        };
        fits.then(|| Last::Answered(answer.clone()))
    }
}
