//! Enabling a principal that was disabled: those of its keys that were not revoked count again.

use awooop_store::principal::Change;
use axum::Json;
use axum::extract::State;

use super::PrincipalItem;
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::PathPart;
use crate::state::AppState;

/// Enables a principal: its keys and tokens count again.
#[utoipa::path(post, path = "/v1/platform/principals/{principal_id}/enable", operation_id = "enable_principal",
    tag = "principals",
    responses((status = 200, description = "It is enabled, now or before", body = PrincipalItem)))]
pub(crate) async fn enable_principal(
    State(state): State<AppState>,
    access: Access,
    PathPart(name): PathPart,
) -> Result<Json<PrincipalItem>, Problem> {
    super::change(&state, &access, &name, Change::Enable, false).await
}
