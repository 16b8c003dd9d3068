//! The upstream side of the gateway: MCP servers over Streamable HTTP and stdio children.
//!
//! [`Upstreams`] pools one connection per (project, provider, contract version, transport with its
//! credential); one call is one upstream request and is never repeated behind the caller's back.
//! rmcp speaks the protocol; our own transports around it keep every member of a result and cap what is
//! read, because rmcp's types drop what they do not know.
//!
//! Architecture Invariant: nothing here decides whether a call is allowed (the gates do), and nothing
//! here redacts a result (the caller does). What the host may be asked for is checked again here at use:
//! addresses in [`address`], programs and uids in the spec the operator's list produced.
//! It fails with [`UpstreamError`], whose text is for the caller and holds no upstream text.

pub mod address;
mod child;
mod config;
mod connection;
mod error;
mod http;
mod lines;
mod notice;
mod open;
mod pool;
mod reach;
mod spawn;
mod spec;
mod stdio;
mod tool;
mod wire;

pub use config::UpstreamConfig;
pub use error::{CallFailure, UpstreamError};
pub use notice::{MESSAGE, Notice, Notices, PROGRESS};
pub use pool::Upstreams;
pub use reach::closed_ancestor;
pub use spec::{Transport, UpstreamSpec};
pub use tool::{ToolCallRequest, ToolDefinition, ToolResult};

/// Starts a task that serves a connection rather than one run: the connection outlives the run that opened
/// it, so the task carries the connection's span (project and provider) instead of a run's scope.
fn spawn<F>(span: tracing::Span, future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    use tracing::Instrument as _;
    awooop_store::scope::spawn_service(awooop_store::scope::Service::Upstream, future.instrument(span))
}
