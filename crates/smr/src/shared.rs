//! An ordered map whose copies share their nodes: what makes a snapshot cheap to begin.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;
use core::ops::Bound;
use core::{mem, slice};

/// Pairs of a leaf, or children of an inner node, at the most. Wider ones are searched faster, and
/// slower to copy.
const WIDTH: usize = 16;

/// An ordered map that is copied in constant time.
///
/// Copies share nodes until one of them changes; a change copies the nodes on its way down, if
/// they are shared, and no others. Reads and changes take logarithmic time. A node that removals
/// have left nearly empty is not merged with its neighbours, only dropped once it is empty.
///
/// ```
/// use quorate_smr::SharedMap;
///
/// let mut map: SharedMap<u32, &str> = [(1, "one"), (2, "two")].into_iter().collect();
/// let before = map.clone();
/// map.insert(1, "first");
/// assert_eq!((map.get(&1), before.get(&1)), (Some(&"first"), Some(&"one")));
/// ```
pub struct SharedMap<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
}

#[derive(Clone)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    Inner(Vec<Child<K, V>>),
}

/// A node below another, with a lower bound of its keys; that of the first is never looked at.
type Child<K, V> = (K, Arc<Node<K, V>>);

impl<K, V> SharedMap<K, V> {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }

    /// How many pairs it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All pairs, by rising key.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { above: Vec::new(), leaf: [].iter() };
        iter.descend(&self.root);
        iter
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// Sets the value of a key; gives back the one it had. The key is kept as it is given now.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (before, split) = insert(&mut self.root, key, value);
        if let Some((bound, right)) = split {
            let left = mem::replace(&mut self.root, Arc::clone(&right));
            let children = alloc::vec![(bound.clone(), left), (bound, right)];
            self.root = Arc::new(Node::Inner(children));
        }
        self.len += usize::from(before.is_none());
        before
    }

    /// Removes a key; gives back its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?; // what is not there is no reason to copy anything
        let removed = remove(&mut self.root, key)?;
        self.len -= 1;
        while let Node::Inner(children) = &*self.root {
            match &children[..] {
                [] => self.root = Arc::new(Node::Leaf(Vec::new())),
                [(_, only)] => self.root = Arc::clone(only),
                _ => break,
            }
        }
        Some(removed)
    }

    /// The value of a key, to be changed: what leads to it is copied if it is shared.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let mut node = &mut self.root;
        loop {
            match Arc::make_mut(node) {
                Node::Leaf(pairs) => {
                    let at = pairs.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
                    return Some(&mut pairs[at].1);
                }
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    node = &mut children[at].1;
                }
            }
        }
    }
}

impl<K, V> SharedMap<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Leaf(pairs) => {
                    let at = pairs.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
                    return Some(&pairs[at].1);
                }
                Node::Inner(children) => node = &children[child_of(children, key)].1,
            }
        }
    }

    /// The pairs from a bound on, by rising key.
    pub fn range<Q: Ord + ?Sized>(&self, from: Bound<&Q>) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let (Bound::Included(key) | Bound::Excluded(key)) = from else { return self.iter() };
        let mut above = Vec::new();
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Leaf(pairs) => {
                    let excluded = matches!(from, Bound::Excluded(_));
                    let before =
                        |(k, _): &(K, V)| k.borrow() < key || (excluded && k.borrow() == key);
                    let leaf = pairs[pairs.partition_point(before)..].iter();
                    return Iter { above, leaf };
                }
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    above.push(children[at + 1..].iter());
                    node = &children[at].1;
                }
            }
        }
    }
}

/// Where the child of a key stands.
fn child_of<K: Borrow<Q>, V, Q: Ord + ?Sized>(children: &[(K, V)], key: &Q) -> usize {
    children.partition_point(|(bound, _)| bound.borrow() <= key).saturating_sub(1)
}

/// What a node that became too wide gives to a new right neighbour, and that one's lower bound.
type Split<K, V> = Option<Child<K, V>>;

fn insert<K: Ord + Clone, V: Clone>(
    node: &mut Arc<Node<K, V>>,
    key: K,
    value: V,
) -> (Option<V>, Split<K, V>) {
    match Arc::make_mut(node) {
        Node::Leaf(pairs) => match pairs.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => (Some(mem::replace(&mut pairs[at], (key, value)).1), None),
            Err(at) => {
                pairs.insert(at, (key, value));
                (None, split(pairs).map(|right| (right[0].0.clone(), Arc::new(Node::Leaf(right)))))
            }
        },
        Node::Inner(children) => {
            let at = child_of(children, &key);
            let (before, grown) = insert(&mut children[at].1, key, value);
            let Some(grown) = grown else { return (before, None) };
            children.insert(at + 1, grown);
            let right = split(children);
            (before, right.map(|right| (right[0].0.clone(), Arc::new(Node::Inner(right)))))
        }
    }
}

/// The right half of what has become too wide.
fn split<T>(all: &mut Vec<T>) -> Option<Vec<T>> {
    (all.len() > WIDTH).then(|| {
        let mut right = Vec::with_capacity(WIDTH + 1);
        right.extend(all.drain(WIDTH / 2..));
        right
    })
}

fn remove<K, V, Q: Ord + ?Sized>(node: &mut Arc<Node<K, V>>, key: &Q) -> Option<V>
where
    K: Borrow<Q> + Clone,
    V: Clone,
{
    match Arc::make_mut(node) {
        Node::Leaf(pairs) => {
            let at = pairs.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
            Some(pairs.remove(at).1)
        }
        Node::Inner(children) => {
            let at = child_of(children, key);
            let removed = remove(&mut children[at].1, key);
            let is_empty = match &*children[at].1 {
                Node::Leaf(pairs) => pairs.is_empty(),
                Node::Inner(children) => children.is_empty(),
            };
            if is_empty {
                children.remove(at);
            }
            removed
        }
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self { root: Arc::clone(&self.root), len: self.len }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for SharedMap<K, V> {}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut map = Self::new();
        pairs.into_iter().for_each(|(key, value)| drop(map.insert(key, value)));
        map
    }
}

/// The pairs of a map, borrowed, by rising key.
pub struct Iter<'a, K, V> {
    above: Vec<slice::Iter<'a, Child<K, V>>>,
    leaf: slice::Iter<'a, (K, V)>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn descend(&mut self, mut node: &'a Node<K, V>) {
        loop {
            match node {
                Node::Leaf(pairs) => return self.leaf = pairs.iter(),
                Node::Inner(children) => {
                    let mut children = children.iter();
                    let Some((_, first)) = children.next() else { return };
                    self.above.push(children);
                    node = first;
                }
            }
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.leaf.next() {
                return Some((key, value));
            }
            match self.above.last_mut()?.next() {
                Some((_, child)) => self.descend(child),
                None => drop(self.above.pop()),
            }
        }
    }
}

impl<K, V> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<'a, K, V> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

/// The pairs of a map, owned, by rising key.
///
/// It lets go of each node as it passes, so that a large map that nobody shares goes bit by bit.
#[derive(Clone)]
pub struct IntoIter<K, V> {
    above: Vec<alloc::vec::IntoIter<Child<K, V>>>,
    leaf: alloc::vec::IntoIter<(K, V)>,
}

impl<K: Clone, V: Clone> IntoIter<K, V> {
    fn enter(&mut self, node: Arc<Node<K, V>>) {
        match Arc::unwrap_or_clone(node) {
            Node::Leaf(pairs) => self.leaf = pairs.into_iter(),
            Node::Inner(children) => self.above.push(children.into_iter()),
        }
    }
}

impl<K: Clone, V: Clone> Iterator for IntoIter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            if let Some(pair) = self.leaf.next() {
                return Some(pair);
            }
            match self.above.last_mut()?.next() {
                Some((_, child)) => self.enter(child),
                None => drop(self.above.pop()),
            }
        }
    }
}

impl<K, V> fmt::Debug for IntoIter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter").finish_non_exhaustive()
    }
}

impl<K: Clone, V: Clone> IntoIterator for SharedMap<K, V> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;

    fn into_iter(self) -> IntoIter<K, V> {
        let mut iter = IntoIter { above: Vec::new(), leaf: Vec::new().into_iter() };
        iter.enter(self.root);
        iter
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use quorate_transport::Rng;

    use super::*;

    #[test]
    fn it_is_a_map_and_its_copies_do_not_see_each_others_changes() {
        for seed in 0..40 {
            let mut rng = Rng::new(seed);
            let keys = [10, 300, 5000][rng.below(3) as usize];
            let (mut map, mut model) = (SharedMap::new(), BTreeMap::new());
            let mut copies = Vec::new();
            for step in 0..3000 {
                let key = rng.below(keys);
                // Some runs mostly grow and some mostly shrink.
                match rng.below(6) + seed % 2 {
                    0..=2 => assert_eq!(map.insert(key, step), model.insert(key, step)),
                    3 => {
                        let (one, two) = (map.get_mut(&key), model.get_mut(&key));
                        assert_eq!(one, two);
                        one.into_iter().chain(two).for_each(|value| *value += 1);
                    }
                    _ => assert_eq!(map.remove(&key), model.remove(&key)),
                }
                assert_eq!((map.len(), map.get(&key)), (model.len(), model.get(&key)));
                if rng.below(300) == 0 {
                    copies.push((map.clone(), model.clone()));
                }
            }
            copies.push((map, model));
            for (map, model) in copies {
                assert!(map.iter().eq(model.iter()), "seed {seed}");
                let from = rng.below(keys);
                for from in [Bound::Included(&from), Bound::Excluded(&from), Bound::Unbounded] {
                    let want = model.range((from, Bound::Unbounded));
                    assert!(map.range(from).eq(want), "seed {seed}");
                }
                assert!(map.into_iter().eq(model), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_copy_shares_everything_and_a_change_copies_one_path() {
        let mut map: SharedMap<u32, Arc<u32>> = (0..10_000).map(|n| (n, Arc::new(n))).collect();
        let copy = map.clone();
        assert!(Arc::ptr_eq(&map.root, &copy.root));
        map.insert(5000, Arc::new(0));
        let alone = map
            .iter()
            .zip(copy.iter())
            .filter(|((_, one), (_, two))| Arc::strong_count(one) > 1 || !Arc::ptr_eq(one, two));
        let alone = alone.count();
        assert!((1..=WIDTH).contains(&alone), "{alone} pairs were copied");
    }

    #[test]
    fn what_is_passed_is_let_go_of() {
        let kept = Arc::new(());
        let map: SharedMap<u32, Arc<()>> = (0..1000).map(|n| (n, Arc::clone(&kept))).collect();
        let mut left = map.into_iter();
        left.by_ref().take(500).for_each(drop);
        let count = Arc::strong_count(&kept);
        assert!((501..=501 + WIDTH).contains(&count), "{count}");
    }
}
