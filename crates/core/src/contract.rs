//! Contracts: what a project configures. A manifest is checked against the closed JSON Schema of its
//! kind (`contracts/<kind>/schema.json`), then read into the types here, then checked for what a schema
//! cannot say. `runtime_run_state` is an interface contract of the platform: it has a schema and
//! fixtures, and is never applied.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Violation;
use crate::ids::{AgentId, ProjectId, ProviderId, ToolName};
use crate::run::Mode;
use crate::schema::Schema;

/// The kinds a project may apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A tenant.
    Project,
    /// A model provider or tool server.
    Provider,
    /// An agent.
    Agent,
}

impl Kind {
    /// As manifests and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Project => "project",
            Kind::Provider => "provider",
            Kind::Agent => "agent",
        }
    }

    /// Reads a kind back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        [Kind::Project, Kind::Provider, Kind::Agent].into_iter().find(|k| k.as_str() == text)
    }

    fn schema(self) -> &'static Schema {
        static PROJECT: LazyLock<Schema> =
            LazyLock::new(|| built_in(include_str!("../../../contracts/project/schema.json")));
        static PROVIDER: LazyLock<Schema> =
            LazyLock::new(|| built_in(include_str!("../../../contracts/provider/schema.json")));
        static AGENT: LazyLock<Schema> =
            LazyLock::new(|| built_in(include_str!("../../../contracts/agent/schema.json")));
        match self {
            Kind::Project => &PROJECT,
            Kind::Provider => &PROVIDER,
            Kind::Agent => &AGENT,
        }
    }
}

/// The schema every run the API shows fits: the seed's file.
pub static RUN_SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| built_in(include_str!("../../../contracts/runtime_run_state/schema.json")));

fn built_in(text: &str) -> Schema {
    let value = serde_json::from_str(text).expect("a shipped schema is JSON");
    Schema::compile(&value).expect("a shipped schema compiles")
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

/// A manifest's content by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// A tenant.
    Project(ProjectSpec),
    /// A model provider or tool server.
    Provider(ProviderSpec),
    /// An agent.
    Agent(Box<AgentSpec>),
}

impl Spec {
    /// The manifest's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Spec::Project(_) => Kind::Project,
            Spec::Provider(_) => Kind::Provider,
            Spec::Agent(_) => Kind::Agent,
        }
    }
}

/// A tenant: its name and what it may spend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectSpec {
    /// For people.
    pub display_name: String,
    /// Without it nothing is limited, but use is still recorded.
    #[serde(default)]
    pub budget: Option<BudgetSpec>,
}

/// Limits on use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSpec {
    /// Input and output tokens together, in total.
    pub tokens: i64,
}

/// What an agent is told, what it may use and how long it may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The system message.
    pub instructions: String,
    /// `<provider>/<model>`, both of this project.
    pub model: String,
    /// Schema of the run's input; anything is accepted without it.
    #[serde(default)]
    pub input_schema: Option<Value>,
    /// Schema the final answer must fit.
    pub output_schema: Value,
    /// Tools the agent may call.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// The highest mode of its runs.
    #[serde(default)]
    pub mode: Mode,
    /// Model calls and tool calls together.
    #[serde(default = "default_max_steps")]
    pub max_steps: u32,
    /// Claims of one run before it fails.
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    /// Longest time from creation to end, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Ceiling of one model answer.
    #[serde(default = "default_max_output_tokens")]
    pub max_output_tokens: u32,
}

fn default_max_steps() -> u32 {
    20
}
fn default_max_attempts() -> u32 {
    3
}
fn default_timeout_ms() -> u64 {
    900_000
}
fn default_max_output_tokens() -> u32 {
    1024
}
fn default_call_timeout_ms() -> u64 {
    60_000
}

impl AgentSpec {
    /// Provider and model of `model`.
    pub fn provider_and_model(&self) -> Option<(ProviderId, &str)> {
        let (provider, model) = self.model.split_once('/')?;
        Some((ProviderId::parse(provider).ok()?, model))
    }
}

/// One tool an agent may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Full name, `<provider>__<tool>`.
    pub tool: String,
    /// Schema the arguments must fit besides the tool's own.
    #[serde(default)]
    pub constraints: Option<Value>,
}

/// A model provider or a tool server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProviderSpec {
    /// Answers model calls.
    Llm(LlmSpec),
    /// Serves tools.
    Mcp(McpSpec),
}

/// A model provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "dialect", rename_all = "snake_case")]
pub enum LlmSpec {
    /// The built-in rule-based planner.
    Offline {
        /// The models it offers.
        models: Vec<OfflineModelSpec>,
    },
    /// Any OpenAI-compatible server.
    Openai {
        /// Up to and with `/v1`.
        base_url: url::Url,
        /// Where the key lies.
        #[serde(default)]
        credential: Option<CredentialRef>,
        /// The models it offers.
        models: Vec<ModelSpec>,
        /// Longest time of one call, in milliseconds.
        #[serde(default = "default_call_timeout_ms")]
        timeout_ms: u64,
    },
}

/// A model of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// The name the server knows.
    pub name: String,
}

/// A model of the planner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfflineModelSpec {
    /// The name agents use.
    pub name: String,
    /// How long it waits before it answers, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
}

/// A tool server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct McpSpec {
    /// How it is reached.
    #[serde(flatten)]
    pub transport: TransportSpec,
    /// The tools the contract knows; any other the server offers is quarantined.
    pub tools: Vec<ToolSpec>,
    /// Longest time of one call, in milliseconds.
    #[serde(default = "default_call_timeout_ms")]
    pub timeout_ms: u64,
}

/// How a tool server is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "transport", rename_all = "snake_case")]
pub enum TransportSpec {
    /// A child process.
    Stdio {
        /// A name from the operator's list.
        command: String,
        /// Its arguments.
        #[serde(default)]
        args: Vec<String>,
        /// Credentials put into its environment.
        #[serde(default)]
        env: BTreeMap<String, CredentialRef>,
    },
    /// Streamable HTTP.
    Http {
        /// Where it listens.
        url: url::Url,
        /// The header that carries its credential.
        #[serde(default)]
        auth: Option<AuthSpec>,
    },
}

/// A header with a credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSpec {
    /// The header's name.
    pub header: String,
    /// Put before the credential.
    #[serde(default)]
    pub prefix: String,
    /// Where it lies.
    pub credential: CredentialRef,
}

/// A tool as the contract knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolSpec {
    /// The server's name for it.
    pub name: String,
    /// What it does to the world.
    pub risk: Risk,
    /// Hash of the definition that was reviewed.
    #[serde(default)]
    pub definition_sha256: Option<String>,
}

/// What a tool does to the world, as the contract says; the server's own hints are not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Changes nothing: may run in every mode and be repeated after a crash.
    ReadOnly,
    /// Has an effect: in shadow it is answered with a stub.
    Write,
}

impl Risk {
    /// As contracts and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Risk::ReadOnly => "read_only",
            Risk::Write => "write",
        }
    }

    /// Reads a risk back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        [Risk::ReadOnly, Risk::Write].into_iter().find(|r| r.as_str() == text)
    }
}

/// Where a credential lies. It is resolved at gate 5 and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CredentialRef {
    /// A variable of the server's environment that the operator listed for this project.
    Env(String),
    /// A file below the operator's secrets folder of this project.
    File(String),
}

impl TryFrom<String> for CredentialRef {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("env://") {
            return Ok(Self::Env(name.to_owned()));
        }
        match text.strip_prefix("file://") {
            Some(path) => Ok(Self::File(path.to_owned())),
            None => Err("a credential reference begins with env:// or file://".to_owned()),
        }
    }
}

impl From<CredentialRef> for String {
    fn from(reference: CredentialRef) -> Self {
        match reference {
            CredentialRef::Env(name) => format!("env://{name}"),
            CredentialRef::File(path) => format!("file://{path}"),
        }
    }
}

/// Reads one manifest; every violation found is returned, with paths into the document.
pub fn parse(document: Value) -> Result<Manifest, Vec<Violation>> {
    let kind = parse_kind(&document)?;
    kind.schema().validate(&document).map_err(|found| explain_one_of(kind, &document, found))?;
    let text = |key: &str| document[key].as_str().expect("the schema asks for a string").to_owned();
    let project = ProjectId::parse(&text("project"))
        .map_err(|e| vec![Violation::new("/project", "pattern", e.to_string())])?;
    let id = text("id");
    let spec = match kind {
        Kind::Project => Spec::Project(typed(&document)?),
        Kind::Provider => Spec::Provider(typed(&document)?),
        Kind::Agent => Spec::Agent(Box::new(typed(&document)?)),
    };
    let manifest = Manifest { project, id, spec, document };
    let found = rules(&manifest);
    if found.is_empty() { Ok(manifest) } else { Err(found) }
}

fn parse_kind(document: &Value) -> Result<Kind, Vec<Violation>> {
    let refuse = |message: &str| Err(vec![Violation::new("/kind", "enum", message)]);
    match document.get("kind").and_then(Value::as_str) {
        Some("runtime_run_state") => {
            refuse("runtime_run_state is an interface contract of the platform and cannot be applied")
        }
        Some(text) => Kind::parse(text).map_or_else(|| refuse("kind must be project, provider or agent"), Ok),
        None => refuse("a manifest is an object with kind, project, id and spec"),
    }
}

/// `oneOf` alone says "fits none": say what is wrong with the branch that `type` and its discriminator chose.
fn explain_one_of(kind: Kind, document: &Value, found: Vec<Violation>) -> Vec<Violation> {
    if kind != Kind::Provider || !found.iter().any(|v| v.keyword == "oneOf") {
        return found;
    }
    let spec = &document["spec"];
    let field = |name: &str| spec.get(name).and_then(Value::as_str).unwrap_or_default();
    let branch = match (field("type"), field("dialect"), field("transport")) {
        ("llm", "offline", _) => "llm_offline",
        ("llm", "openai", _) => "llm_openai",
        ("mcp", _, "stdio") => "mcp_stdio",
        ("mcp", _, "http") => "mcp_http",
        ("llm", _, _) => {
            return vec![Violation::new("/spec/dialect", "enum", "dialect must be offline or openai")];
        }
        ("mcp", _, _) => {
            return vec![Violation::new("/spec/transport", "enum", "transport must be stdio or http")];
        }
        _ => return vec![Violation::new("/spec/type", "enum", "type must be llm or mcp")],
    };
    static PROVIDER: LazyLock<Value> = LazyLock::new(|| {
        serde_json::from_str(include_str!("../../../contracts/provider/schema.json")).expect("shipped")
    });
    let mut schema = PROVIDER.clone();
    schema["properties"]["spec"] = serde_json::json!({"$ref": format!("#/$defs/{branch}")});
    match Schema::compile(&schema).expect("a branch of a shipped schema").validate(document) {
        Err(precise) => precise,
        Ok(()) => found,
    }
}

fn typed<T: for<'de> Deserialize<'de>>(document: &Value) -> Result<T, Vec<Violation>> {
    T::deserialize(&document["spec"]).map_err(|e| vec![Violation::new("/spec", "type", e.to_string())])
}

/// What a schema cannot say.
fn rules(manifest: &Manifest) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut refuse =
        |path: String, rule: &str, message: String| found.push(Violation::new(path, rule, message));
    match &manifest.spec {
        Spec::Project(_) if manifest.id != manifest.project.as_str() => {
            refuse("/id".into(), "id", "a project contract's id is the project's own".into());
        }
        Spec::Project(_) => {}
        Spec::Provider(ProviderSpec::Llm(_)) => {}
        Spec::Provider(ProviderSpec::Mcp(mcp)) => {
            let mut seen = std::collections::HashSet::new();
            for (i, tool) in mcp.tools.iter().enumerate() {
                if !seen.insert(&tool.name) {
                    refuse(format!("/spec/tools/{i}/name"), "unique", "this tool is listed twice".into());
                }
            }
        }
        Spec::Agent(agent) => agent_rules(&manifest.id, agent, &mut refuse),
    }
    found
}

fn agent_rules(id: &str, agent: &AgentSpec, refuse: &mut impl FnMut(String, &str, String)) {
    if let Err(e) = AgentId::parse(id) {
        refuse("/id".into(), "pattern", e.to_string());
    }
    let schemas = [
        ("/spec/output_schema", Some(&agent.output_schema)),
        ("/spec/input_schema", agent.input_schema.as_ref()),
    ];
    for (path, schema) in schemas {
        if let Some(Err(e)) = schema.map(Schema::compile) {
            refuse(path.into(), "schema", e.to_string());
        }
    }
    let mut seen = std::collections::HashSet::new();
    for (i, grant) in agent.grants.iter().enumerate() {
        if ToolName::parse(&grant.tool).is_none() {
            refuse(
                format!("/spec/grants/{i}/tool"),
                "pattern",
                "a tool's full name is <provider>__<tool>".into(),
            );
        }
        if !seen.insert(&grant.tool) {
            refuse(format!("/spec/grants/{i}/tool"), "unique", "this tool is granted twice".into());
        }
        if let Some(Err(e)) = grant.constraints.as_ref().map(Schema::compile) {
            refuse(format!("/spec/grants/{i}/constraints"), "schema", e.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn fixtures(kind: &str, verdict: &str) -> Vec<(String, Value)> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts").join(kind).join(verdict);
        let mut found: Vec<(String, Value)> = std::fs::read_dir(&dir)
            .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
            .map(|entry| {
                let path = entry.unwrap().path();
                let text = std::fs::read_to_string(&path).unwrap();
                (path.display().to_string(), serde_json::from_str(&text).unwrap())
            })
            .collect();
        assert!(!found.is_empty(), "{} has no fixtures", dir.display());
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    #[test]
    fn golden_fixtures_of_every_kind_are_judged_as_their_folder_says() {
        for kind in ["project", "provider", "agent"] {
            for (path, document) in fixtures(kind, "valid") {
                assert!(parse(document.clone()).is_ok(), "{path}: {:?}", parse(document));
            }
            for (path, document) in fixtures(kind, "invalid") {
                assert!(parse(document).is_err(), "{path}");
            }
        }
        for (path, document) in fixtures("runtime_run_state", "valid") {
            assert_eq!(RUN_SCHEMA.validate(&document), Ok(()), "{path}");
        }
        for (path, document) in fixtures("runtime_run_state", "invalid") {
            assert!(RUN_SCHEMA.validate(&document).is_err(), "{path}");
        }
    }

    #[test]
    fn a_wrong_provider_is_told_what_is_wrong_with_the_branch_it_chose() {
        let found = parse(serde_json::json!({
            "kind": "provider", "project": "ewoooc", "id": "shop",
            "spec": {"type": "mcp", "transport": "stdio", "command": "/bin/sh", "tools": []}
        }))
        .unwrap_err();
        assert_eq!((found[0].path.as_str(), found[0].keyword.as_str()), ("/spec/command", "pattern"));
    }

    #[test]
    fn the_platforms_own_contract_cannot_be_applied() {
        let found = parse(serde_json::json!({"kind": "runtime_run_state"})).unwrap_err();
        assert!(found[0].message.contains("cannot be applied"));
    }
}
