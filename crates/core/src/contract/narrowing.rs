//! Does a JSON Schema accept everything that another accepts? Told keyword by keyword, for people to read.
//!
//! Invariant: when nothing is reported, every document the older schema accepts is accepted by the newer one.
//! Where that cannot be shown by comparing keywords, it is reported as not comparable: a false alarm costs a
//! look, a missed one a broken consumer. References are not followed; they compare equal when their
//! definitions do.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::json;

/// Keywords that say something to people and nothing about documents.
const ANNOTATIONS: [&str; 9] = [
    "title",
    "description",
    "examples",
    "default",
    "$comment",
    "$schema",
    "deprecated",
    "readOnly",
    "writeOnly",
];
/// Keywords whose value is one schema, a list of schemas, and schemas by name.
pub(super) const ONE: [&str; 11] = [
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
pub(super) const LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
pub(super) const NAMED: [&str; 5] =
    ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];
/// Bounds that a document may not fall below, and those it may not pass.
const LOWER: [&str; 5] = ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"];
const UPPER: [&str; 5] = ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"];
/// Keywords that change what others mean: they stay the same, or the schemas cannot be compared.
const CONTEXT: [&str; 13] = [
    "patternProperties",
    "prefixItems",
    "contains",
    "minContains",
    "maxContains",
    "if",
    "then",
    "else",
    "$id",
    "$anchor",
    "$dynamicAnchor",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords with a rule of their own below.
const COMPARED: [&str; 10] = [
    "type",
    "enum",
    "const",
    "properties",
    "additionalProperties",
    "required",
    "items",
    "anyOf",
    "allOf",
    "uniqueItems",
];

/// One way in which a newer schema accepts less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Narrowing {
    /// JSON Pointer into the schema, below the path that was given.
    pub(super) path: String,
    /// What is no longer accepted.
    pub(super) message: String,
}

/// How `to` accepts less than `from`; empty only when it provably does not. Both are JSON Schemas.
pub(super) fn narrowings(from: &Value, to: &Value) -> Vec<Narrowing> {
    let (from, to) = (without_annotations(from), without_annotations(to));
    let is_refs_stable = definitions(&from).is_some_and(|before| definitions(&to) == Some(before));
    let mut comparison = Comparison { is_refs_stable, found: Vec::new() };
    comparison.compare("", &from, &to);
    comparison.found
}

/// The definitions that references lead to; none when one may lead elsewhere.
fn definitions(schema: &Value) -> Option<[Option<&Value>; 2]> {
    let is_definition = |r: &str| r.starts_with("#/$defs/") || r.starts_with("#/definitions/");
    let is_known = references(schema).into_iter().all(is_definition) && !has_base_below(schema);
    is_known.then(|| [schema.get("$defs"), schema.get("definitions")])
}

/// A `$id` below the root makes references lead to another root.
fn has_base_below(schema: &Value) -> bool {
    let below = |inner: &Value| inner.get("$id").is_some() || has_base_below(inner);
    match schema {
        Value::Array(items) => items.iter().any(below),
        Value::Object(members) => members.values().any(below),
        _ => false,
    }
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, inner)| match (name.as_str(), inner) {
                ("$ref", Value::String(target)) => vec![target.as_str()],
                ("$dynamicRef" | "$recursiveRef", _) => vec![""],
                _ => references(inner),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The schema as the validator sees it: without texts for people, `true` as `{}`, whole numbers as integers.
fn without_annotations(schema: &Value) -> Value {
    let Value::Object(members) = schema else {
        return if *schema == Value::Bool(true) { json!({}) } else { schema.clone() };
    };
    let by_name = |inner: &Value| match inner {
        Value::Object(named) => named.iter().map(|(k, v)| (k.clone(), without_annotations(v))).collect(),
        other => other.clone(),
    };
    let list = |inner: &Value| match inner {
        Value::Array(items) => items.iter().map(without_annotations).collect(),
        other => other.clone(),
    };
    let kept = members.iter().filter(|(keyword, _)| !ANNOTATIONS.contains(&keyword.as_str()));
    kept.map(|(keyword, inner)| {
        let inner = match keyword.as_str() {
            k if ONE.contains(&k) => without_annotations(inner),
            k if LIST.contains(&k) => list(inner),
            k if NAMED.contains(&k) => by_name(inner),
            _ => json::whole_numbers(inner.clone()),
        };
        (keyword.clone(), inner)
    })
    .collect()
}

struct Comparison {
    /// References lead to definitions that both schemas share, so that equal texts mean the same.
    is_refs_stable: bool,
    found: Vec<Narrowing>,
}

impl Comparison {
    fn report(&mut self, path: &str, message: impl Into<String>) {
        self.found.push(Narrowing { path: path.to_owned(), message: message.into() });
    }

    fn same(&self, from: Option<&Value>, to: Option<&Value>) -> bool {
        from == to && (self.is_refs_stable || to.is_none_or(|value| references(value).is_empty()))
    }

    fn same_member(&self, keyword: &str, old: &Map<String, Value>, new: &Map<String, Value>) -> bool {
        let is_reference = keyword.ends_with("Ref") || keyword == "$ref";
        (self.is_refs_stable || !is_reference) && self.same(old.get(keyword), new.get(keyword))
    }

    fn compare(&mut self, path: &str, from: &Value, to: &Value) {
        let (old, new) = match (from, to) {
            _ if self.same(Some(from), Some(to)) => return,
            (Value::Bool(false), _) => return,
            (_, Value::Bool(false)) => return self.report(path, "nothing is accepted any more"),
            (Value::Object(old), Value::Object(new)) => (old, new),
            _ => return self.report(path, "this could not be compared"),
        };
        if new.is_empty() {
            return;
        }
        if let Some(keyword) = CONTEXT.iter().find(|keyword| !self.same_member(keyword, old, new)) {
            return self.report(path, format!("`{keyword}` changed: what this means could not be compared"));
        }
        if new.contains_key("unevaluatedItems") || new.contains_key("unevaluatedProperties") {
            return self.report(path, "with `unevaluated…` a change could not be compared");
        }
        self.compare_values(path, old, new);
        self.compare_bounds(path, old, new);
        self.compare_objects(path, old, new);
        let any = json!({});
        let items = |schema: &Map<String, Value>| schema.get("items").unwrap_or(&any).clone();
        self.compare(&format!("{path}/items"), &items(old), &items(new));
        self.compare_choices(path, old, new);
        self.compare_others(path, old, new);
    }

    /// `type`, `enum` and `const`: sets that may only grow.
    fn compare_values(&mut self, path: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        if let Some(allowed) = new.get("type") {
            let (before, allowed) = (types(old), type_set(allowed));
            let lost: Vec<&str> = before.difference(&allowed).copied().collect();
            if !lost.is_empty() {
                self.report(path, format!("type {} is no longer accepted", lost.join(", ")));
            }
        }
        let Some(allowed) = listed(new) else { return };
        match listed(old) {
            None => self.report(path, "any value was accepted, now only those listed are"),
            Some(before) => {
                let lost = before.iter().filter(|value| !allowed.contains(value)).count();
                if lost > 0 {
                    self.report(path, format!("{lost} of the values listed before are no longer accepted"));
                }
            }
        }
    }

    fn compare_bounds(&mut self, path: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let number = |bound: &Value| bound.as_f64().unwrap_or_default();
        for (keyword, bound) in LOWER.iter().filter_map(|keyword| new.get_key_value(*keyword)) {
            let is_size = !keyword.to_lowercase().ends_with("minimum");
            let is_raised = match old.get(keyword) {
                // equal as doubles and not equal: too close to tell apart
                Some(before) => before != bound && number(bound) >= number(before),
                None => !is_size || number(bound) > 0.0,
            };
            if is_raised {
                self.report(path, format!("`{keyword}` was raised to {bound}"));
            }
        }
        for (keyword, bound) in UPPER.iter().filter_map(|keyword| new.get_key_value(*keyword)) {
            if old.get(keyword).is_none_or(|before| before != bound && number(bound) <= number(before)) {
                self.report(path, format!("`{keyword}` was lowered to {bound}"));
            }
        }
        if new.get("uniqueItems") == Some(&Value::Bool(true))
            && old.get("uniqueItems") != Some(&Value::Bool(true))
        {
            self.report(path, "items must now differ");
        }
    }

    /// Members by name, the members that no name describes, and those that must be there. A member that one
    /// side does not describe falls under that side's `additionalProperties`, or, where patterns describe
    /// members too, under nothing that is known here.
    fn compare_objects(&mut self, path: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let any = json!({});
        let rest_before = old.get("additionalProperties").unwrap_or(&any);
        let rest_after = new.get("additionalProperties").unwrap_or(&any);
        let rest_known = if new.contains_key("patternProperties") { &any } else { rest_before };
        for (name, was) in described(old) {
            let path = format!("{path}/properties/{}", escaped(name));
            let is = new.get("properties").and_then(|members| members.get(name)).unwrap_or(rest_after);
            match (was, is) {
                (Value::Bool(false), _) => {}
                (_, Value::Bool(false)) => self.report(&path, "this member is no longer accepted"),
                _ => self.compare(&path, was, is),
            }
        }
        let is_new = |name: &str| old.get("properties").is_none_or(|members| members.get(name).is_none());
        for (name, is) in described(new).filter(|(name, _)| is_new(name)) {
            self.compare(&format!("{path}/properties/{}", escaped(name)), rest_known, is);
        }
        self.compare(&format!("{path}/additionalProperties"), rest_before, rest_after);
        for name in required(new).difference(&required(old)) {
            self.report(&format!("{path}/required"), format!("`{name}` must now be there"));
        }
    }

    /// A choice may gain branches, and a conjunction lose some; those that stay are compared in order.
    fn compare_choices(&mut self, path: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let list = |schema: &Map<String, Value>, keyword: &str| {
            schema.get(keyword).and_then(Value::as_array).cloned()
        };
        for (keyword, is_longer_wider) in [("anyOf", true), ("allOf", false)] {
            let Some(after) = list(new, keyword) else { continue };
            let before = list(old, keyword).unwrap_or_default();
            let has_partners = if is_longer_wider {
                !before.is_empty() && before.len() <= after.len()
            } else {
                after.len() <= before.len()
            };
            if !has_partners {
                self.report(path, format!("`{keyword}` was added, or its branches could not be compared"));
                continue;
            }
            for (i, (was, is)) in before.iter().zip(&after).enumerate() {
                self.compare(&format!("{path}/{keyword}/{i}"), was, is);
            }
        }
    }

    /// Whatever else the newer schema says must have been said before.
    fn compare_others(&mut self, path: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let is_known = |keyword: &str| {
            COMPARED.contains(&keyword)
                || CONTEXT.contains(&keyword)
                || UPPER.contains(&keyword)
                || LOWER.contains(&keyword)
                || ["$defs", "definitions"].contains(&keyword)
        };
        for keyword in new.keys().filter(|keyword| !is_known(keyword)) {
            if !self.same_member(keyword, old, new) {
                let what = if old.contains_key(keyword) { "changed" } else { "was added" };
                self.report(path, format!("`{keyword}` {what}, which could not be compared"));
            }
        }
    }
}

/// The members that a schema describes by name.
fn described(schema: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn required(schema: &Map<String, Value>) -> BTreeSet<&str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The types that a schema accepts, by its `type` or by the values it lists.
fn types(schema: &Map<String, Value>) -> BTreeSet<&str> {
    match (schema.get("type"), listed(schema)) {
        (Some(types), _) => type_set(types),
        (None, Some(values)) => values.iter().map(type_of).collect(),
        (None, None) => ["null", "boolean", "object", "array", "number", "integer", "string"].into(),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
    }
}

/// The types a `type` names; `number` takes integers too.
fn type_set(value: &Value) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = match value {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    if names.contains("number") {
        names.insert("integer");
    }
    names
}

/// The values that `const` or `enum` list; none when neither is there.
fn listed(schema: &Map<String, Value>) -> Option<Vec<Value>> {
    match (schema.get("const"), schema.get("enum").and_then(Value::as_array)) {
        (None, None) => None,
        (None, Some(values)) => Some(values.clone()),
        (Some(value), None) => Some(vec![value.clone()]),
        (Some(value), Some(values)) => Some(values.iter().filter(|v| *v == value).cloned().collect()),
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
