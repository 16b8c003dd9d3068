//! JSON-RPC answers. A refusal of the transport has an HTTP status; a refusal of a request that was read
//! is HTTP 200 with an error. `data.code` is the stable code either way.

use awooop_core::ErrorCode;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use crate::problem::Problem;

/// JSON-RPC: the message is not JSON.
const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: the message is not a request.
const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: the parameters are not valid; MCP: an unknown tool.
pub(super) const INVALID_PARAMS: i32 = -32602;
/// JSON-RPC: a fault on our side.
const INTERNAL: i32 = -32603;
/// Ours: a gate said no.
pub(super) const REFUSED: i32 = -32001;

/// A refusal before the request itself was reached.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    problem: Option<Problem>,
    error: Value,
}

impl Refusal {
    /// What the transport does not allow.
    pub(super) fn transport(status: u16, message: &str) -> Self {
        let status = StatusCode::from_u16(status).expect("a status of ours");
        let error = json!({"code": INVALID_REQUEST, "message": message, "data": {"code": ErrorCode::Req001}});
        Self { status, problem: None, error }
    }

    /// A body that is not JSON.
    pub(super) fn parse_error(message: &str) -> Self {
        let error = json!({"code": PARSE_ERROR, "message": message, "data": {"code": ErrorCode::Req001}});
        Self { status: StatusCode::BAD_REQUEST, problem: None, error }
    }

    /// An error in rmcp's own form.
    pub(super) fn of_rmcp(status: StatusCode, error: &rmcp::ErrorData) -> Self {
        Self { status, problem: None, error: awooop_core::json::to_value(error) }
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
        Self { status, problem: Some(problem.clone()), error }
    }

    /// The response.
    pub(super) fn into_response(self) -> Response {
        let body = json!({"jsonrpc": "2.0", "id": null, "error": self.error});
        let mut response = (self.status, Json(body)).into_response();
        if let Some(problem) = self.problem {
            problem.log();
            problem.mark(response.headers_mut());
        }
        response
    }
}

/// A request's result.
pub(super) fn result(id: &Value, result: &Value) -> Response {
    Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response()
}

/// A request's refusal.
pub(super) fn error(id: &Value, number: i32, message: &str, code: ErrorCode) -> Response {
    let error = json!({"code": number, "message": message, "data": {"code": code}});
    Json(json!({"jsonrpc": "2.0", "id": id, "error": error})).into_response()
}

/// A call that a gate refused.
pub(super) fn refusal(id: &Value, number: i32, refusal: &awooop_core::gate::Refusal) -> Response {
    let mut data = json!({"code": refusal.code});
    if let Some(seconds) = refusal.retry_after_s {
        data["retry_after_s"] = json!(seconds);
    }
    let error = json!({"code": number, "message": refusal.message, "data": data});
    Json(json!({"jsonrpc": "2.0", "id": id, "error": error})).into_response()
}

/// A request that the database left without an answer.
pub(super) fn store_error(id: &Value, error: awooop_store::StoreError) -> Response {
    let problem = Problem::from(error);
    problem.log();
    self::error(id, INTERNAL, problem.detail(), problem.code())
}
