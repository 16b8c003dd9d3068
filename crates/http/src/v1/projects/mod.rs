//! Projects: the tenants themselves.

pub(crate) mod list;
