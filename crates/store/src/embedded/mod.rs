//! A real PostgreSQL as a child of `awooop dev`: same SQL, same roles, fsync on. Never another engine.
//!
//! What happens, in order: [`find_postgres`] finds an installed server, [`DataDir`] takes the data
//! directory for this process alone, [`EmbeddedPg`] makes the cluster once and keeps its postmaster
//! alive until it is told to stop.
//!
//! Invariants: one owner a data directory (an own flock); only a local socket in a private directory and
//! only SCRAM passwords, never `trust` and never `peer`; a cut first start leaves nothing half; the server
//! ends with this process, however this process ends. Deliberately absent: TCP, upgrades between major
//! versions, and any tuning beyond what development needs.
//!
//! The errors here meet a person at a terminal before anything listens, so they carry no `E-…` code.

mod account;
mod bin;
mod cluster;
mod data_dir;
mod error;
mod files;
mod install;
mod log;
mod node;
mod parent_death;
mod passwords;
mod postmaster;
mod previous;
mod server;
mod socket;
mod supervisor;

pub use bin::{MIN_MAJOR, PgBin, PgNotFound, find_postgres};
pub(crate) use bin::{parse_version, versioned_places};
pub use data_dir::{DataDir, DataDirError, LockOwner};
pub use error::EmbeddedError;
pub(crate) use files::write_atomic;
pub(crate) use install::command_here;
pub use node::Node;
pub use passwords::{Passwords, Role};
pub use server::EmbeddedPg;
pub use supervisor::PgState;
