//! A model server for tests, of the OpenAI dialect, that follows a script: the n-th answer of a run is the
//! n-th line of the script, whatever it is asked.
//!
//! Which line is next is read off the conversation itself (the answers already in it), so the fixture has
//! no state that a restart of the server under test could confuse. It counts the calls it got.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// One answer of the script.
#[derive(Debug, Clone)]
pub enum Line {
    /// Calls of tools, each with its full name and arguments.
    Calls(Vec<(String, Value)>),
    /// A final answer, as text.
    Says(String),
}

impl Line {
    /// A call of one tool.
    pub fn call(tool: &str, arguments: Value) -> Line {
        Line::Calls(vec![(tool.to_owned(), arguments)])
    }
}

#[derive(Clone)]
struct Script {
    lines: Arc<Vec<Line>>,
    asked: Arc<AtomicU64>,
}

/// A running server. Dropping it closes its port.
pub struct FixtureModel {
    base_url: String,
    asked: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl FixtureModel {
    /// Listens on a free port of 127.0.0.1. After its last line it repeats that one.
    #[expect(clippy::disallowed_methods, reason = "test support: the fixture belongs to no project")]
    pub async fn start(lines: Vec<Line>) -> anyhow::Result<FixtureModel> {
        anyhow::ensure!(!lines.is_empty(), "a script has at least one line");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base_url = format!("http://{}/v1", listener.local_addr()?);
        let script = Script { lines: Arc::new(lines), asked: Arc::default() };
        let asked = script.asked.clone();
        let router = Router::new().route("/v1/chat/completions", post(answer)).with_state(script);
        let task = tokio::spawn(async move {
            // ends with the task
            let _ = axum::serve(listener, router).await;
        });
        Ok(FixtureModel { base_url, asked, task })
    }

    /// Calls so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// The spec of a provider contract for this server; its model is `script`.
    pub fn provider_spec(&self) -> Value {
        json!({"type": "llm", "dialect": "openai", "base_url": self.base_url, "models": [{"name": "script"}]})
    }
}

impl Drop for FixtureModel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(script): State<Script>, Json(request): Json<Value>) -> Json<Value> {
    script.asked.fetch_add(1, Ordering::SeqCst);
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    let given = messages.iter().filter(|message| message["role"] == "assistant").count();
    let line = script.lines.get(given).or(script.lines.last());
    let message = match line {
        Some(Line::Calls(calls)) => {
            let calls: Vec<Value> =
                calls.iter().enumerate().map(|(i, call)| tool_call(given, i, call)).collect();
            json!({"role": "assistant", "content": null, "tool_calls": calls})
        }
        Some(Line::Says(text)) => json!({"role": "assistant", "content": text}),
        None => json!({"role": "assistant", "content": ""}),
    };
    Json(json!({
        "id": "x", "object": "chat.completion", "model": "script",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }))
}

fn tool_call(given: usize, index: usize, (name, arguments): &(String, Value)) -> Value {
    json!({
        "id": format!("call_{given}_{index}"), "type": "function",
        "function": {"name": name, "arguments": arguments.to_string()},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Api;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_script_goes_on_with_the_conversation_and_not_with_time() {
        let lines = vec![Line::call("kit__echo", json!({"text": "a"})), Line::Says("done".to_owned())];
        let model = FixtureModel::start(lines).await.unwrap();
        let api = Api::new(&model.base_url, None).unwrap();
        let first = json!({"messages": [{"role": "user", "content": "go"}]});
        for _ in 0..2 {
            let said = api.post("/chat/completions", &first).await.unwrap().json();
            assert_eq!(said["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "kit__echo");
        }
        let second = json!({"messages": [{"role": "assistant"}, {"role": "tool"}]});
        let said = api.post("/chat/completions", &second).await.unwrap().json();
        assert_eq!(said["choices"][0]["message"]["content"], "done");
        assert_eq!(model.asked(), 3);
    }
}
