//! A document as a tree that still knows where in its file each value stands.
//!
//! The server judges documents and answers with JSON Pointers; a person wants a line. A member's place is
//! its key's, because that is where one begins to read; an item's or a whole document's is the value's own.
//! What an alias or a merge brings in keeps the place where it was written: that is where to correct it.
//! Invariant: a tree holds only what JSON can say, so that turning it into JSON cannot fail.

use serde_json::{Map, Number, Value};

/// Where something stands in a file. Both count from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The line.
    pub(crate) line: u64,
    /// The column.
    pub(crate) column: u64,
}

impl Place {
    /// Where every file begins.
    pub(super) const START: Place = Place { line: 1, column: 1 };
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) shape: Shape,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In the file's order; no key twice.
    Map(Vec<Member>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) key: String,
    /// The key's place.
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    /// The member of this name, where this is a map that has it.
    pub(super) fn member(&self, key: &str) -> Option<&Member> {
        let Shape::Map(members) = &self.shape else { return None };
        members.iter().find(|member| member.key == key)
    }

    /// Takes a member out.
    pub(super) fn remove(&mut self, key: &str) -> Option<Member> {
        let Shape::Map(members) = &mut self.shape else { return None };
        let at = members.iter().position(|member| member.key == key)?;
        Some(members.remove(at))
    }

    /// The place of what a JSON Pointer names; where there is no such thing, of the nearest thing above it.
    pub(super) fn place_of(&self, pointer: &str) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let inner = match &node.shape {
                Shape::Map(_) => node.member(&step).map(|member| (member.place, &member.value)),
                Shape::List(items) => {
                    step.parse::<usize>().ok().and_then(|at| items.get(at)).map(|item| (item.place, item))
                }
                _ => None,
            };
            let Some(inner) = inner else { return place };
            (place, node) = inner;
        }
        place
    }

    /// Hands every text that is a value, not a key, to `change`.
    pub(super) fn for_each_text(&mut self, change: &mut impl FnMut(&mut String)) {
        match &mut self.shape {
            Shape::Text(text) => change(text),
            Shape::List(items) => items.iter_mut().for_each(|item| item.for_each_text(change)),
            Shape::Map(members) => members.iter_mut().for_each(|member| member.value.for_each_text(change)),
            Shape::Null | Shape::Bool(_) | Shape::Number(_) => {}
        }
    }

    /// The same as JSON.
    pub(super) fn to_json(&self) -> Value {
        match &self.shape {
            Shape::Null => Value::Null,
            Shape::Bool(value) => Value::Bool(*value),
            Shape::Number(number) => Value::Number(number.clone()),
            Shape::Text(text) => Value::String(text.clone()),
            Shape::List(items) => items.iter().map(Node::to_json).collect(),
            Shape::Map(members) => {
                let fields = members.iter().map(|member| (member.key.clone(), member.value.to_json()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }
}
