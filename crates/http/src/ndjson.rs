//! Long answers as one JSON document a line (`application/x-ndjson`), written while they are read, so that their
//! length costs no memory. What fails midway ends the answer with a line `{"error": …}`: the status has gone out
//! already.

use awooop_store::StoreError;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use http::header;
use serde_json::json;

use crate::problem::Problem;

/// Media type of such an answer.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// An answer out of chunks of whole lines.
pub(crate) fn answer(chunks: impl Stream<Item = Result<Vec<u8>, StoreError>> + Send + 'static) -> Response {
    let chunks = chunks.map(|chunk| Ok::<_, std::convert::Infallible>(chunk.unwrap_or_else(failed)));
    // proxies that buffer would hold everything back until the end
    let headers = [(header::CONTENT_TYPE, NDJSON), (header::CACHE_CONTROL, "no-store")];
    (headers, [("x-accel-buffering", "no")], Body::from_stream(chunks)).into_response()
}

/// One line.
pub(crate) fn line(document: &serde_json::Value) -> Vec<u8> {
    let mut line = document.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn failed(error: StoreError) -> Vec<u8> {
    let problem = Problem::from(error);
    problem.log();
    line(&json!({"error": {"code": problem.code().as_str(), "detail": problem.detail()}}))
}
