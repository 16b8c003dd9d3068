//! `uniqueItems` in n log n, whatever the items are.
//!
//! The crate's own looks items up by a hash that an adversary can make equal for all of them (nested empty
//! arrays hash alike), which is quadratic. Items are sorted here by an order in which equal JSON values
//! are neighbours: types by rank, numbers by value, objects by their sorted members.

use std::cmp::Ordering;

use jsonschema::{Keyword, ValidationError, paths::Location};
use serde_json::{Map, Number, Value};

struct Unique {
    is_asked: bool,
}

impl<'i> Keyword<'i> for Unique {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            Ok(())
        } else {
            Err(ValidationError::custom("expected items that differ"))
        }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        !self.is_asked || instance.as_array().is_none_or(|items| all_differ(items))
    }
}

/// Makes the keyword for `uniqueItems`.
#[expect(clippy::unnecessary_wraps, reason = "the crate's signature")]
pub(super) fn keyword<'a>(
    _: &'a Map<String, Value>,
    value: &'a Value,
    _: Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    Ok(Box::new(Unique { is_asked: value == &Value::Bool(true) }))
}

fn all_differ(items: &[Value]) -> bool {
    let mut sorted: Vec<&Value> = items.iter().collect();
    sorted.sort_unstable_by(|a, b| order(a, b));
    sorted.windows(2).all(|pair| order(pair[0], pair[1]) != Ordering::Equal)
}

fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => order_of_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let differing = a.iter().zip(b).map(|(a, b)| order(a, b)).find(|o| o.is_ne());
            differing.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => order_of_objects(a, b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// Integers exactly; where one is a fraction or beyond 64 bits, `1` and `1.0` are the same number.
fn order_of_numbers(a: &Number, b: &Number) -> Ordering {
    let whole = |n: &Number| -> Option<i128> {
        let exact = n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
        exact.or_else(|| n.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 1e30).map(|x| x as i128))
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        // a fraction lies below 2^53, where its neighbours are exact, and a whole beyond 1e30 above all others
        _ => a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)),
    }
}

fn order_of_objects(a: &Map<String, Value>, b: &Map<String, Value>) -> Ordering {
    let sorted = |map| {
        let mut members: Vec<(&String, &Value)> = Map::iter(map).collect();
        members.sort_unstable_by_key(|&(name, _)| name);
        members
    };
    let (a, b) = (sorted(a), sorted(b));
    let differing = a
        .iter()
        .zip(&b)
        .map(|((name, value), (other_name, other))| name.cmp(other_name).then_with(|| order(value, other)))
        .find(|o| o.is_ne());
    differing.unwrap_or_else(|| a.len().cmp(&b.len()))
}
