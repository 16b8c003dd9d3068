//! Approvals: what waits for people, and their decisions.

pub(crate) mod decide;
pub(crate) mod get;
pub(crate) mod list;
mod view;

use axum::extract::FromRequestParts;
use http::request::Parts;
use uuid::Uuid;

use crate::problem::Problem;
use crate::query::PathPart;
use crate::state::AppState;

/// The `{approval_id}` of a path.
pub(crate) struct ApprovalPath(pub(crate) Uuid);

impl FromRequestParts<AppState> for ApprovalPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let PathPart(text) = PathPart::from_request_parts(parts, state).await?;
        let is_plain = text.len() == 36;
        text.parse().ok().filter(|_| is_plain).map(Self).ok_or_else(|| Problem::absent("approval"))
    }
}
