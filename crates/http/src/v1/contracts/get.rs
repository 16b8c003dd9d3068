//! One contract as it stands: what is in force, its draft, what waits for signatures.

use awooop_store::contract::{Contract, Pending};
use axum::Json;
use axum::extract::State;
use http::{HeaderName, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::read::ContractPath;
use super::view::{ContractItem, Signatures, VersionItem};
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// A contract.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContractDocument {
    /// `project`, `provider`, `agent`, `policy` or `channel`.
    kind: &'static str,
    id: String,
    /// What is in force; null before the first activation and after it was retired.
    active: Option<ContractItem>,
    /// What may still change.
    draft: Option<VersionItem>,
    /// What waits for signatures, newest first.
    pending: Vec<PendingItem>,
}

/// An act that waits for signatures.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PendingItem {
    version: VersionItem,
    signatures: Signatures,
}

impl From<Pending> for PendingItem {
    fn from(pending: Pending) -> Self {
        Self { version: pending.version.into(), signatures: pending.standing.into() }
    }
}

/// One contract. Its entity tag names the version in force, for `If-Match`.
#[utoipa::path(get, path = "/v1/platform/contracts/{kind}/{id}", operation_id = "get_contract", tag = "contracts",
    responses(
        (status = 200, description = "The contract", body = ContractDocument, headers(("ETag" = String))),
        (status = 409, description = "E-CONTRACT-002: the project's own contract is not what was signed")))]
pub(crate) async fn get_contract(
    State(state): State<AppState>,
    access: Access,
    ContractPath(key): ContractPath,
) -> Result<([(HeaderName, String); 1], Json<ContractDocument>), Problem> {
    let found = state.store.find_contract(&access.caller, &key).await?;
    let Contract { key, active, draft, pending } = found.ok_or_else(|| Problem::absent("contract"))?;
    let etag = format!("\"v{}\"", active.as_ref().map_or(0, |a| a.version.version));
    let document = ContractDocument {
        kind: key.kind.as_str(),
        id: key.id,
        active: active.map(ContractItem::from),
        draft: draft.map(VersionItem::from),
        pending: pending.into_iter().map(PendingItem::from).collect(),
    };
    Ok(([(header::ETAG, etag)], Json(document)))
}
