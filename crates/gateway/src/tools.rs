//! Tools as gates 1 to 3 let an agent see them.

use std::sync::Arc;

use awooop_core::gate;
use awooop_core::ids::ToolName;
use awooop_core::{AgentId, ProviderId};
use awooop_redact::Redactor;
use awooop_store::redaction::ProjectRedactors;
use awooop_store::tool::{Server, ToolFacts};
use awooop_store::{ProjectScope, StoreError};

use crate::find;
use crate::gateway::Gateway;
use crate::pipeline::{self, Sight};
use crate::upstream::{ToolDefinition, UpstreamError};

/// A tool that gates 1 to 3 let this agent see.
#[derive(Debug, Clone)]
pub struct ListedTool {
    /// Its full name.
    pub name: String,
    /// As its server defines it.
    pub definition: ToolDefinition,
}

/// The tools that one agent can call, as gates 1 to 3 let it see them.
pub struct ToolList {
    /// What a model is shown; where there are more than one list may hold, the first of it finds the others.
    pub listed: Vec<ListedTool>,
    rest: Vec<(ToolName, ToolDefinition)>,
    redactors: Arc<ProjectRedactors>,
}

impl ToolList {
    /// The full names of those that are not shown and can be called all the same.
    pub fn unlisted_names(&self) -> impl Iterator<Item = String> {
        self.rest.iter().map(|(name, _)| name.to_string())
    }

    /// One of them, as it may be shown.
    pub fn find_unlisted(&self, name: &str) -> Option<ListedTool> {
        let (name, definition) = self.rest.iter().find(|(known, _)| known.to_string() == name)?;
        Some(listed(name, definition.clone(), self.redactors.to_model.redactor()))
    }
}

/// Judged as its server wrote it, shown as the project lets it go to models.
pub(crate) fn listed(name: &ToolName, definition: ToolDefinition, to_model: &Redactor) -> ListedTool {
    ListedTool { name: name.to_string(), definition: definition.redacted(to_model) }
}

impl Gateway {
    /// The tools gates 1 to 3 let the agent see, all or one server's, in the order of their names. A server that does not
    /// answer takes only its own tools away; one that is stopped is not asked. Where there are more than one list may
    /// hold, [`crate::find::FIND_TOOLS`] stands first and the last ones are left out.
    pub async fn list_tools(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        provider: Option<&ProviderId>,
    ) -> Result<Vec<ListedTool>, StoreError> {
        Ok(self.tool_list(scope, agent, provider).await?.listed)
    }

    /// The same, with those that are left out.
    pub async fn tool_list(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        provider: Option<&ProviderId>,
    ) -> Result<ToolList, StoreError> {
        let (mut tools, redactors) = self.callable(scope, agent, provider).await?;
        let most = self.inner.operator.most_listed();
        let mut shown = Vec::with_capacity(tools.len().min(most));
        let rest = match tools.len() > most {
            true => {
                shown.push(find::listed_tool());
                tools.split_off(most - 1)
            }
            false => Vec::new(),
        };
        let to_model = redactors.to_model.redactor();
        shown.extend(tools.into_iter().map(|(name, definition)| listed(&name, definition, to_model)));
        Ok(ToolList { listed: shown, rest, redactors })
    }

    /// What gates 1 to 3 let the agent call, as its servers define it.
    pub(crate) async fn callable(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        provider: Option<&ProviderId>,
    ) -> Result<(Vec<(ToolName, ToolDefinition)>, Arc<ProjectRedactors>), StoreError> {
        let facts = self.inner.store.call_facts(scope, agent, None, None).await?;
        if pipeline::Identified::prove(facts.identity).is_err() {
            return Ok((Vec::new(), facts.redactors));
        }
        let mut tools = self.inner.store.list_tools(scope, Some(agent)).await?;
        let all: Vec<ToolName> = tools.iter().map(|tool| tool.name.clone()).collect();
        tools.retain(|tool| is_open(tool) && provider.is_none_or(|p| p == tool.name.provider()));
        let offers = self.offers(scope, tools.iter().map(|tool| &tool.server)).await;
        let looks: Vec<(&ToolFacts, &ToolDefinition)> =
            tools.iter().filter_map(|tool| Some((tool, offers.find(tool).ok()??))).collect();
        let judged = self.judge(scope, &looks, Some(&all), Sight::Pins).await?;
        let callable = looks.into_iter().zip(judged).filter_map(|((tool, definition), standing)| {
            gate::registry(&tool.name.to_string(), true, Some(&standing)).ok()?;
            Some((tool.name.clone(), definition.clone().covered(pipeline::cover(Some(&standing)))))
        });
        Ok((callable.collect(), facts.redactors))
    }

    /// What servers offer, each asked once and side by side.
    pub(crate) async fn offers<'a>(
        &self,
        scope: &ProjectScope,
        servers: impl Iterator<Item = &'a Server>,
    ) -> Offers {
        let mut asked: Vec<&Server> = Vec::new();
        for server in servers {
            if !asked.iter().any(|s| s.provider == server.provider) {
                asked.push(server);
            }
        }
        let answers = asked.iter().map(|server| async {
            let spec = self.upstream_spec(scope.project(), server).await.map_err(UpstreamError::Refused)?;
            self.ask_tools(server, &spec).await
        });
        let answers = futures::future::join_all(answers).await;
        Offers(asked.into_iter().map(|server| server.provider.clone()).zip(answers).collect())
    }
}

/// What each server answered.
pub(crate) struct Offers(Vec<(ProviderId, Offered)>);

/// What one server offers.
type Offered = Result<Arc<Vec<ToolDefinition>>, UpstreamError>;

impl Offers {
    /// What a tool's server says of it now; `None` when it does not have it or was not asked.
    pub(crate) fn find(&self, tool: &ToolFacts) -> Result<Option<&ToolDefinition>, UpstreamError> {
        let Some((_, answer)) = self.0.iter().find(|(provider, _)| provider == tool.name.provider()) else {
            return Ok(None);
        };
        let offered = answer.as_ref().map_err(Clone::clone)?;
        Ok(offered.iter().find(|definition| definition.name == tool.name.tool()))
    }

    /// All that servers which answered offer.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&ProviderId, &ToolDefinition)> {
        self.0.iter().flat_map(|(provider, answer)| {
            answer.iter().flat_map(|offered| offered.iter()).map(move |definition| (provider, definition))
        })
    }
}

/// What gates 1 and 3 would say of it in any mode: a list shows nothing that no call could reach.
fn is_open(tool: &ToolFacts) -> bool {
    tool.is_granted && tool.denied_by.is_none() && tool.halt.is_none()
}
