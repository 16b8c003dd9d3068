//! Contracts: what a project configures, and the steps of each version's life.

pub(crate) mod activate;
pub(crate) mod apply;
pub(crate) mod diff;
pub(crate) mod draft;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod pin;
pub(crate) mod publish;
mod read;
pub(crate) mod rematerialise;
pub(crate) mod resign;
pub(crate) mod retire;
pub(crate) mod sign;
pub(crate) mod versions;
mod view;

pub(crate) use view::ChangeItem;
