//! A contract's versions, newest first, and one of them.

use awooop_store::contract::Version;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::read::{ContractPath, VersionPath};
use super::view::{self, VersionItem};
use crate::caller::Access;
use crate::page::{List, Page};
use crate::problem::Problem;
use crate::query::{PageQuery, Params};
use crate::state::AppState;

/// A contract's versions, newest first.
#[utoipa::path(get, path = "/v1/platform/contracts/{kind}/{id}/versions", operation_id = "list_versions",
    tag = "contracts", params(PageQuery),
    responses((status = 200, description = "A page of versions", body = Page<VersionItem>)))]
pub(crate) async fn list_versions(
    State(state): State<AppState>,
    access: Access,
    ContractPath(key): ContractPath,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<VersionItem>>, Problem> {
    let limit = query.limit()?;
    let name = format!("versions/{key}");
    let list = List { name: &name, project: access.scope().project() };
    let before = list.read(query.cursor.as_deref(), |key| key.parse().ok())?;
    let more = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let versions = state.store.list_versions(access.scope(), &key, before, more).await?;
    if versions.is_empty() && before.is_none() {
        return Err(Problem::absent("contract"));
    }
    Ok(Json(list.page(versions, limit, |v: &Version| v.version.to_string(), VersionItem::from)))
}

/// One version. Its entity tag is its hash.
#[utoipa::path(get, path = "/v1/platform/contracts/{kind}/{id}/versions/{version}", operation_id = "get_version",
    tag = "contracts",
    responses((status = 200, description = "The version", body = VersionItem, headers(("ETag" = String)))))]
pub(crate) async fn get_version(
    State(state): State<AppState>,
    access: Access,
    VersionPath(key, number): VersionPath,
) -> Result<Response, Problem> {
    let found = state.store.find_version(access.scope(), &key, number).await?;
    let version = found.ok_or_else(|| Problem::absent("version"))?;
    Ok((view::etag(&version), Json(VersionItem::from(version))).into_response())
}
