//! The worker against a real PostgreSQL: what it does when answers are lost, connections break and it is told
//! to stop. Every test ends with the doctor's questions, which must find nothing.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod fairness;
mod halting;
mod stopping;
mod support;
mod taking_back;
