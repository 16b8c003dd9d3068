//! Making a key. It is in this one answer and nowhere else: only its hash is stored.

use std::time::Duration;

use awooop_core::ids::{PersonId, PrincipalId};
use awooop_core::role::Role;
use awooop_core::{AgentId, ErrorCode};
use awooop_store::auth::NewKey;
use axum::Json;
use axum::extract::State;
use http::{HeaderName, StatusCode, header};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::KeyItem;
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// The principal it proves; made when the project has none of this name.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{1,63}$")]
    name: String,
    /// What it may do; left out when the key is bound to an agent.
    #[schema(pattern = "^(admin|operator|approver|viewer|agent)$")]
    role: Option<String>,
    /// The person it belongs to, by the one name they have in every project; for signatures. Only a platform
    /// admin may name one, or that person.
    #[schema(pattern = "^[a-z0-9][a-z0-9._@+-]{0,127}$")]
    person: Option<String>,
    /// The agent it is bound to, for `/mcp`.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{1,63}$")]
    agent_id: Option<String>,
    /// Seconds until it stops working; without it, never.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_in_s: Option<u64>,
}

/// A new key, whole.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewKeyItem {
    /// The key itself; it is never shown again.
    key: String,
    #[serde(flatten)]
    item: KeyItem,
}

/// A key in an answer that nobody may store on the way.
type Answer = (StatusCode, [(HeaderName, &'static str); 1], Json<NewKeyItem>);

/// Makes a key in the project. Its text is in this answer only.
#[utoipa::path(post, path = "/v1/platform/keys", operation_id = "create_key", tag = "keys",
    request_body = CreateKey,
    responses(
        (status = 201, description = "The key, shown once", body = NewKeyItem),
        (status = 404, description = "E-REQ-004: the project does not exist")))]
pub(crate) async fn create_key(
    State(state): State<AppState>,
    access: Access,
    Body { value: body, .. }: Body<CreateKey>,
) -> Result<Answer, Problem> {
    let name = PrincipalId::parse(&body.name);
    let agent = body.agent_id.as_deref().map(AgentId::parse).transpose();
    let lifetime = body.expires_in_s.map(Duration::from_secs);
    let new = NewKey {
        principal: name.map_err(|e| Problem::invalid_at("/name", "pattern", e.to_string()))?,
        role: role(&body)?,
        person: person(&access, &body)?,
        agent: agent.map_err(|e| Problem::invalid_at("/agent_id", "pattern", e.to_string()))?,
        expires_at: lifetime.map(|lifetime| state.store.clock().after(lifetime)),
    };
    let (key, made) = state.store.create_key(access.scope(), &new).await?;
    let item = super::item(access.scope(), made);
    let answer = NewKeyItem { key: key.expose_secret().to_owned(), item };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(answer)))
}

/// Signatures of several people would mean nothing if one admin could make a key in another's name.
fn person(access: &Access, body: &CreateKey) -> Result<Option<PersonId>, Problem> {
    let Some(text) = body.person.as_deref() else { return Ok(None) };
    let person =
        PersonId::parse(text).map_err(|e| Problem::invalid_at("/person", "pattern", e.to_string()))?;
    if body.agent_id.is_some() {
        return Err(Problem::invalid_at("/person", "person", "a key bound to an agent belongs to no person"));
    }
    if access.caller.is_platform_admin() || access.caller.person() == Some(person.as_str()) {
        return Ok(Some(person));
    }
    Err(Problem::new(ErrorCode::Auth002, "only a platform admin makes a key in a person's name"))
}

/// A key bound to an agent has the role `agent`, and no other has.
fn role(body: &CreateKey) -> Result<Role, Problem> {
    let refuse = |message: &str| Err(Problem::invalid_at("/role", "role", message));
    match (body.role.as_deref().and_then(Role::parse), &body.agent_id) {
        (None | Some(Role::Agent), Some(_)) => Ok(Role::Agent),
        (Some(_), Some(_)) => refuse("a key bound to an agent has the role agent; leave role out"),
        (Some(Role::Agent), None) => refuse("the role agent needs agent_id"),
        (None, None) => refuse("role is needed: admin, operator, approver or viewer"),
        (Some(role), None) => Ok(role),
    }
}
