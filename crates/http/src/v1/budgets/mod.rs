//! Budgets: what the project may use and what it has used.

pub(crate) mod get;
