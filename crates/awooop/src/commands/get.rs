//! `awooop get`: the active contracts as a list, or one manifest as it was applied.
//!
//! A manifest printed here and applied again changes nothing.

use serde_json::{Value, json};

use super::{Session, change, manifests};
use crate::cli::{ContractName, GetArgs, Which};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

/// How much of a hash is enough to recognise it.
const HASH_SHOWN: usize = 12;

/// Carries out the command.
pub(crate) async fn run(args: GetArgs, _session: &Session) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    match args.which {
        None => list(&client, None).await,
        Some(Which::Kind(_)) if args.version.is_some() => {
            Err(Failure::invalid("a version is that of one contract: name it KIND/ID"))
        }
        Some(Which::Kind(kind)) => list(&client, Some(kind.as_str())).await,
        Some(Which::One(name)) => match args.version.or(name.version) {
            Some(version) => older(&client, &name, version).await,
            None => active(&client, &name).await,
        },
    }
}

async fn list(client: &Client, kind: Option<&str>) -> Result<Reply, Failure> {
    let query: Vec<(&str, &str)> = kind.map(|kind| ("kind", kind)).into_iter().collect();
    let items = client.get_all(&["v1", "platform", "contracts"], &query).await?;
    let text = if items.is_empty() {
        "no active contracts".to_owned()
    } else {
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        table(&["CONTRACT", "VERSION", "SHA256", "ACTIVATED", "BY", "PROBLEM"], &rows)
    };
    Ok(Reply::done(json!({"items": items, "next_cursor": null}), text))
}

fn row(item: &Value) -> Vec<String> {
    let name = format!("{}/{}", cell(&item["kind"]), cell(&item["id"]));
    let fields = [&item["activated_at"], &item["activated_by"], &item["problem"]];
    let mut row = vec![name, cell(&item["version"]), short_hash(item)];
    row.extend(fields.map(cell));
    row
}

/// The beginning of a version's hash.
pub(super) fn short_hash(item: &Value) -> String {
    cell(&item["sha256"]).chars().take(HASH_SHOWN).collect()
}

async fn active(client: &Client, name: &ContractName) -> Result<Reply, Failure> {
    let document = client.get(&change::path(name, &[]), &[]).await?;
    if !document["active"].is_object() {
        return Err(Failure::InTheWay {
            message: format!("no version of {name} is active"),
            hint: format!("its versions: awooop contract versions {name}"),
        });
    }
    let version = document["active"].clone();
    manifest(client, document, &version)
}

async fn older(client: &Client, name: &ContractName, version: i32) -> Result<Reply, Failure> {
    let number = version.to_string();
    let document = client.get(&change::path(name, &["versions", &number]), &[]).await?;
    let version = document.clone();
    manifest(client, document, &version)
}

fn manifest(client: &Client, document: Value, version: &Value) -> Result<Reply, Failure> {
    if !version["document"].is_object() {
        return Err(client.protocol("the manifest is missing"));
    }
    let reply = Reply::done(document, manifests::to_text(&version["document"]));
    Ok(match version["problem"].as_str() {
        Some(problem) => reply.with_note(format!("{} does not load: {problem}", change::named(version))),
        None => reply,
    })
}
