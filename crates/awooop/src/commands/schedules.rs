//! `awooop schedules list|fire`: what runs by itself.

use serde_json::{Value, json};

use super::Session;
use crate::cli::{SchedulesCommand, SchedulesFireArgs, SchedulesListArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

/// Carries out the command.
pub(crate) async fn run(command: SchedulesCommand, _session: &Session) -> Result<Reply, Failure> {
    match command {
        SchedulesCommand::List(args) => list(args).await,
        SchedulesCommand::Fire(args) => fire(args).await,
    }
}

async fn list(args: SchedulesListArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let items = client.get_all(&["v1", "platform", "schedules"], &[]).await?;
    let text = if items.is_empty() {
        "no schedules".to_owned()
    } else {
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        table(&["SCHEDULE", "CRON", "TIME ZONE", "CATCH UP", "NEXT", "LAST", "LAST RUN"], &rows)
    };
    Ok(Reply::done(json!({"items": items, "next_cursor": null}), text))
}

fn row(item: &Value) -> Vec<String> {
    let name = format!("{}/{}", cell(&item["agent_id"]), cell(&item["schedule_id"]));
    let next = if item["enabled"] == false { "off".to_owned() } else { cell(&item["next_at"]) };
    let mut row = vec![name];
    row.extend([&item["cron"], &item["time_zone"], &item["catch_up"]].map(cell));
    row.push(next);
    row.extend([&item["last_at"], &item["last_run_id"]].map(cell));
    row
}

async fn fire(args: SchedulesFireArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let path = ["v1", "platform", "schedules", &args.name.agent, &args.name.id, "fire"];
    let document = client.post(&path, &json!({})).await?;
    let run_id = cell(&document["run"]["run_id"]);
    let note = format!("watch it: awooop runs watch {run_id}");
    Ok(Reply::done(document, format!("run {run_id} is queued")).with_note(note))
}
