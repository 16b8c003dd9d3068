//! Disabling a principal: all of its keys, and a person's tokens, are refused from now on.

use awooop_store::principal::Change;
use axum::Json;
use axum::extract::State;

use super::{PrincipalItem, TakeAway};
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::PathPart;
use crate::state::AppState;

/// Disables a principal. Every node refuses its keys and tokens from now on; what it began goes on.
#[utoipa::path(post, path = "/v1/platform/principals/{principal_id}/disable", operation_id = "disable_principal",
    tag = "principals", request_body = TakeAway,
    responses(
        (status = 200, description = "It is disabled, now or before", body = PrincipalItem),
        (status = 409, description = "E-ACCESS-002: it is the last admin with a key that works")))]
pub(crate) async fn disable_principal(
    State(state): State<AppState>,
    access: Access,
    PathPart(name): PathPart,
    Body { value: body, .. }: Body<TakeAway>,
) -> Result<Json<PrincipalItem>, Problem> {
    super::change(&state, &access, &name, Change::Disable, body.even_if_last).await
}
