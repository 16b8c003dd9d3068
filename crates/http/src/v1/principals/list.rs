//! The project's principals, newest first.

use awooop_core::ids::PersonId;
use awooop_store::principal::Principal;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::PrincipalItem;
use crate::caller::Access;
use crate::page::{List, Page, time_and_id};
use crate::problem::Problem;
use crate::query::{Params, limit};
use crate::state::AppState;

/// Which principals.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PrincipalsQuery {
    /// Only this person's.
    #[param(pattern = "^[a-z0-9][a-z0-9._@+-]{0,127}$")]
    person: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The project's principals, newest first.
#[utoipa::path(get, path = "/v1/platform/principals", operation_id = "list_principals", tag = "principals",
    params(PrincipalsQuery),
    responses((status = 200, description = "A page of principals", body = Page<PrincipalItem>)))]
pub(crate) async fn list_principals(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<PrincipalsQuery>,
) -> Result<Json<Page<PrincipalItem>>, Problem> {
    let limit = limit(query.limit.as_deref())?;
    let person = query.person.as_deref().map(PersonId::parse).transpose();
    let person = person.map_err(|e| Problem::invalid_at("/person", "pattern", e.to_string()))?;
    let list = List { name: "principals", project: access.scope().project() };
    let before = list.read(query.cursor.as_deref(), time_and_id)?;
    let person = person.as_ref().map(PersonId::as_str);
    let found = state.store.list_principals(access.scope(), person, before, limit as i64 + 1).await?;
    let key = |p: &Principal| format!("{}/{}", p.created_at.as_microsecond(), p.principal);
    Ok(Json(list.page(found, limit, key, |found| super::item(access.scope(), found))))
}
