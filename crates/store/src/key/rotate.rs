//! Rotating a key: a new one that proves and may the same, while the former goes on for an overlap, so that whoever
//! uses it can change over without a gap.
//!
//! The guard is the former key's row: not revoked, not expired, not rotated before, its principal enabled and still of
//! the role that was read. Of two who rotate one key at a time, one makes a key.

use std::time::Duration;

use awooop_core::role::Role;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;

use super::{ApiKey, Proven};
use crate::audit::Note;
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// Why a key was not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateKeyError {
    /// The project has none of this id.
    #[error("there is no such key here")]
    Absent,
    /// It is over, or was rotated before, or its principal is disabled or without a role.
    #[error("the key {0}")]
    State(&'static str),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A key and its successor.
#[derive(Debug)]
pub struct Rotated {
    /// The new key whole, once.
    pub text: SecretString,
    /// The new key.
    pub new: ApiKey,
    /// When the former one stops working.
    pub former_expires_at: Timestamp,
}

const ROTATE: &str = "
WITH o AS (   -- the guard: the former key works, has no successor, and its principal is what was read
  UPDATE api_key k SET replaced_by = $3, expires_at = $4
  FROM principal p, role_binding b
  WHERE k.project_id = $1 AND k.key_id = $2 AND k.revoked_at IS NULL AND k.replaced_by IS NULL
    AND (k.expires_at IS NULL OR k.expires_at > $5)
    AND p.project_id = $1 AND p.principal_id = k.principal_id AND p.disabled_at IS NULL
    AND b.project_id = $1 AND b.principal_id = k.principal_id AND b.role = $6
  RETURNING k.key_id, k.principal_id, k.agent_id, k.scopes),
n AS (INSERT INTO api_key (project_id, key_id, principal_id, agent_id, pepper_id, secret_hmac, created_at,
        created_by, expires_at, role, scopes)
  SELECT $1, $3, principal_id, agent_id, $7, $8, $5, $9, $10, $6, scopes FROM o),
c AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
  SELECT $1, $11, $5, $9, 'key.create', 'key/' || $3, $12, $13, $14 FROM o),
e AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
  SELECT $1, $15, $5, $9, 'key.rotate', 'key/' || key_id, $16, $17, $18 FROM o)
SELECT key_id FROM o";

impl Store {
    /// Makes `former`'s successor; `former` itself works for `overlap` longer, at most until it expires anyway. The new
    /// one lives as long as the former was to live, from now on.
    pub async fn rotate_key(
        &self,
        scope: &ProjectScope,
        former: &ApiKey,
        overlap: Duration,
    ) -> Result<Rotated, RotateKeyError> {
        let now = self.inner.clock.now();
        if let Some(why) = why_not(former, now) {
            return Err(RotateKeyError::State(why));
        }
        let role = former.role.ok_or(RotateKeyError::State("has a principal without a role"))?;
        let proves = Proven {
            principal: &former.principal,
            person: former.person.as_deref(),
            role: role.as_str(),
            agent_id: former.agent_id.as_deref(),
            scopes: former.scopes.as_deref(),
        };
        let minted = self.mint(scope.project(), &proves);
        let later = self.inner.clock.after(overlap);
        let former_expires_at = former.expires_at.map_or(later, |at| at.min(later));
        let expires_at = former.expires_at.map(|at| now + at.duration_since(former.created_at));
        let created = self.key_made(scope, &minted.key_id, &proves, expires_at, Some(&former.key_id));
        let body = json!({"replaced_by": minted.key_id, "expires_at": former_expires_at});
        let rotated =
            self.audit_at(scope, created.at, Note::new("key.rotate", format!("key/{}", former.key_id), body));
        let rows = self
            .once(
                scope,
                ROTATE,
                &[
                    &scope.project().as_str(),
                    &former.key_id,
                    &minted.key_id,
                    &former_expires_at,
                    &created.at,
                    &role.as_str(),
                    &minted.pepper_id,
                    &minted.hmac,
                    &created.actor,
                    &expires_at,
                    &created.id,
                    &created.body,
                    &created.key_id,
                    &created.mac,
                    &rotated.id,
                    &rotated.body,
                    &rotated.key_id,
                    &rotated.mac,
                ],
            )
            .await?;
        if rows.is_empty() {
            return Err(self.why_not_rotated(scope, &former.key_id, role).await?);
        }
        let new = ApiKey {
            key_id: minted.key_id,
            created_at: created.at,
            expires_at,
            last_used_at: None,
            ..former.clone()
        };
        Ok(Rotated { text: minted.text, new, former_expires_at })
    }

    async fn why_not_rotated(
        &self,
        scope: &ProjectScope,
        key_id: &str,
        role: Role,
    ) -> Result<RotateKeyError, StoreError> {
        let now = self.inner.clock.now();
        Ok(match self.find_key(scope, key_id).await? {
            None => RotateKeyError::Absent,
            Some(found) if found.role != Some(role) => {
                RotateKeyError::State("has a principal whose role was just changed")
            }
            Some(found) => RotateKeyError::State(why_not(&found, now).unwrap_or("was just changed")),
        })
    }
}

/// Why this key cannot be rotated, if it cannot.
fn why_not(key: &ApiKey, now: Timestamp) -> Option<&'static str> {
    if key.revoked_at.is_some() {
        return Some("is revoked");
    }
    if key.replaced_by.is_some() {
        return Some("was rotated before");
    }
    if key.expires_at.is_some_and(|at| at <= now) {
        return Some("has expired");
    }
    key.disabled_at.map(|_| "has a disabled principal")
}
