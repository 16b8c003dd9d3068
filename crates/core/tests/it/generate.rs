//! Random documents that fit a schema, made by walking it; and the places of a document where its schema
//! can be broken. Knows the keywords that the shipped schemas use, and fails on a type it does not know.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Documents of a schema. A few do not fit, where keywords depend on each other (`anyOf`): filter them.
pub(crate) fn documents(schema: &Value, root: &Value) -> BoxedStrategy<Value> {
    let schema = resolved(schema, root);
    if let Some(value) = schema.get("const") {
        return Just(value.clone()).boxed();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return proptest::sample::select(values.clone()).boxed();
    }
    if let Some(branches) = schema.get("oneOf").and_then(Value::as_array) {
        return proptest::strategy::Union::new(branches.iter().map(|b| documents(b, root))).boxed();
    }
    match &schema["type"] {
        // a schema in a schema
        Value::Array(types) if types.contains(&json!("boolean")) => {
            prop_oneof![any::<bool>().prop_map(Value::from), examples(schema)].boxed()
        }
        Value::Array(types) => proptest::strategy::Union::new(types.iter().map(|name| {
            let mut one = schema.clone();
            one["type"] = name.clone();
            documents(&one, root)
        }))
        .boxed(),
        Value::String(name) => of_type(name, schema, root),
        other => panic!("no type: {other} in {schema}"),
    }
}

fn of_type(name: &str, schema: &Value, root: &Value) -> BoxedStrategy<Value> {
    match name {
        "null" => Just(Value::Null).boxed(),
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "integer" => integers(schema),
        "number" => (0.0..1e6).prop_map(Value::from).boxed(),
        "string" => strings(schema),
        "array" => arrays(schema, root),
        "object" => objects(schema, root),
        other => panic!("unknown type {other}"),
    }
}

/// Some of them written with a point: `5.0` is an integer too.
fn integers(schema: &Value) -> BoxedStrategy<Value> {
    let bound = |keyword: &str, without: i64| schema.get(keyword).and_then(Value::as_i64).unwrap_or(without);
    let range = bound("minimum", 0)..=bound("maximum", 1 << 53);
    (range, 0..8).prop_map(|(n, form)| if form == 0 { json!(n as f64) } else { json!(n) }).boxed()
}

fn strings(schema: &Value) -> BoxedStrategy<Value> {
    let length = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
    match (schema["format"].as_str(), schema["pattern"].as_str(), length("maxLength")) {
        (Some("date-time"), _, _) => Just(json!("2026-05-04T10:00:00Z")).boxed(),
        (Some(_), _, _) | (_, Some(_), Some(_)) => examples(schema),
        (None, Some(pattern), None) => {
            let inner = pattern.trim_start_matches('^').trim_end_matches('$');
            proptest::string::string_regex(inner).unwrap().prop_map(Value::from).boxed()
        }
        (None, None, most) => {
            let least = length("minLength").unwrap_or(0);
            let most = most.unwrap_or(u64::MAX).min(least + 20);
            let any = format!("(?s).{{{least},{most}}}");
            proptest::string::string_regex(&any).unwrap().prop_map(Value::from).boxed()
        }
    }
}

fn examples(schema: &Value) -> BoxedStrategy<Value> {
    let given = schema["examples"].as_array().unwrap_or_else(|| panic!("no examples: {schema}"));
    proptest::sample::select(given.clone()).boxed()
}

fn arrays(schema: &Value, root: &Value) -> BoxedStrategy<Value> {
    let least = schema["minItems"].as_u64().unwrap_or(0) as usize;
    let most = (schema["maxItems"].as_u64().unwrap_or(4) as usize).min(least + 3);
    let is_set = schema["uniqueItems"] == true;
    let items = vec(documents(&schema["items"], root), least..=most);
    items
        .prop_map(move |mut items| {
            if is_set {
                let mut seen = std::collections::BTreeSet::new();
                items.retain(|item| seen.insert(awooop_core::json::canonical(item)));
            }
            Value::Array(items)
        })
        .boxed()
}

fn objects(schema: &Value, root: &Value) -> BoxedStrategy<Value> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        let pattern = schema["propertyNames"]["pattern"].as_str().expect("a map says how its names look");
        let names = proptest::string::string_regex(&pattern[1..pattern.len() - 1]).unwrap();
        let named = btree_map(names, documents(&schema["additionalProperties"], root), 0..4);
        return named.prop_map(|map| Value::Object(map.into_iter().collect())).boxed();
    };
    let required = required(schema);
    let mut all: BoxedStrategy<Map<String, Value>> = Just(Map::new()).boxed();
    for (name, inner) in properties {
        let value = documents(inner, root);
        let value = match required.contains(&name.as_str()) {
            true => value.prop_map(Some).boxed(),
            false => option::of(value).boxed(),
        };
        let name = name.clone();
        let put = move |(mut map, value): (Map<String, Value>, Option<Value>)| {
            map.extend(value.map(|value| (name.clone(), value)));
            map
        };
        all = (all, value).prop_map(put).boxed();
    }
    let together = schema.get("dependentRequired").and_then(Value::as_object).cloned().unwrap_or_default();
    all.prop_map(move |mut map| {
        for (name, needed) in &together {
            if needed.as_array().unwrap().iter().any(|n| !map.contains_key(n.as_str().unwrap())) {
                map.remove(name);
            }
        }
        Value::Object(map)
    })
    .boxed()
}

fn required(schema: &Value) -> Vec<&str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|r| root.pointer(r.trim_start_matches('#')));
    target.unwrap_or(schema)
}

/// One way to break a document.
#[derive(Debug, Clone)]
pub(crate) enum Break {
    /// Put a member nobody knows into the closed object at this pointer.
    Add(String),
    /// Take this member out of the object at this pointer.
    Remove(String, String),
    /// Put a value of another type at this pointer; its type takes any value when the flag is set.
    Retype { at: String, to: Value, is_any_value: bool },
}

impl Break {
    /// The pointer of what is broken.
    pub(crate) fn place(&self) -> &str {
        match self {
            Break::Add(at) | Break::Remove(at, _) | Break::Retype { at, .. } => at,
        }
    }

    /// The broken document.
    pub(crate) fn of(&self, mut document: Value) -> Value {
        let at = document.pointer_mut(self.place()).unwrap();
        match self {
            Break::Add(_) => at["no_such_member"] = json!(1),
            Break::Remove(_, name) => {
                at.as_object_mut().unwrap().remove(name);
            }
            Break::Retype { to, .. } => *at = to.clone(),
        }
        document
    }
}

/// Every way to break a document that fits `schema`.
pub(crate) fn breaks(schema: &Value, root: &Value, document: &Value, at: &str) -> Vec<Break> {
    let schema = resolved(schema, root);
    if let Some(branches) = schema.get("oneOf").and_then(Value::as_array) {
        let fits = |branch: &&Value| {
            let members = resolved(branch, root)["properties"].as_object().unwrap().iter();
            let mut constants = members.filter_map(|(name, inner)| Some((name, inner.get("const")?)));
            constants.all(|(name, value)| document[name] == *value)
        };
        return breaks(branches.iter().find(fits).unwrap(), root, document, at);
    }
    let mut found = retypes(schema, at);
    match document {
        Value::Object(members) if schema["additionalProperties"] == false => {
            found.push(Break::Add(at.to_owned()));
            found.extend(
                required(schema).into_iter().map(|name| Break::Remove(at.to_owned(), name.to_owned())),
            );
            for (name, value) in members {
                found.extend(breaks(&schema["properties"][name], root, value, &format!("{at}/{name}")));
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                found.extend(breaks(&schema["items"], root, item, &format!("{at}/{i}")));
            }
        }
        _ => {}
    }
    found
}

/// Values of each type that `schema` does not take. The list is no list of any type's members in order, which
/// a type would read.
fn retypes(schema: &Value, at: &str) -> Vec<Break> {
    let takes: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        // constants and enums are texts
        _ => vec!["string"],
    };
    let is_any_value = takes.contains(&"boolean") && takes.contains(&"object");
    [
        ("null", json!(null)),
        ("boolean", json!(true)),
        ("number", json!(0.5)),
        ("string", json!("\u{1}")),
        ("array", json!([true])),
        ("object", json!({"no_such_member": 1})),
    ]
    .into_iter()
    .filter(|(name, _)| !takes.contains(name))
    .map(|(_, to)| Break::Retype { at: at.to_owned(), to, is_any_value })
    .collect()
}
