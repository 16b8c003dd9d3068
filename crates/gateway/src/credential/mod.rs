//! Credentials: resolved from a reference when a call needs them, held in memory that never prints, never
//! stored, logged, journaled or returned.
//!
//! Variables and files are read for every call. A Secret of Kubernetes is kept for [`KEPT`] and a token of OAuth until
//! shortly before it expires; both are let go of at once when the tool's server refuses them, so that a rotation needs
//! no restart. Every value that was handed out is remembered as one to mask in what comes back (`known`).
//! How it fails: with [`CredentialError`], whose text names the reference, never a path of the host, a value or what a
//! server said.

mod file;
mod kept;
mod known;
mod kubernetes;
mod oauth;

use std::sync::Arc;
use std::time::Duration;

use awooop_core::ProjectId;
use awooop_core::contract::{CredentialRef, OauthSpec};
use awooop_redact::Known;
use secrecy::SecretString;

use self::file::{Refused, read_below, read_small};
use self::kept::Kept;
use self::known::Remembered;
use self::kubernetes::{Cluster, Place};
use self::oauth::{TokenError, TokenKey};
use crate::operator::Operator;

/// How long a Secret of Kubernetes is believed without asking again.
pub const KEPT: Duration = Duration::from_secs(30);

/// Why there is no credential. `Display` names the reference, never a path of the host or a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The operator does not list it for this project.
    #[error("the operator does not allow `{0}` for this project")]
    NotAllowed(String),
    /// It is allowed and not there, or empty.
    #[error("`{0}` holds no credential")]
    Absent(String),
    /// Kubernetes has no such Secret.
    #[error("`{0}` holds no credential: there is no such Secret")]
    NoSecret(String),
    /// The Secret has no such key, or nothing under it that is a text.
    #[error("`{0}` holds no credential: the Secret has no such key")]
    NoKey(String),
    /// Kubernetes does not let this server read it.
    #[error("`{0}` cannot be read: Kubernetes forbids it to this server's account")]
    Forbidden(String),
    /// Kubernetes does not know this server.
    #[error("`{0}` cannot be read: Kubernetes does not accept this server's account")]
    Unknown(String),
    /// The API does not answer, or not as it should.
    #[error("`{0}` cannot be read: the Kubernetes API is away")]
    Away(String),
    /// This server has no way to a cluster.
    #[error("`{0}` cannot be read: this server runs in no cluster, and its operator named no kubeconfig")]
    NoCluster(String),
    /// No token was issued.
    #[error("there is no token for the tool's server: {0}")]
    Token(#[from] TokenError),
}

/// What resolves references, for all projects of a process.
pub(crate) struct Credentials {
    operator: Operator,
    cluster: Cluster,
    secrets: Kept<(ProjectId, Place), SecretString>,
    tokens: Kept<TokenKey, SecretString>,
    remembered: Remembered,
}

impl Credentials {
    /// Resolves what `operator` lists.
    pub(crate) fn new(operator: Operator) -> Self {
        let cluster = Cluster::new(operator.kubeconfig.clone());
        let (secrets, tokens) = (Kept::default(), Kept::default());
        Self { operator, cluster, secrets, tokens, remembered: Remembered::default() }
    }

    /// The values that were handed out to the project: what is to be masked in what its servers answer.
    pub(crate) fn known(&self, project: &ProjectId) -> Arc<Known> {
        self.remembered.of(project)
    }

    /// Reads what a reference points at.
    pub(crate) async fn resolve(
        &self,
        project: &ProjectId,
        reference: &CredentialRef,
    ) -> Result<SecretString, CredentialError> {
        let value = self.read(project, reference).await?;
        self.remembered.add(project, &value);
        Ok(value)
    }

    /// The token for these client credentials, fetched once for all who ask at a time.
    pub(crate) async fn token(
        &self,
        project: &ProjectId,
        spec: &OauthSpec,
    ) -> Result<SecretString, CredentialError> {
        let secret = self.resolve(project, &spec.client_secret).await?;
        let key = TokenKey::new(project, spec, &secret);
        let allowed = self.operator.private_addresses(project);
        let fetch = async || Ok(oauth::fetch(spec, &secret, &allowed).await?);
        let token = Box::pin(self.tokens.get(key, fetch)).await?;
        self.remembered.add(project, &token);
        Ok(token)
    }

    /// Lets go of what is kept for a reference, since a server refused the value.
    pub(crate) async fn forget(&self, project: &ProjectId, reference: &CredentialRef) {
        if let CredentialRef::K8s { namespace, secret, key } = reference {
            self.secrets.forget(&(project.clone(), Place::new(namespace, secret, key))).await;
        }
    }

    /// Lets go of the token, unless another was fetched since it was used.
    pub(crate) async fn forget_token(&self, project: &ProjectId, spec: &OauthSpec, refused: &SecretString) {
        self.tokens.forget_value(|key| key.is_of(project, spec), refused).await;
        self.forget(project, &spec.client_secret).await;
    }

    async fn read(
        &self,
        project: &ProjectId,
        reference: &CredentialRef,
    ) -> Result<SecretString, CredentialError> {
        let shown = || String::from(reference.clone());
        if !self.operator.allows(project, reference) {
            return Err(CredentialError::NotAllowed(shown()));
        }
        let found = match reference {
            CredentialRef::Env(name) => variable(name, |name| std::env::var(name).ok()),
            CredentialRef::File(path) => {
                let root = self.operator.secrets.as_deref();
                let root = root.ok_or_else(|| CredentialError::NotAllowed(shown()))?;
                let found = read_below(&root.join(project.as_str()), path.as_ref());
                found.map_err(|refused| match refused {
                    Refused::Outside => CredentialError::NotAllowed(shown()),
                    Refused::Absent => CredentialError::Absent(shown()),
                })?
            }
            CredentialRef::K8s { namespace, secret, key } => {
                let place = Place::new(namespace, secret, key);
                let read = async || Ok((self.cluster.read(&place, shown).await?, KEPT));
                return Box::pin(self.secrets.get((project.clone(), place.clone()), read)).await;
            }
        };
        match found.as_deref().map(str::trim_end) {
            Some(value) if !value.is_empty() => Ok(SecretString::from(value)),
            _ => Err(CredentialError::Absent(shown())),
        }
    }
}

/// A variable's value, or what lies in the file that `NAME_FILE` names: a running process's environment cannot change,
/// a file can.
fn variable(name: &str, environment: impl Fn(&str) -> Option<String>) -> Option<String> {
    let is_set = |value: &String| !value.is_empty();
    environment(name).filter(is_set).or_else(|| {
        let file = environment(&format!("{name}_FILE")).filter(is_set)?;
        read_small(file.as_ref())
    })
}

#[cfg(test)]
mod tests;
