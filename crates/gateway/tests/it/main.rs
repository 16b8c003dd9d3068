//! The gateway's integration tests, one binary.

mod upstream;
