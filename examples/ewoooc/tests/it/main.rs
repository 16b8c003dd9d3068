//! The shop's server as a client meets it: the real binary, raw JSON-RPC lines on stdin and stdout.
//!
//! What is right is not asked of the crate: `facts` reads the file a second time, in its own way, and the
//! crate's library is not used here at all.

mod client;
mod edges;
mod facts;
mod figures;
mod manifests;
mod protocol;
mod questions;
