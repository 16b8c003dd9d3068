//! Saving a draft: the one version of a contract that may still change. It is checked like any manifest, but
//! not yet against what is active.

use awooop_core::ErrorCode;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::read::{self, ContractPath};
use super::view::{self, VersionItem};
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// A manifest: an object with kind, project, id and spec.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct ManifestBody(Value);

impl PartialSchema for ManifestBody {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Object).into()
    }
}

impl ToSchema for ManifestBody {}

/// Saves the contract's draft. A draft that exists is replaced only under `If-Match` with its entity tag.
#[utoipa::path(put, path = "/v1/platform/contracts/{kind}/{id}/draft", operation_id = "save_draft", tag = "contracts",
    params(("If-Match" = Option<String>, Header, description = "The entity tag of the draft to replace")),
    request_body = ManifestBody,
    responses(
        (status = 200, description = "It took the former draft's place, or says the same", body = VersionItem,
            headers(("ETag" = String))),
        (status = 201, description = "The draft is new", body = VersionItem, headers(("ETag" = String))),
        (status = 412, description = "E-REQ-005: there is another draft than If-Match names")))]
pub(crate) async fn save_draft(
    State(state): State<AppState>,
    access: Access,
    ContractPath(key): ContractPath,
    headers: HeaderMap,
    body: Body<ManifestBody>,
) -> Result<Response, Problem> {
    let replaces = read::if_match(&headers)?;
    let document = body.value.0;
    read::check_project(&access, std::slice::from_ref(&document))?;
    let invalid = |found| Problem::of_violations(ErrorCode::Contract001, found);
    let manifest = read::manifest(&state, document).map_err(invalid)?;
    if manifest.spec.kind() != key.kind || manifest.id != key.id {
        return Err(Problem::invalid_at("/id", "path", format!("the manifest is not that of {key}")));
    }
    let saved = state.store.save_draft(&access.caller, &manifest, replaces.as_deref()).await?;
    let status = if saved.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, view::etag(&saved.version), Json(VersionItem::from(saved.version))).into_response())
}
