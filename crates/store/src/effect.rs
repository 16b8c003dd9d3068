//! Effects are announced before they are made: the intent of a call stands in the journal, committed, before the
//! request goes out. A call that was cut in flight leaves an intent without a result, and whoever goes on with the run
//! knows that nobody knows whether it happened.
//!
//! The fence is the run's own row, not only its lease: a statement that was sent by a claim which then ended or gave
//! back its run writes nothing.
//!
//! The intent also uses up the approval that allows the call, in the same statement: an approval is good for one.

use awooop_core::approval::{ApprovalKind, ApprovalState, Asked, StepFacts};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::audit::Note;
use crate::claim::ClaimedRun;
use crate::error::StoreError;
use crate::journal::RecordError;
use crate::pool::Store;
use crate::tx::{Params, storable};

/// A call that is about to be made.
#[derive(Debug, Clone)]
pub struct Intent<'a> {
    /// The step.
    pub n: i32,
    /// The tool's full name.
    pub tool: &'a str,
    /// Hash of the canonical arguments.
    pub arguments_sha256: &'a str,
    /// The action an approval is bound to, see [`awooop_core::approval::action_sha256`].
    pub action_sha256: &'a str,
    /// The approval that allows it.
    pub approval: Option<Uuid>,
    /// It was announced before and is made once more.
    pub is_again: bool,
    /// Does the tool's contract say that its output is trusted?
    pub is_trusted: bool,
    /// JSON `{input, gates}`: what goes to the tool, and what the gates said.
    pub body: Value,
}

impl Store {
    /// Announces a call, under the claim's fence, with its event in the audit; uses up its approval.
    ///
    /// # Errors
    /// [`RecordError::Fenced`] when the run is not this claim's any more, or the approval is not there to be used:
    /// nothing was written and the call must not be made.
    pub async fn begin_effect(&self, run: &ClaimedRun, intent: &Intent<'_>) -> Result<(), RecordError> {
        let redactors = self.known_redactors(run.scope().project());
        let body = redactors.to_journal.redactor().clean_json(intent.body.clone()).to_string();
        let key = run.idempotency_key(intent.n);
        let said = json!({"agent_id": run.agent_id.as_str(), "arguments_sha256": intent.arguments_sha256,
            "idempotency_key": key, "approval_id": intent.approval, "again": intent.is_again});
        let subject = format!("tool/{}", redactors.observed.clean(storable(intent.tool)));
        let note = Note { subject, ..Note::of_run("tool.call", run.run_id, &run.trace_id, said) };
        let event = self.audit(run.scope(), note);
        let tool = storable(intent.tool);
        let project = run.scope().project().as_str();
        let params: Params<'_> = &[
            &project,
            &run.lease_id,
            &run.run_id,
            &run.epoch,
            &intent.n,
            &tool,
            &key,
            &event.at,
            &body,
            &intent.approval,
            &intent.action_sha256,
            &intent.is_again,
            &event.id,
            &event.actor,
            &event.subject,
            &run.trace_id,
            &event.body,
            &event.key_id,
            &event.mac,
            &intent.is_trusted,
        ];
        match self.once(run.scope(), BEGIN, params).await {
            Ok(rows) if !rows.is_empty() => Ok(()),
            Ok(_) => Err(RecordError::Fenced),
            Err(error) if error.is_constraint("step_journal_pkey") => Err(RecordError::Fenced),
            Err(error) => Err(error.into()),
        }
    }
}

/// What gate 5 needs to know of a step, beside the call's other facts: `$1` project, `$2` run, `$3` step.
pub(crate) const STEP: &str = "
SELECT EXISTS (SELECT FROM step_journal WHERE project_id = $1 AND run_id = $2 AND n = $3 AND phase = 'intent'),
  a.approval_id, a.kind, a.state, a.action_sha256, a.reason, a.execute_by
FROM (SELECT 1) one LEFT JOIN LATERAL (SELECT * FROM approval WHERE project_id = $1 AND run_id = $2 AND n = $3
  ORDER BY epoch DESC LIMIT 1) a ON true";

/// Reads the row of [`STEP`].
pub(crate) fn step_facts(row: &Row, now: Timestamp) -> Result<StepFacts, StoreError> {
    let is_intended = row.get(0);
    let Some(approval_id) = row.get::<_, Option<Uuid>>(1) else {
        return Ok(StepFacts { is_intended, asked: None });
    };
    let (kind, state): (&str, &str) = (row.get(2), row.get(3));
    let asked = Asked {
        approval_id,
        kind: ApprovalKind::parse(kind).ok_or_else(|| StoreError::Corrupt(kind.to_owned()))?,
        state: ApprovalState::parse(state).ok_or_else(|| StoreError::Corrupt(state.to_owned()))?,
        action_sha256: row.get(4),
        reason: row.get(5),
        is_lapsed: row.get::<_, Option<Timestamp>>(6).is_some_and(|by| by <= now),
    };
    Ok(StepFacts { is_intended, asked: Some(asked) })
}

// $1 project, $2 lease, $3 run, $4 epoch, $5 step
const BEGIN: &str = "
WITH p AS MATERIALIZED (   -- an approval is used once, for the action it was given for, and in time
  SELECT approval_id FROM approval WHERE project_id = $1 AND approval_id = $10 AND run_id = $3 AND n = $5
    AND state = 'approved' AND action_sha256 = $11 AND execute_by > $8 FOR UPDATE),
g AS MATERIALIZED (   -- the guard: the approval, where one is needed, is there, and after it the run, this claim's
  SELECT r.lease_id FROM run_state r, (SELECT count(*) AS n FROM p) p
  WHERE r.project_id = $1 AND r.lease_id = $2 AND r.run_id = $3 AND r.lease_epoch = $4 AND r.state = 'running'
    AND ($10::uuid IS NULL OR p.n = 1) FOR SHARE OF r),
u AS (UPDATE approval a SET state = 'consumed' FROM g WHERE a.project_id = $1 AND a.approval_id = $10),
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status, started_at,
    duration_ms, body, is_trusted)
  SELECT $1, $3, $5, 'intent', $4, 'tool', $6, $7, 'open', $8, 0, $9, $20 FROM g WHERE NOT $12::boolean),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, $13, $8, $14, 'tool.call', $15, $3, $16, $17, $18, $19 FROM g)
SELECT lease_id FROM g";
