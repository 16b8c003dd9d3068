//! A step and a run's end as the rows that record them, masked and owned, so that a write may outlive its caller.

use awooop_core::ErrorCode;
use serde_json::json;
use tokio_postgres::types::ToSql;

use super::{CallRecord, Outcome, StepResult};
use crate::audit::Note;
use crate::budget::Settlement;
use crate::claim::{ClaimedRun, Ticket};
use crate::pool::Store;
use crate::tx::storable;

/// A journal row, with its call's.
#[derive(Debug)]
pub(crate) struct JournalRow {
    pub(crate) step: StepResult,
    pub(crate) call: Option<CallRecord>,
    pub(crate) call_id: uuid::Uuid,
    pub(crate) actor: String,
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) tool: String,
    pub(crate) body: String,
    pub(crate) kind: &'static str,
    pub(crate) status: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) call_code: Option<&'static str>,
    pub(crate) has_call: bool,
    pub(crate) is_trusted: bool,
    pub(crate) call_chars: i32,
}

impl JournalRow {
    pub(super) fn new(store: &Store, run: &ClaimedRun, step: StepResult, call: Option<CallRecord>) -> Self {
        Self {
            call_id: store.inner.clock.new_id(),
            actor: run.scope().actor().to_owned(),
            name: storable(&step.name).into_owned(),
            key: run.idempotency_key(step.n),
            tool: call.as_ref().map_or_else(String::new, |c| storable(&c.tool).into_owned()),
            body: step.body.as_str().to_owned(),
            kind: step.kind.as_str(),
            status: step.status.as_str(),
            code: step.code.map(ErrorCode::as_str),
            call_code: call.as_ref().and_then(|c| c.code).map(ErrorCode::as_str),
            has_call: call.is_some(),
            is_trusted: call.as_ref().is_some_and(|c| c.is_trusted),
            call_chars: call.as_ref().map_or(0, |c| c.result_chars),
            step,
            call,
        }
    }

    /// The agent that called; empty for a step without a call.
    pub(crate) fn call_agent(&self) -> &str {
        self.call.as_ref().map_or("", |c| &c.agent_id)
    }

    /// Hash of the call's arguments; empty for a step without a call.
    pub(crate) fn call_sha256(&self) -> &str {
        self.call.as_ref().map_or("", |c| &c.arguments_sha256)
    }

    pub(super) fn params<'b>(&'b self, run: &'b Ticket, project: &'b &str) -> Vec<&'b (dyn ToSql + Sync)> {
        const NONE: &str = "";
        let call = self.call.as_ref();
        vec![
            project,
            &run.lease_id,
            &run.run_id,
            &run.epoch,
            &self.step.n,
            &self.kind,
            &self.name,
            &self.key,
            &self.status,
            &self.code,
            &self.step.started_at,
            &self.step.duration_ms,
            &self.body,
            &self.has_call,
            &self.call_id,
            call.map_or(&NONE as &(dyn ToSql + Sync), |c| &c.agent_id),
            &self.actor,
            &self.tool,
            &self.call_code,
            call.map_or(&NONE as &(dyn ToSql + Sync), |c| &c.arguments_sha256),
            &self.call_chars,
            &run.trace_id,
            &self.is_trusted,
        ]
    }
}

/// A run's end, with what travels with it.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) row: EndRow,
    pub(crate) step: Option<JournalRow>,
    pub(crate) settlement: Option<Settlement>,
    pub(crate) is_last: bool,
}

/// The columns of a run's end.
#[derive(Debug)]
pub(crate) struct EndRow {
    pub(crate) state: &'static str,
    pub(crate) output: Option<String>,
    pub(crate) sha256: Option<String>,
    pub(crate) code: Option<&'static str>,
    pub(crate) message: Option<String>,
    pub(crate) event: crate::audit::AuditEvent,
}

impl EndRow {
    pub(super) fn new(store: &Store, run: &ClaimedRun, outcome: &Outcome) -> Self {
        let redactors = store.known_redactors(run.scope().project());
        let redactor = redactors.to_journal.redactor();
        let (state, output, code, message) = match outcome {
            Outcome::Completed(output) => ("completed", Some(output.clone()), None, None),
            Outcome::Failed(code, message) => ("failed", None, Some(*code), Some(message.as_str())),
            Outcome::TimedOut => ("timeout", None, Some(ErrorCode::Run011), Some("the run's time was over")),
        };
        let output = output.map(|value| redactor.clean_json(value));
        let sha256 = output.as_ref().map(|o| awooop_core::json::sha256_hex(o.as_value()));
        let message =
            message.map(|m| redactor.clean(storable(m).chars().take(2000).collect::<String>()).into_inner());
        let code = code.map(ErrorCode::as_str);
        let said = json!({"state": state, "error_code": code, "output_sha256": sha256});
        let event = store.audit(run.scope(), Note::of_run("run.end", run.run_id, &run.trace_id, said));
        let output = output.map(|o| o.to_string());
        Self { state, output, sha256, code, message, event }
    }

    pub(super) fn params<'b>(&'b self, run: &'b Ticket, project: &'b &str) -> [&'b (dyn ToSql + Sync); 16] {
        [
            project,
            &run.lease_id,
            &run.run_id,
            &run.epoch,
            &self.state,
            &self.event.at,
            &self.output,
            &self.sha256,
            &self.code,
            &self.message,
            &self.event.id,
            &self.event.actor,
            &run.trace_id,
            &self.event.body,
            &self.event.key_id,
            &self.event.mac,
        ]
    }
}
