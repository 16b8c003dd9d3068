//! The only room that knows SQL. Projects are kept apart here, by the database: every tenant row is
//! reached through a transaction that names one project and that row security binds to it.
//!
//! Architecture Invariant: no pool and no connection leaves this crate. Outside it there are only
//! `ProjectScope`s, made from an authenticated caller or a claimed unit of work, and functions that
//! take one.

pub mod activity;
pub mod announce;
pub mod approval;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod beat;
pub mod budget;
pub mod bulk;
pub mod claim;
pub mod clock;
pub mod contract;
pub mod definition;
pub mod deletion;
pub mod delivery;
pub mod doctor;
pub mod effect;
pub mod embedded;
mod enqueue;
pub mod error;
pub mod expire;
pub mod export;
pub mod family;
pub mod figures;
pub mod halt;
pub mod installation;
pub mod journal;
pub mod key;
mod key_use;
pub mod keyring;
mod lane;
pub mod lease;
pub mod migrate;
mod notify;
pub mod park;
pub mod pool;
pub mod principal;
mod progress;
pub mod project;
pub mod rate;
pub mod redaction;
mod refusals;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod scope;
mod service;
mod shared;
pub mod sign_in;
mod storage;
mod sweep;
mod taint;
pub mod tool;
pub mod tx;
pub mod vacuum;
pub mod wake;
pub mod walls;

pub use clock::Clock;
pub use error::StoreError;
pub use pool::{DatabaseUrls, Store};
pub use scope::ProjectScope;
