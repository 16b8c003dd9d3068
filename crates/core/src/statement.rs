//! What a signature under a contract says. Each kind of signature signs a statement: canonical JSON that
//! names its purpose and everything it is about, so that none can stand under another project, kind, id,
//! version or act. Who computes the HMAC, and with which key, is the store's business.

use serde::Serialize;
use uuid::Uuid;

use crate::json;

/// One version of one contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Subject<'a> {
    /// The project.
    pub project: &'a str,
    /// The contract's kind.
    pub kind: &'a str,
    /// The contract's id.
    pub id: &'a str,
    /// The version, from 1; 0 stands for none.
    pub version: i32,
    /// SHA-256 of the version's canonical document; empty for none.
    pub sha256: &'a str,
}

/// What a person signs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// That the version becomes the active one.
    Activate,
    /// That the contract ends, whose active version it is.
    Retire,
}

impl Act {
    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Act::Activate => "activate",
            Act::Retire => "retire",
        }
    }

    /// Reads an act back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        [Act::Activate, Act::Retire].into_iter().find(|a| a.as_str() == text)
    }
}

/// A statement to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "purpose", rename_all = "snake_case")]
pub enum Statement<'a> {
    /// The server published this document as this version.
    Publication {
        /// What was published.
        #[serde(flatten)]
        subject: Subject<'a>,
        /// The version's own id, which rows made from it carry.
        version_id: Uuid,
        /// When, in microseconds since 1970.
        at_us: i64,
        /// Whose signature could count as the publisher's own.
        publisher: &'a str,
    },
    /// A person wants an act on a version, as things stood.
    Endorsement {
        /// The version.
        #[serde(flatten)]
        subject: Subject<'a>,
        /// What is to be done with it.
        act: Act,
        /// The version that was active when it was given, 0 for none.
        base: i32,
        /// Who.
        signer: &'a str,
        /// Is the signer a person, not a service account?
        is_person: bool,
        /// When, in microseconds since 1970.
        at_us: i64,
    },
    /// The server made a version the active one, or none.
    Activation {
        /// The version, or 0.
        #[serde(flatten)]
        subject: Subject<'a>,
        /// When, in microseconds since 1970.
        at_us: i64,
    },
}

impl Statement<'_> {
    /// The bytes that are signed: RFC 8785 JSON.
    pub fn bytes(&self) -> Vec<u8> {
        let mut value = json::to_value(self);
        value["format"] = "awooop-contract-statement-v1".into();
        json::canonical(&value).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_differ_in_every_member() {
        let subject = Subject { project: "p1", kind: "agent", id: "a1", version: 1, sha256: "00" };
        let (at_us, later) = (0, 1);
        let of = |subject, act, base, signer, is_person, at_us| {
            Statement::Endorsement { subject, act, base, signer, is_person, at_us }.bytes()
        };
        let one = of(subject, Act::Activate, 0, "ana", true, at_us);
        for other in [
            of(Subject { project: "p2", ..subject }, Act::Activate, 0, "ana", true, at_us),
            of(Subject { kind: "policy", ..subject }, Act::Activate, 0, "ana", true, at_us),
            of(Subject { id: "a2", ..subject }, Act::Activate, 0, "ana", true, at_us),
            of(Subject { version: 2, ..subject }, Act::Activate, 0, "ana", true, at_us),
            of(Subject { sha256: "01", ..subject }, Act::Activate, 0, "ana", true, at_us),
            of(subject, Act::Retire, 0, "ana", true, at_us),
            of(subject, Act::Activate, 1, "ana", true, at_us),
            of(subject, Act::Activate, 0, "bob", true, at_us),
            of(subject, Act::Activate, 0, "ana", false, at_us),
            of(subject, Act::Activate, 0, "ana", true, later),
            Statement::Activation { subject, at_us }.bytes(),
            Statement::Publication { subject, version_id: Uuid::nil(), at_us, publisher: "ana" }.bytes(),
        ] {
            assert_ne!(one, other);
        }
        assert!(String::from_utf8(one).unwrap().contains(r#""purpose":"endorsement""#));
    }
}
