//! The provider contract: a server of models or of tools, where it is, which credential it gets, and what of
//! it exists for the project. Every object is closed: an unknown member is refused, never ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::credential::CredentialRef;

/// A model provider or a tool server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ProviderSpec {
    /// Answers model calls.
    Llm(LlmSpec),
    /// Serves tools.
    Mcp(McpSpec),
}

/// A model provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "dialect", rename_all = "snake_case", deny_unknown_fields)]
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credential: Option<CredentialRef>,
        /// The models it offers.
        models: Vec<ModelSpec>,
        /// Longest time of one call, in milliseconds.
        #[serde(default = "default_call_timeout_ms")]
        timeout_ms: u64,
    },
}

impl LlmSpec {
    /// The names of the models it offers, in the contract's order.
    pub fn model_names(&self) -> Vec<&str> {
        match self {
            LlmSpec::Offline { models } => models.iter().map(|m| m.name.as_str()).collect(),
            LlmSpec::Openai { models, .. } => models.iter().map(|m| m.name.as_str()).collect(),
        }
    }
}

/// A model of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The name the server knows.
    pub name: String,
}

/// A model of the planner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfflineModelSpec {
    /// The name agents use.
    pub name: String,
    /// How long it waits before it answers, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
}

/// A tool server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "McpWire", into = "McpWire")]
pub struct McpSpec {
    /// How it is reached.
    pub transport: TransportSpec,
    /// The tools the contract knows; any other the server offers is never called.
    pub tools: Vec<ToolSpec>,
    /// Longest time of one call, in milliseconds.
    pub timeout_ms: u64,
}

/// How a tool server is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum TransportSpec {
    /// A child process.
    Stdio {
        /// A name from the operator's list.
        command: String,
        /// Its arguments. `{credential.NAME}` in one stands for a credential of `credentials`.
        args: Vec<String>,
        /// Credentials put into its environment.
        env: BTreeMap<String, CredentialRef>,
        /// Credentials put into its arguments, by the name they have there.
        credentials: BTreeMap<String, CredentialRef>,
    },
    /// Streamable HTTP.
    Http {
        /// Where it listens.
        url: url::Url,
        /// How it is shown who calls.
        auth: Option<AuthSpec>,
    },
}

/// [`McpSpec`] as a manifest spells it. The manifest keeps the transport's members beside the others;
/// flattening would have to let unknown members pass, so each transport lists all of its own.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "transport", rename_all = "snake_case", deny_unknown_fields)]
enum McpWire {
    Stdio {
        command: String,
        #[serde(default)]
        args: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, CredentialRef>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        credentials: BTreeMap<String, CredentialRef>,
        tools: Vec<ToolSpec>,
        #[serde(default = "default_call_timeout_ms")]
        timeout_ms: u64,
    },
    Http {
        url: url::Url,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        auth: Option<AuthSpec>,
        tools: Vec<ToolSpec>,
        #[serde(default = "default_call_timeout_ms")]
        timeout_ms: u64,
    },
}

impl From<McpWire> for McpSpec {
    fn from(wire: McpWire) -> Self {
        match wire {
            McpWire::Stdio { command, args, env, credentials, tools, timeout_ms } => Self {
                transport: TransportSpec::Stdio { command, args, env, credentials },
                tools,
                timeout_ms,
            },
            McpWire::Http { url, auth, tools, timeout_ms } => {
                Self { transport: TransportSpec::Http { url, auth }, tools, timeout_ms }
            }
        }
    }
}

impl From<McpSpec> for McpWire {
    fn from(McpSpec { transport, tools, timeout_ms }: McpSpec) -> Self {
        match transport {
            TransportSpec::Stdio { command, args, env, credentials } => {
                Self::Stdio { command, args, env, credentials, tools, timeout_ms }
            }
            TransportSpec::Http { url, auth } => Self::Http { url, auth, tools, timeout_ms },
        }
    }
}

fn default_call_timeout_ms() -> u64 {
    60_000
}

/// How a tool server is shown who calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AuthSpec {
    /// By a header with a credential.
    Header(HeaderSpec),
    /// By a token that an OAuth 2.1 server issues for client credentials.
    Oauth(Box<OauthAuthSpec>),
}

/// A header with a credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderSpec {
    /// The header's name.
    pub header: String,
    /// Put before the credential.
    #[serde(default)]
    pub prefix: String,
    /// Where it lies.
    pub credential: CredentialRef,
}

/// The member that says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthAuthSpec {
    /// Who issues tokens, and for whom.
    pub oauth: OauthSpec,
}

/// OAuth 2.1 client credentials (RFC 6749, section 4.4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthSpec {
    /// Where tokens are issued.
    pub token_url: url::Url,
    /// Who we are there.
    pub client_id: String,
    /// Where the client's secret lies.
    pub client_secret: CredentialRef,
    /// How id and secret are sent.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// What the token is to allow, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Whom the token is for, as the issuer names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Whom the token is for, by address (RFC 8707).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

/// How a client shows an OAuth server who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// In the `Authorization` header.
    #[default]
    Basic,
    /// In the request's body.
    Body,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition_sha256: Option<String>,
    /// A second call under the same idempotency key does nothing further: a call whose outcome is unknown is made
    /// again without asking a person. Not so unless it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
    /// The answer to a call only says that it was accepted; the result is delivered later, within so many seconds:
    /// 1 to 2592000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivers_within_s: Option<u32>,
    /// It reaches beyond what the project keeps itself: the web, mail, other people's systems. So unless it says
    /// otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_world: Option<bool>,
    /// What it answers was written by nobody but whom the project trusts: reading it makes no later call suspect. Not
    /// so unless it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_output: Option<bool>,
}

impl ToolSpec {
    /// Does it reach beyond what the project keeps itself?
    pub fn is_open_world(&self) -> bool {
        self.open_world.unwrap_or(true)
    }

    /// Is what it answers the word of whom the project trusts?
    pub fn is_output_trusted(&self) -> bool {
        self.trusted_output == Some(true)
    }
}

/// What a tool does to the world, as the contract says; the server's own hints only make it graver. Ordered:
/// a later one is the graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Changes nothing: may run in every mode and be repeated after a crash.
    ReadOnly,
    /// Has an effect: in shadow it is answered with a stub.
    Write,
    /// Has an effect that nothing takes back: what it deletes, overwrites, pays or sends is so for good.
    Destructive,
}

impl Risk {
    /// As contracts and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Risk::ReadOnly => "read_only",
            Risk::Write => "write",
            Risk::Destructive => "destructive",
        }
    }

    /// Has it an effect of any kind?
    pub fn is_effect(self) -> bool {
        self != Risk::ReadOnly
    }

    /// Reads a risk back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        [Risk::ReadOnly, Risk::Write, Risk::Destructive].into_iter().find(|r| r.as_str() == text)
    }
}
