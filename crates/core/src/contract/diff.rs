//! What changed between two versions of a contract: as a patch for programs ([`patch`], RFC 6902), and as
//! lines for people ([`changes`]).
//!
//! A patch counts positions: a tool put first in a list reads as if every tool had changed. The lines match
//! the items of a list by what names them, so that the same change is one line.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::json;

/// Members that name an item of a list.
const KEYS: [&str; 3] = ["name", "tool", "id"];

/// The JSON Patch (RFC 6902) that turns `from` into `to`: an array of operations, empty for equal documents.
pub fn patch(from: &Value, to: &Value) -> Value {
    json::to_value(&json_patch::diff(from, to))
}

/// What happened to one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeOp {
    /// It was not there before.
    Added,
    /// It is no longer there.
    Removed,
    /// It has another value.
    Changed,
}

/// One change between two documents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeLine {
    /// What happened.
    pub op: ChangeOp,
    /// JSON Pointer: into the older document for what was removed, else into the newer one.
    pub path: String,
    /// The value before; none for what was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// The value after; none for what was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// The changes from one document to another, by path; none only for documents that say the same. Without
/// `from` the whole document was added.
///
/// Lists whose items each have their own `name`, `tool` or `id`, and lists of differing plain values, are matched by
/// that: if only the order of such a list changed, one line shows the names in both orders. Other lists are
/// matched by position.
pub fn changes(from: Option<&Value>, to: &Value) -> Vec<ChangeLine> {
    let mut lines = Lines::default();
    match from {
        Some(from) => lines.compare("", from, to),
        None => lines.added("", to),
    }
    lines.0
}

#[derive(Default)]
struct Lines(Vec<ChangeLine>);

impl Lines {
    fn added(&mut self, path: &str, to: &Value) {
        self.push(ChangeOp::Added, path, None, Some(to));
    }

    fn removed(&mut self, path: &str, from: &Value) {
        self.push(ChangeOp::Removed, path, Some(from), None);
    }

    fn changed(&mut self, path: &str, from: &Value, to: &Value) {
        self.push(ChangeOp::Changed, path, Some(from), Some(to));
    }

    fn push(&mut self, op: ChangeOp, path: &str, from: Option<&Value>, to: Option<&Value>) {
        self.0.push(ChangeLine { op, path: path.to_owned(), from: from.cloned(), to: to.cloned() });
    }

    fn compare(&mut self, path: &str, from: &Value, to: &Value) {
        match (from, to) {
            (Value::Object(old), Value::Object(new)) => {
                for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                    self.removed(&below(path, name), value);
                }
                for (name, value) in new {
                    match old.get(name) {
                        Some(before) => self.compare(&below(path, name), before, value),
                        None => self.added(&below(path, name), value),
                    }
                }
            }
            (Value::Array(old), Value::Array(new)) => match (names(old), names(new)) {
                (Some(before), Some(after)) => self.compare_named(path, (old, &before), (new, &after)),
                _ => self.compare_by_position(path, old, new),
            },
            _ if json::canonical(from) == json::canonical(to) => {}
            _ => self.changed(path, from, to),
        }
    }

    fn compare_named(
        &mut self,
        path: &str,
        (old, before): (&[Value], &[Name]),
        (new, after): (&[Value], &[Name]),
    ) {
        let (was, is) = (positions(before), positions(after));
        for (i, value) in old.iter().enumerate().filter(|(i, _)| !is.contains_key(before[*i].0.as_str())) {
            self.removed(&below(path, &i.to_string()), value);
        }
        for (i, value) in new.iter().enumerate() {
            let path = below(path, &i.to_string());
            match was.get(after[i].0.as_str()) {
                Some(j) => self.compare(&path, &old[*j], value),
                None => self.added(&path, value),
            }
        }
        let kept_before = before.iter().map(|(name, _)| name).filter(|name| is.contains_key(name.as_str()));
        let kept_after = after.iter().map(|(name, _)| name).filter(|name| was.contains_key(name.as_str()));
        if kept_before.ne(kept_after) {
            let list = |names: &[Name]| names.iter().map(|(_, shown)| shown.clone()).collect::<Value>();
            self.changed(path, &list(before), &list(after));
        }
    }

    fn compare_by_position(&mut self, path: &str, old: &[Value], new: &[Value]) {
        for (i, pair) in old.iter().zip(new).enumerate() {
            self.compare(&below(path, &i.to_string()), pair.0, pair.1);
        }
        for (i, value) in old.iter().enumerate().skip(new.len()) {
            self.removed(&below(path, &i.to_string()), value);
        }
        for (i, value) in new.iter().enumerate().skip(old.len()) {
            self.added(&below(path, &i.to_string()), value);
        }
    }
}

/// What names an item of a list: its canonical text, which is compared, and the value, which is shown.
type Name = (String, Value);

/// An item's `name`, `tool` or `id`, or a plain value itself. None when some item has no name of its own.
fn names(items: &[Value]) -> Option<Vec<Name>> {
    let name_of = |item: &Value| match item {
        Value::Object(members) => {
            KEYS.iter().find_map(|key| members.get(*key).filter(|v| v.is_string())).cloned()
        }
        Value::Array(_) => None,
        plain => Some(plain.clone()),
    };
    let named = |item: &Value| name_of(item).map(|name| (json::canonical(&name), name));
    let names: Vec<Name> = items.iter().map(named).collect::<Option<_>>()?;
    (positions(&names).len() == names.len()).then_some(names)
}

fn positions(names: &[Name]) -> BTreeMap<&str, usize> {
    names.iter().enumerate().map(|(i, (name, _))| (name.as_str(), i)).collect()
}

fn below(path: &str, part: &str) -> String {
    format!("{path}/{}", part.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests;
