//! `awooop keys`: the keyring of this machine, without a server. A running server takes a change over within a
//! second.
//!
//! Rotating loses nothing: the former key still verifies. Retiring erases a secret for good, so both say what
//! has to be done in which order. No secret is printed.

use std::path::PathBuf;
use std::process::ExitCode;

use awooop_store::Clock;
use awooop_store::keyring::{KeyInfo, KeyName, Keyring, KeyringError};
use serde_json::json;

use crate::cli::{KeyringArgs, KeysCommand, KeysRetireArgs, KeysRotateArgs};
use crate::failure::Failure;
use crate::output::{Reply, finish, table};
use crate::settings::default_data_dir;

/// Carries out the command.
pub(crate) fn run(command: KeysCommand) -> ExitCode {
    match command {
        KeysCommand::List(args) => finish(list(&args.keyring), args.keyring.json),
        KeysCommand::Rotate(args) => finish(rotate(&args), args.keyring.json),
        KeysCommand::Retire(args) => finish(retire(&args), args.keyring.json),
    }
}

fn directory(args: &KeyringArgs) -> Result<PathBuf, Failure> {
    let data_dir = || args.data_dir.clone().or_else(default_data_dir).map(|dir| dir.join("keys"));
    args.keys
        .clone()
        .or_else(data_dir)
        .ok_or_else(|| Failure::invalid("no home directory is known: name the keyring with --keys"))
}

fn list(args: &KeyringArgs) -> Result<Reply, Failure> {
    let keys = Keyring::load(&directory(args)?).map_err(|e| failure(&e))?.keys();
    let row = |key: &KeyInfo| {
        vec![
            key.name.as_str().to_owned(),
            key.id.clone(),
            key.state.as_str().to_owned(),
            key.created_at.to_string(),
        ]
    };
    let text = table(&["NAME", "ID", "STATE", "CREATED"], &keys.iter().map(row).collect::<Vec<_>>());
    Ok(Reply::done(json!({ "items": keys }), text))
}

fn rotate(args: &KeysRotateArgs) -> Result<Reply, Failure> {
    let directory = directory(&args.keyring)?;
    let made = Keyring::rotate(&directory, args.name, Clock::system().now()).map_err(|e| failure(&e))?;
    let name = args.name.as_str();
    let text = format!("{name}: {} is the current key; the former one still verifies", made.id);
    let next = match args.name {
        KeyName::Publish => {
            "before you retire the former one, put what it signed under this one:\n  awooop contract resign --all"
        }
        KeyName::KeyPepper => {
            "API keys that were made before work until the former one is retired: make new ones first"
        }
        KeyName::Approval | KeyName::AuditSeal | KeyName::RedactionTag => {
            "what the former one made is good until it is retired"
        }
    };
    Ok(Reply::done(json!(made), text).with_note(next))
}

fn retire(args: &KeysRetireArgs) -> Result<Reply, Failure> {
    let directory = directory(&args.keyring)?;
    let retired = Keyring::retire(&directory, args.name, &args.id).map_err(|e| failure(&e))?;
    let text = format!("{}: {} is retired, and its secret is erased", args.name.as_str(), retired.id);
    let warning = match args.name {
        KeyName::Publish => {
            "contracts that only it signed do not load any more; `awooop doctor` names them, and applying their manifests again mends them"
        }
        KeyName::KeyPepper => {
            "API keys that were made under it do not work any more; a project's deletion that no server looked at since the key was rotated waits until it is asked for again, and `awooop doctor` names it"
        }
        KeyName::Approval | KeyName::AuditSeal | KeyName::RedactionTag => "what it made verifies no more",
    };
    Ok(Reply::done(json!(retired), text).with_note(warning))
}

fn failure(error: &KeyringError) -> Failure {
    let reason = std::error::Error::source(error).map(|e| format!(": {e}")).unwrap_or_default();
    match error {
        KeyringError::IsCurrent(_) => Failure::InTheWay {
            message: error.to_string(),
            hint: "make a new one first: awooop keys rotate NAME".to_owned(),
        },
        _ => Failure::invalid(format!("{error}{reason}")),
    }
}
