//! Families: what a run used together with its descendants, and the end of those whose parent has ended.
//!
//! However a parent ends, its open descendants are cancelled: nobody is left to use what they would find, and they
//! would go on spending. `run_child` names the children that may still be open, so no statement that ends a run has to
//! know of it; a sweep looks for those whose parent has ended and cancels them one by one, each in a transaction of its
//! own. A crash in the middle leaves the rest to the next sweep, on any node.

use awooop_core::{ProjectId, RunId};
use serde_json::json;

use crate::error::StoreError;
use crate::pool::Store;
use crate::run::Cancelled;
use crate::scope::ProjectScope;

/// Children one look takes.
const BATCH: i64 = 200;
/// Most looks one sweep spends on one project's families: the other projects' turn comes.
const LOOKS: usize = 25;

/// Tokens charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// For the run itself.
    pub own: i64,
    /// For it and all of its descendants.
    pub with_descendants: i64,
    /// How many descendants it has.
    pub descendants: i64,
}

impl Store {
    /// What was charged for a run, alone and with its descendants.
    ///
    /// # Errors
    /// The database's.
    pub async fn usage_of(&self, scope: &ProjectScope, run_id: RunId) -> Result<Usage, StoreError> {
        let rows = self.once(scope, USAGE, &[&scope.project().as_str(), &run_id]).await?;
        let row = rows.first().ok_or_else(|| StoreError::Corrupt("no answer to usage_of".into()))?;
        Ok(Usage { own: row.get(0), with_descendants: row.get(1), descendants: row.get(2) })
    }

    /// Cancels the open descendants of runs that have ended, in every project that has some. Returns how many. What
    /// fails for one project is logged and keeps no other waiting.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn cancel_orphans(&self) -> Result<usize, StoreError> {
        let mut cancelled = 0;
        for row in self.system(WITH_CHILDREN, &[]).await? {
            let project = ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            let scope = ProjectScope::new(project.clone(), "platform/cascade");
            match self.cancel_orphans_in(&scope).await {
                Ok(runs) => cancelled += runs,
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => {
                    let (error, project) = (&error as &dyn std::error::Error, project.as_str());
                    tracing::error!(error, project, "descendants of ended runs could not be cancelled");
                }
            }
        }
        Ok(cancelled)
    }

    /// The same for one project, parents before their children, until none is left or the sweep's share is used up.
    ///
    /// # Errors
    /// The database's.
    pub async fn cancel_orphans_in(&self, scope: &ProjectScope) -> Result<usize, StoreError> {
        let (project, mut cancelled) = (scope.project().as_str(), 0);
        for _ in 0..LOOKS {
            self.once(scope, FORGET, &[&project, &BATCH]).await?;
            let orphans = self.once(scope, ORPHANS, &[&project, &BATCH]).await?;
            if orphans.is_empty() {
                break;
            }
            for row in &orphans {
                let (parent, state): (RunId, &str) = (row.get(1), row.get(2));
                let why = json!({"cause": {"parent_run_id": parent, "parent_state": state}});
                let done = self.cancel_run_because(scope, row.get(0), &why).await?;
                cancelled += usize::from(matches!(done, Cancelled::Done(_)));
            }
        }
        Ok(cancelled)
    }
}

const USAGE: &str = "
WITH RECURSIVE f AS (
  SELECT run_id FROM run_state WHERE project_id = $1 AND run_id = $2
  UNION ALL
  SELECT c.run_id FROM f JOIN run_state c ON c.project_id = $1 AND c.parent_run_id = f.run_id),
s AS (SELECT f.run_id, (SELECT coalesce(sum(l.amount), 0) FROM budget_ledger l
    WHERE l.project_id = $1 AND l.run_id = f.run_id) AS amount FROM f)
SELECT coalesce(sum(amount) FILTER (WHERE run_id = $2), 0)::bigint, coalesce(sum(amount), 0)::bigint,
  greatest(count(*) - 1, 0) FROM s";

// a loose index scan: its cost grows with the projects and not with the children
const WITH_CHILDREN: &str = "
WITH RECURSIVE t AS (
  (SELECT project_id FROM run_child ORDER BY project_id LIMIT 1)
  UNION ALL
  SELECT (SELECT c.project_id FROM run_child c WHERE c.project_id > t.project_id ORDER BY c.project_id LIMIT 1)
  FROM t WHERE t.project_id IS NOT NULL)
SELECT project_id FROM t WHERE project_id IS NOT NULL";

const FORGET: &str = "
WITH c AS MATERIALIZED (SELECT c.ctid FROM run_child c JOIN run_state r ON r.project_id = $1 AND r.run_id = c.run_id
  WHERE c.project_id = $1 AND r.state IN ('completed', 'failed', 'cancelled', 'timeout')
  LIMIT $2 FOR UPDATE OF c SKIP LOCKED)
DELETE FROM run_child k WHERE k.project_id = $1 AND k.ctid = ANY (ARRAY(SELECT ctid FROM c))";

const ORPHANS: &str = "
SELECT c.run_id, c.parent_run_id, p.state FROM run_child c
JOIN run_state p ON p.project_id = $1 AND p.run_id = c.parent_run_id
  AND p.state IN ('completed', 'failed', 'cancelled', 'timeout')
JOIN run_state r ON r.project_id = $1 AND r.run_id = c.run_id
  AND r.state NOT IN ('completed', 'failed', 'cancelled', 'timeout')
WHERE c.project_id = $1 ORDER BY c.run_id LIMIT $2";
