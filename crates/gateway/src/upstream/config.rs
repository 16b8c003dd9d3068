//! Limits of the upstream side, one set for a whole process. They bound what one tool server can cost:
//! time to connect, list and answer, bytes of a result, memory of a child.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use awooop_core::ProjectId;
use awooop_redact::Known;

/// A project's line as it may be logged.
pub(super) type Redact = Arc<dyn Fn(&ProjectId, &str) -> String + Send + Sync>;

/// The values that are masked in what a project's servers answer, as of now.
pub(super) type KnownOf = Arc<dyn Fn(&ProjectId) -> Arc<Known> + Send + Sync>;

/// Limits and hooks of [`Upstreams`](super::Upstreams).
#[derive(Clone)]
pub struct UpstreamConfig {
    /// Name resolution, TCP, TLS, start of a child and the handshake together.
    pub connect_timeout: Duration,
    /// All pages of one `tools/list`.
    pub list_timeout: Duration,
    /// Longest wait for one `tools/call`; a request may ask for less.
    pub call_timeout: Duration,
    /// How long a tool list is believed without asking again.
    pub list_ttl: Duration,
    /// A connection nobody used for this long is closed.
    pub idle_timeout: Duration,
    /// Largest message read from a server, in bytes of JSON text.
    pub max_result_bytes: usize,
    /// Address space of a stdio child, in bytes; `None` sets no limit.
    pub child_address_space_bytes: Option<u64>,
    /// Applied to every line of a child's stderr, with its project, before it is logged.
    pub redact: Redact,
    /// Masked in every message of a server, and in a child's stderr, before anything else is done with it.
    pub known: KnownOf,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            list_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(60),
            list_ttl: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
            max_result_bytes: 4 * 1024 * 1024,
            child_address_space_bytes: Some(2 * 1024 * 1024 * 1024),
            redact: Arc::new(|_, line| line.to_owned()),
            known: Arc::new(|_| Arc::default()),
        }
    }
}

impl fmt::Debug for UpstreamConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamConfig")
            .field("connect_timeout", &self.connect_timeout)
            .field("list_timeout", &self.list_timeout)
            .field("call_timeout", &self.call_timeout)
            .field("list_ttl", &self.list_ttl)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_result_bytes", &self.max_result_bytes)
            .field("child_address_space_bytes", &self.child_address_space_bytes)
            .finish_non_exhaustive()
    }
}
