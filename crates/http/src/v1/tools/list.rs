//! The project's tools with how each stands; with an agent, what that agent would get.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::view::ToolItem;
use crate::caller::Access;
use crate::page::{List, Page};
use crate::problem::Problem;
use crate::query::{self, Params};
use crate::state::AppState;

/// Which tools.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ToolQuery {
    /// Only tools that the first three gates let through for this agent.
    #[param(pattern = "^[a-z0-9][a-z0-9_-]{1,63}$")]
    agent_id: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The project's tools by name, with how each stands; also those that a server offers and no contract lists.
#[utoipa::path(get, path = "/v1/platform/tools", operation_id = "list_tools", tag = "tools", params(ToolQuery),
    responses((status = 200, description = "A page of tools", body = Page<ToolItem>)))]
pub(crate) async fn list_tools(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<ToolQuery>,
) -> Result<Json<Page<ToolItem>>, Problem> {
    let limit = query::limit(query.limit.as_deref())?;
    let agent = super::agent(&access, query::agent_id(query.agent_id.as_deref())?)?;
    let list = List { name: "tools", project: access.scope().project() };
    let after = list.read(query.cursor.as_deref(), |key| Some(key.to_owned()))?.unwrap_or_default();
    let mut tools = state.gateway.inspect_tools(access.scope(), agent.as_ref()).await?;
    tools.retain(|tool| tool.name > after);
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(list.page(tools, limit, |tool| tool.name.clone(), ToolItem::from)))
}
