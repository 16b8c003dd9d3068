//! Contracts as the API shows them.

use awooop_core::contract::{Breaking, ChangeLine, ChangeOp, changes, patch};
use awooop_store::contract::{ActiveContract, Applied, Change, Standing, Version};
use http::{HeaderName, header};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// One version of a contract.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionItem {
    /// `project`, `provider`, `agent`, `policy` or `channel`.
    kind: &'static str,
    id: String,
    /// Counts from 1.
    version: i32,
    /// SHA-256 of the manifest's canonical JSON.
    sha256: String,
    /// `draft`, `published`, `active` or `retired`.
    state: &'static str,
    #[schema(format = DateTime)]
    created_at: String,
    created_by: String,
    #[schema(format = DateTime)]
    published_at: Option<String>,
    published_by: Option<String>,
    /// The key that signed the publication.
    key_id: Option<String>,
    /// Why it does not load; null when all is well.
    problem: Option<String>,
    /// The whole manifest.
    #[schema(value_type = Object)]
    document: Value,
}

impl From<Version> for VersionItem {
    fn from(version: Version) -> Self {
        let published = version.published;
        Self {
            kind: version.key.kind.as_str(),
            id: version.key.id,
            version: version.version,
            sha256: version.sha256,
            state: version.state.as_str(),
            created_at: version.created_at.to_string(),
            created_by: version.created_by,
            published_at: published.as_ref().map(|p| p.at.to_string()),
            published_by: published.as_ref().map(|p| p.by.clone()),
            key_id: published.map(|p| p.key_id),
            problem: version.problem.map(|p| p.to_string()),
            document: version.document,
        }
    }
}

/// An active contract.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContractItem {
    #[serde(flatten)]
    version: VersionItem,
    /// Since when it is in force.
    #[schema(format = DateTime)]
    activated_at: String,
    activated_by: String,
}

impl From<ActiveContract> for ContractItem {
    fn from(active: ActiveContract) -> Self {
        let mut version = VersionItem::from(active.version);
        version.problem = active.problem.map(|p| p.to_string());
        Self { version, activated_at: active.activated_at.to_string(), activated_by: active.activated_by }
    }
}

/// How far the signatures for one act have come.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Signatures {
    /// `activate` or `retire`.
    act: &'static str,
    /// How many distinct signers the project's rule asks for.
    needed: u32,
    /// Who has signed, in order.
    signed: Vec<String>,
    /// Who signed too long ago.
    expired: Vec<String>,
    /// Who signed while another version was active.
    overtaken: Vec<String>,
    /// Whose signature is not what was signed.
    invalid: Vec<String>,
}

impl From<Standing> for Signatures {
    fn from(standing: Standing) -> Self {
        let tally = standing.tally;
        Self {
            act: standing.act.as_str(),
            needed: tally.needed,
            signed: tally.counted,
            expired: tally.expired,
            overtaken: tally.overtaken,
            invalid: standing.forged,
        }
    }
}

/// One change that could hurt whoever relies on the contract.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BreakingItem {
    /// The rule, such as `tool_removed`.
    rule: &'static str,
    /// JSON Pointer into the manifest.
    path: String,
    message: String,
}

/// The breaking changes as the API shows them.
pub(super) fn breaking(found: Vec<Breaking>) -> Vec<BreakingItem> {
    let item = |b: Breaking| BreakingItem { rule: b.rule, path: b.path, message: b.message };
    found.into_iter().map(item).collect()
}

/// One difference between two documents, for people.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangeItem {
    /// `added`, `removed` or `changed`.
    op: &'static str,
    /// JSON Pointer.
    path: String,
    /// What was there; null where nothing was.
    #[schema(value_type = Object, nullable)]
    from: Value,
    /// What is there now; null where nothing is.
    #[schema(value_type = Object, nullable)]
    to: Value,
}

impl From<ChangeLine> for ChangeItem {
    fn from(line: ChangeLine) -> Self {
        let op = match line.op {
            ChangeOp::Added => "added",
            ChangeOp::Removed => "removed",
            ChangeOp::Changed => "changed",
        };
        Self { op, path: line.path, from: line.from.unwrap_or_default(), to: line.to.unwrap_or_default() }
    }
}

/// The differences for people, and as JSON Patch (RFC 6902).
pub(super) fn differences(from: Option<&Value>, to: &Value) -> (Vec<ChangeItem>, Value) {
    let lines = changes(from, to).into_iter().map(ChangeItem::from).collect();
    (lines, patch(from.unwrap_or(&Value::Null), to))
}

/// One contract after applying, activating or retiring.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppliedContract {
    /// `project`, `provider`, `agent`, `policy` or `channel`.
    kind: &'static str,
    id: String,
    /// The version the manifest stands in.
    version: i32,
    /// SHA-256 of the manifest's canonical JSON.
    sha256: String,
    /// `created`, `updated`, `unchanged` or `retired`.
    change: &'static str,
    /// Does the change still wait for signatures?
    is_waiting: bool,
    /// The signatures; null where nothing changes.
    signatures: Option<Signatures>,
    /// Why the caller's own signature does not count.
    note: Option<String>,
    /// What could hurt whoever relies on it.
    breaking: Vec<BreakingItem>,
    /// What is kept but not in force in this version.
    not_in_force: Vec<String>,
    /// The differences; only for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    changes: Option<Vec<ChangeItem>>,
    /// The same as JSON Patch (RFC 6902).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, value_type = Vec<Object>)]
    patch: Option<Value>,
}

/// Shows what happened to one contract; `with_changes` for a dry run.
pub(super) fn applied(one: Applied, not_in_force: Vec<String>, with_changes: bool) -> AppliedContract {
    let wants = with_changes && one.change != Change::Unchanged;
    let (changes, patch) = match (&one.document, wants) {
        (Some(document), true) => {
            let (lines, patch) = differences(one.effect.before.as_ref(), document);
            (Some(lines), Some(patch))
        }
        _ => (None, None),
    };
    AppliedContract {
        kind: one.key.kind.as_str(),
        id: one.key.id,
        version: one.version,
        sha256: one.sha256,
        change: one.change.as_str(),
        is_waiting: !one.is_done,
        signatures: one.standing.map(Signatures::from),
        note: one.may_not_sign.map(|why| why.to_string()),
        breaking: breaking(one.effect.breaking),
        not_in_force,
        changes,
        patch,
    }
}

/// The entity tag of a version: its hash.
pub(super) fn etag(version: &Version) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{}\"", version.sha256))]
}
