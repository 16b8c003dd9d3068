//! What a project may name on the host: nothing the operator did not list. Contracts are written by
//! projects, so a contract gives a command's name and never a path, a credential's name and never its
//! place, and an address that is public unless the operator listed it.
//!
//! Asked when a contract is applied, and again at each use: the list may have changed in between.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use awooop_core::ProjectId;
use awooop_core::contract::{
    AuthSpec, CredentialRef, LlmSpec, Manifest, McpSpec, ProviderSpec, Spec, TransportSpec,
};
use awooop_core::error::Violation;
use awooop_core::role::Role;
use awooop_core::sign_in::{Memberships, SignIn, SignInError};
use serde::{Deserialize, Serialize};

use crate::upstream::address::check_url;

/// Most tools that one list shows where the operator says nothing.
const MOST_LISTED: u16 = 100;

/// The operator's list, as `operator.toml` holds it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Operator {
    /// Below it lies one folder of secrets a project, for `file://`.
    pub secrets: Option<PathBuf>,
    /// How the Kubernetes API is reached, for `k8s://`. Without it as the account of the pod this server runs in.
    pub kubeconfig: Option<PathBuf>,
    /// Start stdio servers under our own uid where there is no other. Only a machine of one person's should.
    pub allow_same_uid_children: bool,
    /// Private addresses every project may reach.
    pub private_addresses: Vec<String>,
    /// Most tools that one list shows a model, 2 to 2000; an agent that has more finds the others with
    /// `awooop__find_tools`. Without it 100.
    pub max_listed_tools: Option<u16>,
    /// How people sign in, if they do.
    pub sign_in: Option<SignIn>,
    /// What each project may name.
    pub projects: BTreeMap<ProjectId, HostRules>,
}

/// What one project may name on the host.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostRules {
    /// Uid and gid of its stdio servers, of no other project and no other use.
    pub uid: Option<u32>,
    /// Programs by the name its contracts use.
    pub commands: BTreeMap<String, PathBuf>,
    /// Variables of our environment it may use as credentials.
    pub env: Vec<String>,
    /// Secrets of Kubernetes it may use as credentials: `namespace/secret`.
    pub k8s: Vec<String>,
    /// Its tool servers may get credentials in their arguments, which other users of the machine can read.
    pub allow_credential_arguments: bool,
    /// Private addresses it may reach: addresses, ranges or hosts, each optionally with `:port`.
    pub private_addresses: Vec<String>,
    /// What people who sign in are in this project, by their groups.
    pub groups: BTreeMap<String, Role>,
}

/// Why the list itself cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Two projects would share a uid and so each other's processes.
    #[error("the projects `{0}` and `{1}` have the same uid {2}")]
    SharedUid(ProjectId, ProjectId, u32),
    /// Root, or a uid no child may have.
    #[error("the project `{0}` may not have uid {1}")]
    ForbiddenUid(ProjectId, u32),
    /// A command is not an absolute path.
    #[error("the command `{command}` of project `{project}` must be an absolute path")]
    RelativeCommand {
        /// The project.
        project: ProjectId,
        /// The command's name.
        command: String,
    },
    /// A Secret of Kubernetes is not named as one.
    #[error("`{secret}` of project `{project}` must be `namespace/secret`, both as Kubernetes names them")]
    NoSecretName {
        /// The project.
        project: ProjectId,
        /// What stands there.
        secret: String,
    },
    /// How people sign in makes no sense.
    #[error(transparent)]
    SignIn(#[from] SignInError),
}

impl Operator {
    /// Checks the list.
    pub fn validate(&self) -> Result<(), OperatorError> {
        self.sign_in.as_ref().map_or(Ok(()), SignIn::validate)?;
        self.memberships()?;
        let mut uids: BTreeMap<u32, &ProjectId> = BTreeMap::new();
        for (project, rules) in &self.projects {
            if let Some(uid) = rules.uid {
                if uid == 0 || uid == u32::MAX {
                    return Err(OperatorError::ForbiddenUid(project.clone(), uid));
                }
                if let Some(other) = uids.insert(uid, project) {
                    return Err(OperatorError::SharedUid(other.clone(), project.clone(), uid));
                }
            }
            if let Some((command, _)) = rules.commands.iter().find(|(_, path)| !path.is_absolute()) {
                let command = command.clone();
                return Err(OperatorError::RelativeCommand { project: project.clone(), command });
            }
            if let Some(secret) = rules.k8s.iter().find(|secret| !is_secret_name(secret)) {
                let secret = secret.clone();
                return Err(OperatorError::NoSecretName { project: project.clone(), secret });
            }
        }
        Ok(())
    }

    /// Which group is which role, by project.
    ///
    /// # Errors
    /// [`SignInError::AgentRole`].
    pub fn memberships(&self) -> Result<Memberships, SignInError> {
        let groups = self.projects.iter().map(|(project, rules)| (project.clone(), rules.groups.clone()));
        Memberships::new(groups.collect())
    }

    /// Most tools that one list shows.
    pub(crate) fn most_listed(&self) -> usize {
        usize::from(self.max_listed_tools.unwrap_or(MOST_LISTED)).max(2)
    }

    fn rules(&self, project: &ProjectId) -> HostRules {
        self.projects.get(project).cloned().unwrap_or_default()
    }

    /// Private addresses the project may reach.
    pub fn private_addresses(&self, project: &ProjectId) -> Vec<String> {
        let mut all = self.private_addresses.clone();
        all.extend(self.rules(project).private_addresses);
        all
    }

    /// The program behind a command's name.
    pub fn command(&self, project: &ProjectId, name: &str) -> Option<PathBuf> {
        self.projects.get(project)?.commands.get(name).cloned()
    }

    /// May the project use this variable as a credential?
    pub fn allows_env(&self, project: &ProjectId, name: &str) -> bool {
        self.projects.get(project).is_some_and(|rules| rules.env.iter().any(|listed| listed == name))
    }

    /// May the project use this value as a credential? What links in its folder of files lead to is judged when the
    /// file is read.
    pub fn allows(&self, project: &ProjectId, reference: &CredentialRef) -> bool {
        match reference {
            CredentialRef::Env(name) => self.allows_env(project, name),
            CredentialRef::File(path) => self.secrets.is_some() && stays_below(path),
            CredentialRef::K8s { namespace, secret, .. } => self.allows_k8s(project, namespace, secret),
        }
    }

    fn allows_k8s(&self, project: &ProjectId, namespace: &str, secret: &str) -> bool {
        let is_named = |listed: &String| listed.split_once('/') == Some((namespace, secret));
        self.projects.get(project).is_some_and(|rules| rules.k8s.iter().any(is_named))
    }

    /// May the project's tool servers get credentials in their arguments?
    pub fn allows_credential_arguments(&self, project: &ProjectId) -> bool {
        self.projects.get(project).is_some_and(|rules| rules.allow_credential_arguments)
    }

    /// The uid for the project's children: its own as root, ours only where that was allowed.
    pub fn child_uid(&self, project: &ProjectId) -> Result<Option<u32>, String> {
        if nix::unistd::geteuid().is_root() {
            return match self.rules(project).uid {
                Some(uid) => Ok(Some(uid)),
                None => Err(format!("the operator gave project `{project}` no uid for its tool servers")),
            };
        }
        if self.allow_same_uid_children {
            return Ok(None);
        }
        Err("this server may not start tool servers: it is not root, and `allow_same_uid_children` is off"
            .into())
    }

    /// What of a manifest the operator does not allow, with paths into the manifest.
    pub fn check_manifest(&self, manifest: &Manifest) -> Vec<Violation> {
        let Spec::Provider(spec) = &manifest.spec else { return Vec::new() };
        let project = &manifest.project;
        let mut found = Vec::new();
        match spec {
            ProviderSpec::Llm(LlmSpec::Offline { .. }) => {}
            ProviderSpec::Llm(LlmSpec::Openai { base_url, credential, .. }) => {
                self.check_address(project, "/spec/base_url", base_url, &mut found);
                self.check_credential(project, "/spec/credential", credential.as_ref(), &mut found);
            }
            ProviderSpec::Mcp(McpSpec { transport, .. }) => {
                self.check_transport(project, transport, &mut found)
            }
        }
        found
    }

    fn check_transport(&self, project: &ProjectId, transport: &TransportSpec, found: &mut Vec<Violation>) {
        match transport {
            TransportSpec::Stdio { command, env, credentials, .. } => {
                if self.command(project, command).is_none() {
                    let message =
                        format!("the operator lists no command `{command}` for project `{project}`");
                    found.push(Violation::new("/spec/command", "operator", message));
                }
                if let Err(message) = self.child_uid(project) {
                    found.push(Violation::new("/spec/transport", "operator", message));
                }
                for (name, reference) in env {
                    self.check_credential(project, &format!("/spec/env/{name}"), Some(reference), found);
                }
                for (name, reference) in credentials {
                    let path = format!("/spec/credentials/{name}");
                    self.check_credential(project, &path, Some(reference), found);
                }
                if !credentials.is_empty() && !self.allows_credential_arguments(project) {
                    let message = format!(
                        "the operator allows no credentials in arguments for project `{project}`: use `env`"
                    );
                    found.push(Violation::new("/spec/credentials", "operator", message));
                }
            }
            TransportSpec::Http { url, auth } => {
                self.check_address(project, "/spec/url", url, found);
                match auth {
                    None => {}
                    Some(AuthSpec::Header(spec)) => {
                        let path = "/spec/auth/credential";
                        self.check_credential(project, path, Some(&spec.credential), found);
                    }
                    Some(AuthSpec::Oauth(auth)) => {
                        let (path, spec) = ("/spec/auth/oauth", &auth.oauth);
                        self.check_address(project, &format!("{path}/token_url"), &spec.token_url, found);
                        let path = format!("{path}/client_secret");
                        self.check_credential(project, &path, Some(&spec.client_secret), found);
                    }
                }
            }
        }
    }

    fn check_address(&self, project: &ProjectId, path: &str, url: &url::Url, found: &mut Vec<Violation>) {
        if let Err(e) = check_url(url, &self.private_addresses(project)) {
            found.push(Violation::new(path, "operator", e.to_string()));
        }
    }

    fn check_credential(
        &self,
        project: &ProjectId,
        path: &str,
        reference: Option<&CredentialRef>,
        found: &mut Vec<Violation>,
    ) {
        let message = match reference {
            None => return,
            Some(reference) if self.allows(project, reference) => return,
            Some(CredentialRef::K8s { namespace, secret, .. }) => {
                format!(
                    "the operator does not list the Secret `{namespace}/{secret}` for project `{project}`"
                )
            }
            Some(CredentialRef::Env(name)) => {
                format!("the operator does not list the variable `{name}` for project `{project}`")
            }
            Some(CredentialRef::File(_)) if self.secrets.is_none() => {
                "the operator configured no secrets folder".to_owned()
            }
            Some(CredentialRef::File(_)) => {
                "a file lies below the project's own folder of secrets".to_owned()
            }
        };
        found.push(Violation::new(path, "operator", message));
    }
}

/// Is it `namespace/secret`, both as Kubernetes names them?
fn is_secret_name(text: &str) -> bool {
    let is_name = |name: &str, most: usize, more: &[u8]| {
        let is_inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || more.contains(byte);
        let has_ends = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = name.as_bytes();
        bytes.len() <= most && bytes.iter().all(is_inner) && has_ends(bytes.first()) && has_ends(bytes.last())
    };
    text.split_once('/')
        .is_some_and(|(namespace, secret)| is_name(namespace, 63, b"-") && is_name(secret, 253, b"-."))
}

/// Does the path, as it is written, lead nowhere but down? What links lead to is judged when it is read.
fn stays_below(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_is_named_below_its_folder() {
        for (path, is_below) in
            [("token", true), ("a/./token", true), ("/token", false), ("a/../token", false), ("..", false)]
        {
            assert_eq!(stays_below(path), is_below, "{path}");
        }
    }

    fn operator() -> Operator {
        let project = ProjectId::parse("ewoooc").unwrap();
        let rules = HostRules {
            uid: Some(200_001),
            commands: BTreeMap::from([("shop".to_owned(), PathBuf::from("/usr/bin/shop"))]),
            env: vec!["SHOP_KEY".to_owned()],
            k8s: vec!["shop/gateway".to_owned()],
            private_addresses: vec!["127.0.0.1:9000".to_owned()],
            ..HostRules::default()
        };
        Operator {
            allow_same_uid_children: true,
            projects: BTreeMap::from([(project, rules)]),
            ..Operator::default()
        }
    }

    fn refused(project: &str, spec: serde_json::Value) -> Vec<String> {
        let document = json!({"kind": "provider", "project": project, "id": "p1", "spec": spec});
        let manifest = awooop_core::contract::parse(document).unwrap();
        operator().check_manifest(&manifest).into_iter().map(|v| v.path).collect()
    }

    #[test]
    fn a_project_names_only_what_the_operator_listed_for_it() {
        let stdio = |command: &str, secret: &str| json!({"type": "mcp", "transport": "stdio", "command": command, "tools": [], "env": {"K": secret}});
        assert!(refused("ewoooc", stdio("shop", "env://SHOP_KEY")).is_empty());
        assert_eq!(refused("ewoooc", stdio("sh", "env://SHOP_KEY")), ["/spec/command"]);
        assert_eq!(refused("ewoooc", stdio("shop", "env://PATH")), ["/spec/env/K"]);
        assert_eq!(refused("ewoooc", stdio("shop", "file://a")), ["/spec/env/K"]);
        assert!(refused("other", stdio("shop", "env://SHOP_KEY")).contains(&"/spec/command".to_owned()));
        let http = |url: &str| json!({"type": "mcp", "transport": "http", "url": url, "tools": []});
        assert!(refused("ewoooc", http("http://127.0.0.1:9000/mcp")).is_empty());
        assert_eq!(refused("ewoooc", http("http://127.0.0.1:9001/mcp")), ["/spec/url"]);
        assert_eq!(refused("other", http("http://127.0.0.1:9000/mcp")), ["/spec/url"]);
        assert_eq!(refused("ewoooc", http("https://169.254.169.254/latest")), ["/spec/url"]);
    }

    #[test]
    fn secrets_issuers_and_credentials_in_arguments_are_the_operators_to_list() {
        let http = |auth: serde_json::Value| json!({"type": "mcp", "transport": "http", "url": "https://tools.example.com/", "auth": auth, "tools": []});
        let header = |credential: &str| http(json!({"header": "X-Key", "credential": credential}));
        assert!(refused("ewoooc", header("k8s://shop/gateway/token")).is_empty());
        for other in ["k8s://shop/gateway2/token", "k8s://other/gateway/token"] {
            assert_eq!(refused("ewoooc", header(other)), ["/spec/auth/credential"], "{other}");
        }
        assert_eq!(refused("other", header("k8s://shop/gateway/token")), ["/spec/auth/credential"]);
        let oauth = |token_url: &str, secret: &str| {
            http(json!({"oauth": {"token_url": token_url, "client_id": "a", "client_secret": secret}}))
        };
        assert!(refused("ewoooc", oauth("https://id.example.com/token", "env://SHOP_KEY")).is_empty());
        assert_eq!(
            refused("ewoooc", oauth("https://10.0.0.1/token", "env://PATH")),
            ["/spec/auth/oauth/token_url", "/spec/auth/oauth/client_secret"]
        );
        let stdio = json!({"type": "mcp", "transport": "stdio", "command": "shop", "tools": [],
            "args": ["{credential.key}"], "credentials": {"key": "env://SHOP_KEY"}});
        assert_eq!(refused("ewoooc", stdio), ["/spec/credentials"]);
    }

    #[test]
    fn a_secret_is_listed_by_names_that_kubernetes_has() {
        for (secret, is_name) in [
            ("shop/payment-gateway.v2", true),
            ("shop", false),
            ("shop/", false),
            ("/gateway", false),
            ("shop/gateway/token", false),
            ("Shop/gateway", false),
            ("shop/*", false),
            ("shop.eu/gateway", false),
            ("shop/-gateway", false),
        ] {
            let mut list = operator();
            let project = ProjectId::parse("ewoooc").unwrap();
            list.projects.entry(project).or_default().k8s = vec![secret.to_owned()];
            let refused = matches!(list.validate(), Err(OperatorError::NoSecretName { .. }));
            assert_eq!(refused, !is_name, "{secret}");
        }
    }

    #[test]
    fn a_uid_belongs_to_one_project_and_is_never_root() {
        let mut list = operator();
        assert!(list.validate().is_ok());
        let other = HostRules { uid: Some(200_001), ..HostRules::default() };
        list.projects.insert(ProjectId::parse("other").unwrap(), other);
        assert!(matches!(list.validate(), Err(OperatorError::SharedUid(..))));
        list.projects
            .insert(ProjectId::parse("other").unwrap(), HostRules { uid: Some(0), ..HostRules::default() });
        assert!(matches!(list.validate(), Err(OperatorError::ForbiddenUid(..))));
    }
}
