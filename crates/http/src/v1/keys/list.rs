//! The project's keys, newest first, without their secrets.

use awooop_store::auth::ApiKey;
use axum::Json;
use axum::extract::State;

use super::KeyItem;
use crate::caller::Access;
use crate::page::{List, Page, time_and_id};
use crate::problem::Problem;
use crate::query::{PageQuery, Params};
use crate::state::AppState;

/// The project's keys, newest first, without their secrets.
#[utoipa::path(get, path = "/v1/platform/keys", operation_id = "list_keys", tag = "keys", params(PageQuery),
    responses((status = 200, description = "A page of keys", body = Page<KeyItem>)))]
pub(crate) async fn list_keys(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<KeyItem>>, Problem> {
    let limit = query.limit()?;
    let list = List { name: "keys", project: access.scope().project() };
    let before = list.read(query.cursor.as_deref(), time_and_id)?;
    let keys = state.store.list_keys(access.scope(), before, limit as i64 + 1).await?;
    let key = |key: &ApiKey| format!("{}/{}", key.created_at.as_microsecond(), key.key_id);
    Ok(Json(list.page(keys, limit, key, |key| super::item(access.scope(), key))))
}
