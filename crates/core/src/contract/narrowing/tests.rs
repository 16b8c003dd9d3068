//! Pairs of schemas through one `check`, and the invariant on random ones.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::Schema;

/// The places where `to` accepts less.
fn check(from: Value, to: Value, expected: &[&str]) {
    let found = narrowings(&from, &to);
    let paths: Vec<&str> = found.iter().map(|n| n.path.as_str()).collect();
    assert_eq!(paths, expected, "{from} to {to}: {found:#?}");
}

#[test]
fn sets_of_values_may_only_grow() {
    check(json!({"type": ["string", "null"]}), json!({"type": "string"}), &[""]);
    check(json!({"type": "string"}), json!({"type": ["string", "null"]}), &[]);
    check(json!({"type": "integer"}), json!({"type": "number"}), &[]);
    check(json!({"type": "number"}), json!({"type": "integer"}), &[""]);
    check(json!({}), json!({"type": "object"}), &[""]);
    check(json!({"type": "object"}), json!(true), &[]);
    check(json!({"enum": ["a", "b"]}), json!({"enum": ["b", "c", "a"]}), &[]);
    check(json!({"enum": ["a", "b"]}), json!({"const": "a"}), &[""]);
    check(json!({"const": 5.0}), json!({"enum": [5, 6]}), &[]);
    check(json!({"enum": ["a", 1]}), json!({"enum": ["a", 1], "type": ["string", "integer"]}), &[]);
    check(json!({"enum": ["a", 0.5]}), json!({"enum": ["a", 0.5], "type": ["string", "integer"]}), &[""]);
    check(json!({}), json!(false), &[""]);
    check(json!(false), json!({"type": "string"}), &[]);
}

#[test]
fn bounds_may_only_widen() {
    for (keyword, wide, tight) in [
        ("minimum", 1, 2),
        ("exclusiveMinimum", 1, 2),
        ("minLength", 1, 2),
        ("minItems", 1, 2),
        ("minProperties", 1, 2),
        ("maximum", 9, 8),
        ("exclusiveMaximum", 9, 8),
        ("maxLength", 9, 8),
        ("maxItems", 9, 8),
        ("maxProperties", 9, 8),
    ] {
        let bound = |n: i32| json!({keyword: n});
        check(bound(wide), bound(tight), &[""]);
        check(bound(tight), bound(wide), &[]);
        check(json!({}), bound(wide), &[""]);
        check(bound(wide), json!({}), &[]);
    }
    check(json!({}), json!({"minLength": 0}), &[]);
    check(json!({"maximum": 5}), json!({"maximum": 5.0}), &[]);
    check(json!({"uniqueItems": false}), json!({"uniqueItems": true}), &[""]);
    check(json!({"pattern": "a"}), json!({"pattern": "b"}), &[""]);
    check(json!({}), json!({"format": "date"}), &[""]);
    check(json!({"format": "date", "pattern": "a"}), json!({}), &[]);
}

#[test]
fn members_may_be_added_but_not_taken_or_asked_for() {
    let closed = |properties: Value, required: Value| json!({"type": "object", "additionalProperties": false, "properties": properties, "required": required});
    let text = json!({"type": "string"});
    let one = closed(json!({"a": text}), json!([]));
    let two = closed(json!({"a": text, "b": text}), json!([]));
    check(one.clone(), two.clone(), &[]);
    check(two, one.clone(), &["/properties/b"]);
    check(one.clone(), closed(json!({"a": text}), json!(["a"])), &["/required"]);
    check(closed(json!({"a": text}), json!(["a"])), one.clone(), &[]);
    check(
        one.clone(),
        closed(json!({"a": {"type": "string", "maxLength": 5}}), json!([])),
        &["/properties/a"],
    );
    let open = json!({"type": "object", "properties": {"a": text}});
    check(one.clone(), open.clone(), &[]);
    check(open.clone(), one, &["/additionalProperties"]);
    // it could be anything before
    check(open.clone(), json!({"type": "object", "properties": {"a": text, "b": text}}), &["/properties/b"]);
    check(open, json!({"type": "object"}), &[]);
}

#[test]
fn items_and_choices_are_compared_inside() {
    check(json!({"items": {"maximum": 9}}), json!({"items": {"maximum": 8}}), &["/items"]);
    let either = |a: Value, b: Value| json!({"anyOf": [a, b]});
    let (text, null) = (json!({"type": "string"}), json!({"type": "null"}));
    check(json!({"anyOf": [text]}), either(text.clone(), null.clone()), &[]);
    check(either(text.clone(), null.clone()), json!({"anyOf": [text]}), &[""]);
    check(either(text.clone(), null.clone()), either(json!({"const": "a"}), null.clone()), &["/anyOf/0"]);
    check(json!({"allOf": [{"minimum": 1}, {"maximum": 9}]}), json!({"allOf": [{"minimum": 0}]}), &[]);
    check(json!({"allOf": [{"minimum": 1}]}), json!({"allOf": [{"minimum": 1}, {"maximum": 9}]}), &[""]);
}

#[test]
fn texts_for_people_do_not_count_but_members_of_those_names_do() {
    let from = json!({"title": "A", "properties": {"a": {"description": "b", "type": "string"}}});
    let to = json!({"description": "C", "properties": {"a": {"examples": ["x"], "type": "string"}}});
    check(from, to, &[]);
    let named = |max: u32| json!({"properties": {"title": {"maxLength": max}}});
    check(named(9), named(8), &["/properties/title"]);
}

#[test]
fn what_cannot_be_compared_counts_as_narrowed() {
    let reference = |max: u32, more: Value| json!({"$defs": {"d": {"maximum": max}}, "properties": {"a": {"$ref": "#/$defs/d"}, "b": more}});
    check(reference(9, json!({})), reference(8, json!({})), &["/properties/a"]);
    check(reference(9, json!({"maximum": 1})), reference(9, json!({})), &[]);
    let pair = |max: u32| json!({"oneOf": [{"maximum": max}, {"type": "null"}]});
    check(pair(8), pair(9), &[""]);
    check(pair(8), json!({}), &[]);
    check(json!({"if": {}, "then": {"maximum": 1}}), json!({"if": {}, "maximum": 5}), &[""]);
    check(json!({"not": {"maximum": 1}}), json!({"not": {"maximum": 2}}), &[""]);
    check(json!({"unknownKeyword": 1}), json!({"unknownKeyword": 2}), &[""]);
    // below an `$id` of its own, a reference leads to other definitions
    let nested = |max: u32| json!({"items": {"$id": "x", "$defs": {"d": {"maximum": max}}, "items": {"$ref": "#/$defs/d"}}});
    check(nested(9), nested(8), &["/items/items"]);
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..4).prop_map(Value::from),
        Just(json!(0.5)),
        "[ab]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[abx]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn schemas() -> impl Strategy<Value = Value> {
    let types = ["null", "boolean", "object", "array", "number", "integer", "string"];
    let bound = |keyword: &'static str| (0i64..4).prop_map(move |n| json!({keyword: n}));
    let leaf = prop_oneof![
        2 => Just(json!({})),
        1 => any::<bool>().prop_map(Value::from),
        4 => prop::sample::subsequence(types.to_vec(), 1..4).prop_map(|t| json!({"type": t})),
        2 => prop::collection::btree_set("[ab]{0,2}", 1..3).prop_map(|v| json!({"enum": v})),
        1 => (-3i64..4).prop_map(|n| json!({"const": n})),
        4 => prop_oneof![
            bound("minimum"), bound("exclusiveMaximum"), bound("minLength"), bound("maxLength"), bound("minItems"),
            bound("maxItems"), bound("maxProperties"), bound("minProperties"),
        ],
        1 => "[ab]".prop_map(|p| json!({"pattern": p})),
        1 => Just(json!({"uniqueItems": true})),
        1 => prop::sample::subsequence(vec!["a", "b", "x"], 1..3).prop_map(|names| json!({"required": names})),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let named = prop::collection::btree_map("[abx]", inner.clone(), 0..3);
        prop_oneof![
            inner.clone().prop_map(|s| json!({"items": s})),
            inner.clone().prop_map(|s| json!({"additionalProperties": s})),
            inner.clone().prop_map(|s| json!({"not": s})),
            inner.clone().prop_map(|s| json!({"contains": s, "items": {}})),
            named.clone().prop_map(|p| json!({"properties": p})),
            (named.clone(), inner.clone()).prop_map(|(p, rest)| json!({"properties": p, "additionalProperties": rest})),
            (named, inner.clone()).prop_map(|(p, s)| json!({"properties": p, "patternProperties": {"a": s}, "additionalProperties": false})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|list| json!({"anyOf": list})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|list| json!({"allOf": list})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|list| json!({"oneOf": list})),
            prop::collection::vec(inner, 1..3).prop_map(|list| {
                let merged = list.into_iter().filter_map(|s| s.as_object().cloned()).flatten();
                Value::Object(merged.collect())
            }),
        ]
    })
}

/// A schema and one near it: random pairs are hardly ever comparable.
fn pairs() -> impl Strategy<Value = (Value, Value)> {
    (schemas(), schemas(), any::<prop::sample::Index>(), 0..4u8).prop_map(|(from, other, place, how)| {
        let mut to = from.clone();
        match (&mut to, how) {
            (_, 0) => to = other,
            (Value::Object(members), 1) if !members.is_empty() => {
                let name = members.keys().nth(place.index(members.len())).unwrap().clone();
                members.remove(&name);
            }
            (Value::Object(members), 2) if !members.is_empty() => {
                let name = members.keys().nth(place.index(members.len())).unwrap().clone();
                if members[&name].is_object() {
                    members.insert(name, other);
                }
            }
            (Value::Object(members), _) => members.extend(other.as_object().cloned().unwrap_or_default()),
            _ => {}
        }
        (from, to)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_not_reported_is_still_accepted(
        (from, to) in pairs(), documents in prop::collection::vec(values(), 12)
    ) {
        if !narrowings(&from, &to).is_empty() {
            return Ok(());
        }
        let (Ok(older), Ok(newer)) = (Schema::compile(&from), Schema::compile(&to)) else { return Ok(()) };
        for document in documents.iter().filter(|d| older.validate(d).is_ok()) {
            prop_assert!(newer.validate(document).is_ok(), "{} is refused", document);
        }
    }
}
