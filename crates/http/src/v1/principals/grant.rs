//! Granting a principal its role, in place of the one it had. Its keys have it with their next request.

use awooop_core::role::Role;
use awooop_store::principal::Change;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::PrincipalItem;
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::PathPart;
use crate::state::AppState;

/// The role a principal is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantRole {
    /// In place of the role it has.
    #[schema(pattern = "^(admin|operator|approver|viewer)$")]
    role: String,
    /// Do it even if the project is left without an admin whose key works. Never so in the project `platform`.
    #[serde(default)]
    #[schema(required = false)]
    even_if_last: bool,
}

/// Gives a principal this role in place of the one it has.
#[utoipa::path(post, path = "/v1/platform/principals/{principal_id}/role", operation_id = "grant_role",
    tag = "principals", request_body = GrantRole,
    responses(
        (status = 200, description = "It has the role, now or before", body = PrincipalItem),
        (status = 409, description = "E-ACCESS-002: it is the last admin with a key that works. E-ACCESS-001: it is \
            an agent, or a person who signs in")))]
pub(crate) async fn grant_role(
    State(state): State<AppState>,
    access: Access,
    PathPart(name): PathPart,
    Body { value: body, .. }: Body<GrantRole>,
) -> Result<Json<PrincipalItem>, Problem> {
    let role = Role::parse(&body.role).filter(|role| *role != Role::Agent);
    let role = role.ok_or_else(|| {
        Problem::invalid_at("/role", "enum", "a role is admin, operator, approver or viewer")
    })?;
    super::change(&state, &access, &name, Change::Grant(role), body.even_if_last).await
}
