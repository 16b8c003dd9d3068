//! Applying manifests: all are checked, each against its closed schema, together against each other and
//! against what the operator allows on the host; then one transaction publishes, signs as the caller and,
//! with enough signatures, activates them, or changes nothing.

use awooop_core::contract::Manifest;
use awooop_store::contract::{Applied, ApplyOptions};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::read;
use super::view::{self, AppliedContract};
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// Where manifests are applied.
pub(crate) const PATH: &str = "/v1/platform/contracts";
/// Largest body of this request: 8 MiB.
pub(crate) const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Manifests of one project.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplyContracts {
    /// Each an object with kind, project, id and spec.
    #[schema(min_items = 1, max_items = 2000, value_type = Vec<Object>)]
    manifests: Vec<Value>,
    /// Check everything, say what would change, and change nothing.
    #[serde(default)]
    #[schema(default = false)]
    dry_run: bool,
    /// Retire active contracts that no manifest names; the project's own stays.
    #[serde(default)]
    #[schema(default = false)]
    prune: bool,
}

/// What applying did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppliedContracts {
    project_id: String,
    /// One item a manifest, and one for each contract that is retired.
    items: Vec<AppliedContract>,
    /// Was anything written?
    is_changed: bool,
    /// Does anything wait for signatures? Then nothing was activated.
    is_waiting: bool,
    /// Was it only asked what would happen?
    is_dry_run: bool,
}

/// Applies manifests, all or none. Applying the same again changes nothing.
#[utoipa::path(post, path = "/v1/platform/contracts", operation_id = "apply_contracts", tag = "contracts",
    request_body = ApplyContracts,
    responses(
        (status = 200, description = "They are active, or it was a dry run", body = AppliedContracts),
        (status = 202, description = "They are published and wait for signatures", body = AppliedContracts),
        (status = 409, description = "E-CONTRACT-002: something active is not what was signed")))]
pub(crate) async fn apply_contracts(
    State(state): State<AppState>,
    access: Access,
    body: Body<ApplyContracts>,
) -> Result<Response, Problem> {
    let ApplyContracts { manifests, dry_run, prune } = body.value;
    read::check_project(&access, &manifests)?;
    let manifests = read::manifests(&state, manifests)?;
    let options = ApplyOptions { is_dry_run: dry_run, is_pruning: prune };
    let (is_changed, applied) = state.store.apply(&access.caller, &manifests, options).await?;
    let is_waiting = applied.iter().any(|one| !one.is_done);
    let item = |one: Applied| {
        let note = not_in_force(&manifests, &one);
        view::applied(one, note, dry_run)
    };
    let document = AppliedContracts {
        project_id: access.scope().project().to_string(),
        is_changed,
        is_waiting,
        is_dry_run: dry_run,
        items: applied.into_iter().map(item).collect(),
    };
    let status = if is_waiting && !dry_run { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(document)).into_response())
}

fn not_in_force(manifests: &[Manifest], one: &Applied) -> Vec<String> {
    let found = manifests.iter().find(|m| m.spec.kind() == one.key.kind && m.id == one.key.id);
    found.map(|m| m.spec.not_in_force()).unwrap_or_default()
}
