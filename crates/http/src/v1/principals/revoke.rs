//! Taking a principal's role: its keys are refused until it has one again.

use awooop_store::principal::Change;
use axum::Json;
use axum::extract::State;

use super::{PrincipalItem, TakeAway};
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::PathPart;
use crate::state::AppState;

/// Takes a principal's role. Its keys are refused until it is granted one.
#[utoipa::path(post, path = "/v1/platform/principals/{principal_id}/role/revoke", operation_id = "revoke_role",
    tag = "principals", request_body = TakeAway,
    responses(
        (status = 200, description = "It has no role, now or before", body = PrincipalItem),
        (status = 409, description = "E-ACCESS-002: it is the last admin with a key that works. E-ACCESS-001: it is \
            an agent, or a person who signs in")))]
pub(crate) async fn revoke_role(
    State(state): State<AppState>,
    access: Access,
    PathPart(name): PathPart,
    Body { value: body, .. }: Body<TakeAway>,
) -> Result<Json<PrincipalItem>, Problem> {
    super::change(&state, &access, &name, Change::Revoke, body.even_if_last).await
}
