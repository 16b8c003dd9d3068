//! Projects: the tenants themselves.

pub(crate) mod delete;
pub(crate) mod deletions;
pub(crate) mod export;
pub(crate) mod list;
