//! Small things that only have their time: idempotency keys that are a day old, beats of workers that are gone. No
//! other role than the server's own two is needed for them.

use awooop_core::ProjectId;
use jiff::{SignedDuration, Timestamp};

use crate::error::StoreError;
use crate::pool::Store;
use crate::run::IDEMPOTENCY_KEPT;
use crate::scope::ProjectScope;

/// Keys that one statement deletes.
const BATCH: i64 = 1_000;
/// Statements that one sweep spends on one project: the other projects' turn comes.
const BATCHES: usize = 20;
/// A worker silent for so long is gone.
const GONE_AFTER: SignedDuration = SignedDuration::from_mins(10);

impl Store {
    /// Forgets idempotency keys that are more than a day old, in every project that has one. Returns how many. What
    /// fails for one project is logged and keeps no other waiting.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn forget_old_keys(&self) -> Result<usize, StoreError> {
        let before = self.inner.clock.now().saturating_sub(IDEMPOTENCY_KEPT).unwrap_or(Timestamp::MIN);
        let mut forgotten = 0;
        for row in self.system(OLD_KEYS, &[&before]).await? {
            let project = ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            let scope = ProjectScope::new(project, "platform/sweep");
            match self.forget_keys_of(&scope, before).await {
                Ok(keys) => forgotten += keys,
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => {
                    let (error, project) = (&error as &dyn std::error::Error, scope.project().as_str());
                    tracing::error!(error, project, "a project's old idempotency keys could not be deleted");
                }
            }
        }
        Ok(forgotten)
    }

    async fn forget_keys_of(&self, scope: &ProjectScope, before: Timestamp) -> Result<usize, StoreError> {
        let (mut forgotten, project) = (0, scope.project().as_str());
        for _ in 0..BATCHES {
            let keys = self.once(scope, FORGET_KEYS, &[&project, &before, &BATCH]).await?.len();
            forgotten += keys;
            if keys < usize::try_from(BATCH).unwrap_or(usize::MAX) {
                break;
            }
        }
        Ok(forgotten)
    }

    /// Forgets workers that were silent for ten minutes and have no lease any more. Returns how many.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_gone_workers(&self) -> Result<usize, StoreError> {
        let before = self.inner.clock.now().saturating_sub(GONE_AFTER).unwrap_or(Timestamp::MIN);
        Ok(self.system(FORGET_WORKERS, &[&before]).await?.len())
    }
}

// a loose index scan: its cost grows with the projects and not with the keys
const OLD_KEYS: &str = "
WITH RECURSIVE t AS (
  (SELECT project_id, created_at FROM idempotency_key ORDER BY project_id, created_at LIMIT 1)
  UNION ALL
  SELECT n.project_id, n.created_at FROM t, LATERAL (SELECT k.project_id, k.created_at FROM idempotency_key k
    WHERE k.project_id > t.project_id ORDER BY k.project_id, k.created_at LIMIT 1) n)
SELECT project_id FROM t WHERE created_at < $1";

const FORGET_KEYS: &str = "
WITH k AS MATERIALIZED (SELECT ctid FROM idempotency_key WHERE project_id = $1 AND created_at < $2
  ORDER BY created_at LIMIT $3)
DELETE FROM idempotency_key i WHERE i.project_id = $1 AND i.ctid = ANY (ARRAY(SELECT ctid FROM k))
  AND i.created_at < $2 RETURNING i.run_id";

const FORGET_WORKERS: &str = "
DELETE FROM worker_beat b WHERE b.beat_at < $1
  AND NOT EXISTS (SELECT FROM run_lease l WHERE l.worker_id = b.worker_id) RETURNING b.worker_id";
