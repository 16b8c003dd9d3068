//! Driving a run: load the journal, then ask, call and record until it ends.

use std::ops::ControlFlow;
use std::time::Duration;

use awooop_core::ErrorCode;
use awooop_core::contract::AgentSpec;
use awooop_core::run::retry_pause;
use awooop_gateway::model::{ModelReply, ModelRequest, ToolCall, ToolSpec, input_upper_bound};
use awooop_gateway::{Called, CompleteError, ListedTool, PassError, ToolList, names};
use awooop_redact::Clean;
use awooop_store::budget::{Hold, ReserveError, Settlement};
use awooop_store::claim::ClaimedRun;
use awooop_store::journal::{Outcome, RecordError, StepKind, StepResult, StepStatus};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::conversation::{Conversation, Next, Recorded};
use super::{InFlight, Runtime};
use crate::held::Share;

/// How long a hold outlives the run's own time before the reaper charges it.
const HOLD_GRACE: Duration = Duration::from_secs(60);
/// Between two tries while other calls hold the rest of the budget.
const HELD_WAIT: Duration = Duration::from_millis(500);

/// Everything one drive uses.
struct Drive<'a> {
    runtime: &'a Runtime,
    run: &'a ClaimedRun,
    agent: &'a AgentSpec,
    tools: ToolList,
    in_flight: &'a InFlight,
}

/// A finished step that is not written yet.
struct Made {
    step: StepResult,
    settlement: Option<Settlement>,
}

impl Runtime {
    /// Drives the run to its end and records it.
    pub(super) async fn drive(
        &self,
        run: &ClaimedRun,
        share: &Share,
        in_flight: &InFlight,
    ) -> Result<(), RecordError> {
        let agent = match &run.agent {
            Ok(agent) => agent,
            Err(problem) => {
                let message = format!("the agent's contract does not load: {problem}");
                let outcome = Outcome::Failed(ErrorCode::Contract002, message);
                return self.store.end_run(run, &outcome, None, share.is_last()).await;
            }
        };
        let mut talk = Conversation::new(agent, &run.input);
        self.resume(run, &mut talk).await?;
        let tools = self.gateway.tool_list(run.scope(), &run.agent_id, None).await?;
        let drive = Drive { runtime: self, run, agent, tools, in_flight };
        loop {
            match talk.next() {
                Next::End(outcome) => return self.store.end_run(run, &outcome, None, share.is_last()).await,
                Next::Call(call) => {
                    if drive.call(&mut talk, &call).await?.is_break() {
                        return Ok(());
                    }
                }
                Next::Ask => {
                    let Some(made) = drive.ask(&talk).await? else { return Ok(()) };
                    talk.apply(&recorded(&made.step, &body_of(&made.step)));
                    // the last step travels with the end of the run
                    if let Next::End(outcome) = talk.next() {
                        let last = (&made.step, made.settlement.as_ref());
                        let ended = self.store.end_run(run, &outcome, Some(last), share.is_last()).await;
                        // a charge that was not written is written when the run is let go
                        if !matches!(ended, Err(RecordError::Store(_))) {
                            in_flight.take();
                        }
                        return ended;
                    }
                    self.store.record_step(run, &made.step, made.settlement.as_ref(), None).await?;
                    in_flight.take();
                }
            }
        }
    }

    /// Takes in every step that was recorded before.
    async fn resume(&self, run: &ClaimedRun, talk: &mut Conversation<'_>) -> Result<(), RecordError> {
        if run.epoch == 1 {
            return Ok(());
        }
        loop {
            let steps = self.store.list_steps(run.scope(), run.run_id, talk.next_n() - 1, 500).await?;
            if steps.is_empty() {
                return Ok(());
            }
            for step in &steps {
                let (kind, status, code) = (step.kind.as_str(), step.status.as_str(), step.code.as_deref());
                talk.apply(&Recorded { n: step.n, kind, status, code, body: &step.body });
            }
        }
    }
}

impl Drive<'_> {
    /// One model step: hold, ask, and what is to be settled and recorded. None when the run was put off or given back.
    async fn ask(&self, talk: &Conversation<'_>) -> Result<Option<Made>, RecordError> {
        let n = talk.next_n();
        let request = self.request(talk, n);
        let clock = self.runtime.store.clock();
        let (started_at, started) = (clock.now(), std::time::Instant::now());
        let about = shown(&request);
        let passed = match self.runtime.gateway.pass(self.run, request).await {
            Ok(passed) => passed,
            Err(PassError::Store(error)) => return Err(error.into()),
            Err(PassError::Blocked(blocked)) => {
                let message = PassError::Blocked(blocked).to_string();
                let step = self.failed(n, started_at, 0, about, ErrorCode::Redact001, &message);
                return Ok(Some(Made { step, settlement: None }));
            }
        };
        // masks may be longer than what they stand for: what is sent is what is counted
        let request = passed.request();
        let asked = input_upper_bound(request).saturating_add(u64::from(request.max_output_tokens));
        let hold = match self.reserve(n, i64::try_from(asked).unwrap_or(i64::MAX)).await {
            Ok(hold) => hold,
            Err(ReserveError::Fenced) => return Err(RecordError::Fenced),
            Err(ReserveError::Store(error)) => return Err(error.into()),
            Err(error) => {
                let step = self.failed(n, started_at, 0, about, error.code(), &error.to_string());
                return Ok(Some(Made { step, settlement: None }));
            }
        };
        let begins = || self.in_flight.set(hold.in_full());
        let answer = self.runtime.gateway.complete(self.run, &hold, &passed, begins).await;
        let duration_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        match answer {
            Ok(reply) => Ok(Some(self.answered(n, started_at, duration_ms, about, reply, hold))),
            Err(CompleteError::Store(error)) => Err(error.into()),
            Err(error) => {
                let settlement = if error.is_unbilled() { hold.settle(0, false) } else { hold.in_full() };
                if matches!(error, CompleteError::Stopped { .. }) {
                    self.wait_for_start(&settlement).await?;
                    return Ok(None);
                }
                if error.may_pass() && self.put_off(&error, &settlement).await? {
                    return Ok(None);
                }
                let step = self.failed(n, started_at, duration_ms, about, error.code(), &error.to_string());
                Ok(Some(Made { step, settlement: Some(settlement) }))
            }
        }
    }

    /// Settles the call that a stop cut, and gives the run back: to wait for its provider where that is what is stopped,
    /// else in the queue.
    async fn wait_for_start(&self, settlement: &Settlement) -> Result<(), RecordError> {
        let store = &self.runtime.store;
        store.settle(self.run.scope(), settlement).await?;
        self.in_flight.take();
        let is_parked = match self.agent.provider_and_model() {
            Some((provider, _)) => store.park_for_start(self.run, &provider).await?,
            None => false,
        };
        if !is_parked {
            store.release(self.run).await?;
        }
        Ok(())
    }

    /// Settles the call and lets go of the run until its next try; false when there is none to be had. The step is
    /// done again then, under the same key.
    async fn put_off(&self, error: &CompleteError, settlement: &Settlement) -> Result<bool, RecordError> {
        let (store, attempt) = (&self.runtime.store, u32::try_from(self.run.attempt).unwrap_or(1));
        let pause = retry_pause(attempt, error.asked_to_wait(), rand::random());
        let due_at = store.clock().after(pause);
        if !self.run.may_retry_at(due_at) {
            return Ok(false);
        }
        store.settle(self.run.scope(), settlement).await?;
        self.in_flight.take();
        store.retry_later(self.run, error.code(), &error.to_string(), due_at).await
    }

    fn request(&self, talk: &Conversation<'_>, n: i32) -> ModelRequest {
        let agent = self.agent;
        let tool = |tool: &ListedTool| ToolSpec {
            name: names::model_facing(&tool.name),
            description: tool.definition.description.clone().unwrap_or_default(),
            input_schema: tool.definition.input_schema.clone(),
        };
        // what was found is shown like what was listed: most models call nothing else
        let found: Vec<ListedTool> =
            talk.found_tools().iter().filter_map(|name| self.unlisted(name)).collect();
        ModelRequest {
            model: agent.provider_and_model().map_or("", |(_, model)| model).to_owned(),
            messages: talk.messages().to_vec(),
            tools: self.tools.listed.iter().chain(&found).map(tool).collect(),
            output_schema: Some(agent.output_schema.clone()),
            max_output_tokens: agent.max_output_tokens,
            idempotency_key: self.run.idempotency_key(n),
        }
    }

    /// Holds the tokens; waits while others hold the rest. The run's own time-out ends the wait.
    async fn reserve(&self, n: i32, amount: i64) -> Result<Hold, ReserveError> {
        let expires_at = self.run.timeout_at.saturating_add(HOLD_GRACE).unwrap_or(Timestamp::MAX);
        let store = &self.runtime.store;
        loop {
            let ask = store.ask_for(self.run, n, amount, expires_at);
            self.in_flight.set(ask.unused());
            match store.reserve_for(ask).await {
                Err(ReserveError::Held { .. }) => tokio::time::sleep(HELD_WAIT).await,
                other => return other,
            }
        }
    }

    fn answered(
        &self,
        n: i32,
        started_at: Timestamp,
        duration_ms: i64,
        about: Value,
        reply: ModelReply,
        hold: Hold,
    ) -> Made {
        let used = reply.usage.input_tokens.saturating_add(reply.usage.output_tokens);
        let settlement = hold.settle(i64::try_from(used).unwrap_or(i64::MAX), reply.usage.is_estimated);
        let usage =
            json!({"input_tokens": reply.usage.input_tokens, "output_tokens": reply.usage.output_tokens});
        let body = json!({
            "input": about,
            "output": {"content": reply.content, "tool_calls": reply.tool_calls},
            "usage": usage,
            "gates": [],
        });
        let step = StepResult {
            n,
            kind: StepKind::Llm,
            name: self.agent.model().to_owned(),
            status: StepStatus::Ok,
            code: None,
            started_at,
            duration_ms,
            body: self.clean(body),
        };
        Made { step, settlement: Some(settlement) }
    }

    fn failed(
        &self,
        n: i32,
        started_at: Timestamp,
        duration_ms: i64,
        about: Value,
        code: ErrorCode,
        message: &str,
    ) -> StepResult {
        let body = json!({"input": about, "output": {"error": message}, "usage": null, "gates": []});
        StepResult {
            n,
            kind: StepKind::Llm,
            name: self.agent.model().to_owned(),
            status: StepStatus::Error,
            code: Some(code),
            started_at,
            duration_ms,
            body: self.clean(body),
        }
    }

    /// One tool step: through the gates, recorded with its call; or the run waits, for people, for the result, or for
    /// the end of a stop.
    async fn call(
        &self,
        talk: &mut Conversation<'_>,
        call: &ToolCall,
    ) -> Result<ControlFlow<()>, RecordError> {
        let (n, store) = (talk.next_n(), &self.runtime.store);
        let full = self.full_name(&call.name);
        let arguments = call.parse_arguments().map_err(|e| e.to_string());
        let shown = match &arguments {
            Ok(map) => Value::Object(map.clone()),
            Err(_) => Value::String(call.arguments.clone()),
        };
        let invocation = match self.runtime.gateway.call_in_run(self.run, n, &full, arguments).await? {
            Called::Done(invocation) => invocation,
            Called::Asks(request) => {
                store.park_for_approval(self.run, &request).await?;
                return Ok(ControlFlow::Break(()));
            }
            Called::Deferred { tool, within } => {
                store.park_for_result(self.run, n, &tool, within).await?;
                return Ok(ControlFlow::Break(()));
            }
            Called::Stopped => {
                store.release(self.run).await?;
                return Ok(ControlFlow::Break(()));
            }
        };
        let body = json!({
            "input": shown,
            "output": invocation.result.output(),
            "usage": null,
            "gates": invocation.gates,
        });
        let step = StepResult {
            n,
            kind: StepKind::Tool,
            name: invocation.record.tool.clone(),
            status: invocation.status,
            code: invocation.code,
            started_at: invocation.started_at,
            duration_ms: invocation.duration_ms,
            body: self.clean(body),
        };
        store.record_step(self.run, &step, None, Some(&invocation.record)).await?;
        talk.apply(&recorded(&step, &body_of(&step)));
        Ok(ControlFlow::Continue(()))
    }

    /// The tool that a model means by a name it was told; any other name is as it is, for the gates to refuse.
    fn full_name(&self, called: &str) -> String {
        let listed = self.tools.listed.iter().map(|tool| tool.name.clone());
        let mut all = listed.chain(self.tools.unlisted_names());
        all.find(|full| names::model_facing(full) == called).unwrap_or_else(|| called.to_owned())
    }

    /// A tool that was not listed, by the name that the model was told.
    fn unlisted(&self, called: &str) -> Option<ListedTool> {
        let full = self.tools.unlisted_names().find(|full| names::model_facing(full) == called)?;
        self.tools.find_unlisted(&full)
    }

    fn clean(&self, body: Value) -> Clean {
        let redactors = self.runtime.store.known_redactors(self.run.scope().project());
        redactors.to_journal.redactor().clean_json(body).into()
    }
}

/// What of a request is journaled: its size and the tools offered. The conversation itself is the journal.
fn shown(request: &ModelRequest) -> Value {
    let tools: Vec<&str> = request.tools.iter().map(|t| t.name.as_str()).collect();
    json!({"messages": request.messages.len(), "tools": tools})
}

/// The step's body as it will be read back, so that a live run goes on from what a resumed one would see.
fn body_of(step: &StepResult) -> Value {
    serde_json::from_str(step.body.as_str()).expect("a step's body is made from a JSON value")
}

fn recorded<'a>(step: &'a StepResult, body: &'a Value) -> Recorded<'a> {
    Recorded {
        n: step.n,
        kind: step.kind.as_str(),
        status: step.status.as_str(),
        code: step.code.map(ErrorCode::as_str),
        body,
    }
}
