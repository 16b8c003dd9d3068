//! Runs as callers see them: find, list, cancel. `run_state` is the cold truth of a run; creating, claiming,
//! journaling and ending lie in `enqueue`, `claim`, `journal` and `lease`.

use std::collections::HashMap;
use std::sync::Arc;

use awooop_core::run::StateName;
use awooop_core::{AgentId, Mode, RunId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::audit::Note;
use crate::contract::version::{self, COLUMN_COUNT, COLUMNS};
use crate::error::StoreError;
use crate::pool::Store;
use crate::redaction::{MARK, ProjectRedactors};
use crate::scope::ProjectScope;
use crate::tx::Params;

/// Deepest a run may stand below the one that nobody's run started. Children name a parent that exists, and no run
/// changes its parent, so a family has no loops.
pub const MAX_DEPTH: i16 = 16;
/// How long an idempotency key is kept.
pub const IDEMPOTENCY_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// A run's row.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are the contract runtime_run_state's, described there")]
pub struct Run {
    pub project_id: String,
    pub run_id: RunId,
    pub state: StateName,
    pub agent_id: String,
    pub mode: Mode,
    pub trace_id: String,
    pub parent_run_id: Option<RunId>,
    pub trigger_type: String,
    pub triggered_by: String,
    pub schedule_id: Option<String>,
    pub attempt: i32,
    pub epoch: i64,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub timeout_at: Timestamp,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub input_sha256: String,
    /// JSON text, masked.
    pub output: Option<String>,
    pub output_sha256: Option<String>,
    /// Answers of the model so far.
    pub step_count: i64,
    /// What it waits for, after a failure that may pass.
    pub retry: Option<Retry>,
    /// What it waits for, when it waits for people or for a result.
    pub waiting: Option<Waiting>,
}

/// The waiting of a parked run.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The step that waits.
    pub n: i32,
    /// The approval it waits for; none while it waits for a result.
    pub approval_id: Option<Uuid>,
    /// Since when.
    pub since: Timestamp,
    /// Then the waiting is over, whatever came.
    pub until: Timestamp,
}

/// The next try of a run.
#[derive(Debug, Clone)]
pub struct Retry {
    /// When it is due.
    pub at: Timestamp,
    /// The code of the failure before it.
    pub code: String,
    /// That failure in words.
    pub reason: String,
}

const RUN_COLUMNS: &str = "r.project_id, r.run_id, r.state, r.agent_id, r.mode, r.trace_id, r.parent_run_id,
    r.trigger_type, r.triggered_by, r.attempt, r.lease_epoch, r.created_at, r.started_at, r.completed_at,
    r.timeout_at, r.error_code, r.error_message, r.input_sha256, r.output, r.output_sha256,
    (SELECT count(*) FROM step_journal j WHERE j.project_id = $1 AND j.run_id = r.run_id AND j.kind = 'llm'),
    t.due_at, t.code, t.body, t.started_at, r.schedule_id";

/// The run's timer, of the runs in `r`.
const RUN_TIMER: &str = "LEFT JOIN LATERAL (
    SELECT t.due_at, j.code, j.body, j.started_at FROM run_timer t JOIN step_journal j
      ON j.project_id = $1 AND j.run_id = t.run_id AND j.n = -t.epoch::int AND j.phase IN ('retried', 'parked')
    WHERE t.project_id = $1 AND t.run_id = r.run_id) t ON r.state IN ('pending', 'waiting_approval', 'waiting_tool')";

fn run(row: &Row) -> Result<Run, StoreError> {
    let (state, mode): (String, String) = (row.get(2), row.get(4));
    let timer = timer(row)?;
    let is_pending = state == StateName::Pending.as_str();
    Ok(Run {
        project_id: row.get(0),
        run_id: row.get(1),
        state: StateName::parse(&state).ok_or(StoreError::Corrupt(state))?,
        agent_id: row.get(3),
        mode: Mode::parse(&mode).ok_or(StoreError::Corrupt(mode))?,
        trace_id: row.get(5),
        parent_run_id: row.get(6),
        trigger_type: row.get(7),
        triggered_by: row.get(8),
        schedule_id: row.get(25),
        attempt: row.get(9),
        epoch: row.get(10),
        created_at: row.get(11),
        started_at: row.get(12),
        completed_at: row.get(13),
        timeout_at: row.get(14),
        error_code: row.get(15),
        error_message: row.get(16),
        input_sha256: row.get(17),
        output: row.get(18),
        output_sha256: row.get(19),
        step_count: row.get(20),
        retry: timer.as_ref().filter(|_| is_pending).map(|(at, body)| Retry {
            at: *at,
            code: row.get(22),
            reason: body["reason"].as_str().unwrap_or_default().to_owned(),
        }),
        waiting: timer.filter(|_| !is_pending).map(|(until, body)| Waiting {
            n: body["n"].as_i64().and_then(|n| n.try_into().ok()).unwrap_or_default(),
            approval_id: body["approval_id"].as_str().and_then(|id| id.parse().ok()),
            since: row.get(24),
            until,
        }),
    })
}

/// When the run's timer is due, and the journal's word of why.
fn timer(row: &Row) -> Result<Option<(Timestamp, Value)>, StoreError> {
    let Some(at) = row.get::<_, Option<Timestamp>>(21) else { return Ok(None) };
    let body = serde_json::from_str(row.get(23)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    Ok(Some((at, body)))
}

/// What a run needs to know of its agent before it is made.
#[derive(Debug, Clone)]
pub struct AgentFacts {
    /// The active version.
    pub version_id: Uuid,
    /// The agent's spec.
    pub spec: awooop_core::contract::AgentSpec,
    /// Is the project's budget used up?
    pub is_budget_spent: bool,
    /// Had the project stored what it may, when that was last counted?
    pub is_storage_full: bool,
    /// What the run's data goes through.
    pub redactors: Arc<ProjectRedactors>,
}

/// A run to be made. Input and trigger are masked when the row is written.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The agent.
    pub agent: AgentId,
    /// Its active version: the run keeps it.
    pub agent_version_id: Uuid,
    /// Fixed now.
    pub mode: Mode,
    /// 0 first, 9 last.
    pub priority: i16,
    /// 32 hexadecimal digits of a W3C trace, or none to make one.
    pub trace_id: Option<String>,
    /// The run that started it.
    pub parent_run_id: Option<RunId>,
    /// The ended run that it does again.
    pub retry_of: Option<RunId>,
    /// Who started it.
    pub triggered_by: String,
    /// Claims the agent allows.
    pub max_attempts: u32,
    /// Longest time from now to the end.
    pub timeout: std::time::Duration,
    /// What the agent is asked.
    pub input: Value,
    /// Key and hash of the request, where the caller gave a key.
    pub idempotency: Option<Idempotency>,
}

/// An idempotency key in use.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// Who uses it: keys of different principals never meet.
    pub principal: String,
    /// SHA-256 of the caller's key, in hexadecimal.
    pub key: String,
    /// Hash of the canonical request.
    pub request_sha256: String,
}

/// What came of creating a run.
#[derive(Debug)]
pub enum Created {
    /// A new run.
    New(RunId),
    /// The key was used for the same request before: that run.
    Replayed(RunId),
    /// The key was used for another request.
    OtherRequest,
    /// The parent has ended, or is not there: nothing was made.
    ParentEnded,
    /// The parent is as deep in its family as runs may be: nothing was made.
    TooDeep,
    /// As many runs of the project wait as its contract allows.
    QueueFull,
}

/// What came of cancelling a run.
#[derive(Debug)]
pub enum Cancelled {
    /// It is cancelled, now or before.
    Done(Run),
    /// It had ended otherwise.
    Ended(Run),
    /// There is no such run.
    Absent,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only this state.
    pub state: Option<StateName>,
    /// Only this agent.
    pub agent_id: Option<String>,
    /// Only children of this run.
    pub parent: Option<RunId>,
    /// Only runs older than this one.
    pub before: Option<RunId>,
    /// How many at most.
    pub limit: i64,
}

impl Store {
    /// The active agent of this name, with what else a new run depends on.
    pub async fn find_agent(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
    ) -> Result<Option<AgentFacts>, StoreError> {
        let id = agent.clone();
        self.share(&self.inner.reads.agents, scope, agent.as_str(), move |store, scope| {
            let id = id.clone();
            async move { store.read_agent(&scope, &id).await }
        })
        .await
    }

    async fn read_agent(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
    ) -> Result<Option<AgentFacts>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, c.activated_at, c.activated_by, c.key_id, c.signature, p.default_model,
                    EXISTS (SELECT FROM budget b WHERE b.project_id = $1 AND b.settled >= b.limit_amount),
                    coalesce(p.stored_bytes >= p.max_storage_bytes, false)
             FROM contract c
             JOIN project p ON p.project_id = $1
             JOIN contract_version v
               ON v.project_id = $1 AND v.kind = c.kind AND v.id = c.id AND v.version = c.active_version
             WHERE c.project_id = $1 AND c.kind = 'agent' AND c.id = $2"
        );
        let project = scope.project().as_str();
        let (of_agent, of_project): (Params<'_>, Params<'_>) = (&[&project, &agent.as_str()], &[&project]);
        let mut rows = self.flight(scope, &[(&sql, of_agent), (MARK, of_project)]).await?;
        let redactors = self.redactors_at(scope, &rows.pop().unwrap_or_default()).await?;
        let rows = rows.pop().unwrap_or_default();
        let Some(row) = rows.first() else { return Ok(None) };
        let active = version::active_contract(&self.inner.keyring, scope.project(), row)?;
        if let Some(problem) = active.problem {
            return Err(StoreError::Untrusted { what: active.version.name(), problem });
        }
        Ok(Some(AgentFacts {
            version_id: active.version.version_id,
            spec: version::agent(&active.version, row.get(COLUMN_COUNT + 4))?,
            is_budget_spent: row.get(COLUMN_COUNT + 5),
            is_storage_full: row.get(COLUMN_COUNT + 6),
            redactors,
        }))
    }

    /// What an idempotency key stands for, if it was used before; forgets a key that is older than a day.
    /// A replay asks nothing else: whatever came between, the answer is the run that was made.
    pub async fn replay(
        &self,
        scope: &ProjectScope,
        key: &Idempotency,
    ) -> Result<Option<Created>, StoreError> {
        let (store, of) = (self.clone(), scope.clone());
        let work = move |keys: Vec<(String, String)>| {
            let (store, of) = (store.clone(), of.clone());
            async move { store.read_keys(&of, &keys).await }
        };
        let asked = (key.principal.clone(), key.key.clone());
        let used = self.inner.reads.used_keys.run(scope, scope.project().clone(), asked, work).await;
        let used = used.map_err(|lost| StoreError::Unavailable(Box::new(lost)))??;
        Ok(used.map(|used| match used.request_sha256 == key.request_sha256 {
            true => Created::Replayed(used.run_id),
            false => Created::OtherRequest,
        }))
    }

    /// What each of these principals' keys was used for, in their order.
    async fn read_keys(
        &self,
        scope: &ProjectScope,
        keys: &[(String, String)],
    ) -> Vec<Result<Option<UsedKey>, StoreError>> {
        let oldest = self.inner.clock.now().saturating_sub(IDEMPOTENCY_KEPT).unwrap_or(Timestamp::MIN);
        let (principals, names): (Vec<&str>, Vec<&str>) =
            keys.iter().map(|(principal, key)| (principal.as_str(), key.as_str())).unzip();
        let params: Params<'_> = &[&scope.project().as_str(), &principals, &names, &oldest];
        let rows = match self.once(scope, USED_KEYS, params).await {
            Ok(rows) => rows,
            Err(error) => return keys.iter().map(|_| Err(error.again())).collect(),
        };
        let used = |row: &Row| UsedKey { request_sha256: row.get(2), run_id: row.get(3) };
        let found: HashMap<(&str, &str), UsedKey> =
            rows.iter().map(|row| ((row.get(0), row.get(1)), used(row))).collect();
        let of =
            |(principal, key): &(String, String)| found.get(&(principal.as_str(), key.as_str())).cloned();
        keys.iter().map(|key| Ok(of(key))).collect()
    }

    /// The run; `None` also for a run of another project.
    pub async fn find_run(&self, scope: &ProjectScope, run_id: RunId) -> Result<Option<Run>, StoreError> {
        let (store, of) = (self.clone(), scope.clone());
        let work = move |run_ids: Vec<RunId>| {
            let (store, of) = (store.clone(), of.clone());
            async move { store.read_runs(&of, &run_ids).await }
        };
        let answer = self.inner.reads.runs.run(scope, scope.project().clone(), run_id, work).await;
        answer.map_err(|lost| StoreError::Unavailable(Box::new(lost)))?
    }

    /// The runs in the order of their ids; a row that cannot be read is an error of that run only.
    async fn read_runs(
        &self,
        scope: &ProjectScope,
        run_ids: &[RunId],
    ) -> Vec<Result<Option<Run>, StoreError>> {
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM run_state r {RUN_TIMER} WHERE r.project_id = $1 AND r.run_id = ANY ($2)"
        );
        let rows = match self.once(scope, &sql, &[&scope.project().as_str(), &run_ids]).await {
            Ok(rows) => rows,
            Err(error) => return run_ids.iter().map(|_| Err(error.again())).collect(),
        };
        let places: HashMap<RunId, &Row> = rows.iter().map(|row| (row.get(1), row)).collect();
        run_ids.iter().map(|id| places.get(id).map(|row| run(row)).transpose()).collect()
    }

    /// The project's runs, newest first.
    pub async fn list_runs(&self, scope: &ProjectScope, filter: &RunFilter) -> Result<Vec<Run>, StoreError> {
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM run_state r {RUN_TIMER}
             WHERE r.project_id = $1 AND r.run_id < $2
               AND ($3::text IS NULL OR r.state = $3) AND ($4::text IS NULL OR r.agent_id = $4){}
             ORDER BY r.run_id DESC LIMIT $5",
            if filter.parent.is_some() { " AND r.parent_run_id = $6" } else { "" }
        );
        let before = filter.before.unwrap_or(Uuid::max());
        let state = filter.state.map(StateName::as_str);
        let project = scope.project().as_str();
        let mut params: Vec<&(dyn ToSql + Sync)> =
            vec![&project, &before, &state, &filter.agent_id, &filter.limit];
        params.extend(filter.parent.as_ref().map(|parent| parent as &(dyn ToSql + Sync)));
        self.once(scope, &sql, &params).await?.iter().map(run).collect()
    }

    /// Ends a run for good, whatever holds it. A running one loses its epoch and its lease turns dirty, so
    /// nothing its worker still does can be recorded and no further effect passes gate 1. Its children end soon after.
    pub async fn cancel_run(&self, scope: &ProjectScope, run_id: RunId) -> Result<Cancelled, StoreError> {
        self.cancel_run_because(scope, run_id, &json!({})).await
    }

    /// The same with what the audit is to say of it.
    pub(crate) async fn cancel_run_because(
        &self,
        scope: &ProjectScope,
        run_id: RunId,
        said: &Value,
    ) -> Result<Cancelled, StoreError> {
        for _ in 0..10 {
            let Some(found) = self.find_run(scope, run_id).await? else { return Ok(Cancelled::Absent) };
            let sql = match found.state {
                StateName::Cancelled => return Ok(Cancelled::Done(found)),
                StateName::Completed | StateName::Failed | StateName::Timeout => {
                    return Ok(Cancelled::Ended(found));
                }
                StateName::Pending => CANCEL_PENDING,
                StateName::Running => CANCEL_RUNNING,
                StateName::WaitingApproval | StateName::WaitingTool => CANCEL_WAITING,
            };
            let event = self.audit(scope, Note::of_run("run.cancel", run_id, &found.trace_id, said.clone()));
            let params: Params<'_> = &[
                &scope.project().as_str(),
                &run_id,
                &event.at,
                &event.id,
                &event.actor,
                &event.body,
                &event.key_id,
                &event.mac,
            ];
            if !self.once(scope, sql, params).await?.is_empty() {
                self.inner.figures.ended(StateName::Cancelled, 1);
                self.inner.wake.run_cancelled(run_id);
                self.inner.wake.run_changed(run_id);
            }
        }
        Err(StoreError::Corrupt("a run changed its state ten times while it was cancelled".into()))
    }
}

/// What an idempotency key was used for.
#[derive(Debug, Clone)]
pub(crate) struct UsedKey {
    request_sha256: String,
    run_id: RunId,
}

const USED_KEYS: &str = "
WITH i AS MATERIALIZED (SELECT DISTINCT * FROM unnest($2::text[], $3::text[]) AS i (principal, key)),
d AS (DELETE FROM idempotency_key k USING i
  WHERE k.project_id = $1 AND k.principal = i.principal AND k.key = i.key AND k.created_at < $4)
SELECT k.principal, k.key, k.request_sha256, k.run_id FROM idempotency_key k JOIN i USING (principal, key)
WHERE k.project_id = $1 AND k.created_at >= $4";

const CANCEL_PENDING: &str = "
WITH q AS (   -- the guard: whoever deletes the queue row, or the timer's, owns the run
  DELETE FROM run_queue WHERE project_id = $1 AND run_id = $2
    AND priority = (SELECT priority FROM run_state WHERE project_id = $1 AND run_id = $2) RETURNING run_id),
t AS (DELETE FROM run_timer WHERE project_id = $1 AND run_id = $2 RETURNING run_id),
g AS (SELECT run_id FROM q UNION ALL SELECT run_id FROM t),
u AS (UPDATE run_state r SET state = 'cancelled', completed_at = $3, lease_epoch = r.lease_epoch + 1
  FROM g WHERE r.project_id = $1 AND r.run_id = g.run_id AND r.state = 'pending' RETURNING r.run_id, r.trace_id),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, $4, $3, $5, 'run.cancel', 'run/' || run_id, run_id, trace_id, $6, $7, $8 FROM u)
SELECT run_id FROM u";

const CANCEL_RUNNING: &str = "
WITH l AS (   -- the guard: the lease before the run, as the lock order has it
  UPDATE run_lease SET dirty = true WHERE project_id = $1 AND lease_id =
    (SELECT lease_id FROM run_state WHERE project_id = $1 AND run_id = $2) RETURNING lease_id),
u AS (UPDATE run_state r SET state = 'cancelled', completed_at = $3, lease_epoch = r.lease_epoch + 1,
    lease_id = NULL, worker_id = NULL
  FROM l WHERE r.project_id = $1 AND r.run_id = $2 AND r.state = 'running' AND r.lease_id = l.lease_id
  RETURNING r.run_id, r.trace_id),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, $4, $3, $5, 'run.cancel', 'run/' || run_id, run_id, trace_id, $6, $7, $8 FROM u)
SELECT run_id FROM u";

const CANCEL_WAITING: &str = "
WITH p AS (   -- the approval before the timer and the run, as the lock order has it
  UPDATE approval SET state = 'withdrawn', decided_at = $3, reason = 'the run was cancelled'
  WHERE project_id = $1 AND run_id = $2 AND state = 'pending' RETURNING approval_id),
t AS (   -- the guard: whoever deletes the timer moves the run
  DELETE FROM run_timer k USING (SELECT count(*) AS n FROM p) c
  WHERE k.project_id = $1 AND k.run_id = $2 AND k.kind NOT IN ('retry', 'halt') AND c.n >= 0 RETURNING k.run_id),
u AS (UPDATE run_state r SET state = 'cancelled', completed_at = $3, lease_epoch = r.lease_epoch + 1
  FROM t WHERE r.project_id = $1 AND r.run_id = t.run_id AND r.state IN ('waiting_approval', 'waiting_tool')
  RETURNING r.run_id, r.trace_id),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, $4, $3, $5, 'run.cancel', 'run/' || run_id, run_id, trace_id, $6, $7, $8 FROM u)
SELECT run_id FROM u";
