//! A server of the tests' own that answers what a closure says: a model or a tool server as well-behaved,
//! slow, rude or broken as a test needs it. It remembers what it was asked.
//!
//! Also here: a stage with the database in reach, for what only rows can show, and the manifests of
//! projects around such servers. Whatever waits here is woken by a fact, never by the clock.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use awooop_journeys::client::{Answer, Api};
use awooop_journeys::db::TestDatabase;
use awooop_journeys::server::{Home, Server};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::home_on;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the server answers.
pub(crate) enum Say {
    /// 200 and JSON.
    Json(Value),
    /// This status and JSON.
    Status(u16, Value),
    /// 200 and something that is no JSON.
    Text(&'static str),
    /// JSON, once the test lets go.
    WhenLetGo(Value),
    /// Nothing, ever.
    Never,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) body: Value,
    pub(crate) authorization: Option<String>,
}

type Script = dyn Fn(&Value) -> Say + Send + Sync;

struct Shared {
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<Asked>>>,
    is_free: watch::Receiver<bool>,
    /// A clone is held by each answer that is kept back and still wanted.
    kept: Arc<()>,
}

/// A running server. Dropping it closes its port.
pub(crate) struct Scripted {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    free: watch::Sender<bool>,
    kept: Arc<()>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Listens on a free port of 127.0.0.1.
    #[expect(clippy::disallowed_methods, reason = "test support: the server belongs to no project")]
    pub(crate) async fn start(script: impl Fn(&Value) -> Say + Send + Sync + 'static) -> Scripted {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (free, is_free) = watch::channel(false);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::new(());
        let shared =
            Shared { script: Arc::new(script), asked: asked.clone(), is_free, kept: Arc::clone(&kept) };
        let router = Router::new().route("/{*path}", post(answer)).with_state(Arc::new(shared));
        let task = tokio::spawn(async move {
            // ends with the task
            let _ = axum::serve(listener, router).await;
        });
        Scripted { address, asked, free, kept, task }
    }

    /// An address below it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request so far, oldest first.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The requests of one model.
    pub(crate) fn asked_of(&self, model: &str) -> Vec<Value> {
        self.asked().into_iter().map(|asked| asked.body).filter(|body| body["model"] == model).collect()
    }

    /// How often an MCP tool was called.
    pub(crate) fn calls_of(&self, tool: &str) -> usize {
        let is_call = |a: &Asked| a.body["method"] == "tools/call" && a.body["params"]["name"] == tool;
        self.asked().iter().filter(|asked| is_call(asked)).count()
    }

    /// Does anybody wait for an answer that is kept back?
    pub(crate) fn is_waiting(&self) -> bool {
        Arc::strong_count(&self.kept) > 2
    }

    /// Answers what was kept back, and from now on at once.
    pub(crate) fn let_go(&self) {
        self.free.send_replace(true);
    }

    /// The spec of a model provider with these models.
    pub(crate) fn model_spec(&self, models: &[&str]) -> Value {
        let models: Vec<Value> = models.iter().map(|name| json!({ "name": name })).collect();
        json!({"type": "llm", "dialect": "openai", "base_url": self.url("/v1"), "models": models})
    }

    /// The spec of a tool server with these tools, by name and risk.
    pub(crate) fn tool_spec(&self, tools: &[(&str, &str)]) -> Value {
        let tools: Vec<Value> =
            tools.iter().map(|(name, risk)| json!({"name": name, "risk": risk})).collect();
        json!({"type": "mcp", "transport": "http", "url": self.url("/mcp"), "tools": tools})
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: axum::body::Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let authorization = headers.get("authorization").and_then(|v| v.to_str().ok()).map(str::to_owned);
    shared.asked.lock().unwrap().push(Asked { body: body.clone(), authorization });
    match (shared.script)(&body) {
        Say::Json(said) => axum::Json(said).into_response(),
        Say::Status(status, said) => {
            (StatusCode::from_u16(status).unwrap(), axum::Json(said)).into_response()
        }
        Say::Text(text) => text.into_response(),
        Say::Never => std::future::pending().await,
        Say::WhenLetGo(said) => {
            let (mut is_free, _kept) = (shared.is_free.clone(), Arc::clone(&shared.kept));
            // the sender lives as long as the server
            let _ = is_free.wait_for(|is_free| *is_free).await;
            axum::Json(said).into_response()
        }
    }
}

/// How many answers of the model are in the conversation already.
pub(crate) fn given(request: &Value) -> usize {
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    messages.iter().filter(|message| message["role"] == "assistant").count()
}

fn completion(message: Value, tokens: (u64, u64)) -> Value {
    json!({
        "id": "x", "object": "chat.completion", "model": "script",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": tokens.0, "completion_tokens": tokens.1,
            "total_tokens": tokens.0 + tokens.1},
    })
}

/// A final answer.
pub(crate) fn says(text: &str) -> Value {
    says_for(text, (10, 5))
}

/// A final answer that cost so many tokens, in and out.
pub(crate) fn says_for(text: &str, tokens: (u64, u64)) -> Value {
    completion(json!({"role": "assistant", "content": text}), tokens)
}

/// Calls of tools, with arguments as the model wrote them.
pub(crate) fn calls(calls: &[(&str, &str)]) -> Value {
    calls_for(calls, (10, 5))
}

/// Calls of tools that cost so many tokens, in and out.
pub(crate) fn calls_for(calls: &[(&str, &str)], tokens: (u64, u64)) -> Value {
    let call = |(i, (name, arguments)): (usize, &(&str, &str))| {
        json!({"id": format!("call_{i}"), "type": "function",
            "function": {"name": name, "arguments": arguments}})
    };
    let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
    completion(json!({"role": "assistant", "content": null, "tool_calls": calls}), tokens)
}

/// What an MCP server with these tools answers to everything but a call; `call` answers that.
pub(crate) fn mcp(message: &Value, tools: Value, call: impl FnOnce(&str, &Value) -> Say) -> Say {
    let params = &message["params"];
    match message["method"].as_str().unwrap_or_default() {
        _ if message["id"].is_null() => Say::Status(202, Value::Null),
        "initialize" => result(
            message,
            json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "scripted", "version": "1"}}),
        ),
        "tools/list" => result(message, json!({ "tools": tools })),
        "tools/call" => call(params["name"].as_str().unwrap_or_default(), &params["arguments"]),
        _ => result(message, json!({})),
    }
}

/// A JSON-RPC result.
pub(crate) fn result(message: &Value, result: Value) -> Say {
    Say::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
}

/// A manifest.
pub(crate) fn manifest(kind: &str, project: &str, id: &str, spec: Value) -> Value {
    json!({"kind": kind, "project": project, "id": id, "spec": spec})
}

/// An agent's manifest: its model, the tools it is granted, and whatever else its spec has.
pub(crate) fn agent(project: &str, id: &str, model: &str, granted: &[&str], more: Value) -> Value {
    let grants: Vec<Value> = granted.iter().map(|tool| json!({ "tool": tool })).collect();
    let mut spec = json!({
        "instructions": "Do as the script says.", "model": model, "grants": grants,
        "output_schema": {"type": "object"},
    });
    for (member, value) in more.as_object().cloned().unwrap_or_default() {
        spec[member] = value;
    }
    manifest("agent", project, id, spec)
}

/// A server whose database the test can look into. The fields are dropped in order.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) home: Home,
    pub(crate) database: TestDatabase,
}

impl Stage {
    /// Starts a server on a private database, with everything it has to say in its log.
    pub(crate) async fn start(more: &[(&str, &str)], operator: Option<&str>) -> Stage {
        let database = TestDatabase::private().await.expect("a database");
        let mut home = home_on(database.urls()).env("AWOOOP_LOG", "debug");
        for (name, value) in more {
            home = home.env(name, value);
        }
        if let Some(list) = operator {
            std::fs::create_dir(home.data_dir()).unwrap();
            std::fs::write(home.data_dir().join("operator.toml"), list).unwrap();
        }
        let server = home.start().await.expect("the server starts");
        Stage { server, home, database }
    }

    /// The API as the platform's administrator in a project.
    pub(crate) fn api(&self, project: &str) -> Api {
        self.server.api().in_project(project)
    }

    /// Applies manifests to a project and returns its API.
    pub(crate) async fn apply(&self, project: &str, manifests: &[Value]) -> Api {
        let api = self.api(project);
        api.apply(manifests).await.expect("the manifests are valid");
        api
    }

    /// Tables that hold this text in any column.
    pub(crate) async fn tables_with(&self, text: &str) -> Vec<String> {
        let admin = self.database.admin().await;
        let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'awooop' ORDER BY 1";
        let mut found = Vec::new();
        for row in admin.query(tables, &[]).await.unwrap() {
            let table: String = row.get(0);
            let sql = format!("SELECT count(*) FROM awooop.{table} t WHERE strpos(t::text, $1) > 0");
            if admin.query_one(&sql, &[&text]).await.unwrap().get::<_, i64>(0) > 0 {
                found.push(table);
            }
        }
        found
    }

    /// Nothing of the secret is in a row, in the log, or in these texts.
    pub(crate) async fn assert_unseen(&self, secret: &str, shown: &[String]) {
        assert_eq!(self.tables_with(secret).await, Vec::<String>::new(), "rows hold the secret");
        let log = self.home.log();
        assert!(log.lines().count() > 10, "the log says something: {log}");
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log holds the secret");
        for text in shown {
            assert!(!text.contains(secret), "{text}");
        }
    }

    /// The invariants hold.
    pub(crate) async fn assert_well(&self) {
        let (code, found) = self.home.cli_json(&["doctor"]).await.unwrap();
        assert_eq!(code, 0, "{found}");
    }
}

/// Waits until something holds, looking again and again.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs an agent to its end.
pub(crate) async fn run(api: &Api, agent: &str, input: &Value) -> Value {
    let run_id = api.create_run(agent, input).await.unwrap();
    api.wait_for_end(&run_id, PATIENCE).await.unwrap()
}

/// The id of a run's document.
pub(crate) fn id_of(document: &Value) -> &str {
    document["run"]["run_id"].as_str().unwrap_or_else(|| panic!("no run in {document}"))
}

/// The steps of a run's document.
pub(crate) async fn steps(api: &Api, document: &Value) -> Vec<Value> {
    api.steps(id_of(document)).await.unwrap()
}

/// State and code of a run's end.
pub(crate) fn end(document: &Value) -> (&str, &str) {
    let code = document["error"]["code"].as_str().unwrap_or_default();
    (document["run"]["state"].as_str().unwrap_or_default(), code)
}

/// Sends one JSON-RPC request to `/mcp`.
pub(crate) async fn ask_mcp(api: &Api, method: &str, params: Value) -> Answer {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let headers = [("Accept", "application/json, text/event-stream")];
    api.send("POST", "/mcp", &headers, Some(&body)).await.unwrap()
}

/// The project's one budget.
pub(crate) async fn budget(api: &Api) -> Value {
    api.get("/v1/platform/budgets").await.unwrap().expect(200).unwrap()["items"][0].clone()
}
