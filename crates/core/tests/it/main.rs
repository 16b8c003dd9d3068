//! The contracts' schemas, fixtures, types and page, held against each other, and the page of who may do what.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod access_page;
mod agreement;
mod contracts_page;
mod fixtures;
mod generate;
mod wild;
