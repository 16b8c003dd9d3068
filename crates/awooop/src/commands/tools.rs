//! `awooop tools list|why`: which tools a project has, whether they can be called, and who may.
//!
//! Shows what the gates would say before anyone calls: a tool whose definition drifted from its pin, or
//! whose server does not answer, stands in the list with the reason; `why` asks every gate about one call.

use serde_json::{Map, Value, json};

use super::Session;
use crate::cli::{ToolsCommand, ToolsListArgs, ToolsWhyArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Reply, cell, table};

/// Carries out the command.
pub(crate) async fn run(command: ToolsCommand, _session: &Session) -> Result<Reply, Failure> {
    match command {
        ToolsCommand::List(args) => list(args).await,
        ToolsCommand::Why(args) => why(args).await,
    }
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

async fn why(args: ToolsWhyArgs) -> Result<Reply, Failure> {
    let text = if args.arguments == "-" { super::run::stdin().await? } else { args.arguments };
    let arguments: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|e| Failure::invalid(format!("the arguments are no JSON object: {e}")))?;
    let mut body = json!({"agent_id": args.agent, "tool": args.tool, "arguments": arguments});
    if let Some(mode) = args.mode {
        body["mode"] = mode.as_str().into();
    }
    let client = Client::new(&args.client)?;
    let document = client.post(&["v1", "platform", "tools", "why"], &body).await?;
    let gates = document["gates"].as_array().ok_or_else(|| client.protocol("the gates are missing"))?;
    let rows: Vec<Vec<String>> = (1..)
        .zip(gates)
        .map(|(n, gate)| {
            let name = format!("{n} {}", cell(&gate["gate"]));
            vec![name, cell(&gate["verdict"]), cell(&gate["code"]), cell(&gate["reason"])]
        })
        .collect();
    let (said, exit) = prospect(document["prospect"].as_str().unwrap_or_default());
    let text = format!(
        "{}\n\nIn mode {} the call {said}.",
        table(&["GATE", "VERDICT", "CODE", "REASON"], &rows),
        cell(&document["mode"]),
    );
    Ok(Reply { exit, ..Reply::done(document, text) })
}

/// What becomes of the call in words, and the exit code that says so.
fn prospect(text: &str) -> (&'static str, Exit) {
    match text {
        "call" => ("would be made", Exit::Done),
        "stub" => ("would be answered in the tool's place", Exit::Done),
        "ask" => ("would wait until people allowed it", Exit::Waiting),
        "stopped" => ("would not be made while the stop lasts", Exit::Refused),
        "unreachable" => ("would fail: the tool's server does not answer", Exit::Unreachable),
        _ => ("would be refused", Exit::Refused),
    }
}
