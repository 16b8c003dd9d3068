//! Results that are delivered later. A tool may answer a call by accepting it; its run waits, and the result comes
//! through the API: once, idempotently, for the step whose intent stands and has no result. One that does not come in
//! time is an error the model is told of; when the run's own time is over, the run has timed out.
//!
//! A run that asks people whether its call was made gets the same answer from the tool itself: the result is taken, and
//! what was asked is withdrawn.

use awooop_core::RunId;
use awooop_core::run::StateName;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::audit::{self, Note};
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::Params;

/// A tool's result, shaped as the journal keeps it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The step.
    pub n: i32,
    /// `{"text", "structured", "is_error"}`, redacted and within the cap.
    pub output: Value,
    /// Characters given to the model.
    pub chars: i32,
    /// Hash of what was delivered, by which a repetition is known.
    pub sha256: String,
}

/// What came of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It is the step's result now, and the run goes on.
    Done,
    /// It was delivered before.
    Replayed,
    /// The step has another result.
    Other,
    /// The run has not begun to wait for it yet: its tool was faster than the run.
    TooEarly,
    /// The run does not wait for a result of this step.
    NotWaiting(StateName),
    /// There is no such run, or step.
    Absent,
}

impl Store {
    /// Takes the result of a step.
    ///
    /// # Errors
    /// The database's.
    pub async fn deliver_result(
        &self,
        scope: &ProjectScope,
        run_id: RunId,
        delivery: &Delivery,
    ) -> Result<Delivered, StoreError> {
        let project = scope.project().as_str();
        // twice: what is read first may be over when it is acted upon
        for _ in 0..2 {
            let found = self.once(scope, FIND, &[&project, &run_id, &delivery.n]).await?;
            let Some(row) = found.first() else { return Ok(Delivered::Absent) };
            let state: &str = row.get(0);
            let state = StateName::parse(state).ok_or_else(|| StoreError::Corrupt(state.to_owned()))?;
            if let Some(result) = row.get::<_, Option<&str>>(3) {
                let result: Value = parse(result)?;
                let is_same = result["delivery_sha256"] == json!(delivery.sha256);
                return Ok(if is_same { Delivered::Replayed } else { Delivered::Other });
            }
            let Some(intent) = row.get::<_, Option<&str>>(1) else { return Ok(Delivered::Absent) };
            let asked: Option<Uuid> = row.get(5);
            match state {
                StateName::WaitingTool => {}
                StateName::WaitingApproval if asked.is_some() => {}
                // it was called, and the run has not parked yet, or lost its worker before it could
                StateName::Running | StateName::Pending => return Ok(Delivered::TooEarly),
                other => return Ok(Delivered::NotWaiting(other)),
            }
            let begun_at: Timestamp = row.get::<_, Option<Timestamp>>(2).unwrap_or(Timestamp::UNIX_EPOCH);
            let waits = Waits { run_id, intent: parse(intent)?, begun_at, trace_id: row.get(4), asked };
            if self.take_delivery(scope, waits, delivery).await? {
                self.inner.wake.run_changed(run_id);
                self.inner.wake.work_queued();
                return Ok(Delivered::Done);
            }
        }
        Err(StoreError::Corrupt("a run neither waits for a result nor has one".into()))
    }

    async fn take_delivery(
        &self,
        scope: &ProjectScope,
        mut waits: Waits<'_>,
        delivery: &Delivery,
    ) -> Result<bool, StoreError> {
        let redactors = self.known_redactors(scope.project());
        let body = json!({"input": waits.intent["input"].take(), "output": delivery.output, "usage": null,
            "gates": waits.intent["gates"].take(), "delivery_sha256": delivery.sha256});
        let body = redactors.to_journal.redactor().clean_json(body).to_string();
        let mut said = json!({"n": delivery.n, "delivery_sha256": delivery.sha256});
        if let Some(approval_id) = waits.asked {
            said["withdrawn_approval_id"] = json!(approval_id);
        }
        let event = self.audit(scope, Note::of_run("tool.deliver", waits.run_id, waits.trace_id, said));
        let took_ms = i64::try_from(event.at.duration_since(waits.begun_at).as_millis()).unwrap_or(i64::MAX);
        let is_error = delivery.output["is_error"] == json!(true);
        let (project, call_id) = (scope.project().as_str(), self.inner.clock.new_id());
        let status = if is_error { "error" } else { "ok" };
        let arguments_sha256 = waits.intent["arguments_sha256"].as_str().unwrap_or_default();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![
            &project,
            &waits.run_id,
            &delivery.n,
            &event.at,
            &status,
            &body,
            &took_ms,
            &call_id,
            &delivery.chars,
            &event.id,
            &event.actor,
            &event.body,
            &event.key_id,
            &event.mac,
            &arguments_sha256,
        ];
        params.extend(waits.asked.as_ref().map(|approval_id| approval_id as &(dyn ToSql + Sync)));
        let sql = if waits.asked.is_some() { DELIVER_OUTCOME } else { DELIVER };
        match self.once(scope, sql, &params).await {
            Ok(rows) => Ok(!rows.is_empty()),
            // another delivery came first
            Err(error) if error.is_constraint("step_journal_pkey") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends the waiting of a run whose result did not come in time.
    pub(crate) async fn expire_result(
        &self,
        scope: &ProjectScope,
        run_id: RunId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let output = json!({"text": "E-MCP-UPSTREAM-002\nthe tool did not deliver its result in time",
            "structured": null, "is_error": true});
        let project = scope.project().as_str();
        let mut tx = self.begin(scope).await?;
        // put together here: what a model wrote may hold what the database's own JSON does not take
        let found = tx.rows(INTENT, &[&project, &run_id]).await?;
        let mut intent = found.first().map(|row| parse(row.get(0))).transpose()?.unwrap_or_default();
        let body = json!({"input": intent["input"].take(), "output": output, "usage": null,
            "gates": intent["gates"].take()});
        let params: Params<'_> = &[&project, &run_id, &now, &body.to_string()];
        let rows = tx.rows(EXPIRE, params).await?;
        let Some(row) = rows.first() else { return tx.rollback().await.map(|()| false) };
        let (state, trace_id): (&str, &str) = (row.get(0), row.get(1));
        let is_ended = state == "timeout";
        let note = if is_ended {
            let body = json!({"state": state, "error_code": "E-RUN-011", "output_sha256": null});
            Note::of_run("run.end", run_id, trace_id, body)
        } else {
            Note::of_run("tool.late", run_id, trace_id, json!({"n": row.get::<_, i32>(2)}))
        };
        let event = self.audit_at(scope, now, note);
        audit::insert(&mut tx, scope, &[event]).await?;
        tx.commit().await?;
        self.inner.figures.ended(StateName::Timeout, usize::from(is_ended));
        self.inner.wake.run_changed(run_id);
        self.inner.wake.work_queued();
        Ok(true)
    }
}

/// A run that a result was delivered to.
struct Waits<'a> {
    run_id: RunId,
    /// The journal's body of the call.
    intent: Value,
    begun_at: Timestamp,
    trace_id: &'a str,
    /// The request in which people are asked whether the call was made.
    asked: Option<Uuid>,
}

fn parse(text: &str) -> Result<Value, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt(e.to_string()))
}

const FIND: &str = "
SELECT r.state, i.body, i.started_at, o.body, r.trace_id, (SELECT a.approval_id FROM approval a
    WHERE a.project_id = $1 AND a.run_id = r.run_id AND a.n = $3 AND a.kind = 'outcome' AND a.state = 'pending')
FROM run_state r
LEFT JOIN step_journal i ON i.project_id = $1 AND i.run_id = r.run_id AND i.n = $3 AND i.phase = 'intent'
LEFT JOIN step_journal o ON o.project_id = $1 AND o.run_id = r.run_id AND o.n = $3 AND o.phase = 'result'
WHERE r.project_id = $1 AND r.run_id = $2";

// $1 project, $2 run, $3 step, $4 now, $5 status, $6 body, $7 duration, $8 to $15 the call's and the event's columns
macro_rules! deliver_sql {
    ($moved:literal) => {
        concat!(
            "
WITH i AS MATERIALIZED (SELECT name, started_at, is_trusted FROM step_journal
  WHERE project_id = $1 AND run_id = $2 AND n = $3 AND phase = 'intent'),",
            $moved,
            "
q AS (INSERT INTO run_queue (project_id, priority, run_id, agent_id, timeout_at)
  SELECT $1, priority, run_id, agent_id, timeout_at FROM u),
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status, started_at,
    duration_ms, body, is_trusted)
  SELECT $1, run_id, -lease_epoch::int, 'resumed', lease_epoch, 'state', 'pending', run_id || ':' || -lease_epoch, 'ok',
    $4::timestamptz, 0, '{}', false FROM u
  UNION ALL   -- what was said of the tool's output when it was called holds for what it delivers
  SELECT $1, u.run_id, $3, 'result', u.lease_epoch, 'tool', i.name, u.run_id || ':' || $3::int, $5, i.started_at, $7::bigint, $6,
    i.is_trusted
  FROM u, i),
c AS (INSERT INTO mcp_call (project_id, call_id, agent_id, actor, run_id, n, tool, status, arguments_sha256,
    result_chars, started_at, duration_ms, trace_id)
  SELECT $1, $8, u.agent_id, $11, u.run_id, $3, i.name, $5, $15, $9, i.started_at, $7, u.trace_id FROM u, i),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, $10, $4, $11, 'tool.deliver', 'run/' || run_id, run_id, trace_id, $12, $13, $14 FROM u)
SELECT run_id FROM u"
        )
    };
}

const DELIVER: &str = deliver_sql!(
    "
t AS (   -- the guard: whoever deletes the timer moves the run
  DELETE FROM run_timer k USING i WHERE k.project_id = $1 AND k.run_id = $2 AND k.kind = 'result' RETURNING k.run_id),
u AS (UPDATE run_state r SET state = 'pending', lease_epoch = r.lease_epoch + 1
  FROM t WHERE r.project_id = $1 AND r.run_id = t.run_id AND r.state = 'waiting_tool'
  RETURNING r.run_id, r.lease_epoch, r.priority, r.agent_id, r.timeout_at, r.trace_id),"
);

// $16: the request; the run gets the time back that it waited, as after a decision
const DELIVER_OUTCOME: &str = deliver_sql!(
    "
p AS MATERIALIZED (   -- the guard: nobody decided yet, and the approval is locked before the timer and the run
  SELECT approval_id, epoch, requested_at FROM approval
  WHERE project_id = $1 AND approval_id = $16 AND run_id = $2 AND n = $3 AND state = 'pending' FOR UPDATE),
t AS (DELETE FROM run_timer k USING i, p
  WHERE k.project_id = $1 AND k.run_id = $2 AND k.kind = 'approval' AND k.epoch = p.epoch
  RETURNING k.run_id, p.approval_id, p.requested_at),
w AS (UPDATE approval a SET state = 'withdrawn', decided_at = $4, reason = 'the tool delivered its result'
  FROM t WHERE a.project_id = $1 AND a.approval_id = t.approval_id),
u AS (UPDATE run_state r SET state = 'pending', lease_epoch = r.lease_epoch + 1,
    timeout_at = r.timeout_at + ($4::timestamptz - t.requested_at)
  FROM t WHERE r.project_id = $1 AND r.run_id = t.run_id AND r.state = 'waiting_approval'
  RETURNING r.run_id, r.lease_epoch, r.priority, r.agent_id, r.timeout_at, r.trace_id),"
);

const INTENT: &str =
    "SELECT body FROM step_journal WHERE project_id = $1 AND run_id = $2 AND phase = 'intent'
  ORDER BY n DESC LIMIT 1";

const EXPIRE: &str = "
WITH t AS (   -- the guard: whoever deletes the timer moves the run
  DELETE FROM run_timer WHERE project_id = $1 AND run_id = $2 AND kind = 'result' AND due_at <= $3 RETURNING run_id),
u AS (UPDATE run_state r SET state = CASE WHEN r.timeout_at <= $3 THEN 'timeout' ELSE 'pending' END,
    completed_at = CASE WHEN r.timeout_at <= $3 THEN $3::timestamptz END,
    error_code = CASE WHEN r.timeout_at <= $3 THEN 'E-RUN-011' END,
    error_message = CASE WHEN r.timeout_at <= $3 THEN 'the run''s time was over' END, lease_epoch = r.lease_epoch + 1
  FROM t WHERE r.project_id = $1 AND r.run_id = t.run_id AND r.state = 'waiting_tool'
  RETURNING r.run_id, r.state, r.lease_epoch, r.priority, r.agent_id, r.timeout_at, r.trace_id),
i AS MATERIALIZED (SELECT j.n, j.name, j.started_at FROM step_journal j
  WHERE j.project_id = $1 AND j.run_id = $2 AND j.phase = 'intent' ORDER BY j.n DESC LIMIT 1),
q AS (INSERT INTO run_queue (project_id, priority, run_id, agent_id, timeout_at)
  SELECT $1, priority, run_id, agent_id, timeout_at FROM u WHERE state = 'pending'),
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status, code,
    started_at, duration_ms, body, is_trusted)
  SELECT $1, run_id, -lease_epoch::int, 'resumed', lease_epoch, 'state', state, run_id || ':' || -lease_epoch, 'ok',
    NULL, $3::timestamptz, 0, '{}', false FROM u
  UNION ALL
  SELECT $1, u.run_id, i.n, 'result', u.lease_epoch, 'tool', i.name, u.run_id || ':' || i.n, 'error',
    'E-MCP-UPSTREAM-002', i.started_at, (extract(epoch FROM $3::timestamptz - i.started_at) * 1000)::bigint,
    $4::text, true
  FROM u, i WHERE u.state = 'pending')
SELECT u.state, u.trace_id, i.n FROM u, i";
