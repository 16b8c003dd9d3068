//! Which tool a question is for: the overlap of its words with what each tool says of itself.
//!
//! A word counts by where it stands (name, title, description, arguments) and by how few of the tools use
//! it. What the arguments could take from the question counts too: an id that only one tool can use is
//! stronger evidence than any adjective. Ties go to the tool listed first, so that the choice is stable.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ToolSpec;
use super::arguments::{Filled, fill};
use super::schema::{Property, properties};
use super::words::terms;

/// A tool as the planner knows it.
pub(super) struct Known<'a> {
    pub(super) spec: &'a ToolSpec,
    pub(super) properties: Vec<Property>,
    /// Each term with the weight of the best place it stands in.
    weights: BTreeMap<String, f64>,
    /// The terms of name and title.
    pub(super) named: BTreeSet<String>,
}

/// The tools of a request.
pub(super) struct Tools<'a> {
    pub(super) all: Vec<Known<'a>>,
}

/// The tool that fits best, and what it would be called with.
pub(super) struct Picked<'t> {
    pub(super) tool: &'t Known<'t>,
    pub(super) filled: Filled,
    /// The question has words of the tool's own name that not every tool has.
    pub(super) is_named: bool,
}

const NAME: f64 = 3.0;
const DESCRIPTION: f64 = 1.5;
const ARGUMENT_NAME: f64 = 1.0;
const ARGUMENT_DESCRIPTION: f64 = 0.4;
/// Less than this is no match: one word of a description that other tools use as well.
const LEAST: f64 = 0.9;

impl<'a> Known<'a> {
    fn new(spec: &'a ToolSpec) -> Self {
        let properties = properties(&spec.input_schema);
        let mut weights = BTreeMap::new();
        let mut add = |text: &str, weight: f64| {
            for term in terms(text) {
                let entry = weights.entry(term).or_insert(0.0f64);
                *entry = entry.max(weight);
            }
        };
        let title = spec.input_schema["title"].as_str().unwrap_or_default();
        // A provider's prefix names where a tool comes from, not what it does.
        let own_name = spec.name.split_once("__").map_or(spec.name.as_str(), |(_, name)| name);
        add(own_name, NAME);
        add(title, NAME);
        add(&spec.description, DESCRIPTION);
        for property in &properties {
            add(&property.name, ARGUMENT_NAME);
            add(&property.description, ARGUMENT_DESCRIPTION);
        }
        let named = terms(own_name).into_iter().chain(terms(title)).collect();
        Self { spec, properties, weights, named }
    }

    /// Does the tool use this term anywhere?
    pub(super) fn has_term(&self, term: &str) -> bool {
        self.weights.contains_key(term)
    }
}

impl<'a> Tools<'a> {
    pub(super) fn new(specs: &'a [ToolSpec]) -> Self {
        Self { all: specs.iter().map(Known::new).collect() }
    }

    /// How telling a term is: 1 when one of many tools has it, near 0 when all do.
    fn rarity(&self, term: &str) -> f64 {
        let count = self.all.len() as f64;
        let having: f64 = self.all.iter().filter_map(|tool| tool.weights.get(term)).map(|w| w / NAME).sum();
        let having = having.max(1.0);
        if self.all.len() == 1 {
            return 1.0;
        }
        ((count + 1.0) / (having + 0.5)).ln() / ((count + 1.0) / 1.5).ln()
    }

    /// The best tool for a text, or `None` when none has enough of its words.
    pub(super) fn pick<'t>(&'t self, text: &str) -> Option<Picked<'t>>
    where
        'a: 't,
    {
        let asked = terms(text);
        let mut best: Option<(f64, Picked<'t>)> = None;
        for tool in &self.all {
            let words: f64 =
                asked.iter().filter_map(|term| Some(tool.weights.get(term)? * self.rarity(term))).sum();
            let filled = fill(tool, text, 0);
            let has_id = filled.named_ids > 0;
            if words < LEAST && !(has_id && words > 0.0) {
                continue;
            }
            let score = words + filled.evidence;
            let is_named = tool.named.iter().any(|term| asked.contains(term) && self.rarity(term) > 0.4);
            if best.as_ref().is_none_or(|(top, _)| score > *top + 1e-9) {
                best = Some((score, Picked { tool, filled, is_named }));
            }
        }
        best.map(|(_, picked)| picked)
    }
}
