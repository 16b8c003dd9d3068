//! The newest seal: what an auditor keeps elsewhere, so that an end that is cut off shows.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::HeadItem;
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// How the project's audit stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditHead {
    /// The newest seal; null before the first.
    head: Option<HeadItem>,
    /// The keys of all seals, retired ones too.
    public_keys: Vec<PublicKeyItem>,
    /// Events of the last day that wait for a seal.
    unsealed: usize,
    /// The time of the oldest of them, in microseconds since 1970.
    oldest_unsealed_at_us: Option<i64>,
    /// Rows of the last day that no server with the key wrote.
    forged: Vec<String>,
}

/// A key that others check seals with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublicKeyItem {
    key_id: String,
    /// Ed25519, in hexadecimal. Compare it with what the operator gave you.
    public_key: String,
}

/// The newest seal of the project's audit, the keys of its signatures, and what waits for a seal.
#[utoipa::path(get, path = "/v1/platform/audit/head", operation_id = "get_audit_head", tag = "audit",
    responses((status = 200, description = "The newest seal", body = AuditHead)))]
pub(crate) async fn get_audit_head(
    State(state): State<AppState>,
    access: Access,
) -> Result<Json<AuditHead>, Problem> {
    let status = state.store.audit_status(access.scope()).await?;
    let head = state.store.audit_head(access.scope()).await?;
    let keys = state.store.keyring().audit_public_keys();
    let key = |(id, public_key): (&str, String)| PublicKeyItem { key_id: id.to_owned(), public_key };
    Ok(Json(AuditHead {
        head: head.map(HeadItem::from),
        public_keys: keys.list().map(key).collect(),
        unsealed: status.unsealed,
        oldest_unsealed_at_us: status.oldest_unsealed_at_us,
        forged: status.forged.iter().map(ToString::to_string).collect(),
    }))
}
