//! The store against a real PostgreSQL. One binary, so that it is linked once.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod access;
mod announce;
mod audit;
mod audit_attacks;
mod audit_faults;
mod audit_retention;
mod bulk;
mod contracts;
mod contracts_faults;
mod contracts_forging;
mod contracts_races;
mod counting;
mod deletion;
mod embedded;
mod engine;
mod engine_batches;
mod engine_budgets;
mod engine_caps;
mod engine_families;
mod engine_halts;
mod engine_leases;
mod engine_model;
mod engine_retries;
mod engine_waiting;
mod export;
mod key_rows;
mod retention;
mod schedules;
mod sql_attacks;
mod stepping;
mod tenancy;
mod upgrade;
mod vacuum;
mod wakes;
mod walls;
