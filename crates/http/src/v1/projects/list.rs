//! The caller's own project; for a platform admin who names none, all of them by id.

use awooop_core::ProjectId;
use awooop_store::project::Project;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Access;
use crate::page::{List, Page};
use crate::problem::Problem;
use crate::query::{PageQuery, Params};
use crate::state::AppState;

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectItem {
    project_id: String,
    display_name: String,
    /// `active`, `paused` or `stopped`.
    state: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// Where the project's contract limits what it may store.
    storage: Option<StorageUsed>,
}

/// What a project has stored, of what it may.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StorageUsed {
    max_bytes: i64,
    /// As it was counted last; null before the first count.
    stored_bytes: Option<i64>,
    #[schema(format = DateTime)]
    counted_at: Option<String>,
}

/// The caller's project, or all projects for a platform admin who names none.
#[utoipa::path(get, path = "/v1/platform/projects", operation_id = "list_projects", tag = "projects",
    params(PageQuery),
    responses((status = 200, description = "A page of projects, by id", body = Page<ProjectItem>)))]
pub(crate) async fn list_projects(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<ProjectItem>>, Problem> {
    let limit = query.limit()?;
    let list = List { name: "projects", project: access.scope().project() };
    let after = list.read(query.cursor.as_deref(), |key| ProjectId::parse(key).ok())?;
    let ids = if access.caller.is_platform_admin() && !access.is_project_named {
        let after = after.as_ref().map_or("", ProjectId::as_str);
        state.store.project_ids(after, limit as i64 + 1).await?
    } else {
        vec![access.scope().project().clone()]
    };
    let page = list.page(ids, limit, ProjectId::to_string, |id| IdItem(id.to_string()));
    let mut items = Vec::with_capacity(page.items.len());
    for IdItem(id) in page.items {
        items.extend(find(&state, &access, &id).await?.map(item));
    }
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// What a project says of itself is read in its own scope.
async fn find(state: &AppState, access: &Access, id: &str) -> Result<Option<Project>, Problem> {
    let inside = ProjectId::parse(id).ok().and_then(|id| access.caller.act_in(&id));
    match inside {
        Some(caller) => Ok(state.store.find_project(caller.scope()).await?),
        None => Ok(None),
    }
}

#[derive(ToSchema)]
struct IdItem(String);

fn item(project: Project) -> ProjectItem {
    ProjectItem {
        project_id: project.project_id,
        display_name: project.display_name,
        state: project.state,
        created_at: project.created_at.to_string(),
        storage: project.storage.map(|storage| StorageUsed {
            max_bytes: storage.max_bytes,
            stored_bytes: storage.counted.map(|(bytes, _)| bytes),
            counted_at: storage.counted.map(|(_, at)| at.to_string()),
        }),
    }
}
