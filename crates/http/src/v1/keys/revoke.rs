//! Revoking a key: it is refused from now on. Revoking twice keeps the first time.

use axum::Json;
use axum::extract::State;

use super::KeyItem;
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::PathPart;
use crate::state::AppState;

/// Revokes a key of the project, for good.
#[utoipa::path(post, path = "/v1/platform/keys/{key_id}/revoke", operation_id = "revoke_key", tag = "keys",
    params(("key_id" = String, Path, pattern = "^[0-9A-Za-z]{12}$", description = "The key's public id")),
    responses((status = 200, description = "It is revoked, now or before", body = KeyItem)))]
pub(crate) async fn revoke_key(
    State(state): State<AppState>,
    access: Access,
    PathPart(key_id): PathPart,
) -> Result<Json<KeyItem>, Problem> {
    let absent = || Problem::absent("key");
    if !super::is_id(&key_id) {
        return Err(absent());
    }
    let key = state.store.revoke_key(access.scope(), &key_id).await?.ok_or_else(absent)?;
    Ok(Json(super::item(access.scope(), key)))
}
