//! The proof that one event is in its seal, for somebody who trusts neither server nor database.

use awooop_core::audit::Proof;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{HeadItem, SealItem};
use crate::caller::Access;
use crate::problem::Problem;
use crate::query::{Params, PathPart};
use crate::state::AppState;

/// Where the proof is to lead.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProofQuery {
    /// The number of a head that was kept: the proof then holds every seal from the event's to that one.
    #[param(value_type = Option<i64>, minimum = 1)]
    to: Option<String>,
}

/// A proof.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProofItem {
    /// Always `awooop-audit-proof-v1`.
    format: String,
    /// The event as it was hashed, byte for byte.
    event: String,
    /// Its place in the seal, from 0.
    leaf_index: usize,
    /// Neighbours from the leaf to the root, in hexadecimal.
    path: Vec<String>,
    seal: HeadItem,
    /// What the seals after it say, up to `to`.
    chain: Vec<SealItem>,
    /// The public key of the seal's signature, in hexadecimal.
    public_key: Option<String>,
}

impl From<Proof> for ProofItem {
    fn from(proof: Proof) -> Self {
        Self {
            format: proof.format,
            event: proof.event,
            leaf_index: proof.leaf_index,
            path: proof.path,
            seal: proof.seal.into(),
            chain: proof.chain.into_iter().map(SealItem::from).collect(),
            public_key: proof.public_key,
        }
    }
}

/// The proof that an event is in its seal, and that its seal leads to a later one.
#[utoipa::path(get, path = "/v1/platform/audit/events/{event_id}/proof", operation_id = "prove_audit_event",
    tag = "audit", params(ProofQuery),
    responses(
        (status = 200, description = "The proof", body = ProofItem),
        (status = 409, description = "E-AUDIT-001: the event is in no seal yet")))]
pub(crate) async fn prove_audit_event(
    State(state): State<AppState>,
    access: Access,
    PathPart(text): PathPart,
    Params(query): Params<ProofQuery>,
) -> Result<Json<ProofItem>, Problem> {
    let id: Option<Uuid> = text.parse().ok().filter(|_| text.len() == 36);
    let id = id.ok_or_else(|| Problem::absent("event"))?;
    let invalid = || Problem::invalid_at("/to", "range", "to is the number of a seal, from 1");
    let to: Option<i64> = query.to.as_deref().map(|t| t.parse().map_err(|_| invalid())).transpose()?;
    let to = to.map(|n| if n > 0 { Ok(n) } else { Err(invalid()) }).transpose()?;
    let proof = state.store.prove_event(access.scope(), id, to).await?;
    Ok(Json(proof.into()))
}
