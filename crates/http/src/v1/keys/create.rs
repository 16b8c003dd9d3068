//! Making a key. It is in this one answer and nowhere else: only its hash is stored.

use std::time::Duration;

use awooop_core::ids::{PersonId, PrincipalId};
use awooop_core::role::Role;
use awooop_core::scopes::Scopes;
use awooop_core::sign_in;
use awooop_core::{AgentId, ErrorCode};
use awooop_store::auth::{Credential, NewKey};
use axum::Json;
use axum::extract::State;
use http::{HeaderName, StatusCode, header};
use jiff::Timestamp;
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
    /// What it is narrowed to: groups such as `runs:read` or operation ids such as `create_run`. Without it, all that the
    /// principal may. A key that is narrowed itself makes none that reaches further.
    #[schema(min_items = 1, max_items = 64)]
    scopes: Option<Vec<String>>,
    /// Seconds until it stops working; without it, never.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_in_s: Option<u64>,
}

/// A new key, whole.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewKeyItem {
    /// The key itself; it is never shown again.
    pub(super) key: String,
    #[serde(flatten)]
    pub(super) item: KeyItem,
}

/// A key in an answer that nobody may store on the way.
type Answer = (StatusCode, [(HeaderName, &'static str); 1], Json<NewKeyItem>);

/// Makes a key in the project. Its text is in this answer only.
#[utoipa::path(post, path = "/v1/platform/keys", operation_id = "create_key", tag = "keys",
    request_body = CreateKey,
    responses(
        (status = 201, description = "The key, shown once", body = NewKeyItem),
        (status = 404, description = "E-REQ-004: the project does not exist"),
        (status = 409, description = "E-ACCESS-001: the principal is disabled")))]
pub(crate) async fn create_key(
    State(state): State<AppState>,
    access: Access,
    Body { value: body, .. }: Body<CreateKey>,
) -> Result<Answer, Problem> {
    let agent = body.agent_id.as_deref().map(AgentId::parse).transpose();
    let lifetime = body.expires_in_s.map(Duration::from_secs);
    let expires_at = lifetime.map(|lifetime| state.store.clock().after(lifetime));
    may_last(&access, expires_at)?;
    let new = NewKey {
        principal: name(&body.name)?,
        role: role(&body)?,
        person: person(&access, &body)?,
        agent: agent.map_err(|e| Problem::invalid_at("/agent_id", "pattern", e.to_string()))?,
        scopes: scopes(&access, &body)?,
        expires_at,
    };
    let (key, made) = state.store.create_key(access.scope(), &new).await?;
    let answer = NewKeyItem { key: key.expose_secret().to_owned(), item: super::item(access.scope(), made) };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(answer)))
}

/// A name that no person who signs in can have.
fn name(text: &str) -> Result<PrincipalId, Problem> {
    let name =
        PrincipalId::parse(text).map_err(|e| Problem::invalid_at("/name", "pattern", e.to_string()))?;
    if name.as_str().starts_with(sign_in::PREFIX) {
        let message = format!("names that begin with {} are of people who sign in", sign_in::PREFIX);
        return Err(Problem::invalid_at("/name", "pattern", message));
    }
    Ok(name)
}

/// What the key is narrowed to.
fn scopes(access: &Access, body: &CreateKey) -> Result<Option<Scopes>, Problem> {
    let asked = body.scopes.as_deref().map(Scopes::parse).transpose();
    let asked = asked.map_err(|e| Problem::invalid_at("/scopes", "scopes", e.to_string()))?;
    may_reach(access, asked.as_ref())?;
    Ok(asked)
}

/// A narrowed key would reach anything if it could make one that reaches further.
pub(super) fn may_reach(access: &Access, asked: Option<&Scopes>) -> Result<(), Problem> {
    let is_within = match (access.caller.scopes(), asked) {
        (None, _) => true,
        (Some(own), Some(asked)) => asked.are_within(own),
        (Some(_), None) => false,
    };
    let refusal = "a key that is narrowed makes none that reaches further: name scopes that it has itself";
    if is_within { Ok(()) } else { Err(Problem::new(ErrorCode::Auth002, refusal)) }
}

/// Nor could it end, if it could make one that lives longer.
fn may_last(access: &Access, until: Option<Timestamp>) -> Result<(), Problem> {
    let Credential::Key { scopes: Some(_), expires_at: Some(own), .. } = access.caller.credential() else {
        return Ok(());
    };
    let refusal = "a key that is narrowed makes none that lives longer than itself: name an earlier end";
    if until.is_some_and(|until| until <= *own) {
        Ok(())
    } else {
        Err(Problem::new(ErrorCode::Auth002, refusal))
    }
}

/// Signatures of several people would mean nothing if one admin could make a key in another's name.
fn person(access: &Access, body: &CreateKey) -> Result<Option<PersonId>, Problem> {
    let Some(text) = body.person.as_deref() else { return Ok(None) };
    let person =
        PersonId::parse(text).map_err(|e| Problem::invalid_at("/person", "pattern", e.to_string()))?;
    if body.agent_id.is_some() {
        return Err(Problem::invalid_at("/person", "person", "a key bound to an agent belongs to no person"));
    }
    may_make_for(access, person.as_str())?;
    Ok(Some(person))
}

/// May the caller hold a key that speaks for this person?
pub(super) fn may_make_for(access: &Access, person: &str) -> Result<(), Problem> {
    let is_whole = access.caller.scopes().is_none();
    if access.caller.is_platform_admin() && is_whole || access.caller.person() == Some(person) {
        return Ok(());
    }
    let refusal = "only a platform admin makes a key in a person's name, by a key that is not narrowed";
    Err(Problem::new(ErrorCode::Auth002, refusal))
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
