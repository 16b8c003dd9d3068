//! Parking: a run that cannot go on before somebody else did something leaves its worker. While it waits it costs a
//! row in `run_state` and a timer, and no worker, no lease and no place in the queue, however long that takes.
//!
//! What moves a waiting run again lies in `approval` (a decision, or none in time) and `delivery` (a result, or none
//! in time); whoever deletes the run's timer moves it.

use awooop_core::approval::{ApprovalKind, Demand};
use awooop_core::contract::Risk;
use awooop_core::run::Wait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::audit::Note;
use crate::claim::ClaimedRun;
use crate::journal::RecordError;
use crate::pool::Store;
use crate::tx::{Params, storable};

/// What people are asked to allow.
#[derive(Debug, Clone)]
pub struct ApprovalRequest {
    /// The step.
    pub n: i32,
    /// Why it waits, for how many and for how long.
    pub demand: Demand,
    /// The tool's full name.
    pub tool: String,
    /// What the tool does to the world.
    pub risk: Risk,
    /// What it would get.
    pub arguments: Map<String, Value>,
    /// The action that is allowed, see [`awooop_core::approval::action_sha256`].
    pub action_sha256: String,
}

/// The waiting of a run, as the statement writes it.
struct Parked<'a> {
    wait: Wait,
    timer: &'static str,
    due_at: Timestamp,
    approval: Option<(Uuid, &'a ApprovalRequest)>,
    journal: Value,
    event: Note,
    now: Timestamp,
}

impl Store {
    /// Takes a run from this claim until people have decided; its own time stands still meanwhile. Returns the
    /// approval's id.
    ///
    /// # Errors
    /// [`RecordError::Fenced`] when the run is not this claim's any more; the database's.
    pub async fn park_for_approval(
        &self,
        run: &ClaimedRun,
        request: &ApprovalRequest,
    ) -> Result<Uuid, RecordError> {
        let (approval_id, now) = (self.inner.clock.new_id(), self.inner.clock.now());
        let wait = SignedDuration::from_secs(i64::from(request.demand.expires_in_s));
        let said = json!({"approval_id": approval_id, "tool": request.tool, "n": request.n,
            "kind": request.demand.kind, "asked_by": request.demand.asked_by, "needed": request.demand.needed,
            "action_sha256": request.action_sha256});
        let parked = Parked {
            wait: Wait::Approval,
            timer: "approval",
            due_at: now.saturating_add(wait).unwrap_or(Timestamp::MAX),
            approval: Some((approval_id, request)),
            journal: json!({"approval_id": approval_id, "n": request.n}),
            event: Note::of_run("approval.request", run.run_id, &run.trace_id, said),
            now,
        };
        self.park(run, parked).await?;
        Ok(approval_id)
    }

    /// Takes a run from this claim until the result of its step `n`, whose intent stands, is delivered: `within`
    /// from now, and no longer than the run's own time.
    ///
    /// # Errors
    /// As [`Store::park_for_approval`].
    pub async fn park_for_result(
        &self,
        run: &ClaimedRun,
        n: i32,
        tool: &str,
        within: std::time::Duration,
    ) -> Result<(), RecordError> {
        let now = self.inner.clock.now();
        let due_at = self.inner.clock.after(within).min(run.timeout_at);
        let said = json!({"tool": tool, "n": n, "due_at": due_at});
        let parked = Parked {
            wait: Wait::Tool,
            timer: "result",
            due_at,
            approval: None,
            journal: json!({"n": n}),
            event: Note::of_run("run.wait", run.run_id, &run.trace_id, said),
            now,
        };
        self.park(run, parked).await
    }

    async fn park(&self, run: &ClaimedRun, parked: Parked<'_>) -> Result<(), RecordError> {
        let redactors = self.known_redactors(run.scope().project());
        let to_journal = redactors.to_journal.redactor();
        let request = parked.approval.map(|(_, request)| request);
        let arguments =
            request.map(|r| to_journal.clean_json(Value::Object(r.arguments.clone())).to_string());
        let journal = to_journal.clean_json(parked.journal).to_string();
        let event = self.audit_at(run.scope(), parked.now, parked.event);
        let project = run.scope().project().as_str();
        let params: Params<'_> = &[
            &project,
            &run.lease_id,
            &run.run_id,
            &run.epoch,
            &event.at,
            &parked.wait.state().as_str(),
            &parked.timer,
            &parked.due_at,
            &journal,
            &parked.approval.map(|(id, _)| id),
            &request.map(|r| r.n),
            &request.map(|r| r.demand.kind).map(ApprovalKind::as_str),
            &run.agent_id.as_str(),
            &request.map(|r| storable(&r.tool)),
            &request.map(|r| r.risk.as_str()),
            &arguments,
            &request.map(|r| r.action_sha256.as_str()),
            &request.map(|r| storable(&r.demand.asked_by)),
            &request.map(|r| i16::from(r.demand.needed)),
            &event.id,
            &event.actor,
            &event.action,
            &run.trace_id,
            &event.body,
            &event.key_id,
            &event.mac,
        ];
        if self.once(run.scope(), PARK, params).await?.is_empty() {
            return Err(RecordError::Fenced);
        }
        self.inner.wake.run_changed(run.run_id);
        Ok(())
    }
}

const PARK: &str = "
WITH l AS (   -- the lease before the run, as the lock order has it; dirty, so that nothing late of this claim passes
  UPDATE run_lease SET dirty = true WHERE project_id = $1 AND lease_id = $2 RETURNING lease_id),
u AS (   -- the guard: the run is still this claim's
  UPDATE run_state r SET state = $6, lease_id = NULL, worker_id = NULL, lease_epoch = r.lease_epoch + 1,
    attempt = r.attempt - 1
  FROM l WHERE r.project_id = $1 AND r.run_id = $3 AND r.lease_id = l.lease_id AND r.lease_epoch = $4
    AND r.state = 'running' RETURNING r.run_id, r.lease_epoch),
p AS (INSERT INTO approval (project_id, approval_id, run_id, n, epoch, kind, state, agent_id, tool, risk, arguments,
    action_sha256, asked_by, needed, requested_at, expires_at)
  SELECT $1, $10, run_id, $11, lease_epoch, $12, 'pending', $13, $14, $15, $16, $17, $18, $19, $5, $8 FROM u
  WHERE $10::uuid IS NOT NULL),
t AS (INSERT INTO run_timer (project_id, run_id, kind, due_at, epoch) SELECT $1, run_id, $7, $8, lease_epoch FROM u),
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status, started_at,
    duration_ms, body)
  SELECT $1, run_id, -lease_epoch::int, 'parked', lease_epoch, 'state', $6, run_id || ':' || -lease_epoch, 'ok', $5, 0,
    $9 FROM u),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, $20, $5, $21, $22, 'run/' || run_id, run_id, $23, $24, $25, $26 FROM u)
SELECT run_id FROM u";
