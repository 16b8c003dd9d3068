//! The gateway's integration tests, one binary.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod issuer;
mod upstream;
