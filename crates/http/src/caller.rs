//! The one way in: key or token, then project, then role and scope x operation. Nothing of the request is read before
//! it succeeds. Every key and every token that is not valid gets the same answer; an address from which too many of them
//! came, and a key that asks too often, are refused by the `edge`. The operation is found by the route's own method and path in the OpenAPI document; one
//! without a row in the core's table is refused to everybody.

use std::collections::HashMap;
use std::sync::LazyLock;

use awooop_core::{ErrorCode, ProjectId};
use awooop_gateway::issuer::ProveError;
use awooop_store::ProjectScope;
use awooop_store::auth::Caller;
use awooop_store::sign_in::{Admitted, Proven};
use axum::extract::{FromRequestParts, MatchedPath};
use http::request::Parts;
use http::{HeaderMap, Method, header};

use crate::edge::Client;
use crate::problem::Problem;
use crate::state::AppState;
use crate::telemetry::Trace;

/// The header by which a platform admin acts in a project.
pub(crate) const PROJECT_HEADER: &str = "x-awooop-project";

/// An authenticated caller who may call this operation.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// Who it is, in the project it acts in.
    pub(crate) caller: Caller,
    /// Was the project named by the header?
    pub(crate) is_project_named: bool,
}

impl Access {
    /// The scope everything the caller does happens in.
    pub(crate) fn scope(&self) -> &ProjectScope {
        self.caller.scope()
    }
}

impl FromRequestParts<AppState> for Access {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let client = parts.extensions.get::<Client>().copied().unwrap_or_default();
        let access = identify(&parts.headers, &client, state).await?;
        if let Some(trace) = parts.extensions.get::<Trace>() {
            // set once: a request acts in one project
            let _ = trace.project.set(access.scope().project().clone());
        }
        let operation = operation(parts).unwrap_or_default();
        if !access.caller.may(operation) {
            state.store.note_refused_call(access.scope(), operation, ErrorCode::Auth002);
            return Err(not_allowed(&access.caller, operation));
        }
        Ok(access)
    }
}

/// Whom a key or a token proves.
pub(crate) enum Identity {
    /// The principal of a key.
    Key(Caller),
    /// A person who signed in, and where they may act.
    Person(Proven),
}

/// Who it is and in which project, before any question of role.
pub(crate) async fn identify(
    headers: &HeaderMap,
    client: &Client,
    state: &AppState,
) -> Result<Access, Problem> {
    let identity = authenticate(headers, client, state).await?;
    let named = named_project(headers)?;
    place(identity, named, state).await
}

/// Whom the request's key or token proves, if it may ask once more. Nothing is looked up for an address that failed too
/// often, but for what was proven from there lately.
pub(crate) async fn authenticate(
    headers: &HeaderMap,
    client: &Client,
    state: &AppState,
) -> Result<Identity, Problem> {
    let token = bearer(headers).ok_or_else(denied)?;
    state.edge.may_try(client, token)?;
    let identity = prove(token, state).await.inspect_err(|problem| {
        if problem.code() == ErrorCode::Auth001 {
            state.edge.has_tried(client, token, false);
        }
    })?;
    state.edge.has_tried(client, token, true);
    match &identity {
        Identity::Key(caller) => state.edge.request_with(caller.credential())?,
        Identity::Person(proven) => state.edge.request_of_person(proven.subject())?,
    }
    Ok(identity)
}

/// Whom a key or a token proves.
async fn prove(token: &str, state: &AppState) -> Result<Identity, Problem> {
    if let Some(issuer) = state.gateway.issuer().filter(|_| !token.starts_with("awp_")) {
        return match issuer.prove(token).await {
            Ok(proven) => Ok(Identity::Person(proven)),
            Err(ProveError::Refused) => Err(denied()),
            Err(ProveError::Away) => {
                let detail = "tokens cannot be checked now: their issuer cannot be asked for its keys";
                Err(Problem::new(ErrorCode::Auth004, detail))
            }
        };
    }
    state.store.authenticate(token).await?.map(Identity::Key).ok_or_else(denied)
}

/// The caller in the project that was named, or in their own.
pub(crate) async fn place(
    identity: Identity,
    named: Option<ProjectId>,
    state: &AppState,
) -> Result<Access, Problem> {
    let caller = match identity {
        Identity::Key(caller) => caller,
        Identity::Person(proven) => admit(&proven, named.as_ref(), state).await?,
    };
    let caller = match &named {
        None => caller,
        Some(project) => caller.act_in(project).ok_or_else(|| {
            state.store.note_refused_call(caller.scope(), "another project", ErrorCode::Auth003);
            Problem::new(
                ErrorCode::Auth003,
                format!("{PROJECT_HEADER} names a project that is not the key's"),
            )
        })?,
    };
    tracing::Span::current().record("project", caller.scope().project().as_str());
    Ok(Access { caller, is_project_named: named.is_some() })
}

/// A person in the project they act from.
async fn admit(proven: &Proven, named: Option<&ProjectId>, state: &AppState) -> Result<Caller, Problem> {
    // one detail for each: it does not tell which projects there are
    let detail = match named {
        Some(_) => format!("{PROJECT_HEADER} names a project that your groups give you nothing in"),
        None if proven.projects().is_empty() => "your groups give you nothing in any project".to_owned(),
        None => format!("name one of your projects with {PROJECT_HEADER}; /v1/platform/whoami lists them"),
    };
    let elsewhere = || Problem::new(ErrorCode::Auth003, detail);
    let Some(home) = proven.home(named) else { return Err(elsewhere()) };
    match state.store.admit(proven, &home).await? {
        Admitted::Caller(caller) => Ok(*caller),
        Admitted::Disabled => Err(denied()),
        Admitted::Elsewhere => Err(elsewhere()),
    }
}

fn denied() -> Problem {
    Problem::new(ErrorCode::Auth001, "a valid key is needed: Authorization: Bearer <key>")
}

/// The refusal of a role, or of a key's scopes.
pub(crate) fn not_allowed(caller: &Caller, operation: &str) -> Problem {
    let roles = caller.roles();
    let detail = match roles.may(operation) {
        true => format!("this key's scopes do not hold {operation}"),
        false => format!("a key with the role {roles} may not do this"),
    };
    Problem::new(ErrorCode::Auth002, detail)
}

/// The token of the one `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The project the header names. Two headers could mean two projects, so they are refused.
pub(crate) fn named_project(headers: &HeaderMap) -> Result<Option<ProjectId>, Problem> {
    let malformed = |detail: &str| Problem::new(ErrorCode::Req001, format!("{PROJECT_HEADER} {detail}"));
    let mut values = headers.get_all(PROJECT_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed("is given more than once"));
    }
    let text = value.to_str().map_err(|_| malformed("is not text"))?;
    ProjectId::parse(text).map(Some).map_err(|_| malformed("is not a project id"))
}

/// The operation id of the route that matched.
fn operation(parts: &Parts) -> Option<&'static str> {
    static OPERATIONS: LazyLock<HashMap<(Method, String), String>> =
        LazyLock::new(crate::openapi::operations);
    let path = parts.extensions.get::<MatchedPath>()?.as_str().to_owned();
    let method = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
    OPERATIONS.get(&(method, path)).map(String::as_str)
}
