//! `awooop run`: gives an agent an input and waits for its answer.
//!
//! Every creation carries an idempotency key, so that a connection that breaks in the middle can be tried
//! again without a second run. A server that is not there at all is said at once; one that goes away later
//! is waited for (see `wait`). Invariant: one call of this command is at most one run.

use std::io::Read;
use std::time::Instant;

use serde_json::{Value, json};

use super::progress::Progress;
use super::wait::{self, Patience};
use super::{Session, report};
use crate::cli::RunArgs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Reply;

/// Far above what the server takes as one request.
const STDIN_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Carries out the command.
pub(crate) async fn run(args: RunArgs, session: &Session) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let body = body(&args).await?;
    let key = args.idempotency_key.clone().unwrap_or_else(fresh_key);
    let document = create(&client, &body, &key).await?;
    let run_id = document["run"]["run_id"].as_str();
    let run_id = run_id.ok_or_else(|| client.protocol("the new run has no id"))?.to_owned();
    if args.detach {
        return Ok(Reply::done(document, run_id));
    }
    session.follows(&run_id);
    let document = if args.watch {
        wait::watched(&client, &run_id).await?
    } else if report::is_ended(&document) && !document["mode"].is_null() {
        document
    } else {
        wait::until_ended(&client, &run_id).await?
    };
    let steps = wait::steps(&client, &run_id).await?;
    Ok(report::ended(document, steps, &client.url()))
}

async fn body(args: &RunArgs) -> Result<Value, Failure> {
    let input = match (&args.input, &args.input_json) {
        (_, Some(text)) => {
            let text = if text == "-" { stdin().await? } else { text.clone() };
            serde_json::from_str(&text)
                .map_err(|e| Failure::invalid(format!("--input-json is not JSON: {e}")))?
        }
        (Some(text), None) if text == "-" => {
            let text = stdin().await?;
            Value::String(text.strip_suffix('\n').unwrap_or(&text).to_owned())
        }
        (text, None) => Value::String(text.clone().unwrap_or_default()),
    };
    let mut body = json!({"agent_id": args.agent, "input": input});
    if let Some(mode) = args.mode {
        body["mode"] = mode.as_str().into();
    }
    if let Some(timeout_ms) = args.timeout_ms {
        body["timeout_ms"] = timeout_ms.into();
    }
    Ok(body)
}

/// Text from standard input, at most 16 MiB.
pub(super) async fn stdin() -> Result<String, Failure> {
    let read = || {
        let mut text = String::new();
        let mut bytes = std::io::stdin().lock().take(STDIN_MAX_BYTES + 1);
        bytes.read_to_string(&mut text).map(|_| text)
    };
    // A thread of its own, because a terminal may never answer and Ctrl-C still has to.
    let text = match tokio::task::spawn_blocking(read).await {
        Ok(text) => text.map_err(|e| Failure::invalid(format!("stdin cannot be read as text: {e}")))?,
        Err(_) => return Err(Failure::invalid("stdin cannot be read")),
    };
    if text.len() as u64 > STDIN_MAX_BYTES {
        return Err(Failure::invalid("the input is larger than 16 MiB"));
    }
    Ok(text)
}

pub(super) fn fresh_key() -> String {
    format!("cli-{:032x}", rand::random::<u128>())
}

/// Creates the run. Before anything was heard of a server, nobody there is the answer; once a connection
/// broke in the middle, the run may exist, and the same request is sent until that is known.
async fn create(client: &Client, body: &Value, key: &str) -> Result<Value, Failure> {
    let path = ["v1", "platform", "runs"];
    match client.post_once(&path, body, key).await {
        Err(Failure::Unreachable { is_refused: false, url, reason }) => {
            let mut failure = Failure::Unreachable { url, reason, is_refused: false };
            let mut progress = Progress::quiet();
            let mut patience = Patience::new(Instant::now());
            loop {
                patience.bear(failure, &mut progress).await?;
                failure = match client.post_once(&path, body, key).await {
                    Ok(document) => return Ok(document),
                    Err(failure) => failure,
                };
            }
        }
        first => first,
    }
}
