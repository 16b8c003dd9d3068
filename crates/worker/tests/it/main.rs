//! The worker against a real PostgreSQL: what it does when answers are lost, connections break and it is told
//! to stop. Every test ends with the doctor's questions, which must find nothing.

mod fairness;
mod stopping;
mod support;
mod taking_back;
