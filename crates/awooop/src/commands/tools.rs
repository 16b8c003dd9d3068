//! `awooop tools list`: which tools a project has, whether they can be called, and who may.
//!
//! Shows what the gates would say before anyone calls: a tool whose definition drifted from its pin, or
//! whose server does not answer, stands here with the reason.

use serde_json::{Value, json};

use super::Session;
use crate::cli::{ToolsCommand, ToolsListArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

/// Carries out the command.
pub(crate) async fn run(command: ToolsCommand, _session: &Session) -> Result<Reply, Failure> {
    let ToolsCommand::List(args) = command;
    list(args).await
}

async fn list(args: ToolsListArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let query: Vec<(&str, &str)> = args.agent.as_deref().map(|a| ("agent_id", a)).into_iter().collect();
    let items = client.get_all(&["v1", "platform", "tools"], &query).await?;
    let text = if items.is_empty() {
        "no tools".to_owned()
    } else {
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        table(&["TOOL", "RISK", "STATUS", "GRANTED TO", "NOTE"], &rows)
    };
    Ok(Reply::done(json!({"items": items, "next_cursor": null}), text))
}

fn row(tool: &Value) -> Vec<String> {
    let about = if tool["reason"].is_string() { &tool["reason"] } else { &tool["title"] };
    [&tool["name"], &tool["risk"], &tool["status"], &tool["granted_to"], about].map(cell).to_vec()
}
