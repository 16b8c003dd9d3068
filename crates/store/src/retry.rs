//! Trying again: a run that failed in a way that may pass leaves its worker, waits in `run_timer`, and is queued
//! when its time has come. While it waits it costs a row, and no worker and no lease.

use awooop_core::{ErrorCode, ProjectId};
use jiff::Timestamp;
use serde_json::json;

use crate::audit::Note;
use crate::claim::{ClaimedRun, MAX_CLAIM};
use crate::error::StoreError;
use crate::journal::RecordError;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::{Params, storable};

/// Most statements one sweep spends on one project's timers: the other projects' turn comes.
const BATCHES: usize = 25;
/// Longest reason that is kept, in characters.
const MOST_REASON: usize = 500;

impl Store {
    /// Takes a run from this claim until `due_at`, with the reason in its journal. Where no other claim is allowed, or
    /// its time would be over by then, nothing happens and the answer is false: the run is to be ended.
    ///
    /// # Errors
    /// [`RecordError::Fenced`] when the run is not this claim's any more; the database's.
    pub async fn retry_later(
        &self,
        run: &ClaimedRun,
        code: ErrorCode,
        reason: &str,
        due_at: Timestamp,
    ) -> Result<bool, RecordError> {
        if !run.may_retry_at(due_at) {
            return Ok(false);
        }
        let redactors = self.known_redactors(run.scope().project());
        let reason = redactors.to_journal.redactor().clean(storable(reason)).into_inner();
        let reason: String = reason.chars().take(MOST_REASON).collect();
        let said = json!({"error_code": code, "reason": reason, "due_at": due_at, "attempt": run.attempt});
        let body = redactors.to_journal.redactor().clean_json(said.clone()).to_string();
        let event = self.audit(run.scope(), Note::of_run("run.retry", run.run_id, &run.trace_id, said));
        let project = run.scope().project().as_str();
        let params: Params<'_> = &[
            &project,
            &run.lease_id,
            &run.run_id,
            &run.epoch,
            &event.at,
            &due_at,
            &code.as_str(),
            &body,
            &event.id,
            &event.actor,
            &run.trace_id,
            &event.body,
            &event.key_id,
            &event.mac,
        ];
        if self.once(run.scope(), RETRY, params).await?.is_empty() {
            return Err(RecordError::Fenced);
        }
        self.inner.figures.retried.add(1);
        self.inner.wake.run_changed(run.run_id);
        Ok(true)
    }

    /// Moves the runs whose timer is due, in every project that has one: queues those whose next try has come, and
    /// ends the waiting of those that waited for people or for a result long enough. Returns how many. What fails for
    /// one project is logged and keeps no other waiting.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn wake_due(&self) -> Result<usize, StoreError> {
        let now = self.inner.clock.now();
        let due = self.system(DUE, &[&now]).await?;
        let mut woken = 0;
        for row in due {
            let project = ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            match self.wake_due_of(&ProjectScope::new(project.clone(), "platform/timer"), now).await {
                Ok(runs) => woken += runs,
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => {
                    let (error, project) = (&error as &dyn std::error::Error, project.as_str());
                    tracing::error!(error, project, "a project's runs that are due could not be queued");
                }
            }
        }
        Ok(woken)
    }

    async fn wake_due_of(&self, scope: &ProjectScope, now: Timestamp) -> Result<usize, StoreError> {
        let (mut woken, limit) = (0, MAX_CLAIM as i64);
        for _ in 0..BATCHES {
            let rows = self.once(scope, WAKE, &[&scope.project().as_str(), &now, &limit]).await?;
            woken += rows.len();
            if !rows.is_empty() {
                self.inner.wake.work_queued();
            }
            if rows.len() < MAX_CLAIM {
                break;
            }
        }
        Ok(woken + self.expire_waiting_of(scope.project(), now, limit).await?)
    }
}

// a loose index scan: its cost grows with the projects and not with the timers
const DUE: &str = "
WITH RECURSIVE t AS (
  (SELECT project_id, due_at FROM run_timer ORDER BY project_id, due_at LIMIT 1)
  UNION ALL
  SELECT n.project_id, n.due_at FROM t, LATERAL (SELECT r.project_id, r.due_at FROM run_timer r
    WHERE r.project_id > t.project_id ORDER BY r.project_id, r.due_at LIMIT 1) n)
SELECT project_id FROM t WHERE due_at <= $1";

const RETRY: &str = "
WITH l AS (   -- the lease before the run, as the lock order has it; dirty, so that nothing late of this claim passes
  UPDATE run_lease SET dirty = true WHERE project_id = $1 AND lease_id = $2 RETURNING lease_id),
u AS (   -- the guard: the run is still this claim's
  UPDATE run_state r SET state = 'pending', lease_id = NULL, worker_id = NULL, lease_epoch = r.lease_epoch + 1
  FROM l WHERE r.project_id = $1 AND r.run_id = $3 AND r.lease_id = l.lease_id AND r.lease_epoch = $4
    AND r.state = 'running' RETURNING r.run_id, r.lease_epoch),
t AS (INSERT INTO run_timer (project_id, run_id, kind, due_at, epoch)
  SELECT $1, run_id, 'retry', $6, lease_epoch FROM u),
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status, code,
    started_at, duration_ms, body)
  SELECT $1, run_id, -lease_epoch::int, 'retried', lease_epoch, 'state', 'pending', run_id || ':' || -lease_epoch,
    'error', $7, $5, 0, $8 FROM u),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, $9, $5, $10, 'run.retry', 'run/' || run_id, run_id, $11, $12, $13, $14 FROM u)
SELECT run_id FROM u";

const WAKE: &str = "
WITH t AS MATERIALIZED (SELECT ctid FROM run_timer WHERE project_id = $1 AND due_at <= $2 AND kind IN ('retry', 'halt')
  LIMIT $3 FOR UPDATE SKIP LOCKED),
d AS (   -- the guard: whoever deletes the timer queues the run
  DELETE FROM run_timer k WHERE k.project_id = $1 AND k.ctid = ANY (ARRAY(SELECT ctid FROM t))
  RETURNING k.run_id, k.epoch)
INSERT INTO run_queue (project_id, priority, run_id, agent_id, timeout_at)
SELECT $1, r.priority, r.run_id, r.agent_id, r.timeout_at FROM d JOIN run_state r
  ON r.project_id = $1 AND r.run_id = d.run_id AND r.state = 'pending' AND r.lease_epoch = d.epoch
RETURNING run_id";
