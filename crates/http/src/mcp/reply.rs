//! JSON-RPC answers. A refusal of the transport has an HTTP status; a refusal of a request that was read
//! is HTTP 200 with an error. `data.code` is the stable code either way.

use awooop_core::ErrorCode;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::Wishes;
use crate::problem::Problem;

/// JSON-RPC: the message is not JSON.
const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: the message is not a request.
const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: the parameters are not valid; MCP: an unknown tool.
pub(super) const INVALID_PARAMS: i32 = -32602;
/// JSON-RPC: a fault on our side.
const INTERNAL: i32 = -32603;
/// Where a request of revision 2026-07-28 says from which severity on it wants log messages.
const LEVEL_META: &str = "io.modelcontextprotocol/logLevel";
/// Where a result of revision 2026-07-28 says who made it.
const SERVER_META: &str = "io.modelcontextprotocol/serverInfo";
/// Ours: a gate said no.
pub(super) const REFUSED: i32 = -32001;

/// A refusal before the request itself was reached.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    problem: Option<Box<Problem>>,
    id: Value,
    error: Value,
}

impl Refusal {
    #[cfg(test)]
    pub(super) fn number(&self) -> i64 {
        self.error["code"].as_i64().expect("each has a number")
    }

    /// What the transport does not allow.
    pub(super) fn transport(status: u16, message: &str) -> Self {
        let status = StatusCode::from_u16(status).expect("a status of ours");
        Self::of(status, INVALID_REQUEST, message, None)
    }

    /// A JSON-RPC error with its status; `data` gets a code beside what is given.
    pub(super) fn of(status: StatusCode, number: i32, message: &str, data: Option<Value>) -> Self {
        let mut data = data.unwrap_or_else(|| json!({}));
        data["code"] = json!(ErrorCode::Req001);
        let error = json!({"code": number, "message": message, "data": data});
        Self { status, problem: None, id: Value::Null, error }
    }

    /// The same, to the request with this id.
    pub(super) fn to(self, id: Option<&Value>) -> Self {
        Self { id: id.cloned().unwrap_or_default(), ..self }
    }

    /// A body that is not JSON.
    pub(super) fn parse_error(message: &str) -> Self {
        Self::of(StatusCode::BAD_REQUEST, PARSE_ERROR, message, None)
    }

    /// What the rest of the API would answer with a problem document. Without a valid key it is gate 1
    /// that refuses.
    pub(super) fn of_problem(problem: &Problem) -> Self {
        let status = problem.status();
        let (number, code) = match problem.code() {
            ErrorCode::Auth001 => (REFUSED, ErrorCode::Gate001),
            ErrorCode::Store001 => (INTERNAL, ErrorCode::Store001),
            code => (INVALID_REQUEST, code),
        };
        let error = json!({"code": number, "message": problem.detail(), "data": {"code": code}});
        Self { status, problem: Some(Box::new(problem.clone())), id: Value::Null, error }
    }

    /// The response.
    pub(super) fn into_response(self) -> Response {
        let body = json!({"jsonrpc": "2.0", "id": self.id, "error": self.error});
        let mut response = (self.status, Json(body)).into_response();
        if let Some(problem) = self.problem {
            problem.log();
            problem.mark(response.headers_mut());
        }
        response
    }
}

/// How long a client may take a list for true without asking, in milliseconds; what a call may do is judged anew each time.
const LIST_TTL_MS: u32 = 10_000;

/// A request that is answered, and in which form.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    id: Value,
    is_stateless: bool,
}

impl Asked {
    /// In a revision with a handshake.
    pub(super) fn legacy(id: Value) -> Self {
        Self { id, is_stateless: false }
    }

    /// In revision 2026-07-28.
    pub(super) fn stateless(id: Value) -> Self {
        Self { id, is_stateless: true }
    }

    /// The request's id.
    pub(super) fn id(&self) -> &Value {
        &self.id
    }

    /// What its client wants to hear before the answer. Without a handshake it says so in each request; with one it gets
    /// every log message of its own calls, since there is no session that would remember a level.
    pub(super) fn wishes(&self, params: Option<&Value>) -> Wishes {
        let meta = params.and_then(|params| params.get("_meta"));
        let log_level = match self.is_stateless {
            true => meta.and_then(|meta| meta.get(LEVEL_META)?.as_str()).map(str::to_owned),
            false => Some("debug".to_owned()),
        };
        let token = meta.and_then(|meta| meta.get("progressToken"));
        let progress_token = token.filter(|token| token.is_string() || token.is_number()).cloned();
        Wishes { progress_token, log_level }
    }

    /// Its result, as a message.
    pub(super) fn result_document(&self, mut result: Value) -> Value {
        if self.is_stateless {
            result["resultType"] = "complete".into();
            let us = json!({"name": "awooop", "version": env!("CARGO_PKG_VERSION")});
            match result.get_mut("_meta").and_then(Value::as_object_mut) {
                Some(meta) => drop(meta.insert(SERVER_META.to_owned(), us)),
                None => result["_meta"] = json!({ SERVER_META: us }),
            }
        }
        json!({"jsonrpc": "2.0", "id": self.id, "result": result})
    }

    /// A result that is this caller's and stays true for a while.
    pub(super) fn listing(&self, mut result: Value) -> Response {
        if self.is_stateless {
            result["ttlMs"] = LIST_TTL_MS.into();
            result["cacheScope"] = "private".into();
        }
        Json(self.result_document(result)).into_response()
    }

    /// Its refusal, as a message.
    pub(super) fn error_document(&self, number: i32, message: &str, code: ErrorCode) -> Value {
        let error = json!({"code": number, "message": message, "data": {"code": code}});
        json!({"jsonrpc": "2.0", "id": self.id, "error": error})
    }

    /// Its refusal.
    pub(super) fn error(&self, number: i32, message: &str, code: ErrorCode) -> Response {
        Json(self.error_document(number, message, code)).into_response()
    }

    /// What a gate refused, as a message.
    pub(super) fn refusal_document(&self, number: i32, refusal: &awooop_core::gate::Refusal) -> Value {
        let mut document = self.error_document(number, &refusal.message, refusal.code);
        if let Some(seconds) = refusal.retry_after_s {
            document["error"]["data"]["retry_after_s"] = seconds.into();
        }
        document
    }

    /// The database left it without an answer.
    pub(super) fn store_error_document(&self, error: awooop_store::StoreError) -> Value {
        let problem = Problem::from(error);
        problem.log();
        self.error_document(INTERNAL, problem.detail(), problem.code())
    }
}
