//! Taking runs back: from a worker that fell silent or lived before (reap), and giving them back unharmed
//! on a drain (release). A reaped run is tried again until its attempts are used up or its time is over.

use awooop_core::run::StateName;
use awooop_core::{ProjectId, RunId};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::audit::{self, Note};
use crate::claim::{ClaimedRun, Worker};
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// Leases of one project whose worker is gone.
#[derive(Debug, Clone)]
pub struct DeadLeases {
    /// The project.
    pub project: ProjectId,
    /// Its leases.
    pub lease_ids: Vec<Uuid>,
}

impl Store {
    /// Leases of workers that were silent since `silent_for` ago, or that started again. Missing beats say
    /// something only when this worker's own beat is older than that: a crash of PostgreSQL empties the
    /// unlogged table, and then everybody is missing.
    pub async fn dead_leases(
        &self,
        me: &Worker,
        silent_for: SignedDuration,
    ) -> Result<Vec<DeadLeases>, StoreError> {
        let cutoff = self.inner.clock.now().saturating_sub(silent_for).unwrap_or(Timestamp::MIN);
        let rows = self
            .system(
                "SELECT l.project_id, array_agg(l.lease_id) FROM run_lease l
                 LEFT JOIN worker_beat b ON b.worker_id = l.worker_id
                 WHERE (b.incarnation <> l.incarnation OR b.beat_at < $1 OR b.worker_id IS NULL)
                   AND (b.incarnation <> l.incarnation OR EXISTS
                     (SELECT FROM worker_beat me WHERE me.worker_id = $2 AND me.first_at < $1))
                 GROUP BY l.project_id LIMIT 1000",
                &[&cutoff, &me.id],
            )
            .await?;
        dead(&rows)
    }

    /// Leases of this worker's former lives. It holds its data directory's lock, so they are dead for sure. A former
    /// life may have the higher number: each that a worker begins within one process is counted in memory only.
    pub async fn former_leases(&self, me: &Worker) -> Result<Vec<DeadLeases>, StoreError> {
        let rows = self
            .system(
                "SELECT project_id, array_agg(lease_id) FROM run_lease
                 WHERE worker_id = $1 AND incarnation <> $2 GROUP BY project_id",
                &[&me.id, &me.incarnation],
            )
            .await?;
        dead(&rows)
    }

    /// Leases of this worker's present life. One that the worker itself does not know is nobody's: the answer
    /// of its claim was lost, or the task that had it ended without a word.
    pub async fn present_leases(&self, me: &Worker) -> Result<Vec<DeadLeases>, StoreError> {
        let rows = self
            .system(
                "SELECT project_id, array_agg(lease_id) FROM run_lease
                 WHERE worker_id = $1 AND incarnation = $2 GROUP BY project_id",
                &[&me.id, &me.incarnation],
            )
            .await?;
        dead(&rows)
    }

    /// Takes back the runs of dead leases and charges what they held. Returns the runs.
    pub async fn reap(&self, dead: &DeadLeases) -> Result<Vec<RunId>, StoreError> {
        let scope = ProjectScope::new(dead.project.clone(), "platform/reaper");
        let (now, said) = (self.inner.clock.now(), json!({"reason": "the worker fell silent"}));
        // which runs these are is known only from the statement, and an event's MAC names its run
        let mut tx = self.begin(&scope).await?;
        let rows = tx.rows(REAP, &[&dead.project.as_str(), &dead.lease_ids, &now]).await?;
        let event = |row: &tokio_postgres::Row| {
            self.audit_at(&scope, now, Note::of_run("run.reap", row.get(0), row.get(1), said.clone()))
        };
        let events: Vec<_> = rows.iter().map(event).collect();
        audit::insert(&mut tx, &scope, &events).await?;
        tx.commit().await?;
        let runs: Vec<RunId> = rows.iter().map(|row| row.get(0)).collect();
        self.inner.figures.reaped.add(runs.len());
        for state in rows.iter().filter_map(|row| StateName::parse(row.get(2))) {
            self.inner.figures.ended(state, 1);
        }
        self.charge_abandoned(&dead.project).await?;
        for run_id in &runs {
            self.inner.wake.run_changed(*run_id);
        }
        if !runs.is_empty() {
            self.inner.wake.work_queued();
        }
        Ok(runs)
    }

    /// Gives a run back unharmed: it is due again at once and the claim does not count as an attempt. False when it is
    /// not this claim's any more; then nothing happens.
    pub async fn release(&self, run: &ClaimedRun) -> Result<bool, StoreError> {
        let now = self.inner.clock.now();
        let params: crate::tx::Params<'_> =
            &[&run.scope().project().as_str(), &run.lease_id, &run.run_id, &run.epoch, &now];
        let is_released = !self.once(run.scope(), RELEASE, params).await?.is_empty();
        self.inner.figures.released.add(usize::from(is_released));
        self.inner.wake.run_changed(run.run_id);
        Ok(is_released)
    }

    /// Deletes a lease whose runs have all ended.
    pub async fn drop_lease(&self, scope: &ProjectScope, lease_id: Uuid) -> Result<(), StoreError> {
        self.once(
            scope,
            "DELETE FROM run_lease l WHERE l.project_id = $1 AND l.lease_id = $2 AND NOT EXISTS
               (SELECT FROM run_state r WHERE r.project_id = $1 AND r.run_id = ANY (l.run_ids)
                AND r.lease_id = l.lease_id)",
            &[&scope.project().as_str(), &lease_id],
        )
        .await?;
        Ok(())
    }
}

fn dead(rows: &[tokio_postgres::Row]) -> Result<Vec<DeadLeases>, StoreError> {
    rows.iter()
        .map(|row| {
            let project = ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            Ok(DeadLeases { project, lease_ids: row.get(1) })
        })
        .collect()
}

const REAP: &str = "
WITH l AS (   -- the guard: whoever deletes the lease takes its runs
  DELETE FROM run_lease WHERE project_id = $1 AND lease_id = ANY ($2) RETURNING lease_id, run_ids),
m AS MATERIALIZED (   -- membership is lease_id: a run that another worker has is left alone
  SELECT r.run_id FROM run_state r JOIN l ON r.run_id = ANY (l.run_ids) AND r.lease_id = l.lease_id
  WHERE r.project_id = $1 AND r.state = 'running' ORDER BY r.run_id FOR UPDATE OF r),
u AS (
  UPDATE run_state r SET lease_id = NULL, worker_id = NULL, lease_epoch = r.lease_epoch + 1,
    state = CASE WHEN r.timeout_at <= $3 THEN 'timeout' WHEN r.attempt >= r.max_attempts THEN 'failed' ELSE 'pending' END,
    completed_at = CASE WHEN r.timeout_at <= $3 OR r.attempt >= r.max_attempts THEN $3::timestamptz END,
    error_code = CASE WHEN r.timeout_at <= $3 THEN 'E-RUN-011' WHEN r.attempt >= r.max_attempts THEN 'E-RUN-010' END,
    error_message = CASE WHEN r.timeout_at <= $3 THEN 'the run''s time was over'
      WHEN r.attempt >= r.max_attempts THEN 'the run''s worker fell silent ' || r.attempt || ' times' END
  FROM m WHERE r.project_id = $1 AND r.run_id = m.run_id AND r.state = 'running'
  RETURNING r.run_id, r.state, r.lease_epoch, r.priority, r.agent_id, r.timeout_at, r.trace_id, r.attempt),
q AS (INSERT INTO run_queue (project_id, priority, run_id, agent_id, timeout_at)
  SELECT $1, priority, run_id, agent_id, timeout_at FROM u WHERE state = 'pending'),
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status,
    started_at, duration_ms, body)
  SELECT $1, run_id, -lease_epoch::int, 'reaped', lease_epoch, 'state', state, run_id || ':' || -lease_epoch, 'ok',
    $3, 0, '{}' FROM u)
SELECT run_id, trace_id, state FROM u";

const RELEASE: &str = "
WITH l AS (   -- dirty, so that nothing late of this claim passes
  UPDATE run_lease SET dirty = true WHERE project_id = $1 AND lease_id = $2 RETURNING lease_id),
u AS (
  UPDATE run_state r SET state = 'pending', lease_id = NULL, worker_id = NULL, lease_epoch = r.lease_epoch + 1,
    attempt = r.attempt - 1
  FROM l WHERE r.project_id = $1 AND r.run_id = $3 AND r.lease_id = l.lease_id AND r.lease_epoch = $4
    AND r.state = 'running'
  RETURNING r.run_id, r.lease_epoch, r.priority, r.agent_id, r.timeout_at),
q AS (INSERT INTO run_queue (project_id, priority, run_id, agent_id, timeout_at)
  SELECT $1, priority, run_id, agent_id, timeout_at FROM u),
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status,
    started_at, duration_ms, body)
  SELECT $1, run_id, -lease_epoch::int, 'released', lease_epoch, 'state', 'pending', run_id || ':' || -lease_epoch,
    'ok', $5, 0, '{}' FROM u)
SELECT run_id FROM u";
