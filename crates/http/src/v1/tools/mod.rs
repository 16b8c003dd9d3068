//! Tools: what the project's contracts name and what its servers really offer.

pub(crate) mod list;
