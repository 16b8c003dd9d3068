//! The audit: search, export, the newest seal, a check of everything, and the proof of one event.

pub(crate) mod export;
pub(crate) mod head;
pub(crate) mod prove;
pub(crate) mod search;
pub(crate) mod verify;

use serde::Serialize;
use utoipa::ToSchema;

/// What a seal says, as it is hashed and signed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SealItem {
    /// How many events it holds.
    count: i32,
    /// SHA-256 over the ids of its events, 16 bytes each.
    event_ids_sha256: String,
    /// Always `awooop-audit-seal-v1`.
    format: String,
    /// The key of the signature.
    key_id: String,
    /// Were its events there only after the sealer had looked for the last time?
    late: bool,
    /// Its number, from 1.
    n: i64,
    /// The hash of the seal before it.
    prev_hash: String,
    project: String,
    /// The Merkle root over its events (RFC 6962).
    root: String,
    /// Microseconds since 1970.
    sealed_at_us: i64,
    /// How many events this seal and all before it hold.
    total: i64,
}

impl From<awooop_core::audit::SealStatement> for SealItem {
    fn from(said: awooop_core::audit::SealStatement) -> Self {
        Self {
            count: said.count,
            event_ids_sha256: said.event_ids_sha256,
            format: said.format,
            key_id: said.key_id,
            late: said.late,
            n: said.n,
            prev_hash: said.prev_hash,
            project: said.project,
            root: said.root,
            sealed_at_us: said.sealed_at_us,
            total: said.total,
        }
    }
}

/// A seal with its hash and signature: what is kept elsewhere as a head.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HeadItem {
    /// SHA-256 over the canonical JSON (RFC 8785) of `seal`.
    hash: String,
    seal: SealItem,
    /// Ed25519 over the same bytes.
    signature: String,
}

impl From<awooop_core::audit::Head> for HeadItem {
    fn from(head: awooop_core::audit::Head) -> Self {
        let signature = awooop_core::json::hex(&head.signature);
        Self { hash: head.hash, seal: head.seal.into(), signature }
    }
}
