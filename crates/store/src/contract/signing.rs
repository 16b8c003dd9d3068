//! HMACs under contracts: publications, people's signatures, activations. All are made with the keyring's
//! `publish` key over a [`Statement`], which names everything it is about.

use awooop_core::statement::{Act, Statement, Subject};
use jiff::Timestamp;
use uuid::Uuid;

use super::ContractKey;
use crate::keyring::{KeyName, Keyring, SignatureProblem};

/// An HMAC with the id of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) key_id: String,
    pub(super) mac: Vec<u8>,
}

impl Signature {
    /// What two nullable columns hold.
    pub(super) fn read(key_id: Option<String>, mac: Option<Vec<u8>>) -> Option<Self> {
        Some(Self { key_id: key_id?, mac: mac? })
    }

    /// Hexadecimal, for JSON parameters.
    pub(super) fn hex(&self) -> String {
        awooop_core::json::hex(&self.mac)
    }
}

/// The version a statement is about.
pub(super) fn subject<'a>(
    project: &'a str,
    key: &'a ContractKey,
    version: i32,
    sha256: &'a str,
) -> Subject<'a> {
    Subject { project, kind: key.kind.as_str(), id: &key.id, version, sha256 }
}

/// Signs a statement with the current key.
pub(super) fn sign(keyring: &Keyring, statement: &Statement<'_>) -> Signature {
    let (key_id, mac) = keyring.sign(KeyName::Publish, &statement.bytes());
    Signature { key_id, mac }
}

/// Checks a statement against the signature it is stored with.
pub(super) fn check(
    keyring: &Keyring,
    statement: &Statement<'_>,
    signature: Option<&Signature>,
) -> Result<(), SignatureProblem> {
    let signature = signature.ok_or(SignatureProblem::Absent)?;
    keyring.verify(KeyName::Publish, &signature.key_id, &statement.bytes(), &signature.mac)
}

/// What is stored of a publication.
#[derive(Debug, Clone)]
pub(super) struct PublicationFacts<'a> {
    pub(super) version_id: Uuid,
    pub(super) at: Timestamp,
    pub(super) publisher: &'a str,
}

impl PublicationFacts<'_> {
    pub(super) fn statement<'a>(&'a self, subject: Subject<'a>) -> Statement<'a> {
        Statement::Publication {
            subject,
            version_id: self.version_id,
            at_us: self.at.as_microsecond(),
            publisher: self.publisher,
        }
    }
}

/// What is stored of a person's signature.
#[derive(Debug, Clone)]
pub(super) struct EndorsementFacts<'a> {
    pub(super) act: Act,
    pub(super) base: i32,
    pub(super) signer: &'a str,
    pub(super) is_person: bool,
    pub(super) at: Timestamp,
}

impl EndorsementFacts<'_> {
    pub(super) fn statement<'a>(&'a self, subject: Subject<'a>) -> Statement<'a> {
        Statement::Endorsement {
            subject,
            act: self.act,
            base: self.base,
            signer: self.signer,
            is_person: self.is_person,
            at_us: self.at.as_microsecond(),
        }
    }
}
