//! Canonical JSON (RFC 8785) and hashes over it, so that equal documents have equal hashes.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The RFC 8785 form of `value`. Numbers beyond IEEE 754 doubles are rounded as the RFC says.
///
/// # Panics
/// Never for values made of JSON types; a map with non-string keys cannot be given here as `Value`.
pub fn canonical(value: &serde_json::Value) -> String {
    serde_json_canonicalizer::to_string(value).expect("a JSON value always has a canonical form")
}

/// Lower-case hexadecimal SHA-256 of the canonical form: 64 characters.
pub fn sha256_hex(value: &serde_json::Value) -> String {
    hex(&sha256(canonical(value).as_bytes()))
}

/// SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Bytes of lower-case hexadecimal; `None` for any other text.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

/// `value` as a JSON value; for our own types, whose serialisation cannot fail.
pub fn to_value<T: Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).expect("our own types have only string keys")
}

/// `value` with every whole number written as an integer: `5.0` is one to JSON Schema, but not to a type.
/// The canonical form stays the same.
pub fn whole_numbers(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    /// Every whole number up to here has an exact double, 2^53 - 1.
    const MAX: f64 = 9_007_199_254_740_991.0;
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(f) if number.is_f64() && f.fract() == 0.0 && f.abs() <= MAX => (f as i64).into(),
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(members) => members.into_iter().map(|(k, v)| (k, whole_numbers(v))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn key_order_and_spacing_do_not_change_the_hash() {
        let a: serde_json::Value = serde_json::from_str(r#"{"b":1.0,"a":[true,null]}"#).unwrap();
        assert_eq!(canonical(&a), r#"{"a":[true,null],"b":1}"#);
        assert_eq!(sha256_hex(&a), sha256_hex(&json!({"a": [true, null], "b": 1})));
        assert_eq!(sha256_hex(&a).len(), 64);
    }

    #[test]
    fn hexadecimal_reads_back_and_nothing_else_is_read() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&all)), Some(all));
        assert_eq!(unhex(""), Some(vec![]));
        for bad in ["0", "0g", "AB", "é", " 0"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }

    #[test]
    fn whole_numbers_become_integers_and_keep_their_canonical_form() {
        let given = json!({"a": [5.0, 1e3, -2.0, 0.5, 1e300, 7], "b": "5.0"});
        let whole = whole_numbers(given.clone());
        assert_eq!(whole, json!({"a": [5, 1000, -2, 0.5, 1e300, 7], "b": "5.0"}));
        assert_eq!(canonical(&whole), canonical(&given));
    }
}
