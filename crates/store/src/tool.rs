//! Tools as the project's contracts materialised them, what the gates need to know of one call, pins, and
//! the record of every call.

use std::sync::Arc;

use awooop_core::approval::{Demand, StepFacts, Taint};
use awooop_core::contract::{McpSpec, PolicySpec, ProviderSpec, Risk, ToolSpec};
use awooop_core::gate::Hints;
use awooop_core::halt::Work;
use awooop_core::ids::ToolName;
use awooop_core::pin::{Pin, PinnedBy};
use awooop_core::rate::{self, Limit};
use awooop_core::{AgentId, ProviderId};
use serde_json::Value;
use uuid::Uuid;

use crate::claim::ClaimedRun;
use crate::effect;
use crate::error::StoreError;
use crate::halt::{self, HALTS, Halt};
use crate::journal::CallRecord;
use crate::pool::Store;
use crate::redaction::{MARK, ProjectRedactors};
use crate::scope::ProjectScope;
use crate::tx::{Params, storable};

/// A tool server of the project.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its id.
    pub provider: ProviderId,
    /// The contract version it came from: a new version is a new connection.
    pub version_id: Uuid,
    /// How it is reached, and its tools.
    pub spec: Arc<McpSpec>,
}

/// A tool of the registry, seen by one agent or by nobody in particular.
#[derive(Debug, Clone)]
pub struct ToolFacts {
    /// Its full name.
    pub name: ToolName,
    /// Who serves it.
    pub server: Server,
    /// What the contract says it does, or the grant, or the tool's own definition, whichever is gravest.
    pub risk: Risk,
    /// What its own definition says that makes it graver; nothing until it is known.
    pub hints: Hints,
    /// The policy that denies it to every agent, and its pattern.
    pub denied_by: Option<(String, String)>,
    /// The project's policies.
    pub policies: Arc<Policies>,
    /// The definition the contract names, else the first one seen.
    pub pin: Option<Pin>,
    /// The policy that accepts only definitions that a contract names.
    pub only_listed_by: Option<String>,
    /// Is it granted to the agent asked for?
    pub is_granted: bool,
    /// The grant's constraints.
    pub constraints: Option<Value>,
    /// Agents it is granted to.
    pub granted_to: Vec<String>,
    /// What stops its calls: every agent's, or those of the agent asked for.
    pub halt: Option<Halt>,
}

impl ToolFacts {
    /// The same tool, as grave as its own definition says it is, where that is graver.
    #[must_use]
    pub fn tightened_by(mut self, hints: Hints) -> Self {
        self.risk = hints.risk.map_or(self.risk, |(risk, _)| risk.max(self.risk));
        self.hints = hints;
        self
    }

    /// May it be called again under the same key without doing anything twice?
    pub fn is_idempotent(&self) -> bool {
        self.spec().is_some_and(|tool| tool.idempotent == Some(true)) && !self.hints.is_not_idempotent
    }

    /// Does it reach beyond what the project keeps itself?
    pub fn is_open_world(&self) -> bool {
        self.spec().is_none_or(ToolSpec::is_open_world) || self.hints.is_open_world
    }

    /// Is what it answers the word of whom the project trusts?
    pub fn is_output_trusted(&self) -> bool {
        self.spec().is_some_and(ToolSpec::is_output_trusted)
    }

    /// What the policies ask of people before a call in `live`.
    pub fn demand(&self) -> Option<Demand> {
        let policies = self.policies.iter().map(|(id, policy)| (id.as_str(), policy));
        Demand::of_policies(policies, &self.name.to_string(), self.risk)
    }

    /// What is asked of people before a call by this agent in `live` whose run has read untrusted output.
    pub fn demand_after(&self, taint: &Taint, agent: &AgentId) -> Option<Demand> {
        let policies = self.policies.iter().map(|(_, policy)| policy);
        Demand::of_untrusted_output(policies, agent, &self.name.to_string(), taint)
    }

    /// The limits that a call by this agent comes under.
    pub fn limits(&self, agent: &AgentId) -> Vec<Limit> {
        let policies = self.policies.iter().map(|(id, policy)| (id.as_str(), policy));
        rate::limits(policies, agent, &self.name.to_string())
    }

    /// How long after a call its result may be delivered; `None` for a tool that answers with it.
    pub fn delivers_within(&self) -> Option<std::time::Duration> {
        let seconds = self.spec()?.delivers_within_s?;
        Some(std::time::Duration::from_secs(u64::from(seconds)))
    }

    fn spec(&self) -> Option<&ToolSpec> {
        self.server.spec.tools.iter().find(|tool| tool.name == self.name.tool())
    }
}

/// Whether the caller of a tool still is who it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityFacts {
    /// The project is there.
    pub is_project_there: bool,
    /// The agent has an active contract.
    pub is_agent_active: bool,
    /// The run is running under the caller's epoch; true for a call without a run.
    pub is_epoch_current: bool,
    /// The project's budget is used up.
    pub is_budget_spent: bool,
}

/// Everything the gates need from the database, read in one flight.
#[derive(Debug, Clone)]
pub struct CallFacts {
    /// What the call's data goes through.
    pub redactors: Arc<ProjectRedactors>,
    /// Gate 1.
    pub identity: IdentityFacts,
    /// Gates 2 to 4; `None` when the registry has no such tool.
    pub tool: Option<ToolFacts>,
    /// Gate 5: what has happened to the step before.
    pub step: StepFacts,
    /// What stops this call.
    pub halt: Option<Halt>,
}

/// What a model call needs from the database.
#[derive(Debug, Clone)]
pub struct ModelFacts {
    /// The provider's spec, of either type.
    pub provider: Option<ProviderSpec>,
    /// What stops this call.
    pub halt: Option<Halt>,
}

const TOOL_COLUMNS: &str =
    "t.provider_id, t.tool, t.risk, coalesce(t.definition_sha256, p.definition_sha256),
    s.contract_version_id, s.spec, g.agent_id IS NOT NULL, g.constraints, g.risk,
    ARRAY(SELECT a.agent_id FROM mcp_grant a WHERE a.project_id = $1 AND a.provider_id = t.provider_id
          AND a.tool = t.tool ORDER BY a.agent_id),
    t.definition_sha256 IS NOT NULL
  FROM mcp_tool t
  JOIN mcp_server s ON s.project_id = $1 AND s.provider_id = t.provider_id
  LEFT JOIN mcp_pin p ON p.project_id = $1 AND p.provider_id = t.provider_id AND p.tool = t.tool
  LEFT JOIN mcp_grant g ON g.project_id = $1 AND g.agent_id = $2 AND g.provider_id = t.provider_id
    AND g.tool = t.tool
  WHERE t.project_id = $1";

impl Store {
    /// What the gates need for one call, of a run's step where it belongs to one: read, never cached, so a cancel or
    /// a withdrawn grant counts at once.
    pub async fn call_facts(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        step: Option<(&ClaimedRun, i32)>,
        name: Option<&ToolName>,
    ) -> Result<CallFacts, StoreError> {
        if step.is_some() || name.is_some() {
            return self.read_call_facts(scope, agent, step, name).await;
        }
        let id = agent.clone();
        self.share(&self.inner.reads.identities, scope, agent.as_str(), move |store, scope| {
            let id = id.clone();
            async move { store.read_call_facts(&scope, &id, None, None).await }
        })
        .await
    }

    async fn read_call_facts(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        step: Option<(&ClaimedRun, i32)>,
        name: Option<&ToolName>,
    ) -> Result<CallFacts, StoreError> {
        let project = scope.project().as_str();
        let (run_id, epoch) = (step.map(|(r, _)| r.run_id), step.map(|(r, _)| r.epoch));
        let of_step: Params<'_> = &[&project, &run_id, &step.map(|(_, n)| n)];
        let provider = name.map_or("", |n| n.provider().as_str());
        let tool = name.map_or("", ToolName::tool);
        let identity: Params<'_> = &[&project, &agent.as_str(), &run_id, &epoch];
        let sql = format!("SELECT {TOOL_COLUMNS} AND t.provider_id = $3 AND t.tool = $4");
        let of_tool: Params<'_> = &[&project, &agent.as_str(), &provider, &tool];
        let of_project: Params<'_> = &[&project];
        let mut rows = self
            .flight(
                scope,
                &[
                    (HALTS, of_project),
                    (IDENTITY, identity),
                    (&sql, of_tool),
                    (effect::STEP, of_step),
                    (POLICIES, of_project),
                    (MARK, of_project),
                ],
            )
            .await?;
        let redactors = self.redactors_at(scope, &rows.pop().unwrap_or_default()).await?;
        let policies = Arc::new(policies(&rows.pop().unwrap_or_default())?);
        let facts = rows.pop().unwrap_or_default();
        let facts = facts.first().map(|row| effect::step_facts(row, self.inner.clock.now())).transpose()?;
        let tools = rows.pop().unwrap_or_default();
        let identity = rows.pop().unwrap_or_default();
        let halts = rows.pop().unwrap_or_default();
        let work =
            Work { project: scope.project(), agent, provider: name.map(ToolName::provider), tool: name };
        let row = identity.first().ok_or_else(|| StoreError::Corrupt("no identity facts".into()))?;
        let halt = halt::covering(&halts, work)?;
        let tool = tools.first().map(|row| tool_facts(row, server(row, 0, 4)?, &policies)).transpose()?;
        Ok(CallFacts {
            redactors,
            identity: IdentityFacts {
                is_project_there: row.get(0),
                is_agent_active: row.get(1),
                is_epoch_current: row.get(2),
                is_budget_spent: row.get(3),
            },
            tool: tool.map(|tool| ToolFacts { halt: halt.clone(), ..tool }),
            step: facts.unwrap_or_default(),
            halt,
        })
    }

    /// The project's tools in the order of their names; grants are `agent`'s, where one is given.
    pub async fn list_tools(
        &self,
        scope: &ProjectScope,
        agent: Option<&AgentId>,
    ) -> Result<Vec<ToolFacts>, StoreError> {
        let id = agent.cloned();
        let of = agent.map_or("", AgentId::as_str);
        self.share(&self.inner.reads.tools, scope, of, move |store, scope| {
            let id = id.clone();
            async move { store.read_tools(&scope, id.as_ref()).await }
        })
        .await
    }

    async fn read_tools(
        &self,
        scope: &ProjectScope,
        agent: Option<&AgentId>,
    ) -> Result<Vec<ToolFacts>, StoreError> {
        let sql = format!("SELECT {TOOL_COLUMNS} ORDER BY t.provider_id, t.tool");
        let (project, agent_id) = (scope.project().as_str(), agent.map(AgentId::as_str));
        let (of_tools, of_project): (Params<'_>, Params<'_>) = (&[&project, &agent_id], &[&project]);
        let flight = [(sql.as_str(), of_tools), (POLICIES, of_project), (HALTS, of_project)];
        let mut rows = self.flight(scope, &flight).await?;
        let halts = rows.pop().unwrap_or_default();
        let policies = Arc::new(policies(&rows.pop().unwrap_or_default())?);
        let tools = rows.pop().unwrap_or_default();
        let mut facts: Vec<ToolFacts> = Vec::with_capacity(tools.len());
        for row in &tools {
            // a server's tools come one after the other: its spec is read once
            let known = facts.last().filter(|last| last.server.provider.as_str() == row.get::<_, &str>(0));
            let server = known.map(|last| last.server.clone()).map_or_else(|| server(row, 0, 4), Ok)?;
            facts.push(tool_facts(row, server, &policies)?);
        }
        facts
            .into_iter()
            .map(|tool| {
                let halt = halt::covering_tool(&halts, scope.project(), agent, &tool.name)?;
                Ok(ToolFacts { halt, ..tool })
            })
            .collect()
    }

    /// The project's tool servers in the order of their ids, each with what stops its calls.
    pub async fn list_servers(
        &self,
        scope: &ProjectScope,
    ) -> Result<Vec<(Server, Option<Halt>)>, StoreError> {
        let project = scope.project();
        let of_project: Params<'_> = &[&project.as_str()];
        let mut rows = self.flight(scope, &[(SERVERS, of_project), (HALTS, of_project)]).await?;
        let halts = rows.pop().unwrap_or_default();
        let with_halt = |row: &tokio_postgres::Row| {
            let server = server(row, 0, 1)?;
            let any = ToolName::new(server.provider.clone(), "");
            let halt = halt::covering_tool(&halts, project, None, &any)?;
            Ok((server, halt))
        };
        rows.pop().unwrap_or_default().iter().map(with_halt).collect()
    }

    /// Records a call that belongs to no run: its commit is the call's audit.
    pub async fn record_call(&self, scope: &ProjectScope, call: &CallRecord) -> Result<(), StoreError> {
        let call_id = self.inner.clock.new_id();
        let code = call.code.map(awooop_core::ErrorCode::as_str);
        self.once(
            scope,
            "INSERT INTO mcp_call (project_id, call_id, agent_id, actor, tool, status, code, arguments_sha256,
               result_chars, started_at, duration_ms, trace_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            &[
                &scope.project().as_str(),
                &call_id,
                &call.agent_id,
                &scope.actor(),
                &storable(&call.tool),
                &call.status.as_str(),
                &code,
                &call.arguments_sha256,
                &call.result_chars,
                &call.started_at,
                &call.duration_ms,
                &call.trace_id,
            ],
        )
        .await?;
        Ok(())
    }

    /// The provider of an agent's model, and what stops a call of it: read before each call, never cached.
    pub async fn model_facts(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        provider: &ProviderId,
    ) -> Result<ModelFacts, StoreError> {
        let (agent, provider) = (agent.clone(), provider.clone());
        let of = format!("{agent}/{provider}");
        self.share(&self.inner.reads.models, scope, &of, move |store, scope| {
            let (agent, provider) = (agent.clone(), provider.clone());
            async move { store.read_model_facts(&scope, &agent, &provider).await }
        })
        .await
    }

    async fn read_model_facts(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        provider: &ProviderId,
    ) -> Result<ModelFacts, StoreError> {
        let project = scope.project().as_str();
        let (of_provider, of_project): (Params<'_>, Params<'_>) =
            (&[&project, &provider.as_str()], &[&project]);
        let mut rows = self.flight(scope, &[(PROVIDER, of_provider), (HALTS, of_project)]).await?;
        let halts = rows.pop().unwrap_or_default();
        let found = rows.pop().unwrap_or_default();
        let work = Work { project: scope.project(), agent, provider: Some(provider), tool: None };
        Ok(ModelFacts {
            provider: found.first().map(|row| provider_spec(row.get(0))).transpose()?,
            halt: halt::covering(&halts, work)?,
        })
    }
}

fn provider_spec(text: &str) -> Result<ProviderSpec, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt(e.to_string()))
}

/// A project's policies by id.
pub type Policies = Vec<(String, PolicySpec)>;

fn policies(rows: &[tokio_postgres::Row]) -> Result<Policies, StoreError> {
    let read = |row: &tokio_postgres::Row| {
        let spec = serde_json::from_str(row.get(1)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        Ok((row.get(0), spec))
    };
    rows.iter().map(read).collect()
}

fn denied_by(policies: &Policies, tool: &str) -> Option<(String, String)> {
    policies.iter().find_map(|(id, policy)| {
        let pattern = policy.denied_by(tool)?;
        Some((id.clone(), pattern.as_str().to_owned()))
    })
}

fn pinned_by(is_by_contract: bool) -> PinnedBy {
    if is_by_contract { PinnedBy::Contract } else { PinnedBy::FirstSight }
}

/// The server of a row that has its id at `id`, and its version and spec from `version` on.
fn server(row: &tokio_postgres::Row, id: usize, version: usize) -> Result<Server, StoreError> {
    let provider = ProviderId::parse(row.get(id)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    let ProviderSpec::Mcp(spec) = provider_spec(row.get(version + 1))? else {
        return Err(StoreError::Corrupt("a tool server that is a model provider".into()));
    };
    Ok(Server { provider, version_id: row.get(version), spec: Arc::new(spec) })
}

fn tool_facts(
    row: &tokio_postgres::Row,
    server: Server,
    policies: &Arc<Policies>,
) -> Result<ToolFacts, StoreError> {
    let corrupt = |e: &dyn std::fmt::Display| StoreError::Corrupt(e.to_string());
    let risk: &str = row.get(2);
    let constraints: Option<&str> = row.get(7);
    let own = Risk::parse(risk).ok_or_else(|| corrupt(&risk))?;
    let grave = match row.get::<_, Option<&str>>(8) {
        Some(text) => Risk::parse(text).ok_or_else(|| corrupt(&text))?.max(own),
        None => own,
    };
    let name = ToolName::new(server.provider.clone(), row.get(1));
    Ok(ToolFacts {
        denied_by: denied_by(policies, &name.to_string()),
        policies: Arc::clone(policies),
        hints: Hints::default(),
        name,
        server,
        risk: grave,
        pin: row.get::<_, Option<String>>(3).map(|sha256| Pin { by: pinned_by(row.get(10)), sha256 }),
        only_listed_by: policies.iter().find(|(_, p)| p.pins.is_some()).map(|(id, _)| id.clone()),
        is_granted: row.get(6),
        constraints: constraints.map(serde_json::from_str).transpose().map_err(|e| corrupt(&e))?,
        granted_to: row.get(9),
        halt: None,
    })
}

const PROVIDER: &str = "SELECT spec FROM provider WHERE project_id = $1 AND provider_id = $2
  UNION ALL SELECT spec FROM mcp_server WHERE project_id = $1 AND provider_id = $2";

const SERVERS: &str = "SELECT provider_id, contract_version_id, spec FROM mcp_server WHERE project_id = $1
  ORDER BY provider_id";

const POLICIES: &str = "SELECT policy_id, spec FROM policy WHERE project_id = $1 ORDER BY policy_id";

const IDENTITY: &str = "
SELECT EXISTS (SELECT FROM project WHERE project_id = $1),
  EXISTS (SELECT FROM contract WHERE project_id = $1 AND kind = 'agent' AND id = $2 AND active_version IS NOT NULL),
  $3::uuid IS NULL OR EXISTS (SELECT FROM run_state WHERE project_id = $1 AND run_id = $3
    AND lease_epoch = $4 AND state = 'running'),
  EXISTS (SELECT FROM budget WHERE project_id = $1 AND settled >= limit_amount)";
