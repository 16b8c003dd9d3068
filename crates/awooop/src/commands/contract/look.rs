//! A contract's versions, and the difference between two of them.

use serde_json::{Value, json};

use crate::cli::{NamedArgs, VersionDiffArgs};
use crate::client::Client;
use crate::commands::{change, get};
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

/// Carries out `awooop contract versions`.
pub(super) async fn versions(args: NamedArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let items = client.get_all(&change::path(&args.name, &["versions"]), &[]).await?;
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    let text = table(&["VERSION", "STATE", "SHA256", "CREATED", "BY", "PUBLISHED", "BY", "PROBLEM"], &rows);
    Ok(Reply::done(json!({"items": items, "next_cursor": null}), text))
}

fn row(item: &Value) -> Vec<String> {
    let mut row = vec![cell(&item["version"]), cell(&item["state"]), get::short_hash(item)];
    let rest = ["created_at", "created_by", "published_at", "published_by", "problem"];
    row.extend(rest.map(|field| cell(&item[field])));
    row
}

/// Carries out `awooop contract diff`.
pub(super) async fn diff(args: VersionDiffArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let [from, to] = [args.from, args.name.version].map(|n| n.map(|n| n.to_string()));
    let mut query = Vec::new();
    query.extend(from.as_deref().map(|n| ("from", n)));
    query.extend(to.as_deref().map(|n| ("to", n)));
    let document = client.get(&change::path(&args.name, &["diff"]), &query).await?;
    let from = match document["from"].as_i64() {
        Some(number) => format!("version {number}"),
        None => "nothing".to_owned(),
    };
    let mut lines = vec![format!("{} from {from} to version {}", args.name, document["to"])];
    let mut inner = change::differences(&document["changes"]);
    inner.extend(change::breaking(&document["breaking"]));
    if inner.is_empty() {
        inner.push("they say the same".to_owned());
    }
    lines.extend(inner.iter().map(|line| format!("  {line}")));
    Ok(Reply::done(document, lines.join("\n")))
}
