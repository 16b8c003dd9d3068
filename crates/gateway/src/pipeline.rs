//! The five gates, in order, on one screen. Each gate consumes the proof of the gate before it, whose
//! fields are private: a call that skipped a gate does not compile. `tools/list` runs gates 1 to 3, a call
//! all five. The rules themselves are pure functions in `awooop_core::gate`.
//!
//! In order:
//!
//! ```
//! use awooop_gateway::pipeline::{Authorized, Registered, Request, Stopped};
//! fn third(registered: Registered, request: &Request<'_>) -> Result<Authorized, Stopped> {
//!     Authorized::prove(registered, request)
//! }
//! ```
//!
//! The third gate without the second:
//!
//! ```compile_fail,E0308
//! use awooop_gateway::pipeline::{Authorized, Identified, Request, Stopped};
//! fn third(identified: Identified, request: &Request<'_>) -> Result<Authorized, Stopped> {
//!     Authorized::prove(identified, request)
//! }
//! ```
//!
//! A proof that no gate gave:
//!
//! ```compile_fail,E0451
//! use awooop_gateway::pipeline::Identified;
//! fn made_up() -> Identified {
//!     Identified { is_budget_spent: false }
//! }
//! ```
//!
//! The same proof twice:
//!
//! ```compile_fail,E0382
//! use awooop_gateway::pipeline::{Authorized, Registered, Request};
//! fn twice(registered: Registered, request: &Request<'_>) {
//!     let first = Authorized::prove(registered, request);
//!     let second = Authorized::prove(registered, request);
//! }
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use awooop_core::approval::{CallClass, Clearance, Demand, StepFacts, Taint, action_sha256, clearance};
use awooop_core::contract::Risk;
use awooop_core::gate::{self, Hints, Reach, Refusal};
use awooop_core::ids::ToolName;
use awooop_core::pin::{Cover, Standing};
use awooop_core::rate::Limit;
use awooop_core::{AgentId, ErrorCode, Mode};
use awooop_store::claim::ClaimedRun;
use awooop_store::halt::Halt;
use awooop_store::park::ApprovalRequest;
use awooop_store::rate::Place;
use awooop_store::redaction::{Blocked, ProjectRedactors};
use awooop_store::tool::{CallFacts, IdentityFacts, ToolFacts};
use awooop_store::{ProjectScope, StoreError};
use serde_json::{Map, Value};

use crate::gateway::Gateway;
use crate::upstream::{ToolDefinition, UpstreamError, UpstreamSpec};

/// A call as it arrives.
pub struct Request<'a> {
    /// Whose project, and who acts.
    pub scope: &'a ProjectScope,
    /// The agent that calls.
    pub agent: &'a AgentId,
    /// The run and the step it belongs to, if any.
    pub step: Option<(&'a ClaimedRun, i32)>,
    /// How far its effects may go.
    pub mode: Mode,
    /// The tool's full name, as the caller wrote it.
    pub name: &'a str,
    /// The arguments, or why they cannot be read.
    pub arguments: Result<Map<String, Value>, String>,
    /// The end of the time that the agent allows one step, and that time.
    pub deadline: Option<(Instant, Duration)>,
}

impl Request<'_> {
    /// How much of `limit` the agent leaves for `doing`; an error when its step has no time left.
    pub(crate) fn left_of(&self, limit: Duration, doing: &'static str) -> Result<Duration, UpstreamError> {
        let Some((end, after)) = self.deadline else { return Ok(limit) };
        match end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(UpstreamError::Timeout { doing, after }),
            left => Ok(limit.min(left)),
        }
    }

    /// Waits for the tool's server no longer than the agent's step may take.
    async fn in_time<T>(
        &self,
        doing: &'static str,
        asked: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        let Some((end, after)) = self.deadline else { return asked.await };
        self.left_of(after, doing)?;
        let answer = tokio::time::timeout_at(end.into(), asked).await;
        answer.unwrap_or(Err(UpstreamError::Timeout { doing, after }))
    }
}

/// Why a call does not go upstream.
#[derive(Debug)]
pub enum Stopped {
    /// A gate said no.
    Refused(Refusal),
    /// People hold the call back.
    Halted(Box<Halt>),
    /// People are asked first.
    Asks(Box<ApprovalRequest>),
    /// The tool's server could not say what it offers.
    Upstream(UpstreamError),
    /// The database failed: refused.
    Store(StoreError),
}

/// All five gates.
pub async fn clear(gateway: &Gateway, request: &Request<'_>) -> Result<Cleared, Stopped> {
    let facts = facts(gateway, request).await?;
    let step = facts.step.clone();
    let is_epoch_current = facts.identity.is_epoch_current;
    // a call that was begun, and may not simply be made again: whatever stops it now, its outcome is unknown
    let is_open = step.is_undecided() && facts.tool.as_ref().is_none_or(was_grave);
    let cleared = async {
        let validated = four(gateway, request, facts, Sight::Pins).await?;
        Cleared::prove(validated, gateway, request, &step).await
    };
    match (cleared.await, request.step) {
        // a halt of the whole run leaves the question for the time after it
        (Err(Stopped::Halted(halt)), _) if !is_open || halt.is_of_runs() => Err(Stopped::Halted(halt)),
        (Err(Stopped::Refused(_) | Stopped::Upstream(_) | Stopped::Halted(_)), Some((_, n)))
            if is_open && is_epoch_current =>
        {
            Err(Stopped::Asks(Box::new(ApprovalRequest {
                n,
                demand: Demand::of_outcome(),
                tool: request.name.to_owned(),
                risk: Risk::Write,
                arguments: request.arguments.clone().unwrap_or_default(),
                action_sha256: String::new(),
            })))
        }
        (cleared, _) => cleared,
    }
}

/// What all five would say of a first call of a run.
pub(crate) struct Rehearsal {
    /// How far it would go.
    pub(crate) reach: Reach,
    /// What people would be asked.
    pub(crate) demand: Option<Demand>,
    /// What makes the tool graver than its contract says.
    pub(crate) hints: Hints,
    /// Would people be asked once the run had read untrusted output, though they are not now?
    pub(crate) asks_after_untrusted: bool,
}

/// What all five would say of a first call of a run, which is not made. It proves nothing, and writes nothing.
pub(crate) async fn rehearse(gateway: &Gateway, request: &Request<'_>) -> Result<Rehearsal, Stopped> {
    let facts = facts(gateway, request).await?;
    let validated = four(gateway, request, facts, Sight::LeavesNoTrace).await?;
    let Authorized { reach, registered: Registered { tool, .. } } = &validated.authorized;
    credential(gateway, request, tool, 5).await?;
    let mut rehearsal =
        Rehearsal { reach: *reach, demand: None, hints: tool.hints, asks_after_untrusted: false };
    if *reach == Reach::Stub {
        return Ok(rehearsal);
    }
    let demand = tool.demand();
    let class = class(tool, request.mode, demand.as_ref(), "");
    if let Clearance::Ask(asked) = clearance(class, &StepFacts::default()).map_err(Stopped::Refused)? {
        rehearsal.demand = Some(asked);
    } else if matters_after_untrusted(tool, request.mode) {
        let taint = Taint { n: 1, tool: String::new(), of_ancestor: None };
        rehearsal.asks_after_untrusted = tool.demand_after(&taint, request.agent).is_some();
    }
    Ok(rehearsal)
}

async fn facts(gateway: &Gateway, request: &Request<'_>) -> Result<CallFacts, Stopped> {
    let name = ToolName::parse(request.name);
    let facts =
        gateway.inner.store.call_facts(request.scope, request.agent, request.step, name.as_ref()).await;
    facts.map_err(Stopped::Store)
}

/// The first four gates.
async fn four(
    gateway: &Gateway,
    request: &Request<'_>,
    facts: CallFacts,
    sight: Sight,
) -> Result<Validated, Stopped> {
    let identified = Identified::prove(facts.identity)?;
    if let Some(halt) = facts.halt {
        return Err(Stopped::Halted(Box::new(halt)));
    }
    let registered = Registered::prove(identified, gateway, request, facts.tool, sight).await?;
    let authorized = Authorized::prove(registered, request)?;
    let validated = Validated::prove(authorized, request, &facts.redactors)?;
    if !facts.step.is_intended {
        validated.look_for_room(gateway, request).await?;
    }
    Ok(validated)
}

/// Whether the first sight of a definition is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It is: from then on it is the one.
    Pins,
    /// It is not.
    LeavesNoTrace,
}

/// How the tool's server is reached, with its credential, as gate `n` needs it.
async fn credential(
    gateway: &Gateway,
    request: &Request<'_>,
    tool: &ToolFacts,
    n: u8,
) -> Result<UpstreamSpec, Stopped> {
    let spec = async { Ok(gateway.upstream_spec(request.scope.project(), &tool.server).await) };
    let spec = request.in_time("the credential", spec).await.map_err(Stopped::Upstream)?;
    spec.map_err(|why| Stopped::Refused(Refusal::new(n, ErrorCode::Gate009, why)))
}

/// Would making a call that was begun twice do something twice? Of a tool that reads and answers at once nothing is
/// announced: when a call of it was, its own definition had said that it does more.
fn was_grave(tool: &ToolFacts) -> bool {
    (tool.risk.is_effect() || tool.delivers_within().is_none()) && !tool.is_idempotent()
}

/// Is it a call that untrusted output can make wait?
fn matters_after_untrusted(tool: &ToolFacts, mode: Mode) -> bool {
    mode == Mode::Live && tool.risk.is_effect() && tool.is_open_world()
}

/// What people are asked before a call in `live`: what the policies say, or else what follows from what the run has read.
async fn demand(
    gateway: &Gateway,
    request: &Request<'_>,
    tool: &ToolFacts,
    run: &ClaimedRun,
) -> Result<Option<Demand>, Stopped> {
    let by_policy = tool.demand();
    if by_policy.is_some() || !matters_after_untrusted(tool, request.mode) {
        return Ok(by_policy);
    }
    let taint = gateway.inner.store.taint_of(run).await.map_err(Stopped::Store)?;
    Ok(taint.and_then(|taint| tool.demand_after(&taint, request.agent)))
}

/// Gate 1: the caller is who it says, now.
pub struct Identified {
    is_budget_spent: bool,
}

impl Identified {
    /// The project is active, the agent has a contract, the run still has the caller's epoch.
    pub fn prove(facts: IdentityFacts) -> Result<Self, Stopped> {
        let refuse = |why: &str| Err(Stopped::Refused(Refusal::new(1, ErrorCode::Gate001, why)));
        if !facts.is_project_there {
            return refuse("the project has no contract");
        }
        if !facts.is_agent_active {
            return refuse("the agent has no active contract");
        }
        if !facts.is_epoch_current {
            return refuse("the run was cancelled or taken over");
        }
        Ok(Self { is_budget_spent: facts.is_budget_spent })
    }
}

/// Gate 2: the tool is known and is what was pinned.
pub struct Registered {
    identified: Identified,
    tool: ToolFacts,
    definition: ToolDefinition,
}

impl Registered {
    /// The registry has the tool, its server offers it, and its definition is the pinned one.
    pub async fn prove(
        identified: Identified,
        gateway: &Gateway,
        request: &Request<'_>,
        tool: Option<ToolFacts>,
        sight: Sight,
    ) -> Result<Self, Stopped> {
        let Some(tool) = tool else {
            // the refusal repeats a part of the name, and half a credential has no pattern any more
            let redactors = gateway.inner.store.known_redactors(request.scope.project());
            let name = redactors.observed.clean(request.name.to_owned());
            let refusal = gate::registry(name.as_str(), false, None).expect_err("an unknown tool is refused");
            return Err(Stopped::Refused(refusal));
        };
        // asking the server what it offers already needs its credential
        let spec = credential(gateway, request, &tool, 2).await?;
        let offered = gateway.ask_tools(&tool.server, &spec);
        let offered: Arc<Vec<ToolDefinition>> =
            request.in_time("listing its tools", offered).await.map_err(Stopped::Upstream)?;
        let definition = offered.iter().find(|d| d.name == tool.name.tool());
        let standing = match definition {
            Some(definition) => {
                let judged = gateway.judge(request.scope, &[(&tool, definition)], None, sight).await;
                judged.map_err(Stopped::Store)?.pop()
            }
            None => None,
        };
        gate::registry(request.name, true, standing.as_ref()).map_err(Stopped::Refused)?;
        let definition = definition.cloned().expect("the gate refused a tool that is not offered");
        let definition = definition.covered(cover(standing.as_ref()));
        let tool = tool.tightened_by(Hints::of(definition.annotations.as_ref()));
        Ok(Self { identified, tool, definition })
    }
}

/// How much of a definition may be shown and believed.
pub(crate) fn cover(standing: Option<&Standing>) -> Cover {
    match standing {
        Some(Standing::Pinned(cover)) => *cover,
        _ => Cover::Whole,
    }
}

fn authority(tool: &ToolFacts) -> gate::Authority<'_> {
    let denied_by = tool.denied_by.as_ref().map(|(policy, pattern)| (policy.as_str(), pattern.as_str()));
    gate::Authority { is_granted: tool.is_granted, denied_by, risk: tool.risk }
}

/// What gate 5 knows of the call itself.
fn class<'a>(
    tool: &ToolFacts,
    mode: Mode,
    demand: Option<&'a Demand>,
    action_sha256: &'a str,
) -> CallClass<'a> {
    CallClass { risk: tool.risk, is_idempotent: tool.is_idempotent(), mode, demand, action_sha256 }
}

/// Gate 3: this agent may, in this mode.
pub struct Authorized {
    registered: Registered,
    reach: Reach,
}

impl Authorized {
    /// The tool is granted, and the mode permits what it does.
    pub fn prove(registered: Registered, request: &Request<'_>) -> Result<Self, Stopped> {
        let tool = &registered.tool;
        let reach = gate::authorization(request.name, authority(tool), request.mode);
        Ok(Self { reach: reach.map_err(Stopped::Refused)?, registered })
    }
}

/// Gate 4: the arguments are allowed, and there is budget left and room under the rates.
pub struct Validated {
    authorized: Authorized,
    arguments: Map<String, Value>,
    limits: Vec<Limit>,
}

impl Validated {
    /// Bounded, valid against the tool and the grant, without a credential, and as the project lets personal data
    /// go to tools; the budget is not spent.
    pub fn prove(
        authorized: Authorized,
        request: &Request<'_>,
        redactors: &ProjectRedactors,
    ) -> Result<Self, Stopped> {
        let refuse = |code, why: String| Err(Stopped::Refused(Refusal::new(4, code, why)));
        let arguments = match &request.arguments {
            Ok(arguments) => arguments.clone(),
            Err(why) => return refuse(ErrorCode::Gate006, why.clone()),
        };
        let Registered { identified, tool, definition, .. } = &authorized.registered;
        gate::arguments(&arguments, &definition.input_schema, tool.constraints.as_ref())
            .map_err(Stopped::Refused)?;
        let arguments = to_tool(redactors, arguments)?;
        // what the tool gets is what must fit: a mask in it may not
        gate::arguments(&arguments, &definition.input_schema, tool.constraints.as_ref())
            .map_err(Stopped::Refused)?;
        if identified.is_budget_spent {
            return refuse(ErrorCode::Gate007, "the project's budget is spent".into());
        }
        // what shadow answers goes nowhere, and is not counted
        let limits = match authorized.reach {
            Reach::Call => tool.limits(request.agent),
            Reach::Stub => Vec::new(),
        };
        Ok(Self { authorized, arguments, limits })
    }

    /// A full rate refuses before people are asked; the call is counted when all gates let it pass. One that was begun
    /// before is made again whatever the rates say.
    async fn look_for_room(&self, gateway: &Gateway, request: &Request<'_>) -> Result<(), Stopped> {
        let room = gateway.inner.store.look_at_rates(request.scope, &self.limits).await;
        room.map_err(|full| Stopped::Refused(Refusal::rate(&full.rule, full.wait)))
    }
}

/// The arguments as the project lets them go to a tool: without personal data that is masked or tagged on its way
/// there. A credential, or what is blocked, is refused.
fn to_tool(
    redactors: &ProjectRedactors,
    arguments: Map<String, Value>,
) -> Result<Map<String, Value>, Stopped> {
    let refuse = |why: String| Stopped::Refused(Refusal::new(4, ErrorCode::Gate006, why));
    let arguments = Value::Object(arguments);
    if let Some((path, class)) = redactors.credential_in(&arguments) {
        return Err(refuse(format!("the arguments hold a credential ({class}) at {path}")));
    }
    let passed = redactors.to_tool.json(arguments);
    let passed = passed.map_err(|Blocked(class)| {
        refuse(format!("the arguments hold {class}, which the project's contracts block on its way to tools"))
    })?;
    match passed.into_inner() {
        Value::Object(arguments) => Ok(arguments),
        _ => unreachable!("redaction keeps an object one"),
    }
}

/// Gate 5: cleared. The only value a tool client takes.
pub struct Cleared {
    validated: Validated,
    spec: UpstreamSpec,
    clearance: Clearance,
    is_again: bool,
    action_sha256: String,
    place: Option<Place>,
}

impl Cleared {
    /// The credential is there now, where the call needs people, they have allowed it, there is time for it, and it has
    /// its place under the rates. A call that belongs to no run is in shadow, so it has no effect to ask for.
    pub async fn prove(
        validated: Validated,
        gateway: &Gateway,
        request: &Request<'_>,
        facts: &StepFacts,
    ) -> Result<Self, Stopped> {
        let Registered { tool, .. } = &validated.authorized.registered;
        let spec = credential(gateway, request, tool, 5).await?;
        let (Some((run, n)), Reach::Call) = (request.step, validated.authorized.reach) else {
            let (clearance, action_sha256) = (Clearance::Go, String::new());
            let cleared = Self { validated, spec, clearance, is_again: false, action_sha256, place: None };
            return cleared.placed(gateway, request).await;
        };
        let (project, version) = (request.scope.project(), tool.server.version_id);
        let action_sha256 =
            action_sha256(project, run.run_id, n, request.name, version, &validated.arguments);
        let demand = demand(gateway, request, tool, run).await?;
        let class = class(tool, request.mode, demand.as_ref(), &action_sha256);
        let clearance = clearance(class, facts).map_err(Stopped::Refused)?;
        let is_again = facts.is_intended;
        let cleared = Self { validated, spec, clearance, is_again, action_sha256, place: None };
        match &cleared.clearance {
            Clearance::Ask(demand) => Err(Stopped::Asks(Box::new(cleared.request(n, demand.clone())))),
            _ => cleared.placed(gateway, request).await,
        }
    }

    /// Counts the call, unless it has no time left: then it is not announced either. It is not made to wait for room: a
    /// worker's slot that waits is a run that another agent cannot have, and whoever is told can do something else.
    async fn placed(mut self, gateway: &Gateway, request: &Request<'_>) -> Result<Self, Stopped> {
        request.left_of(Duration::MAX, "the call").map_err(Stopped::Upstream)?;
        let limits = std::mem::take(&mut self.validated.limits);
        let place = gateway.inner.store.take_place(request.scope, limits, self.is_again).await;
        let place = place.map_err(|full| Stopped::Refused(Refusal::rate(&full.rule, full.wait)))?;
        Ok(Self { place: Some(place), ..self })
    }

    /// Does the call go upstream, or is its effect answered with a stub?
    pub fn reach(&self) -> Reach {
        self.validated.authorized.reach
    }

    /// Is the call announced before it is made? What changes something is, and what is answered later.
    pub fn is_announced(&self) -> bool {
        let tool = self.tool();
        self.reach() == Reach::Call && (tool.risk.is_effect() || tool.delivers_within().is_some())
    }

    /// What is asked of people when nobody knows whether the call of step `n` happened; `None` for one that changes
    /// nothing.
    pub fn outcome_request(&self, n: i32) -> Option<ApprovalRequest> {
        self.tool().risk.is_effect().then(|| self.request(n, Demand::of_outcome()))
    }

    /// Was it announced before, by a claim that was cut?
    pub fn is_again(&self) -> bool {
        self.is_again
    }

    /// What gate 5 said.
    pub fn clearance(&self) -> &Clearance {
        &self.clearance
    }

    /// The action an approval is bound to.
    pub fn action_sha256(&self) -> &str {
        &self.action_sha256
    }

    /// The tool that is called.
    pub fn tool(&self) -> &ToolFacts {
        &self.validated.authorized.registered.tool
    }

    /// What it gets.
    pub fn arguments(&self) -> &Map<String, Value> {
        &self.validated.arguments
    }

    fn request(&self, n: i32, demand: Demand) -> ApprovalRequest {
        ApprovalRequest {
            n,
            demand,
            tool: self.tool().name.to_string(),
            risk: self.tool().risk,
            arguments: self.arguments().clone(),
            action_sha256: self.action_sha256.clone(),
        }
    }

    /// What the one request upstream is made of, and the place that it holds.
    pub(crate) fn into_call(self) -> (UpstreamSpec, ToolFacts, ToolDefinition, Map<String, Value>, Place) {
        let Validated { authorized, arguments, .. } = self.validated;
        let Registered { tool, definition, .. } = authorized.registered;
        let place = self.place.expect("every cleared call was given its place");
        (self.spec, tool, definition, arguments, place)
    }
}
