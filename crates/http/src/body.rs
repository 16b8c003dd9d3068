//! JSON bodies. A body is read whole (at most 1 MiB), parsed, checked against the very schema the OpenAPI
//! document shows for it, and only then typed: what the document says is what is refused. Too large is 413
//! E-REQ-002, too slow is 408 E-REQ-008, not JSON is 400 E-REQ-001, not fitting is 422 E-REQ-003 with paths.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use awooop_core::ErrorCode;
use awooop_core::schema::Schema;
use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::PartialSchema;

use crate::problem::Problem;
use crate::state::AppState;

/// Longest time from a request's head to the end of its body.
pub(crate) const BODY_WITHIN: Duration = Duration::from_secs(30);

/// A checked body, with the JSON it was read from.
pub(crate) struct Body<T> {
    /// The typed request.
    pub(crate) value: T,
    /// The document as given.
    pub(crate) document: Value,
}

impl<T: DeserializeOwned + PartialSchema + 'static> FromRequest<AppState> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let bytes = read(request, state).await?;
        if !is_json {
            return Err(Problem::new(
                ErrorCode::Req001,
                "the body must be JSON: Content-Type: application/json",
            ));
        }
        let document = parse(&bytes)?;
        schema_of::<T>().validate(&document).map_err(Problem::invalid)?;
        let value = T::deserialize(&document).map_err(|e| {
            Problem::invalid_at("", "type", e.to_string().chars().take(300).collect::<String>())
        })?;
        Ok(Self { value, document })
    }
}

/// The whole body, at most what the router allows this path, within the server's time.
pub(crate) async fn read(request: Request, state: &AppState) -> Result<Bytes, Problem> {
    let limit = crate::router::max_body_bytes(request.uri().path());
    let too_large = || Problem::new(ErrorCode::Req002, format!("a body has at most {limit} bytes"));
    // by its own word: what is too large is not waited for
    if request.body().size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let read = tokio::time::timeout(state.body_within, Bytes::from_request(request, state)).await;
    let read = read.map_err(|_| {
        let detail =
            format!("the body was not there {} s after the request's head", state.body_within.as_secs());
        Problem::new(ErrorCode::Req008, detail)
    })?;
    read.map_err(|rejection| {
        if rejection.status() == http::StatusCode::PAYLOAD_TOO_LARGE {
            too_large()
        } else {
            Problem::new(ErrorCode::Req001, "the body could not be read to its end")
        }
    })
}

/// Parses JSON; the refusal tells the place and repeats nothing.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(bytes).map_err(|e| {
        let detail = format!("the body is not JSON: line {}, column {}", e.line(), e.column());
        Problem::new(ErrorCode::Req001, detail)
    })
}

/// Does the one `Content-Type` say JSON?
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(text)) = headers.get(header::CONTENT_TYPE).map(|v| v.to_str()) else { return false };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The compiled schema of a request type. Such types are flat: they refer to no other schema.
fn schema_of<T: PartialSchema + 'static>() -> Schema {
    static COMPILED: LazyLock<Mutex<HashMap<TypeId, Schema>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().expect("no panic while held");
    let make = || {
        let schema = awooop_core::json::to_value(&T::schema());
        Schema::compile(&schema).expect("a request's own schema compiles")
    };
    compiled.entry(TypeId::of::<T>()).or_insert_with(make).clone()
}
