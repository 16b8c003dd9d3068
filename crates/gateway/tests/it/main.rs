//! The gateway's integration tests, one binary.

mod issuer;
mod upstream;
