//! Keys: made, listed, rotated, revoked. A key's text is shown once, when it is made.

pub(crate) mod create;
pub(crate) mod list;
pub(crate) mod revoke;
pub(crate) mod rotate;

use awooop_core::key::KEY_ID_LEN;
use awooop_core::role::Role;
use awooop_store::ProjectScope;
use awooop_store::auth::ApiKey;
use serde::Serialize;
use utoipa::ToSchema;

/// A key without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyItem {
    /// Its public id.
    key_id: String,
    project_id: String,
    /// The principal it proves.
    name: String,
    /// `admin`, `operator`, `approver`, `viewer` or `agent`; null when it was taken from the principal.
    role: Option<&'static str>,
    /// The person it belongs to; null for a service account or an agent.
    person: Option<String>,
    /// The agent it is bound to.
    agent_id: Option<String>,
    /// What it is narrowed to; null for all that its principal may.
    scopes: Option<Vec<String>>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
    /// When its principal was disabled, if it is; the key is refused until it is enabled.
    #[schema(format = DateTime)]
    disabled_at: Option<String>,
    /// When it was used last, at most a minute behind; null for a key never used.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    /// The key it was rotated to.
    replaced_by: Option<String>,
}

/// Can this be a key's public id?
fn is_id(text: &str) -> bool {
    text.len() == KEY_ID_LEN && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn item(scope: &ProjectScope, key: ApiKey) -> KeyItem {
    KeyItem {
        key_id: key.key_id,
        project_id: scope.project().to_string(),
        name: key.principal,
        role: key.role.map(Role::as_str),
        person: key.person,
        agent_id: key.agent_id,
        scopes: key.scopes,
        created_at: key.created_at.to_string(),
        expires_at: key.expires_at.map(|at| at.to_string()),
        revoked_at: key.revoked_at.map(|at| at.to_string()),
        disabled_at: key.disabled_at.map(|at| at.to_string()),
        last_used_at: key.last_used_at.map(|at| at.to_string()),
        replaced_by: key.replaced_by,
    }
}
