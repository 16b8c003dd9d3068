//! The registry for people: every tool that a contract lists or a server offers, how it stands and why, and the definitions
//! that were seen of one. Looking leaves no trace: nothing is pinned, recorded or audited by it.

use std::collections::HashMap;

use awooop_core::contract::Risk;
use awooop_core::gate::Hints;
use awooop_core::ids::ToolName;
use awooop_core::lookalike::{is_invisible, skeleton};
use awooop_core::pin::{Pin, PinnedBy, Quarantine, Standing};
use awooop_core::scan::{Find, ToolNames};
use awooop_core::{AgentId, ProviderId};
use awooop_redact::Redactor;
use awooop_store::definition::SeenDefinition;
use awooop_store::tool::ToolFacts;
use awooop_store::{ProjectScope, StoreError};
use jiff::Timestamp;
use serde_json::Value;

use crate::gateway::Gateway;
use crate::pins::kept;
use crate::pipeline::Sight;
use crate::tools::Offers;
use crate::upstream::{ToolDefinition, UpstreamError};

/// Longest name of a tool that no contract lists, in characters: its server chose it.
const LONGEST_NAME: usize = 200;
/// Finds told in one sentence.
const MOST_TOLD: usize = 3;

/// A tool of the registry.
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
    /// What the contract says it does, or its own definition, where that is graver; `None` where none lists it.
    pub risk: Option<Risk>,
    /// `available`, `denied`, `drifted`, `quarantined`, `unlisted`, `not_offered`, `stopped` or `unreachable`.
    pub status: &'static str,
    /// Who pinned its definition; `None` when nobody did yet.
    pub pinned_by: Option<PinnedBy>,
    /// Why it is not available.
    pub reason: Option<String>,
    /// What a look at its definition found, whether or not that keeps it from being called.
    pub finds: Vec<Find>,
    /// Other tools whose names look like its name.
    pub looks_like: Vec<String>,
    /// Agents it is granted to.
    pub granted_to: Vec<String>,
    /// Hash of the definition its server gives now; of a stopped one, which is not asked, of the pinned definition.
    pub definition_sha256: Option<String>,
}

/// A definition as people see it: masked, and cut where it is too long.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Hash over all of its members, as its server wrote them.
    pub sha256: String,
    /// The definition.
    pub definition: Value,
}

/// Everything that is known of one tool's definition.
#[derive(Debug, Clone)]
pub struct DefinitionReport {
    /// How it stands.
    pub status: ToolStatus,
    /// The hash that is asked for, and by whom.
    pub pin: Option<Pin>,
    /// When the first sight was; `None` when a contract was always faster.
    pub first_pinned_at: Option<Timestamp>,
    /// The pinned definition, where it was ever seen.
    pub pinned: Option<Shown>,
    /// What its server shows now.
    pub offered: Option<Shown>,
    /// What was seen, the newest first.
    pub seen: Vec<SeenDefinition>,
}

impl Gateway {
    /// The registry: every tool that a contract lists, and with no agent given also what servers offer besides; with one
    /// only what is granted to it.
    pub async fn inspect_tools(
        &self,
        scope: &ProjectScope,
        agent: Option<&AgentId>,
    ) -> Result<Vec<ToolStatus>, StoreError> {
        let inspected = self.inspect(scope, agent, None).await?;
        Ok(inspected.into_iter().map(|(status, _, _)| status).collect())
    }

    /// The definition of one tool: what is pinned, what is offered, what was seen; `None` when there is no such tool, or
    /// it is not granted to the agent that is given.
    pub async fn inspect_definition(
        &self,
        scope: &ProjectScope,
        agent: Option<&AgentId>,
        name: &ToolName,
    ) -> Result<Option<DefinitionReport>, StoreError> {
        let inspected = self.inspect(scope, agent, Some(name)).await?;
        let Some((status, tool, offered)) =
            inspected.into_iter().find(|(s, _, _)| s.name == name.to_string())
        else {
            return Ok(None);
        };
        let seen = self.inner.store.seen_definitions(scope, name).await?;
        let pin = tool.and_then(|tool| tool.pin);
        let is_pinned = |seen: &&SeenDefinition| {
            pin.as_ref().is_some_and(|pin| pin.sha256 == seen.sha256 || pin.sha256 == seen.plain_sha256)
        };
        let shown = |seen: &SeenDefinition| Shown {
            sha256: seen.sha256.clone(),
            definition: seen.definition.clone(),
        };
        let is_offered = pin.is_some() && matches!(status.status, "available" | "denied");
        let pinned =
            seen.iter().find(is_pinned).map(shown).or_else(|| offered.clone().filter(|_| is_offered));
        let first_pinned_at = self.inner.store.first_pinned_at(scope, name).await?;
        Ok(Some(DefinitionReport { status, pin, first_pinned_at, pinned, offered, seen }))
    }

    /// Every tool with how it stands, its facts and what its server shows; of `only` its server's.
    async fn inspect(
        &self,
        scope: &ProjectScope,
        agent: Option<&AgentId>,
        only: Option<&ToolName>,
    ) -> Result<Vec<(ToolStatus, Option<ToolFacts>, Option<Shown>)>, StoreError> {
        let store = &self.inner.store;
        let mut tools = store.list_tools(scope, agent).await?;
        let names = ToolNames::new(tools.iter().map(|tool| &tool.name));
        let all: Vec<ToolName> = tools.iter().map(|tool| tool.name.clone()).collect();
        tools.retain(|tool| agent.is_none() || tool.is_granted);
        let is_wanted = |provider: &ProviderId| only.is_none_or(|only| only.provider() == provider);
        tools.retain(|tool| is_wanted(tool.name.provider()));
        let mut servers = store.list_servers(scope).await?;
        servers.retain(|(server, halt)| halt.is_none() && is_wanted(&server.provider));
        if agent.is_some() {
            servers.retain(|(server, _)| tools.iter().any(|tool| tool.name.provider() == &server.provider));
        }
        let offers = self.offers(scope, servers.iter().map(|(server, _)| server)).await;
        let redactors = store.redactors(scope).await?;
        let people = People { to_people: redactors.to_people.redactor(), names, alike: Alike::new(&all) };
        let looks: Vec<(&ToolFacts, &ToolDefinition)> = tools
            .iter()
            .filter(|tool| tool.halt.is_none())
            .filter_map(|tool| Some((tool, offers.find(tool).ok()??)))
            .collect();
        let judged = self.judge(scope, &looks, Some(&all), Sight::LeavesNoTrace).await?;
        let standings: HashMap<&ToolName, &Standing> =
            looks.iter().map(|(tool, _)| &tool.name).zip(&judged).collect();
        let mut inspected: Vec<(ToolStatus, Option<ToolFacts>, Option<Shown>)> = tools
            .iter()
            .map(|tool| {
                let definition = if tool.halt.is_some() { Ok(None) } else { offers.find(tool) };
                let shown = definition.as_ref().ok().and_then(|d| Some(people.shown((*d)?)));
                let status = people.status(tool, definition, standings.get(&tool.name).copied());
                (status, Some(tool.clone()), shown)
            })
            .collect();
        if agent.is_none() {
            inspected.extend(people.unlisted(&offers, &all));
        }
        Ok(inspected)
    }
}

/// What people are told with.
struct People<'a> {
    to_people: &'a Redactor,
    names: ToolNames,
    alike: Alike,
}

impl People<'_> {
    fn clean(&self, text: &str) -> String {
        self.to_people.clean(text).into_inner()
    }

    fn shown(&self, definition: &ToolDefinition) -> Shown {
        let clean = self.to_people.clean_json(definition.raw.clone()).into_inner();
        let definition_shown = serde_json::from_str(&kept(&clean)).expect("what is kept of it is JSON");
        Shown { sha256: definition.sha256_hex().to_owned(), definition: definition_shown }
    }

    fn finds(&self, name: &ToolName, definition: &ToolDefinition) -> Vec<Find> {
        let clean = |find: Find| Find { path: self.clean(&find.path), ..find };
        Gateway::finds_of(name, definition, &self.names).into_iter().map(clean).collect()
    }

    fn status(
        &self,
        tool: &ToolFacts,
        definition: Result<Option<&ToolDefinition>, UpstreamError>,
        standing: Option<&Standing>,
    ) -> ToolStatus {
        let name = tool.name.to_string();
        let offered = definition.as_ref().ok().copied().flatten();
        let finds = offered.map(|d| self.finds(&tool.name, d)).unwrap_or_default();
        let hint = offered.and_then(|d| Hints::of(d.annotations.as_ref()).risk);
        let risk = hint.map_or(tool.risk, |(risk, _)| risk.max(tool.risk));
        let (status, reason) = match (&definition, standing) {
            _ if let Some(halt) = &tool.halt => ("stopped", Some(halt.sentence())),
            (Err(error), _) => ("unreachable", Some(error.to_string())),
            (Ok(None), _) | (_, None) => ("not_offered", Some("its server does not offer it".to_owned())),
            (Ok(Some(_)), Some(standing)) => match (standing, standing.refusal(&name)) {
                (Standing::Quarantined(Quarantine::Suspicious), _) => ("quarantined", Some(told(&finds))),
                (Standing::Quarantined(_), Some(refusal)) => ("quarantined", Some(refusal.message)),
                (_, Some(refusal)) => ("drifted", Some(refusal.message)),
                (_, None) if let Some((policy, pattern)) = &tool.denied_by => {
                    ("denied", Some(format!("the policy `{policy}` denies it (by `{pattern}`)")))
                }
                (_, None) => ("available", None),
            },
        };
        ToolStatus {
            provider: tool.name.provider().to_string(),
            title: offered.and_then(|d| d.title.as_deref()).map(|text| self.clean(text)),
            description: offered.and_then(|d| d.description.as_deref()).map(|text| self.clean(text)),
            risk: Some(risk),
            status,
            pinned_by: tool.pin.as_ref().map(|pin| pin.by),
            reason: reason.map(|reason| self.clean(&reason)),
            finds,
            looks_like: self.alike.to(&tool.name),
            granted_to: tool.granted_to.clone(),
            definition_sha256: match (offered, &tool.halt) {
                (None, Some(_)) => tool.pin.as_ref().map(|pin| pin.sha256.clone()),
                (offered, _) => offered.map(|d| d.sha256_hex().to_owned()),
            },
            name,
        }
    }

    /// What servers offer and no contract lists: nobody can call it, and people see it so that they can list it.
    fn unlisted(
        &self,
        offers: &Offers,
        listed: &[ToolName],
    ) -> Vec<(ToolStatus, Option<ToolFacts>, Option<Shown>)> {
        let as_listed = |(provider, definition): (&ProviderId, &ToolDefinition)| {
            let name = ToolName::new(provider.clone(), &definition.name);
            if listed.contains(&name) {
                return None;
            }
            let is_seen = |c: &char| !c.is_control() && !is_invisible(*c);
            let shown: String =
                self.clean(&name.to_string()).chars().filter(is_seen).take(LONGEST_NAME).collect();
            let status = ToolStatus {
                name: shown,
                provider: provider.to_string(),
                title: definition.title.as_deref().map(|text| self.clean(text)),
                description: definition.description.as_deref().map(|text| self.clean(text)),
                risk: None,
                status: "unlisted",
                pinned_by: None,
                reason: Some("its provider's contract does not list it, so no agent can call it".to_owned()),
                finds: self.finds(&name, definition),
                looks_like: self.alike.to(&name),
                granted_to: Vec::new(),
                definition_sha256: Some(definition.sha256_hex().to_owned()),
            };
            Some((status, None, Some(self.shown(definition))))
        };
        offers.all().filter_map(as_listed).collect()
    }
}

/// Finds as one sentence.
fn told(finds: &[Find]) -> String {
    let one = |find: &Find| {
        let place = if find.path.is_empty() { "/" } else { &find.path };
        format!("{} at {place}: {}", find.kind.as_str().replace('_', " "), find.detail)
    };
    let mut parts: Vec<String> = finds.iter().take(MOST_TOLD).map(one).collect();
    if finds.len() > MOST_TOLD {
        parts.push(format!("and {} more", finds.len() - MOST_TOLD));
    }
    format!("a person has to look at its definition ({})", parts.join("; "))
}

/// Listed tools by what is left of their own names when the eye passes over them.
struct Alike(HashMap<String, Vec<ToolName>>);

impl Alike {
    fn new(listed: &[ToolName]) -> Self {
        let mut by: HashMap<String, Vec<ToolName>> = HashMap::new();
        for name in listed {
            by.entry(skeleton(name.tool())).or_default().push(name.clone());
        }
        Self(by)
    }

    /// Listed tools whose own names look like this one's and are not the same: `search` of two servers is ordinary.
    fn to(&self, name: &ToolName) -> Vec<String> {
        let alike = self.0.get(&skeleton(name.tool())).into_iter().flatten();
        alike.filter(|other| other.tool() != name.tool()).map(ToolName::to_string).collect()
    }
}
