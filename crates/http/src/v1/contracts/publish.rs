//! Publishing a draft: it is checked once more, fixed and signed. Publishing twice is the same as once.

use awooop_core::ErrorCode;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;

use super::read::{self, VersionPath};
use super::view::{self, VersionItem};
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// Fixes and signs a draft.
#[utoipa::path(post, path = "/v1/platform/contracts/{kind}/{id}/versions/{version}/publish",
    operation_id = "publish_version", tag = "contracts",
    params(("If-Match" = Option<String>, Header, description = "The entity tag of the draft that was read")),
    responses(
        (status = 200, description = "It is published, now or before", body = VersionItem,
            headers(("ETag" = String))),
        (status = 409, description = "E-CONTRACT-002: it is not what was drafted"),
        (status = 412, description = "E-REQ-005: the draft has changed"),
        (status = 422, description = "E-CONTRACT-001: it is not valid any more")))]
pub(crate) async fn publish_version(
    State(state): State<AppState>,
    access: Access,
    VersionPath(key, number): VersionPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let expected = read::if_match(&headers)?;
    let found = state.store.find_version(access.scope(), &key, number).await?;
    let draft = found.ok_or_else(|| Problem::absent("version"))?;
    if expected.is_some_and(|sha256| sha256 != draft.sha256) {
        return Err(Problem::new(
            ErrorCode::Req005,
            format!("{} has changed since it was read", draft.name()),
        ));
    }
    let invalid = |found| Problem::of_violations(ErrorCode::Contract001, found);
    read::manifest(&state, draft.document.clone()).map_err(invalid)?;
    // what was checked is what is published
    let version = state.store.publish_version(&access.caller, &key, number, Some(&draft.sha256)).await?;
    Ok((view::etag(&version), Json(VersionItem::from(version))).into_response())
}
