//! Deleting a project, for the platform's admins. When the answer comes nothing of it is served any more, on any node; its
//! rows go in the background. Asking again tells how that stands.

use std::collections::BTreeMap;

use awooop_core::{ErrorCode, ProjectId};
use awooop_store::deletion::{DeletionState, MOST_COUNTED};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::deletions::DeletionItem;
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::PathPart;
use crate::state::AppState;

/// What is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteRequest {
    /// The project's id once more.
    confirm: String,
    /// Why, for whoever reads the audit.
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// Only count what would go.
    #[serde(default)]
    dry_run: bool,
}

/// What is done, or would be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeleteAnswer {
    is_dry_run: bool,
    /// How the deletion stands; null for a dry run.
    deletion: Option<DeletionItem>,
    /// Rows by table that would go; null but for a dry run.
    rows: Option<BTreeMap<String, i64>>,
    /// Tables that have more rows than `rows` says, which counts no further than 1,000,000; null but for a dry run.
    more_than: Option<Vec<String>>,
    /// Does this server delete the rows? Otherwise one does that has `AWOOOP_RETENTION_DATABASE_URL`.
    is_erased_here: bool,
}

/// Deletes a project and everything in it, for good. Only the platform's admins may.
#[utoipa::path(post, path = "/v1/platform/projects/{project_id}/delete", operation_id = "delete_project",
    tag = "projects", params(("project_id" = String, Path, description = "The project's id")),
    request_body = DeleteRequest,
    responses(
        (status = 202, description = "Nothing of it is served any more; its rows go", body = DeleteAnswer),
        (status = 200, description = "A dry run, or it was deleted before", body = DeleteAnswer),
        (status = 403, description = "E-AUTH-002: a project's own admin may not"),
        (status = 404, description = "E-REQ-004: there is no such project"),
        (status = 410, description = "E-PROJECT-001: a dry run of a project that was deleted"),
        (status = 422, description = "E-REQ-003: `confirm` is not the id, or it is the operators' own project")))]
pub(crate) async fn delete_project(
    State(state): State<AppState>,
    access: Access,
    PathPart(id): PathPart,
    Body { value: body, .. }: Body<DeleteRequest>,
) -> Result<(StatusCode, Json<DeleteAnswer>), Problem> {
    let absent = || Problem::absent("project");
    let project = ProjectId::parse(&id).map_err(|_| absent())?;
    if !access.caller.is_platform_admin() {
        // of another project nobody learns whether it is there
        let is_own = project == *access.caller.home();
        let detail = "only the platform's admins delete projects";
        return Err(if is_own { Problem::new(ErrorCode::Auth002, detail) } else { absent() });
    }
    if project.is_platform() {
        let detail = "the operators' own project cannot be deleted";
        return Err(Problem::invalid_at("/project_id", "project", detail));
    }
    if body.confirm != id {
        return Err(Problem::invalid_at("/confirm", "confirm", "confirm says the project's id once more"));
    }
    let is_erased_here = state.store.is_erasing();
    if body.dry_run {
        let counts = state.store.count_project(&access.caller, &project).await?.ok_or_else(absent)?;
        let more_than = counts.iter().filter(|(_, n)| *n > MOST_COUNTED).map(|(t, _)| (*t).to_owned());
        let more_than = Some(more_than.collect());
        let rows = counts.into_iter().map(|(table, n)| (table.to_owned(), n.min(MOST_COUNTED)));
        let rows = Some(rows.collect());
        let answer = DeleteAnswer { is_dry_run: true, deletion: None, rows, more_than, is_erased_here };
        return Ok((StatusCode::OK, Json(answer)));
    }
    let reason = body.reason.as_deref().unwrap_or_default();
    let (deletion, _) =
        state.store.delete_project(&access.caller, &project, reason).await?.ok_or_else(absent)?;
    let status = match deletion.state {
        DeletionState::Deleted => StatusCode::OK,
        DeletionState::Marked | DeletionState::Erasing => StatusCode::ACCEPTED,
    };
    let deletion = Some(DeletionItem::of(deletion));
    Ok((
        status,
        Json(DeleteAnswer { is_dry_run: false, deletion, rows: None, more_than: None, is_erased_here }),
    ))
}
