//! The step journal: the only log of a run, append-only, and the end of a run. Every write is fenced by
//! the lease it was claimed under. A clean lease is one row to check; a dirty one (some run of it was
//! cancelled) sends the writer the slow way, which checks its run's own epoch under a row lock.

mod rows;

use awooop_core::run::StateName;
use awooop_core::{ErrorCode, RunId};
use awooop_redact::Clean;
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::types::ToSql;

use crate::budget::Settlement;
use crate::claim::{ClaimedRun, Ticket};
use crate::error::StoreError;
use crate::pool::Store;
use crate::progress::Write;
use crate::scope::ProjectScope;
use crate::tx::Params;
pub(crate) use rows::{End, EndRow, JournalRow};

/// What a step was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// An answer of a model.
    Llm,
    /// A call of a tool.
    Tool,
}

impl StepKind {
    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            StepKind::Llm => "llm",
            StepKind::Tool => "tool",
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    /// It gave a result.
    Ok,
    /// It gave an error.
    Error,
    /// A gate said no.
    Refused,
    /// Shadow mode answered in its place.
    Stub,
}

impl StepStatus {
    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            StepStatus::Ok => "ok",
            StepStatus::Error => "error",
            StepStatus::Refused => "refused",
            StepStatus::Stub => "stub",
        }
    }
}

/// A finished step, masked.
#[derive(Debug, Clone)]
pub struct StepResult {
    /// Ordinal in the run, from 1, going on over epochs.
    pub n: i32,
    /// What it was.
    pub kind: StepKind,
    /// The model or the tool's full name.
    pub name: String,
    /// How it ended.
    pub status: StepStatus,
    /// The code of an error or refusal.
    pub code: Option<ErrorCode>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: i64,
    /// JSON `{input, output, usage, gates}`; only the redactor makes one, here the project's `to_journal`.
    pub body: Clean,
}

/// A tool call's row, written with its step or on its own for a call without a run.
#[derive(Debug, Clone)]
pub struct CallRecord {
    /// The agent that called.
    pub agent_id: String,
    /// The tool's full name, bounded.
    pub tool: String,
    /// How it ended.
    pub status: StepStatus,
    /// The code of an error or refusal.
    pub code: Option<ErrorCode>,
    /// Hash of the canonical arguments.
    pub arguments_sha256: String,
    /// Characters given to the model.
    pub result_chars: i32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: i64,
    /// W3C trace id.
    pub trace_id: Option<String>,
    /// What the model got is the platform's own words, or the tool's contract says that its output is trusted.
    pub is_trusted: bool,
}

/// A step as read back.
#[derive(Debug, Clone)]
pub struct Step {
    /// Ordinal in the run.
    pub n: i32,
    /// The epoch that wrote it.
    pub epoch: i64,
    /// `llm` or `tool`.
    pub kind: String,
    /// The model or the tool's full name.
    pub name: String,
    /// `ok`, `error`, `refused` or `stub`; `open` for one without a result.
    pub status: String,
    /// The code of an error or refusal.
    pub code: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: i64,
    /// `{input, output, usage, gates}`.
    pub body: Value,
}

/// The writer no longer holds the run: nothing was written, and nothing of it may be done any more.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The lease or the epoch is gone, or another epoch wrote this step.
    #[error("the run was taken from this worker")]
    Fenced,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a run ends.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// With an output.
    Completed(Value),
    /// With a code and a sentence for the caller.
    Failed(ErrorCode, String),
    /// Its time was over.
    TimedOut,
}

impl Outcome {
    /// The state a run ends in by it.
    pub fn state(&self) -> StateName {
        match self {
            Outcome::Completed(_) => StateName::Completed,
            Outcome::Failed(..) => StateName::Failed,
            Outcome::TimedOut => StateName::Timeout,
        }
    }
}

impl Store {
    /// Appends a finished step; a model call's settlement and a tool call's row travel in the same commit.
    /// The settlement stands even when the fence refuses the step: what was used is charged.
    pub async fn record_step(
        &self,
        run: &ClaimedRun,
        step: &StepResult,
        settlement: Option<&Settlement>,
        call: Option<&CallRecord>,
    ) -> Result<(), RecordError> {
        let row = JournalRow::new(self, run, step.clone(), call.cloned());
        self.write(run.scope(), Write::Step(run.ticket(), Box::new(row), settlement.cloned())).await?;
        self.inner.wake.run_changed(run.run_id);
        Ok(())
    }

    /// Ends a run. Its last step and that step's settlement travel in the same commit; `is_last` deletes the
    /// lease with it, because no other run of it is left.
    pub async fn end_run(
        &self,
        run: &ClaimedRun,
        outcome: &Outcome,
        last: Option<(&StepResult, Option<&Settlement>)>,
        is_last: bool,
    ) -> Result<(), RecordError> {
        let end = EndRow::new(self, run, outcome);
        let step = last.map(|(step, _)| JournalRow::new(self, run, step.clone(), None));
        let settlement = last.and_then(|(_, settlement)| settlement).cloned();
        let end = End { row: end, step, settlement, is_last };
        let ended = self.write(run.scope(), Write::End(run.ticket(), Box::new(end))).await;
        self.inner.wake.run_changed(run.run_id);
        self.inner.figures.ended(outcome.state(), usize::from(ended.is_ok()));
        ended
    }

    /// [`Store::record_step`] in a transaction of its own.
    pub(crate) async fn record_alone(
        &self,
        run: &Ticket,
        row: &JournalRow,
        settlement: Option<&Settlement>,
    ) -> Result<(), RecordError> {
        if self.try_record(run, row, settlement, FENCE_CLEAN).await?
            || self.try_record(run, row, None, FENCE_RUN).await?
        {
            return Ok(());
        }
        Err(RecordError::Fenced)
    }

    async fn try_record(
        &self,
        run: &Ticket,
        row: &JournalRow,
        settlement: Option<&Settlement>,
        fence: &str,
    ) -> Result<bool, RecordError> {
        let now = self.inner.clock.now();
        let sql = format!("{fence}{JOURNAL}");
        let project = run.scope.project().as_str();
        let result = match settlement {
            Some(s) => {
                let settle: Params<'_> = &[&project, &s.hold_id, &s.amount, &s.is_estimated, &now];
                let flight = [(crate::budget::SETTLE, settle), (&sql, &row.params(run, &project))];
                self.flight(&run.scope, &flight).await
            }
            None => self.flight(&run.scope, &[(&sql, &row.params(run, &project))]).await,
        };
        match result {
            Ok(rows) => Ok(rows.last().is_some_and(|r| !r.is_empty())),
            Err(e) => Err(self.fenced_or(run, e, settlement).await?),
        }
    }

    /// Another epoch's result stands already: the settlement was rolled back with the row, so settle alone.
    async fn fenced_or(
        &self,
        run: &Ticket,
        error: StoreError,
        settlement: Option<&Settlement>,
    ) -> Result<RecordError, StoreError> {
        if !error.is_constraint("step_journal_pkey") {
            return Ok(error.into());
        }
        if let Some(s) = settlement {
            self.settle(&run.scope, s).await?;
        }
        Ok(RecordError::Fenced)
    }

    /// [`Store::end_run`] in a transaction of its own.
    pub(crate) async fn end_alone(&self, run: &Ticket, end: &End) -> Result<(), RecordError> {
        let project = run.scope.project().as_str();
        let now = self.inner.clock.now();
        let journal_params = end.step.as_ref().map(|step| step.params(run, &project));
        let journal_sql = format!("{FENCE_STATE}{JOURNAL}");
        let settle: Option<[&(dyn ToSql + Sync); 5]> =
            end.settlement.as_ref().map(|s| -> [&(dyn ToSql + Sync); 5] {
                [&project, &s.hold_id, &s.amount, &s.is_estimated, &now]
            });
        let lease: Params<'_> = &[&project, &run.lease_id];
        let end_params = end.row.params(run, &project);
        // budget, lease, run: the lock order
        let mut flight: Vec<(&str, Params<'_>)> = Vec::with_capacity(4);
        if let Some(settle) = &settle {
            flight.push((crate::budget::SETTLE, settle));
        }
        flight.push((if end.is_last { LOCK_LAST } else { LOCK_SHARED }, lease));
        if let Some(params) = &journal_params {
            flight.push((&journal_sql, params));
        }
        flight.push((if end.is_last { END_LAST } else { END_SHARED }, &end_params));
        match self.flight(&run.scope, &flight).await {
            Ok(rows) if rows.last().is_some_and(|r| !r.is_empty()) => Ok(()),
            Ok(_) => Err(RecordError::Fenced),
            Err(e) => Err(self.fenced_or(run, e, end.settlement.as_ref()).await?),
        }
    }

    /// A run's finished steps with `n > after`, oldest first.
    pub async fn list_steps(
        &self,
        scope: &ProjectScope,
        run_id: RunId,
        after: i32,
        limit: i64,
    ) -> Result<Vec<Step>, StoreError> {
        let sql = "SELECT n, epoch, kind, name, status, code, started_at, duration_ms, body FROM step_journal
                   WHERE project_id = $1 AND run_id = $2 AND n > $3 AND phase = 'result' ORDER BY n LIMIT $4";
        self.read_steps(scope, sql, &[&scope.project().as_str(), &run_id, &after, &limit]).await
    }

    /// The same with a call that was announced and has no result: it is under way, waits to be delivered, or nobody
    /// knows whether it happened.
    pub async fn list_steps_and_open(
        &self,
        scope: &ProjectScope,
        run_id: RunId,
        after: i32,
        limit: i64,
    ) -> Result<Vec<Step>, StoreError> {
        let sql =
            "SELECT n, epoch, kind, name, status, code, started_at, duration_ms, body FROM step_journal j
                   WHERE project_id = $1 AND run_id = $2 AND n > $3 AND (phase = 'result' OR phase = 'intent'
                     AND NOT EXISTS (SELECT FROM step_journal o WHERE o.project_id = $1 AND o.run_id = $2
                       AND o.n = j.n AND o.phase = 'result')) ORDER BY n LIMIT $4";
        self.read_steps(scope, sql, &[&scope.project().as_str(), &run_id, &after, &limit]).await
    }

    async fn read_steps(
        &self,
        scope: &ProjectScope,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Step>, StoreError> {
        let rows = self.once(scope, sql, params).await?;
        rows.iter()
            .map(|row| {
                let body: &str = row.get(8);
                Ok(Step {
                    n: row.get(0),
                    epoch: row.get(1),
                    kind: row.get(2),
                    name: row.get(3),
                    status: row.get(4),
                    code: row.get(5),
                    started_at: row.get(6),
                    duration_ms: row.get(7),
                    body: serde_json::from_str(body).map_err(|e| StoreError::Corrupt(e.to_string()))?,
                })
            })
            .collect()
    }
}

// $1 project, $2 lease, $3 run, $4 epoch
const FENCE_CLEAN: &str = "
WITH f AS MATERIALIZED (SELECT lease_id FROM run_lease
  WHERE project_id = $1 AND lease_id = $2 AND NOT dirty AND $3::uuid = ANY (run_ids) FOR SHARE)";
const FENCE_RUN: &str = "
WITH f AS MATERIALIZED (SELECT lease_id FROM run_state
  WHERE project_id = $1 AND lease_id = $2 AND run_id = $3 AND lease_epoch = $4 AND state = 'running' FOR SHARE)";
// after LOCK_*: who would take the run away must lock its lease first, so a plain read is enough
const FENCE_STATE: &str = "
WITH f AS MATERIALIZED (SELECT lease_id FROM run_state
  WHERE project_id = $1 AND lease_id = $2 AND run_id = $3 AND lease_epoch = $4 AND state = 'running')";
const JOURNAL: &str = ",
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status, code,
    started_at, duration_ms, body, is_trusted)
  SELECT $1, $3, $5, 'result', $4, $6, $7, $8, $9, $10, $11, $12, $13, $23 FROM f RETURNING n),
c AS (   -- its commit is the audit of a read-only call
  INSERT INTO mcp_call (project_id, call_id, agent_id, actor, run_id, n, tool, status, code, arguments_sha256,
    result_chars, started_at, duration_ms, trace_id)
  SELECT $1, $15, $16, $17, $3, $5, $18, $9, $19, $20, $21, $11, $12, $22 FROM j WHERE $14::boolean)
SELECT n FROM j";

pub(crate) const LOCK_SHARED: &str =
    "SELECT lease_id FROM run_lease WHERE project_id = $1 AND lease_id = $2 FOR SHARE";
const LOCK_LAST: &str = "SELECT lease_id FROM run_lease WHERE project_id = $1 AND lease_id = $2 FOR UPDATE";

macro_rules! end_sql {
    ($lease:literal) => {
        concat!(
            "WITH f AS (",
            $lease,
            "),
u AS (   -- the guard: the run is still this claim's
  UPDATE run_state r SET state = $5, completed_at = $6, lease_id = NULL, worker_id = NULL, output = $7,
    output_sha256 = $8, error_code = $9, error_message = $10
  FROM f WHERE r.project_id = $1 AND r.run_id = $3 AND r.lease_id = f.lease_id AND r.lease_epoch = $4
    AND r.state = 'running' RETURNING r.run_id),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, $11, $6, $12, 'run.end', 'run/' || run_id, run_id, $13, $14, $15, $16 FROM u)
SELECT run_id FROM u"
        )
    };
}
const END_SHARED: &str = end_sql!("SELECT lease_id FROM run_lease WHERE project_id = $1 AND lease_id = $2");
const END_LAST: &str =
    end_sql!("DELETE FROM run_lease WHERE project_id = $1 AND lease_id = $2 RETURNING lease_id");
