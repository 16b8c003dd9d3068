//! What the fixture offers, read from `catalog.json`: tools, resources, templates and prompts as they are
//! listed, each with a member `fixture` of our own that says how it answers and that no client sees.
//!
//! Names and contents are those that the official conformance suite asks of a server under test; `echo`,
//! `held` and `ask_name` are for tests of our own.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// A red pixel as PNG, base64. `$PIXEL` stands for it in the catalog.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";

static CATALOG: LazyLock<Value> = LazyLock::new(|| {
    let catalog = serde_json::from_str(include_str!("catalog.json")).expect("the catalog is JSON");
    let pixel = Map::from_iter([("PIXEL".to_owned(), Value::from(PIXEL))]);
    filled(&catalog, &pixel)
});

/// Every entry of one kind (`tools`, `prompts`, `resources`, `resourceTemplates`), as clients see it.
pub(super) fn listed(kind: &str) -> Vec<Value> {
    let entries = CATALOG[kind].as_array().into_iter().flatten().cloned();
    let hidden = entries.map(|mut entry| {
        entry.as_object_mut().map(|members| members.remove("fixture"));
        entry
    });
    hidden.collect()
}

/// The entry of `kind` whose `member` is `value`, with how it answers.
pub(super) fn find(kind: &str, member: &str, value: &str) -> Option<&'static Value> {
    CATALOG[kind].as_array()?.iter().find(|entry| entry[member] == value)
}

/// Every tool's name, in the order of the list.
pub(super) fn tool_names() -> Vec<&'static str> {
    CATALOG["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str()).collect()
}

/// A copy in which `$name` in every string gives way to the argument of that name.
pub(super) fn filled(value: &Value, arguments: &Map<String, Value>) -> Value {
    match value {
        Value::String(text) => {
            let fill = |text: String, (name, given): (&String, &Value)| match given.as_str() {
                Some(given) => text.replace(&format!("${name}"), given),
                None => text,
            };
            Value::String(arguments.iter().fold(text.clone(), fill))
        }
        Value::Array(items) => items.iter().map(|item| filled(item, arguments)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, item)| (name.clone(), filled(item, arguments))).collect()
        }
        other => other.clone(),
    }
}
