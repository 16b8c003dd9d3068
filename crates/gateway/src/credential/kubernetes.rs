//! `k8s://` references: one GET of one Secret, as the account this server runs under in its cluster, or as the operator's
//! kubeconfig says. Nothing is listed and nothing is watched, so the account needs `get` on the Secrets that are listed.
//!
//! The connection is made when it is first needed, and made anew when the API no longer accepts the account. Bodies are
//! read here and never logged.

use std::path::PathBuf;
use std::time::Duration;

use awooop_redact::Redactor;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::CredentialError;

/// Longest wait for the API, in all.
const LIMIT: Duration = Duration::from_secs(10);

/// Where a value lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    namespace: String,
    secret: String,
    key: String,
}

impl Place {
    pub(super) fn new(namespace: &str, secret: &str, key: &str) -> Self {
        let [namespace, secret, key] = [namespace, secret, key].map(str::to_owned);
        Self { namespace, secret, key }
    }

    /// The Secret's path in the API; a contract's schema lets nothing but names through.
    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{}", self.namespace, self.secret)
    }
}

/// The way to the API.
pub(super) struct Cluster {
    kubeconfig: Option<PathBuf>,
    client: Mutex<Option<Client>>,
}

/// What is read of a Secret.
#[derive(Deserialize)]
struct Secret {
    #[serde(default)]
    data: std::collections::BTreeMap<String, Option<String>>,
}

/// Why nothing was read.
enum Failure {
    NoCluster,
    Status(u16),
    Away,
}

impl Cluster {
    /// By this kubeconfig, or as the account of the pod this process runs in.
    pub(super) fn new(kubeconfig: Option<PathBuf>) -> Self {
        Self { kubeconfig, client: Mutex::new(None) }
    }

    /// The value at a place; `shown` names it in errors.
    pub(super) async fn read(
        &self,
        place: &Place,
        shown: impl Fn() -> String,
    ) -> Result<SecretString, CredentialError> {
        let asked =
            tokio::time::timeout(LIMIT, Box::pin(self.ask(place))).await.unwrap_or(Err(Failure::Away));
        let text = asked.map_err(|failure| match failure {
            Failure::NoCluster => CredentialError::NoCluster(shown()),
            Failure::Status(404) => CredentialError::NoSecret(shown()),
            Failure::Status(401) => CredentialError::Unknown(shown()),
            Failure::Status(403) => CredentialError::Forbidden(shown()),
            Failure::Status(_) | Failure::Away => CredentialError::Away(shown()),
        })?;
        let secret: Secret = serde_json::from_str(&text).map_err(|_| CredentialError::Away(shown()))?;
        let encoded = secret.data.get(&place.key).and_then(Option::as_deref);
        let value = encoded.and_then(|encoded| String::from_utf8(STANDARD.decode(encoded).ok()?).ok());
        match value.as_deref().map(str::trim_end) {
            Some(value) if !value.is_empty() => Ok(SecretString::from(value)),
            _ => Err(CredentialError::NoKey(shown())),
        }
    }

    /// Asks once, and once more by a new connection when the account is not accepted: its token may have been renewed.
    async fn ask(&self, place: &Place) -> Result<String, Failure> {
        match self.get(place).await {
            Err(Failure::Status(401)) => {
                *self.client.lock().await = None;
                self.get(place).await
            }
            answer => answer,
        }
    }

    async fn get(&self, place: &Place) -> Result<String, Failure> {
        let client = self.client().await?;
        let request = http::Request::get(place.path()).body(Vec::new()).map_err(|_| Failure::Away)?;
        client.request_text(request).await.map_err(|error| {
            let failure = failure(&error);
            if matches!(failure, Failure::Away) {
                log("the Kubernetes API gave no answer", &error);
            }
            failure
        })
    }

    async fn client(&self) -> Result<Client, Failure> {
        let mut known = self.client.lock().await;
        if let Some(client) = known.as_ref() {
            return Ok(client.clone());
        }
        let mut config = self.config().await?;
        config.connect_timeout = Some(LIMIT);
        config.read_timeout = Some(LIMIT);
        config.write_timeout = Some(LIMIT);
        config.reset_reader_on_write = true;
        config.default_retry = false;
        // as for every connection of this process: no proxy of the environment
        config.proxy_url = None;
        let client = Client::try_from(config).map_err(|error| {
            log("the Kubernetes API cannot be used", &error);
            Failure::Away
        })?;
        *known = Some(client.clone());
        Ok(client)
    }

    async fn config(&self) -> Result<Config, Failure> {
        let Some(path) = &self.kubeconfig else {
            return Config::incluster().map_err(|error| {
                log("this server runs in no cluster", &error);
                Failure::NoCluster
            });
        };
        let read = async {
            let kubeconfig = Kubeconfig::read_from(path)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
        };
        read.await.map_err(|error| {
            log("the operator's kubeconfig cannot be used", &error);
            Failure::Away
        })
    }
}

/// What went wrong, for the operator: what a library says of a kubeconfig may repeat a part of it.
fn log(what: &str, error: &dyn std::error::Error) {
    let error = Redactor::new().redact_line(&error.to_string()).into_owned();
    tracing::warn!(error, "{what}");
}

fn failure(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == StatusCode::OK.as_u16() => Failure::Away,
        kube::Error::Api(status) => Failure::Status(status.code),
        kube::Error::Auth(_) => Failure::Status(401),
        _ => Failure::Away,
    }
}
