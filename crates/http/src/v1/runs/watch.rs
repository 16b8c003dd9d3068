//! A run's events as they happen.

use std::time::Duration;

use awooop_core::ErrorCode;
use axum::extract::State;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;

use crate::caller::Access;
use crate::problem::Problem;
use crate::query::RunPath;
use crate::sse::{EventId, Watch};
use crate::state::AppState;

/// Server-sent events: `state`, `step`, `end`; then the server closes. `Last-Event-ID` goes on after an id.
#[utoipa::path(get, path = "/v1/platform/runs/{run_id}/events", operation_id = "watch_run", tag = "runs",
    params(("Last-Event-ID" = Option<String>, Header, pattern = "^[0-9]{1,18}\\.[0-9]{1,9}$",
        description = "The id of the last event seen, `<epoch>.<n>`")),
    responses((status = 200, description = "The events", body = String, content_type = "text/event-stream")))]
pub(crate) async fn watch_run(
    State(state): State<AppState>,
    access: Access,
    RunPath(run_id): RunPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = last_event_id(&headers)?;
    let run = super::visible_run(&state, &access, run_id).await?;
    let watch = Watch::new(state.store, access.caller, run.run_id, state.draining, place);
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15)).text("alive");
    let stream = Sse::new(watch.events()).keep_alive(keep_alive);
    // proxies that buffer would hold events back
    Ok(([("x-accel-buffering", "no")], stream).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<EventId>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let id = value.to_str().ok().and_then(EventId::parse);
    let malformed = || Problem::new(ErrorCode::Req001, "Last-Event-ID is <epoch>.<n>, as events carry it");
    id.map(Some).ok_or_else(malformed)
}
