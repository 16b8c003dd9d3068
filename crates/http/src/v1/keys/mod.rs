//! Keys: made, listed, revoked. A key's text is shown once, when it is made.

pub(crate) mod create;
pub(crate) mod list;
pub(crate) mod revoke;

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
    /// `admin`, `operator`, `approver`, `viewer` or `agent`.
    role: &'static str,
    /// The person it belongs to; null for a service account or an agent.
    person: Option<String>,
    /// The agent it is bound to.
    agent_id: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
}

fn item(scope: &ProjectScope, key: ApiKey) -> KeyItem {
    KeyItem {
        key_id: key.key_id,
        project_id: scope.project().to_string(),
        name: key.principal,
        role: key.role.as_str(),
        person: key.person,
        agent_id: key.agent_id,
        created_at: key.created_at.to_string(),
        expires_at: key.expires_at.map(|at| at.to_string()),
        revoked_at: key.revoked_at.map(|at| at.to_string()),
    }
}
