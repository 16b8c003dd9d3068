//! The difference between two versions of a contract, for people and as JSON Patch, with what could break.

use awooop_core::contract::{breaking, breaking_first};
use awooop_store::contract::{ContractKey, Version};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::read::ContractPath;
use super::view::{self, BreakingItem, ChangeItem};
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::Params;
use crate::state::AppState;

/// Which versions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffQuery {
    /// The older version; without it the one in force.
    #[param(value_type = Option<u32>, minimum = 1)]
    from: Option<String>,
    /// The newer version; without it the newest.
    #[param(value_type = Option<u32>, minimum = 1)]
    to: Option<String>,
}

/// A difference.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiffDocument {
    kind: &'static str,
    id: String,
    /// The older version; null when nothing is in force.
    from: Option<i32>,
    /// The newer version.
    to: i32,
    /// For people.
    changes: Vec<ChangeItem>,
    /// JSON Patch (RFC 6902) from the older document to the newer one.
    #[schema(value_type = Vec<Object>)]
    patch: Value,
    /// What could hurt whoever relies on it.
    breaking: Vec<BreakingItem>,
}

/// The difference between two versions.
#[utoipa::path(get, path = "/v1/platform/contracts/{kind}/{id}/diff", operation_id = "diff_contract",
    tag = "contracts", params(DiffQuery),
    responses(
        (status = 200, description = "The difference", body = DiffDocument),
        (status = 409, description = "E-CONTRACT-002: a version is not what was signed")))]
pub(crate) async fn diff_contract(
    State(state): State<AppState>,
    access: Access,
    ContractPath(key): ContractPath,
    Params(query): Params<DiffQuery>,
) -> Result<Json<DiffDocument>, Problem> {
    let (from, to) = (number("from", query.from.as_deref())?, number("to", query.to.as_deref())?);
    let to = match to {
        Some(number) => version(&state, &access, &key, number).await?,
        None => newest(&state, &access, &key).await?,
    };
    let from = match from {
        Some(number) => Some(version(&state, &access, &key, number).await?),
        None => active(&state, &access, &key).await?,
    };
    to.trusted()?;
    if let Some(from) = &from {
        from.trusted()?;
    }
    let (changes, patch) = view::differences(from.as_ref().map(|v| &v.document), &to.document);
    let project = access.scope().project();
    let newer = to.manifest(project)?.spec;
    let found = match &from {
        Some(from) => breaking(&from.manifest(project)?.spec, Some(&newer)),
        None => breaking_first(&newer),
    };
    Ok(Json(DiffDocument {
        kind: key.kind.as_str(),
        id: key.id,
        from: from.map(|v| v.version),
        to: to.version,
        changes,
        patch,
        breaking: view::breaking(found),
    }))
}

fn number(name: &str, text: Option<&str>) -> Result<Option<i32>, Problem> {
    let invalid = || Problem::invalid_at(&format!("/{name}"), "range", "a version is a number from 1");
    let parse = |text: &str| {
        let is_plain = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n| is_plain && *n >= 1).ok_or_else(invalid)
    };
    text.map(parse).transpose()
}

async fn version(
    state: &AppState,
    access: &Access,
    key: &ContractKey,
    number: i32,
) -> Result<Version, Problem> {
    let found = state.store.find_version(access.scope(), key, number).await?;
    found.ok_or_else(|| Problem::absent("version"))
}

async fn newest(state: &AppState, access: &Access, key: &ContractKey) -> Result<Version, Problem> {
    let mut found = state.store.list_versions(access.scope(), key, None, 1).await?;
    found.pop().ok_or_else(|| Problem::absent("contract"))
}

async fn active(state: &AppState, access: &Access, key: &ContractKey) -> Result<Option<Version>, Problem> {
    let mut active = state.store.list_contracts(access.scope()).await?;
    let at = active.iter().position(|a| a.version.key == *key);
    Ok(at.map(|i| active.swap_remove(i).version))
}
