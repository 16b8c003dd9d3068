//! A seal: the Merkle root over some events of one project, chained to the seal before it and signed. What is
//! signed, and hashed for the chain, is one canonical JSON object; ids and leaf hashes lie beside it and are
//! covered by it (`event_ids_sha256`, `root`).
//!
//! A head is the newest seal's object with its signature. Kept elsewhere, it shows later that everything up to
//! it is still there.

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::event::hexadecimal;
use super::merkle::{self, Hash};
use crate::json::{canonical, hex, sha256, unhex};

/// What a seal's object says it is.
pub const SEAL_FORMAT: &str = "awooop-audit-seal-v1";
/// What the first seal names as the one before it.
pub const NO_SEAL: Hash = [0; 32];

/// A seal's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Whose events.
    pub project: String,
    /// Its number, from 1 without gaps.
    pub n: i64,
    /// The events, by id.
    pub event_ids: Vec<Uuid>,
    /// The events' leaf hashes, in the same order.
    pub leaves: Vec<Hash>,
    /// How many events it holds.
    pub count: i32,
    /// How many events this seal and all before it hold.
    pub total: i64,
    /// The tree's root.
    pub root: Hash,
    /// The hash of the seal before it; [`NO_SEAL`] for the first.
    pub prev_hash: Hash,
    /// SHA-256 of [`Seal::statement`].
    pub hash: Hash,
    /// When it was made, in microseconds since 1970.
    pub sealed_at_us: i64,
    /// Were its events there only after the sealer had looked for the last time?
    pub is_late: bool,
    /// The key of the signature.
    pub key_id: String,
    /// Ed25519 over [`Seal::statement`].
    pub signature: Vec<u8>,
}

/// What a seal says, as it is hashed and signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the members are those of `Seal`, described there")]
pub struct SealStatement {
    pub count: i32,
    pub event_ids_sha256: String,
    pub format: String,
    pub key_id: String,
    pub late: bool,
    pub n: i64,
    pub prev_hash: String,
    pub project: String,
    pub root: String,
    pub sealed_at_us: i64,
    pub total: i64,
}

impl SealStatement {
    /// The bytes that are hashed and signed: RFC 8785 JSON.
    pub fn bytes(&self) -> Vec<u8> {
        canonical(&crate::json::to_value(self)).into_bytes()
    }

    /// What the next seal names as the one before it.
    pub fn hash(&self) -> Hash {
        sha256(&self.bytes())
    }
}

impl Seal {
    /// What it says.
    pub fn said(&self) -> SealStatement {
        self.said_of(&self.event_ids)
    }

    fn said_of(&self, ids: &[Uuid]) -> SealStatement {
        SealStatement {
            count: self.count,
            event_ids_sha256: hex(&sha256(&id_bytes(ids))),
            format: SEAL_FORMAT.to_owned(),
            key_id: self.key_id.clone(),
            late: self.is_late,
            n: self.n,
            prev_hash: hex(&self.prev_hash),
            project: self.project.clone(),
            root: hex(&self.root),
            sealed_at_us: self.sealed_at_us,
            total: self.total,
        }
    }

    /// The bytes that are hashed and signed.
    pub fn statement(&self) -> Vec<u8> {
        self.said().bytes()
    }

    /// Is what it says of its events what they and its tree say?
    pub fn fits_itself(&self) -> bool {
        let is_sorted = self.event_ids.is_sorted_by(|a, b| a < b);
        let is_counted = i32::try_from(self.event_ids.len()) == Ok(self.count)
            && self.leaves.len() == self.event_ids.len()
            && self.count > 0;
        is_sorted && is_counted && merkle::root(&self.leaves) == self.root
    }

    /// Would it fit its hash if its ids were put in their order again?
    pub fn is_shuffled(&self) -> bool {
        let mut ids = self.event_ids.clone();
        ids.sort_unstable();
        ids != self.event_ids && self.said_of(&ids).hash() == self.hash
    }

    /// Its head.
    pub fn head(&self) -> Head {
        Head { hash: hex(&self.hash), seal: self.said(), signature: self.signature.clone() }
    }

    /// A line of an export.
    pub fn line(&self) -> String {
        canonical(&json!({
            "seal": self.said(), "hash": hex(&self.hash), "signature": hex(&self.signature),
            "event_ids": hex(&id_bytes(&self.event_ids)), "leaves": hex(&self.leaves.concat()),
        }))
    }

    /// Reads a line of an export. The error says what of it is not as it should be.
    ///
    /// # Errors
    /// When it is no such line, or its hexadecimal holds no whole ids and hashes.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Line {
            seal: SealStatement,
            hash: String,
            #[serde(with = "hexadecimal")]
            signature: Vec<u8>,
            #[serde(with = "hexadecimal")]
            event_ids: Vec<u8>,
            #[serde(with = "hexadecimal")]
            leaves: Vec<u8>,
        }
        let line: Line = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        let hash = |text: &str, what: &str| parse_hash(text).ok_or(format!("`{what}` is no SHA-256"));
        let seal = Self {
            n: line.seal.n,
            event_ids: ids(&line.event_ids).ok_or("`event_ids` holds no whole ids")?,
            leaves: hashes(&line.leaves).ok_or("`leaves` holds no whole hashes")?,
            count: line.seal.count,
            total: line.seal.total,
            root: hash(&line.seal.root, "root")?,
            prev_hash: hash(&line.seal.prev_hash, "prev_hash")?,
            hash: hash(&line.hash, "hash")?,
            sealed_at_us: line.seal.sealed_at_us,
            is_late: line.seal.late,
            key_id: line.seal.key_id.clone(),
            project: line.seal.project.clone(),
            signature: line.signature,
        };
        match seal.said() == line.seal {
            true => Ok(seal),
            // the row it was exported from is described otherwise than by its own columns
            false => Err("`seal` does not describe the ids beside it".to_owned()),
        }
    }
}

/// The newest seal of a project, as it is kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// SHA-256 of the canonical form of `seal`.
    pub hash: String,
    /// What the seal says.
    pub seal: SealStatement,
    /// Ed25519 over the same bytes.
    #[serde(with = "hexadecimal")]
    pub signature: Vec<u8>,
}

impl Head {
    /// What of it a check compares.
    pub fn anchor(&self) -> Anchor {
        Anchor { project: self.seal.project.clone(), n: self.seal.n, hash: self.hash.clone() }
    }
}

/// What a check compares of a head that was kept: which seal, and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Whose seal.
    pub project: String,
    /// Its number.
    pub n: i64,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

/// Ids one after the other, 16 bytes each.
pub fn id_bytes(ids: &[Uuid]) -> Vec<u8> {
    ids.iter().flat_map(|id| *id.as_bytes()).collect()
}

/// The same read back; `None` when the last one is not whole.
pub fn ids(bytes: &[u8]) -> Option<Vec<Uuid>> {
    let (whole, rest) = bytes.as_chunks::<16>();
    rest.is_empty().then(|| whole.iter().map(|id| Uuid::from_bytes(*id)).collect())
}

/// Hashes one after the other; `None` when the last one is not whole.
pub fn hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (whole, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| whole.to_vec())
}

/// Reads 64 hexadecimal digits.
pub fn parse_hash(text: &str) -> Option<Hash> {
    unhex(text)?.try_into().ok()
}

/// The public keys of a server's seals, by id.
#[derive(Debug, Clone, Default)]
pub struct PublicKeys(BTreeMap<String, VerifyingKey>);

impl PublicKeys {
    /// Adds a key of 64 hexadecimal digits; false when they are no Ed25519 key.
    pub fn add(&mut self, id: &str, public_key: &str) -> bool {
        let key = parse_hash(public_key).and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        key.is_some_and(|key| {
            self.0.insert(id.to_owned(), key);
            true
        })
    }

    /// The keys in hexadecimal, by id.
    pub fn list(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|(id, key)| (id.as_str(), hex(key.as_bytes())))
    }

    /// Is the key of this id known?
    pub fn knows(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Is this the signature of that key? Never under a key that is not known.
    pub fn verify(&self, id: &str, message: &[u8], signature: &[u8]) -> bool {
        let Some(key) = self.0.get(id) else { return false };
        Signature::from_slice(signature).is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
    }
}
