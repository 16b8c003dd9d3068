//! `awooop tools list|diff|why`: which tools a project has, whether they can be called, and who may.
//!
//! Shows what the gates would say before anyone calls: a tool whose definition drifted from its pin, or
//! whose server does not answer, stands in the list with the reason; `diff` shows what drifted, `why` asks every gate
//! about one call.

use awooop_core::lookalike::is_invisible;
use serde_json::{Map, Value, json};

use super::{Session, change};
use crate::cli::{ToolsCommand, ToolsDiffArgs, ToolsListArgs, ToolsWhyArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Reply, cell, table};

/// Carries out the command.
pub(crate) async fn run(command: ToolsCommand, _session: &Session) -> Result<Reply, Failure> {
    match command {
        ToolsCommand::List(args) => list(args).await,
        ToolsCommand::Diff(args) => diff(args).await,
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
        table(&["TOOL", "RISK", "STATUS", "PINNED BY", "GRANTED TO", "NOTE"], &rows)
    };
    Ok(Reply::done(json!({"items": items, "next_cursor": null}), text))
}

fn row(tool: &Value) -> Vec<String> {
    let looks_like = tool["looks_like"].as_array().filter(|names| !names.is_empty());
    let about = match (&tool["reason"], looks_like) {
        (Value::String(reason), _) => reason.clone(),
        (_, Some(_)) => format!("looks like {}", cell(&tool["looks_like"])),
        (_, None) => cell(&tool["title"]),
    };
    let mut row = [&tool["name"], &tool["risk"], &tool["status"], &tool["pinned_by"], &tool["granted_to"]]
        .map(cell)
        .to_vec();
    row.push(about);
    row
}

async fn diff(args: ToolsDiffArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let query: Vec<(&str, &str)> = args.sha256.as_deref().map(|hash| ("sha256", hash)).into_iter().collect();
    let document = client.get(&["v1", "platform", "tools", &args.tool, "diff"], &query).await?;
    let (tool, pin) = (&document["tool"], &document["pin"]);
    let mut lines = vec![format!("{} is {}", cell(&tool["name"]), cell(&tool["status"]).replace('_', " "))];
    if tool["reason"].is_string() {
        lines[0] += &format!(": {}", cell(&tool["reason"]));
    }
    let by = match pin["by"].as_str() {
        Some("contract") => format!("{} by its provider's contract", cell(&pin["sha256"])),
        Some(_) => format!("{} at first sight, {}", cell(&pin["sha256"]), cell(&pin["at"])),
        None => "nothing yet".to_owned(),
    };
    lines.push(format!("pinned    {by}"));
    lines.push(format!("compared  {}", cell(&document["compared_sha256"])));
    let is_pinned = pin.is_object();
    let changes = change::differences(&document["changes"]);
    match (document["changes"].is_array(), document["compared_sha256"].is_string()) {
        (false, true) => {
            lines.push("the pinned definition was never seen here: there is nothing to compare with".into())
        }
        _ if changes.is_empty() && differs(&document) => {
            lines.push("what differs is masked, or in a part that was cut".to_owned());
        }
        _ => lines.extend(changes.iter().map(|line| format!("  {line}"))),
    }
    lines.extend(finds(&tool["finds"]).iter().map(|line| format!("  {line}")));
    let provider = cell(&tool["provider"]);
    let is_waiting = matches!(tool["status"].as_str(), Some("drifted" | "quarantined"));
    let exit = if is_pinned && !differs(&document) { Exit::Done } else { Exit::Failed };
    let reply = Reply { exit, ..Reply::done(document, visible(&lines.join("\n"))) };
    Ok(match is_waiting {
        true => reply.with_note(format!(
            "if a person finds that in order:  awooop contract pin provider/{provider}{}",
            change::in_project(&args.client)
        )),
        false => reply,
    })
}

/// What leaves no mark on a screen, or moves what is on it, as an escape: the text is a stranger's.
fn visible(text: &str) -> String {
    let escaped = |c: char| (c.is_control() && c != '\n') || is_invisible(c);
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match escaped(c) {
            true => shown.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            false => shown.push(c),
        }
    }
    shown
}

/// Is the compared definition another one than the pinned?
fn differs(document: &Value) -> bool {
    let is_accepted = matches!(document["tool"]["status"].as_str(), Some("available" | "denied"))
        && document["compared_sha256"] == document["tool"]["definition_sha256"];
    !is_accepted && document["compared_sha256"] != document["pin"]["sha256"]
}

/// One line for each thing that a look at a definition found.
pub(super) fn finds(found: &Value) -> Vec<String> {
    let line = |find: &Value| {
        let place = find["path"].as_str().filter(|path| !path.is_empty()).unwrap_or("/");
        format!("! {} at {place}: {}", cell(&find["kind"]).replace('_', " "), cell(&find["detail"]))
    };
    found.as_array().into_iter().flatten().map(line).collect()
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
