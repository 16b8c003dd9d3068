//! What contracts say of each other: agents name models and tools, channels name agents. Checked over all
//! manifests of a request together with what stays active, so that a request can bring an agent and its
//! provider at once, and none can take away what something active needs.
//!
//! A rule broken by a new manifest is told at its place in the request. One that breaks an active contract
//! has no place there: its path is `""`, and its message names the contract. What was broken before the
//! request is not told again, or nothing could be applied until all of it was mended.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use super::{AgentSpec, Kind, Manifest, ProviderSpec, Risk, Spec, lookalikes};
use crate::error::Violation;
use crate::ids::ToolName;

/// An active contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Active {
    /// Its id within project and kind.
    pub id: String,
    /// What it says.
    pub spec: Spec,
}

/// Checks a request against itself and against what is active, all of one project.
///
/// `new` are the manifests of the request, in its order; `active` is everything active before it;
/// `retired` names what the request ends. Returns all violations: `/manifests/<i>/…` for `new[i]`, `""` for
/// what would break an active contract. Nothing is returned when the request leaves the project whole.
pub fn check_references<M: Borrow<Manifest>>(
    new: &[M],
    active: &[Active],
    retired: &[(Kind, String)],
) -> Vec<Violation> {
    let new: Vec<&Manifest> = new.iter().map(Borrow::borrow).collect();
    let mut found = duplicates(&new, retired);
    found.extend(lookalikes::of_providers(&new, active, retired));
    let is_replaced = |a: &&Active| new.iter().any(|m| m.spec.kind() == a.spec.kind() && m.id == a.id);
    let is_retired = |a: &&Active| retired.iter().any(|(k, id)| *k == a.spec.kind() && *id == a.id);
    let staying: Vec<&Active> = active.iter().filter(|a| !is_replaced(a) && !is_retired(a)).collect();

    let before = World::new(active.iter().map(|a| (a.id.as_str(), &a.spec)));
    let applied = new.iter().map(|m| (m.id.as_str(), &m.spec));
    let after = World::new(staying.iter().map(|a| (a.id.as_str(), &a.spec)).chain(applied));
    for (i, manifest) in new.iter().enumerate() {
        let at = |broken: Broken| Violation {
            path: format!("/manifests/{i}{}", broken.path),
            keyword: "reference".to_owned(),
            message: broken.message,
        };
        found.extend(after.check(&manifest.spec).into_iter().map(at));
    }
    for contract in staying {
        let known = before.check(&contract.spec);
        for broken in after.check(&contract.spec).into_iter().filter(|b| !known.contains(b)) {
            let (kind, id) = (contract.spec.kind(), &contract.id);
            let message = format!("the active {kind} `{id}` needs it: {}", broken.message);
            found.push(Violation::new("", "reference", message));
        }
    }
    found
}

fn duplicates(new: &[&Manifest], retired: &[(Kind, String)]) -> Vec<Violation> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (i, manifest) in new.iter().enumerate() {
        let kind = manifest.spec.kind();
        let message = if !seen.insert((kind, manifest.id.as_str())) {
            "this contract is in the request twice"
        } else if retired.iter().any(|(k, id)| *k == kind && *id == manifest.id) {
            "this contract is applied and retired in one request"
        } else {
            continue;
        };
        found.push(Violation::new(format!("/manifests/{i}/id"), "unique", message));
    }
    found
}

/// A reference that leads nowhere, with its place in the contract that holds it.
#[derive(Debug, PartialEq, Eq)]
struct Broken {
    path: String,
    message: String,
}

/// A project's contracts at one moment, as far as others refer to them.
#[derive(Default)]
struct World<'a> {
    providers: BTreeMap<&'a str, &'a ProviderSpec>,
    agents: BTreeSet<&'a str>,
    default_model: Option<&'a str>,
}

impl<'a> World<'a> {
    fn new(contracts: impl Iterator<Item = (&'a str, &'a Spec)>) -> Self {
        let mut world = World::default();
        for (id, spec) in contracts {
            match spec {
                Spec::Project(project) => world.default_model = project.default_model.as_deref(),
                Spec::Provider(provider) => {
                    world.providers.insert(id, provider);
                }
                Spec::Agent(_) => {
                    world.agents.insert(id);
                }
                Spec::Policy(_) | Spec::Channel(_) => {}
            }
        }
        world
    }

    /// The references of one contract that lead nowhere.
    fn check(&self, spec: &Spec) -> Vec<Broken> {
        match spec {
            Spec::Agent(agent) => self.check_agent(agent),
            Spec::Channel(channel) if !self.agents.contains(channel.agent()) => {
                let message = format!("there is no agent `{}`", channel.agent());
                vec![Broken { path: "/spec/agent".to_owned(), message }]
            }
            Spec::Project(_) | Spec::Provider(_) | Spec::Policy(_) | Spec::Channel(_) => Vec::new(),
        }
    }

    fn check_agent(&self, agent: &AgentSpec) -> Vec<Broken> {
        let mut found: Vec<Broken> = self.check_model(agent).err().into_iter().collect();
        for (g, grant) in agent.grants.iter().enumerate() {
            match (self.tool_risk(&grant.tool), grant.risk) {
                (Err(message), _) => {
                    found.push(Broken { path: format!("/spec/grants/{g}/tool"), message });
                }
                (Ok(own), Some(risk)) if risk < own => {
                    let message = format!(
                        "`{}` is {}: a grant can make it graver, not {}",
                        grant.tool,
                        own.as_str(),
                        risk.as_str()
                    );
                    found.push(Broken { path: format!("/spec/grants/{g}/risk"), message });
                }
                (Ok(_), _) => {}
            }
        }
        found
    }

    /// The agent's own model, else the project's default, is one that a provider lists.
    fn check_model(&self, agent: &AgentSpec) -> Result<(), Broken> {
        let (path, model, prefix) = match (agent.model.as_deref(), self.default_model) {
            (Some(own), _) => ("/spec/model", own, ""),
            (None, Some(default)) => ("/spec", default, "the project's default_model: "),
            (None, None) => {
                let message = "the agent names no model, and the project has no default_model".to_owned();
                return Err(Broken { path: "/spec".to_owned(), message });
            }
        };
        self.serves_model(model)
            .map_err(|reason| Broken { path: path.to_owned(), message: format!("{prefix}{reason}") })
    }

    fn serves_model(&self, full: &str) -> Result<(), String> {
        let Some((provider, model)) = full.split_once('/') else {
            return Err("model is <provider>/<model>".into());
        };
        match self.providers.get(provider) {
            None => Err(format!("there is no provider `{provider}`")),
            Some(ProviderSpec::Mcp(_)) => Err(format!("`{provider}` serves tools, not models")),
            Some(ProviderSpec::Llm(llm)) if llm.model_names().contains(&model) => Ok(()),
            Some(ProviderSpec::Llm(_)) => Err(format!("`{provider}` lists no model `{model}`")),
        }
    }

    fn tool_risk(&self, full: &str) -> Result<Risk, String> {
        let Some(name) = ToolName::parse(full) else {
            return Err("a tool's full name is <provider>__<tool>".into());
        };
        let provider = name.provider();
        match self.providers.get(provider.as_str()) {
            None => Err(format!("there is no provider `{provider}`")),
            Some(ProviderSpec::Llm(_)) => Err(format!("`{provider}` serves models, not tools")),
            Some(ProviderSpec::Mcp(mcp)) => mcp
                .tools
                .iter()
                .find(|tool| tool.name == name.tool())
                .map(|tool| tool.risk)
                .ok_or_else(|| format!("`{provider}` lists no tool `{}`", name.tool())),
        }
    }
}

#[cfg(test)]
mod tests;
