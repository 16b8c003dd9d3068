//! Activating a version that enough people have signed for; an older one, too: that is going back.

use axum::Json;
use axum::extract::State;
use http::HeaderMap;

use super::read::{self, VersionPath};
use super::view::{self, AppliedContract};
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// Makes a version the one in force.
#[utoipa::path(post, path = "/v1/platform/contracts/{kind}/{id}/versions/{version}/activate",
    operation_id = "activate_version", tag = "contracts",
    params(("If-Match" = Option<String>, Header, description = "The entity tag of the contract that was read")),
    responses(
        (status = 200, description = "It is in force, now or before", body = AppliedContract),
        (status = 409, description = "E-CONTRACT-003: signatures missing, E-CONTRACT-005: too old, E-CONTRACT-006: \
            another version was faster, E-CONTRACT-002: not what was signed, E-CONTRACT-007: its state"),
        (status = 412, description = "E-REQ-005: another version is in force"),
        (status = 422, description = "E-CONTRACT-001: it does not fit what is active")))]
pub(crate) async fn activate_version(
    State(state): State<AppState>,
    access: Access,
    VersionPath(key, number): VersionPath,
    headers: HeaderMap,
) -> Result<Json<AppliedContract>, Problem> {
    let seen = read::seen_version(&headers)?;
    let applied = state.store.activate_version(&access.caller, &key, number, seen).await?;
    Ok(Json(view::applied(applied, Vec::new(), false)))
}
