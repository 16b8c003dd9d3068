//! `pattern` with a bounded amount of matching for one document.
//!
//! The `regex` engine is linear in the text times the states of the compiled pattern, and that product can
//! be minutes: `[ab]*a[ab]{5000}c` reads a text of 1 MiB for 45 s. Every pattern knows an upper bound of its
//! states, every match spends text times states, and a document that spends more than [`MAX_STEPS`] is
//! refused. The count depends on schema and document only, so the answer is the same every time.

use std::cell::Cell;

use jsonschema::{Keyword, ValidationError, Validator, paths::Location};
use serde_json::{Map, Value, json};

/// Bytes of text times states that matching one document may take; about 2 s at the worst.
const MAX_STEPS: u64 = 250_000_000;
/// Sizes a pattern is compiled within, in bytes; the first that is enough says how many states it has.
const SIZES: [usize; 3] = [16 << 10, 128 << 10, 1 << 20];
/// Bytes of a state in the engine, at least.
const STATE_BYTES: u64 = 32;
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
    let patterns = jsonschema::PatternOptions::regex().size_limit(bytes).dfa_size_limit(1 << 20);
    jsonschema::options().with_draft(jsonschema::Draft::Draft202012).with_pattern_options(patterns).offline()
}

/// The validator's options for a schema of so many patterns. Those of `patternProperties` match every name
/// of an object and are not counted in steps, so they have to be small.
pub(super) fn options_of(patterns: usize) -> jsonschema::ValidationOptions<'static> {
    options(SIZES[0]).with_keyword("pattern", keyword(patterns))
}

struct Pattern {
    validator: Validator,
    states: u64,
}

impl Pattern {
    /// `shared` patterns share the memory there is.
    fn compile(pattern: &Value, shared: usize) -> Result<Self, String> {
        let schema = json!({"pattern": pattern});
        let most = SHARED_BYTES / shared.max(1);
        let mut refused = "the pattern is too large".to_owned();
        for bytes in SIZES.into_iter().filter(|&bytes| bytes <= most) {
            match options(bytes).build(&schema) {
                Ok(validator) => return Ok(Self { validator, states: bytes as u64 / STATE_BYTES }),
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
    patterns: usize,
) -> impl for<'a> Fn(&'a Map<String, Value>, &'a Value, Location) -> Made<'a> + Send + Sync + 'static {
    move |_, pattern, _| match Pattern::compile(pattern, patterns) {
        Ok(made) => Ok(Box::new(made)),
        Err(refused) => Err(ValidationError::schema(refused)),
    }
}
