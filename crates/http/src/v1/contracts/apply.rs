//! Applying manifests: all are checked, each against its closed schema, together against each other and
//! against what the operator allows on the host; then one transaction activates them or changes nothing.

use awooop_core::contract::{self, Manifest};
use awooop_core::error::Violation;
use awooop_core::{ErrorCode, ProjectId};
use awooop_store::contract::{Applied, Change};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// Manifests of one project.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplyContracts {
    /// Each an object with kind, project, id and spec.
    #[schema(min_items = 1, max_items = 200, value_type = Vec<Object>)]
    manifests: Vec<Value>,
}

/// What applying did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppliedContracts {
    project_id: String,
    /// One item a manifest.
    items: Vec<AppliedContract>,
    /// Did anything change?
    is_changed: bool,
}

/// One manifest after applying.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppliedContract {
    /// `project`, `provider` or `agent`.
    kind: &'static str,
    id: String,
    /// The active version.
    version: i32,
    /// SHA-256 of the manifest's canonical JSON.
    sha256: String,
    /// `created`, `updated` or `unchanged`.
    change: &'static str,
}

/// Applies manifests, all or none. Applying the same again changes nothing.
#[utoipa::path(post, path = "/v1/platform/contracts", operation_id = "apply_contracts", tag = "contracts",
    request_body = ApplyContracts,
    responses((status = 200, description = "They are active", body = AppliedContracts)))]
pub(crate) async fn apply_contracts(
    State(state): State<AppState>,
    access: Access,
    body: Body<ApplyContracts>,
) -> Result<Json<AppliedContracts>, Problem> {
    let project = access.scope().project();
    check_project(&access, project, &body.value.manifests)?;
    let manifests = read(&state, body.value.manifests)?;
    let applied = state.store.apply(access.scope(), &manifests).await?;
    Ok(Json(AppliedContracts {
        project_id: project.to_string(),
        is_changed: applied.iter().any(|a| a.change != Change::Unchanged),
        items: applied.into_iter().map(item).collect(),
    }))
}

/// All manifests are of the project the caller acts in: another is another project's business.
fn check_project(access: &Access, project: &ProjectId, documents: &[Value]) -> Result<(), Problem> {
    let named = |d: &Value| d.get("project").and_then(Value::as_str).is_some_and(|p| p != project.as_str());
    let Some(i) = documents.iter().position(named) else { return Ok(()) };
    if !access.caller.is_platform_admin() {
        return Err(Problem::new(ErrorCode::Auth003, "a manifest names a project that is not the key's"));
    }
    let message =
        format!("this request acts in `{project}`; name the manifests' project in X-Awooop-Project");
    let found = Violation::new(format!("/manifests/{i}/project"), "project", message);
    Err(Problem::of_violations(ErrorCode::Contract001, vec![found]))
}

/// Reads all manifests, or tells everything that is wrong with any.
fn read(state: &AppState, documents: Vec<Value>) -> Result<Vec<Manifest>, Problem> {
    let mut manifests = Vec::with_capacity(documents.len());
    let mut found = Vec::new();
    for (i, document) in documents.into_iter().enumerate() {
        let below = |v: Violation| Violation { path: format!("/manifests/{i}{}", v.path), ..v };
        match read_one(state, document) {
            Ok(manifest) => manifests.push(manifest),
            Err(violations) => found.extend(violations.into_iter().map(below)),
        }
    }
    if found.is_empty() { Ok(manifests) } else { Err(Problem::of_violations(ErrorCode::Contract001, found)) }
}

fn read_one(state: &AppState, document: Value) -> Result<Manifest, Vec<Violation>> {
    let manifest = contract::parse(document)?;
    let mut found = state.gateway.check_manifest(&manifest);
    find_nul(&manifest.document, &mut String::new(), &mut found);
    if found.is_empty() { Ok(manifest) } else { Err(found) }
}

/// PostgreSQL's text has no NUL. The schema bounds the depth of what it does not know by its own limit.
fn find_nul(value: &Value, path: &mut String, found: &mut Vec<Violation>) {
    let length = path.len();
    let mut below = |part: &str, inner: &Value| {
        path.push('/');
        path.push_str(&part.replace('~', "~0").replace('/', "~1"));
        find_nul(inner, path, found);
        path.truncate(length);
    };
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(i, v)| below(&i.to_string(), v)),
        Value::Object(members) => members.iter().for_each(|(k, v)| below(k, v)),
        Value::String(text) if text.contains('\0') => {
            found.push(Violation::new(path.clone(), "characters", "a text must not hold U+0000"));
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn item(applied: Applied) -> AppliedContract {
    AppliedContract {
        kind: applied.kind.as_str(),
        id: applied.id,
        version: applied.version,
        sha256: applied.sha256,
        change: applied.change.as_str(),
    }
}
