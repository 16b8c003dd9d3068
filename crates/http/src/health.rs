//! Is the process up, and can it work? Both are open: they tell nothing of any project.

use axum::extract::State;

use crate::problem::Problem;
use crate::state::AppState;

/// Answers as long as the process runs.
#[utoipa::path(get, path = "/healthz", operation_id = "get_health", tag = "server", security(()),
    responses((status = 200, description = "The process runs", body = String, content_type = "text/plain")))]
pub(crate) async fn get_health() -> &'static str {
    "ok"
}

/// Answers when the database does, or did within the last second: everybody is told what one asked.
#[utoipa::path(get, path = "/readyz", operation_id = "get_readiness", tag = "server", security(()),
    responses(
        (status = 200, description = "The server can work", body = String, content_type = "text/plain"),
        (status = 503, description = "E-STORE-001: the database does not answer")))]
pub(crate) async fn get_readiness(State(state): State<AppState>) -> Result<&'static str, Problem> {
    let store = state.store.clone();
    state.readiness.get(async move || Ok(store.ping().await?)).await?;
    Ok("ok")
}
