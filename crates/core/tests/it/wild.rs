//! Whatever arrives, reading it ends with a manifest or with violations, never with a panic; and two documents
//! always have a difference that people and programs can be shown.

use awooop_core::contract::{self, Kind, breaking, changes, patch};
use awooop_core::json::canonical;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixtures::fixtures;

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        proptest::sample::select(vec!["kind", "agent", "spec", "llm", "(a+)+$", "shop__x", "name"])
            .prop_map(Value::from),
    ];
    let name = prop_oneof![
        proptest::sample::select(vec!["kind", "project", "id", "spec", "type", "name", "tool"])
            .prop_map(str::to_owned),
        ".{0,6}".prop_map(String::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn manifests() -> Vec<Value> {
    Kind::ALL.iter().flat_map(|kind| fixtures(kind.as_str(), "valid").into_values()).collect()
}

/// A valid manifest with anything at one place of it.
fn nearly_valid() -> impl Strategy<Value = Value> {
    (proptest::sample::select(manifests()), any::<prop::sample::Index>(), anything()).prop_map(
        |(mut manifest, place, value)| {
            let mut places = Vec::new();
            pointers(&manifest, String::new(), &mut places);
            let place: &String = place.get(&places);
            *manifest.pointer_mut(place).unwrap() = value;
            manifest
        },
    )
}

fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| pointers(v, format!("{at}/{i}"), found));
        }
        Value::Object(members) => members.iter().for_each(|(name, v)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            pointers(v, format!("{at}/{name}"), found);
        }),
        _ => {}
    }
    found.push(at);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_the_reader_panic(
        document in anything(), near in nearly_valid(), kind in proptest::sample::select(Kind::ALL.to_vec())
    ) {
        for document in [document.clone(), json!({"kind": kind, "project": "p1", "id": "x1", "spec": document}), near] {
            if let Err(found) = contract::parse(document) {
                prop_assert!(!found.is_empty());
            }
        }
    }

    #[test]
    fn documents_that_differ_show_it_and_a_patch_makes_one_the_other(
        from in anything(), to in anything(), pair in (nearly_valid(), nearly_valid())
    ) {
        for (from, to) in [(from.clone(), to.clone()), pair, (from.clone(), from), (to.clone(), to)] {
            prop_assert_eq!(changes(Some(&from), &to).is_empty(), canonical(&from) == canonical(&to));
            let mut patched = from.clone();
            let patch: json_patch::Patch = serde_json::from_value(patch(&from, &to)).unwrap();
            json_patch::patch(&mut patched, &patch).unwrap();
            prop_assert_eq!(patched, to);
        }
    }
}

#[test]
fn a_contract_breaks_nothing_by_staying_as_it_is() {
    for manifest in manifests() {
        let spec = contract::parse(manifest).unwrap().spec;
        assert_eq!(breaking(&spec, Some(&spec)), []);
        assert_eq!(breaking(&spec, None).iter().map(|b| b.rule).collect::<Vec<_>>(), ["retired"]);
    }
}
