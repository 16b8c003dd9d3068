//! Retention of runs: what has ended longer ago than the project's contract keeps it is deleted, its steps, tool
//! calls and approvals with it, in bounded batches, each with its audit event in the same transaction. A sweep that is cut off is
//! finished by the next.
//!
//! Deleting is the role `awooop_retention`'s, one project at a time; it sees ids and ends of runs and no content. What
//! may be deleted is decided as the tenants' role, and the ends are asked again by the statement that deletes.
//!
//! A run that has not ended is never touched, nor one whose child has not ended, nor one that still holds tokens, nor one
//! below such a run or below one that is kept longer. The budget's ledger stays whole: it is the account of what was charged, holds no content, and no role may
//! delete from it, so that `budget.settled` is its sum for good.

use awooop_core::ProjectId;
use awooop_core::audit::first_id_at;
use awooop_core::contract::{ProjectSpec, Spec};
use deadpool_postgres::Pool;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde_json::json;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::audit::{Columns, INSERT, Note};
use crate::contract::version::{self, COLUMNS};
use crate::error::StoreError;
use crate::pool::{OpenError, Store, pool, refuse_unsafe};
use crate::scope::ProjectScope;

/// Runs, or calls, of one transaction.
const BATCH: i64 = 500;

/// What expired in one project.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpiredRuns {
    /// Runs that were deleted, or would be.
    pub runs: u64,
    /// Their steps; not counted by a dry run.
    pub steps: u64,
    /// Tool calls, those of no run among them.
    pub calls: u64,
}

/// The connection of the role that deletes.
pub struct RunRetention {
    store: Store,
    pool: Pool,
}

impl RunRetention {
    /// Opens the connection.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open(store: Store, url: &SecretString) -> Result<Self, OpenError> {
        let variable = "AWOOOP_RETENTION_DATABASE_URL";
        let pool = pool(variable, url, 1)?;
        refuse_unsafe(variable, &pool).await?;
        Ok(Self { store, pool })
    }

    /// Deletes what every project keeps no longer. What fails for one project is logged.
    ///
    /// # Errors
    /// When discovery fails.
    pub async fn run_once(&self, is_dry: bool) -> Result<Vec<(ProjectId, ExpiredRuns)>, StoreError> {
        let (mut after, mut all) = (String::new(), Vec::new());
        loop {
            let page = self.store.project_ids(&after, 200).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = last.to_string();
            for project in page {
                match self.expire(&project, is_dry).await {
                    Ok(done) if done != ExpiredRuns::default() => all.push((project, done)),
                    Ok(_) => {}
                    Err(error) => {
                        let (error, project) = (&error as &dyn std::error::Error, project.as_str());
                        tracing::error!(error, project, "old runs could not be deleted");
                    }
                }
            }
        }
    }

    /// Deletes what one project keeps no longer, as its contract in force says; nothing where it says nothing.
    ///
    /// # Errors
    /// The database's, and [`StoreError::Untrusted`] when the contract is not what was signed: then nothing is deleted.
    pub async fn expire(&self, project: &ProjectId, is_dry: bool) -> Result<ExpiredRuns, StoreError> {
        let scope = ProjectScope::new(project.clone(), "platform/retention");
        let spec = self.store.project_spec(&scope).await?;
        let Some(days) = spec.and_then(|spec| spec.retention).map(|kept| kept.runs_days) else {
            return Ok(ExpiredRuns::default());
        };
        let keep = SignedDuration::from_hours(24 * i64::from(days));
        let before = self.store.inner.clock.now().saturating_sub(keep).unwrap_or(Timestamp::MIN);
        let mut done = ExpiredRuns::default();
        // calls after runs: those of a run that stays, stay
        for what in [What::Runs, What::Calls] {
            let mut after = Uuid::nil();
            while let Some((last, ids)) = self.next(&scope, what, after, before).await? {
                after = last;
                let deleted = if is_dry {
                    what.counted(ids.len())
                } else {
                    self.delete(&scope, what, &ids, before).await?
                };
                done.runs += deleted.runs;
                done.steps += deleted.steps;
                done.calls += deleted.calls;
            }
        }
        Ok(done)
    }

    /// The next batch after an id, and its last.
    async fn next(
        &self,
        scope: &ProjectScope,
        what: What,
        after: Uuid,
        before: Timestamp,
    ) -> Result<Option<(Uuid, Vec<Uuid>)>, StoreError> {
        let until = first_id_at(before.as_microsecond());
        let params: crate::tx::Params<'_> = &[&scope.project().as_str(), &after, &until, &before, &BATCH];
        let rows = self.store.once(scope, what.candidates(), params).await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        Ok(ids.last().map(|last| (*last, ids.clone())))
    }

    /// Deletes one batch and records it, in one transaction.
    async fn delete(
        &self,
        scope: &ProjectScope,
        what: What,
        ids: &[Uuid],
        before: Timestamp,
    ) -> Result<ExpiredRuns, StoreError> {
        let project = scope.project().as_str();
        let mut connection = self.pool.get().await?;
        let tx = connection.transaction().await?;
        tx.execute("SELECT awooop.set_project($1)", &[&project]).await?;
        let params: [&(dyn ToSql + Sync); 3] = [&project, &ids, &before];
        let row = tx.query_one(what.delete(), &params).await?;
        let (whole, steps): (i64, i64) = (row.get(0), row.get(1));
        let mut done = what.counted(usize::try_from(whole).unwrap_or(0));
        done.steps = steps.unsigned_abs();
        if whole > 0 {
            let said =
                json!({"runs": done.runs, "steps": done.steps, "calls": done.calls, "ended_before": before});
            let event = self.store.audit(scope, Note::new("run.expire", format!("project/{project}"), said));
            let events = [event];
            let columns = Columns::of(&events);
            tx.execute(INSERT, &columns.params(&project)).await?;
        }
        tx.commit().await?;
        Ok(done)
    }
}

/// What is deleted.
#[derive(Debug, Clone, Copy)]
enum What {
    Runs,
    Calls,
}

impl What {
    fn counted(self, n: usize) -> ExpiredRuns {
        let n = n as u64;
        match self {
            What::Runs => ExpiredRuns { runs: n, ..ExpiredRuns::default() },
            What::Calls => ExpiredRuns { calls: n, ..ExpiredRuns::default() },
        }
    }

    // ids are ordered by time: what was made after `before` cannot have ended before it
    fn candidates(self) -> &'static str {
        match self {
            What::Runs => {
                // a run goes no sooner than those above it, so that what a family used never shrinks
                "SELECT r.run_id FROM run_state r
                 WHERE r.project_id = $1 AND r.run_id > $2 AND r.run_id < $3 AND r.completed_at < $4 AND NOT EXISTS (
                   WITH RECURSIVE up AS (
                     SELECT r.run_id, r.parent_run_id, r.completed_at
                     UNION ALL
                     SELECT p.run_id, p.parent_run_id, p.completed_at FROM up
                     JOIN run_state p ON p.project_id = $1 AND p.run_id = up.parent_run_id)
                   SELECT FROM up WHERE up.completed_at IS NULL OR up.completed_at >= $4
                     OR up.run_id IN (SELECT h.run_id FROM budget_hold h WHERE h.project_id = $1)
                     OR EXISTS (SELECT FROM run_child k
                       JOIN run_state c ON c.project_id = $1 AND c.run_id = k.run_id AND c.completed_at IS NULL
                       WHERE k.project_id = $1 AND k.parent_run_id = up.run_id))
                 ORDER BY r.run_id LIMIT $5"
            }
            What::Calls => {
                "SELECT c.call_id FROM mcp_call c
                 WHERE c.project_id = $1 AND c.call_id > $2 AND c.call_id < $3 AND c.started_at < $4
                   AND NOT EXISTS (SELECT FROM run_state r WHERE r.project_id = $1 AND r.run_id = c.run_id)
                 ORDER BY c.call_id LIMIT $5"
            }
        }
    }

    fn delete(self) -> &'static str {
        match self {
            What::Runs => {
                "WITH d AS (   -- the guard: it has ended, and so stays as it is
                   DELETE FROM run_state r WHERE r.project_id = $1 AND r.run_id = ANY ($2) AND r.completed_at < $3
                   RETURNING r.run_id),
                 j AS (DELETE FROM step_journal j USING d WHERE j.project_id = $1 AND j.run_id = d.run_id
                   RETURNING j.run_id),
                 p AS (DELETE FROM approval a USING d WHERE a.project_id = $1 AND a.run_id = d.run_id
                   RETURNING a.approval_id),
                 v AS (DELETE FROM approval_decision v USING p
                   WHERE v.project_id = $1 AND v.approval_id = p.approval_id),
                 c AS (DELETE FROM run_child c USING d WHERE c.project_id = $1 AND c.run_id = d.run_id)
                 SELECT (SELECT count(*) FROM d), (SELECT count(*) FROM j)"
            }
            What::Calls => {
                "WITH d AS (DELETE FROM mcp_call c WHERE c.project_id = $1 AND c.call_id = ANY ($2) AND c.started_at < $3
                   RETURNING c.call_id)
                 SELECT (SELECT count(*) FROM d), 0::bigint"
            }
        }
    }
}

impl Store {
    /// The project's contract in force; none before it has one.
    ///
    /// # Errors
    /// [`StoreError::Untrusted`] when it is not what was signed.
    pub(crate) async fn project_spec(&self, scope: &ProjectScope) -> Result<Option<ProjectSpec>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, c.activated_at, c.activated_by, c.key_id, c.signature
             FROM contract c JOIN contract_version v
               ON v.project_id = $1 AND v.kind = c.kind AND v.id = c.id AND v.version = c.active_version
             WHERE c.project_id = $1 AND c.kind = 'project'"
        );
        let rows = self.once(scope, &sql, &[&scope.project().as_str()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let active = version::active_contract(&self.inner.keyring, scope.project(), row)?;
        if let Some(problem) = active.problem {
            return Err(StoreError::Untrusted { what: active.version.name(), problem });
        }
        Ok(match active.version.manifest(scope.project())?.spec {
            Spec::Project(spec) => Some(spec),
            _ => None,
        })
    }
}
