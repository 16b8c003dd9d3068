//! `pattern` with a bounded amount of matching for one document.
//!
//! The `regex` engine is linear in the text times the states of the compiled pattern, and that product can
//! be minutes: `[ab]*a[ab]{5000}c` reads a text of 1 MiB for 45 s. Every pattern knows an upper bound of its
//! states, every match spends text times states, and a document that spends more than [`MAX_STEPS`] is
//! refused. The count depends on schema and document only, so the answer is the same every time.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jsonschema::{Keyword, ValidationError, Validator, paths::Location};
use serde_json::{Map, Value, json};

/// Bytes of text times states that matching one document may take; about 2 s at the worst.
const MAX_STEPS: u64 = 250_000_000;
/// Sizes a pattern is compiled within, in bytes; the first that is enough says how many states it has.
const SIZES: [usize; 3] = [16 << 10, 128 << 10, 1 << 20];
/// Bytes of a state in the engine, at least.
const STATE_BYTES: u64 = 32;
/// Memory a pattern may use to remember what it matched before, in bytes.
const DFA_BYTES: usize = 128 << 10;
/// Memory all compiled patterns of one schema share, in bytes.
const SHARED_BYTES: usize = 16 << 20;

thread_local! {
    /// Steps left for the document this thread checks; `None` when they were not enough.
    static STEPS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Checks with a full measure of steps; `None` when they were not enough.
pub(super) fn within_steps<T>(check: impl FnOnce() -> T) -> Option<T> {
    STEPS.set(Some(MAX_STEPS));
    let checked = check();
    STEPS.get().map(|_| checked)
}

/// The validator's options, with patterns on the linear-time engine and within `bytes` each.
fn options(bytes: usize) -> jsonschema::ValidationOptions<'static> {
    let patterns = jsonschema::PatternOptions::regex().size_limit(bytes).dfa_size_limit(DFA_BYTES);
    jsonschema::options().with_draft(jsonschema::Draft::Draft202012).with_pattern_options(patterns).offline()
}

/// The validator's options for a schema with these patterns. Those of `patternProperties` match every name
/// of an object and are not counted in steps, so they have to be small.
pub(super) fn options_of(shared: &Shared) -> jsonschema::ValidationOptions<'static> {
    options(SIZES[0]).with_keyword("pattern", keyword(shared.clone()))
}

/// The memory all patterns of one schema share.
#[derive(Clone)]
pub(super) struct Shared {
    most_each: usize,
    bytes: Arc<AtomicUsize>,
}

impl Shared {
    /// Among so many patterns.
    pub(super) fn among(patterns: usize) -> Self {
        let bytes = AtomicUsize::new(patterns.saturating_mul(DFA_BYTES));
        Self { most_each: SHARED_BYTES / patterns.max(1), bytes: Arc::new(bytes) }
    }

    /// What the patterns compiled so far may use, with what matching needs, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

struct Pattern {
    validator: Validator,
    states: u64,
}

impl Pattern {
    fn compile(pattern: &Value, shared: &Shared) -> Result<Self, String> {
        let schema = json!({"pattern": pattern});
        let mut refused = "the pattern is too large".to_owned();
        for bytes in SIZES.into_iter().filter(|&bytes| bytes <= shared.most_each) {
            match options(bytes).build(&schema) {
                Ok(validator) => {
                    shared.bytes.fetch_add(bytes, Ordering::Relaxed);
                    return Ok(Self { validator, states: bytes as u64 / STATE_BYTES });
                }
                Err(error) => refused = error.to_string(),
            }
        }
        Err(refused)
    }
}

impl<'i> Keyword<'i> for Pattern {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) { Ok(()) } else { Err(ValidationError::custom("does not match")) }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        let Some(text) = instance.as_str() else { return true };
        let steps = (text.len() as u64).saturating_mul(self.states);
        STEPS.set(STEPS.get().and_then(|left| left.checked_sub(steps)));
        STEPS.get().is_some() && self.validator.is_valid(instance)
    }
}

type Made<'a> = Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>>;

fn keyword(
    shared: Shared,
) -> impl for<'a> Fn(&'a Map<String, Value>, &'a Value, Location) -> Made<'a> + Send + Sync + 'static {
    move |_, pattern, _| match Pattern::compile(pattern, &shared) {
        Ok(made) => Ok(Box::new(made)),
        Err(refused) => Err(ValidationError::schema(refused)),
    }
}
