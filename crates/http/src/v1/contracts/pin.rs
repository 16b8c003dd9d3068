//! Pinning: a draft of a tool server's contract in which every tool names the definition that its server
//! shows now. Whoever signs for it approves those definitions.

use awooop_core::ErrorCode;
use awooop_core::contract::{Kind, parse};
use awooop_gateway::ToolStatus;
use awooop_store::contract::ContractKey;
use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::read;
use super::view::{self, ChangeItem, VersionItem};
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::PathPart;
use crate::state::AppState;
use crate::v1::tools::view::{FindItem, finds};

/// A draft with pins.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PinnedTools {
    /// The draft; null when every tool is pinned to what its server shows already.
    draft: Option<VersionItem>,
    /// What changes.
    changes: Vec<ChangeItem>,
    /// What a look at the definitions found, by tool: read it before you sign.
    finds: Vec<ToolFinds>,
}

/// What a look at a tool's definition found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ToolFinds {
    /// The full name.
    tool: String,
    finds: Vec<FindItem>,
}

/// Drafts the provider's contract with the definitions its server shows now.
#[utoipa::path(post, path = "/v1/platform/contracts/provider/{provider_id}/pin", operation_id = "pin_tools",
    tag = "contracts",
    params(
        ("provider_id" = String, Path, description = "A provider of `type: mcp`"),
        ("If-Match" = Option<String>, Header, description = "The entity tag of the draft to replace")),
    responses(
        (status = 200, description = "The draft, or nothing to pin", body = PinnedTools),
        (status = 409, description = "E-CONTRACT-002: the provider's contract is not what was signed"),
        (status = 412, description = "E-REQ-005: there is another draft"),
        (status = 502, description = "E-MCP-UPSTREAM-001: the server, or one of its tools, is not there")))]
pub(crate) async fn pin_tools(
    State(state): State<AppState>,
    access: Access,
    PathPart(id): PathPart,
    headers: HeaderMap,
) -> Result<Json<PinnedTools>, Problem> {
    let replaces = read::if_match(&headers)?;
    let key = ContractKey::new(Kind::Provider, id);
    let active = state.store.list_contracts(access.scope()).await?;
    let found = active.into_iter().find(|a| a.version.key == key).map(|a| a.version);
    let current = found.ok_or_else(|| Problem::absent("active provider"))?;
    let mut document = current.trusted()?.document.clone();
    if document["spec"]["type"] != "mcp" {
        return Err(Problem::invalid_at("", "type", "only a provider of `type: mcp` has tools to pin"));
    }
    let shown = state.gateway.inspect_tools(access.scope(), None).await?;
    for tool in document["spec"]["tools"].as_array_mut().into_iter().flatten() {
        let name = format!("{}__{}", key.id, tool["name"].as_str().unwrap_or_default());
        let seen = shown.iter().find(|s| s.name == name);
        match seen.and_then(|s| s.definition_sha256.as_deref()) {
            Some(sha256) => tool["definition_sha256"] = Value::from(sha256),
            None => {
                let why = seen.and_then(|s| s.reason.clone()).unwrap_or_default();
                return Err(Problem::new(ErrorCode::Upstream001, format!("`{name}` cannot be seen: {why}")));
            }
        }
    }
    let of_provider = |tool: &ToolStatus| tool.provider == key.id && tool.status != "unlisted";
    let finds: Vec<ToolFinds> = shown
        .into_iter()
        .filter(|tool| of_provider(tool) && !tool.finds.is_empty())
        .map(|tool| ToolFinds { tool: tool.name, finds: finds(tool.finds) })
        .collect();
    let (changes, _) = view::differences(Some(&current.document), &document);
    if changes.is_empty() {
        return Ok(Json(PinnedTools { draft: None, changes, finds }));
    }
    let manifest = parse(document).map_err(|found| Problem::of_violations(ErrorCode::Contract001, found))?;
    let saved = state.store.save_draft(&access.caller, &manifest, replaces.as_deref()).await?;
    Ok(Json(PinnedTools { draft: Some(saved.version.into()), changes, finds }))
}
