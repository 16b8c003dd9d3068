//! `awooop principals` and `awooop roles`: whom keys and tokens prove in a project, and what they may.

use serde_json::{Value, json};

use super::Session;
use crate::cli::{
    PrincipalArg, PrincipalsCommand, PrincipalsListArgs, RolesCommand, RolesGrantArgs, TakeAwayArgs,
};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

const PRINCIPALS: [&str; 3] = ["v1", "platform", "principals"];

/// Carries out `awooop principals`.
pub(crate) async fn principals(command: PrincipalsCommand, _session: &Session) -> Result<Reply, Failure> {
    match command {
        PrincipalsCommand::List(args) => {
            let fields = ["name", "kind", "role", "person", "working_keys", "last_used_at", "disabled_at"];
            let header = ["NAME", "KIND", "ROLE", "PERSON", "KEYS", "LAST USED", "DISABLED"];
            list(args, &fields, &header).await
        }
        PrincipalsCommand::Get(args) => get(args).await,
        PrincipalsCommand::Disable(args) => {
            let said = "disabled: its keys and tokens are refused from now on";
            take_away(args, &["disable"], said).await
        }
        PrincipalsCommand::Enable(args) => {
            let client = Client::new(&args.client)?;
            let found = client.post(&path(&args.name, &["enable"]), &json!({})).await?;
            let text = format!("enabled: {}", describe(&found));
            Ok(Reply::done(found, text))
        }
    }
}

/// Carries out `awooop roles`.
pub(crate) async fn roles(command: RolesCommand, _session: &Session) -> Result<Reply, Failure> {
    match command {
        RolesCommand::List(args) => {
            list(args, &["name", "role", "kind", "person"], &["NAME", "ROLE", "KIND", "PERSON"]).await
        }
        RolesCommand::Grant(args) => grant(args).await,
        RolesCommand::Revoke(args) => {
            let said = "the role is taken back: its keys are refused until it has one again";
            take_away(args, &["role", "revoke"], said).await
        }
    }
}

async fn list(args: PrincipalsListArgs, fields: &[&str], header: &[&str]) -> Result<Reply, Failure> {
    let query: Vec<(&str, &str)> = args.person.iter().map(|person| ("person", person.as_str())).collect();
    let items = Client::new(&args.client)?.get_all(&PRINCIPALS, &query).await?;
    let rows: Vec<Vec<String>> =
        items.iter().map(|item| fields.iter().map(|&f| shown(item, f)).collect()).collect();
    let text = if rows.is_empty() { "no principals".to_owned() } else { table(header, &rows) };
    Ok(Reply::done(json!({"items": items, "next_cursor": null}), text))
}

async fn get(args: PrincipalArg) -> Result<Reply, Failure> {
    let found = Client::new(&args.client)?.get(&path(&args.name, &[]), &[]).await?;
    let mut lines = vec![describe(&found)];
    for (field, label) in [
        ("person", "person"),
        ("issuer", "signs in at"),
        ("subject", "as"),
        ("created_at", "made"),
        ("last_used_at", "last used"),
        ("disabled_at", "disabled"),
        ("disabled_by", "by"),
    ] {
        if !found[field].is_null() {
            lines.push(format!("{label:<12} {}", cell(&found[field])));
        }
    }
    Ok(Reply::done(found, lines.join("\n")))
}

async fn grant(args: RolesGrantArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let body = json!({"role": args.role.as_str(), "even_if_last": args.even_if_last});
    let found = client.post(&path(&args.name, &["role"]), &body).await?;
    let text = describe(&found);
    Ok(Reply::done(found, text))
}

async fn take_away(args: TakeAwayArgs, what: &[&str], said: &str) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let found = client.post(&path(&args.name, what), &json!({"even_if_last": args.even_if_last})).await?;
    let text = format!("{said}: {}", describe(&found));
    Ok(Reply::done(found, text))
}

fn path<'a>(name: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    PRINCIPALS.iter().copied().chain([name]).chain(rest.iter().copied()).collect()
}

/// A person who signs in has the roles of their groups, which no row knows.
fn shown(item: &Value, field: &str) -> String {
    match field {
        "role" if item["role"].is_null() && !item["subject"].is_null() => "(groups)".to_owned(),
        _ => cell(&item[field]),
    }
}

/// A principal in a few words.
fn describe(found: &Value) -> String {
    format!(
        "{} ({}) in project {}, role {}, {} working keys",
        cell(&found["name"]),
        cell(&found["kind"]),
        cell(&found["project_id"]),
        shown(found, "role"),
        found["working_keys"],
    )
}
