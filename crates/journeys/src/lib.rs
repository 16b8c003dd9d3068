//! What tests and the demo share: a database to test against, the real server as a child process, a client
//! for its API, and fixtures in front of and behind it.
//!
//! Nothing of this is part of the product. Everything here ends by itself: a server, a PostgreSQL or a
//! proxy lives as long as its handle, and dies with the process that made it. Failures are `anyhow` errors
//! or panics that say what was expected, because their reader is somebody whose test has just failed.

pub mod client;
pub mod cluster;
pub mod db;
pub mod fixture_everything;
pub mod fixture_issuer;
pub mod fixture_kube;
pub mod fixture_mcp;
pub mod fixture_model;
pub mod forwarder;
pub mod pg_proxy;
pub mod process;
pub mod redis;
pub mod server;
