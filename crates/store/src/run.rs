//! Runs as callers see them: create, find, list, cancel. `run_state` is the cold truth of a run;
//! claiming, journaling and ending lie in `claim`, `journal` and `lease`.

use std::sync::Arc;

use awooop_core::run::StateName;
use awooop_core::{AgentId, Mode, RunId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::audit::Note;
use crate::contract::version::{self, COLUMN_COUNT, COLUMNS};
use crate::error::StoreError;
use crate::pool::Store;
use crate::redaction::{MARK, ProjectRedactors};
use crate::scope::ProjectScope;
use crate::tx::Params;

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
        let sql = format!(
            "SELECT {COLUMNS}, c.activated_at, c.activated_by, c.key_id, c.signature, p.default_model,
                    EXISTS (SELECT FROM budget b WHERE b.project_id = $1 AND b.settled >= b.limit_amount)
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
            redactors,
        }))
    }

    /// Creates a run and queues it, in one statement headed by the idempotency key. What it keeps went through the
    /// redactors that [`Store::find_agent`] last found.
    pub async fn create_run(&self, scope: &ProjectScope, new: &NewRun) -> Result<Created, StoreError> {
        let run_id = self.inner.clock.new_id();
        let trace_id = new.trace_id.clone().unwrap_or_else(|| run_id.simple().to_string());
        let input_sha256 = awooop_core::json::sha256_hex(&new.input);
        let redactors = self.known_redactors(scope.project());
        let to_journal = redactors.to_journal.redactor();
        let input = to_journal.clean_json(new.input.clone()).to_string();
        let triggered_by = to_journal.clean(new.triggered_by.clone()).into_inner();
        let body = json!({"agent_id": new.agent.as_str(), "mode": new.mode, "input_sha256": input_sha256});
        let event = self.audit(scope, Note::of_run("run.create", run_id, &trace_id, body));
        let timeout_at = event.at.saturating_add(new.timeout).unwrap_or(Timestamp::MAX);
        let key = new.idempotency.as_ref();
        let max_attempts = i32::try_from(new.max_attempts).unwrap_or(i32::MAX);
        for _ in 0..3 {
            let rows = self
                .once(
                    scope,
                    CREATE,
                    &[
                        &scope.project().as_str(),
                        &run_id,
                        &new.agent.as_str(),
                        &new.agent_version_id,
                        &new.mode.as_str(),
                        &new.priority,
                        &trace_id,
                        &new.parent_run_id,
                        &triggered_by,
                        &max_attempts,
                        &event.at,
                        &timeout_at,
                        &input,
                        &input_sha256,
                        &key.map(|k| k.principal.as_str()),
                        &key.map(|k| k.key.as_str()),
                        &key.map(|k| k.request_sha256.as_str()),
                        &event.id,
                        &event.actor,
                        &event.body,
                        &if new.parent_run_id.is_some() { "sub_agent" } else { "api" },
                        &event.key_id,
                        &event.mac,
                    ],
                )
                .await?;
            if !rows.is_empty() {
                self.inner.figures.created.add(1);
                self.inner.wake.work_queued();
                return Ok(Created::New(run_id));
            }
            let Some(key) = key else { return Err(StoreError::Corrupt("a run was not created".into())) };
            if let Some(found) = self.replay(scope, key).await? {
                return Ok(found);
            }
        }
        Err(StoreError::Corrupt("an idempotency key is neither free nor taken".into()))
    }

    /// What an idempotency key stands for, if it was used before; forgets a key that is older than a day.
    /// A replay asks nothing else: whatever came between, the answer is the run that was made.
    pub async fn replay(
        &self,
        scope: &ProjectScope,
        key: &Idempotency,
    ) -> Result<Option<Created>, StoreError> {
        let oldest = self.inner.clock.now().saturating_sub(IDEMPOTENCY_KEPT).unwrap_or(Timestamp::MIN);
        let rows = self
            .once(
                scope,
                "WITH d AS (DELETE FROM idempotency_key
                            WHERE project_id = $1 AND principal = $2 AND key = $3 AND created_at < $4)
                 SELECT request_sha256, run_id FROM idempotency_key
                 WHERE project_id = $1 AND principal = $2 AND key = $3 AND created_at >= $4",
                &[&scope.project().as_str(), &key.principal, &key.key, &oldest],
            )
            .await?;
        Ok(rows.first().map(|row| match row.get::<_, &str>(0) == key.request_sha256 {
            true => Created::Replayed(row.get(1)),
            false => Created::OtherRequest,
        }))
    }

    /// The run; `None` also for a run of another project.
    pub async fn find_run(&self, scope: &ProjectScope, run_id: RunId) -> Result<Option<Run>, StoreError> {
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM run_state r {RUN_TIMER} WHERE r.project_id = $1 AND r.run_id = $2"
        );
        let rows = self.once(scope, &sql, &[&scope.project().as_str(), &run_id]).await?;
        rows.first().map(run).transpose()
    }

    /// The project's runs, newest first.
    pub async fn list_runs(&self, scope: &ProjectScope, filter: &RunFilter) -> Result<Vec<Run>, StoreError> {
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM run_state r {RUN_TIMER}
             WHERE r.project_id = $1 AND r.run_id < $2
               AND ($3::text IS NULL OR r.state = $3) AND ($4::text IS NULL OR r.agent_id = $4)
             ORDER BY r.run_id DESC LIMIT $5"
        );
        let before = filter.before.unwrap_or(Uuid::max());
        let state = filter.state.map(StateName::as_str);
        let params: Params<'_> =
            &[&scope.project().as_str(), &before, &state, &filter.agent_id, &filter.limit];
        self.once(scope, &sql, params).await?.iter().map(run).collect()
    }

    /// Ends a run for good, whatever holds it. A running one loses its epoch and its lease turns dirty, so
    /// nothing its worker still does can be recorded and no further effect passes gate 1.
    pub async fn cancel_run(&self, scope: &ProjectScope, run_id: RunId) -> Result<Cancelled, StoreError> {
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
            let event = self.audit(scope, Note::of_run("run.cancel", run_id, &found.trace_id, json!({})));
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

const CREATE: &str = "
WITH k AS (   -- the guard: this key is new
  INSERT INTO idempotency_key (project_id, principal, key, request_sha256, run_id, created_at)
  SELECT $1, $15::text, $16::text, $17::text, $2, $11 WHERE $16::text IS NOT NULL
  ON CONFLICT DO NOTHING RETURNING run_id),
g AS (SELECT WHERE $16::text IS NULL UNION ALL SELECT FROM k),
r AS (
  INSERT INTO run_state (project_id, run_id, state, agent_id, agent_version_id, mode, priority, trace_id,
    parent_run_id, trigger_type, triggered_by, max_attempts, created_at, timeout_at, input, input_sha256)
  SELECT $1, $2, 'pending', $3, $4, $5, $6, $7, $8, $21, $9, $10, $11, $12, $13, $14 FROM g RETURNING run_id),
q AS (INSERT INTO run_queue (project_id, priority, run_id, agent_id, timeout_at)
  SELECT $1, $6, run_id, $3, $12 FROM r),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, $18, $11, $19, 'run.create', 'run/' || run_id, run_id, $7, $20, $22, $23 FROM r)
SELECT run_id FROM r";

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
  WHERE k.project_id = $1 AND k.run_id = $2 AND k.kind <> 'retry' AND c.n >= 0 RETURNING k.run_id),
u AS (UPDATE run_state r SET state = 'cancelled', completed_at = $3, lease_epoch = r.lease_epoch + 1
  FROM t WHERE r.project_id = $1 AND r.run_id = t.run_id AND r.state IN ('waiting_approval', 'waiting_tool')
  RETURNING r.run_id, r.trace_id),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, $4, $3, $5, 'run.cancel', 'run/' || run_id, run_id, trace_id, $6, $7, $8 FROM u)
SELECT run_id FROM u";
