//! Every way a schema can be hostile or a document wrong, and that the bounds hold.
//!
//! Times are generous: what they guard against would take hours. The last test counts real evaluations of
//! random schemas and compares them with the bound.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::*;
use proptest::prelude::*;
use serde_json::{Map, json};

/// Generous for an unoptimised build on a busy machine; without a bound these would take hours.
const SOON: Duration = Duration::from_secs(20);

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
        assert!(matches!(Schema::compile(&json!({"$ref": reference})), Err(SchemaError::ForeignRef { .. })));
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

fn refused(schema: Value) -> SchemaError {
    Schema::compile(&schema).expect_err(&schema.to_string())
}

fn accepted(schema: Value) -> Schema {
    Schema::compile(&schema).unwrap_or_else(|e| panic!("{e}: {schema}"))
}

/// `{"x": {"x": …}}`, `depth` levels, with `inmost` in the middle.
fn nested(depth: usize, inmost: Value) -> Value {
    (0..depth).fold(inmost, |inner, _| json!({"x": inner}))
}

/// `$defs` a0 to a{n}, each made of the name of the next, the last being `last`.
fn chain(n: usize, each: impl Fn(Value) -> Value, last: Value) -> Value {
    let mut defs = Map::new();
    for i in 0..n {
        defs.insert(format!("a{i}"), each(json!({"$ref": format!("#/$defs/a{}", i + 1)})));
    }
    defs.insert(format!("a{n}"), last);
    json!({"$ref": "#/$defs/a0", "$defs": defs})
}

#[test]
fn a_reference_that_comes_back_in_place_is_refused_by_name() {
    let back = json!({"$ref": "#/$defs/a"});
    for around in [
        back.clone(),
        json!({"allOf": [true, back]}),
        json!({"anyOf": [back]}),
        json!({"oneOf": [back]}),
        json!({"not": back}),
        json!({"if": back}),
        json!({"if": true, "then": back}),
        json!({"if": false, "else": back}),
        json!({"dependentSchemas": {"k": back}}),
        json!({"dependencies": {"k": back}}),
        json!({"anyOf": [{"not": {"allOf": [back]}}]}),
    ] {
        let schema = json!({"properties": {"p": {"$ref": "#/$defs/a"}}, "$defs": {"a": around}});
        assert!(matches!(refused(schema), SchemaError::RefCycle { at } if at.starts_with("/$defs/a")));
    }
    assert_eq!(refused(json!({"$ref": "#"})), SchemaError::RefCycle { at: String::new() });
    assert!(matches!(refused(json!({"$anchor": "me", "$ref": "#me"})), SchemaError::RefCycle { .. }));
    let text = refused(json!({"$ref": "#"})).to_string();
    assert!(text.contains("in a circle at the root"), "{text}");
}

#[test]
fn a_reference_that_comes_back_further_down_is_welcome() {
    let tree = accepted(json!({"$ref": "#/$defs/node", "$defs": {"node": {
        "type": "object", "required": ["name"], "additionalProperties": false,
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}
    }}}));
    let leaf = json!({"name": "leaf", "children": []});
    let deep = (0..30).fold(leaf, |inner, _| json!({"name": "n", "children": [inner]}));
    assert_eq!(tree.validate(&deep), Ok(()));
    assert_eq!(tree.validate(&json!({"name": "n", "children": [{}]})).unwrap_err()[0].path, "/children/0");
    // all of JSON, a filter language, and blocks of text, as tool servers define them
    let json_like = json!({"$ref": "#"});
    accepted(
        json!({"type": ["object", "array", "string"], "additionalProperties": json_like, "items": json_like,
        "properties": {"x": json_like}}),
    );
    let filter = accepted(json!({"oneOf": [
        {"properties": {"and": {"type": "array", "items": {"$ref": "#"}}}, "required": ["and"], "additionalProperties": false},
        {"properties": {"or": {"type": "array", "items": {"$ref": "#"}}}, "required": ["or"], "additionalProperties": false},
        {"properties": {"not": {"$ref": "#"}}, "required": ["not"], "additionalProperties": false},
        {"properties": {"field": {"type": "string"}, "is": {}}, "required": ["field"], "additionalProperties": false},
    ]}));
    let is = json!({"field": "f", "is": 1});
    let deep = (0..25)
        .fold(is, |inner, n| if n % 2 == 0 { json!({"and": [inner]}) } else { json!({"or": [inner]}) });
    assert_eq!(filter.validate(&deep), Ok(()));
    let block = |kind: &str| json!({"properties": {"type": {"const": kind}, "children": {"type": "array", "items": {"$ref": "#"}}}, "required": ["type"]});
    let blocks = accepted(json!({"anyOf": [block("list"), block("quote"), block("toggle"), block("text")]}));
    let page = json!({"type": "list", "children": [{"type": "toggle", "children": [{"type": "text"}]}]});
    assert_eq!(blocks.validate(&page), Ok(()));
    assert!(blocks.validate(&json!({"type": "list", "children": [{"type": "none"}]})).is_err());
}

#[test]
fn schemas_that_multiply_are_refused_by_name() {
    let twice = |next: Value| json!({"allOf": [next, next]});
    let alternatives = |next: Value| json!({"anyOf": [next, next]});
    let again = |next: Value| json!({"allOf": [next], "unevaluatedProperties": false});
    for schema in
        [chain(20, twice, json!(true)), chain(20, alternatives, json!(true)), chain(20, again, json!(true))]
    {
        assert!(matches!(refused(schema), SchemaError::TooComplex { at } if at.starts_with("/$defs/a")));
    }
    let node = json!({"$ref": "#/$defs/node"});
    for x in [
        json!({"properties": {"x": {"allOf": [node, node]}}}),
        json!({"items": {"allOf": [node, node]}}),
        json!({"prefixItems": [node], "items": node, "contains": node}),
        json!({"patternProperties": {"x": node, "^x": node}}),
        json!({"additionalProperties": node, "allOf": [{"properties": {"x": node}}]}),
        json!({"not": {"properties": {"x": node}}, "properties": {"x": node}}),
        json!({"allOf": [{"properties": {"x": node}}], "unevaluatedProperties": node}),
    ] {
        let schema = json!({"$ref": "#/$defs/node", "$defs": {"node": x}});
        assert!(matches!(refused(schema.clone()), SchemaError::TooComplex { .. }), "{schema}");
    }
    assert!(matches!(refused(chain(300, |next| next, json!(true))), SchemaError::TooComplex { .. }));
}

#[test]
fn alternatives_that_multiply_with_depth_refuse_the_deep_document_only() {
    let branch = |name: &str| json!({"properties": {"x": {"$ref": "#"}}, "required": [name]});
    let schema = accepted(json!({"anyOf": [branch("a"), branch("x"), {"type": "integer"}]}));
    assert_eq!(schema.validate(&nested(5, json!(1))), Ok(()));
    assert_eq!(schema.validate(&nested(60, json!(1))).unwrap_err()[0].keyword, "size");
}

#[test]
fn what_a_missing_property_costs_is_bounded() {
    let names: Vec<String> = (0..4_000).map(|n| format!("k{n}")).collect();
    let schema = accepted(json!({"items": {"required": names}}));
    let started = Instant::now();
    let found = schema.validate(&Value::Array(vec![json!({}); 4_000])).unwrap_err();
    assert_eq!(found[0].keyword, "size");
    let branches = vec![json!({"type": "string"}); 900];
    let schema = accepted(json!({"anyOf": branches}));
    assert_eq!(schema.validate(&Value::Array(vec![json!(0); 400_000])).unwrap_err()[0].keyword, "size");
    assert!(started.elapsed() < SOON);
}

#[test]
fn references_stay_inside_and_lead_somewhere() {
    let check = |schema: Value, expected: SchemaError| assert_eq!(refused(schema), expected);
    let at = |at: &str| at.to_owned();
    check(json!({"items": {"$ref": "other.json"}}), SchemaError::ForeignRef { at: at("/items/$ref") });
    check(json!({"$ref": ""}), SchemaError::ForeignRef { at: at("/$ref") });
    check(json!({"$ref": "#/$defs/none"}), SchemaError::DanglingRef { at: at("/$ref") });
    check(json!({"$ref": "#none"}), SchemaError::DanglingRef { at: at("/$ref") });
    check(json!({"$ref": "#/%zz"}), SchemaError::DanglingRef { at: at("/$ref") });
    check(json!({"$defs": {"a": {"$ref": "#/b"}}}), SchemaError::DanglingRef { at: at("/$defs/a/$ref") });
    check(json!({"items": {"$dynamicRef": "#a"}}), SchemaError::Unsupported { at: at("/items/$dynamicRef") });
    check(json!({"$recursiveRef": "#"}), SchemaError::Unsupported { at: at("/$recursiveRef") });
    check(json!({"$defs": {"a/b": {"$id": "x"}}}), SchemaError::Unsupported { at: at("/$defs/a~1b/$id") });
    check(json!({"$schema": "https://example.com/mine"}), SchemaError::Dialect { at: at("/$schema") });
    let schema = accepted(json!({
        "$id": "https://example.com/s", "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"a": {"$ref": "#/definitions/a%20b"}, "b": {"$ref": "#named"}, "c": {"$ref": "#/definitions/p~1q"}},
        "definitions": {"a b": {"type": "integer"}, "n": {"$anchor": "named", "type": "string"}, "p/q": false},
    }));
    assert_eq!(schema.validate(&json!({"a": 1, "b": "x"})), Ok(()));
    assert_eq!(schema.validate(&json!({"a": "x", "b": 1, "c": 1})).unwrap_err().len(), 3);
    accepted(json!({"const": {"$ref": "http://example.com", "$id": 1}, "enum": [{"$dynamicRef": "x"}]}));
}

#[test]
fn every_published_draft_is_read_as_2020_12() {
    for draft in [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-07/schema",
        "https://json-schema.org/draft/2019-09/schema",
    ] {
        let schema = accepted(
            json!({"$schema": draft, "prefixItems": [{"type": "integer"}], "$ref": "#/$defs/a", "$defs": {"a": {"minItems": 1}}}),
        );
        let found = |document: Value| schema.validate(&document).unwrap_err()[0].keyword.clone();
        assert_eq!((found(json!(["x"])), found(json!([]))), ("type".to_owned(), "minItems".to_owned()));
    }
}

#[test]
fn patterns_are_bounded_in_number_size_and_time() {
    let many = |n: usize, of: &str| {
        let all: Vec<Value> = (0..n).map(|i| json!({"pattern": format!("{of}{i}")})).collect();
        json!({"anyOf": all})
    };
    assert_eq!(refused(many(MAX_PATTERNS + 1, "a")), SchemaError::TooManyPatterns);
    for bomb in [
        "(((a{100}){100}){100}){100}",
        "\\w{60000}",
        "(?:\\pL{50}){50}",
        "((((((a?){50}){50}){50}){50}){50}){50}",
    ] {
        assert!(matches!(refused(json!({"pattern": bomb})), SchemaError::Invalid(_)), "{bomb}");
    }
    let started = Instant::now();
    accepted(many(MAX_PATTERNS, "^[a-z0-9-]{1,100}"));
    assert!(matches!(refused(many(MAX_PATTERNS, "\\pL{20}")), SchemaError::Invalid(_)));
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let huge = accepted(json!({"minLength": 0, "maxLength": u64::MAX, "maxItems": 1e300, "minItems": 0}));
    assert_eq!(huge.validate(&json!("x")), Ok(()));
}

#[test]
fn a_pattern_of_many_states_cannot_make_a_long_text_slow() {
    let schema = accepted(json!({"items": {"pattern": "[ab]*a[ab]{5000}c"}}));
    let started = Instant::now();
    let texts: Vec<Value> = (0..16).map(|_| json!("ab".repeat(32 << 10))).collect();
    assert_eq!(schema.validate(&Value::Array(texts)).unwrap_err()[0].keyword, "size");
    assert_eq!(schema.validate(&json!(["ab"])).unwrap_err()[0].keyword, "pattern");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let plain = accepted(json!({"pattern": "^[a-z -]*$"}));
    assert_eq!(plain.validate(&json!("lorem ipsum ".repeat(30_000))), Ok(()));
}

#[test]
fn items_that_differ_are_told_apart_whatever_they_are() {
    let schema = accepted(json!({"uniqueItems": true}));
    let differ = |items: Value| schema.validate(&items).is_ok();
    assert!(differ(
        json!([null, true, false, 0, 1, "1", [], {}, [[]], [[], []], {"a": 1}, {"a": 2}, 0.5, "0"])
    ));
    assert!(differ(json!([
        u64::MAX,
        u64::MAX - 1,
        i64::MIN,
        1e300,
        -1e300,
        9_007_199_254_740_993_u64,
        9_007_199_254_740_992_u64
    ])));
    for twice in [
        json!([1, 1.0]),
        json!([0.0, -0.0]),
        json!([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]),
        json!([[], 1, []]),
    ] {
        assert!(!differ(twice.clone()), "{twice}");
        assert_eq!(schema.validate(&twice).unwrap_err()[0].keyword, "uniqueItems");
    }
    assert!(accepted(json!({"uniqueItems": false})).validate(&json!([1, 1])).is_ok());
    assert!(differ(json!({"not": "an array"})));
}

#[test]
fn items_made_to_collide_do_not_make_uniqueness_slow() {
    // all trees of nine empty arrays: their hashes are equal in many validators
    let mut forests: Vec<Vec<Vec<Value>>> = vec![vec![vec![]]];
    for size in 1..=9 {
        let mut made = Vec::new();
        for first in 0..size {
            for inner in &forests[first] {
                for rest in &forests[size - 1 - first] {
                    let mut forest = vec![Value::Array(inner.clone())];
                    forest.extend(rest.iter().cloned());
                    made.push(forest);
                }
            }
        }
        forests.push(made);
    }
    let items: Vec<Value> = forests.into_iter().flatten().map(Value::Array).collect();
    let started = Instant::now();
    assert_eq!(accepted(json!({"uniqueItems": true})).validate(&Value::Array(items)), Ok(()));
    assert!(started.elapsed() < SOON / 4, "{:?}", started.elapsed());
    let options: Vec<Value> = (0..5_000).map(|n| json!([n])).collect();
    let arrays: Vec<Value> = (0..20_000).map(|n| json!([-n])).collect();
    let found = accepted(json!({"items": {"enum": options}})).validate(&Value::Array(arrays)).unwrap_err();
    assert_eq!(found[0].keyword, "size");
}

#[test]
fn messages_say_what_was_expected() {
    let check = |schema: Value, document: Value, expected: &str| {
        let found = accepted(schema).validate(&document).unwrap_err();
        let line = format!("{} ({}): {}", found[0].path, found[0].keyword, found[0].message);
        assert_eq!(line, expected);
        assert!(!line.contains("sk-"), "{line}");
    };
    let text = json!("sk-live-0123456789abcdefghij");
    let data = |schema: Value| json!({"properties": {"data": schema}});
    let document = json!({"data": text});
    check(
        data(json!({"type": ["object", "null"]})),
        document.clone(),
        "/data (type): expected null or object",
    );
    check(
        data(json!({"enum": ["a", 1, null]})),
        document.clone(),
        "/data (enum): expected one of \"a\", 1, null",
    );
    check(
        data(json!({"const": {"k": [1]}})),
        document.clone(),
        "/data (const): expected the object {\"k\":[1]}",
    );
    check(
        json!({"required": ["summary"]}),
        document.clone(),
        " (required): expected the property \"summary\"",
    );
    check(
        json!({"properties": {"a": {}, "b": {}}, "additionalProperties": false}),
        json!({"c": 1}),
        " (additionalProperties): `c` is not expected; allowed: `a`, `b`",
    );
    check(
        json!({"properties": {"a": {}}, "unevaluatedProperties": false}),
        json!({"sk-live-0123456789abcdefghij": 1}),
        " (unevaluatedProperties): 1 property is not expected; allowed: `a`",
    );
    check(
        data(json!({"anyOf": [{"type": "object"}, {"type": "null"}]})),
        document.clone(),
        "/data (anyOf): expected object or null",
    );
    check(
        data(json!({"oneOf": [{"required": ["id"]}, {"properties": {"n": {"type": "integer"}}}]})),
        json!({"data": {"n": "sk-"}}),
        "/data (oneOf): expected the property \"id\" or at /n: integer",
    );
    check(
        data(json!({"oneOf": [true, {"type": "string"}]})),
        document.clone(),
        "/data (oneOf): expected to fit exactly one of 2 alternatives, fits 2",
    );
    check(
        data(json!({"pattern": "^[a-z]+$"})),
        document.clone(),
        "/data (pattern): expected text that matches ^[a-z]+$",
    );
    check(
        data(json!({"format": "date-time"})),
        document.clone(),
        "/data (format): expected text in the format date-time",
    );
    check(
        data(json!({"maxLength": 5})),
        document.clone(),
        "/data (maxLength): expected at most 5 characters",
    );
    check(
        data(json!({"not": {"type": "string"}})),
        document.clone(),
        "/data (not): expected anything but {\"type\":\"string\"}",
    );
    check(
        data(json!(false)),
        document,
        "/data (falseSchema): expected to be absent: the schema allows no value here",
    );
    check(json!({"minimum": 3}), json!(1), " (minimum): expected a number of at least 3");
    check(json!({"minItems": 1}), json!([]), " (minItems): expected at least 1 item");
    check(
        json!({"propertyNames": {"maxLength": 2}}),
        json!({"sk-live": 1}),
        " (propertyNames): a property's name does not fit: expected at most 2 characters",
    );
    check(
        json!({"contains": {"type": "string"}}),
        json!([1]),
        " (contains): expected an item that fits `contains`",
    );
}

#[test]
fn messages_are_bounded_however_long_the_schema_or_the_document() {
    let long = "x".repeat(5_000);
    let names: Map<String, Value> =
        (0..300).map(|n| (format!("{long}{n}")[n..].chars().take(150).collect(), json!({}))).collect();
    let schema = accepted(json!({
        "properties": names, "additionalProperties": false, "anyOf": vec![json!({"const": long}); 2],
        "not": {"description": long}, "required": ["y".repeat(3_000)],
    }));
    for violation in schema.validate(&json!({"z".repeat(9_000): 1})).unwrap_err() {
        assert!(violation.message.chars().count() <= 301, "{violation:?}");
    }
    let deep = accepted(json!({"additionalProperties": {"type": "string"}}));
    assert!(deep.validate(&json!({"z".repeat(9_000): 1})).unwrap_err()[0].path.chars().count() <= 201);
}

thread_local! {
    static EVALUATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counter;

impl<'i> jsonschema::Keyword<'i> for Counter {
    fn validate(&self, _: &'i Value) -> Result<(), jsonschema::ValidationError<'i>> {
        EVALUATIONS.set(EVALUATIONS.get() + 1);
        Ok(())
    }
    fn is_valid(&self, _: &'i Value) -> bool {
        EVALUATIONS.set(EVALUATIONS.get() + 1);
        true
    }
}

fn documents() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(json!(1)), Just(json!("x")), Just(json!(null)), Just(json!({})), Just(json!([]))];
    leaf.prop_recursive(6, 24, 3, |inner| {
        let name = prop_oneof![Just("a"), Just("b"), Just("c")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(name, inner, 0..4)
                .prop_map(|m| m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

fn subschemas() -> impl Strategy<Value = Value> {
    let reference = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
    let leaf = prop_oneof![
        3 => prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(reference),
        1 => prop_oneof![Just(json!(true)), Just(json!({"type": "object"})), Just(json!({"type": "string"}))],
        1 => prop_oneof![Just(json!({"required": ["a"]})), Just(json!({"minItems": 2})), Just(json!({"enum": [1, [1]]}))],
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let single = prop::sample::select(vec![
            "not",
            "if",
            "then",
            "else",
            "additionalProperties",
            "propertyNames",
            "items",
            "contains",
            "unevaluatedProperties",
            "unevaluatedItems",
        ]);
        let many = prop::sample::select(vec!["allOf", "anyOf", "oneOf", "prefixItems"]);
        let named = prop::sample::select(vec!["properties", "patternProperties", "dependentSchemas"]);
        let name = prop_oneof![Just("a"), Just("b"), Just("c")];
        let keyword = prop_oneof![
            (single, inner.clone()).prop_map(|(k, s)| (k, s)),
            (many, prop::collection::vec(inner.clone(), 1..4)).prop_map(|(k, s)| (k, Value::Array(s))),
            (named, prop::collection::btree_map(name, inner, 1..3))
                .prop_map(|(k, m)| (k, m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ];
        prop::collection::vec(keyword, 1..4)
            .prop_map(|all| all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    })
}

/// Puts the counting keyword into every object of a schema; in a map of names it is a harmless name.
fn counted(schema: &Value) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(counted).collect(),
        Value::Object(map) => {
            let mut map: Map<String, Value> = map
                .iter()
                .map(|(k, v)| {
                    let is_names = matches!(
                        k.as_str(),
                        "properties" | "patternProperties" | "dependentSchemas" | "$defs"
                    );
                    let below =
                        |m: &Map<String, Value>| m.iter().map(|(k, v)| (k.clone(), counted(v))).collect();
                    let value = match v {
                        Value::Object(names) if is_names => below(names),
                        _ if matches!(k.as_str(), "enum" | "required") => v.clone(),
                        _ => counted(v),
                    };
                    (k.clone(), value)
                })
                .collect();
            map.insert("x-count".to_owned(), json!(true));
            Value::Object(map)
        }
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_bound_is_never_below_what_is_evaluated(
        root in subschemas(), a in subschemas(), b in subschemas(), c in subschemas(),
        documents in prop::collection::vec(documents(), 1..6),
    ) {
        let schema = counted(&json!({"allOf": [root], "$defs": {"a": a, "b": b, "c": c}}));
        let Ok(graph) = Graph::walk(&schema) else { return Ok(()) };
        let Ok(bounds) = Bounds::of(&graph) else { return Ok(()) };
        let validator = jsonschema::options()
            .with_keyword("x-count", |_, _, _| Ok(Box::new(Counter) as Box<dyn for<'i> jsonschema::Keyword<'i>>))
            .build(&schema)
            .unwrap();
        let compiled = Schema::compile(&schema).unwrap();
        for document in documents {
            let (asked, explained) = bounds.price(&document);
            if asked > 5_000_000 || explained > 5_000_000 {
                continue;
            }
            EVALUATIONS.set(0);
            let is_valid = validator.is_valid(&document);
            prop_assert!(EVALUATIONS.get() <= asked, "{} > {asked}: {schema} {document}", EVALUATIONS.get());
            EVALUATIONS.set(0);
            let errors = validator.iter_errors(&document).count();
            prop_assert!(EVALUATIONS.get() <= explained, "{} > {explained}: {schema} {document}", EVALUATIONS.get());
            prop_assert_eq!(is_valid, errors == 0);
            prop_assert!(compiled.validate(&document).is_ok() == is_valid || !is_valid || asked > 1_000_000);
        }
    }
}
