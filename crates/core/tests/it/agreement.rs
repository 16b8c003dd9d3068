//! Schema and type agree: what a schema accepts, its type reads and writes again with nothing lost; an unknown
//! member, a missing one and a value of another type are refused by both. Bounds are the schema's alone.

use awooop_core::schema::Schema;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::fixtures::{kinds, lost, schema_of, through_type};
use crate::generate::{Break, breaks, documents};

/// Runs `judge` on so many random documents that fit the kind's schema.
fn on_documents(kind: &str, cases: u32, judge: impl Fn(&Schema, &Value, Value) -> Result<(), TestCaseError>) {
    let schema = schema_of(kind);
    let compiled = Schema::compile(&schema).unwrap();
    let fitting = documents(&schema, &schema).prop_filter("fits", |d| compiled.validate(d).is_ok());
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&fitting, |document| judge(&compiled, &schema, document))
        .unwrap_or_else(|e| panic!("{kind}: {e}"));
}

#[test]
fn what_a_schema_accepts_its_type_keeps() {
    for kind in kinds() {
        on_documents(kind, 48, |compiled, _, document| {
            let written = through_type(kind, &document).map_err(TestCaseError::fail)?;
            prop_assert_eq!(lost(&document, &written, ""), None);
            prop_assert_eq!(compiled.validate(&written), Ok(()));
            prop_assert_eq!(through_type(kind, &written), Ok(written));
            Ok(())
        });
    }
}

#[test]
fn what_breaks_a_schema_breaks_its_type() {
    for kind in kinds() {
        on_documents(kind, 12, |compiled, schema, document| {
            for broken in breaks(schema, schema, &document, "") {
                let bad = broken.of(document.clone());
                prop_assert!(compiled.validate(&bad).is_err(), "the schema takes {:?}", broken);
                if is_for_the_type(kind, &broken) {
                    prop_assert!(through_type(kind, &bad).is_err(), "the type takes {:?}", broken);
                }
            }
            Ok(())
        });
    }
}

/// The type reads `spec` alone, takes null for a member that is not there, and takes an embedded schema as
/// it comes.
fn is_for_the_type(kind: &str, broken: &Break) -> bool {
    let is_read = kind == crate::fixtures::RUN || broken.place().starts_with("/spec");
    match broken {
        Break::Retype { to: Value::Null, .. } | Break::Retype { is_any_value: true, .. } => false,
        Break::Add(_) | Break::Remove(..) | Break::Retype { .. } => is_read,
    }
}

/// Every property says what it is, so that a manifest can be written from the schema alone. The interface
/// contract's schema is fixed as it is.
#[test]
fn every_property_has_a_title_a_description_and_examples_that_fit() {
    for kind in kinds().into_iter().filter(|kind| *kind != crate::fixtures::RUN) {
        let root = schema_of(kind);
        let whole = Schema::compile(&root).unwrap();
        for example in root["examples"].as_array().unwrap() {
            assert_eq!(whole.validate(example), Ok(()), "{kind}: its example");
        }
        for (path, property) in properties(&root, "") {
            for member in ["title", "description"] {
                assert!(property[member].is_string(), "{kind}{path} has no {member}");
            }
            let examples = property["examples"].as_array().map(Vec::as_slice).unwrap_or_default();
            // `spec` itself stands in the document's example
            assert!(!examples.is_empty() || path == "/properties/spec", "{kind}{path} has no example");
            let mut alone = property.clone();
            alone["$defs"] = root.get("$defs").cloned().unwrap_or_else(|| serde_json::json!({}));
            let alone = Schema::compile(&alone).unwrap();
            for value in examples.iter().chain(property.get("default")) {
                assert_eq!(alone.validate(value), Ok(()), "{kind}{path}: {value}");
            }
        }
    }
}

/// What the type fills in for an absent member is what the schema says it does.
#[test]
fn defaults_of_schema_and_type_are_the_same() {
    for kind in kinds() {
        on_documents(kind, 48, |_, schema, document| {
            let written = through_type(kind, &document).map_err(TestCaseError::fail)?;
            check_defaults(schema, schema, &document, &written).map_err(TestCaseError::fail)
        });
    }
}

fn check_defaults(schema: &Value, root: &Value, given: &Value, written: &Value) -> Result<(), String> {
    let target = schema["$ref"].as_str().and_then(|r| root.pointer(r.trim_start_matches('#')));
    let schema = target.unwrap_or(schema);
    for branch in schema["oneOf"].as_array().into_iter().flatten() {
        let branch = root.pointer(branch["$ref"].as_str().unwrap().trim_start_matches('#')).unwrap();
        let mut constants =
            branch["properties"].as_object().unwrap().iter().filter(|(_, p)| p.get("const").is_some());
        if constants.all(|(name, p)| p["const"] == given[name]) {
            return check_defaults(branch, root, given, written);
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        match (given.get(name), property.get("default")) {
            (Some(value), _) => check_defaults(property, root, value, &written[name])?,
            (None, Some(default)) => {
                if let Some(path) = lost(default, &written[name], "") {
                    return Err(format!("`{name}{path}` is {} instead of {default}", written[name]));
                }
            }
            (None, None) => {}
        }
    }
    Ok(())
}

fn properties(schema: &Value, path: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let Value::Object(members) = schema else { return found };
    for (name, inner) in members {
        let path = format!("{path}/{name}");
        match name.as_str() {
            "properties" => {
                for (property, inner) in inner.as_object().unwrap() {
                    let path = format!("{path}/{property}");
                    found.push((path.clone(), inner.clone()));
                    found.extend(properties(inner, &path));
                }
            }
            "$defs" => {
                for (name, inner) in inner.as_object().unwrap() {
                    found.extend(properties(inner, &format!("{path}/{name}")));
                }
            }
            "items" => found.extend(properties(inner, &path)),
            _ => {}
        }
    }
    found
}
