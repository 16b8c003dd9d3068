//! `awooop contract …`: the single steps of a contract's life, and its upkeep.
//!
//! `draft` saves and publishes drafts, `steps` signs and activates, `look` shows, `upkeep` pins, repairs and
//! signs again. Whatever acts on what a person has read says so to the server (`If-Match`), so that it does
//! nothing when that has changed meanwhile.

mod draft;
mod look;
mod steps;
mod upkeep;

use awooop_core::contract::{Kind, RUN_SCHEMA_TEXT};

use super::Session;
use crate::cli::{ContractCommand, SchemaArgs};
use crate::failure::Failure;
use crate::output::Reply;

/// Carries out the command.
pub(crate) async fn run(command: ContractCommand, _session: &Session) -> Result<Reply, Failure> {
    match command {
        ContractCommand::Draft(args) => draft::save(args).await,
        ContractCommand::Publish(args) => draft::publish(args).await,
        ContractCommand::Sign(args) => steps::sign(args).await,
        ContractCommand::Activate(args) => steps::activate(args).await,
        ContractCommand::Versions(args) => look::versions(args).await,
        ContractCommand::Diff(args) => look::diff(args).await,
        ContractCommand::Pin(args) => upkeep::pin(args).await,
        ContractCommand::Rematerialise(args) => upkeep::rematerialise(args).await,
        ContractCommand::Resign(args) => upkeep::resign(args).await,
        ContractCommand::Schema(args) => schema(&args),
    }
}

fn schema(args: &SchemaArgs) -> Result<Reply, Failure> {
    let text = Kind::parse(&args.kind).map_or(RUN_SCHEMA_TEXT, Kind::schema_text);
    let document = serde_json::from_str(text).map_err(|e| Failure::invalid(e.to_string()))?;
    Ok(Reply::done(document, text))
}
