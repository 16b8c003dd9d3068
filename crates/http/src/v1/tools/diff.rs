//! What a tool's server shows now beside what was pinned: what a person reads before they let it pass, or do not.

use awooop_core::contract::changes;
use awooop_core::ids::ToolName;
use awooop_gateway::{DefinitionReport, Shown};
use awooop_store::definition::SeenDefinition;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::view::{FindItem, ToolItem, finds};
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::{Params, PathPart};
use crate::state::AppState;
use crate::v1::contracts::ChangeItem;

/// Which definition.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffQuery {
    /// Compare this one, which was seen, instead of what the server shows now.
    #[param(pattern = "^[0-9a-f]{64}$")]
    sha256: Option<String>,
}

/// A tool's definition beside the pinned one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ToolDiff {
    tool: ToolItem,
    /// What is asked for; null when nothing is pinned yet.
    pin: Option<PinItem>,
    /// Hash of the definition that is compared with the pinned one; null when there is none.
    compared_sha256: Option<String>,
    /// From the pinned definition to the compared one, masked as people see them. Every member was added where nothing is
    /// pinned; null where the pinned one was never seen, or there is none to compare.
    changes: Option<Vec<ChangeItem>>,
    /// What was seen of the tool, the newest first.
    seen: Vec<SeenItem>,
}

/// The definition that is asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PinItem {
    /// `contract` or `first_sight`.
    by: &'static str,
    sha256: String,
    /// When it was first seen and pinned; null for one that a contract names.
    #[schema(format = DateTime)]
    at: Option<String>,
}

/// A definition that was seen.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeenItem {
    sha256: String,
    /// `pinned`, `drifted` or `quarantined`, as it stood when that last changed.
    standing: String,
    finds: Vec<FindItem>,
    #[schema(format = DateTime)]
    first_seen_at: String,
    #[schema(format = DateTime)]
    last_seen_at: String,
}

/// Says how a tool's definition differs from the pinned one. Nothing is written; the tool's server is asked which tools it
/// has.
#[utoipa::path(get, path = "/v1/platform/tools/{tool}/diff", operation_id = "diff_tool", tag = "tools",
    params(("tool" = String, Path, description = "The full name, `<provider>__<tool>`"), DiffQuery),
    responses((status = 200, description = "The differences", body = ToolDiff)))]
pub(crate) async fn diff_tool(
    State(state): State<AppState>,
    access: Access,
    PathPart(name): PathPart,
    Params(query): Params<DiffQuery>,
) -> Result<Json<ToolDiff>, Problem> {
    let agent = super::agent(&access, None)?;
    let name = ToolName::parse(&name).ok_or_else(|| Problem::absent("tool"))?;
    let report = state.gateway.inspect_definition(access.scope(), agent.as_ref(), &name).await?;
    let report = report.ok_or_else(|| Problem::absent("tool"))?;
    let compared = match &query.sha256 {
        None => report.offered.clone(),
        Some(sha256) => {
            let seen = report.seen.iter().find(|seen| seen.sha256 == *sha256);
            let seen = seen.ok_or_else(|| Problem::absent("definition with this hash"))?;
            Some(Shown { sha256: seen.sha256.clone(), definition: seen.definition.clone() })
        }
    };
    Ok(Json(diff(report, compared)))
}

fn diff(report: DefinitionReport, compared: Option<Shown>) -> ToolDiff {
    let from = report.pinned.as_ref().map(|pinned| &pinned.definition);
    // where something is pinned that was never seen, there is nothing to compare with
    let is_known = from.is_some() || report.pin.is_none();
    let nothing = json!({});
    let from = from.unwrap_or(&nothing);
    let changes = compared.as_ref().filter(|_| is_known).map(|shown| changes(Some(from), &shown.definition));
    let at = report.first_pinned_at;
    ToolDiff {
        tool: report.status.into(),
        pin: report.pin.map(|pin| PinItem {
            by: pin.by.as_str(),
            at: at.filter(|_| pin.by == awooop_core::pin::PinnedBy::FirstSight).map(|at| at.to_string()),
            sha256: pin.sha256,
        }),
        compared_sha256: compared.map(|shown| shown.sha256),
        changes: changes.map(|lines| lines.into_iter().map(ChangeItem::from).collect()),
        seen: report.seen.into_iter().map(seen).collect(),
    }
}

fn seen(seen: SeenDefinition) -> SeenItem {
    SeenItem {
        sha256: seen.sha256,
        standing: seen.standing,
        finds: finds(seen.finds),
        first_seen_at: seen.first_seen_at.to_string(),
        last_seen_at: seen.last_seen_at.to_string(),
    }
}
