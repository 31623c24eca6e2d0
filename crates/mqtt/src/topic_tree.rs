//! Which filters match a topic, among very many: an exact filter is found by its hash, the others in a trie of levels.
//!
//! The trie is walked without recursion and its nodes lie side by side, so that neither matching nor dropping it
//! can run out of stack, whatever filters and topics clients make up. Removing a filter removes the nodes that only it needed.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use ahash::RandomState;

use crate::TopicFilter;

/// Values by topic filter; a filter may have several.
#[derive(Clone, Debug)]
pub struct TopicTree<T> {
    /// Values of filters without wildcards.
    exact: HashMap<Box<str>, Vec<T>, RandomState>,
    /// The trie of filters with wildcards; the first node is the root and always there.
    nodes: Nodes<T>,
    /// Nodes that were removed and wait for another use.
    free: Vec<NodeId>,
    /// How many values there are in `exact` and `nodes`.
    len: usize,
    /// Keyed at random, since clients choose what is hashed.
    hasher: RandomState,
}

type NodeId = usize;

const ROOT: NodeId = 0;

/// A place in the trie: the filters that begin with the same levels.
#[derive(Clone, Debug)]
struct Node<T> {
    /// By the next level of the filter, if that is text.
    children: HashMap<Box<str>, NodeId, RandomState>,
    /// Where `+` is the next level.
    plus: Option<NodeId>,
    /// Values of the filter that ends here.
    here: Vec<T>,
    /// Values of the filter that goes on with `#`.
    below: Vec<T>,
}

/// Nodes in blocks: one vector that grows would move millions of them at once.
#[derive(Clone, Debug)]
struct Nodes<T>(Vec<Vec<Node<T>>>);

/// Nodes in one block.
const BLOCK: usize = 1024;

impl<T> Nodes<T> {
    fn with_root(hasher: &RandomState) -> Self {
        Self(vec![vec![Node::new(hasher.clone())]])
    }

    fn len(&self) -> usize {
        let last = self.0.last().map_or(0, Vec::len);
        self.0.len().saturating_sub(1) * BLOCK + last
    }

    fn push(&mut self, node: Node<T>) {
        match self.0.last_mut() {
            Some(block) if block.len() < BLOCK => block.push(node),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(node);
                self.0.push(block);
            }
        }
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "node ids come from the tree only and stay valid while in use"
)]
impl<T> Index<NodeId> for Nodes<T> {
    type Output = Node<T>;

    fn index(&self, id: NodeId) -> &Node<T> {
        &self.0[id / BLOCK][id % BLOCK]
    }
}

#[expect(clippy::indexing_slicing, reason = "as above")]
impl<T> IndexMut<NodeId> for Nodes<T> {
    fn index_mut(&mut self, id: NodeId) -> &mut Node<T> {
        &mut self.0[id / BLOCK][id % BLOCK]
    }
}

impl<T> Node<T> {
    fn new(hasher: RandomState) -> Self {
        Self {
            children: HashMap::with_hasher(hasher),
            plus: None,
            here: Vec::new(),
            below: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.plus.is_none()
            && self.here.is_empty()
            && self.below.is_empty()
    }

    fn next(&self, level: &str) -> Option<NodeId> {
        if level == "+" {
            self.plus
        } else {
            self.children.get(level).copied()
        }
    }
}

impl<T> Default for TopicTree<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> TopicTree<T> {
    /// An empty tree.
    pub fn new() -> Self {
        let hasher = RandomState::new();
        Self {
            exact: HashMap::with_hasher(hasher.clone()),
            nodes: Nodes::with_root(&hasher),
            free: Vec::new(),
            len: 0,
            hasher,
        }
    }

    /// How many values there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `value` to those of `filter`.
    pub fn insert(&mut self, filter: &TopicFilter, value: T) {
        self.len += 1;
        if filter.is_exact() {
            match self.exact.get_mut(filter.as_str()) {
                Some(values) => values.push(value),
                None => drop(self.exact.insert(filter.as_str().into(), vec![value])),
            }
            return;
        }
        let (levels, ends_below) = split_filter(filter);
        let mut id = ROOT;
        for level in levels.into_iter().flat_map(|levels| levels.split('/')) {
            id = match self.nodes[id].next(level) {
                Some(next) => next,
                None => self.add_child(id, level),
            };
        }
        let node = &mut self.nodes[id];
        if ends_below {
            node.below.push(value)
        } else {
            node.here.push(value)
        }
    }

    /// The values of `filter` itself, not of filters that match it.
    pub fn get(&self, filter: &TopicFilter) -> &[T] {
        if filter.is_exact() {
            return self.exact.get(filter.as_str()).map_or(&[], Vec::as_slice);
        }
        match self.find(filter) {
            Some((id, true)) => &self.nodes[id].below,
            Some((id, false)) => &self.nodes[id].here,
            None => &[],
        }
    }

    /// The values of `filter` itself, to be changed.
    pub fn get_mut(&mut self, filter: &TopicFilter) -> &mut [T] {
        self.values_mut(filter).map_or(&mut [], Vec::as_mut_slice)
    }

    /// Removes the first value of `filter` that `unwanted` picks; the order of those left may change.
    pub fn remove(&mut self, filter: &TopicFilter, unwanted: impl FnMut(&T) -> bool) -> Option<T> {
        let values = self.values_mut(filter)?;
        let at = values.iter().position(unwanted)?;
        let value = values.swap_remove(at);
        let none_left = values.is_empty();
        self.removed(filter, 1, none_left);
        Some(value)
    }

    /// Removes all values of `filter` that `unwanted` picks, and says how many they were.
    pub fn remove_all(
        &mut self,
        filter: &TopicFilter,
        mut unwanted: impl FnMut(&T) -> bool,
    ) -> usize {
        let Some(values) = self.values_mut(filter) else {
            return 0;
        };
        let before = values.len();
        values.retain(|value| !unwanted(value));
        let (count, none_left) = (before - values.len(), values.is_empty());
        self.removed(filter, count, none_left);
        count
    }

    /// Calls `each` with every value whose filter matches the topic name `topic`, in no particular order.
    ///
    /// Allocates nothing for topics of up to 32 levels.
    pub fn matching<'a>(&'a self, topic: &str, mut each: impl FnMut(&'a T)) {
        if let Some(values) = self.exact.get(topic) {
            values.iter().for_each(&mut each);
        }
        // [MQTT-4.7.2-1] A leading wildcard does not reach names that begin with `$`.
        let hidden = topic.starts_with('$');
        let mut pending = Pending::default();
        // A node, and where in the topic its next level begins; past the end when no level is left.
        let mut next = Some((ROOT, 0));
        while let Some((id, at)) = next {
            let node = &self.nodes[id];
            let wildcards = !(hidden && id == ROOT);
            if wildcards {
                node.below.iter().for_each(&mut each);
            }
            let Some(rest) = topic.get(at..) else {
                node.here.iter().for_each(&mut each);
                next = pending.pop();
                continue;
            };
            let level = rest.split_once('/').map_or(rest, |(level, _)| level);
            let after = at + level.len() + 1;
            let text = match node.children.is_empty() {
                true => None,
                false => node.children.get(level).copied(),
            };
            let plus = node.plus.filter(|_| wildcards);
            if let (Some(_), Some(plus)) = (text, plus) {
                pending.push((plus, after));
            }
            next = text
                .or(plus)
                .map(|id| (id, after))
                .or_else(|| pending.pop());
        }
    }

    /// The node at which `filter` ends, and whether its values are those below it.
    fn find(&self, filter: &TopicFilter) -> Option<(NodeId, bool)> {
        let (levels, ends_below) = split_filter(filter);
        let mut id = ROOT;
        for level in levels.into_iter().flat_map(|levels| levels.split('/')) {
            id = self.nodes[id].next(level)?;
        }
        Some((id, ends_below))
    }

    fn values_mut(&mut self, filter: &TopicFilter) -> Option<&mut Vec<T>> {
        if filter.is_exact() {
            return self.exact.get_mut(filter.as_str());
        }
        let (id, ends_below) = self.find(filter)?;
        let node = &mut self.nodes[id];
        Some(if ends_below {
            &mut node.below
        } else {
            &mut node.here
        })
    }

    fn add_child(&mut self, parent: NodeId, level: &str) -> NodeId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::new(self.hasher.clone()));
            self.nodes.len() - 1
        });
        let parent = &mut self.nodes[parent];
        if level == "+" {
            parent.plus = Some(id);
        } else {
            parent.children.insert(level.into(), id);
        }
        id
    }

    /// Keeps the books after `count` values of `filter` went.
    fn removed(&mut self, filter: &TopicFilter, count: usize, none_left: bool) {
        self.len -= count;
        if !none_left {
            return;
        }
        if filter.is_exact() {
            self.exact.remove(filter.as_str());
        } else {
            self.prune(filter);
        }
    }

    /// Removes the nodes at the end of `filter`'s path that hold nothing.
    fn prune(&mut self, filter: &TopicFilter) {
        let (Some(levels), _) = split_filter(filter) else {
            return;
        };
        let mut path = vec![ROOT];
        let mut id = ROOT;
        for level in levels.split('/') {
            match self.nodes[id].next(level) {
                Some(next) => id = next,
                None => break,
            }
            path.push(id);
        }
        for level in levels.rsplit('/') {
            match (path.pop(), path.last()) {
                (Some(id), Some(&parent)) if self.nodes[id].is_empty() => {
                    self.remove_child(parent, level, id);
                }
                _ => break,
            }
        }
        if self.nodes[ROOT].is_empty() {
            self.nodes = Nodes::with_root(&self.hasher);
            self.free = Vec::new();
        }
    }

    fn remove_child(&mut self, parent: NodeId, level: &str, id: NodeId) {
        let parent = &mut self.nodes[parent];
        if level == "+" {
            parent.plus = None;
        } else {
            parent.children.remove(level);
        }
        // A fresh node: what the old one had grown to is given back.
        self.nodes[id] = Node::new(self.hasher.clone());
        self.free.push(id);
    }
}

/// The levels that lead to a filter's node, and whether `#` follows them. `#` alone has no levels.
fn split_filter(filter: &TopicFilter) -> (Option<&str>, bool) {
    let text = filter.as_str();
    match text.strip_suffix('#') {
        Some("") => (None, true),
        Some(levels) => (Some(levels.strip_suffix('/').unwrap_or(levels)), true),
        None => (Some(text), false),
    }
}

/// Branches still to be walked. Deep topics that match many `+` are rare: those go to the heap.
#[derive(Default)]
struct Pending {
    few: [(NodeId, usize); 32],
    len: usize,
    more: Vec<(NodeId, usize)>,
}

impl Pending {
    fn push(&mut self, branch: (NodeId, usize)) {
        match self.few.get_mut(self.len) {
            Some(place) => {
                *place = branch;
                self.len += 1;
            }
            None => self.more.push(branch),
        }
    }

    fn pop(&mut self) -> Option<(NodeId, usize)> {
        if let Some(branch) = self.more.pop() {
            return Some(branch);
        }
        self.len = self.len.checked_sub(1)?;
        self.few.get(self.len).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    /// How many nodes there are beside the root and those that wait for another use.
    fn nodes_in_use<T>(tree: &TopicTree<T>) -> usize {
        tree.nodes.len() - 1 - tree.free.len()
    }

    #[test]
    fn removing_a_filter_removes_the_nodes_that_only_it_needed() {
        let mut tree = TopicTree::new();
        tree.insert(&filter("a/+/c"), 1);
        assert_eq!(nodes_in_use(&tree), 3);
        tree.insert(&filter("a/#"), 2);
        tree.insert(&filter("a/+/d/#"), 3);
        assert_eq!(nodes_in_use(&tree), 4);
        tree.remove(&filter("a/+/c"), |_| true);
        assert_eq!(nodes_in_use(&tree), 3);
        tree.remove(&filter("a/+/d/#"), |_| true);
        assert_eq!(nodes_in_use(&tree), 1);
        // Removed nodes are used again.
        tree.insert(&filter("+/+/+"), 4);
        assert_eq!((nodes_in_use(&tree), tree.nodes.len()), (4, 5));
        tree.remove(&filter("+/+/+"), |_| true);
        tree.remove(&filter("a/#"), |_| true);
        assert_eq!((tree.nodes.len(), tree.free.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn a_tree_that_was_emptied_holds_nothing(
            texts in proptest::collection::vec("[ab+]?(/[ab+]){0,4}(/#)?", 0..30),
        ) {
            let filters: Vec<_> =
                texts.iter().filter_map(|text| TopicFilter::parse(text).ok()).collect();
            let mut tree = TopicTree::new();
            filters.iter().for_each(|filter| tree.insert(filter, ()));
            for filter in &filters {
                prop_assert_eq!(tree.remove(filter, |()| true), Some(()));
            }
            prop_assert!(tree.is_empty() && tree.exact.is_empty() && tree.free.is_empty());
            prop_assert!(tree.nodes.len() == 1 && tree.nodes[ROOT].is_empty());
        }
    }
}
