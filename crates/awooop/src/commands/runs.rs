//! `awooop runs list|get|cancel|retry|watch|top`: runs that exist.
//!
//! Looking at a run succeeds whatever became of it; watching one ends as `awooop run` would have.

use serde_json::{Value, json};

use super::{Session, bulk, report, top, wait};
use crate::cli::{RunArg, RunsCommand, RunsListArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

const RUNS: [&str; 3] = ["v1", "platform", "runs"];

/// Carries out the command.
pub(crate) async fn run(command: RunsCommand, session: &Session) -> Result<Reply, Failure> {
    match command {
        RunsCommand::List(args) => list(args).await,
        RunsCommand::Get(args) => get(args).await,
        RunsCommand::Cancel(args) => match args.run_id {
            Some(run_id) => cancel(&Client::new(&args.client)?, &run_id.to_string()).await,
            None => bulk::cancel(args).await,
        },
        RunsCommand::Retry(args) => bulk::retry(args).await,
        RunsCommand::Watch(args) => watch(args, session).await,
        RunsCommand::Top(args) => top::run(args).await,
        RunsCommand::Expire(_) => Err(Failure::invalid("this is done beside the database, not by a client")),
    }
}

async fn list(args: RunsListArgs) -> Result<Reply, Failure> {
    use clap::ValueEnum;
    let client = Client::new(&args.client)?;
    let limit = args.page.limit.to_string();
    let state = args.state.and_then(|s| s.to_possible_value());
    let mut query = vec![("limit", limit.as_str())];
    query.extend(state.as_ref().map(|s| ("state", s.get_name())));
    query.extend(args.agent.as_deref().map(|a| ("agent_id", a)));
    let parent = args.parent.map(|run_id| run_id.to_string());
    query.extend(parent.as_deref().map(|p| ("parent_run_id", p)));
    query.extend(args.page.cursor.as_deref().map(|c| ("cursor", c)));
    let page = client.get(&RUNS, &query).await?;
    let items = page["items"].as_array().ok_or_else(|| client.protocol("a list has no `items`"))?;
    let text = if items.is_empty() {
        "no runs".to_owned()
    } else {
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        table(&["RUN", "AGENT", "STATE", "MODE", "ATTEMPT", "STARTED", "ERROR"], &rows)
    };
    let more = page["next_cursor"].as_str().map(|c| format!("more: --cursor {c}"));
    let mut reply = Reply::done(page, text);
    reply.notes.extend(more);
    Ok(reply)
}

fn row(item: &Value) -> Vec<String> {
    let run = &item["run"];
    let fields = [
        &run["run_id"],
        &run["agent_id"],
        &run["state"],
        &item["mode"],
        &item["attempt"],
        &run["started_at"],
        &run["error_code"],
    ];
    fields.map(cell).to_vec()
}

async fn get(args: RunArg) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let run_id = args.run_id.to_string();
    let document = client.get(&["v1", "platform", "runs", &run_id], &[]).await?;
    if !document["run"].is_object() {
        return Err(client.protocol("the run is missing"));
    }
    let steps = client.get_all(&["v1", "platform", "runs", &run_id, "steps"], &[]).await?;
    Ok(report::shown(document, steps))
}

async fn cancel(client: &Client, run_id: &str) -> Result<Reply, Failure> {
    let document = client.post(&["v1", "platform", "runs", run_id, "cancel"], &json!({})).await?;
    let text = format!("run {run_id} is {}", report::state(&document));
    Ok(Reply::done(document, text))
}

async fn watch(args: RunArg, session: &Session) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let run_id = args.run_id.to_string();
    session.follows(&run_id);
    let document = wait::watched(&client, &run_id).await?;
    Ok(report::ended(document, wait::steps(&client, &run_id).await?, &client.url()))
}
