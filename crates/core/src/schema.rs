//! JSON Schema (draft 2020-12) as this product uses it: bounded, offline, values kept out of messages.
//!
//! Schemas come from projects, so a schema is an input like any other: its size and depth are bounded,
//! a `$ref` that leaves the document is refused, and patterns run on the linear-time `regex` engine.

use serde_json::Value;

use crate::error::Violation;

/// Largest schema accepted, in bytes of its JSON text.
pub const MAX_SCHEMA_BYTES: usize = 64 * 1024;
/// Deepest nesting accepted, in schemas and in checked documents.
pub const MAX_DEPTH: usize = 64;
/// Most violations reported at once.
pub const MAX_VIOLATIONS: usize = 20;

/// A compiled schema.
#[derive(Debug, Clone)]
pub struct Schema(std::sync::Arc<jsonschema::Validator>);

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is larger than [`MAX_SCHEMA_BYTES`].
    #[error("the schema is larger than {MAX_SCHEMA_BYTES} bytes")]
    TooLarge,
    /// It nests deeper than [`MAX_DEPTH`].
    #[error("the schema nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// It is no valid schema.
    #[error("the schema is not valid: {0}")]
    Invalid(String),
}

impl Schema {
    /// Compiles a schema, or says why it cannot be used.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        if depth_exceeds(schema, MAX_DEPTH) {
            return Err(SchemaError::TooDeep);
        }
        if schema.to_string().len() > MAX_SCHEMA_BYTES {
            return Err(SchemaError::TooLarge);
        }
        let patterns = jsonschema::PatternOptions::regex().size_limit(1 << 20).dfa_size_limit(1 << 20);
        jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(true)
            .with_pattern_options(patterns)
            .offline()
            .build(schema)
            .map(|validator| Self(std::sync::Arc::new(validator)))
            .map_err(|error| SchemaError::Invalid(bounded(&error.to_string())))
    }

    /// Checks a document; at most [`MAX_VIOLATIONS`] are returned, in the validator's order.
    /// Messages name what was expected and never repeat the document's values.
    pub fn validate(&self, document: &Value) -> Result<(), Vec<Violation>> {
        if depth_exceeds(document, MAX_DEPTH) {
            return Err(vec![Violation::new("", "depth", format!("nests deeper than {MAX_DEPTH} levels"))]);
        }
        let found: Vec<Violation> = self
            .0
            .iter_errors(document)
            .take(MAX_VIOLATIONS)
            .map(|error| {
                let message = bounded(&error.masked_with("the value").to_string());
                Violation::new(error.instance_path().to_string(), error.kind().keyword(), message)
            })
            .collect();
        if found.is_empty() { Ok(()) } else { Err(found) }
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(300).collect()
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
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_violation_says_where_and_never_repeats_the_value() {
        let schema = Schema::compile(&json!({
            "type": "object", "required": ["a"], "additionalProperties": false,
            "properties": {"a": {"type": "integer"}}
        }))
        .unwrap();
        let found = schema.validate(&json!({"a": "sk-secret"})).unwrap_err();
        assert_eq!((found[0].path.as_str(), found[0].keyword.as_str()), ("/a", "type"));
        assert!(!found[0].message.contains("sk-secret"), "{}", found[0].message);
        assert_eq!(schema.validate(&json!({})).unwrap_err()[0].keyword, "required");
        assert_eq!(schema.validate(&json!({"a": 1, "b": 2})).unwrap_err()[0].keyword, "additionalProperties");
    }

    #[test]
    fn a_schema_cannot_reach_the_network_or_a_file() {
        for reference in ["http://127.0.0.1/x.json", "https://example.com/x.json", "file:///etc/passwd"] {
            assert!(matches!(Schema::compile(&json!({"$ref": reference})), Err(SchemaError::Invalid(_))));
        }
    }

    #[test]
    fn oversized_deep_and_broken_schemas_are_refused() {
        let mut deep = json!({});
        for _ in 0..MAX_DEPTH + 2 {
            deep = json!({"not": deep});
        }
        assert_eq!(Schema::compile(&deep).unwrap_err(), SchemaError::TooDeep);
        let large = json!({"enum": ["x".repeat(MAX_SCHEMA_BYTES)]});
        assert_eq!(Schema::compile(&large).unwrap_err(), SchemaError::TooLarge);
        assert!(Schema::compile(&json!({"type": "no such type"})).is_err());
        assert!(Schema::compile(&json!({"pattern": "(a"})).is_err());
    }

    #[test]
    fn a_pattern_built_to_backtrack_ends_at_once() {
        let schema = Schema::compile(&json!({"pattern": "^(a+)+$"})).unwrap();
        assert!(schema.validate(&json!(format!("{}b", "a".repeat(20_000)))).is_err());
    }
}
