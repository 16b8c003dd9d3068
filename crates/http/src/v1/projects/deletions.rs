//! Projects that are being deleted, or were, by id, for the platform's admins. Anybody else acts in a project that is
//! there, and so sees none.

use awooop_core::ProjectId;
use awooop_store::deletion::Deletion;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Access;
use crate::page::{List, Page};
use crate::problem::Problem;
use crate::query::{PageQuery, Params};
use crate::state::AppState;

/// A project that is being deleted, or was.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletionItem {
    /// Its id, which no project gets again.
    project_id: String,
    /// `marked`: nothing of it is served; `erasing`: its rows go; `deleted`: none is left.
    state: &'static str,
    #[schema(format = DateTime)]
    requested_at: String,
    /// Since when its rows go.
    #[schema(format = DateTime)]
    erasing_at: Option<String>,
    /// When the last one was gone.
    #[schema(format = DateTime)]
    deleted_at: Option<String>,
}

impl DeletionItem {
    /// As people are shown it.
    pub(crate) fn of(deletion: Deletion) -> Self {
        Self {
            project_id: deletion.project.to_string(),
            state: deletion.state.as_str(),
            requested_at: deletion.requested_at.to_string(),
            erasing_at: deletion.erasing_at.map(|at| at.to_string()),
            deleted_at: deletion.deleted_at.map(|at| at.to_string()),
        }
    }
}

/// Projects that are being deleted, or were.
#[utoipa::path(get, path = "/v1/platform/deletions", operation_id = "list_deletions", tag = "projects",
    params(PageQuery),
    responses((status = 200, description = "A page of deletions, by id", body = Page<DeletionItem>)))]
pub(crate) async fn list_deletions(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<DeletionItem>>, Problem> {
    let limit = query.limit()?;
    let list = List { name: "deletions", project: access.scope().project() };
    let after = list.read(query.cursor.as_deref(), |key| ProjectId::parse(key).ok())?;
    let after = after.as_ref().map_or("", ProjectId::as_str);
    let found = match access.caller.is_platform_admin() {
        true => state.store.list_deletions(after, false, limit as i64 + 1).await?,
        false => Vec::new(),
    };
    Ok(Json(list.page(found, limit, |deletion| deletion.project.to_string(), DeletionItem::of)))
}
