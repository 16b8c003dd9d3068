//! Families: what a run used together with its descendants, and the end of those whose parent has ended.
//!
//! However a parent ends, its open descendants are cancelled: nobody is left to use what they would find, and they
//! would go on spending. `run_child` names the children of parents that may be open, so no statement that ends a run has
//! to know of it; a sweep goes from parent to parent, past however many children each has, and cancels the open ones of
//! those that have ended, one by one, each in a transaction of its own. A crash in the middle leaves the rest to the next
//! sweep, on any node. Of a parent that has not ended no child is read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use awooop_core::{ProjectId, RunId};
use serde_json::json;

use crate::error::StoreError;
use crate::pool::Store;
use crate::run::Cancelled;
use crate::scope::ProjectScope;

/// Parents that one look reads.
const PARENTS: i64 = 1_000;
/// Children that one statement forgets.
const BATCH: i64 = 1_000;
/// Children that one look cancels, one after the other.
const CANCELS: i64 = 200;
/// Most looks one sweep spends on one project's families: the other projects' turn comes.
const LOOKS: usize = 25;

/// The parent after which each project's next sweep begins; a project whose sweep came to the end has none.
#[derive(Debug, Default)]
pub(crate) struct Sweeps(Mutex<HashMap<ProjectId, RunId>>);

impl Sweeps {
    fn begins_after(&self, project: &ProjectId) -> RunId {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(project).copied().unwrap_or(RunId::nil())
    }

    fn goes_on_after(&self, project: &ProjectId, parent: Option<RunId>) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match parent {
            Some(parent) => drop(places.insert(project.clone(), parent)),
            None => drop(places.remove(project)),
        }
    }
}

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

    /// The same for one project: of the next thousand parents, those before their children, until none is left or the
    /// sweep's share is used up.
    ///
    /// # Errors
    /// The database's.
    pub async fn cancel_orphans_in(&self, scope: &ProjectScope) -> Result<usize, StoreError> {
        let (project, mut cancelled) = (scope.project().as_str(), 0);
        let after = self.inner.families.begins_after(scope.project());
        for _ in 0..LOOKS {
            let parents = self.once(scope, NEXT_PARENTS, &[&project, &after, &PARENTS]).await?;
            let last = parents.get(PARENTS.unsigned_abs() as usize - 1).map(|row| row.get(0));
            let ended: HashMap<RunId, &str> =
                parents.iter().filter(|row| row.get(2)).map(|row| (row.get(0), row.get(1))).collect();
            let some = self.cancel_children_of(scope, &ended).await?;
            cancelled += some;
            // whom it cancelled may be parents too, and are among those that the next look reads
            if some == 0 {
                self.inner.families.goes_on_after(scope.project(), last);
                break;
            }
        }
        Ok(cancelled)
    }

    /// Cancels a batch of open children of these, and forgets those that have ended.
    async fn cancel_children_of(
        &self,
        scope: &ProjectScope,
        ended: &HashMap<RunId, &str>,
    ) -> Result<usize, StoreError> {
        if ended.is_empty() {
            return Ok(0);
        }
        let (project, mut cancelled) = (scope.project().as_str(), 0);
        let parents: Vec<RunId> = ended.keys().copied().collect();
        for _ in 0..LOOKS {
            let forgotten = self.once(scope, FORGET, &[&project, &parents, &BATCH]).await?.len();
            if forgotten < BATCH.unsigned_abs() as usize {
                break;
            }
        }
        for row in self.once(scope, ORPHANS, &[&project, &parents, &CANCELS]).await? {
            let parent: RunId = row.get(1);
            let why = json!({"cause": {"parent_run_id": parent, "parent_state": ended.get(&parent)}});
            let done = self.cancel_run_because(scope, row.get(0), &why).await?;
            cancelled += usize::from(matches!(done, Cancelled::Done(_)));
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

// A loose index scan: its cost grows with the parents it reads and not with their children. A parent that is not there
// any more has ended.
const NEXT_PARENTS: &str = "
WITH RECURSIVE t AS (
  (SELECT parent_run_id, 1::bigint AS n FROM run_child WHERE project_id = $1 AND parent_run_id > $2
   ORDER BY parent_run_id LIMIT 1)
  UNION ALL
  SELECT c.parent_run_id, t.n + 1 FROM t, LATERAL (SELECT k.parent_run_id FROM run_child k
    WHERE k.project_id = $1 AND k.parent_run_id > t.parent_run_id ORDER BY k.parent_run_id LIMIT 1) c WHERE t.n < $3),
p AS (SELECT t.n, t.parent_run_id, coalesce((SELECT r.state FROM run_state r WHERE r.project_id = $1
    AND r.run_id = t.parent_run_id), 'expired') AS state FROM t)
SELECT parent_run_id, state, state IN ('completed', 'failed', 'cancelled', 'timeout', 'expired') FROM p ORDER BY n";

// $2: parents that have ended; a run that is not there any more is not open either
const FORGET: &str = "
WITH c AS MATERIALIZED (SELECT c.ctid FROM run_child c WHERE c.project_id = $1 AND c.parent_run_id = ANY ($2)
    AND (SELECT r.completed_at IS NULL FROM run_state r WHERE r.project_id = $1 AND r.run_id = c.run_id) IS NOT TRUE
  LIMIT $3 FOR UPDATE OF c SKIP LOCKED)
DELETE FROM run_child k WHERE k.project_id = $1 AND k.ctid = ANY (ARRAY(SELECT ctid FROM c)) RETURNING k.run_id";

const ORPHANS: &str = "
SELECT c.run_id, c.parent_run_id FROM run_child c WHERE c.project_id = $1 AND c.parent_run_id = ANY ($2)
  AND (SELECT r.completed_at IS NULL FROM run_state r WHERE r.project_id = $1 AND r.run_id = c.run_id)
ORDER BY c.run_id LIMIT $3";
