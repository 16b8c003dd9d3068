//! Calls through the gates: one request upstream at most, and what whoever asked gets of it.
//!
//! What changes something is announced before it is sent (`Store::begin_effect`), so that a call which was cut in flight
//! is known. A call that may have run and has no answer is not told to the model as an error where making it again
//! would do something twice: a person decides.

use std::time::{Duration, Instant};

use awooop_core::approval::Clearance;
use awooop_core::gate::{self, Reach, Refusal, Verdict};
use awooop_core::halt::Work;
use awooop_core::schema::Schema;
use awooop_core::{AgentId, ErrorCode, Mode};
use awooop_store::claim::ClaimedRun;
use awooop_store::effect::Intent;
use awooop_store::halt::Halt;
use awooop_store::journal::{CallRecord, RecordError, StepStatus};
use awooop_store::park::ApprovalRequest;
use awooop_store::redaction::{Blocked, Direction, ProjectRedactors};
use awooop_store::tool::ToolFacts;
use awooop_store::{ProjectScope, StoreError};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::find;
use crate::gateway::Gateway;
use crate::pipeline::{self, Cleared, Request, Stopped};
use crate::result::{Shaped, shape};
use crate::stops::{Cut, Ear};
use crate::telling::{notices, while_telling};
use crate::upstream::{CallFailure, Notices, ToolCallRequest, ToolDefinition, ToolResult, UpstreamError};

/// What came of a call, redacted and within the cap.
#[derive(Debug)]
pub struct Invocation {
    /// How it ended.
    pub status: StepStatus,
    /// The code of an error or refusal.
    pub code: Option<ErrorCode>,
    /// What the model gets.
    pub result: Shaped,
    /// What each gate said.
    pub gates: Vec<Verdict>,
    /// The refusal, where a gate said no.
    pub refusal: Option<Refusal>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: i64,
    /// The row that records it.
    pub record: CallRecord,
}

/// What came of a run's call.
#[derive(Debug)]
pub enum Called {
    /// It is over: a result, an error, a refusal or a stub.
    Done(Box<Invocation>),
    /// People are asked: whether it may be made, or what became of it.
    Asks(Box<ApprovalRequest>),
    /// The run's project or agent is stopped, or a stop cut the call: the run is to be given back, and the step is done
    /// again.
    Stopped,
    /// Its tool accepted it and delivers the result later.
    Deferred {
        /// The tool's full name.
        tool: String,
        /// The longest time from now.
        within: Duration,
    },
}

/// What an MCP client gets of a call.
#[derive(Debug)]
pub struct ClientResult {
    /// Content parts.
    pub content: Vec<Value>,
    /// Structured content.
    pub structured_content: Option<Value>,
    /// The tool, its server or gate 4 said no in words for the model.
    pub is_error: bool,
    /// The result's `_meta`.
    pub meta: Option<Value>,
}

/// A client's call that gives no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A gate said no.
    #[error(transparent)]
    Refused(Refusal),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a call ended before its outcome was recorded.
enum Ended {
    Done(Done),
    Asks(Box<ApprovalRequest>),
    Deferred { tool: String, within: Duration },
    Stopped,
}

impl Ended {
    /// What becomes of a call that did not get past the gates.
    fn before(request: &Request<'_>, why: Stopped) -> Result<Self, StoreError> {
        Ok(match why {
            Stopped::Halted(halt) if request.step.is_some() && halt.is_of_runs() => Ended::Stopped,
            Stopped::Halted(halt) => Ended::Done(Done::refused(stopped(Some(&halt)))),
            Stopped::Refused(refusal) => Ended::Done(Done::refused(refusal)),
            Stopped::Asks(asked) => Ended::Asks(asked),
            Stopped::Upstream(error) => Ended::Done(Done::upstream(&error, false)),
            Stopped::Store(error) => return Err(error),
        })
    }
}

impl Gateway {
    /// A call of a run's step `n`, through all five gates. What is to be recorded of it is written by the caller
    /// together with the step; a refusal is audited here, and an effect is announced here.
    ///
    /// # Errors
    /// [`RecordError::Fenced`] when the run was taken away before the call could be announced: it was not made.
    pub async fn call_in_run(
        &self,
        run: &ClaimedRun,
        n: i32,
        name: &str,
        arguments: Result<Map<String, Value>, String>,
    ) -> Result<Called, RecordError> {
        let request = Request {
            scope: run.scope(),
            agent: &run.agent_id,
            step: Some((run, n)),
            mode: run.mode,
            name,
            arguments,
            deadline: step_limit(run).map(|limit| (Instant::now() + limit, limit)),
        };
        let span_id = format!("{:016x}", u64::try_from(n).unwrap_or(0) + 1);
        let trace = Trace {
            trace_id: Some(run.trace_id.clone()),
            traceparent: Some(format!("00-{}-{span_id}-01", run.trace_id)),
            idempotency_key: run.idempotency_key(n),
            listener: None,
        };
        Box::pin(self.invoke(&request, trace, |redactors| &redactors.to_journal)).await
    }

    /// A call of an MCP client, through all five gates, in shadow: it belongs to no run. Recorded before
    /// the answer is given; what the tool's server says meanwhile goes to the `listener`.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn call_for_client(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        name: &str,
        arguments: Map<String, Value>,
        trace_id: Option<String>,
        listener: Option<Notices>,
    ) -> Result<ClientResult, CallError> {
        let (step, mode, arguments) = (None, Mode::Shadow, Ok(arguments));
        let request = Request { scope, agent, step, mode, name, arguments, deadline: None };
        let idempotency_key = self.inner.store.clock().new_id().to_string();
        let trace = Trace { trace_id, traceparent: None, idempotency_key, listener };
        let invocation = match Box::pin(self.invoke(&request, trace, |redactors| &redactors.to_model)).await {
            Ok(Called::Done(invocation)) => *invocation,
            Ok(Called::Stopped) => return Err(CallError::Refused(stopped(None))),
            Ok(Called::Asks(_) | Called::Deferred { .. }) | Err(RecordError::Fenced) => {
                unreachable!("a call without a run asks nobody, defers nothing and is fenced by nothing")
            }
            Err(RecordError::Store(error)) => return Err(error.into()),
        };
        self.inner.store.record_call(scope, &invocation.record).await?;
        match invocation.refusal {
            // the model can mend its arguments: it gets words, not a protocol error
            Some(refusal) if refusal.code != ErrorCode::Gate006 => Err(CallError::Refused(refusal)),
            _ => Ok(ClientResult {
                content: invocation.result.content,
                structured_content: invocation.result.structured,
                is_error: invocation.result.is_error,
                meta: invocation.result.meta,
            }),
        }
    }

    /// `way` is where the result goes: a run's to the journal, from which its model gets it, a client's to a model.
    async fn invoke(
        &self,
        request: &Request<'_>,
        trace: Trace,
        way: fn(&ProjectRedactors) -> &Direction,
    ) -> Result<Called, RecordError> {
        let (started_at, clock) = (self.inner.store.clock().now(), Instant::now());
        let arguments_sha256 = match &request.arguments {
            Ok(arguments) => awooop_core::json::sha256_hex(&Value::Object(arguments.clone())),
            Err(_) => String::new(),
        };
        let trace_id = trace.trace_id.clone();
        let ended = match find::is_asked(request.name) {
            true => self.find(request, way).await?,
            false => Box::pin(self.clear_and_send(request, trace, way, &arguments_sha256)).await?,
        };
        let redactors = self.inner.store.known_redactors(request.scope.project());
        let done = match ended {
            Ended::Done(done) => done,
            Ended::Asks(asked) => return Ok(Called::Asks(asked)),
            Ended::Deferred { tool, within } => return Ok(Called::Deferred { tool, within }),
            Ended::Stopped => return Ok(Called::Stopped),
        };
        if let Some(refusal) = &done.refusal {
            self.audit_refusal(request, refusal).await?;
        }
        let duration_ms = i64::try_from(clock.elapsed().as_millis()).unwrap_or(i64::MAX);
        // masked before it is cut: half a credential has no pattern any more
        let tool = redactors.observed.clean(request.name).into_inner().chars().take(200).collect();
        let record = CallRecord {
            agent_id: request.agent.to_string(),
            tool,
            status: done.status,
            code: done.code,
            arguments_sha256,
            result_chars: i32::try_from(done.result.chars).unwrap_or(i32::MAX),
            started_at,
            duration_ms,
            trace_id,
            is_trusted: done.is_trusted,
        };
        let gates = if done.has_passed {
            gate::verdicts(None, done.status == StepStatus::Stub)
        } else {
            done.refusal.as_ref().map_or_else(|| vec![pass("identity")], |r| gate::verdicts(Some(r), false))
        };
        Ok(Called::Done(Box::new(Invocation {
            status: done.status,
            code: done.code,
            result: done.result,
            gates,
            refusal: done.refusal,
            started_at,
            duration_ms,
            record,
        })))
    }

    /// A call of a server's tool: the gates, and what lies behind them.
    async fn clear_and_send(
        &self,
        request: &Request<'_>,
        trace: Trace,
        way: fn(&ProjectRedactors) -> &Direction,
        arguments_sha256: &str,
    ) -> Result<Ended, RecordError> {
        let ear = self.inner.stops.listen();
        let cleared = match pipeline::clear(self, request).await {
            Ok(cleared) => cleared,
            Err(stopped) => return Ok(Ended::before(request, stopped)?),
        };
        // those that the gates have just read
        let redactors = self.inner.store.known_redactors(request.scope.project());
        if let (Some((run, n)), true) = (request.step, cleared.is_announced()) {
            self.announce(run, n, &cleared, arguments_sha256).await?;
        }
        let sent = Box::pin(self.send(request, ear, cleared, trace, way(&redactors), &redactors)).await;
        Ok(match sent {
            Ok(ended) => ended,
            Err(_) if request.step.is_some() => Ended::Stopped,
            Err(_) => Ended::Done(Done::refused(stopped(None))),
        })
    }

    /// A call of the platform's own tool, which finds others.
    async fn find(
        &self,
        request: &Request<'_>,
        way: fn(&ProjectRedactors) -> &Direction,
    ) -> Result<Ended, RecordError> {
        let found = match self.find_tools(request).await {
            Ok(found) => found,
            Err(stopped) => return Ok(Ended::before(request, stopped)?),
        };
        let redactors = self.inner.store.known_redactors(request.scope.project());
        Ok(Ended::Done(match shape(way(&redactors), &redactors.observed, found) {
            // definitions that gate 2 let pass: a list shows them to every model
            Ok(shaped) => Done::answered(shaped, true),
            Err(blocked) => Done::withheld(blocked),
        }))
    }

    /// Before the request goes out: no effect happens that journal and audit do not name.
    async fn announce(
        &self,
        run: &ClaimedRun,
        n: i32,
        cleared: &Cleared,
        arguments_sha256: &str,
    ) -> Result<(), RecordError> {
        let approval = match cleared.clearance() {
            Clearance::Use(approval_id) => Some(*approval_id),
            Clearance::Go | Clearance::Again | Clearance::Ask(_) => None,
        };
        let tool = cleared.tool().name.to_string();
        let intent = Intent {
            n,
            tool: &tool,
            arguments_sha256,
            action_sha256: cleared.action_sha256(),
            approval,
            is_again: cleared.is_again(),
            is_trusted: cleared.tool().is_output_trusted(),
            body: json!({"input": cleared.arguments(), "gates": gate::verdicts(None, false),
                "arguments_sha256": arguments_sha256}),
        };
        self.inner.store.begin_effect(run, &intent).await
    }

    /// The one request upstream, or the stub in its place; an error when a stop keeps it from beginning or cuts it.
    async fn send(
        &self,
        request: &Request<'_>,
        mut ear: Ear,
        cleared: Cleared,
        trace: Trace,
        way: &Direction,
        redactors: &ProjectRedactors,
    ) -> Result<Ended, Cut> {
        let reach = cleared.reach();
        let n = request.step.map(|(_, n)| n);
        let if_unknown = n.and_then(|n| cleared.outcome_request(n));
        let (spec, tool, definition, arguments, place) = cleared.into_call();
        if reach == Reach::Stub {
            return Ok(Ended::Done(Done::stub(&tool, &arguments)));
        }
        let limit = Duration::from_millis(tool.server.spec.timeout_ms);
        let left = || request.left_of(limit, "the call");
        let timeout = match left() {
            Ok(timeout) => timeout,
            Err(error) => return Ok(Ended::Done(Done::upstream(&error, true))),
        };
        let mut call = ToolCallRequest {
            name: tool.name.tool().to_owned(),
            arguments,
            idempotency_key: trace.idempotency_key,
            traceparent: trace.traceparent,
            timeout: Some(timeout),
            notices: None,
        };
        let work = Work {
            project: request.scope.project(),
            agent: request.agent,
            provider: Some(tool.name.provider()),
            tool: Some(&tool.name),
        };
        let mut answer = match &trace.listener {
            None => {
                let called = ear.unless(work, self.call_tool(&tool.server, &spec, call.clone()));
                place.hold(Box::pin(called)).await?
            }
            Some(listener) => {
                let (sender, mut heard) = notices();
                let call = ToolCallRequest { notices: Some(sender), ..call.clone() };
                let called =
                    place.hold(Box::pin(ear.unless(work, self.call_tool(&tool.server, &spec, call))));
                Box::pin(while_telling(called, &mut heard, listener, way)).await?
            }
        };
        // an idempotent effect is made once more under the same key: a model that hears of an error would call under
        // another
        if n.is_some()
            && tool.risk.is_effect()
            && tool.is_idempotent()
            && answer.as_ref().is_err_and(|failure| failure.may_have_run)
            && let Ok(timeout) = left()
        {
            call.timeout = Some(timeout);
            let again = ear.unless(work, self.call_tool(&tool.server, &spec, call));
            let again = place.hold(Box::pin(again)).await?;
            // that the second was not sent says nothing of the first
            answer = again.map_err(|failure| CallFailure { may_have_run: true, ..failure });
        }
        place.release().await;
        Ok(Ended::Done(match answer {
            Err(CallFailure { error, may_have_run }) => match if_unknown {
                Some(asked) if may_have_run => {
                    tracing::warn!(%error, "nobody knows whether a tool did what it was asked");
                    return Ok(Ended::Asks(Box::new(asked)));
                }
                _ => Done::upstream(&error, true),
            },
            Ok(result) if !result.is_error && n.is_some() && tool.delivers_within().is_some() => {
                let within = tool.delivers_within().unwrap_or_default();
                return Ok(Ended::Deferred { tool: tool.name.to_string(), within });
            }
            Ok(result) if !fits_output(&definition, &result) => Done::unfit(&tool),
            Ok(result) => match shape(way, &redactors.observed, result) {
                Ok(shaped) => Done::answered(shaped, tool.is_output_trusted()),
                Err(blocked) => Done::withheld(blocked),
            },
        }))
    }

    async fn audit_refusal(&self, request: &Request<'_>, refusal: &Refusal) -> Result<(), StoreError> {
        tracing::info!(code = refusal.code.as_str(), gate = refusal.gate, "a tool call was refused");
        // masked here, because it is cut to its column there
        let redactors = self.inner.store.known_redactors(request.scope.project());
        let subject = format!("tool/{}", redactors.observed.clean(request.name));
        let body = json!({"agent_id": request.agent.as_str(), "gate": refusal.gate, "code": refusal.code,
            "reason": refusal.message});
        let run_id = request.step.map(|(run, _)| run.run_id);
        self.inner.store.record_event(request.scope, "tool.refuse", &subject, run_id, body).await
    }
}

/// What travels with a call besides its arguments.
struct Trace {
    trace_id: Option<String>,
    traceparent: Option<String>,
    idempotency_key: String,
    /// Who wants to hear what the tool's server says meanwhile.
    listener: Option<Notices>,
}

/// How a call ended, before it is recorded.
struct Done {
    status: StepStatus,
    code: Option<ErrorCode>,
    result: Shaped,
    refusal: Option<Refusal>,
    has_passed: bool,
    /// All of it is our own words, or the tool's contract says that its output is trusted.
    is_trusted: bool,
}

impl Done {
    fn answered(result: Shaped, is_trusted: bool) -> Self {
        let status = if result.is_error { StepStatus::Error } else { StepStatus::Ok };
        Self { status, code: None, result, refusal: None, has_passed: true, is_trusted }
    }

    fn refused(refusal: Refusal) -> Self {
        let text = format!("{}\n{}", refusal.code, refusal.message);
        let (code, result) = (Some(refusal.code), Shaped::of_text(text, true));
        Self {
            status: StepStatus::Refused,
            code,
            result,
            refusal: Some(refusal),
            has_passed: false,
            is_trusted: true,
        }
    }

    fn upstream(error: &UpstreamError, has_passed: bool) -> Self {
        let result = Shaped::of_text(format!("{}\n{error}", error.code()), true);
        Self {
            status: StepStatus::Error,
            code: Some(error.code()),
            result,
            refusal: None,
            has_passed,
            is_trusted: true,
        }
    }

    /// The tool answered something else than its definition promises. Of one that changes something the model has to
    /// know that it did.
    fn unfit(tool: &ToolFacts) -> Self {
        let error = unfit_output();
        let mut done = Self::upstream(&error, true);
        if tool.risk.is_effect() {
            let text = format!("{}\nthe tool was called and its result is withheld: {error}", error.code());
            done.result = Shaped::of_text(text, true);
        }
        done
    }

    /// The tool answered what may not go where its answer was going.
    fn withheld(blocked: Blocked) -> Self {
        let code = ErrorCode::Redact001;
        let result = Shaped::of_text(
            format!("{code}\nthe tool was called and its result is withheld: {blocked}"),
            true,
        );
        Self {
            status: StepStatus::Error,
            code: Some(code),
            result,
            refusal: None,
            has_passed: true,
            is_trusted: true,
        }
    }

    fn stub(tool: &ToolFacts, arguments: &Map<String, Value>) -> Self {
        let text = format!(
            "Shadow mode: `{}` was not called. It would have been called with {}.",
            tool.name,
            Value::Object(arguments.clone())
        );
        let result = Shaped::of_text(text, false);
        Self {
            status: StepStatus::Stub,
            code: None,
            result,
            refusal: None,
            has_passed: true,
            is_trusted: true,
        }
    }
}

/// Does a result's structured content fit what the tool's own definition promises? A failed result promises
/// nothing, and a schema that cannot be used is no promise.
fn fits_output(definition: &ToolDefinition, result: &ToolResult) -> bool {
    let (Some(schema), false) = (&definition.output_schema, result.is_error) else { return true };
    let Ok(schema) = Schema::compile(schema) else { return true };
    result.structured_content.as_ref().is_some_and(|value| schema.validate(value).is_ok())
}

fn unfit_output() -> UpstreamError {
    UpstreamError::Protocol("its structured content does not fit the tool's output schema".to_owned())
}

/// Longest time of one step, as the run's agent says.
fn step_limit(run: &ClaimedRun) -> Option<Duration> {
    run.agent.as_ref().ok().and_then(|agent| agent.step_timeout())
}

/// What a call is told that a stop covers; without the halt, one that was under way when it came.
pub(crate) fn stopped(halt: Option<&Halt>) -> Refusal {
    let gate = if halt.is_none_or(Halt::is_of_runs) { 1 } else { 2 };
    let message =
        halt.map_or_else(|| "the call was stopped while it was under way".to_owned(), Halt::sentence);
    Refusal::new(gate, ErrorCode::Stop001, message)
}

fn pass(gate: &'static str) -> Verdict {
    Verdict { gate, verdict: "pass", code: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_keeps_what_its_definition_promises() {
        let definition = |schema: Value| {
            let raw = json!({"name": "t", "inputSchema": {"type": "object"}, "outputSchema": schema});
            ToolDefinition::from_raw(raw).unwrap()
        };
        let result = |structured_content: Option<Value>, is_error| ToolResult {
            content: Vec::new(),
            structured_content,
            is_error,
            meta: None,
        };
        let counts = definition(json!({"type": "object", "required": ["n"]}));
        assert!(fits_output(&counts, &result(Some(json!({"n": 1})), false)));
        assert!(!fits_output(&counts, &result(Some(json!({})), false)));
        assert!(!fits_output(&counts, &result(None, false)));
        assert!(fits_output(&counts, &result(None, true)));
        let broken = definition(json!({"type": "no such type"}));
        assert!(fits_output(&broken, &result(None, false)));
    }
}
