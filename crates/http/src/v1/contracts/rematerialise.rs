//! Repair: the rows that the engine and the gates read are made anew from the active contracts.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// What was repaired.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Repaired {
    /// What was not as the active contracts say.
    items: Vec<RepairedRow>,
    /// Was anything written?
    is_changed: bool,
}

/// One row that was not as it should be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RepairedRow {
    /// What it is about, such as `grant of shop__refund to agent clerk`.
    what: String,
    /// `restored` or `removed`.
    change: &'static str,
}

/// Restores every materialised row.
#[utoipa::path(post, path = "/v1/platform/contracts/rematerialise", operation_id = "rematerialise_contracts",
    tag = "contracts",
    responses(
        (status = 200, description = "Every row is as the active contracts say", body = Repaired),
        (status = 404, description = "E-REQ-004: the project does not exist"),
        (status = 409, description = "E-CONTRACT-002: an active contract is not what was signed")))]
pub(crate) async fn rematerialise_contracts(
    State(state): State<AppState>,
    access: Access,
) -> Result<Json<Repaired>, Problem> {
    let found = state.store.rematerialise(&access.caller).await?;
    let is_changed = !found.is_empty();
    let items = found.into_iter().map(|one| RepairedRow {
        what: one.what,
        change: if one.is_missing { "restored" } else { "removed" },
    });
    Ok(Json(Repaired { items: items.collect(), is_changed }))
}
