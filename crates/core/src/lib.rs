//! What is true without a computer: ids, run states, error codes, contracts, the rules of the gates.
//!
//! Architecture Invariant: this crate knows no tokio, no SQL, no clock and no network. Everything here
//! is a pure function or a value, so every rule can be tested through plain calls. Times are given to it; of jiff it
//! uses the calendar and the zones.

pub mod activation;
pub mod approval;
pub mod audit;
pub mod contract;
pub mod error;
pub mod gate;
pub mod halt;
pub mod ids;
pub mod json;
pub mod key;
pub mod lookalike;
pub mod pin;
pub mod rate;
pub mod role;
pub mod run;
pub mod scan;
pub mod schedule;
pub mod schema;
pub mod scopes;
pub mod sign_in;
pub mod statement;
pub mod tool_search;

pub use error::ErrorCode;
pub use ids::{AgentId, ProjectId, ProviderId, RunId};
pub use run::{Mode, RunState};
