//! The one way in: key, then project, then role x operation. Nothing of the request is read before it
//! succeeds. The operation is found by the route's own method and path in the OpenAPI document; one
//! without a row in the core's table is refused to everybody.

use std::collections::HashMap;
use std::sync::LazyLock;

use awooop_core::{ErrorCode, ProjectId, role};
use awooop_store::ProjectScope;
use awooop_store::auth::Caller;
use axum::extract::{FromRequestParts, MatchedPath};
use http::request::Parts;
use http::{HeaderMap, Method, header};

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
        let access = identify(&parts.headers, state).await?;
        if let Some(trace) = parts.extensions.get::<Trace>() {
            // set once: a request acts in one project
            let _ = trace.project.set(access.scope().project().clone());
        }
        let operation = operation(parts).unwrap_or_default();
        if !role::is_allowed(access.caller.role(), operation) {
            return Err(not_allowed(&access.caller));
        }
        Ok(access)
    }
}

/// Key and project, before any question of role.
pub(crate) async fn identify(headers: &HeaderMap, state: &AppState) -> Result<Access, Problem> {
    let denied = || Problem::new(ErrorCode::Auth001, "a valid key is needed: Authorization: Bearer <key>");
    let key = bearer(headers).ok_or_else(denied)?;
    let caller = state.store.authenticate(key).await?.ok_or_else(denied)?;
    let named = named_project(headers)?;
    let caller = match &named {
        None => caller,
        Some(project) => caller.act_in(project).ok_or_else(|| {
            Problem::new(
                ErrorCode::Auth003,
                format!("{PROJECT_HEADER} names a project that is not the key's"),
            )
        })?,
    };
    tracing::Span::current().record("project", caller.scope().project().as_str());
    Ok(Access { caller, is_project_named: named.is_some() })
}

/// The refusal of a role.
pub(crate) fn not_allowed(caller: &Caller) -> Problem {
    let role = caller.role().as_str();
    Problem::new(ErrorCode::Auth002, format!("a key with the role {role} may not do this"))
}

/// The token of the one `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The project the header names. Two headers could mean two projects, so they are refused.
fn named_project(headers: &HeaderMap) -> Result<Option<ProjectId>, Problem> {
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
