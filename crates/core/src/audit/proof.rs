//! The proof that one event stands in a seal: the event, its neighbours up to the root, the signed seal, and,
//! where it is to be checked against a head that was kept, every seal from there to the head.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::event::Event;
use super::merkle::{self, Hash};
use super::seal::{Head, PublicKeys, Seal, SealStatement, parse_hash};
use crate::json::hex;

/// What a proof's object says it is.
pub const PROOF_FORMAT: &str = "awooop-audit-proof-v1";

/// A proof as it is written to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// [`PROOF_FORMAT`].
    pub format: String,
    /// The event's line, byte for byte as it was hashed.
    pub event: String,
    /// Its place in the seal, from 0.
    pub leaf_index: usize,
    /// Neighbours from the leaf to the root, in hexadecimal.
    pub path: Vec<String>,
    /// The seal with its signature.
    pub seal: Head,
    /// What the seals after it say, up to the head it is checked against.
    pub chain: Vec<SealStatement>,
    /// The public key of the seal's signature, in hexadecimal. Take it from elsewhere to rely on it.
    pub public_key: Option<String>,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofProblem {
    /// The path does not lead to the root.
    #[error("the event is not in the seal")]
    NotInSeal,
    /// The seal's hash is not that of what it says.
    #[error("the seal is not what was hashed")]
    Seal,
    /// The signature is not the key's.
    #[error("the seal's signature is not that of a known key")]
    Signature,
    /// The seals do not lead to the head.
    #[error("the chain does not lead from the seal to the head")]
    Chain,
}

impl Proof {
    /// The proof of the event `id`, which must be in the seal.
    pub fn new(event: &Event<'_>, seal: &Seal, chain: Vec<SealStatement>, keys: &PublicKeys) -> Option<Self> {
        let leaf_index = seal.event_ids.binary_search(&event.id).ok()?;
        let path = merkle::path(&seal.leaves, leaf_index)?;
        let public_key = keys.list().find(|(id, _)| *id == seal.key_id).map(|(_, key)| key);
        Some(Self {
            format: PROOF_FORMAT.to_owned(),
            event: String::from_utf8(event.line()).expect("a line is JSON, and so UTF-8"),
            leaf_index,
            path: path.iter().map(|hash| hex(hash)).collect(),
            seal: seal.head(),
            chain,
            public_key,
        })
    }

    /// Checks everything that can be checked: the path always, the signature under `keys`, the chain where
    /// there is a head.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check(&self, keys: &PublicKeys, head: Option<&Head>) -> Result<(), ProofProblem> {
        let said = &self.seal.seal;
        let path: Option<Vec<Hash>> = self.path.iter().map(|text| parse_hash(text)).collect();
        let size = usize::try_from(said.count).ok();
        let leaf = merkle::leaf(self.event.as_bytes());
        let reached =
            path.zip(size).and_then(|(path, size)| merkle::climb(&leaf, self.leaf_index, size, &path));
        if reached.is_none() || reached != parse_hash(&said.root) {
            return Err(ProofProblem::NotInSeal);
        }
        if parse_hash(&self.seal.hash) != Some(said.hash()) {
            return Err(ProofProblem::Seal);
        }
        if !keys.verify(&said.key_id, &said.bytes(), &self.seal.signature) {
            return Err(ProofProblem::Signature);
        }
        let Some(head) = head else { return Ok(()) };
        let mut hash = hex(&said.hash());
        for (next, n) in self.chain.iter().zip(said.n + 1..) {
            if next.prev_hash != hash || next.n != n {
                return Err(ProofProblem::Chain);
            }
            hash = hex(&next.hash());
        }
        if hash == head.hash { Ok(()) } else { Err(ProofProblem::Chain) }
    }

    /// The event's id.
    pub fn event_id(&self) -> Option<Uuid> {
        serde_json::from_str::<Event<'_>>(&self.event).ok().map(|event| event.id)
    }
}
