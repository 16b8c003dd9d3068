//! Tools as gates 1 to 3 let an agent see them, and the registry for people.

use awooop_core::contract::Risk;
use awooop_core::gate::{self, Hints};
use awooop_core::{AgentId, ProviderId};
use awooop_redact::Redactor;
use awooop_store::tool::{Server, ToolFacts};
use awooop_store::{ProjectScope, StoreError};

use crate::gateway::Gateway;
use crate::pipeline;
use crate::upstream::{ToolDefinition, UpstreamError};

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
    /// What the contract says it does, or its own definition, where that is graver.
    pub risk: Risk,
    /// `available`, `denied`, `drifted`, `not_offered`, `stopped` or `unreachable`.
    pub status: &'static str,
    /// Why it is not available.
    pub reason: Option<String>,
    /// Agents it is granted to.
    pub granted_to: Vec<String>,
    /// Hash of the definition its server gives now; of a stopped one, which is not asked, of the pinned definition.
    pub definition_sha256: Option<String>,
}
impl Gateway {
    /// The tools gates 1 to 3 let the agent see, all or one server's, in the order of their names. A server that does not
    /// answer takes only its own tools away; one that is stopped is not asked.
    pub async fn list_tools(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        provider: Option<&ProviderId>,
    ) -> Result<Vec<ListedTool>, StoreError> {
        let facts = self.inner.store.call_facts(scope, agent, None, None).await?;
        let to_model = facts.redactors.to_model.redactor();
        if pipeline::Identified::prove(facts.identity).is_err() {
            return Ok(Vec::new());
        }
        let tools = self.inner.store.list_tools(scope, Some(agent)).await?;
        let is_wanted =
            |tool: &ToolFacts| is_open(tool) && provider.is_none_or(|p| p == tool.name.provider());
        let offered = self.definitions(scope, tools.into_iter().filter(is_wanted).collect()).await;
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

    /// Each tool with what its server says of it now; servers are asked side by side, and none for what is stopped.
    async fn definitions(&self, scope: &ProjectScope, tools: Vec<ToolFacts>) -> Vec<(ToolFacts, Definition)> {
        let mut servers: Vec<&Server> = Vec::new();
        for tool in tools.iter().filter(|tool| tool.halt.is_none()) {
            if !servers.iter().any(|s| s.provider == tool.server.provider) {
                servers.push(&tool.server);
            }
        }
        let asked = servers.iter().map(|server| async {
            let spec = self.upstream_spec(scope.project(), server).await.map_err(UpstreamError::Refused)?;
            self.ask_tools(server, &spec).await
        });
        let answers = futures::future::join_all(asked).await;
        let find = |tool: &ToolFacts| -> Definition {
            if tool.halt.is_some() {
                return Ok(None);
            }
            let at = servers.iter().position(|s| s.provider == tool.server.provider);
            let answer = &answers[at.expect("each tool's server was asked")];
            let offered = answer.as_ref().map_err(Clone::clone)?;
            Ok(offered.iter().find(|d| d.name == tool.name.tool()).cloned())
        };
        let found: Vec<Definition> = tools.iter().map(find).collect();
        tools.into_iter().zip(found).collect()
    }
}

type Definition = Result<Option<ToolDefinition>, UpstreamError>;

/// What gates 1 and 3 would say of it in any mode: a list shows nothing that no call could reach.
fn is_open(tool: &ToolFacts) -> bool {
    tool.is_granted && tool.denied_by.is_none() && tool.halt.is_none()
}

fn status(tool: &ToolFacts, definition: Definition, to_people: &Redactor) -> ToolStatus {
    let shown = |text: &Option<String>| text.as_deref().map(|text| to_people.clean(text).into_inner());
    let name = tool.name.to_string();
    let (status, reason, definition) = match definition {
        _ if let Some(halt) = &tool.halt => ("stopped", Some(halt.sentence()), None),
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
        risk: definition
            .as_ref()
            .and_then(|d| Hints::of(d.annotations.as_ref()).risk)
            .map_or(tool.risk, |(risk, _)| risk.max(tool.risk)),
        status,
        reason: shown(&reason),
        granted_to: tool.granted_to.clone(),
        definition_sha256: match (&definition, &tool.halt) {
            (None, Some(_)) => tool.pinned_sha256.clone(),
            (definition, _) => definition.as_ref().map(ToolDefinition::sha256_hex),
        },
    }
}
