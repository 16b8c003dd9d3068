//! `awooop approvals list|get|approve|deny|record`: what waits for people.

use serde_json::{Value, json};

use super::Session;
use crate::cli::{ApprovalArg, ApprovalsCommand, ApprovalsListArgs, ApproveArgs, DenyArgs, RecordArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

const APPROVALS: [&str; 3] = ["v1", "platform", "approvals"];

/// Carries out the command.
pub(crate) async fn run(command: ApprovalsCommand, _: &Session) -> Result<Reply, Failure> {
    match command {
        ApprovalsCommand::List(args) => list(args).await,
        ApprovalsCommand::Get(args) => get(args).await,
        ApprovalsCommand::Approve(ApproveArgs { approval, reason }) => {
            decide(approval, json!({"decision": "approve"}), reason).await
        }
        ApprovalsCommand::Deny(DenyArgs { approval, reason }) => {
            decide(approval, json!({"decision": "deny"}), Some(reason)).await
        }
        ApprovalsCommand::Record(args) => record(args).await,
    }
}

async fn list(args: ApprovalsListArgs) -> Result<Reply, Failure> {
    use clap::ValueEnum;
    let client = Client::new(&args.client)?;
    let limit = args.page.limit.to_string();
    let run_id = args.run.map(|id| id.to_string());
    let state = args.state.to_possible_value().filter(|s| s.get_name() != "all");
    // a run's approvals are few: all of them are of interest unless a state was named
    let state = state.filter(|s| run_id.is_none() || s.get_name() != "pending");
    let mut query = vec![("limit", limit.as_str())];
    query.extend(state.as_ref().map(|s| ("state", s.get_name())));
    query.extend(run_id.as_deref().map(|id| ("run_id", id)));
    query.extend(args.page.cursor.as_deref().map(|c| ("cursor", c)));
    let page = client.get(&APPROVALS, &query).await?;
    let items = page["items"].as_array().ok_or_else(|| client.protocol("a list has no `items`"))?;
    let text = if items.is_empty() {
        "nothing waits".to_owned()
    } else {
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        table(&["APPROVAL", "WHAT", "ARGUMENTS", "AGENT", "ASKED BY", "STATE", "EXPIRES"], &rows)
    };
    let more = page["next_cursor"].as_str().map(|c| format!("more: --cursor {c}"));
    let mut reply = Reply::done(page, text);
    reply.notes.extend(more);
    Ok(reply)
}

fn row(item: &Value) -> Vec<String> {
    let state = match item["state"].as_str() {
        Some("pending") => format!("pending, {} of {}", approved(item), cell(&item["needed"])),
        _ => cell(&item["state"]),
    };
    vec![
        cell(&item["approval_id"]),
        what(item),
        short(&item["arguments"]),
        cell(&item["agent_id"]),
        cell(&item["asked_by"]),
        state,
        cell(&item["expires_at"]),
    ]
}

/// What is asked, in words.
fn what(item: &Value) -> String {
    let tool = cell(&item["tool"]);
    if item["kind"] == "outcome" { format!("did {tool} happen?") } else { tool }
}

fn approved(item: &Value) -> usize {
    let decisions = item["decisions"].as_array();
    decisions.map_or(0, |all| all.iter().filter(|d| d["decision"] == "approve").count())
}

/// JSON in one line, cut where a table would become unreadable.
fn short(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= MOST {
        return text;
    }
    text.chars().take(MOST).chain(['…']).collect()
}

async fn get(args: ApprovalArg) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let approval_id = args.approval_id.to_string();
    let document = client.get(&["v1", "platform", "approvals", &approval_id], &[]).await?;
    let text = shown(&document);
    Ok(Reply::done(document, text))
}

/// The whole of an approval for a person.
fn shown(item: &Value) -> String {
    let question = match item["kind"].as_str() {
        Some("outcome") => "this call was begun, and nobody knows whether it happened",
        _ => "this call waits for consent",
    };
    let mut lines = vec![
        format!("approval {}  {}", cell(&item["approval_id"]), cell(&item["state"])),
        format!("{question}: {} ({})", cell(&item["tool"]), cell(&item["risk"])),
        format!("with {:#}", item["arguments"]),
        format!(
            "for agent {}, step {} of run {}",
            cell(&item["agent_id"]),
            cell(&item["step"]),
            cell(&item["run_id"])
        ),
        format!(
            "asked by {}; {} of {} have approved",
            cell(&item["asked_by"]),
            approved(item),
            cell(&item["needed"])
        ),
        format!("since {}, until {}", cell(&item["requested_at"]), cell(&item["expires_at"])),
    ];
    for said in item["decisions"].as_array().into_iter().flatten() {
        let reason = said["reason"].as_str().map(|r| format!(": {r}")).unwrap_or_default();
        let (at, who) = (cell(&said["decided_at"]), cell(&said["person"]));
        lines.push(format!("{at}  {who}  {}{reason}", cell(&said["decision"])));
    }
    lines.join("\n")
}

async fn record(args: RecordArgs) -> Result<Reply, Failure> {
    let mut result = json!({"isError": args.failed});
    match (&args.text, &args.json_result) {
        (_, Some(text)) => {
            let value: Value = serde_json::from_str(text)
                .map_err(|e| Failure::invalid(format!("--json-result is not JSON: {e}")))?;
            result["content"] = json!([{"type": "text", "text": value.to_string()}]);
            result["structuredContent"] = value;
        }
        (text, None) => result["content"] = json!([{"type": "text", "text": text}]),
    }
    decide(args.approval, json!({"decision": "record", "result": result}), args.reason).await
}

async fn decide(args: ApprovalArg, mut body: Value, reason: Option<String>) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    let approval_id = args.approval_id.to_string();
    let document = client.post(&["v1", "platform", "approvals", &approval_id, "decide"], &body).await?;
    let text = match document["state"].as_str() {
        Some("pending") => {
            format!("{} of {} have approved", approved(&document), cell(&document["needed"]))
        }
        _ => format!("approval {approval_id} is {}", cell(&document["state"])),
    };
    Ok(Reply::done(document, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_is_shown_with_what_would_happen_and_who_said_what() {
        let item = json!({"approval_id": "a", "run_id": "r", "step": 2, "kind": "call", "state": "pending",
            "agent_id": "clerk", "tool": "shop__refund", "risk": "write", "arguments": {"order": 7},
            "asked_by": "policy house", "needed": 2, "requested_at": "T1", "expires_at": "T2",
            "decisions": [{"person": "mei", "decision": "approve", "reason": "fine", "decided_at": "T3"}]});
        let text = shown(&item);
        for part in ["shop__refund (write)", "\"order\": 7", "policy house; 1 of 2", "T3  mei  approve: fine"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(row(&item)[5], "pending, 1 of 2");
        let long = json!({"text": "x".repeat(100)});
        assert_eq!(short(&long).chars().count(), 61);
    }
}
