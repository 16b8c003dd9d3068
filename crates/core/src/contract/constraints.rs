//! A grant's constraints are written by people to hold something back, so a mistake in them must not pass in silence: a
//! misspelt keyword or format means nothing to JSON Schema and would hold back nothing, and constraints that no
//! arguments can fit look like a grant and are none.
//!
//! Invariant: what [`can_fit`] denies, no arguments fit. It does not find everything of that kind: patterns are not
//! compared, and references are not followed.

use serde_json::{Map, Value};

use super::narrowing::{LIST, NAMED, ONE};
use crate::error::Violation;

/// Keywords that the validator acts on in this draft, or that speak to people.
const KEYWORDS: [&str; 52] = [
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$ref",
    "$schema",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "default",
    "definitions",
    "dependentRequired",
    "dependentSchemas",
    "deprecated",
    "description",
    "else",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "readOnly",
    "required",
    "then",
    "title",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "writeOnly",
];
/// Formats that are checked.
const FORMATS: [&str; 17] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

/// What is wrong with a grant's constraints besides what makes them no schema, with paths below `path`.
pub(super) fn check(path: &str, constraints: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    unknown(path, constraints, &mut found);
    // a bare `false` is no mistake: it says what it does
    if found.is_empty() && !constraints.is_boolean() && !can_fit(constraints, "object") {
        let message = "no arguments fit this: take the grant away instead";
        found.push(Violation::new(path, "constraints", message));
    }
    found
}

/// Keywords and formats that say nothing to the validator, at any depth.
fn unknown(path: &str, schema: &Value, found: &mut Vec<Violation>) {
    let Value::Object(members) = schema else { return };
    for (keyword, inner) in members {
        let path = format!("{path}/{}", keyword.replace('~', "~0").replace('/', "~1"));
        match (keyword.as_str(), inner) {
            ("format", Value::String(name)) if !FORMATS.contains(&name.as_str()) => {
                let message = "this format is not known, so nothing would be checked";
                found.push(Violation::new(path, "format", message));
            }
            (k, _) if !KEYWORDS.contains(&k) => {
                let message = "this keyword is not known, so it would hold nothing back";
                found.push(Violation::new(path, "keyword", message));
            }
            (k, _) if ONE.contains(&k) => unknown(&path, inner, found),
            (k, Value::Array(schemas)) if LIST.contains(&k) => {
                for (i, schema) in schemas.iter().enumerate() {
                    unknown(&format!("{path}/{i}"), schema, found);
                }
            }
            (k, Value::Object(schemas)) if NAMED.contains(&k) => {
                for (name, schema) in schemas {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    unknown(&format!("{path}/{name}"), schema, found);
                }
            }
            _ => {}
        }
    }
}

/// May a value of this type fit? False only where none does.
fn can_fit(schema: &Value, of: &str) -> bool {
    let members = match schema {
        Value::Bool(accepts) => return *accepts,
        Value::Object(members) => members,
        _ => return true,
    };
    let schemas = |keyword: &str| members.get(keyword).and_then(Value::as_array);
    let takes_type = members.get("type").is_none_or(|types| match types {
        Value::Array(names) => names.iter().any(|name| is_type(name, of)),
        name => is_type(name, of),
    });
    let lists_one = |values: &[Value]| values.iter().any(|value| type_of(value) == of);
    let takes_value = members.get("const").is_none_or(|value| type_of(value) == of)
        && schemas("enum").is_none_or(|values| lists_one(values));
    let refuses_all = members
        .get("not")
        .is_some_and(|not| *not == Value::Bool(true) || not.as_object().is_some_and(Map::is_empty));
    let some_branch = |keyword: &str| schemas(keyword).is_none_or(|all| all.iter().any(|s| can_fit(s, of)));
    takes_type
        && takes_value
        && !refuses_all
        && schemas("allOf").is_none_or(|all| all.iter().all(|s| can_fit(s, of)))
        && some_branch("anyOf")
        && some_branch("oneOf")
        && match of {
            "number" => has_room(members, &["minimum", "exclusiveMinimum"], &["maximum", "exclusiveMaximum"]),
            "string" => has_room(members, &["minLength"], &["maxLength"]),
            "array" => has_room(members, &["minItems"], &["maxItems"]),
            "object" => has_room(members, &["minProperties"], &["maxProperties"]) && can_be_whole(members),
            _ => true,
        }
}

/// Is every lower bound at or below every upper one?
fn has_room(members: &Map<String, Value>, lower: &[&str], upper: &[&str]) -> bool {
    let bound = |keyword: &str| members.get(keyword).and_then(Value::as_f64);
    let is_past = |low: &str, high: &str| match (bound(low), bound(high)) {
        (Some(min), Some(max)) => min > max || (min >= max && (low.len() > 9 || high.len() > 9)),
        _ => false,
    };
    !lower.iter().any(|low| upper.iter().any(|high| is_past(low, high)))
}

/// May each member that must be there be there?
fn can_be_whole(members: &Map<String, Value>) -> bool {
    let described = members.get("properties").and_then(Value::as_object);
    let is_closed = members.get("additionalProperties") == Some(&Value::Bool(false));
    let required = members.get("required").and_then(Value::as_array);
    required.into_iter().flatten().filter_map(Value::as_str).all(|name| {
        match described.and_then(|described| described.get(name)) {
            Some(schema) => TYPES.iter().any(|of| can_fit(schema, of)),
            None => !is_closed || members.contains_key("patternProperties"),
        }
    })
}

const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

fn is_type(name: &Value, of: &str) -> bool {
    name == of || (of == "number" && name == "integer")
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use serde_json::json;

    #[test]
    fn constraints_that_no_arguments_fit_are_told() {
        for never in [
            json!({"type": "string"}),
            json!({"const": 5}),
            json!({"enum": [[], "x"]}),
            json!({"not": {}}),
            json!({"required": ["n"], "properties": {"n": false}}),
            json!({"required": ["n"], "properties": {"n": {"type": "integer", "minimum": 5, "maximum": 4}}}),
            json!({"required": ["n"], "properties": {"n": {"type": "number", "exclusiveMinimum": 5, "maximum": 5}}}),
            json!({"required": ["n"], "properties": {"n": {"type": ["string"], "minLength": 3, "maxLength": 2}}}),
            json!({"required": ["n"], "properties": {"n": {"type": "string", "enum": [1, 2]}}}),
            json!({"required": ["n"], "additionalProperties": false}),
            json!({"allOf": [{"required": ["a"]}, {"minProperties": 2, "maxProperties": 1}]}),
            json!({"anyOf": [{"type": "null"}, {"const": "x"}]}),
        ] {
            let found = check("/c", &never);
            assert_eq!(
                found.iter().map(|v| v.keyword.as_str()).collect::<Vec<_>>(),
                ["constraints"],
                "{never}"
            );
        }
        for fits in [
            json!(true),
            json!(false),
            json!({}),
            json!({"properties": {"n": false}}),
            json!({"properties": {"n": {"minimum": 5, "maximum": 5}}}),
            json!({"required": ["n"], "properties": {"n": {"minimum": 5, "maximum": 4}}}),
            json!({"required": ["n_1"], "additionalProperties": false, "patternProperties": {"^n_": {"type": "string"}}}),
            json!({"oneOf": [{"type": "string"}, {"required": ["a"]}]}),
        ] {
            assert_eq!(check("/c", &fits), [], "{fits}");
        }
    }

    #[test]
    fn a_misspelt_keyword_or_format_is_told_wherever_it_stands() {
        let constraints = json!({
            "properties": {"to": {"type": "array", "items": {"type": "string", "formt": "email"}}, "enumm": {}},
            "allOf": [{"properties": {"at": {"format": "datetime"}}}],
            "$defs": {"a/b": {"maxLenght": 3}},
            "default": {"anything": 1},
            "const": {"enumm": 1},
        });
        let mut found: Vec<(String, String)> =
            check("/c", &constraints).into_iter().map(|v| (v.path, v.keyword)).collect();
        found.sort();
        let told = |path: &str, keyword: &str| (path.to_owned(), keyword.to_owned());
        assert_eq!(
            found,
            [
                told("/c/$defs/a~1b/maxLenght", "keyword"),
                told("/c/allOf/0/properties/at/format", "format"),
                told("/c/properties/to/items/formt", "keyword"),
            ]
        );
    }

    #[test]
    fn every_format_that_is_known_is_checked() {
        let texts = ["", "%", "\u{1}", "{", "(", "a b", "/~", "http://[", "\\"];
        for format in FORMATS {
            let schema = Schema::compile(&json!({"format": format})).unwrap();
            assert!(
                texts.iter().any(|text| schema.validate(&json!(text)).is_err()),
                "{format} refuses nothing"
            );
        }
    }
}
