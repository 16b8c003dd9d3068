//! `awooop pause|resume|stop|start|halts`: holding work back and letting it go.

use serde_json::{Value, json};

use super::Session;
use crate::cli::{HaltsArgs, PauseArgs, ResumeArgs, StartArgs, StopArgs, StopTarget};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

const HALTS: [&str; 3] = ["v1", "platform", "halts"];
const LIFT: [&str; 4] = ["v1", "platform", "halts", "lift"];

/// Carries out `awooop pause`.
pub(crate) async fn pause(args: PauseArgs, _session: &Session) -> Result<Reply, Failure> {
    let body = request("pause", of_agent(args.agent), Some(args.reason));
    halt(&Client::new(&args.client)?, &body).await
}

/// Carries out `awooop resume`.
pub(crate) async fn resume(args: ResumeArgs, _session: &Session) -> Result<Reply, Failure> {
    lift(&Client::new(&args.client)?, &request("pause", of_agent(args.agent), None)).await
}

/// Carries out `awooop stop`.
pub(crate) async fn stop(args: StopArgs, _session: &Session) -> Result<Reply, Failure> {
    let body = request("stop", of_target(args.target), Some(args.reason));
    halt(&Client::new(&args.client)?, &body).await
}

/// Carries out `awooop start`.
pub(crate) async fn start(args: StartArgs, _session: &Session) -> Result<Reply, Failure> {
    lift(&Client::new(&args.client)?, &request("stop", of_target(args.target), None)).await
}

/// Carries out `awooop halts`.
pub(crate) async fn list(args: HaltsArgs, _session: &Session) -> Result<Reply, Failure> {
    let page = Client::new(&args.client)?.get(&HALTS, &[]).await?;
    let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = if items.is_empty() {
        "nothing is paused or stopped".to_owned()
    } else {
        let fields = ["kind", "target", "name", "halted_at", "halted_by", "reason"];
        let rows: Vec<Vec<String>> =
            items.iter().map(|item| fields.iter().map(|&field| cell(&item[field])).collect()).collect();
        table(&["KIND", "TARGET", "NAME", "SINCE", "BY", "REASON"], &rows)
    };
    Ok(Reply::done(page, text))
}

fn of_agent(agent: Option<String>) -> (&'static str, Option<String>) {
    (if agent.is_some() { "agent" } else { "project" }, agent)
}

fn of_target(target: StopTarget) -> (&'static str, Option<String>) {
    match target {
        StopTarget { all: true, .. } => ("all", None),
        StopTarget { provider: Some(provider), .. } => ("provider", Some(provider)),
        StopTarget { tool: Some(tool), .. } => ("tool", Some(tool)),
        StopTarget { agent, .. } => of_agent(agent),
    }
}

fn request(kind: &str, (target, name): (&str, Option<String>), reason: Option<String>) -> Value {
    let mut body = json!({"kind": kind, "target": target});
    for (member, text) in [("name", name), ("reason", reason.filter(|reason| !reason.is_empty()))] {
        if let Some(text) = text {
            body[member] = text.into();
        }
    }
    body
}

async fn halt(client: &Client, body: &Value) -> Result<Reply, Failure> {
    let halt = client.post(&HALTS, body).await?;
    let done = if halt["kind"] == "pause" { "paused" } else { "stopped" };
    let (since, by) = (cell(&halt["halted_at"]), cell(&halt["halted_by"]));
    let why = match halt["reason"].as_str() {
        None | Some("") => String::new(),
        Some(reason) => format!(": {reason}"),
    };
    let text = format!("{} is {done} since {since}, by {by}{why}", named(&halt));
    Ok(Reply::done(halt, text))
}

async fn lift(client: &Client, body: &Value) -> Result<Reply, Failure> {
    let lifted = client.post(&LIFT, body).await?;
    let done = if lifted["kind"] == "pause" { "resumed" } else { "started" };
    let text = format!("{} is {done}", named(&lifted));
    Ok(Reply::done(lifted, text))
}

fn named(halt: &Value) -> String {
    match halt["target"].as_str() {
        Some("all") => "everything".to_owned(),
        Some("project") => "the project".to_owned(),
        _ => format!("{} {}", cell(&halt["target"]), cell(&halt["name"])),
    }
}
