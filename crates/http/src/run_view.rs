//! Runs as callers see them. The `run` object is the contract `runtime_run_state` and nothing more; what
//! the contract has no place for stands beside it.
//!
//! Architecture Invariant: nothing here is made but by [`Shown`], which lets personal data go to people only as the
//! project's contracts say.

use std::sync::Arc;

use awooop_redact::{Clean, CleanJson};
use awooop_store::StoreError;
use awooop_store::family::Usage;
use awooop_store::halt::Halt;
use awooop_store::journal::Step;
use awooop_store::redaction::ProjectRedactors;
use awooop_store::run::Run;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::v1::halts::HaltItem;

/// The contract `runtime_run_state`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunContract {
    /// UUID v7: ids sort by the time the runs were made.
    run_id: Uuid,
    project_id: String,
    agent_id: String,
    /// One of the contract's eight states.
    #[schema(
        pattern = "^(pending|running|waiting_approval|waiting_tool|completed|failed|cancelled|timeout)$"
    )]
    state: &'static str,
    /// W3C trace id: 32 hexadecimal digits.
    trace_id: String,
    parent_run_id: Option<Uuid>,
    trigger: Trigger,
    /// SHA-256 of the input's canonical JSON.
    input_sha256: String,
    output_sha256: Option<String>,
    #[schema(format = DateTime)]
    started_at: Option<String>,
    #[schema(format = DateTime)]
    completed_at: Option<String>,
    #[schema(format = DateTime)]
    timeout_at: String,
    error_code: Option<String>,
    /// Always null: this server knows no prices.
    cost_usd: Option<f64>,
    /// Answers of the model so far.
    #[schema(minimum = 0)]
    step_count: i64,
}

/// What started a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Trigger {
    /// `api`, `schedule`, `sub_agent` for a run with a parent, or `retry` for one that does an ended one again.
    trigger_type: String,
    /// The schedule of the agent that started it, of a scheduled run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    schedule_id: Option<String>,
    /// Who started it, `<project>/<principal>` unless an admin named somebody.
    triggered_by: String,
}

/// A run just queued.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunQueued {
    run: RunContract,
}

/// A run in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunItem {
    run: RunContract,
    /// `shadow`, `suggest` or `live`, fixed when the run was made.
    mode: &'static str,
    /// Claims so far.
    #[schema(minimum = 0)]
    attempt: i32,
}

/// A run with what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunDocument {
    run: RunContract,
    /// `shadow`, `suggest` or `live`, fixed when the run was made.
    mode: &'static str,
    /// Claims so far.
    #[schema(minimum = 0)]
    attempt: i32,
    /// What the agent answered; null until it has.
    output: Option<Value>,
    /// Why it failed; null unless it did.
    error: Option<RunError>,
    /// What a pending run waits for after a failure that may pass; else null.
    retry: Option<RunRetry>,
    /// What a parked run waits for; else null.
    waiting: Option<RunWaiting>,
    /// What keeps a pending run from being claimed, where people do; else null.
    halt: Option<HaltItem>,
    usage: RunUsage,
}

/// Tokens charged so far; calls under way come later.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunUsage {
    /// For the run itself.
    #[schema(minimum = 0)]
    tokens: i64,
    /// For it and all of its descendants.
    #[schema(minimum = 0)]
    tokens_with_descendants: i64,
    /// How many descendants it has.
    #[schema(minimum = 0)]
    descendants: i64,
}

/// The waiting of a run that cannot go on before somebody else did something.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunWaiting {
    /// The step that waits.
    #[schema(minimum = 1)]
    step: i32,
    /// The approval it waits for; null while it waits for a tool's result.
    approval_id: Option<Uuid>,
    #[schema(format = DateTime)]
    since: String,
    /// Then the waiting is over, whatever came.
    #[schema(format = DateTime)]
    until: String,
}

/// The next try of a run that failed in a way that may pass.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunRetry {
    /// When it is due.
    #[schema(format = DateTime)]
    at: String,
    /// The code of the failure.
    code: String,
    message: String,
}

/// Why a run failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunError {
    /// A stable code.
    code: String,
    message: String,
}

/// A step of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepItem {
    /// Ordinal in the run, from 1; goes on when the run is taken over.
    n: i32,
    /// The claim that did it.
    epoch: i64,
    /// `llm` or `tool`.
    kind: String,
    /// The tool's full name, of a tool step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tool: Option<String>,
    /// The model, of a model step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    model: Option<String>,
    /// `ok`, `error`, `refused` or `stub`; `open` for a call that was announced and has no result.
    status: String,
    /// The code of an error or refusal.
    code: Option<String>,
    #[schema(format = DateTime)]
    started_at: String,
    #[schema(minimum = 0)]
    duration_ms: i64,
    /// What went in, masked.
    input: Value,
    /// What came out, masked.
    output: Value,
    /// `{"input_tokens","output_tokens"}` of a model step, else null.
    usage: Value,
    /// `{"gate","verdict","code"}` of each gate a tool call met.
    gates: Vec<Value>,
}

/// A project's runs as its contracts let people see them.
pub(crate) struct Shown(Arc<ProjectRedactors>);

impl Shown {
    /// Under these redactors.
    pub(crate) fn under(redactors: Arc<ProjectRedactors>) -> Self {
        Self(redactors)
    }

    /// A run just queued.
    pub(crate) fn queued(&self, run: &Run) -> RunQueued {
        RunQueued { run: self.contract(run) }
    }

    /// A run in a list.
    pub(crate) fn item(&self, run: &Run) -> RunItem {
        RunItem { run: self.contract(run), mode: run.mode.as_str(), attempt: run.attempt }
    }

    /// A run with what came of it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the stored output is not JSON.
    pub(crate) fn document(
        &self,
        run: &Run,
        usage: Usage,
        halt: Option<Halt>,
    ) -> Result<RunDocument, StoreError> {
        let output = run.output.as_deref().map(serde_json::from_str).transpose();
        let error = run.error_code.clone().map(|code| {
            let message = self.text(run.error_message.as_deref().unwrap_or_default());
            RunError { code, message }
        });
        Ok(RunDocument {
            run: self.contract(run),
            mode: run.mode.as_str(),
            attempt: run.attempt,
            output: output.map_err(|e| StoreError::Corrupt(e.to_string()))?.map(|value| self.json(value)),
            error,
            retry: run.retry.as_ref().map(|retry| RunRetry {
                at: retry.at.to_string(),
                code: retry.code.clone(),
                message: self.text(&retry.reason),
            }),
            halt: halt.map(HaltItem::of),
            usage: RunUsage {
                tokens: usage.own,
                tokens_with_descendants: usage.with_descendants,
                descendants: usage.descendants,
            },
            waiting: run.waiting.as_ref().map(|waiting| RunWaiting {
                step: waiting.n,
                approval_id: waiting.approval_id,
                since: waiting.since.to_string(),
                until: waiting.until.to_string(),
            }),
        })
    }

    /// A finished step.
    pub(crate) fn step(&self, step: Step) -> StepItem {
        let mut body = step.body;
        let mut take = |member: &str| body.get_mut(member).map(Value::take).unwrap_or_default();
        let (input, output, usage) = (take("input"), take("output"), take("usage"));
        let gates = match take("gates") {
            Value::Array(gates) => gates,
            _ => Vec::new(),
        };
        let name = self.text(&step.name);
        let (tool, model) = if step.kind == "tool" { (Some(name), None) } else { (None, Some(name)) };
        StepItem {
            n: step.n,
            epoch: step.epoch,
            kind: step.kind,
            tool,
            model,
            status: step.status,
            code: step.code,
            started_at: step.started_at.to_string(),
            duration_ms: step.duration_ms,
            input: self.json(input),
            output: self.json(output),
            usage,
            gates,
        }
    }

    fn contract(&self, run: &Run) -> RunContract {
        let trigger = Trigger {
            trigger_type: run.trigger_type.clone(),
            schedule_id: run.schedule_id.clone(),
            triggered_by: self.text(&run.triggered_by),
        };
        RunContract {
            run_id: run.run_id,
            project_id: run.project_id.clone(),
            agent_id: run.agent_id.clone(),
            state: run.state.as_str(),
            trace_id: run.trace_id.clone(),
            parent_run_id: run.parent_run_id,
            trigger,
            input_sha256: run.input_sha256.clone(),
            output_sha256: run.output_sha256.clone(),
            started_at: run.started_at.map(|at| at.to_string()),
            completed_at: run.completed_at.map(|at| at.to_string()),
            timeout_at: run.timeout_at.to_string(),
            error_code: run.error_code.clone(),
            cost_usd: None,
            step_count: run.step_count,
        }
    }

    /// The text, or why it is withheld.
    pub(crate) fn text(&self, text: &str) -> String {
        self.0.to_people.text(text).map_or_else(|blocked| format!("withheld: {blocked}"), Clean::into_inner)
    }

    /// The value, or a text that says why it is withheld.
    pub(crate) fn json(&self, value: Value) -> Value {
        let passed = self.0.to_people.json(value).map(CleanJson::into_inner);
        passed.unwrap_or_else(|blocked| Value::String(format!("withheld: {blocked}")))
    }
}
