//! Revision 2026-07-28: every request stands alone, says in `_meta` who asks and repeats in its headers what
//! the body says. Questions to the client are results; leaving before the answer cancels.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::stream::{Guard, Log};
use super::{
    Fault, Listener, META_CAPABILITIES, META_LOG_LEVEL, META_SUBSCRIPTION, META_VERSION, STATELESS, Shared,
    Step, Turn, VERSION_HEADER, catalog, header, lock, methods, notification, result, spawn, streams,
    wants_info,
};

const HEADER_MISMATCH: i64 = -32020;
/// Results of these may be kept by clients for a while.
const CACHEABLE: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];

/// The refusal of a revision that is not spoken.
pub(super) fn unsupported(requested: &str) -> Fault {
    let data = json!({"supported": [STATELESS], "requested": requested});
    let message = "this revision is not supported";
    Fault { data, ..Fault::new(StatusCode::BAD_REQUEST, -32022, message) }
}

/// Answers one message.
pub(super) async fn answer(shared: Arc<Shared>, headers: &HeaderMap, message: &Value) -> Response {
    let (id, params) = (&message["id"], &message["params"]);
    let method = message["method"].as_str().unwrap_or_default();
    if let Err(fault) = check(headers, method, params) {
        return fault.respond(id);
    }
    if id.is_null() {
        return StatusCode::ACCEPTED.into_response();
    }
    match method {
        "server/discover" => {
            return Json(result(id, &finished(method, Step::Done(discovered())))).into_response();
        }
        "subscriptions/listen" => return listen(&shared, id, params),
        _ => {}
    }
    let meta = &params["_meta"];
    let turn = Turn {
        shared: Arc::clone(&shared),
        is_stateless: true,
        capabilities: meta[META_CAPABILITIES].clone(),
        may_log: meta[META_LOG_LEVEL].as_str().is_some_and(wants_info),
        progress_token: meta.get("progressToken").cloned(),
        out: Log::new(),
    };
    if streams(method, params) {
        return stream(turn, id, method, params);
    }
    let mut left = Left { shared, id: id.clone(), task: None, is_over: false };
    let answer = match methods::serve(&turn, method, params).await {
        Ok(step) => Json(result(id, &finished(method, step))).into_response(),
        Err(fault) => fault.respond(id),
    };
    left.saw_the_end();
    answer
}

fn stream(turn: Turn, id: &Value, method: &str, params: &Value) -> Response {
    let (shared, log) = (Arc::clone(&turn.shared), Arc::clone(&turn.out));
    let (id, method, params) = (id.clone(), method.to_owned(), params.clone());
    let known = id.clone();
    let task = spawn(async move {
        turn.out.say(&match methods::serve(&turn, &method, &params).await {
            Ok(step) => result(&id, &finished(&method, step)),
            Err(fault) => fault.message(&id),
        });
        turn.out.end();
    });
    log.respond(None, Left { shared, id: known, task: Some(task.abort_handle()), is_over: false })
}

/// Notes that a client left before its answer, and stops the work.
struct Left {
    shared: Arc<Shared>,
    id: Value,
    task: Option<AbortHandle>,
    is_over: bool,
}

impl Guard for Left {
    fn saw_the_end(&mut self) {
        self.is_over = true;
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        if !self.is_over {
            lock(&self.shared.cancelled).push(self.id.clone());
            self.task.iter().for_each(AbortHandle::abort);
        }
    }
}

/// A step as this revision writes it.
fn finished(method: &str, step: Step) -> Value {
    let mut result = match step {
        Step::Done(mut result) => {
            result["resultType"] = "complete".into();
            result
        }
        Step::Ask { questions, state } => {
            let mut result = json!({"resultType": "input_required", "inputRequests": questions});
            if let Some(state) = state {
                result["requestState"] = state.into();
            }
            result
        }
    };
    if CACHEABLE.contains(&method) {
        result["ttlMs"] = 300_000.into();
        result["cacheScope"] = "public".into();
    }
    result
}

fn discovered() -> Value {
    json!({
        "supportedVersions": [STATELESS],
        "capabilities": {
            "tools": {"listChanged": true}, "prompts": {"listChanged": true}, "resources": {"subscribe": true, "listChanged": true},
            "completions": {}, "logging": {},
        },
        "instructions": "Everything here is made up.",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "fixture-everything", "version": "1"}},
    })
}

/// Opens a stream that tells of changes, as long as the client stays.
fn listen(shared: &Arc<Shared>, id: &Value, params: &Value) -> Response {
    let wanted = &params["notifications"];
    let kinds: Vec<String> = ["tools", "prompts", "resources"]
        .into_iter()
        .filter(|kind| wanted[format!("{kind}ListChanged")] == true)
        .map(str::to_owned)
        .collect();
    let mut honoured: Value =
        kinds.iter().map(|kind| (format!("{kind}ListChanged"), Value::Bool(true))).collect();
    let uris: BTreeSet<String> = wanted["resourceSubscriptions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if !uris.is_empty() {
        honoured["resourceSubscriptions"] = json!(uris);
    }
    let log = Log::new();
    let first = json!({"_meta": {META_SUBSCRIPTION: id}, "notifications": honoured});
    log.say(&notification("notifications/subscriptions/acknowledged", first));
    let watched = Arc::new(Mutex::new(uris));
    let listener = Listener { log: Arc::downgrade(&log), kinds, watched, subscription: Some(id.clone()) };
    lock(&shared.listeners).push(listener);
    log.respond(None, ())
}

/// What the transport asks of every request.
fn check(headers: &HeaderMap, method: &str, params: &Value) -> Result<(), Fault> {
    let mismatch = |what: &str| Fault::new(StatusCode::BAD_REQUEST, HEADER_MISMATCH, what);
    let version = header(headers, VERSION_HEADER);
    let version = version.ok_or_else(|| mismatch("the header MCP-Protocol-Version is missing"))?;
    let meta = &params["_meta"];
    let (Some(named), true) = (meta[META_VERSION].as_str(), meta[META_CAPABILITIES].is_object()) else {
        let said = "_meta must name the protocol version and the client's capabilities";
        return Err(Fault { status: StatusCode::BAD_REQUEST, ..Fault::invalid(said) });
    };
    if named != version {
        return Err(mismatch("the header MCP-Protocol-Version is not what the body says"));
    }
    if version != STATELESS {
        return Err(unsupported(version));
    }
    if header(headers, "mcp-method") != Some(method) {
        return Err(mismatch("the header Mcp-Method is not what the body says"));
    }
    let name = match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        _ => None,
    };
    let said = header(headers, "mcp-name").map(decoded).transpose().map_err(|()| mismatch("Mcp-Name"))?;
    if name.is_some() && said.as_deref() != name {
        return Err(mismatch("the header Mcp-Name is not what the body says"));
    }
    check_arguments(headers, params)
}

/// Arguments that a tool wants in headers too must stand there as in the body.
fn check_arguments(headers: &HeaderMap, params: &Value) -> Result<(), Fault> {
    let tool = catalog::find("tools", "name", params["name"].as_str().unwrap_or_default());
    let properties = tool.and_then(|tool| tool["inputSchema"]["properties"].as_object());
    for (name, property) in properties.into_iter().flatten() {
        let Some(suffix) = property["x-mcp-header"].as_str() else { continue };
        let said = header(headers, &format!("mcp-param-{}", suffix.to_ascii_lowercase()));
        let said = said.map(decoded).transpose();
        let given = params["arguments"]
            .get(name)
            .map(|given| given.as_str().map_or(given.to_string(), str::to_owned));
        if said != Ok(given) {
            let what = format!("the header Mcp-Param-{suffix} is not what the body says");
            return Err(Fault::new(StatusCode::BAD_REQUEST, HEADER_MISMATCH, &what));
        }
    }
    Ok(())
}

/// The value of a header, out of `=?base64?…?=` where it is wrapped so.
fn decoded(value: &str) -> Result<String, ()> {
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        None => Ok(value.to_owned()),
        Some(wrapped) => String::from_utf8(STANDARD.decode(wrapped).map_err(|_| ())?).map_err(|_| ()),
    }
}
