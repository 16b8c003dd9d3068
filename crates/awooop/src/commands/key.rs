//! `awooop key create|list|revoke`: the API keys of a project.
//!
//! The one place of the command line that prints a key, once, alone on stdout, so that
//! `AWOOOP_KEY=$(awooop key create ci)` works; what belongs to it goes to stderr.

use serde_json::{Value, json};

use super::Session;
use crate::cli::{KeyCommand, KeyCreateArgs, KeyListArgs, KeyRevokeArgs, KeyRole};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

const KEYS: [&str; 3] = ["v1", "platform", "keys"];

/// Carries out the command.
pub(crate) async fn run(command: KeyCommand, _session: &Session) -> Result<Reply, Failure> {
    match command {
        KeyCommand::Create(args) => create(args).await,
        KeyCommand::List(args) => list(args).await,
        KeyCommand::Revoke(args) => revoke(args).await,
    }
}

async fn create(args: KeyCreateArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let role = args.role.unwrap_or(KeyRole::Viewer).as_str();
    let name = args.name.or_else(|| args.agent.clone()).unwrap_or_else(|| role.to_owned());
    let mut body = json!({"name": name});
    match args.agent {
        Some(agent) => body["agent_id"] = agent.into(),
        None => body["role"] = role.into(),
    }
    if let Some(person) = args.person {
        body["person"] = person.into();
    }
    if let Some(expires_in) = args.expires_in {
        body["expires_in_s"] = expires_in.as_secs().into();
    }
    let made = client.post(&KEYS, &body).await?;
    let key = made["key"].as_str().ok_or_else(|| client.protocol("the new key is missing"))?.to_owned();
    let note = format!("{}; shown this once", describe(&made));
    Ok(Reply::done(made, key).with_note(note))
}

async fn list(args: KeyListArgs) -> Result<Reply, Failure> {
    let items = Client::new(&args.client)?.get_all(&KEYS, &[]).await?;
    let text = if items.is_empty() {
        "no keys".to_owned()
    } else {
        let fields =
            ["key_id", "name", "role", "person", "agent_id", "created_at", "expires_at", "revoked_at"];
        let rows: Vec<Vec<String>> =
            items.iter().map(|item| fields.iter().map(|&f| cell(&item[f])).collect()).collect();
        table(&["KEY ID", "NAME", "ROLE", "PERSON", "AGENT", "CREATED", "EXPIRES", "REVOKED"], &rows)
    };
    Ok(Reply::done(json!({"items": items, "next_cursor": null}), text))
}

async fn revoke(args: KeyRevokeArgs) -> Result<Reply, Failure> {
    if args.key_id.starts_with("awp_") {
        return Err(Failure::invalid("give the key's id, as `awooop key list` shows it, not the key itself"));
    }
    let client = Client::new(&args.client)?;
    let revoked = client.post(&["v1", "platform", "keys", &args.key_id, "revoke"], &json!({})).await?;
    let text = format!("revoked: {}", describe(&revoked));
    Ok(Reply::done(revoked, text))
}

/// A key in a few words, without its secret.
fn describe(key: &Value) -> String {
    let agent = key["agent_id"].as_str().map(|a| format!(" of agent {a}")).unwrap_or_default();
    let person = key["person"].as_str().map(|p| format!(" of person {p}")).unwrap_or_default();
    let expires = key["expires_at"].as_str().map(|t| format!(", until {t}")).unwrap_or_default();
    format!(
        "key {} of {} in project {}, role {}{person}{agent}{expires}",
        cell(&key["key_id"]),
        cell(&key["name"]),
        cell(&key["project_id"]),
        cell(&key["role"]),
    )
}
