//! The filters that have a wildcard, as a trie over levels.
//!
//! Nodes lie in one vector; the edge to a literal child is an entry of one hash table for the
//! whole trie, keyed by parent and level, so a node with a million children costs no more than a
//! million nodes with one. The child for `+` and the filter that ends in `#` are fields of the
//! node. A node without children and filters does not stay.
//!
//! Matching visits each node whose path matches the front of the topic once, and keeps at most
//! one node to come back to per level: its stack is as deep as the topic.

use super::level_table::{LevelTable, NO_SYMBOL};
use crate::index_table::IndexTable;
use crate::map::{KeyedHash, short_hash};
use crate::table::Table;
use crate::topic;

/// Stands where there is no node and where there is no filter.
pub(super) const NONE: u32 = u32::MAX;
/// The node of the empty path. It has no parent and always exists.
const ROOT: u32 = 0;
/// The symbol of `+`.
const PLUS: u32 = NO_SYMBOL - 1;

/// Levels of a topic for which matching needs only a small array on the stack. Deeper topics, up
/// to the second, take a larger array; beyond that matching allocates.
const SHALLOW: usize = 8;
const DEEP: usize = 128;

/// A level of the topic that is matched: where it is, and its hash.
#[derive(Clone, Copy)]
struct TopicLevel {
    start: u32,
    end: u32,
    hash: u32,
}

const NO_LEVEL: TopicLevel = TopicLevel {
    start: 0,
    end: 0,
    hash: 0,
};

/// Where a filter is in the trie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Position {
    node: u32,
    /// The filter ends in `#`.
    multi: bool,
}

struct Node {
    parent: u32,
    /// The last level of this node's path: a literal, or [`PLUS`].
    symbol: u32,
    /// The child for `+`.
    plus: u32,
    /// The filter that ends here.
    exact: u32,
    /// The filter that ends in `#` after this path.
    multi: u32,
    /// How many literal children there are; they are found through `edges`.
    literals: u32,
}

const _: () = assert!(size_of::<Node>() == 24);

pub(super) struct Trie {
    hash: KeyedHash,
    levels: LevelTable,
    nodes: Table<Node>,
    free: Vec<u32>,
    /// Literal children, by parent and level.
    edges: IndexTable,
}

impl Trie {
    pub(super) fn new(seed: u64) -> Trie {
        Trie {
            hash: KeyedHash::new(seed),
            levels: LevelTable::new(seed.wrapping_add(1)),
            nodes: Table::from_iter([Node::new(NONE, NO_SYMBOL)]),
            free: Vec::new(),
            edges: IndexTable::new(),
        }
    }

    /// Puts `filter` in the place of the filter with this text, which must be empty.
    pub(super) fn insert(&mut self, filter: &str, id: u32) -> Position {
        let (path, multi) = split(filter);
        let mut node = ROOT;
        for level in path.into_iter().flat_map(|path| path.split('/')) {
            node = if level == "+" {
                self.plus_child(node)
            } else {
                self.child(node, level)
            };
        }
        let position = Position { node, multi };
        let place = self.place_mut(position);
        assert!(*place == NONE, "a filter is inserted once");
        *place = id;
        position
    }

    /// The filter with this text.
    pub(super) fn find(&self, filter: &str) -> Option<u32> {
        let (path, multi) = split(filter);
        let mut node = ROOT;
        for level in path.into_iter().flat_map(|path| path.split('/')) {
            node = match level {
                "+" => self.nodes[node as usize].plus,
                _ => self.edge(node, level, self.levels.hash(level)),
            };
            if node == NONE {
                return None;
            }
        }
        let node = &self.nodes[node as usize];
        let id = if multi { node.multi } else { node.exact };
        (id != NONE).then_some(id)
    }

    /// Takes a filter away, and the nodes that were there for it alone.
    pub(super) fn remove(&mut self, position: Position) {
        let place = self.place_mut(position);
        assert!(*place != NONE, "a filter is removed once");
        *place = NONE;
        let mut index = position.node;
        // At most one round per level of the filter.
        while index != ROOT && self.nodes[index as usize].is_unused() {
            let Node { parent, symbol, .. } = self.nodes[index as usize];
            if symbol == PLUS {
                self.nodes[parent as usize].plus = NONE;
            } else {
                self.edges
                    .remove(self.edge_hash(parent, self.levels.hash_of(symbol)), index);
                self.nodes[parent as usize].literals -= 1;
                self.levels.release(symbol);
            }
            self.free.push(index);
            index = parent;
        }
    }

    /// The text of a filter.
    pub(super) fn text(&self, position: Position) -> String {
        let mut path = Vec::new();
        let mut index = position.node;
        while index != ROOT {
            let node = &self.nodes[index as usize];
            path.push(if node.symbol == PLUS {
                "+"
            } else {
                self.levels.text(node.symbol)
            });
            index = node.parent;
        }
        path.reverse();
        if position.multi {
            path.push("#");
        }
        path.join("/")
    }

    /// Whether a filter begins with a wildcard.
    pub(super) fn begins_wild(&self, position: Position) -> bool {
        let mut first = position.node;
        if first == ROOT {
            return position.multi;
        }
        while self.nodes[first as usize].parent != ROOT {
            first = self.nodes[first as usize].parent;
        }
        self.nodes[first as usize].symbol == PLUS
    }

    /// Visits every filter that matches `topic`, each once.
    #[inline]
    pub(super) fn for_each_match(&self, topic: &str, visit: impl FnMut(u32)) {
        let count = topic::levels(topic);
        if count <= SHALLOW {
            self.walk(
                topic,
                &mut [NO_LEVEL; SHALLOW],
                &mut [(0, 0); SHALLOW],
                count,
                visit,
            );
        } else if count <= DEEP {
            self.walk(
                topic,
                &mut [NO_LEVEL; DEEP],
                &mut [(0, 0); DEEP],
                count,
                visit,
            );
        } else {
            self.walk(
                topic,
                &mut vec![NO_LEVEL; count],
                &mut vec![(0, 0); count],
                count,
                visit,
            );
        }
    }

    /// Depth first, literal before `+`. `levels` and `pending` have room for every level.
    fn walk(
        &self,
        topic: &str,
        levels: &mut [TopicLevel],
        pending: &mut [(u32, u32)],
        count: usize,
        mut visit: impl FnMut(u32),
    ) {
        let is_hidden = topic.starts_with('$');
        // A level is cut out and hashed once, when a node first asks for it.
        let mut levels_known = 0;
        let mut rest = 0;
        let mut pending_count = 0;
        let (mut index, mut depth) = (ROOT, 0);
        loop {
            let node = &self.nodes[index as usize];
            // [MQTT-4.7.2-1]: no wildcard in the first level for topics that begin with `$`.
            let wild = !(is_hidden && depth == 0);
            if wild && node.multi != NONE {
                visit(node.multi);
            }
            let (mut plus, mut literal) = (NONE, NONE);
            if depth == count {
                if node.exact != NONE {
                    visit(node.exact);
                }
            } else {
                if wild {
                    plus = node.plus;
                }
                if node.literals > 0 {
                    while levels_known <= depth {
                        levels[levels_known] = self.cut_level(topic, rest);
                        rest = levels[levels_known].end as usize + 1;
                        levels_known += 1;
                    }
                    let TopicLevel { start, end, hash } = levels[depth];
                    literal = self.edge(index, &topic[start as usize..end as usize], hash);
                }
            }
            if literal != NONE {
                if plus != NONE {
                    // At most one per depth: a level is left for good before it is seen again.
                    pending[pending_count] = (plus, depth as u32 + 1);
                    pending_count += 1;
                }
                (index, depth) = (literal, depth + 1);
            } else if plus != NONE {
                (index, depth) = (plus, depth + 1);
            } else if pending_count > 0 {
                pending_count -= 1;
                let (next, next_depth) = pending[pending_count];
                (index, depth) = (next, next_depth as usize);
            } else {
                return;
            }
        }
    }

    #[inline]
    fn cut_level(&self, topic: &str, start: usize) -> TopicLevel {
        let rest = &topic.as_bytes()[start..];
        let length = rest
            .iter()
            .position(|byte| *byte == b'/')
            .unwrap_or(rest.len());
        let hash = self.levels.hash(&topic[start..start + length]);
        TopicLevel {
            start: start as u32,
            end: (start + length) as u32,
            hash,
        }
    }

    /// The literal child, [`NONE`] if there is none.
    #[inline]
    fn edge(&self, parent: u32, level: &str, hash: u32) -> u32 {
        let is_same = |child: u32| {
            let child = &self.nodes[child as usize];
            child.parent == parent && self.levels.is(child.symbol, level)
        };
        self.edges
            .find(self.edge_hash(parent, hash), is_same)
            .unwrap_or(NONE)
    }

    #[inline]
    fn edge_hash(&self, parent: u32, level_hash: u32) -> u32 {
        short_hash(self.hash.pair(parent, level_hash))
    }

    fn child(&mut self, parent: u32, level: &str) -> u32 {
        let hash = self.levels.hash(level);
        let child = self.edge(parent, level, hash);
        if child != NONE {
            return child;
        }
        let symbol = self.levels.acquire(level, hash);
        let child = self.push_node(parent, symbol);
        self.edges.insert(self.edge_hash(parent, hash), child);
        self.nodes[parent as usize].literals += 1;
        child
    }

    fn plus_child(&mut self, parent: u32) -> u32 {
        let child = self.nodes[parent as usize].plus;
        if child != NONE {
            return child;
        }
        let child = self.push_node(parent, PLUS);
        self.nodes[parent as usize].plus = child;
        child
    }

    fn push_node(&mut self, parent: u32, symbol: u32) -> u32 {
        let node = Node::new(parent, symbol);
        if let Some(index) = self.free.pop() {
            self.nodes[index as usize] = node;
            return index;
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).expect("limits keep levels below 2^32")
    }

    fn place_mut(&mut self, position: Position) -> &mut u32 {
        let node = &mut self.nodes[position.node as usize];
        if position.multi {
            &mut node.multi
        } else {
            &mut node.exact
        }
    }

    /// Asserts that edges, counts and symbols agree with the nodes, that no node is there for
    /// nothing, and that `filters` are in their places and no others.
    pub(super) fn check(&self, filters: &[(u32, Position)]) {
        let mut used = vec![true; self.nodes.len()];
        for index in &self.free {
            assert!(
                std::mem::replace(&mut used[*index as usize], false),
                "freed once"
            );
        }
        let mut references = vec![0; self.levels.symbols_end()];
        let mut literals = vec![0; self.nodes.len()];
        let mut places = 0;
        for (index, node) in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(index, _)| used[*index])
        {
            places += usize::from(node.multi != NONE) + usize::from(node.exact != NONE);
            if node.plus != NONE {
                let plus = &self.nodes[node.plus as usize];
                assert!(used[node.plus as usize] && plus.parent == index as u32);
            }
            if index as u32 == ROOT {
                continue;
            }
            assert!(used[node.parent as usize], "a parent outlives its children");
            assert!(!node.is_unused(), "a node without use is pruned");
            if node.symbol == PLUS {
                assert_eq!(self.nodes[node.parent as usize].plus, index as u32);
            } else {
                references[node.symbol as usize] += 1;
                literals[node.parent as usize] += 1;
                let (level, hash) = (
                    self.levels.text(node.symbol),
                    self.levels.hash_of(node.symbol),
                );
                assert_eq!(self.edge(node.parent, level, hash), index as u32);
            }
        }
        for (index, node) in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(index, _)| used[*index])
        {
            assert_eq!(node.literals, literals[index]);
        }
        self.levels.check(&references);
        assert_eq!(literals.iter().sum::<u32>() as usize, self.edges.len());
        assert_eq!(places, filters.len());
        for (id, position) in filters {
            let node = &self.nodes[position.node as usize];
            assert_eq!(
                if position.multi {
                    node.multi
                } else {
                    node.exact
                },
                *id
            );
        }
    }
}

impl Node {
    fn new(parent: u32, symbol: u32) -> Node {
        Node {
            parent,
            symbol,
            plus: NONE,
            exact: NONE,
            multi: NONE,
            literals: 0,
        }
    }

    fn is_unused(&self) -> bool {
        self.plus == NONE && self.exact == NONE && self.multi == NONE && self.literals == 0
    }
}

/// The path before a trailing `#`, `None` if there is nothing before it, and whether there is one.
fn split(filter: &str) -> (Option<&str>, bool) {
    if filter == "#" {
        return (None, true);
    }
    match filter.strip_suffix("/#") {
        Some(path) => (Some(path), true),
        None => (Some(filter), false),
    }
}
