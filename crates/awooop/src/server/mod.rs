//! The server's own commands: dev, serve, migrate, backup, restore, doctor, config, keys. They wire the rooms together and see to signals;
//! what the server does lies in the rooms.

pub(crate) mod audit;
pub(crate) mod backup;
mod checks;
pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod doctor;
mod edge;
pub(crate) mod keys;
pub(crate) mod logging;
pub(crate) mod migrate;
mod node;
mod operator;
pub(crate) mod reference;
pub(crate) mod restore;
pub(crate) mod retention;
mod separate;
pub(crate) mod serve;

use awooop_store::announce::Announcer;
use secrecy::SecretString;

/// A setting from the environment; empty counts as absent.
fn setting(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(Into::into)
}

/// A setting that must be there.
fn required(name: &str) -> anyhow::Result<SecretString> {
    setting(name).ok_or_else(|| anyhow::anyhow!("{name} is not set"))
}

/// Where what waits for people is announced: the Redis of `AWOOOP_REDIS_URL`, or nowhere.
fn announcer() -> anyhow::Result<Announcer> {
    match setting("AWOOOP_REDIS_URL") {
        Some(url) => Ok(Announcer::new(&url)?),
        None => Ok(Announcer::default()),
    }
}

/// How long ago the process began, for the line that says it is ready.
fn seconds(began: std::time::Instant) -> String {
    format!("{:.2} s", began.elapsed().as_secs_f64())
}
