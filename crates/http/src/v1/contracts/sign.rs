//! Signing for an act on a version: that it becomes active, or that the contract ends. Signing twice is the
//! same as once.

use awooop_core::statement::Act;
use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::read::{self, VersionPath};
use super::view::{self, BreakingItem, Signatures, VersionItem};
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// What to sign for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignVersion {
    /// `activate` or `retire`.
    #[serde(default = "activate")]
    #[schema(pattern = "^(activate|retire)$", default = "activate")]
    act: String,
}

fn activate() -> String {
    Act::Activate.as_str().to_owned()
}

/// A signed version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignedVersion {
    version: VersionItem,
    signatures: Signatures,
    /// Are there enough? Then it can be activated, or retired.
    is_ready: bool,
    /// Was the signature new?
    is_changed: bool,
    /// What could hurt whoever relies on it: what the signature is for.
    breaking: Vec<BreakingItem>,
}

/// Signs as the caller.
#[utoipa::path(post, path = "/v1/platform/contracts/{kind}/{id}/versions/{version}/sign",
    operation_id = "sign_version", tag = "contracts",
    params(("If-Match" = Option<String>, Header, description = "The entity tag of the contract that was read")),
    request_body = SignVersion,
    responses(
        (status = 200, description = "It is signed, now or before", body = SignedVersion),
        (status = 409, description = "E-CONTRACT-002: not what was signed, E-CONTRACT-007: its state"),
        (status = 412, description = "E-REQ-005: another version is in force")))]
pub(crate) async fn sign_version(
    State(state): State<AppState>,
    access: Access,
    VersionPath(key, number): VersionPath,
    headers: HeaderMap,
    body: Body<SignVersion>,
) -> Result<Json<SignedVersion>, Problem> {
    let seen = read::seen_version(&headers)?;
    let invalid = || Problem::invalid_at("/act", "enum", "an act is activate or retire");
    let act = Act::parse(&body.value.act).ok_or_else(invalid)?;
    let signed = state.store.sign_version(&access.caller, &key, number, act, seen).await?;
    Ok(Json(SignedVersion {
        is_ready: signed.standing.tally.is_enough(),
        version: signed.version.into(),
        signatures: signed.standing.into(),
        is_changed: signed.is_changed,
        breaking: view::breaking(signed.effect.breaking),
    }))
}
