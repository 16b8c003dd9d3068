//! The HTTP room against a real database, called in process.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod access;
mod api;
mod audit;
mod contracts;
mod contracts_fuzz;
mod contracts_life;
mod contracts_rules;
mod document;
mod edge;
mod events;
mod faults;
mod keys;
mod lists;
mod mcp;
mod metrics;
mod problems;
mod runs;
mod schedules;
mod sign_in;
mod tls;
