//! What a check of the audit says: findings, each with a kind whose spelling is stable, and the counts behind them.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

/// What somebody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An event is not what was sealed.
    Altered,
    /// A sealed event is gone, and no record says that it expired.
    Missing,
    /// An event that nobody with the server's key wrote, or that no seal holds though all had time to.
    Added,
    /// An event's content stands under another id, or a seal lists its events in another order.
    Reordered,
    /// An event is in two seals.
    Doubled,
    /// An event with a good MAC that no seal holds, though the time for it is over.
    Unsealed,
    /// A seal is not what was signed.
    ForgedSeal,
    /// A seal is gone.
    MissingSeal,
    /// A seal does not follow from the one before it.
    BrokenChain,
    /// A head names a seal beyond the last one.
    Truncated,
    /// The seal of a head's number is another one.
    Rewritten,
}

impl FindingKind {
    /// As a report spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            FindingKind::Altered => "altered",
            FindingKind::Missing => "missing",
            FindingKind::Added => "added",
            FindingKind::Reordered => "reordered",
            FindingKind::Doubled => "doubled",
            FindingKind::Unsealed => "unsealed",
            FindingKind::ForgedSeal => "forged_seal",
            FindingKind::MissingSeal => "missing_seal",
            FindingKind::BrokenChain => "broken_chain",
            FindingKind::Truncated => "truncated",
            FindingKind::Rewritten => "rewritten",
        }
    }
}

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tampering {
    /// What was done.
    pub kind: FindingKind,
    /// The event it was done to.
    pub event_id: Option<Uuid>,
    /// The seal it was done to, or that holds the event.
    pub seal: Option<i64>,
    /// In words.
    pub message: String,
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whose audit.
    pub project: String,
    /// Is everything as it was written?
    pub is_whole: bool,
    /// Events that were read.
    pub events: u64,
    /// Events that a seal holds and that are as they were sealed.
    pub verified: u64,
    /// Seals that were read.
    pub seals: u64,
    /// Seals of events that came after the sealer had looked for the last time.
    pub late_seals: u64,
    /// Events that still wait for a seal.
    pub unsealed: u64,
    /// The time of the oldest of them, in microseconds since 1970.
    pub oldest_unsealed_at_us: Option<i64>,
    /// Up to this seal events have expired by the project's retention.
    pub expired_through: i64,
    /// Events that expired.
    pub expired: u64,
    /// The newest seal's number, 0 for none.
    pub last_seal: i64,
    /// The newest seal's hash.
    pub last_hash: Option<String>,
    /// How many findings of each kind.
    pub findings: BTreeMap<&'static str, u64>,
}

impl Report {
    /// Of nothing yet.
    pub(super) fn new(project: &str) -> Self {
        Report {
            project: project.to_owned(),
            is_whole: true,
            events: 0,
            verified: 0,
            seals: 0,
            late_seals: 0,
            unsealed: 0,
            oldest_unsealed_at_us: None,
            expired_through: 0,
            expired: 0,
            last_seal: 0,
            last_hash: None,
            findings: BTreeMap::new(),
        }
    }
}
