//! How much work a schema can make of a document, known before the work begins.
//!
//! For every number of levels below the root, an upper bound of the subschema evaluations that can meet at
//! one place there: branches at the same place add up, of the properties of an object only the dearest
//! counts, and so do recursion and the keywords that ask twice. The bounds times the places a document has
//! are its price. They follow what the `jsonschema` crate does: `anyOf` asks all branches and, when none
//! holds, collects every branch's errors; `unevaluated…` asks every branch again, at every level.
//! All arithmetic saturates.

use std::collections::BTreeMap;

use serde_json::Value;

use super::graph::{Graph, How, Id, Node};
use super::{MAX_DEPTH, MAX_EVALUATIONS, SchemaError};

/// Most entries of all tables of one level: what keeps the computation itself short.
const MAX_ENTRIES: usize = 50_000;
/// Longest chain of subschemas at one place.
const MAX_CHAIN: u64 = 256;
/// Longest chain of subschemas over all levels of a document: the validator recurses along it.
const MAX_STACK: u64 = 800;
/// Most evaluations one document may make.
const MAX_WORK: u64 = 20_000_000;
/// Most evaluations that may leave an error behind.
const MAX_ERRORS: u64 = 500_000;
/// Most values that errors may copy out of the document.
const MAX_COPIES: u64 = 2_000_000;
/// Evaluations that `uniqueItems` counts as, at every place below: it sorts.
const SORTING: u64 = 8;
/// Bytes of text that count as one place more: patterns and lengths read them.
const TEXT_BYTES: usize = 64;

/// Evaluations at one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    /// That cannot be escaped: of alternatives only the dearest is in it.
    needed: u64,
    /// To say yes or no.
    asked: u64,
    /// To find what the branches evaluated, for an `unevaluated…` above.
    marked: u64,
    /// To collect the errors.
    explained: u64,
    /// Errors that copy what they are about.
    copied: u64,
}

impl Cost {
    fn of(own: u64) -> Self {
        Self { needed: own, asked: own, marked: 0, explained: own, copied: 0 }
    }

    fn zip(self, other: Self, add: fn(u64, u64) -> u64) -> Self {
        Self {
            needed: add(self.needed, other.needed),
            asked: add(self.asked, other.asked),
            marked: add(self.marked, other.marked),
            explained: add(self.explained, other.explained),
            copied: add(self.copied, other.copied),
        }
    }

    fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    fn most(self, other: Self) -> Self {
        self.zip(other, u64::max)
    }

    /// Beside another alternative.
    fn or(self, other: Self) -> Self {
        Self { needed: self.needed.max(other.needed), ..self.plus(other) }
    }

    /// As a branch of a schema at the same place.
    fn as_branch(self, how: How) -> Self {
        let marked = self.asked.saturating_add(self.marked);
        match how {
            How::All => Self { marked, ..self },
            How::Choice => Self {
                marked,
                explained: self.asked.saturating_add(self.explained),
                copied: self.explained.saturating_add(self.copied),
                ..self
            },
            How::Test => Self { marked, explained: self.asked, copied: 0, ..self },
        }
    }

    /// As a child that is asked once.
    fn as_child(self) -> Self {
        Self { marked: 0, ..self }
    }

    /// As a child that is asked when evaluated, marked and explained.
    fn as_asked_child(self) -> Self {
        let explained = self.asked.saturating_add(self.explained);
        Self { marked: self.asked, explained, ..self }
    }

    /// With the `unevaluated…` keywords that ask all branches again.
    fn asked_again(self, times: u64) -> Self {
        let again = self.marked.saturating_mul(times);
        Self {
            needed: self.needed.saturating_add(again),
            asked: self.asked.saturating_add(again),
            explained: self.explained.saturating_add(again),
            ..self
        }
    }
}

/// What a schema asks of each child of one place: by name and by position.
#[derive(Clone, Default)]
struct Reach<'s> {
    named: BTreeMap<&'s str, Cost>,
    other_names: Cost,
    prefix: Vec<Cost>,
    other_items: Cost,
}

impl<'s> Reach<'s> {
    fn join(&mut self, other: &Self, change: impl Fn(Cost) -> Cost, join: fn(Cost, Cost) -> Cost) {
        let rest = change(other.other_names);
        for (name, cost) in &mut self.named {
            *cost = join(*cost, other.named.get(name).copied().map_or(rest, &change));
        }
        for (name, cost) in &other.named {
            if !self.named.contains_key(name) {
                self.named.insert(name, join(self.other_names, change(*cost)));
            }
        }
        self.other_names = join(self.other_names, rest);
        let rest = change(other.other_items);
        let length = self.prefix.len().max(other.prefix.len());
        self.prefix.resize(length, self.other_items);
        for (n, cost) in self.prefix.iter_mut().enumerate() {
            *cost = join(*cost, other.prefix.get(n).copied().map_or(rest, &change));
        }
        self.other_items = join(self.other_items, rest);
    }

    fn every(&mut self, change: impl Fn(Cost) -> Cost) {
        let all = self.named.values_mut().chain(&mut self.prefix);
        for cost in all.chain([&mut self.other_names, &mut self.other_items]) {
            *cost = change(*cost);
        }
    }

    fn dearest(&self) -> Cost {
        let all = self.named.values().chain(&self.prefix).copied();
        all.fold(self.other_names.most(self.other_items), Cost::most)
    }

    fn len(&self) -> usize {
        self.named.len() + self.prefix.len() + 1
    }
}

/// The bounds of one schema, by level.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    costs: Vec<Cost>,
    stacks: Vec<u64>,
    /// Bytes of a property's name that count as one place more.
    name_bytes: usize,
}

/// What a document's size allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Validate and explain.
    Explain,
    /// Validate; to collect what is wrong would take too much memory.
    Ask,
    /// Neither.
    Refuse,
}

impl Bounds {
    /// Computes them, or names the subschema that makes too much work of any document.
    pub(super) fn of(graph: &Graph<'_>) -> Result<Self, SchemaError> {
        let too_complex = |id: Id| SchemaError::TooComplex { at: graph.nodes[id].pointer.clone() };
        let mut costs = at_the_place(graph);
        let mut stacks = chains(graph, None);
        if let Some(&id) =
            graph.order.iter().find(|&&id| costs[id].asked > MAX_EVALUATIONS || stacks[id] > MAX_CHAIN)
        {
            return Err(too_complex(id));
        }
        let names = costs.clone();
        // `patternProperties` reads every byte of every name
        let name_bytes = if graph.nodes.iter().any(|n| !n.matching.is_empty()) { 1 } else { TEXT_BYTES };
        let mut bounds = Self { costs: vec![costs[0]], stacks: vec![stacks[0]], name_bytes };
        let mut is_settled = false;
        for level in 1..=MAX_DEPTH {
            if !is_settled {
                let names = if level == 1 { Some(names.as_slice()) } else { None };
                let below = one_level_below(graph, &costs, names).map_err(too_complex)?;
                is_settled = level > 1 && below == costs;
                costs = below;
            }
            if let Some(&id) = graph.order.iter().find(|&&id| costs[id].needed > MAX_EVALUATIONS) {
                return Err(too_complex(id));
            }
            stacks = chains(graph, Some(&stacks));
            bounds.costs.push(costs[0]);
            bounds.stacks.push(stacks[0]);
        }
        Ok(bounds)
    }

    /// What this document allows; it nests at most [`MAX_DEPTH`] deep.
    pub(super) fn judge(&self, document: &Value) -> Verdict {
        let places = places(document, self.name_bytes);
        let depth = places.iter().rposition(|&n| n > 0).unwrap_or(0);
        let price = |of: fn(&Cost) -> u64| {
            let each = places.iter().zip(&self.costs).map(|(n, cost)| n.saturating_mul(of(cost)));
            each.fold(0, u64::saturating_add)
        };
        if self.stacks[depth] > MAX_STACK || price(|cost| cost.asked) > MAX_WORK {
            return Verdict::Refuse;
        }
        // an error copies the place it is about and all that lies below
        let above = self.costs.iter().scan(0_u64, |sum, cost| {
            *sum = sum.saturating_add(cost.copied);
            Some(*sum)
        });
        let copies = places.iter().zip(above).map(|(n, errors)| n.saturating_mul(errors));
        let is_small =
            price(|cost| cost.explained) <= MAX_ERRORS && copies.fold(0, u64::saturating_add) <= MAX_COPIES;
        if is_small { Verdict::Explain } else { Verdict::Ask }
    }

    /// The bounds of evaluations for this document: to say yes or no, and to collect errors.
    #[cfg(test)]
    pub(super) fn price(&self, document: &Value) -> (u64, u64) {
        let places = places(document, self.name_bytes);
        let sum = |of: fn(&Cost) -> u64| {
            places
                .iter()
                .zip(&self.costs)
                .map(|(n, cost)| n.saturating_mul(of(cost)))
                .fold(0, u64::saturating_add)
        };
        (sum(|cost| cost.asked), sum(|cost| cost.explained))
    }
}

/// How many values a document has at each level. Long texts count more, and names count where they are
/// looked at: one level below their object.
fn places(document: &Value, name_bytes: usize) -> Vec<u64> {
    let mut places = vec![0; MAX_DEPTH + 2];
    let mut level = vec![document];
    for depth in 0..=MAX_DEPTH {
        let mut next = Vec::new();
        for value in level {
            places[depth] += 1;
            match value {
                Value::String(text) => places[depth] += (text.len() / TEXT_BYTES) as u64,
                Value::Array(items) => next.extend(items),
                Value::Object(members) => {
                    let bytes = members.keys().map(|name| name.len() / name_bytes);
                    places[depth + 1] += bytes.sum::<usize>() as u64;
                    next.extend(members.values());
                }
                _ => {}
            }
        }
        level = next;
    }
    places.truncate(MAX_DEPTH + 1);
    places
}

/// Costs at the very place a schema is applied to.
fn at_the_place(graph: &Graph<'_>) -> Vec<Cost> {
    let mut costs = vec![Cost::default(); graph.nodes.len()];
    for &id in &graph.order {
        let node = &graph.nodes[id];
        let mut cost = Cost::of(node.own);
        for branches in &node.branches {
            let each = branches.ids.iter().map(|&b| costs[b].as_branch(branches.how));
            cost = cost.plus(together(each, branches.how));
        }
        costs[id] = cost.asked_again(node.unevaluated());
    }
    costs
}

fn together(costs: impl Iterator<Item = Cost>, how: How) -> Cost {
    costs.fold(Cost::default(), if how == How::Choice { Cost::or } else { Cost::plus })
}

/// Costs one level further below, from those of the `children` one level nearer. `names` are the costs at
/// a property's name, which lies one level below and has nothing below itself.
fn one_level_below(graph: &Graph<'_>, children: &[Cost], names: Option<&[Cost]>) -> Result<Vec<Cost>, Id> {
    let mut reaches: Vec<Reach<'_>> = vec![Reach::default(); graph.nodes.len()];
    let mut costs = vec![Cost::default(); graph.nodes.len()];
    let mut entries = 0;
    for &id in &graph.order {
        let node = &graph.nodes[id];
        let mut reach = reach_of(node, children, names);
        for branches in &node.branches {
            let mut joined = Reach::default();
            let join = if branches.how == How::Choice { Cost::or } else { Cost::plus };
            for &branch in &branches.ids {
                joined.join(&reaches[branch], |cost| cost.as_branch(branches.how), join);
            }
            reach.join(&joined, |cost| cost, Cost::plus);
        }
        reach.every(|cost| cost.asked_again(node.unevaluated()));
        costs[id] = reach.dearest();
        entries += reach.len();
        if entries > MAX_ENTRIES {
            return Err(id);
        }
        reaches[id] = reach;
    }
    Ok(costs)
}

/// What a schema's own keywords ask of the children.
fn reach_of<'s>(node: &Node<'s>, children: &[Cost], names: Option<&[Cost]>) -> Reach<'s> {
    let sum = |ids: &[Id]| ids.iter().map(|&id| children[id].as_child()).fold(Cost::default(), Cost::plus);
    let one = |id: Option<Id>| id.map(|id| children[id].as_child()).unwrap_or_default();
    let asked = |id: Option<Id>| id.map(|id| children[id].as_asked_child()).unwrap_or_default();
    let mut every_name = Cost::default();
    if let Some(names) = names {
        // patterns are tried on every name
        every_name = Cost::of(node.matching.len() as u64);
        every_name =
            every_name.plus(node.names.map(|id| names[id].as_asked_child().as_child()).unwrap_or_default());
    }
    let matching = sum(&node.matching);
    let mut reach = Reach::default();
    for &(name, id) in &node.named {
        reach.named.insert(name, children[id].as_child().plus(matching).plus(every_name));
    }
    let unnamed = matching.most(one(node.additional)).plus(asked(node.unevaluated_properties));
    reach.other_names = unnamed.plus(every_name);
    let every_item = asked(node.contains);
    reach.prefix = node.prefix.iter().map(|&id| children[id].as_child().plus(every_item)).collect();
    reach.other_items = one(node.items).plus(asked(node.unevaluated_items)).plus(every_item);
    if node.is_unique {
        reach.every(|cost| cost.plus(Cost::of(SORTING)));
    }
    reach
}

/// The longest chain of subschemas from each schema down, one level deeper than `nearer`.
fn chains(graph: &Graph<'_>, nearer: Option<&[u64]>) -> Vec<u64> {
    let mut chains = vec![0; graph.nodes.len()];
    for &id in &graph.order {
        let node = &graph.nodes[id];
        let branches = node.branches.iter().flat_map(|b| &b.ids).map(|&b| chains[b]);
        let children = node.children().filter_map(|child| nearer.map(|nearer| nearer[child]));
        chains[id] = 1 + branches.chain(children).max().unwrap_or(0);
    }
    chains
}
