//! Who the caller is, in which project, and what they came with. Every key and every token may ask.

use awooop_core::role::{Role, Roles};
use awooop_core::scopes::Scopes;
use awooop_store::auth::{Caller, Credential};
use awooop_store::sign_in::Proven;
use axum::extract::State;
use axum::{Extension, Json};
use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::{self, Identity};
use crate::edge::Client;
use crate::problem::Problem;
use crate::state::AppState;

/// Who the caller is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Whoami {
    /// The project requests act in; null where there are several to choose from and none was named.
    project_id: Option<String>,
    /// The principal's id.
    name: String,
    /// `human`, `service` or `agent`.
    kind: &'static str,
    /// The person, by whom approvals and signatures are counted; null for a service account or an agent.
    person: Option<String>,
    /// What the caller is in that project.
    roles: Vec<&'static str>,
    /// The agent the key is bound to.
    agent_id: Option<String>,
    /// May the caller act in any project?
    is_platform_admin: bool,
    credential: CredentialView,
    /// Every project the key or token opens, with what the caller is there.
    projects: Vec<Membership>,
}

/// What the caller came with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialView {
    /// `key` or `token`.
    r#type: &'static str,
    /// The key's public id.
    key_id: Option<String>,
    /// What the key is narrowed to; null for all that its principal may.
    scopes: Option<Vec<String>>,
    /// The issuer's name for the person (`sub` of the token).
    subject: Option<String>,
    /// When it stops counting; null for a key without an end.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// What the caller is in a project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Membership {
    project_id: String,
    roles: Vec<&'static str>,
}

/// Who the caller is.
#[utoipa::path(get, path = "/v1/platform/whoami", operation_id = "get_whoami", tag = "access",
    responses((status = 200, description = "Who the caller is", body = Whoami)))]
pub(crate) async fn get_whoami(
    State(state): State<AppState>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Json<Whoami>, Problem> {
    let identity = caller::authenticate(&headers, &client, &state).await?;
    let named = caller::named_project(&headers)?;
    if let (Identity::Person(proven), None) = (&identity, &named)
        && proven.home(None).is_none()
    {
        return Ok(Json(of_nowhere(proven)));
    }
    let projects = match &identity {
        Identity::Person(proven) => memberships(proven),
        Identity::Key(caller) => vec![membership(caller.home().as_str(), caller.roles())],
    };
    let access = caller::place(identity, named, &state).await?;
    Ok(Json(of_caller(&access.caller, projects)))
}

fn of_caller(caller: &Caller, projects: Vec<Membership>) -> Whoami {
    let kind = match (caller.agent(), caller.person()) {
        (Some(_), _) => "agent",
        (None, Some(_)) => "human",
        (None, None) => "service",
    };
    let credential = match caller.credential() {
        Credential::Key { key_id, scopes, expires_at } => CredentialView {
            r#type: "key",
            key_id: Some(key_id.clone()),
            scopes: scopes.as_ref().map(Scopes::to_vec),
            subject: None,
            expires_at: expires_at.map(|at| at.to_string()),
        },
        Credential::Token { subject, expires_at } => token(subject, *expires_at),
    };
    Whoami {
        project_id: Some(caller.scope().project().to_string()),
        name: caller.principal().to_owned(),
        kind,
        person: caller.person().map(str::to_owned),
        roles: names(caller.roles()),
        agent_id: caller.agent().map(ToString::to_string),
        is_platform_admin: caller.is_platform_admin(),
        credential,
        projects,
    }
}

/// Somebody who has still to say in which of their projects they want to act, or whose groups give them none.
fn of_nowhere(proven: &Proven) -> Whoami {
    Whoami {
        project_id: None,
        name: proven.principal().to_string(),
        kind: "human",
        person: Some(proven.person().to_string()),
        roles: Vec::new(),
        agent_id: None,
        is_platform_admin: false,
        credential: token(proven.subject(), proven.until()),
        projects: memberships(proven),
    }
}

fn token(subject: &str, until: jiff::Timestamp) -> CredentialView {
    CredentialView {
        r#type: "token",
        key_id: None,
        scopes: None,
        subject: Some(subject.to_owned()),
        expires_at: Some(until.to_string()),
    }
}

fn memberships(proven: &Proven) -> Vec<Membership> {
    proven.projects().iter().map(|(project, roles)| membership(project.as_str(), *roles)).collect()
}

fn membership(project: &str, roles: Roles) -> Membership {
    Membership { project_id: project.to_owned(), roles: names(roles) }
}

fn names(roles: Roles) -> Vec<&'static str> {
    roles.iter().map(Role::as_str).collect()
}
