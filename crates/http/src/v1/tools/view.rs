//! Tools as the API shows them.

use awooop_core::pin::PinnedBy;
use awooop_core::scan::Find;
use awooop_gateway::ToolStatus;
use serde::Serialize;
use utoipa::ToSchema;

/// A tool as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ToolItem {
    /// The full name, `<provider>__<tool>`.
    name: String,
    provider: String,
    title: Option<String>,
    /// In the server's words.
    description: Option<String>,
    /// `read_only`, `write` or `destructive`, as the contract says, or the tool's own definition, where that is graver;
    /// null for a tool that no contract lists.
    risk: Option<&'static str>,
    /// `available`, `denied`, `drifted`, `quarantined`, `unlisted`, `not_offered`, `stopped` or `unreachable`.
    status: &'static str,
    /// Who pinned its definition: `contract` or `first_sight`; null when it was not called or listed yet.
    pinned_by: Option<&'static str>,
    /// Why it is not available.
    reason: Option<String>,
    /// What a look at its definition found.
    finds: Vec<FindItem>,
    /// Other listed tools whose names look like its name.
    looks_like: Vec<String>,
    /// Agents it is granted to.
    granted_to: Vec<String>,
    /// Hash of the definition its server offers; of a stopped one, which is not asked, of the pinned definition.
    definition_sha256: Option<String>,
}

impl From<ToolStatus> for ToolItem {
    fn from(tool: ToolStatus) -> Self {
        Self {
            name: tool.name,
            provider: tool.provider,
            title: tool.title,
            description: tool.description,
            risk: tool.risk.map(awooop_core::contract::Risk::as_str),
            status: tool.status,
            pinned_by: tool.pinned_by.map(PinnedBy::as_str),
            reason: tool.reason,
            finds: finds(tool.finds),
            looks_like: tool.looks_like,
            granted_to: tool.granted_to,
            definition_sha256: tool.definition_sha256,
        }
    }
}

/// Something in a definition that a person should look at.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FindItem {
    /// `invisible_characters`, `control_characters`, `hidden_markup`, `instructions`, `other_tool`, `mixed_alphabets` or
    /// `too_long`.
    kind: &'static str,
    /// JSON Pointer into the definition; `~` at its end means the member's name.
    path: String,
    /// What: code points, the pattern's name, another tool's name.
    detail: String,
}

/// What a look found, as the API shows it.
pub(crate) fn finds(found: Vec<Find>) -> Vec<FindItem> {
    found
        .into_iter()
        .map(|find| FindItem { kind: find.kind.as_str(), path: find.path, detail: find.detail })
        .collect()
}
