//! Compiled schemas, kept by their content: to compile one takes a hundred times as long as to use it, and
//! the same few come with every answer and every tool call.
//!
//! Keys are SHA-256 of the schema's JSON text, so nobody can put another schema in the place of one. The
//! memory kept is bounded; when it is full, everything is dropped and the schemas in use come back by
//! themselves.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::{Schema, SchemaError};
use crate::json::sha256;

/// Most memory of kept schemas, as [`Schema`] estimates it, in bytes.
const MAX_BYTES: usize = 64 << 20;

type Key = [u8; 32];

#[derive(Default)]
struct Kept {
    schemas: HashMap<Key, Schema>,
    bytes: usize,
}

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// The schema of this text: the kept one, or a new one. What cannot be used is not kept.
pub(super) fn get_or_compile(
    text: &str,
    compile: impl FnOnce() -> Result<Schema, SchemaError>,
) -> Result<Schema, SchemaError> {
    let key = sha256(text.as_bytes());
    if let Some(schema) = lock().schemas.get(&key) {
        return Ok(schema.clone());
    }
    // not under the lock: to compile the worst schema takes a good part of a second
    let schema = compile()?;
    let mut kept = lock();
    if kept.bytes.saturating_add(schema.0.bytes) > MAX_BYTES {
        *kept = Kept::default();
    }
    if kept.schemas.insert(key, schema.clone()).is_none() {
        kept.bytes += schema.0.bytes;
    }
    Ok(schema)
}

/// Every change under the lock is whole, so a panic elsewhere cannot have left half of one.
fn lock() -> std::sync::MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_kept_is_bounded_and_found_by_content() {
        let of =
            |n: usize| Schema::compile(&json!({"maximum": n, "description": "x".repeat(60_000)})).unwrap();
        for n in 0..80 {
            assert!(of(n).validate(&json!(n)).is_ok() && of(n).validate(&json!(n + 1)).is_err());
            assert!(lock().bytes <= MAX_BYTES);
        }
        let (one, same) = (of(1), of(1));
        assert!(std::sync::Arc::ptr_eq(&one.0, &same.0));
    }
}
