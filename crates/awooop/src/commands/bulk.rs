//! `awooop runs cancel` and `awooop runs retry` with a filter: many runs, a page at a time until none is left.
//!
//! The document is the server's pages put together: every item, and how many runs were looked at.

use serde_json::{Value, json};

use super::run::fresh_key;
use crate::cli::{RunsCancelArgs, RunsRetryArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Reply, cell, table};

const CANCEL: [&str; 4] = ["v1", "platform", "runs", "bulk-cancel"];
const RETRY: [&str; 4] = ["v1", "platform", "runs", "bulk-retry"];
/// Runs a request handles at most.
const PAGE: u64 = 200;

/// Carries out `awooop runs cancel` with a filter.
pub(crate) async fn cancel(args: RunsCancelArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let mut body = body([
        ("state", args.state.and_then(name).map(Value::from)),
        ("agent_id", args.agent.map(Value::from)),
        ("parent_run_id", args.parent.map(|run_id| run_id.to_string().into())),
        ("older_than_s", args.older_than.map(|time| time.as_secs().into())),
        ("all", args.all.then_some(true.into())),
        ("dry_run", args.dry_run.then_some(true.into())),
    ]);
    let mut whole = client.post(&CANCEL, &body).await?;
    let mut cursor = whole["next_cursor"].take();
    while !cursor.is_null() {
        body["cursor"] = cursor;
        let mut page = client.post(&CANCEL, &body).await?;
        cursor = page["next_cursor"].take();
        append(&mut whole, page);
    }
    let counted = match args.dry_run {
        true => format!("{} would be cancelled", runs(count(&whole, "would_cancel"))),
        false => format!("{} cancelled", runs(count(&whole, "cancelled"))),
    };
    Ok(Reply::done(whole, counted))
}

/// Carries out `awooop runs retry`.
pub(crate) async fn retry(args: RunsRetryArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let mut body = body([
        ("run_id", args.run_id.map(|run_id| run_id.to_string().into())),
        ("state", args.state.and_then(name).map(Value::from)),
        ("agent_id", args.agent.map(Value::from)),
        ("error_code", args.code.map(Value::from)),
        ("older_than_s", args.older_than.map(|time| time.as_secs().into())),
        ("newer_than_s", args.newer_than.map(|time| time.as_secs().into())),
        ("all", args.all.then_some(true.into())),
        ("dry_run", args.dry_run.then_some(true.into())),
    ]);
    let key = args.idempotency_key.unwrap_or_else(fresh_key);
    let mut whole = client.post_once(&RETRY, &body, &format!("{key}.0")).await?;
    let mut cursor = whole["next_cursor"].take();
    // each page is a request of its own, and so has its own key
    for page in 1.. {
        if cursor.is_null() {
            break;
        }
        body["cursor"] = cursor;
        let mut more = client.post_once(&RETRY, &body, &format!("{key}.{page}")).await?;
        cursor = more["next_cursor"].take();
        append(&mut whole, more);
    }
    Ok(retried(whole, args.dry_run))
}

fn retried(whole: Value, is_dry: bool) -> Reply {
    let rows: Vec<Vec<String>> = items(&whole)
        .iter()
        .map(|item| ["run_id", "result", "new_run_id", "code", "message"].map(|f| cell(&item[f])).to_vec())
        .collect();
    let masked = items(&whole).iter().filter(|item| item["is_input_masked"] == true).count();
    let refused = count(&whole, "refused");
    let counted = match is_dry {
        true => format!("{} would be done again", runs(count(&whole, "would_create"))),
        false => {
            let done = count(&whole, "created") + count(&whole, "replayed");
            format!("{} done again, {refused} refused", runs(done))
        }
    };
    let text = match rows.is_empty() {
        true => counted,
        false => format!("{}\n\n{counted}", table(&["RUN", "RESULT", "NEW RUN", "CODE", "WHY"], &rows)),
    };
    let mut reply = Reply::done(whole, text);
    if masked > 0 {
        reply.notes.push(format!(
            "{masked} of them had their input masked when they were made; the same is asked again"
        ));
    }
    if refused > 0 && !is_dry {
        reply.exit = Exit::Failed;
    }
    reply
}

/// The members that are given.
fn body<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let mut body = json!({"limit": PAGE});
    for (name, value) in members {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    body
}

fn name(value: impl clap::ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

fn items(page: &Value) -> &[Value] {
    page["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn append(whole: &mut Value, mut page: Value) {
    let looked_at = [&whole["looked_at"], &page["looked_at"]].map(|n| n.as_u64().unwrap_or(0));
    whole["looked_at"] = looked_at.iter().sum::<u64>().into();
    if let (Some(all), Some(more)) = (whole["items"].as_array_mut(), page["items"].as_array_mut()) {
        all.append(more);
    }
}

fn count(page: &Value, result: &str) -> u64 {
    items(page).iter().filter(|item| item["result"] == result).count() as u64
}

fn runs(n: u64) -> String {
    match n {
        1 => "1 run".to_owned(),
        n => format!("{n} runs"),
    }
}
