//! Revision 2025-11-25: a handshake opens a session, a stream that was cut is taken up again by its last
//! event, and the server's questions are requests on the stream of the call they belong to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::stream::Log;
use super::{
    Fault, Listener, SESSION_HEADER, STATEFUL, Shared, Speaks, Step, Turn, WITH_SESSIONS, Watched, catalog,
    header, lock, methods, result, spawn, streams, wants_info,
};

/// What one client's session holds.
pub(super) struct Session {
    capabilities: Value,
    /// Answers that were streams, by number, for clients that come back.
    streams: Mutex<Vec<Arc<Log>>>,
    /// Questions that wait for their answer, by id.
    questions: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    /// Calls under way, by the text of their id.
    running: Mutex<HashMap<String, (AbortHandle, Arc<Log>)>>,
    next_question: AtomicUsize,
    log_level: Mutex<String>,
    /// The resources whose changes the client wants to hear of.
    watched: Watched,
}

impl Session {
    fn note(&self, method: &str, params: &Value) {
        let uri = params["uri"].as_str().unwrap_or_default().to_owned();
        match method {
            "logging/setLevel" => {
                *lock(&self.log_level) = params["level"].as_str().unwrap_or_default().to_owned();
            }
            "resources/subscribe" => _ = lock(&self.watched).insert(uri),
            "resources/unsubscribe" => _ = lock(&self.watched).remove(&uri),
            _ => {}
        }
    }
}

/// Answers GET (a stream) and DELETE (the end of a session).
pub(super) fn other_verb(shared: &Arc<Shared>, verb: &Method, headers: &HeaderMap) -> Response {
    if shared.speaks == Speaks::Only2026 || !matches!(*verb, Method::GET | Method::DELETE) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let session = match session(shared, headers) {
        Ok(session) => session,
        Err(fault) => return fault.respond(&Value::Null),
    };
    if verb == Method::DELETE {
        let id = header(headers, SESSION_HEADER).unwrap_or_default();
        lock(&shared.sessions).remove(id);
        return StatusCode::NO_CONTENT.into_response();
    }
    match header(headers, "last-event-id") {
        Some(last) => resume(&session, last),
        None => {
            let log = Log::new();
            let kinds = ["tools", "prompts", "resources"].map(str::to_owned).into();
            let watched = Arc::clone(&session.watched);
            let listener = Listener { log: Arc::downgrade(&log), kinds, watched, subscription: None };
            lock(&shared.listeners).push(listener);
            log.respond(None, ())
        }
    }
}

/// Takes up the stream that an event belongs to, after that event.
fn resume(session: &Session, last: &str) -> Response {
    let numbers =
        last.split_once('_').and_then(|(stream, place)| Some((stream.parse().ok()?, place.parse().ok()?)));
    let found = numbers.and_then(|(stream, place): (usize, usize)| {
        Some((lock(&session.streams).get(stream)?.clone(), stream, place))
    });
    let Some((log, stream, place)) = found else { return StatusCode::NOT_FOUND.into_response() };
    log.resume(stream.to_string(), place)
}

/// Answers one message.
pub(super) async fn answer(shared: Arc<Shared>, headers: &HeaderMap, message: &Value) -> Response {
    let (id, params) = (&message["id"], &message["params"]);
    let method = message["method"].as_str().unwrap_or_default();
    if method == "initialize" {
        return initialize(&shared, id, params);
    }
    let session = match session(&shared, headers) {
        Ok(session) => session,
        Err(fault) => return fault.respond(id),
    };
    match (method, id.is_null()) {
        ("", _) => {
            let waiting = lock(&session.questions).remove(id.as_str().unwrap_or_default());
            // a question that nobody waits for any longer needs no answer
            let _ = waiting.map(|waiting| waiting.send(message.clone()));
            StatusCode::ACCEPTED.into_response()
        }
        ("notifications/cancelled", true) => {
            cancel(&shared, &session, &params["requestId"]);
            StatusCode::ACCEPTED.into_response()
        }
        (_, true) => StatusCode::ACCEPTED.into_response(),
        ("ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe", false) => {
            session.note(method, params);
            Json(result(id, &json!({}))).into_response()
        }
        (_, false) => carry_out(shared, &session, id, method, params).await,
    }
}

fn initialize(shared: &Arc<Shared>, id: &Value, params: &Value) -> Response {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let version = if WITH_SESSIONS.contains(&asked) { asked } else { STATEFUL };
    let session = Session {
        capabilities: params["capabilities"].clone(),
        streams: Mutex::default(),
        questions: Mutex::default(),
        running: Mutex::default(),
        next_question: AtomicUsize::new(0),
        log_level: Mutex::new("info".to_owned()),
        watched: Watched::default(),
    };
    let name = format!("{:032x}", rand::random::<u128>());
    lock(&shared.sessions).insert(name.clone(), Arc::new(session));
    let answer = json!({
        "protocolVersion": version,
        "capabilities": {
            "tools": {"listChanged": true}, "prompts": {"listChanged": true},
            "resources": {"subscribe": true, "listChanged": true}, "logging": {}, "completions": {},
        },
        "serverInfo": {"name": "fixture-everything", "version": "1"},
        "instructions": "Everything here is made up.",
    });
    ([(SESSION_HEADER, name)], Json(result(id, &answer))).into_response()
}

fn session(shared: &Shared, headers: &HeaderMap) -> Result<Arc<Session>, Fault> {
    let Some(name) = header(headers, SESSION_HEADER) else {
        return Err(Fault::new(StatusCode::BAD_REQUEST, -32000, "Bad Request: Mcp-Session-Id is required"));
    };
    let found = lock(&shared.sessions).get(name).cloned();
    found.ok_or_else(|| Fault::new(StatusCode::NOT_FOUND, -32001, "Session not found"))
}

fn cancel(shared: &Shared, session: &Session, id: &Value) {
    lock(&shared.cancelled).push(id.clone());
    if let Some((task, log)) = lock(&session.running).remove(&id.to_string()) {
        task.abort();
        log.end();
    }
}

async fn carry_out(
    shared: Arc<Shared>,
    session: &Arc<Session>,
    id: &Value,
    method: &str,
    params: &Value,
) -> Response {
    let turn = Turn {
        shared,
        is_stateless: false,
        capabilities: session.capabilities.clone(),
        may_log: wants_info(&lock(&session.log_level)),
        progress_token: params["_meta"].get("progressToken").cloned(),
        out: Log::new(),
    };
    if !streams(method, params) && !asks(method, params) {
        // a status other than 200 is of the other revision
        let answer = converse(&turn, session, method, params.clone()).await;
        return Json(said(id, answer)).into_response();
    }
    let (log, stream) = (Arc::clone(&turn.out), remember(session, &turn.out));
    let (session, id) = (Arc::clone(session), id.clone());
    let (method, params) = (method.to_owned(), params.clone());
    let (keeper, key) = (Arc::clone(&session), id.to_string());
    // held until the task is noted, which takes itself out when it is done
    let mut running = lock(&keeper.running);
    let task = spawn(async move {
        let answer = converse(&turn, &session, &method, params).await;
        turn.out.say(&said(&id, answer));
        turn.out.end();
        lock(&session.running).remove(&id.to_string());
    });
    running.insert(key, (task.abort_handle(), Arc::clone(&log)));
    log.respond(Some(stream.to_string()), ())
}

fn said(id: &Value, answer: Result<Value, Fault>) -> Value {
    match answer {
        Ok(done) => result(id, &done),
        Err(fault) => fault.message(id),
    }
}

/// May a tool or a prompt ask the client something?
fn asks(method: &str, params: &Value) -> bool {
    let kind = match method {
        "tools/call" => "tools",
        "prompts/get" => "prompts",
        _ => return false,
    };
    let name = params["name"].as_str().unwrap_or_default();
    catalog::find(kind, "name", name).is_some_and(|entry| entry["fixture"]["asks"].is_array())
}

fn remember(session: &Session, log: &Arc<Log>) -> usize {
    let mut streams = lock(&session.streams);
    streams.push(Arc::clone(log));
    streams.len() - 1
}

/// Carries a request out, asking the client on its stream until everything is answered.
async fn converse(turn: &Turn, session: &Session, method: &str, mut params: Value) -> Result<Value, Fault> {
    loop {
        match methods::serve(turn, method, &params).await {
            Ok(Step::Done(done)) => return Ok(done),
            Ok(Step::Ask { questions, state }) => {
                params["requestState"] = state.into();
                if params["requestState"].is_null() {
                    params.as_object_mut().map(|params| params.remove("requestState"));
                }
                match ask(turn, session, questions).await {
                    Ok(answers) => params["inputResponses"] = answers.into(),
                    Err(why) => return Ok(failed(&format!("the client did not answer: {why}"))),
                }
            }
            // this revision has no error for what the client cannot do
            Err(fault) if fault.code == -32021 => return Ok(failed(&fault.message)),
            Err(fault) => return Err(fault),
        }
    }
}

fn failed(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": true})
}

async fn ask(
    turn: &Turn,
    session: &Session,
    questions: Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let mut answers = Map::new();
    for (key, mut question) in questions {
        let id = format!("fixture-{}", session.next_question.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        lock(&session.questions).insert(id.clone(), sender);
        question["jsonrpc"] = "2.0".into();
        question["id"] = id.into();
        turn.out.say(&question);
        let answer = receiver.await.map_err(|_| "it left".to_owned())?;
        match answer.get("result") {
            Some(result) => answers.insert(key, result.clone()),
            None => return Err(answer["error"]["message"].as_str().unwrap_or("an error").to_owned()),
        };
    }
    Ok(answers)
}
