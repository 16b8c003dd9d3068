//! Everything a project holds, a line a row, all of one moment: for its owner to keep. It ends when the client goes.

use awooop_core::ErrorCode;
use awooop_store::export::{Export, ExportError};
use axum::extract::State;
use axum::response::Response;

use crate::caller::Access;
use crate::ndjson;
use crate::problem::Problem;
use crate::state::AppState;

/// Every row of the project that means something to its owner: contracts, principals, keys without secrets, runs with
/// steps and calls, approvals, schedules, halts, budgets, the audit. A line is `{"kind": …, "row": …}`; the last one, of
/// the kind `end`, says how many there were.
#[utoipa::path(get, path = "/v1/platform/export", operation_id = "export_project", tag = "projects",
    responses(
        (status = 200, description = "The lines", body = String, content_type = "application/x-ndjson"),
        (status = 404, description = "E-REQ-004: the project has no contract yet"),
        (status = 429, description = "E-PROJECT-002: an export of it, or many of others, are under way")))]
pub(crate) async fn export_project(
    State(state): State<AppState>,
    access: Access,
) -> Result<Response, Problem> {
    let export = match state.store.export_project(access.scope()).await {
        Ok(export) => export,
        Err(ExportError::TooMany(detail)) => return Err(Problem::new(ErrorCode::Project002, detail)),
        Err(ExportError::Absent) => return Err(Problem::absent("project")),
        Err(ExportError::Store(error)) => return Err(error.into()),
    };
    Ok(ndjson::answer(futures::stream::unfold(Some(export), more)))
}

async fn more(export: Option<Export>) -> Option<(Result<Vec<u8>, awooop_store::StoreError>, Option<Export>)> {
    let mut export = export?;
    match export.next().await {
        Ok(Some(lines)) => Some((Ok(lines), Some(export))),
        Ok(None) => None,
        Err(error) => Some((Err(error), None)),
    }
}
