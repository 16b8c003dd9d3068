//! The platform API, version 1: one folder a resource, one file an endpoint.

pub(crate) mod activity;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod budgets;
pub(crate) mod contracts;
pub(crate) mod halts;
pub(crate) mod keys;
pub(crate) mod principals;
pub(crate) mod projects;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod sign_in;
pub(crate) mod tools;
pub(crate) mod whoami;
