//! Claiming: which projects have due work, and taking some of one project's runs under a new lease.
//! `… FOR UPDATE SKIP LOCKED` inside a MATERIALIZED CTE and deletion by ctid: joined by run_id, a table
//! without statistics loops over the whole queue, and `IN (SELECT … SKIP LOCKED LIMIT)` over-claims.

use std::time::Instant;

use awooop_core::contract::{AgentSpec, Kind};
use awooop_core::run::StateName;
use awooop_core::{AgentId, Mode, ProjectId, RunId};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::audit::{self, Note};
use crate::contract::version;
use crate::error::StoreError;
use crate::keyring::SignatureProblem;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// Most runs one claim takes, and one lease lists.
pub const MAX_CLAIM: usize = 200;
/// Most statements one sweep spends on one project's overdue runs: the other projects' turn comes.
const TIME_OUT_BATCHES: usize = 25;

/// A worker's identity: its node and the life it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The node's id.
    pub id: String,
    /// Grows with every start, so that a former life's leases are known as such.
    pub incarnation: i64,
}

/// A claimed run: the unit of work, and the only proof under which its steps can be recorded.
#[derive(Debug, Clone)]
pub struct ClaimedRun {
    scope: ProjectScope,
    /// The run.
    pub run_id: RunId,
    /// The lease it was claimed under.
    pub lease_id: Uuid,
    /// Every write of this claim must still find this epoch.
    pub epoch: i64,
    /// This claim's ordinal, from 1.
    pub attempt: i32,
    /// Claims the agent allowed when the run was made.
    pub max_attempts: i32,
    /// The agent.
    pub agent_id: AgentId,
    /// The version the run was created with.
    pub agent_version_id: Uuid,
    /// That version's spec, unless it is not what was published: then the run ends with what is wrong.
    pub agent: Result<AgentSpec, SignatureProblem>,
    /// How far its effects may go.
    pub mode: Mode,
    /// W3C trace id.
    pub trace_id: String,
    /// When it times out.
    pub timeout_at: Timestamp,
    /// When it was created.
    pub created_at: Timestamp,
    /// What the agent is asked, masked.
    pub input: Value,
}

impl ClaimedRun {
    /// The run's project; the actor is the agent.
    pub fn scope(&self) -> &ProjectScope {
        &self.scope
    }

    /// Is there another claim to be had, and time left, at this moment?
    pub fn may_retry_at(&self, due_at: Timestamp) -> bool {
        self.attempt < self.max_attempts && due_at < self.timeout_at
    }

    /// The key under which step `n` is done, in this epoch and in any later one.
    pub fn idempotency_key(&self, n: i32) -> String {
        format!("{}:{n}", self.run_id)
    }
}

impl Store {
    /// Projects with due runs, in their order, at most `limit` after `after`: a loose index scan, so its
    /// cost grows with the projects and not with the queue.
    pub async fn discover(&self, after: &str, limit: i64) -> Result<Vec<ProjectId>, StoreError> {
        let rows = self
            .system(
                "WITH RECURSIVE t AS (
                   (SELECT project_id FROM run_queue WHERE project_id > $1 ORDER BY project_id LIMIT 1)
                   UNION ALL
                   SELECT (SELECT q.project_id FROM run_queue q WHERE q.project_id > t.project_id
                           ORDER BY q.project_id LIMIT 1)
                   FROM t WHERE t.project_id IS NOT NULL)
                 SELECT project_id FROM t WHERE project_id IS NOT NULL LIMIT $2",
                &[&after, &limit],
            )
            .await?;
        rows.iter()
            .map(|row| ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string())))
            .collect()
    }

    /// Takes up to `limit` runs of one project under one new lease.
    pub async fn claim(
        &self,
        project: &ProjectId,
        worker: &Worker,
        limit: i64,
    ) -> Result<Vec<ClaimedRun>, StoreError> {
        self.claim_under(self.inner.clock.new_id(), project, worker, limit).await
    }

    /// The same under a lease that the caller names, and so knows even when the claim's answer is lost.
    pub async fn claim_under(
        &self,
        lease_id: Uuid,
        project: &ProjectId,
        worker: &Worker,
        limit: i64,
    ) -> Result<Vec<ClaimedRun>, StoreError> {
        let scope = ProjectScope::new(project.clone(), format!("platform/{}", worker.id));
        let limit = limit.min(MAX_CLAIM as i64);
        let now = self.inner.clock.now();
        let asked_at = Instant::now();
        let rows = self
            .once(
                &scope,
                CLAIM,
                &[&project.as_str(), &limit, &worker.id, &now, &lease_id, &worker.incarnation],
            )
            .await?;
        self.inner.figures.claim.observe(asked_at.elapsed());
        self.inner.figures.started.add(rows.len());
        rows.iter()
            .map(|row| {
                if row.get::<_, i32>(2) == 1 {
                    let waited = now.duration_since(row.get(8)).unsigned_abs();
                    self.inner.figures.start.observe(waited);
                }
                let (agent, mode): (String, String) = (row.get(3), row.get(5));
                let spec = self.agent_of(project, row)?;
                let mode = Mode::parse(&mode).ok_or(StoreError::Corrupt(mode))?;
                // never above the agent's own, whatever the row says
                let mode = spec.as_ref().map_or(mode, |agent| agent.mode.min(mode));
                let agent_id = AgentId::parse(&agent).map_err(|e| StoreError::Corrupt(e.to_string()))?;
                Ok(ClaimedRun {
                    scope: ProjectScope::new(project.clone(), format!("{project}/{agent_id}")),
                    run_id: row.get(0),
                    lease_id,
                    epoch: row.get(1),
                    attempt: row.get(2),
                    max_attempts: row.get(10),
                    agent_id,
                    agent_version_id: row.get(4),
                    agent: spec,
                    mode,
                    trace_id: row.get(6),
                    timeout_at: row.get(7),
                    created_at: row.get(8),
                    input: serde_json::from_str(row.get(9))
                        .map_err(|e| StoreError::Corrupt(e.to_string()))?,
                })
            })
            .collect()
    }

    /// The agent of a row of [`CLAIM`]. A version that is gone is as bad as one that does not load: its run
    /// was claimed, and has to end.
    fn agent_of(
        &self,
        project: &ProjectId,
        row: &tokio_postgres::Row,
    ) -> Result<Result<AgentSpec, SignatureProblem>, StoreError> {
        if row.get::<_, Option<&str>>(12).is_none() {
            return Ok(Err(SignatureProblem::Absent));
        }
        let version = version::read_from(&self.inner.keyring, project.as_str(), row, 12)?;
        if version.key.kind != Kind::Agent || version.key.id != row.get::<_, &str>(3) {
            return Ok(Err(SignatureProblem::Mismatch));
        }
        match version.not_in_force() {
            Some(problem) => Ok(Err(problem)),
            None => version::agent(&version, row.get(11)).map(Ok),
        }
    }

    /// Ends queued runs whose time is over, in every project that has one. Returns how many.
    pub async fn time_out_queued(&self) -> Result<usize, StoreError> {
        let now = self.inner.clock.now();
        let due =
            self.system("SELECT DISTINCT project_id FROM run_queue WHERE timeout_at <= $1", &[&now]).await?;
        let mut ended = 0;
        for row in due {
            let project = ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            let scope = ProjectScope::new(project, "platform/timeout");
            for _ in 0..TIME_OUT_BATCHES {
                let some = self.time_out_some(&scope).await?;
                ended += some;
                if some < MAX_CLAIM {
                    break;
                }
            }
        }
        Ok(ended)
    }

    /// Ends at most a claim's worth of one project's queued runs whose time is over.
    async fn time_out_some(&self, scope: &ProjectScope) -> Result<usize, StoreError> {
        let (limit, now) = (MAX_CLAIM as i64, self.inner.clock.now());
        let said = serde_json::json!({"error_code": "E-RUN-011"});
        // which runs these are is known only from the statement, and an event's MAC names its run
        let mut tx = self.begin(scope).await?;
        let rows = tx.rows(TIME_OUT_QUEUED, &[&scope.project().as_str(), &limit, &now]).await?;
        let event = |row: &tokio_postgres::Row| {
            self.audit_at(scope, now, Note::of_run("run.end", row.get(0), row.get(1), said.clone()))
        };
        let events: Vec<_> = rows.iter().map(event).collect();
        audit::insert(&mut tx, scope, &events).await?;
        tx.commit().await?;
        self.inner.figures.ended(StateName::Timeout, rows.len());
        for run in &rows {
            self.inner.wake.run_changed(run.get(0));
        }
        Ok(rows.len())
    }
}

const CLAIM: &str = "
WITH q AS MATERIALIZED (SELECT ctid FROM run_queue WHERE project_id = $1
  ORDER BY priority, run_id LIMIT $2 FOR UPDATE SKIP LOCKED),
d AS (   -- the guard: whoever deletes the queue row owns the run
  DELETE FROM run_queue k WHERE k.project_id = $1 AND k.ctid = ANY (ARRAY(SELECT ctid FROM q))
  RETURNING k.run_id),
u AS (
  UPDATE run_state r SET state = 'running', lease_epoch = r.lease_epoch + 1, lease_id = $5, worker_id = $3,
    attempt = r.attempt + 1, started_at = coalesce(r.started_at, $4)
  FROM d WHERE r.project_id = $1 AND r.run_id = d.run_id AND r.state = 'pending'
  RETURNING r.run_id, r.lease_epoch, r.attempt, r.agent_id, r.agent_version_id, r.mode, r.trace_id,
    r.timeout_at, r.created_at, r.input, r.max_attempts),
l AS (   -- one lease row for the batch
  INSERT INTO run_lease (project_id, lease_id, worker_id, incarnation, deadline_at, run_ids)
  SELECT $1, $5, $3, $6, min(timeout_at), array_agg(run_id) FROM u HAVING count(*) > 0)
SELECT u.*, (SELECT default_model FROM project WHERE project_id = $1), v.kind, v.id, v.version, v.version_id, v.sha256,
  v.state, v.created_at, v.created_by, v.published_at, v.published_by, v.publisher, v.key_id, v.signature, v.body
FROM u LEFT JOIN contract_version v ON v.project_id = $1 AND v.version_id = u.agent_version_id";

const TIME_OUT_QUEUED: &str = "
WITH q AS MATERIALIZED (SELECT ctid FROM run_queue WHERE project_id = $1 AND timeout_at <= $3
  LIMIT $2 FOR UPDATE SKIP LOCKED),
d AS (DELETE FROM run_queue k WHERE k.project_id = $1 AND k.ctid = ANY (ARRAY(SELECT ctid FROM q))
  RETURNING k.run_id),
u AS (UPDATE run_state r SET state = 'timeout', completed_at = $3, lease_epoch = r.lease_epoch + 1,
    error_code = 'E-RUN-011', error_message = 'the run waited until its time was over'
  FROM d WHERE r.project_id = $1 AND r.run_id = d.run_id AND r.state = 'pending' RETURNING r.run_id, r.trace_id)
SELECT run_id, trace_id FROM u";
