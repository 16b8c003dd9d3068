//! Signing again after a rotation: everything that loads is put under the current key, so that the former one
//! can be retired.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// How much was signed again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Resigned {
    /// Versions, activations and waiting signatures that are now under the current key.
    signed: u64,
}

/// Puts the project's contracts under the current key. What does not load stays as it is.
#[utoipa::path(post, path = "/v1/platform/contracts/resign", operation_id = "resign_contracts", tag = "contracts",
    responses(
        (status = 200, description = "All of it is under the current key", body = Resigned),
        (status = 404, description = "E-REQ-004: the project does not exist")))]
pub(crate) async fn resign_contracts(
    State(state): State<AppState>,
    access: Access,
) -> Result<Json<Resigned>, Problem> {
    let signed = state.store.resign_contracts(&access.caller).await?;
    Ok(Json(Resigned { signed }))
}
