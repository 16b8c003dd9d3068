//! Whatever happens because of a caller: the runs API, contracts, keys, tools, the MCP endpoint.
//!
//! One file an endpoint; `router` is the table of contents, and the OpenAPI document is made from the same
//! list. Every call passes one extractor (`caller`): key, project, role x operation. Every refusal is one
//! type (`problem`) with a stable code.
//!
//! Architecture Invariant: no SQL and no upstream call here, and nothing of the worker's: a run is started
//! by a row. It fails with problem documents only; a database that does not answer is 503 E-STORE-001.

mod admission;
mod body;
mod caller;
mod edge;
mod errors_page;
mod framing;
mod fresh;
mod health;
mod mcp;
mod metrics;
mod ndjson;
mod openapi;
mod page;
mod problem;
mod query;
mod router;
mod run_view;
mod serve;
mod sse;
mod state;
mod telemetry;
mod v1;

pub use edge::{
    ADDRESS_SHARE, BadRange, ENDS_SOON, Edge, EdgeConfig, FAILED_AUTH_RATE, HEAD_WITHIN, KEY_RATE,
    LOOK_EVERY, MAX_CONNECTIONS, Tls, TlsError, TlsFiles, TrustedProxies,
};
pub use openapi::openapi;
pub use router::{health_router, router};
pub use serve::serve;
pub use state::AppState;
