//! JSON Schema (draft 2020-12) as this product uses it: bounded, offline, values kept out of messages.
//!
//! Schemas come from projects and foreign tool servers, so a schema is an input like any other. Its size,
//! depth and patterns are bounded, references stay inside it, patterns run on the linear-time `regex`
//! engine, and `cost` knows before anything is validated how much work the schema can make: one that
//! makes too much of any document is refused, and so is a document that is too large for its schema.
//! `$schema` may name any published draft; the schema is read as 2020-12 all the same, because tool servers
//! say draft-07 and mean the part both have. `format` is checked.

mod cache;
mod cost;
mod explain;
mod graph;
mod pattern;
mod unique;

use std::sync::Arc;

use serde_json::Value;

use crate::error::Violation;
use cost::{Bounds, Verdict};
use explain::violation;
use graph::Graph;

/// Largest schema accepted, in bytes of its JSON text.
pub const MAX_SCHEMA_BYTES: usize = 64 * 1024;
/// Deepest nesting accepted, in schemas and in checked documents.
pub const MAX_DEPTH: usize = 64;
/// Most violations reported at once.
pub const MAX_VIOLATIONS: usize = 20;
/// Most patterns of one schema.
pub const MAX_PATTERNS: usize = 256;
/// Most evaluations of subschemas that must meet at one place of a document.
pub const MAX_EVALUATIONS: u64 = 10_000;

/// Bytes that one byte of a schema's text becomes when it is compiled, patterns apart.
const BYTES_OF_A_BYTE: usize = 32;

/// A compiled schema. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Schema(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    source: Value,
    validator: jsonschema::Validator,
    bounds: Bounds,
    /// What it takes in memory, roughly.
    bytes: usize,
}

/// Why a schema cannot be used. `at` is the JSON Pointer of the culprit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is larger than [`MAX_SCHEMA_BYTES`].
    #[error("the schema is larger than {MAX_SCHEMA_BYTES} bytes")]
    TooLarge,
    /// It nests deeper than [`MAX_DEPTH`].
    #[error("the schema nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// It has more patterns than [`MAX_PATTERNS`].
    #[error("the schema has more than {MAX_PATTERNS} patterns")]
    TooManyPatterns,
    /// Subschemas that refer to each other, or to one more than once, multiply beyond [`MAX_EVALUATIONS`].
    #[error(
        "the schema is too complex: what is asked at {} multiplies beyond {MAX_EVALUATIONS} evaluations of one value",
        place(at)
    )]
    TooComplex {
        /// The subschema.
        at: String,
    },
    /// A subschema refers back to itself without going one level down in the document.
    #[error(
        "the schema refers to itself in a circle at {}: a reference back must lie under properties, items or the like",
        place(at)
    )]
    RefCycle {
        /// A subschema of the circle.
        at: String,
    },
    /// A `$ref` that does not begin with `#`.
    #[error(
        "the reference at {} leaves the schema: only references that begin with # can be used",
        place(at)
    )]
    ForeignRef {
        /// The `$ref`.
        at: String,
    },
    /// A `$ref` whose pointer or anchor does not exist.
    #[error("the reference at {} leads nowhere", place(at))]
    DanglingRef {
        /// The `$ref`.
        at: String,
    },
    /// `$dynamicRef`, `$recursiveRef`, or an `$id` inside.
    #[error("{} cannot be used: dynamic references, and an $id below the root, are not supported", place(at))]
    Unsupported {
        /// The keyword.
        at: String,
    },
    /// A `$schema` that is no published draft.
    #[error("{} names no published draft of JSON Schema", place(at))]
    Dialect {
        /// The `$schema`.
        at: String,
    },
    /// It is no valid schema.
    #[error("the schema is not valid: {0}")]
    Invalid(String),
}

impl Schema {
    /// Compiles a schema, or says why it cannot be used. One compiled before is taken from memory.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        if depth_exceeds(schema, MAX_DEPTH) {
            return Err(SchemaError::TooDeep);
        }
        let text = schema.to_string();
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(SchemaError::TooLarge);
        }
        cache::get_or_compile(&text, || Self::compile_now(schema, text.len()))
    }

    /// Compiles a schema of `length` bytes whose depth is bounded, without looking whether it is kept.
    fn compile_now(schema: &Value, length: usize) -> Result<Self, SchemaError> {
        let graph = Graph::walk(schema)?;
        let bounds = Bounds::of(&graph)?;
        let patterns = pattern::Shared::among(graph.patterns);
        let validator = pattern::options_of(&patterns)
            .should_validate_formats(true)
            .with_keyword("uniqueItems", unique::keyword)
            .build(schema)
            .map_err(|error| {
                let at = place(error.instance_path().as_str());
                SchemaError::Invalid(format!("at {at}: {}", bounded(&error.to_string(), 300)))
            })?;
        let bytes = length.saturating_mul(BYTES_OF_A_BYTE).saturating_add(patterns.bytes());
        Ok(Self(Arc::new(Compiled { source: schema.clone(), validator, bounds, bytes })))
    }

    /// Checks a document; at most [`MAX_VIOLATIONS`] are returned, in the validator's order.
    /// Messages name what was expected and never repeat the document's values.
    ///
    /// A document that nests too deep, or is too large for this schema, is one violation (`depth`, `size`).
    pub fn validate(&self, document: &Value) -> Result<(), Vec<Violation>> {
        let refuse = |keyword: &str, message: String| Err(vec![Violation::new("", keyword, message)]);
        if depth_exceeds(document, MAX_DEPTH) {
            return refuse("depth", format!("nests deeper than {MAX_DEPTH} levels"));
        }
        let Compiled { source, validator, bounds, .. } = &*self.0;
        let verdict = bounds.judge(document);
        let is_valid = match verdict {
            Verdict::Refuse => None,
            Verdict::Ask | Verdict::Explain => pattern::within_steps(|| validator.is_valid(document)),
        };
        match is_valid {
            None => return refuse("size", TOO_MUCH.to_owned()),
            Some(true) => return Ok(()),
            Some(false) if verdict == Verdict::Ask => return refuse("size", UNEXPLAINED.to_owned()),
            Some(false) => {}
        }
        let explain = || -> Vec<Violation> {
            validator.iter_errors(document).take(MAX_VIOLATIONS).map(|e| violation(source, &e)).collect()
        };
        match pattern::within_steps(explain) {
            Some(found) if !found.is_empty() => Err(found),
            _ => refuse("size", UNEXPLAINED.to_owned()),
        }
    }
}

const TOO_MUCH: &str = "is too large, or nests too deep, for a schema as complex as this";
const UNEXPLAINED: &str =
    "does not fit the schema; for a document of this size it is too complex to say where";

/// The first `most` characters, with `…` where there are more.
fn bounded(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A pointer as messages name it, bounded.
fn place(pointer: &str) -> String {
    if pointer.is_empty() { "the root".to_owned() } else { bounded(pointer, 200) }
}

/// Does `value` nest deeper than `limit`? Iterates, so that a hostile document cannot exhaust the stack.
pub fn depth_exceeds(value: &Value, limit: usize) -> bool {
    let mut level: Vec<&Value> = vec![value];
    for _ in 0..=limit {
        level = level
            .into_iter()
            .flat_map(|v| -> Box<dyn Iterator<Item = &Value>> {
                match v {
                    Value::Array(items) => Box::new(items.iter()),
                    Value::Object(map) => Box::new(map.values()),
                    _ => Box::new(std::iter::empty()),
                }
            })
            .collect();
        if level.is_empty() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests;
