//! Known values in a JSON document: in each string, name and number by itself, then in strings that follow each other.

use std::ops::Range;

use serde_json::{Map, Value};

use super::{Known, MASK, masked};

pub(super) fn mask(known: &Known, value: Value) -> Value {
    let mut value = alone(known, value);
    let mut strings = Vec::new();
    collect(&mut value, "", &mut strings);
    if strings.len() > 1 {
        // all of them in their order, then those of one name: parts of a text have their types in between
        let mut all: Vec<&mut String> = strings.iter_mut().map(|(_, text)| &mut **text).collect();
        joined(known, &mut all);
        strings.sort_by(|(a, _), (b, _)| a.cmp(b));
        for same in strings.chunk_by_mut(|(a, _), (b, _)| a == b) {
            let mut same: Vec<&mut String> = same.iter_mut().map(|(_, text)| &mut **text).collect();
            joined(known, &mut same);
        }
    }
    value
}

/// Each string, name and number by itself.
fn alone(known: &Known, value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(known.mask(&text).into_owned()),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| alone(known, item)).collect()),
        Value::Object(members) => {
            let masked =
                |(name, value): (String, Value)| (known.mask(&name).into_owned(), alone(known, value));
            Value::Object(members.into_iter().map(masked).collect::<Map<_, _>>())
        }
        Value::Number(number) if !known.ranges(&number.to_string()).is_empty() => {
            Value::String(MASK.to_owned())
        }
        other => other,
    }
}

/// Every string of a document with the name it is a value of, in order.
fn collect<'a>(value: &'a mut Value, name: &str, found: &mut Vec<(String, &'a mut String)>) {
    match value {
        Value::String(text) => found.push((name.to_owned(), text)),
        Value::Array(items) => items.iter_mut().for_each(|item| collect(item, name, found)),
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| collect(value, name, found)),
        _ => {}
    }
}

/// Masks the parts of values that begin in one string and end in another.
fn joined(known: &Known, strings: &mut [&mut String]) {
    if strings.len() < 2 {
        return;
    }
    let whole: String = strings.iter().map(|text| text.as_str()).collect();
    let found = known.plain(whole.as_bytes());
    let mut start = 0;
    for text in strings {
        let end = start + text.len();
        let parts: Vec<Range<usize>> = found
            .iter()
            .filter(|range| range.start < end && start < range.end)
            .map(|range| range.start.max(start) - start..range.end.min(end) - start)
            .collect();
        if !parts.is_empty() {
            **text = masked(text, &parts).into_owned();
        }
        start = end;
    }
}
