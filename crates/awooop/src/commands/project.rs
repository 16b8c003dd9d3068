//! `awooop project export|delete|deletions`: taking a whole project with you, and ending one.

mod export;

use serde_json::{Value, json};

use super::Session;
use crate::cli::{ProjectCommand, ProjectDeleteArgs, ProjectDeletionsArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

/// Carries out the command.
pub(crate) async fn run(command: ProjectCommand, _session: &Session) -> Result<Reply, Failure> {
    match command {
        ProjectCommand::Export(args) => export::run(args).await,
        ProjectCommand::Delete(args) => delete(args).await,
        ProjectCommand::Deletions(args) => deletions(args).await,
    }
}

async fn delete(args: ProjectDeleteArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let body = json!({"confirm": args.confirm, "reason": args.reason, "dry_run": args.dry_run});
    let answer = client.post(&["v1", "platform", "projects", &args.id, "delete"], &body).await?;
    if args.dry_run {
        let has_more =
            |table: &str| answer["more_than"].as_array().is_some_and(|all| all.iter().any(|t| t == table));
        let said = |table: &str, n: &Value| match has_more(table) {
            true => format!("more than {}", cell(n)),
            false => cell(n),
        };
        let rows = answer["rows"].as_object().into_iter().flatten();
        let rows: Vec<Vec<String>> = rows.map(|(table, n)| vec![table.clone(), said(table, n)]).collect();
        let text = table(&["TABLE", "ROWS"], &rows);
        return Ok(Reply::done(answer, text).with_note("this would be deleted; nothing was"));
    }
    let deletion = &answer["deletion"];
    let (id, since) = (cell(&deletion["project_id"]), cell(&deletion["requested_at"]));
    let text = match deletion["state"].as_str() {
        Some("deleted") => format!("project {id} was deleted at {}", cell(&deletion["deleted_at"])),
        _ => format!("project {id} is being deleted since {since}: nothing of it is served any more"),
    };
    let next = match (deletion["state"].as_str(), answer["is_erased_here"] == true) {
        (Some("deleted"), _) => "none of its rows is left",
        (_, true) => "its rows go now: awooop project deletions",
        (_, false) => {
            "its rows go once a server runs that has AWOOOP_RETENTION_DATABASE_URL: awooop project deletions"
        }
    };
    Ok(Reply::done(answer, text).with_note(next))
}

async fn deletions(args: ProjectDeletionsArgs) -> Result<Reply, Failure> {
    let limit = args.page.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(args.page.cursor.as_deref().map(|cursor| ("cursor", cursor)));
    let client = Client::new(&args.client)?;
    let page = client.get(&["v1", "platform", "deletions"], &query).await?;
    let items = page["items"].as_array().ok_or_else(|| client.protocol("a list has no `items`"))?;
    let fields = ["project_id", "state", "requested_at", "deleted_at"];
    let row = |item: &Value| fields.iter().map(|&field| cell(&item[field])).collect();
    let text = match items.is_empty() {
        true => "no project was deleted".to_owned(),
        false => {
            table(&["PROJECT", "STATE", "ASKED FOR", "DELETED"], &items.iter().map(row).collect::<Vec<_>>())
        }
    };
    let more = page["next_cursor"].as_str().map(|cursor| format!("more: --cursor {cursor}"));
    let mut reply = Reply::done(page, text);
    reply.notes.extend(more);
    Ok(reply)
}
