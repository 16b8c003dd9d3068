//! The one way out: tools, models. Five gates before a tool, a budget hold before a model, credentials
//! resolved here and nowhere else, and what comes back is redacted before anybody sees it.
//!
//! Architecture Invariant: no other room opens a connection to a provider. The order of the gates is
//! readable in [`pipeline`], and a call that skipped one does not compile.

mod call;
pub mod credential;
pub mod find;
mod gateway;
pub mod http_client;
mod inspect;
pub mod issuer;
pub mod model;
mod models;
pub mod names;
pub mod operator;
mod pins;
pub mod pipeline;
pub mod result;
mod server;
mod stops;
mod telling;
mod tools;
pub mod upstream;
mod why;

pub use call::{CallError, Called, ClientResult, Invocation};
pub use gateway::Gateway;
pub use inspect::{DefinitionReport, Shown, ToolStatus};
pub use models::{CompleteError, PassError, PassedRequest};
pub use operator::{HostRules, Operator};
pub use stops::{Ear, WATCH_EVERY};
pub use telling::notices;
pub use tools::{ListedTool, ToolList};
pub use why::{Prospect, Why, Word};
