//! The contracts' schemas, fixtures, types and page, held against each other.

mod agreement;
mod contracts_page;
mod fixtures;
mod generate;
mod wild;
