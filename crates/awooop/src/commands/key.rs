//! `awooop key create|list|rotate|revoke`: the API keys of a project.
//!
//! The one place of the command line that prints a key, once, alone on stdout, so that
//! `AWOOOP_KEY=$(awooop key create ci)` works; what belongs to it goes to stderr.

use awooop_store::Clock;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Session;
use crate::cli::{KeyCommand, KeyCreateArgs, KeyListArgs, KeyRevokeArgs, KeyRole, KeyRotateArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

/// After so many days without use a key is spoken of.
const IDLE_DAYS: i64 = 90;
const KEYS: [&str; 3] = ["v1", "platform", "keys"];

/// Carries out the command.
pub(crate) async fn run(command: KeyCommand, _session: &Session) -> Result<Reply, Failure> {
    match command {
        KeyCommand::Create(args) => create(args).await,
        KeyCommand::List(args) => list(args).await,
        KeyCommand::Rotate(args) => rotate(args).await,
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
    if !args.scopes.is_empty() {
        body["scopes"] = args.scopes.into();
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
        let fields = ["key_id", "name", "role", "person", "agent_id", "scopes", "created_at", "last_used_at"];
        let row = |item: &Value| fields.iter().map(|&f| cell(&item[f])).chain([standing(item)]).collect();
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        let header = ["KEY ID", "NAME", "ROLE", "PERSON", "AGENT", "SCOPES", "CREATED", "LAST USED", "STATE"];
        table(&header, &rows)
    };
    let idle = idle(&items, Clock::system().now());
    let reply = Reply::done(json!({"items": items, "next_cursor": null}), text);
    Ok(match idle.is_empty() {
        true => reply,
        false => reply.with_note(format!(
            "not used for {IDLE_DAYS} days: {}; revoke what nobody needs: awooop key revoke KEY_ID",
            idle.join(", ")
        )),
    })
}

async fn rotate(args: KeyRotateArgs) -> Result<Reply, Failure> {
    check_id(&args.key_id)?;
    let client = Client::new(&args.client)?;
    let path = ["v1", "platform", "keys", &args.key_id, "rotate"];
    let made = client.post(&path, &json!({"overlap_s": args.overlap.as_secs()})).await?;
    let key = made["key"].as_str().ok_or_else(|| client.protocol("the new key is missing"))?.to_owned();
    let (new, until) = (describe(&made), cell(&made["former_expires_at"]));
    let note = format!("{new}; shown this once; {} goes on until {until}", args.key_id);
    Ok(Reply::done(made, key).with_note(note))
}

async fn revoke(args: KeyRevokeArgs) -> Result<Reply, Failure> {
    check_id(&args.key_id)?;
    let client = Client::new(&args.client)?;
    let revoked = client.post(&["v1", "platform", "keys", &args.key_id, "revoke"], &json!({})).await?;
    let text = format!("revoked: {}", describe(&revoked));
    Ok(Reply::done(revoked, text))
}

/// A key itself belongs on no command line.
fn check_id(key_id: &str) -> Result<(), Failure> {
    match key_id.starts_with("awp_") {
        true => Err(Failure::invalid("give the key's id, as `awooop key list` shows it, not the key itself")),
        false => Ok(()),
    }
}

/// Does the key work, and until when?
fn standing(key: &Value) -> String {
    let at = |field: &str| key[field].as_str().map(str::to_owned);
    if let Some(at) = at("revoked_at") {
        return format!("revoked {at}");
    }
    let rotated = at("replaced_by").map(|by| format!("rotated to {by}, ")).unwrap_or_default();
    let standing = match at("expires_at") {
        _ if at("disabled_at").is_some() => "principal disabled".to_owned(),
        _ if key["role"].is_null() => "principal without a role".to_owned(),
        Some(at) => format!("until {at}"),
        None => "works".to_owned(),
    };
    format!("{rotated}{standing}")
}

/// Ids of keys that would work and were not used for so long, or never since they were made so long ago.
fn idle(keys: &[Value], now: Timestamp) -> Vec<String> {
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let is_idle = |key: &&Value| {
        let is_over = ["revoked_at", "disabled_at"].iter().any(|field| !key[*field].is_null())
            || time(&key["expires_at"]).is_some_and(|at| at <= now);
        let last = time(&key["last_used_at"]).or_else(|| time(&key["created_at"]));
        !is_over && last.is_some_and(|at| now.duration_since(at).as_hours() >= 24 * IDLE_DAYS)
    };
    keys.iter().filter(is_idle).filter_map(|key| key["key_id"].as_str().map(str::to_owned)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_nobody_uses_are_told_and_those_that_are_over_are_not() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-05-30T00:00:00Z");
        let keys = [
            json!({"key_id": "never", "created_at": old}),
            json!({"key_id": "idle", "created_at": old, "last_used_at": old}),
            json!({"key_id": "used", "created_at": old, "last_used_at": new}),
            json!({"key_id": "fresh", "created_at": new}),
            json!({"key_id": "revoked", "created_at": old, "revoked_at": old}),
            json!({"key_id": "expired", "created_at": old, "expires_at": new}),
            json!({"key_id": "disabled", "created_at": old, "disabled_at": new}),
        ];
        assert_eq!(idle(&keys, now), ["never", "idle"]);
    }
}
