//! What requests about contracts have in common: manifests that are checked, paths that name a contract, and
//! `If-Match`.

use awooop_core::contract::{self, Kind, Manifest};
use awooop_core::error::Violation;
use awooop_core::{ErrorCode, ProjectId};
use awooop_store::contract::ContractKey;
use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use http::{HeaderMap, header};
use serde_json::Value;

use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// All manifests are of the project the caller acts in: another is another project's business.
pub(super) fn check_project(access: &Access, documents: &[Value]) -> Result<(), Problem> {
    let project: &ProjectId = access.scope().project();
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
pub(super) fn manifests(state: &AppState, documents: Vec<Value>) -> Result<Vec<Manifest>, Problem> {
    let mut manifests = Vec::with_capacity(documents.len());
    let mut found = Vec::new();
    for (i, document) in documents.into_iter().enumerate() {
        let below = |v: Violation| Violation { path: format!("/manifests/{i}{}", v.path), ..v };
        match manifest(state, document) {
            Ok(manifest) => manifests.push(manifest),
            Err(violations) => found.extend(violations.into_iter().map(below)),
        }
    }
    if found.is_empty() { Ok(manifests) } else { Err(Problem::of_violations(ErrorCode::Contract001, found)) }
}

/// Reads one manifest: its schema, its types, its rules, and what the operator allows on the host.
pub(super) fn manifest(state: &AppState, document: Value) -> Result<Manifest, Vec<Violation>> {
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
        Value::Object(members) => {
            let has_nul = members.keys().any(|key| key.contains('\0'));
            members.iter().for_each(|(k, v)| below(k, v));
            if has_nul {
                found.push(Violation::new(path.clone(), "characters", "a name must not hold U+0000"));
            }
        }
        Value::String(text) if text.contains('\0') => {
            found.push(Violation::new(path.clone(), "characters", "a text must not hold U+0000"));
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The `{kind}` and `{id}` of a path. What can name nothing is absent.
pub(crate) struct ContractPath(pub(crate) ContractKey);

impl FromRequestParts<AppState> for ContractPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let found = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((kind, id)) = found.map_err(|_| Problem::absent("contract"))?;
        key(&kind, id).map(Self)
    }
}

/// The `{kind}`, `{id}` and `{version}` of a path.
pub(crate) struct VersionPath(pub(crate) ContractKey, pub(crate) i32);

impl FromRequestParts<AppState> for VersionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let found = Path::<(String, String, String)>::from_request_parts(parts, state).await;
        let Path((kind, id, version)) = found.map_err(|_| Problem::absent("version"))?;
        let is_plain = version.bytes().all(|b| b.is_ascii_digit());
        let version = version.parse().ok().filter(|_| is_plain).ok_or_else(|| Problem::absent("version"))?;
        Ok(Self(key(&kind, id)?, version))
    }
}

fn key(kind: &str, id: String) -> Result<ContractKey, Problem> {
    let kind = Kind::parse(kind).ok_or_else(|| Problem::absent("kind of contract"))?;
    if id.contains('\0') {
        return Err(Problem::absent("contract"));
    }
    Ok(ContractKey::new(kind, id))
}

/// The one entity tag of `If-Match`, without its quotes.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let malformed = || Problem::new(ErrorCode::Req001, "If-Match holds one entity tag, such as \"v3\"");
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed());
    }
    let text = value.to_str().map_err(|_| malformed())?.trim();
    let tag = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).ok_or_else(malformed)?;
    if tag.contains('"') { Err(malformed()) } else { Ok(Some(tag.to_owned())) }
}

/// The active version that `If-Match` names, such as `"v3"`; `"v0"` for none.
pub(super) fn seen_version(headers: &HeaderMap) -> Result<Option<i32>, Problem> {
    let Some(tag) = if_match(headers)? else { return Ok(None) };
    let version = tag.strip_prefix('v').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let changed = || Problem::new(ErrorCode::Req005, "If-Match is no entity tag of this contract");
    version.and_then(|digits| digits.parse().ok()).map(Some).ok_or_else(changed)
}
