//! `awooop mcp stdio`: an MCP server on standard input and output, for clients that can only spawn a program.
//!
//! Each message goes to the server's `/mcp` as it came and its answer back, one a line, after what the server says of it
//! meanwhile. Requests are answered side by
//! side, notifications go in their order, and neither is waited for: the input is always read on, so that what is slow
//! can be cancelled and the end of the input is seen. A request that the client cancels is given up here, and its answer
//! is not told. Everything that goes wrong is told as the request's error, and the next one is tried again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::cli::McpStdioArgs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Reply};

/// Longest message that is taken, in bytes: the server takes no longer one.
const MOST_BYTES: u64 = 1 << 20;
/// Requests under way at the same time; a further one is refused.
const MOST_REQUESTS: usize = 32;
/// Notifications that wait to be sent; a further one is dropped.
const MOST_NOTIFICATIONS: usize = 256;
/// JSON-RPC: the message is not JSON.
const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: a fault on our side.
const INTERNAL: i32 = -32603;

/// Carries out the command.
pub(super) async fn run(args: McpStdioArgs) -> Result<Reply, Failure> {
    let Some(key) = args.key.filter(|key| !key.expose_secret().is_empty()) else {
        return Err(Failure::Invalid {
            message: "no key: set AWOOOP_KEY to a key of the agent whose tools are wanted".to_owned(),
            hint: Some("make one: awooop key create NAME --agent AGENT".to_owned()),
        });
    };
    let client = Client::connect(&args.server, Some(key))?;
    let provider = args.provider.map(|provider| provider.to_string());
    let path = ["mcp".to_owned()].into_iter().chain(provider).collect();
    let bridge = Arc::new(Bridge { client, path, revision: Mutex::default(), open: Mutex::default() });
    bridge.serve(BufReader::new(tokio::io::stdin())).await?;
    Ok(Reply::done(Value::Null, ""))
}

/// What the requests share.
struct Bridge {
    client: Client,
    path: Vec<String>,
    /// The revision that was agreed on.
    revision: Mutex<Option<String>>,
    /// Requests under way, by their id as JSON.
    open: Mutex<HashMap<String, JoinHandle<()>>>,
}

impl Bridge {
    #[expect(clippy::disallowed_methods, reason = "a client's task belongs to no project here")]
    async fn serve(self: &Arc<Self>, mut input: impl AsyncBufReadExt + Unpin) -> Result<(), Failure> {
        let (notify, notifications) = mpsc::channel(MOST_NOTIFICATIONS);
        let notifying = tokio::spawn(self.clone().send_each(notifications));
        let seats = Arc::new(Semaphore::new(MOST_REQUESTS));
        while let Some(line) = next_line(&mut input).await? {
            let message = match line {
                Line::Message(message) => message,
                Line::Blank => continue,
                Line::Bad(why) => {
                    say(&error(&Value::Null, PARSE_ERROR, why));
                    continue;
                }
            };
            match (message["method"].is_string(), message.get("id").filter(|id| !id.is_null())) {
                (true, Some(id)) => match seats.clone().try_acquire_owned() {
                    Ok(seat) => self.begin(id.clone(), message, seat),
                    Err(_) => {
                        let why = format!("{MOST_REQUESTS} requests are under way already");
                        say(&error(id, INTERNAL, &why));
                    }
                },
                (true, None) => {
                    if message["method"] == "notifications/cancelled" {
                        self.cancel(&message["params"]["requestId"]);
                    }
                    if notify.try_send(message).is_err() {
                        output::note("a notification was dropped: too many wait to be sent");
                    }
                }
                // an answer to a request that the server never makes
                (false, _) => {}
            }
        }
        notifying.abort();
        let open = std::mem::take(&mut *self.lock_open());
        open.into_values().for_each(|request| request.abort());
        Ok(())
    }

    /// Sends notifications one after the other. Nobody waits for an answer to one.
    async fn send_each(self: Arc<Self>, mut notifications: mpsc::Receiver<Value>) {
        while let Some(message) = notifications.recv().await {
            if let Err(failure) = self.post(&message, |_| ()).await {
                output::note(&format!("a notification did not arrive: {}", failure.lines().join(" ")));
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a client's task belongs to no project here")]
    fn begin(self: &Arc<Self>, id: Value, message: Value, seat: OwnedSemaphorePermit) {
        let (name, bridge) = (id.to_string(), self.clone());
        // the task finds its own entry, because the lock is held until it is made
        let mut open = self.lock_open();
        let own = name.clone();
        let task = tokio::spawn(async move {
            // what a request says after it was cancelled is nobody's
            let tell = |said: &Value| {
                if bridge.lock_open().contains_key(&own) {
                    say(said);
                }
            };
            let answer = bridge.answer(&id, &message, tell).await;
            if message["method"] == "initialize" {
                // before it is told: what the client sends next is of the revision in it
                let revision = answer["result"]["protocolVersion"].as_str().map(str::to_owned);
                *bridge.revision.lock().unwrap_or_else(PoisonError::into_inner) = revision;
            }
            if bridge.lock_open().remove(&own).is_some() {
                say(&answer);
            }
            drop(seat);
        });
        if let Some(former) = open.insert(name, task) {
            former.abort();
        }
    }

    fn cancel(&self, id: &Value) {
        if let Some(request) = self.lock_open().remove(&id.to_string()) {
            request.abort();
        }
    }

    /// The server's answer to a request, or an error in its place.
    async fn answer(&self, id: &Value, message: &Value, tell: impl FnMut(&Value)) -> Value {
        match self.post(message, tell).await {
            Ok((_, mut answer)) if answer["jsonrpc"] == "2.0" => {
                // a refusal before the request was read knows no id
                answer["id"] = id.clone();
                answer
            }
            Ok((status, _)) => error(id, INTERNAL, &format!("the server answered {status} and no message")),
            Err(failure) => error(id, INTERNAL, &failure.lines().join(" ")),
        }
    }

    async fn post(&self, message: &Value, tell: impl FnMut(&Value)) -> Result<(u16, Value), Failure> {
        let revision = self.revision.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.client.post_mcp(&self.path, message, revision.as_deref(), tell).await
    }

    fn lock_open(&self) -> std::sync::MutexGuard<'_, HashMap<String, JoinHandle<()>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a line of the input is.
enum Line {
    Message(Value),
    Blank,
    Bad(&'static str),
}

/// The next line; `None` at the end of the input. Of one that is too long nothing is kept.
async fn next_line(input: &mut (impl AsyncBufReadExt + Unpin)) -> Result<Option<Line>, Failure> {
    let mut bytes = Vec::new();
    let read = read_until_end(&mut input.take(MOST_BYTES + 1), &mut bytes).await?;
    if read == 0 {
        return Ok(None);
    }
    if bytes.last() != Some(&b'\n') && bytes.len() as u64 > MOST_BYTES {
        let mut rest = Vec::new();
        loop {
            rest.clear();
            let read = read_until_end(&mut input.take(MOST_BYTES), &mut rest).await?;
            if read == 0 || rest.last() == Some(&b'\n') {
                return Ok(Some(Line::Bad("a message is larger than 1 MiB")));
            }
        }
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Some(Line::Blank));
    }
    Ok(Some(match serde_json::from_slice::<Value>(&bytes) {
        Ok(message) if message.is_object() => Line::Message(message),
        _ => Line::Bad("each line is one JSON-RPC message"),
    }))
}

async fn read_until_end(
    input: &mut (impl AsyncRead + AsyncBufReadExt + Unpin),
    bytes: &mut Vec<u8>,
) -> Result<usize, Failure> {
    let read = input.read_until(b'\n', bytes).await;
    read.map_err(|e| Failure::invalid(format!("standard input cannot be read: {e}")))
}

fn error(id: &Value, code: i32, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

/// One message, one line.
fn say(message: &Value) {
    output::write_raw(&format!("{message}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8]) -> Vec<String> {
        let mut input = BufReader::with_capacity(7, text);
        let mut found = Vec::new();
        while let Some(line) = next_line(&mut input).await.unwrap() {
            found.push(match line {
                Line::Message(message) => message.to_string(),
                Line::Blank => "blank".to_owned(),
                Line::Bad(why) => why.to_owned(),
            });
        }
        found
    }

    #[tokio::test]
    async fn each_line_is_a_message_and_one_that_is_too_long_costs_no_other() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(3 << 20));
        let text = format!("{{\"id\":1}}\n\r\n[1]\nnonsense\n{long}\n{{\"id\":2}}");
        let bad = "each line is one JSON-RPC message";
        let expected = ["{\"id\":1}", "blank", bad, bad, "a message is larger than 1 MiB", "{\"id\":2}"]
            .map(str::to_owned);
        assert_eq!(lines(text.as_bytes()).await, expected);
        assert!(lines(b"").await.is_empty());
    }
}
