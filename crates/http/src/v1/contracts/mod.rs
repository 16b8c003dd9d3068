//! Contracts: what a project configures.

pub(crate) mod apply;
pub(crate) mod list;
