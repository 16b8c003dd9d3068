//! What the schema expected where a document does not fit, in words for a person or a model.
//!
//! A message is made of the schema's side: types, limits, options, names. Of the document it has at most
//! the names of unexpected properties, and those only when they are short and plain; never a value, because
//! a value can be a credential. Everything is bounded, and the same violation has the same words always.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value;

use super::bounded;
use crate::error::Violation;

/// Longest message, in characters.
const MAX_MESSAGE: usize = 300;
/// Longest path, in characters.
const MAX_PATH: usize = 200;
/// Most options, names or alternatives that are listed.
const MAX_LISTED: usize = 8;
/// Longest option of the schema or name of the document that is repeated, in characters.
const MAX_WORD: usize = 40;

/// The violation that an error of the validator stands for. `schema` is the whole schema.
pub(super) fn violation(schema: &Value, error: &ValidationError<'_>) -> Violation {
    let path = bounded(error.instance_path().as_str(), MAX_PATH);
    Violation::new(path, error.kind().keyword(), bounded(&expected(schema, error), MAX_MESSAGE))
}

fn expected(schema: &Value, error: &ValidationError<'_>) -> String {
    match error.kind() {
        Kind::Type { kind } => format!("expected {}", types(kind)),
        Kind::Enum { options } => {
            let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
            format!("expected one of {}", list(options.iter().map(word), ", "))
        }
        Kind::Constant { expected_value } => format!("expected {}", word(expected_value)),
        Kind::Required { property } => format!("expected the property {}", word(property)),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            unexpected_properties(schema, error, unexpected)
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => alternatives(schema, error, context),
        Kind::OneOfMultipleValid { context } => {
            let fitting = context.iter().filter(|errors| errors.is_empty()).count();
            format!("expected to fit exactly one of {} alternatives, fits {fitting}", context.len())
        }
        Kind::Custom { keyword, .. } if keyword == "pattern" => {
            let pattern = schema.pointer(error.schema_path().as_str()).and_then(Value::as_str);
            format!("expected text that matches {}", bounded(pattern.unwrap_or("the pattern"), 120))
        }
        Kind::Format { format } => format!("expected text in the format {}", bounded(format, MAX_WORD)),
        Kind::PropertyNames { error: inner } => {
            format!("a property's name does not fit: {}", expected(schema, inner))
        }
        Kind::Not { schema: negated } => {
            format!("expected anything but {}", bounded(&negated.to_string(), 120))
        }
        Kind::FalseSchema => "expected to be absent: the schema allows no value here".to_owned(),
        Kind::UniqueItems | Kind::Custom { .. } => "expected items that differ from each other".to_owned(),
        other => sized(other).unwrap_or_else(|| error.masked_with("the value").to_string()),
    }
}

/// Limits of numbers, texts, arrays and objects.
fn sized(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::Minimum { limit } => format!("expected a number of at least {limit}"),
        Kind::Maximum { limit } => format!("expected a number of at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("expected a number above {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("expected a number below {limit}"),
        Kind::MultipleOf { multiple_of } => format!("expected a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("expected at least {}", count(*limit, "character")),
        Kind::MaxLength { limit } => format!("expected at most {}", count(*limit, "character")),
        Kind::MinItems { limit } => format!("expected at least {}", count(*limit, "item")),
        Kind::MaxItems { limit } => format!("expected at most {}", count(*limit, "item")),
        Kind::MinProperties { limit } => format!("expected at least {}", properties(*limit)),
        Kind::MaxProperties { limit } => format!("expected at most {}", properties(*limit)),
        Kind::AdditionalItems { limit } => format!("expected at most {}", count(*limit as u64, "item")),
        Kind::Contains => "expected an item that fits `contains`".to_owned(),
        Kind::UnevaluatedItems { .. } => "expected no further items".to_owned(),
        _ => return None,
    })
}

fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn properties(n: u64) -> String {
    if n == 1 { "1 property".to_owned() } else { format!("{n} properties") }
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => one.to_string(),
        TypeKind::Multiple(set) => list(set.iter().map(|one| one.to_string()), " or "),
    }
}

/// Names what is too much and what would be allowed, which stands beside the keyword in the schema.
fn unexpected_properties(schema: &Value, error: &ValidationError<'_>, unexpected: &[String]) -> String {
    let shown = unexpected.iter().filter(|name| is_plain(name)).map(|name| format!("`{name}`"));
    let shown: Vec<String> = shown.collect();
    let mut text = match (shown.is_empty(), unexpected.len()) {
        (true, 1) => "1 property is not expected".to_owned(),
        (true, n) => format!("{n} properties are not expected"),
        (false, 1) => format!("{} is not expected", shown[0]),
        (false, _) => format!("{} are not expected", list(shown.into_iter(), ", ")),
    };
    let parent = error.schema_path().as_str().rsplit_once('/').map_or("", |(parent, _)| parent);
    if let Some(allowed) = schema.pointer(parent).and_then(|s| s["properties"].as_object())
        && !allowed.is_empty()
    {
        text.push_str("; allowed: ");
        text.push_str(&list(allowed.keys().map(|name| format!("`{}`", bounded(name, MAX_WORD))), ", "));
    }
    text
}

/// What each branch of `anyOf` or `oneOf` expected: its first errors, nearest first.
fn alternatives(
    schema: &Value,
    error: &ValidationError<'_>,
    context: &[Vec<ValidationError<'static>>],
) -> String {
    let here = error.instance_path().as_str();
    let mut told: Vec<String> = Vec::new();
    for branch in context {
        // a branch of another type says nothing but its type; one of this type says what it misses
        let Some(first) = branch.iter().min_by_key(|e| e.instance_path().as_str().len()) else { continue };
        let words = expected(schema, first);
        let words = words.strip_prefix("expected ").unwrap_or(&words);
        let below = first.instance_path().as_str().strip_prefix(here).unwrap_or_default();
        let words = match below {
            "" => bounded(words, 90),
            below => format!("at {}: {}", bounded(below, 60), bounded(words, 90)),
        };
        if !told.contains(&words) {
            told.push(words);
        }
    }
    match told.len() {
        0 => "fits none of the alternatives".to_owned(),
        _ => format!("expected {}", list(told.into_iter(), " or ")),
    }
}

/// A value of the schema, whole when it is short.
fn word(value: &Value) -> String {
    match value {
        Value::Array(_) => format!("the array {}", bounded(&value.to_string(), MAX_WORD)),
        Value::Object(_) => format!("the object {}", bounded(&value.to_string(), MAX_WORD)),
        Value::String(text) => format!("\"{}\"", bounded(text, MAX_WORD)),
        other => other.to_string(),
    }
}

/// The first of many, and how many more there are.
fn list(words: impl Iterator<Item = String>, between: &str) -> String {
    let words: Vec<String> = words.collect();
    let mut text = words.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(between);
    if words.len() > MAX_LISTED {
        text.push_str(&format!(" and {} more", words.len() - MAX_LISTED));
    }
    text
}

/// A name no longer than a person would choose, of letters, digits and the usual marks.
fn is_plain(name: &str) -> bool {
    let is_mark = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | ' ');
    !name.is_empty() && name.chars().count() <= 24 && name.chars().all(is_mark)
}
