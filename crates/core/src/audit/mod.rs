//! The audit's formats and rules: what an event and a seal are as bytes, the Merkle tree between them, what a
//! check of a whole project finds, and the proof of one event.
//!
//! Everything here can be computed by somebody else from an export and a public key; nothing asks a database.
//! Keys that sign are not here: the store has them.

mod event;
pub mod merkle;
mod proof;
mod report;
mod seal;
mod verify;
#[cfg(test)]
mod verify_tests;

pub use event::{EVENT_FORMAT, EXPIRE, Event, first_id_at, id_time_us};
pub use merkle::Hash;
pub use proof::{PROOF_FORMAT, Proof, ProofProblem};
pub use report::{FindingKind, Report, Tampering};
pub use seal::{
    Anchor, Head, NO_SEAL, PublicKeys, SEAL_FORMAT, Seal, SealStatement, hashes, id_bytes, ids, parse_hash,
};
pub use verify::Verifier;

/// How long after its time an event may become visible, in microseconds: 5 minutes. A transaction waits at most
/// 10 s for a connection, each of its statements ends after 30 s, and so does a pause between two of them; a
/// flight is sent at most 3 times and waits for few locks (3 x 2 x 30 s); what is left is for clocks that differ.
/// An event that comes still later is sealed as late.
pub const WINDOW_US: i64 = 300_000_000;
