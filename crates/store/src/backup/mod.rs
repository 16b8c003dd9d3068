//! Backups: one directory that holds the whole database as PostgreSQL's own `pg_dump` writes it, a manifest, and,
//! where it is encrypted, the keyring. [`take`] makes one while servers work, [`check`] reads one through, and
//! [`restore`](restore::restore) puts one into an empty database.
//!
//! Invariants: what bears a backup's name is whole, since it is written beside that name, synced and then renamed;
//! what is encrypted never touched the disk in clear; a keyring leaves its directory only encrypted; a database is
//! restored in one transaction, so that a restore that is cut off left nothing.
//!
//! How it fails: [`BackupError`], one variant a cause that a person acts on differently.

mod check;
mod crypt;
mod error;
mod files;
mod manifest;
mod programs;
pub mod restore;
mod settle;
mod take;

pub use check::check;
pub use crypt::{Encryption, Unlock};
pub use error::BackupError;
pub use manifest::{FileEntry, KeyId, Manifest};
pub use restore::{Checked, Restored, Target, restore};
pub use settle::Settled;
pub use take::{Source, take};

/// The database, as a custom-format archive of `pg_dump`.
const DATABASE: &str = "database.dump";
/// The keyring's file.
const KEYRING: &str = "keyring.json";
/// What an encrypted file's name ends in.
const AGE: &str = ".age";
/// The manifest.
const MANIFEST: &str = "manifest.json";
