//! Ending a contract. It needs the same signatures as a change; this request adds the caller's.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use super::read::{self, ContractPath};
use super::view::{self, AppliedContract};
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// Signs that the contract ends, and ends it once enough people have.
#[utoipa::path(post, path = "/v1/platform/contracts/{kind}/{id}/retire", operation_id = "retire_contract",
    tag = "contracts",
    params(("If-Match" = Option<String>, Header, description = "The entity tag of the contract that was read")),
    responses(
        (status = 200, description = "It has ended", body = AppliedContract),
        (status = 202, description = "It waits for more signatures", body = AppliedContract),
        (status = 409, description = "E-CONTRACT-002: not what was signed, E-CONTRACT-007: its state"),
        (status = 412, description = "E-REQ-005: another version is in force"),
        (status = 422, description = "E-CONTRACT-001: something active needs it")))]
pub(crate) async fn retire_contract(
    State(state): State<AppState>,
    access: Access,
    ContractPath(key): ContractPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = read::seen_version(&headers)?;
    let retired = state.store.retire_contract(&access.caller, &key, seen).await?;
    let status = if retired.is_done { StatusCode::OK } else { StatusCode::ACCEPTED };
    let document: AppliedContract = view::applied(retired, Vec::new(), false);
    Ok((status, Json(document)).into_response())
}
