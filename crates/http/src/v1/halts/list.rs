//! What is held back in the project, oldest first, all on one page: each is there because a person wanted it.

use axum::Json;
use axum::extract::State;

use super::HaltItem;
use crate::caller::Access;
use crate::page::Page;
use crate::problem::Problem;
use crate::state::AppState;

/// What is paused or stopped in the project, and everywhere, oldest first.
#[utoipa::path(get, path = "/v1/platform/halts", operation_id = "list_halts", tag = "halts",
    responses((status = 200, description = "All of them; there is no further page", body = Page<HaltItem>)))]
pub(crate) async fn list_halts(
    State(state): State<AppState>,
    access: Access,
) -> Result<Json<Page<HaltItem>>, Problem> {
    let halts = state.store.list_halts(access.scope()).await?;
    Ok(Json(Page { items: halts.into_iter().map(HaltItem::of).collect(), next_cursor: None }))
}
