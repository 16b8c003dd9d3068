//! The project's active contracts, last activated first.

use awooop_core::contract::Kind;
use awooop_store::contract::ActiveContract;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::view::ContractItem;
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
    #[param(pattern = "^(project|provider|agent|policy|channel)$")]
    kind: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The project's active contracts, last activated first.
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
    let after = list.read(query.cursor.as_deref(), place)?;
    let mut active = state.store.list_contracts(access.scope()).await?;
    active.retain(|a| kind.is_none_or(|kind| kind == a.version.key.kind));
    active.sort_by_cached_key(|a| (std::cmp::Reverse(a.activated_at), a.version.key.to_string()));
    // by order, not by equality: the last page's last contract may have been activated again
    let is_shown = |a: &ActiveContract| {
        let name = a.version.key.to_string();
        after.as_ref().is_some_and(|(at, last)| {
            (std::cmp::Reverse(a.activated_at), &name) <= (std::cmp::Reverse(*at), last)
        })
    };
    let skipped = active.partition_point(is_shown);
    let rest: Vec<ActiveContract> = active.split_off(skipped);
    Ok(Json(list.page(rest, limit, self::key, ContractItem::from)))
}

fn key(contract: &ActiveContract) -> String {
    format!("{}/{}", contract.activated_at, contract.version.key)
}

/// The place that [`key`] names.
fn place(key: &str) -> Option<(Timestamp, String)> {
    let (at, name) = key.split_once('/')?;
    Some((at.parse().ok()?, name.to_owned()))
}

fn kind(text: Option<&str>) -> Result<Option<Kind>, Problem> {
    let names = || Kind::ALL.map(Kind::as_str).join(", ");
    let invalid = || Problem::invalid_at("/kind", "enum", format!("a kind is one of {}", names()));
    text.map(|t| Kind::parse(t).ok_or_else(invalid)).transpose()
}
