//! Contracts in the database: versions that are drafted, published, signed for, activated and retired, and
//! the rows made from what is active.
//!
//! Everything that changes what is active happens in ONE transaction under the project's row, so that two of
//! them follow each other and the second sees what the first did. What was published, who signed and what is
//! active carry an HMAC whose key lies outside the database; what does not fit it does not load. No network
//! call is made inside a transaction.
//!
//! `version` reads rows and checks them, `signing` computes and checks HMACs, `desk` is one open transaction
//! on a project's contracts (its statements lie in `sql`), `apply` and `lifecycle` are what callers do, `rows` is what is materialised,
//! `mend` compares and repairs.

mod apply;
mod desk;
mod lifecycle;
mod mend;
mod read;
mod rows;
mod schedule_rows;
mod signing;
mod sql;
pub(crate) mod version;

use std::fmt;

use awooop_core::activation::{MayNotSign, Tally};
use awooop_core::contract::{Breaking, Kind};

use awooop_core::error::Violation;
use awooop_core::statement::Act;
use jiff::Timestamp;
use serde_json::Value;

pub use self::apply::{Applied, ApplyOptions, Change};
pub use self::lifecycle::{Drafted, Signed};
pub use self::mend::Difference;
pub use self::read::{Contract, Pending};
pub use self::version::{Published, Version, VersionState};
pub use crate::keyring::SignatureProblem;

use crate::error::StoreError;

/// A contract's name within its project. Shown as `<kind>/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContractKey {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
}

impl ContractKey {
    /// Builds one from parts.
    pub fn new(kind: Kind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }
}

impl fmt::Display for ContractKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.id)
    }
}

/// An active contract.
#[derive(Debug, Clone)]
pub struct ActiveContract {
    /// Its active version.
    pub version: Version,
    /// Since when.
    pub activated_at: Timestamp,
    /// By whom.
    pub activated_by: String,
    /// Why it does not load, if it does not.
    pub problem: Option<SignatureProblem>,
}

/// How far the signatures for one act have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What they are for.
    pub act: Act,
    /// Who has signed, and how many are needed.
    pub tally: Tally,
    /// Signers whose signature does not fit its own HMAC.
    pub forged: Vec<String>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The manifests do not fit each other or what is active. Paths begin with `/manifests/<index>`.
    #[error("the manifests are not valid")]
    Invalid(Vec<Violation>),
    /// Signatures are missing.
    #[error("{what} has {} of {} signatures", .tally.counted.len(), .tally.needed)]
    Missing {
        /// Which version.
        what: String,
        /// Who has signed.
        tally: Tally,
    },
    /// There would be enough, but some are too old.
    #[error("signatures under {what} are older than the project's window: {} must sign again", .tally.expired.join(", "))]
    OutsideWindow {
        /// Which version.
        what: String,
        /// Who has signed.
        tally: Tally,
    },
    /// The caller may not sign.
    #[error(transparent)]
    MayNotSign(#[from] MayNotSign),
    /// Another version became active since the signatures were given.
    #[error("{what} lost the race: another version became active after it was signed for")]
    LostRace {
        /// Which version.
        what: String,
    },
    /// The version's state forbids it.
    #[error("{what} is {state}: {why}")]
    State {
        /// Which version.
        what: String,
        /// Its state.
        state: &'static str,
        /// What could be done instead.
        why: &'static str,
    },
    /// `If-Match` named something else than what is there.
    #[error("{what} has changed since it was read")]
    Precondition {
        /// What was to be matched.
        what: String,
    },
    /// There is no such contract or version.
    #[error("there is no {0}")]
    Absent(String),
    /// The database failed, or what it holds is not what was signed; nothing changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What changes with an activation, for people and the audit.
#[derive(Debug, Clone, Default)]
pub struct Effect {
    /// Named before it happens: what could break whoever relies on the contract.
    pub breaking: Vec<Breaking>,
    /// The document that was active before.
    pub before: Option<Value>,
}
