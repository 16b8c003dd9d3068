//! Contracts: what a project configures. A manifest is checked against the closed JSON Schema of its
//! kind (`contracts/<kind>/schema.json`), then read into the types here, then checked for what a schema
//! cannot say (`rules`). What several manifests say of each other is checked by [`check_references`].
//!
//! Five kinds can be applied. `runtime_run_state` is an interface contract of the platform: it has a
//! schema, fixtures and a type ([`RunStateDocument`]), and is never applied.

mod agent;
mod breaking;
mod channel;
mod constraints;
mod credential;
mod credential_args;
mod diff;
mod lookalikes;
mod narrowing;
mod personal_data;
mod policy;
mod project;
mod provider;
mod references;
mod rules;
mod run;
mod schedule;
mod schemas;
mod tool_pattern;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use agent::{AgentSpec, Grant};
pub use breaking::{Breaking, RULES as BREAKING_RULES, breaking, breaking_first};
pub use channel::{ChannelSpec, Language, TelegramSpec, WebhookSpec};
pub use credential::CredentialRef;
pub use credential_args::{credentials_in_argument, fill_argument};
pub use diff::{ChangeLine, ChangeOp, changes, patch};
pub use personal_data::{BUILT_IN_CLASSES, DataAction, DataClass, DirectionSpec, PersonalDataSpec};
pub use policy::{
    AnomalyAction, AnomalyKind, AnomalyRule, ApprovalRule, PinRule, PolicySpec, RatePer, RateRule,
    RedactionPattern, RedactionSpec, UntrustedAction, UntrustedRule,
};
pub use project::{ActivationSpec, BudgetSpec, LimitsSpec, ProjectSpec, RetentionSpec};
pub use provider::{
    AuthSpec, ClientAuth, HeaderSpec, LlmSpec, McpSpec, ModelSpec, OauthAuthSpec, OauthSpec,
    OfflineModelSpec, ProviderSpec, Risk, ToolSpec, TransportSpec,
};
pub use references::{Active, check_references};
pub use run::{RunStateDocument, RunTrigger, TriggerType};
pub use schedule::{CatchUp, ScheduleSpec};
pub use schemas::{RUN_SCHEMA, RUN_SCHEMA_TEXT};
pub use tool_pattern::ToolPattern;

use crate::error::Violation;
use crate::ids::ProjectId;
use crate::json;

/// The kinds a project may apply, each after those it may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A tenant.
    Project,
    /// A model provider or tool server.
    Provider,
    /// An agent.
    Agent,
    /// Rules over what agents may do.
    Policy,
    /// A place where people speak with an agent.
    Channel,
}

impl Kind {
    /// All of them, in the order they are applied.
    pub const ALL: [Kind; 5] = [Kind::Project, Kind::Provider, Kind::Agent, Kind::Policy, Kind::Channel];

    /// As manifests and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Project => "project",
            Kind::Provider => "provider",
            Kind::Agent => "agent",
            Kind::Policy => "policy",
            Kind::Channel => "channel",
        }
    }

    /// Reads a kind back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A manifest that fits its schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The project it belongs to.
    pub project: ProjectId,
    /// Its id within project and kind.
    pub id: String,
    /// What it says.
    pub spec: Spec,
    /// The whole document, as given.
    pub document: Value,
}

impl Manifest {
    /// The document that the typed content spells, with every default written out. Addresses come out as
    /// the URL standard writes them (`https://example.com` gains a `/`).
    pub fn to_document(&self) -> Value {
        json!({
            "kind": self.spec.kind(), "project": self.project, "id": self.id, "spec": self.spec.to_value()
        })
    }
}

/// A manifest's content by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// A tenant.
    Project(ProjectSpec),
    /// A model provider or tool server.
    Provider(ProviderSpec),
    /// An agent.
    Agent(Box<AgentSpec>),
    /// Rules over what agents may do.
    Policy(PolicySpec),
    /// A place where people speak with an agent.
    Channel(ChannelSpec),
}

impl Spec {
    /// The manifest's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Spec::Project(_) => Kind::Project,
            Spec::Provider(_) => Kind::Provider,
            Spec::Agent(_) => Kind::Agent,
            Spec::Policy(_) => Kind::Policy,
            Spec::Channel(_) => Kind::Channel,
        }
    }

    /// Reads the content of a document that was checked before, such as a stored contract version.
    ///
    /// # Errors
    /// One violation at `/spec` when it does not fit the type.
    pub fn of_document(kind: Kind, document: &Value) -> Result<Self, Vec<Violation>> {
        Ok(match kind {
            Kind::Project => Spec::Project(typed(document)?),
            Kind::Provider => Spec::Provider(typed(document)?),
            Kind::Agent => Spec::Agent(Box::new(typed(document)?)),
            Kind::Policy => Spec::Policy(typed(document)?),
            Kind::Channel => Spec::Channel(typed(document)?),
        })
    }

    /// The content as a manifest spells it, with every default written out.
    pub fn to_value(&self) -> Value {
        match self {
            Spec::Project(spec) => json::to_value(spec),
            Spec::Provider(spec) => json::to_value(spec),
            Spec::Agent(spec) => json::to_value(spec),
            Spec::Policy(spec) => json::to_value(spec),
            Spec::Channel(spec) => json::to_value(spec),
        }
    }

    /// A sentence for each part that is checked and kept, but that this version does not act on; empty when
    /// all of the contract is in force.
    pub fn not_in_force(&self) -> Vec<String> {
        let sections = match self {
            Spec::Policy(policy) => policy.not_in_force(),
            Spec::Channel(channel) => channel.not_in_force(),
            Spec::Project(_) | Spec::Provider(_) | Spec::Agent(_) => Vec::new(),
        };
        sections.into_iter().map(sentence_of_absence).collect()
    }
}

fn sentence_of_absence(section: &str) -> String {
    let meanwhile = match section {
        "approvals[].escalate_to" => "until it is, a request that nobody decides in time counts as denied",
        "anomalies" => "until it is, nothing is counted and no agent's mode is lowered",
        _ => "until it is, no message is received or sent",
    };
    let what = if section == "channel" { "the channel".to_owned() } else { format!("`{section}`") };
    format!("{what} is checked and kept, but not in force in this version: {meanwhile}.")
}

/// Reads one manifest; every violation found is returned, with paths into the document.
pub fn parse(document: Value) -> Result<Manifest, Vec<Violation>> {
    let kind = parse_kind(&document)?;
    schemas::validate(kind, &document)?;
    rules::check_addresses(&document)?;
    let text = |key: &str| document[key].as_str().expect("the schema asks for a string").to_owned();
    let project = ProjectId::parse(&text("project"))
        .map_err(|e| vec![Violation::new("/project", "pattern", e.to_string())])?;
    let id = text("id");
    let spec = Spec::of_document(kind, &document)?;
    let manifest = Manifest { project, id, spec, document };
    let found = rules::check(&manifest);
    if found.is_empty() { Ok(manifest) } else { Err(found) }
}

fn parse_kind(document: &Value) -> Result<Kind, Vec<Violation>> {
    let refuse = |rule: &str, path: &str, message: String| Err(vec![Violation::new(path, rule, message)]);
    if !document.is_object() {
        return refuse("type", "", "a manifest is an object with kind, project, id and spec".to_owned());
    }
    match document.get("kind").map(Value::as_str) {
        Some(Some("runtime_run_state")) => {
            let message = "runtime_run_state is an interface contract of the platform and cannot be applied";
            refuse("enum", "/kind", message.to_owned())
        }
        Some(kind) => kind.and_then(Kind::parse).map_or_else(
            || {
                let names = Kind::ALL.map(Kind::as_str);
                let (last, others) = names.split_last().expect("there are kinds");
                refuse("enum", "/kind", format!("kind must be {} or {last}", others.join(", ")))
            },
            Ok,
        ),
        None => refuse("required", "", "a manifest has kind, project, id and spec".to_owned()),
    }
}

fn typed<T: for<'de> Deserialize<'de>>(document: &Value) -> Result<T, Vec<Violation>> {
    T::deserialize(json::whole_numbers(document["spec"].clone()))
        .map_err(|e| vec![Violation::new("/spec", "type", e.to_string())])
}
