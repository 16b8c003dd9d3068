//! Tools through the gates: what an agent may see, and calls, in a run or from an MCP client.

use std::time::{Duration, Instant};

use awooop_core::contract::{AgentSpec, Risk, TransportSpec};
use awooop_core::gate::{self, Reach, Refusal, Verdict};
use awooop_core::halt::{Target, Work};
use awooop_core::schema::Schema;
use awooop_core::{AgentId, ErrorCode, Mode, ProjectId};
use awooop_redact::Redactor;
use awooop_store::claim::ClaimedRun;
use awooop_store::halt::Halt;
use awooop_store::journal::{CallRecord, StepStatus};
use awooop_store::redaction::{Blocked, Direction, ProjectRedactors};
use awooop_store::tool::{Server, ToolFacts};
use awooop_store::{ProjectScope, StoreError};
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::credential::resolve;
use crate::gateway::Gateway;
use crate::pipeline::{self, Cleared, Request, Stopped};
use crate::result::{Shaped, shape};
use crate::stops::{Cut, Ear};
use crate::upstream::{ToolCallRequest, ToolDefinition, ToolResult, Transport, UpstreamError, UpstreamSpec};

/// A tool that gates 1 to 3 let this agent see.
#[derive(Debug, Clone)]
pub struct ListedTool {
    /// Its full name.
    pub name: String,
    /// As its server defines it.
    pub definition: ToolDefinition,
}

/// A tool of the registry, for people.
#[derive(Debug, Clone)]
pub struct ToolStatus {
    /// Its full name.
    pub name: String,
    /// Who serves it.
    pub provider: String,
    /// The server's name for people.
    pub title: Option<String>,
    /// What the server says it does.
    pub description: Option<String>,
    /// What the contract says it does.
    pub risk: Risk,
    /// `available`, `drifted`, `not_offered` or `unreachable`.
    pub status: &'static str,
    /// Why it is not available.
    pub reason: Option<String>,
    /// Agents it is granted to.
    pub granted_to: Vec<String>,
    /// Hash of the definition its server gives now.
    pub definition_sha256: Option<String>,
}

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

/// A run's call that gives no step.
#[derive(Debug, thiserror::Error)]
pub enum RunCallError {
    /// The run's project or agent is stopped, or the call was cut by a stop: the run is to be given back, and the step
    /// is done again.
    #[error("the call was stopped")]
    Stopped,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Gateway {
    /// The tools gates 1 to 3 let the agent see, in the order of their names. A server that does not
    /// answer takes only its own tools away.
    pub async fn list_tools(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
    ) -> Result<Vec<ListedTool>, StoreError> {
        let facts = self.inner.store.call_facts(scope, agent, None, None).await?;
        let to_model = facts.redactors.to_model.redactor();
        if pipeline::Identified::prove(facts.identity).is_err() {
            return Ok(Vec::new());
        }
        let tools = self.inner.store.list_tools(scope, Some(agent)).await?;
        let offered = self.definitions(scope, tools.into_iter().filter(is_open).collect()).await;
        let mut listed = Vec::new();
        for (tool, definition) in offered {
            let Ok(Some(definition)) = definition else { continue };
            if self.is_pinned(scope, &tool, &definition).await? {
                // judged as its server wrote it, shown as the project lets it go to models
                let definition = definition.redacted(to_model);
                listed.push(ListedTool { name: tool.name.to_string(), definition });
            }
        }
        Ok(listed)
    }

    /// Gate 2 for a list: the pinned definition, or the first one seen.
    async fn is_pinned(
        &self,
        scope: &ProjectScope,
        tool: &ToolFacts,
        definition: &ToolDefinition,
    ) -> Result<bool, StoreError> {
        let seen = definition.sha256_hex();
        if tool.pinned_sha256.is_none() {
            self.inner.store.pin_tool(scope, &tool.name, &seen).await?;
        }
        Ok(gate::registry(&tool.name.to_string(), Some(&pipeline::registered(tool)), Some(&seen)).is_ok())
    }

    /// The registry for people: every tool, or with an agent only those granted to it, and what is wrong.
    pub async fn inspect_tools(
        &self,
        scope: &ProjectScope,
        agent: Option<&AgentId>,
    ) -> Result<Vec<ToolStatus>, StoreError> {
        let mut tools = self.inner.store.list_tools(scope, agent).await?;
        tools.retain(|tool| agent.is_none() || tool.is_granted);
        let offered = self.definitions(scope, tools).await;
        let redactors = self.inner.store.redactors(scope).await?;
        let to_people = redactors.to_people.redactor();
        Ok(offered.into_iter().map(|(tool, definition)| status(&tool, definition, to_people)).collect())
    }

    /// Each tool with what its server says of it now; servers are asked side by side.
    async fn definitions(&self, scope: &ProjectScope, tools: Vec<ToolFacts>) -> Vec<(ToolFacts, Definition)> {
        let mut servers: Vec<&Server> = Vec::new();
        for tool in &tools {
            if !servers.iter().any(|s| s.provider == tool.server.provider) {
                servers.push(&tool.server);
            }
        }
        let asked = servers.iter().map(|server| async {
            let spec = self.upstream_spec(scope.project(), server).map_err(UpstreamError::Refused)?;
            self.inner.upstreams.list_tools(&spec).await
        });
        let answers = futures::future::join_all(asked).await;
        let find = |tool: &ToolFacts| -> Definition {
            let at = servers.iter().position(|s| s.provider == tool.server.provider);
            let answer = &answers[at.expect("each tool's server was asked")];
            let offered = answer.as_ref().map_err(Clone::clone)?;
            Ok(offered.iter().find(|d| d.name == tool.name.tool()).cloned())
        };
        let found: Vec<Definition> = tools.iter().map(find).collect();
        tools.into_iter().zip(found).collect()
    }

    /// A call of a run's step `n`, through all five gates. Its record is written by the caller together
    /// with the step; a refusal is audited here.
    pub async fn call_in_run(
        &self,
        run: &ClaimedRun,
        n: i32,
        name: &str,
        arguments: Result<Map<String, Value>, String>,
    ) -> Result<Invocation, RunCallError> {
        let request = Request {
            scope: run.scope(),
            agent: &run.agent_id,
            run: Some(run),
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
        };
        let done = Box::pin(self.invoke(&request, trace, |redactors| &redactors.to_journal)).await?;
        done.ok_or(RunCallError::Stopped)
    }

    /// A call of an MCP client, through all five gates, in shadow: it belongs to no run. Recorded before
    /// the answer is given.
    pub async fn call_for_client(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        name: &str,
        arguments: Map<String, Value>,
        trace_id: Option<String>,
    ) -> Result<ClientResult, CallError> {
        let (run, mode, arguments) = (None, Mode::Shadow, Ok(arguments));
        let request = Request { scope, agent, run, mode, name, arguments, deadline: None };
        let idempotency_key = self.inner.store.clock().new_id().to_string();
        let trace = Trace { trace_id, traceparent: None, idempotency_key };
        let invocation = Box::pin(self.invoke(&request, trace, |redactors| &redactors.to_model)).await?;
        let invocation = invocation.ok_or_else(|| CallError::Refused(stopped(None)))?;
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
    /// `None` for a run that a stop takes the call from; nothing is to be recorded of it.
    async fn invoke(
        &self,
        request: &Request<'_>,
        trace: Trace,
        way: fn(&ProjectRedactors) -> &Direction,
    ) -> Result<Option<Invocation>, StoreError> {
        let (started_at, clock) = (self.inner.store.clock().now(), Instant::now());
        let arguments_sha256 = match &request.arguments {
            Ok(arguments) => awooop_core::json::sha256_hex(&Value::Object(arguments.clone())),
            Err(_) => String::new(),
        };
        let trace_id = trace.trace_id.clone();
        let ear = self.inner.stops.listen();
        let cleared = pipeline::clear(self, request).await;
        // those that the gates have just read
        let redactors = self.inner.store.known_redactors(request.scope.project());
        let done = match cleared {
            Ok(cleared) => {
                // before the request goes out: no effect happens that the audit does not name
                if cleared.has_effect() {
                    self.audit_effect(request, &trace, &arguments_sha256).await?;
                }
                match self.send(request, ear, cleared, trace, way(&redactors), &redactors).await {
                    Ok(done) => done,
                    Err(_) if request.run.is_some() => return Ok(None),
                    Err(_) => Done::refused(stopped(None)),
                }
            }
            Err(Stopped::Halted(halt)) if request.run.is_some() && is_of_runs(&halt) => return Ok(None),
            Err(Stopped::Halted(halt)) => Done::refused(stopped(Some(&halt))),
            Err(Stopped::Refused(refusal)) => Done::refused(refusal),
            Err(Stopped::Upstream(error)) => Done::upstream(&error, false),
            Err(Stopped::Store(error)) => return Err(error),
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
        };
        let gates = if done.has_passed {
            gate::verdicts(None, done.status == StepStatus::Stub)
        } else {
            done.refusal.as_ref().map_or_else(|| vec![pass("identity")], |r| gate::verdicts(Some(r), false))
        };
        Ok(Some(Invocation {
            status: done.status,
            code: done.code,
            result: done.result,
            gates,
            refusal: done.refusal,
            started_at,
            duration_ms,
            record,
        }))
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
    ) -> Result<Done, Cut> {
        let reach = cleared.reach();
        let (spec, tool, definition, arguments) = cleared.into_call();
        if reach == Reach::Stub {
            return Ok(Done::stub(&tool, &arguments));
        }
        let call = ToolCallRequest {
            name: tool.name.tool().to_owned(),
            arguments,
            idempotency_key: trace.idempotency_key,
            traceparent: trace.traceparent,
            timeout: Some(request.left_of(Duration::from_millis(tool.server.spec.timeout_ms))),
        };
        let work = Work {
            project: request.scope.project(),
            agent: request.agent,
            provider: Some(tool.name.provider()),
            tool: Some(&tool.name),
        };
        let answer = ear.unless(work, self.inner.upstreams.call_tool(&spec, call)).await?;
        Ok(match answer {
            Ok(result) if !fits_output(&definition, &result) => Done::upstream(&unfit_output(), true),
            Ok(result) => match shape(way, &redactors.observed, result) {
                Ok(shaped) => Done::answered(shaped),
                Err(blocked) => Done::withheld(blocked),
            },
            Err(error) => Done::upstream(&error, true),
        })
    }

    async fn audit_effect(
        &self,
        request: &Request<'_>,
        trace: &Trace,
        arguments_sha256: &str,
    ) -> Result<(), StoreError> {
        let subject = format!("tool/{}", self.inner.store.redactor().clean(request.name.to_owned()).as_str());
        let body = json!({"agent_id": request.agent.as_str(), "arguments_sha256": arguments_sha256,
            "idempotency_key": trace.idempotency_key});
        let run_id = request.run.map(|run| run.run_id);
        self.inner.store.record_event(request.scope, "tool.call", &subject, run_id, body).await
    }

    async fn audit_refusal(&self, request: &Request<'_>, refusal: &Refusal) -> Result<(), StoreError> {
        tracing::info!(code = refusal.code.as_str(), gate = refusal.gate, "a tool call was refused");
        // masked here, because it is cut to its column there
        let redactors = self.inner.store.known_redactors(request.scope.project());
        let subject = format!("tool/{}", redactors.observed.clean(request.name));
        let body = json!({"agent_id": request.agent.as_str(), "gate": refusal.gate, "code": refusal.code,
            "reason": refusal.message});
        let run_id = request.run.map(|run| run.run_id);
        self.inner.store.record_event(request.scope, "tool.refuse", &subject, run_id, body).await
    }

    /// How a server is reached, with its credential, if the operator still allows all of it.
    pub(crate) fn upstream_spec(&self, project: &ProjectId, server: &Server) -> Result<UpstreamSpec, String> {
        let operator = &self.inner.operator;
        let transport = match &server.spec.transport {
            TransportSpec::Stdio { command, args, env } => {
                let program = operator
                    .command(project, command)
                    .ok_or_else(|| format!("the operator lists no command `{command}` for this project"))?;
                let mut resolved: Vec<(String, SecretString)> = Vec::with_capacity(env.len());
                for (name, reference) in env {
                    let value = resolve(operator, project, reference).map_err(|e| e.to_string())?;
                    resolved.push((name.clone(), value));
                }
                let uid = operator.child_uid(project)?;
                Transport::Stdio { program, args: args.clone(), uid, env: resolved }
            }
            TransportSpec::Http { url, auth } => {
                let header = match auth {
                    None => None,
                    Some(auth) => {
                        let value =
                            resolve(operator, project, &auth.credential).map_err(|e| e.to_string())?;
                        Some(header(&auth.header, &auth.prefix, &value)?)
                    }
                };
                let allowed_private = operator.private_addresses(project);
                Transport::Http { url: url.clone(), header, allowed_private }
            }
        };
        let (project, provider) = (project.clone(), server.provider.clone());
        Ok(UpstreamSpec { project, provider, version: server.version_id, transport })
    }
}

type Definition = Result<Option<ToolDefinition>, UpstreamError>;

/// What travels with a call besides its arguments.
struct Trace {
    trace_id: Option<String>,
    traceparent: Option<String>,
    idempotency_key: String,
}

/// How a call ended, before it is recorded.
struct Done {
    status: StepStatus,
    code: Option<ErrorCode>,
    result: Shaped,
    refusal: Option<Refusal>,
    has_passed: bool,
}

impl Done {
    fn answered(result: Shaped) -> Self {
        let status = if result.is_error { StepStatus::Error } else { StepStatus::Ok };
        Self { status, code: None, result, refusal: None, has_passed: true }
    }

    fn refused(refusal: Refusal) -> Self {
        let text = format!("{}\n{}", refusal.code, refusal.message);
        let (code, result) = (Some(refusal.code), Shaped::of_text(text, true));
        Self { status: StepStatus::Refused, code, result, refusal: Some(refusal), has_passed: false }
    }

    fn upstream(error: &UpstreamError, has_passed: bool) -> Self {
        let result = Shaped::of_text(format!("{}\n{error}", error.code()), true);
        Self { status: StepStatus::Error, code: Some(error.code()), result, refusal: None, has_passed }
    }

    /// The tool answered what may not go where its answer was going.
    fn withheld(blocked: Blocked) -> Self {
        let code = ErrorCode::Redact001;
        let result = Shaped::of_text(
            format!("{code}\nthe tool was called and its result is withheld: {blocked}"),
            true,
        );
        Self { status: StepStatus::Error, code: Some(code), result, refusal: None, has_passed: true }
    }

    fn stub(tool: &ToolFacts, arguments: &Map<String, Value>) -> Self {
        let text = format!(
            "Shadow mode: `{}` was not called. It would have been called with {}.",
            tool.name,
            Value::Object(arguments.clone())
        );
        let result = Shaped::of_text(text, false);
        Self { status: StepStatus::Stub, code: None, result, refusal: None, has_passed: true }
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
    run.agent.as_ref().ok().and_then(AgentSpec::step_timeout)
}

/// Does it hold whole runs back, and not only one of their calls?
fn is_of_runs(halt: &Halt) -> bool {
    matches!(halt.stop.target, Target::All | Target::Project | Target::Agent(_))
}

/// What a call is told that a stop covers; without the halt, one that was under way when it came.
fn stopped(halt: Option<&Halt>) -> Refusal {
    let gate = if halt.is_none_or(is_of_runs) { 1 } else { 2 };
    let message =
        halt.map_or_else(|| "the call was stopped while it was under way".to_owned(), Halt::sentence);
    Refusal::new(gate, ErrorCode::Stop001, message)
}

fn pass(gate: &'static str) -> Verdict {
    Verdict { gate, verdict: "pass", code: None }
}

fn header(name: &str, prefix: &str, value: &SecretString) -> Result<(HeaderName, SecretString), String> {
    let name: HeaderName =
        name.parse().map_err(|_| "the credential's header has no valid name".to_owned())?;
    let text = format!("{prefix}{}", value.expose_secret());
    if HeaderValue::from_str(&text).is_err() {
        return Err("the credential is no valid header value".to_owned());
    }
    Ok((name, text.into()))
}

/// What gate 3 would say of it in any mode: a list shows nothing that no call could reach.
fn is_open(tool: &ToolFacts) -> bool {
    tool.is_granted && tool.denied_by.is_none()
}

fn status(tool: &ToolFacts, definition: Definition, to_people: &Redactor) -> ToolStatus {
    let shown = |text: &Option<String>| text.as_deref().map(|text| to_people.clean(text).into_inner());
    let name = tool.name.to_string();
    let (status, reason, definition) = match definition {
        Err(error) => ("unreachable", Some(error.to_string()), None),
        Ok(None) => ("not_offered", Some("its server does not offer it".to_owned()), None),
        Ok(Some(d)) => {
            match gate::registry(&name, Some(&pipeline::registered(tool)), Some(&d.sha256_hex())) {
                Ok(()) if let Some((policy, pattern)) = &tool.denied_by => {
                    ("denied", Some(format!("the policy `{policy}` denies it (by `{pattern}`)")), Some(d))
                }
                Ok(()) => ("available", None, Some(d)),
                Err(refusal) => ("drifted", Some(refusal.message), Some(d)),
            }
        }
    };
    ToolStatus {
        name,
        provider: tool.name.provider().to_string(),
        title: definition.as_ref().and_then(|d| shown(&d.title)),
        description: definition.as_ref().and_then(|d| shown(&d.description)),
        risk: tool.risk,
        status,
        reason: shown(&reason),
        granted_to: tool.granted_to.clone(),
        definition_sha256: definition.as_ref().map(ToolDefinition::sha256_hex),
    }
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
