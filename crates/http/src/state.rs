//! What handlers share: the store, the gateway, the host names this server answers to, and the token that
//! tells long answers to end. Cheap to clone.

use std::sync::Arc;
use std::time::Duration;

use awooop_gateway::Gateway;
use awooop_store::Store;
use tokio_util::sync::CancellationToken;

use crate::admission::{MOST_CREATING, Places};
use crate::body::BODY_WITHIN;
use crate::edge::{Edge, EdgeConfig};
use crate::fresh::{FRESH_FOR, Fresh};
use crate::mcp::McpServer;
use crate::metrics::Looked;

/// The state of the router.
#[derive(Clone)]
pub struct AppState {
    pub(crate) store: Store,
    pub(crate) gateway: Gateway,
    pub(crate) hosts: Arc<[String]>,
    pub(crate) draining: CancellationToken,
    pub(crate) mcp: Arc<McpServer>,
    pub(crate) creating: Arc<Places>,
    pub(crate) readiness: Arc<Fresh<()>>,
    pub(crate) looked: Arc<Fresh<Arc<Looked>>>,
    pub(crate) body_within: Duration,
    pub(crate) edge: Edge,
}

impl AppState {
    /// `hosts` are names, or `name:port`, that `/mcp` answers to besides the loopback names: the address it
    /// listens on and the public one. When `draining` is cancelled, event streams and waiting requests end.
    pub fn new(store: Store, gateway: Gateway, hosts: Vec<String>, draining: CancellationToken) -> Self {
        let mcp = Arc::new(crate::mcp::server(draining.child_token()));
        let creating = Arc::new(Places::new(MOST_CREATING));
        // what everybody may ask takes no beat its connection
        let (readiness, looked) = (Arc::new(Fresh::new(FRESH_FOR)), Arc::new(Fresh::new(FRESH_FOR)));
        let (hosts, body_within) = (hosts.into(), BODY_WITHIN);
        let edge = Edge::new(EdgeConfig::of_this_machine());
        Self { store, gateway, hosts, draining, mcp, creating, readiness, looked, body_within, edge }
    }

    /// The same behind this edge: the one that [`crate::serve`] seats connections by. Without it there are no rates.
    #[must_use]
    pub fn behind(self, edge: Edge) -> Self {
        Self { edge, ..self }
    }

    /// The same with another patience for the bodies of requests than 30 s.
    #[must_use]
    pub fn with_bodies_within(self, body_within: Duration) -> Self {
        Self { body_within, ..self }
    }
}
