//! One principal.

use axum::Json;
use axum::extract::State;

use super::PrincipalItem;
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::PathPart;
use crate::state::AppState;

/// A principal of the project.
#[utoipa::path(get, path = "/v1/platform/principals/{principal_id}", operation_id = "get_principal",
    tag = "principals", responses((status = 200, description = "The principal", body = PrincipalItem)))]
pub(crate) async fn get_principal(
    State(state): State<AppState>,
    access: Access,
    PathPart(name): PathPart,
) -> Result<Json<PrincipalItem>, Problem> {
    let id = super::principal_id(&name)?;
    let found = state.store.find_principal(access.scope(), id.as_str()).await?;
    let found = found.ok_or_else(|| Problem::absent("principal"))?;
    Ok(Json(super::item(access.scope(), found)))
}
