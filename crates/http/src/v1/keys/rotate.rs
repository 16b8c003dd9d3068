//! Rotating a key: a new one that proves and may the same; the former goes on for an overlap.

use std::time::Duration;

use awooop_core::scopes::Scopes;
use axum::Json;
use axum::extract::State;
use http::{HeaderName, StatusCode, header};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::create::{NewKeyItem, may_make_for, may_reach};
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::PathPart;
use crate::state::AppState;

/// How long the former key goes on when nothing is said, in seconds: one day.
const DEFAULT_OVERLAP_S: u64 = 86_400;

/// How a key is rotated.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKey {
    /// For how many seconds the former key goes on working, at most until it expires anyway; 86400 when left out.
    #[schema(minimum = 0, maximum = 2_592_000)]
    overlap_s: Option<u64>,
}

/// A key's successor.
#[derive(Serialize, ToSchema)]
pub(crate) struct RotatedKey {
    #[serde(flatten)]
    new: NewKeyItem,
    /// The former key's public id.
    former_key_id: String,
    /// When the former key stops working.
    #[schema(format = DateTime)]
    former_expires_at: String,
}

/// Makes a key's successor: same principal, role, agent and scopes, and as long a life from now on. Its text is in this
/// answer only. A person's key is rotated by that person or a platform admin.
#[utoipa::path(post, path = "/v1/platform/keys/{key_id}/rotate", operation_id = "rotate_key", tag = "keys",
    params(("key_id" = String, Path, pattern = "^[0-9A-Za-z]{12}$", description = "The key's public id")),
    request_body = RotateKey,
    responses(
        (status = 201, description = "The new key, shown once", body = RotatedKey),
        (status = 409, description = "E-ACCESS-001: the key is over, or was rotated before")))]
pub(crate) async fn rotate_key(
    State(state): State<AppState>,
    access: Access,
    PathPart(key_id): PathPart,
    Body { value: body, .. }: Body<RotateKey>,
) -> Result<(StatusCode, [(HeaderName, &'static str); 1], Json<RotatedKey>), Problem> {
    let absent = || Problem::absent("key");
    if !super::is_id(&key_id) {
        return Err(absent());
    }
    let former = state.store.find_key(access.scope(), &key_id).await?.ok_or_else(absent)?;
    if let Some(person) = &former.person {
        may_make_for(&access, person)?;
    }
    may_reach(&access, former.scopes.clone().map(Scopes::of_stored).as_ref())?;
    let overlap = Duration::from_secs(body.overlap_s.unwrap_or(DEFAULT_OVERLAP_S));
    let rotated = state.store.rotate_key(access.scope(), &former, overlap).await?;
    let item = super::item(access.scope(), rotated.new);
    let answer = RotatedKey {
        new: NewKeyItem { key: rotated.text.expose_secret().to_owned(), item },
        former_key_id: key_id,
        former_expires_at: rotated.former_expires_at.to_string(),
    };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(answer)))
}
