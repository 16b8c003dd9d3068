//! The project's active contracts, last applied first.

use awooop_core::contract::Kind;
use awooop_store::contract::ActiveContract;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::caller::Access;
use crate::page::{List, Page};
use crate::problem::Problem;
use crate::query::{self, Params};
use crate::state::AppState;

/// Which contracts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ContractQuery {
    /// Only contracts of this kind.
    #[param(pattern = "^(project|provider|agent)$")]
    kind: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// An active contract.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContractItem {
    /// `project`, `provider` or `agent`.
    kind: String,
    id: String,
    /// Counts from 1.
    version: i32,
    /// SHA-256 of the manifest's canonical JSON.
    sha256: String,
    /// Always `active`.
    state: &'static str,
    #[schema(format = DateTime)]
    applied_at: String,
    applied_by: String,
    /// The whole manifest.
    #[schema(value_type = Object)]
    document: Value,
}

/// The project's active contracts, last applied first.
#[utoipa::path(get, path = "/v1/platform/contracts", operation_id = "list_contracts", tag = "contracts",
    params(ContractQuery),
    responses((status = 200, description = "A page of contracts", body = Page<ContractItem>)))]
pub(crate) async fn list_contracts(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<ContractQuery>,
) -> Result<Json<Page<ContractItem>>, Problem> {
    let limit = query::limit(query.limit.as_deref())?;
    let kind = kind(query.kind.as_deref())?;
    let list = List { name: "contracts", project: access.scope().project() };
    let after = list.read(query.cursor.as_deref(), |key| Some(key.to_owned()))?;
    let mut active = state.store.list_contracts(access.scope()).await?;
    active.retain(|a| kind.is_none_or(|kind| kind.as_str() == a.kind));
    active.sort_by_key(|a| (std::cmp::Reverse(a.applied_at), a.kind.clone(), a.id.clone()));
    let skipped = after.map_or(0, |key| active.iter().position(|a| self::key(a) == key).map_or(0, |i| i + 1));
    let rest: Vec<ActiveContract> = active.split_off(skipped);
    Ok(Json(list.page(rest, limit, self::key, item)))
}

fn key(contract: &ActiveContract) -> String {
    format!("{}/{}/{}", contract.applied_at, contract.kind, contract.id)
}

fn kind(text: Option<&str>) -> Result<Option<Kind>, Problem> {
    let invalid = || Problem::invalid_at("/kind", "enum", "a kind is project, provider or agent");
    text.map(|t| Kind::parse(t).ok_or_else(invalid)).transpose()
}

fn item(contract: ActiveContract) -> ContractItem {
    ContractItem {
        kind: contract.kind,
        id: contract.id,
        version: contract.version,
        sha256: contract.sha256,
        state: "active",
        applied_at: contract.applied_at.to_string(),
        applied_by: contract.applied_by,
        document: contract.document,
    }
}
