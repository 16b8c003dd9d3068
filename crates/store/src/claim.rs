//! Claiming: which projects have due work, and taking some of one project's runs under a new lease.
//! `… FOR UPDATE SKIP LOCKED` inside a MATERIALIZED CTE and deletion by ctid: joined by run_id, a table
//! without statistics loops over the whole queue, and `IN (SELECT … SKIP LOCKED LIMIT)` over-claims.

use std::time::Instant;

use awooop_core::contract::{AgentSpec, Kind};
use awooop_core::run::StateName;
use awooop_core::{AgentId, Mode, ProjectId, RunId};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::audit::{self, Note};
use crate::contract::version;
use crate::error::StoreError;
use crate::keyring::SignatureProblem;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::{Params, Section};

/// Most runs one claim takes, and one lease lists.
pub const MAX_CLAIM: usize = 200;
/// Most statements one sweep spends on one project's overdue runs: the other projects' turn comes.
const TIME_OUT_BATCHES: usize = 25;

/// A project that has due runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The project.
    pub project: ProjectId,
    /// Its share of slots beside other projects, 1 to 100.
    pub weight: usize,
}

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
    /// Was it claimed under a cap, so that its end may make room for another run?
    pub is_capped: bool,
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

/// What fences a claim's writes, owned by a write that may outlive its caller.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(crate) scope: ProjectScope,
    pub(crate) run_id: RunId,
    pub(crate) lease_id: Uuid,
    pub(crate) epoch: i64,
    pub(crate) trace_id: String,
}

impl ClaimedRun {
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket {
            scope: self.scope.clone(),
            run_id: self.run_id,
            lease_id: self.lease_id,
            epoch: self.epoch,
            trace_id: self.trace_id.clone(),
        }
    }

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

/// Runs of a project that are to be claimed.
#[derive(Debug, Clone)]
pub struct Wish {
    lease_id: Uuid,
    project: ProjectId,
    limit: i64,
}

impl Wish {
    /// At most `limit` runs, and never more than [`MAX_CLAIM`], under a lease that the claimer names, so that it knows
    /// of it whatever comes back.
    pub fn new(lease_id: Uuid, project: ProjectId, limit: usize) -> Self {
        Self { lease_id, project, limit: i64::try_from(limit.min(MAX_CLAIM)).unwrap_or(1) }
    }

    fn scope(&self, worker: &Worker) -> ProjectScope {
        ProjectScope::new(self.project.clone(), format!("platform/{}", worker.id))
    }

    fn params<'a>(
        &'a self,
        id: &'a &'a str,
        worker: &'a Worker,
        now: &'a Timestamp,
    ) -> [&'a (dyn ToSql + Sync); 6] {
        [id, &self.limit, &worker.id, now, &self.lease_id, &worker.incarnation]
    }
}

/// What a claim took.
#[derive(Debug)]
pub struct Claim {
    /// The runs, in the order of their claiming.
    pub runs: Vec<ClaimedRun>,
    /// Does a cap of the project, or of an agent, bound what could be taken?
    pub is_capped: bool,
}

impl Store {
    /// Projects with due runs, in their order, at most `limit` after `after`: a loose index scan, so its
    /// cost grows with the projects and not with the queue. One that is paused or stopped has none.
    pub async fn discover(&self, after: &str, limit: i64) -> Result<Vec<Due>, StoreError> {
        let rows = self
            .system(
                "WITH RECURSIVE t AS (
                   (SELECT project_id FROM run_queue WHERE project_id > $1 ORDER BY project_id LIMIT 1)
                   UNION ALL
                   SELECT (SELECT q.project_id FROM run_queue q WHERE q.project_id > t.project_id
                           ORDER BY q.project_id LIMIT 1)
                   FROM t WHERE t.project_id IS NOT NULL)
                 SELECT project_id,
                   coalesce((SELECT p.weight FROM project p WHERE p.project_id = t.project_id), 1::smallint)
                 FROM t WHERE project_id IS NOT NULL
                   AND NOT EXISTS (SELECT FROM halt_all)
                   AND project_id <> ALL (ARRAY(SELECT h.project_id FROM halt h WHERE h.target = 'project'))
                 LIMIT $2",
                &[&after, &limit],
            )
            .await?;
        let due = |row: &Row| {
            let project = ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            Ok(Due { project, weight: usize::try_from(row.get::<_, i16>(1)).unwrap_or(1).max(1) })
        };
        rows.iter().map(due).collect()
    }

    /// Takes up to `limit` runs of one project under one new lease.
    pub async fn claim(
        &self,
        project: &ProjectId,
        worker: &Worker,
        limit: i64,
    ) -> Result<Vec<ClaimedRun>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(0);
        let wish = Wish::new(self.inner.clock.new_id(), project.clone(), limit);
        Ok(self.claim_one(&wish, worker).await?.runs)
    }

    /// One claim on its own.
    pub async fn claim_one(&self, wish: &Wish, worker: &Worker) -> Result<Claim, StoreError> {
        let (id, now) = (wish.project.as_str(), self.inner.clock.now());
        let asked_at = Instant::now();
        let rows = self.once(&wish.scope(worker), CLAIM, &wish.params(&id, worker, &now)).await?;
        self.claimed(wish, worker, rows, asked_at).await
    }

    /// Claims of several projects, in one transaction but for those that wait for a cap, which have one each.
    pub async fn claim_each(&self, wishes: &[Wish], worker: &Worker) -> Vec<Result<Claim, StoreError>> {
        let (now, asked_at) = (self.inner.clock.now(), Instant::now());
        let scopes: Vec<ProjectScope> = wishes.iter().map(|wish| wish.scope(worker)).collect();
        let ids: Vec<&str> = wishes.iter().map(|wish| wish.project.as_str()).collect();
        let params: Vec<[&(dyn ToSql + Sync); 6]> =
            wishes.iter().zip(&ids).map(|(wish, id)| wish.params(id, worker, &now)).collect();
        let statements: Vec<[(&str, Params<'_>); 1]> =
            params.iter().map(|params| -> [(&str, Params<'_>); 1] { [(CLAIM, params)] }).collect();
        let sections: Vec<Section<'_>> =
            scopes.iter().zip(&statements).map(|(scope, statements)| Section { scope, statements }).collect();
        let found = match self.flight_of_each(&sections).await {
            Ok(found) => found,
            // nothing is known of any; the reaper takes back what was claimed after all
            Err(error @ StoreError::Unavailable(_)) => {
                return wishes.iter().map(|_| Err(error.again())).collect();
            }
            Err(_) => {
                // one project's trouble is not the others': each for itself
                return join_all(wishes.iter().map(|wish| self.claim_one(wish, worker))).await;
            }
        };
        let rows = found.into_iter().map(|mut of_project| of_project.pop().unwrap_or_default());
        join_all(wishes.iter().zip(rows).map(|(wish, rows)| self.claimed(wish, worker, rows, asked_at))).await
    }

    /// What the plain claim took; when it took nothing, what one under the project's caps takes.
    async fn claimed(
        &self,
        wish: &Wish,
        worker: &Worker,
        plain: Vec<Row>,
        asked_at: Instant,
    ) -> Result<Claim, StoreError> {
        let (mut rows, mut is_capped) = (plain, false);
        if rows.is_empty() {
            let (id, now) = (wish.project.as_str(), self.inner.clock.now());
            let params = wish.params(&id, worker, &now);
            // under a lock of its own statement, so that the claim counts all that was committed before it was had
            let flight: [(&str, Params<'_>); 2] = [(LOCK_CAPS, &[&id]), (CLAIM_CAPPED, &params)];
            let mut all = self.flight(&wish.scope(worker), &flight).await?;
            rows = all.pop().unwrap_or_default();
            is_capped = all.pop().unwrap_or_default().first().is_some_and(|row| row.get(1));
        }
        self.inner.figures.claim.observe(asked_at.elapsed());
        self.inner.figures.started.add(rows.len());
        let now = self.inner.clock.now();
        // of first claims only: how long their runs waited
        for row in rows.iter().filter(|row| row.get::<_, i32>(2) == 1) {
            self.inner.figures.start.observe(now.duration_since(row.get(8)).unsigned_abs());
        }
        let runs = rows.iter().map(|row| self.claimed_run(wish, is_capped, row)).collect::<Result<_, _>>()?;
        Ok(Claim { runs, is_capped })
    }

    fn claimed_run(&self, wish: &Wish, is_capped: bool, row: &Row) -> Result<ClaimedRun, StoreError> {
        let corrupt = |e: &dyn std::fmt::Display| StoreError::Corrupt(e.to_string());
        let project = &wish.project;
        let (agent, mode): (String, String) = (row.get(3), row.get(5));
        let spec = self.agent_of(project, row)?;
        let mode = Mode::parse(&mode).ok_or(StoreError::Corrupt(mode))?;
        // never above the agent's own, whatever the row says
        let mode = spec.as_ref().map_or(mode, |agent| agent.mode.min(mode));
        let agent_id = AgentId::parse(&agent).map_err(|e| corrupt(&e))?;
        Ok(ClaimedRun {
            scope: ProjectScope::new(project.clone(), format!("{project}/{agent_id}")),
            run_id: row.get(0),
            lease_id: wish.lease_id,
            epoch: row.get(1),
            is_capped,
            attempt: row.get(2),
            max_attempts: row.get(10),
            agent_id,
            agent_version_id: row.get(4),
            agent: spec,
            mode,
            trace_id: row.get(6),
            timeout_at: row.get(7),
            created_at: row.get(8),
            input: serde_json::from_str(row.get(9)).map_err(|e| corrupt(&e))?,
        })
    }

    /// The agent of a row of [`CLAIM`]. A version that is gone is as bad as one that does not load: its run
    /// was claimed, and has to end.
    fn agent_of(
        &self,
        project: &ProjectId,
        row: &Row,
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

    /// Ends queued runs whose time is over, in every project that has one. Returns how many. What fails for one project
    /// is logged and keeps no other waiting.
    pub async fn time_out_queued(&self) -> Result<usize, StoreError> {
        let now = self.inner.clock.now();
        let mut ended = 0;
        for row in self.system(WITH_OVERDUE, &[&now]).await? {
            let project = ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            let scope = ProjectScope::new(project, "platform/timeout");
            for _ in 0..TIME_OUT_BATCHES {
                let some = match self.time_out_some(&scope).await {
                    Ok(some) => some,
                    Err(error @ StoreError::Unavailable(_)) => return Err(error),
                    Err(error) => {
                        let (error, project) = (&error as &dyn std::error::Error, scope.project().as_str());
                        tracing::error!(error, project, "a project's overdue runs could not be ended");
                        break;
                    }
                };
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
        let event = |row: &Row| {
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

// $1 project, $2 most runs, $3 worker, $4 now, $5 lease, $6 incarnation
macro_rules! claim_sql {
    ($queued:literal) => {
        concat!(
            $queued,
            ",
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
FROM u LEFT JOIN contract_version v ON v.project_id = $1 AND v.version_id = u.agent_version_id"
        )
    };
}

const CLAIM: &str = claim_sql!(
    "
WITH q AS MATERIALIZED (SELECT ctid FROM run_queue WHERE project_id = $1
  AND NOT EXISTS (SELECT FROM halt_all)   -- not what is paused or stopped
  -- with an agent held back, the claim that goes agent by agent takes over: this one would read all that it has queued
  AND NOT EXISTS (SELECT FROM halt WHERE project_id = $1 AND target IN ('project', 'agent'))
  AND NOT EXISTS (SELECT FROM project p WHERE p.project_id = $1 AND p.max_running_runs IS NOT NULL)
  AND NOT EXISTS (SELECT FROM agent_cap c WHERE c.project_id = $1)
  ORDER BY priority, run_id LIMIT $2 FOR UPDATE SKIP LOCKED)"
);

// Claims under caps go one after the other: the next counts what this one took. Cheaper than a row's lock, which
// would be written, and no activation that changes a cap holds it for long.
const LOCK_CAPS: &str = "
SELECT pg_advisory_xact_lock(hashtextextended('awooop.claim/' || $1, 0)),
  EXISTS (SELECT FROM project WHERE project_id = $1 AND max_running_runs IS NOT NULL)
  OR EXISTS (SELECT FROM agent_cap WHERE project_id = $1)";

const CLAIM_CAPPED: &str = claim_sql!(
    "
WITH RECURSIVE live AS MATERIALIZED (   -- what is under way, counted where it is true
  SELECT r.agent_id, count(*) AS n FROM run_lease l CROSS JOIN LATERAL unnest(l.run_ids) AS m (run_id)
  JOIN run_state r ON r.project_id = $1 AND r.run_id = m.run_id AND r.lease_id = l.lease_id AND r.state = 'running'
  WHERE l.project_id = $1 GROUP BY r.agent_id),
a (agent_id) AS (   -- agents with queued runs: a loose index scan
  (SELECT agent_id FROM run_queue WHERE project_id = $1 ORDER BY agent_id LIMIT 1)
  UNION ALL
  SELECT (SELECT q.agent_id FROM run_queue q WHERE q.project_id = $1 AND q.agent_id > a.agent_id
          ORDER BY q.agent_id LIMIT 1)
  FROM a WHERE a.agent_id IS NOT NULL),
room AS (   -- least passes over what is NULL: no cap
  SELECT a.agent_id, greatest(least($2, c.max_running_runs - coalesce(live.n, 0)), 0) AS n
  FROM a LEFT JOIN agent_cap c ON c.project_id = $1 AND c.agent_id = a.agent_id
    LEFT JOIN live ON live.agent_id = a.agent_id WHERE a.agent_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM halt_all)   -- not what is paused or stopped
    AND NOT EXISTS (SELECT FROM halt WHERE project_id = $1 AND target = 'project')
    AND a.agent_id <> ALL (ARRAY(SELECT name FROM halt WHERE project_id = $1 AND target = 'agent'))),
first AS (
  SELECT k.id FROM room CROSS JOIN LATERAL (SELECT q.ctid AS id, q.priority, q.run_id FROM run_queue q
      WHERE q.project_id = $1 AND q.agent_id = room.agent_id ORDER BY q.priority, q.run_id LIMIT room.n) k
  ORDER BY k.priority, k.run_id
  LIMIT greatest(least($2, (SELECT max_running_runs FROM project WHERE project_id = $1)
    - (SELECT coalesce(sum(n), 0) FROM live)), 0)),
q AS MATERIALIZED (SELECT ctid FROM run_queue WHERE project_id = $1 AND ctid = ANY (ARRAY(SELECT id FROM first))
  FOR UPDATE SKIP LOCKED)"
);

// a loose index scan: its cost grows with the projects and not with the queue
const WITH_OVERDUE: &str = "
WITH RECURSIVE t AS (
  (SELECT project_id, timeout_at FROM run_queue ORDER BY project_id, timeout_at LIMIT 1)
  UNION ALL
  SELECT n.project_id, n.timeout_at FROM t, LATERAL (SELECT q.project_id, q.timeout_at FROM run_queue q
    WHERE q.project_id > t.project_id ORDER BY q.project_id, q.timeout_at LIMIT 1) n)
SELECT project_id FROM t WHERE timeout_at <= $1";

const TIME_OUT_QUEUED: &str = "
WITH q AS MATERIALIZED (SELECT ctid FROM run_queue WHERE project_id = $1 AND timeout_at <= $3
  ORDER BY timeout_at LIMIT $2 FOR UPDATE SKIP LOCKED),
d AS (DELETE FROM run_queue k WHERE k.project_id = $1 AND k.ctid = ANY (ARRAY(SELECT ctid FROM q))
  RETURNING k.run_id),
u AS (UPDATE run_state r SET state = 'timeout', completed_at = $3, lease_epoch = r.lease_epoch + 1,
    error_code = 'E-RUN-011', error_message = 'the run waited until its time was over'
  FROM d WHERE r.project_id = $1 AND r.run_id = d.run_id AND r.state = 'pending' RETURNING r.run_id, r.trace_id)
SELECT run_id, trace_id FROM u";
