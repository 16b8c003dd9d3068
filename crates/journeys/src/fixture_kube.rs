//! An API of Kubernetes for tests, as far as Secrets go: strict about what it is asked, with accounts, their tokens and
//! what each may do where. `kubectl` works with it as with a cluster's own.
//!
//! It speaks TLS with a certificate of the host's `openssl`, because `kubectl` shows its token to nothing else. It lives
//! in the test's process and remembers every request.

mod secrets;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::secrets::{Failure, Secrets};

/// All that an account can be allowed to do with Secrets.
pub const ALL_VERBS: [&str; 6] = ["get", "list", "create", "update", "patch", "delete"];

/// A running API. Dropping it closes its port.
pub struct FixtureKube {
    directory: tempfile::TempDir,
    certificate: PathBuf,
    address: SocketAddr,
    cluster: Arc<Mutex<Cluster>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Cluster {
    secrets: Secrets,
    /// Names of accounts by token.
    tokens: BTreeMap<String, String>,
    /// What an account may do, by its name and namespace.
    rules: BTreeMap<(String, String), Vec<String>>,
    is_away: bool,
    asked: Vec<String>,
}

impl FixtureKube {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// There is no `openssl`, or no port.
    #[expect(clippy::disallowed_methods, reason = "test support: the fixture belongs to no project")]
    pub async fn start() -> anyhow::Result<FixtureKube> {
        let directory = tempfile::tempdir()?;
        let (certificate, key) = make_certificate(directory.path())?;
        let chain = CertificateDer::pem_file_iter(&certificate)?.collect::<Result<Vec<_>, _>>()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&key)?)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let cluster = Arc::<Mutex<Cluster>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&cluster));
        let listener = TlsListener { listener, acceptor: TlsAcceptor::from(Arc::new(tls)) };
        let task = tokio::spawn(async move {
            // ends with the task
            let _ = axum::serve(listener, router).await;
        });
        Ok(FixtureKube { directory, certificate, address, cluster, task })
    }

    /// Lets an account do this with the Secrets of a namespace, and nothing else there.
    pub fn allow(&self, account: &str, namespace: &str, verbs: &[&str]) {
        let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
        self.cluster().rules.insert((account.to_owned(), namespace.to_owned()), verbs);
    }

    /// A kubeconfig of an account, with a new token: the one before is no longer accepted.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig(&self, account: &str) -> anyhow::Result<PathBuf> {
        let token = format!("token-of-{account}-{:016x}", rand::random::<u64>());
        {
            let mut cluster = self.cluster();
            cluster.tokens.retain(|_, name| name != account);
            cluster.tokens.insert(token.clone(), account.to_owned());
        }
        let authority = STANDARD.encode(std::fs::read(&self.certificate)?);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fixture",
            "clusters": [{"name": "fixture", "cluster": {"server": format!("https://{}", self.address),
                "certificate-authority-data": authority}}],
            "users": [{"name": account, "user": {"token": token}}],
            "contexts": [{"name": "fixture", "context": {"cluster": "fixture", "user": account}}],
        });
        let path = self.directory.path().join(format!("{account}.kubeconfig"));
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// Puts a Secret with one value there, in place of what was there.
    pub fn put(&self, namespace: &str, name: &str, key: &str, value: &str) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "data": {key: STANDARD.encode(value)}});
        let mut cluster = self.cluster();
        // absent is as good
        let _ = cluster.secrets.delete(namespace, name);
        cluster.secrets.create(namespace, secret).map_err(|f| f.message).expect("the Secret is one");
    }

    /// From now on everything is answered with 503, or not any more.
    pub fn be_away(&self, is_away: bool) {
        self.cluster().is_away = is_away;
    }

    /// Forgets the versions so far: whoever goes on from one of them is told that it is gone.
    pub fn compact(&self) {
        self.cluster().secrets.compact();
    }

    /// Method and path of every request so far.
    pub fn asked(&self) -> Vec<String> {
        self.cluster().asked.clone()
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        lock(&self.cluster)
    }
}

impl Drop for FixtureKube {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(cluster: &Mutex<Cluster>) -> MutexGuard<'_, Cluster> {
    cluster.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make_certificate(directory: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (directory.join("api.crt"), directory.join("api.key"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-subj", "/CN=fixture", "-days", "2", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .context("the API's certificate is made with the host's openssl, which is missing")?;
    anyhow::ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    Ok((certificate, key))
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn answer(State(cluster): State<Arc<Mutex<Cluster>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 4 << 20).await.unwrap_or_default();
    let token = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default();
    let call = Call { method: &parts.method, path: parts.uri.path(), query, kind, body: &body };
    let mut cluster = lock(&cluster);
    cluster.asked.push(format!("{} {}", call.method, call.path));
    match cluster.answer(&token, &call) {
        Ok((status, value)) => (status, axum::Json(value)).into_response(),
        Err(failure) => (failure.status(), axum::Json(failure.document())).into_response(),
    }
}

struct Call<'a> {
    method: &'a Method,
    path: &'a str,
    query: &'a str,
    kind: &'a str,
    body: &'a Bytes,
}

impl Call<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v)
    }

    fn document(&self) -> Result<Value, Failure> {
        if !self.kind.contains("json") {
            let message = "the body of the request was in an unknown format - accepted media types include: application/json";
            return Err(Failure::new(415, "UnsupportedMediaType", message));
        }
        serde_json::from_slice(self.body).map_err(|_| Failure::new(400, "BadRequest", "the body is no JSON"))
    }
}

impl Cluster {
    fn answer(&mut self, token: &str, call: &Call<'_>) -> Result<(StatusCode, Value), Failure> {
        if self.is_away {
            return Err(Failure::new(
                503,
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ));
        }
        let account =
            self.tokens.get(token).ok_or_else(|| Failure::new(401, "Unauthorized", "Unauthorized"))?;
        let account = account.clone();
        if let Some(document) = discovery(call.path) {
            return Ok((StatusCode::OK, document));
        }
        let parts: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
        let (namespace, name) = match parts[..] {
            ["api", "v1", "namespaces", namespace, "secrets"] => (namespace, None),
            ["api", "v1", "namespaces", namespace, "secrets", name] => (namespace, Some(name)),
            _ => {
                return Err(Failure::new(
                    404,
                    "NotFound",
                    "the server could not find the requested resource",
                ));
            }
        };
        let verb = match (call.method.as_str(), name) {
            ("GET", Some(_)) => "get",
            ("GET", None) => "list",
            ("POST", None) => "create",
            ("PUT", Some(_)) => "update",
            ("PATCH", Some(_)) => "patch",
            ("DELETE", Some(_)) => "delete",
            _ => return Err(Failure::new(405, "MethodNotAllowed", "the server does not allow this method")),
        };
        let rules = self.rules.get(&(account.clone(), namespace.to_owned()));
        if !rules.is_some_and(|verbs| verbs.iter().any(|allowed| allowed == verb)) {
            return Err(Failure::forbidden(&account, verb, namespace, name));
        }
        self.serve(verb, namespace, name.unwrap_or_default(), call)
    }

    fn serve(
        &mut self,
        verb: &str,
        namespace: &str,
        name: &str,
        call: &Call<'_>,
    ) -> Result<(StatusCode, Value), Failure> {
        let secrets = &mut self.secrets;
        let value = match verb {
            "get" => secrets.get(namespace, name)?,
            "list" => {
                secrets.list(namespace, call.parameter("resourceVersion"), call.parameter("continue"))?
            }
            "create" => return Ok((StatusCode::CREATED, secrets.create(namespace, call.document()?)?)),
            "update" => secrets.replace(namespace, name, call.document()?)?,
            "patch" if call.kind.ends_with("merge-patch+json") => {
                secrets.patch(namespace, name, &call.document()?)?
            }
            "patch" => return Err(Failure::new(415, "UnsupportedMediaType", "no patch of this kind")),
            _ => secrets.delete(namespace, name)?,
        };
        Ok((StatusCode::OK, value))
    }
}

/// What clients ask first.
fn discovery(path: &str) -> Option<Value> {
    Some(match path {
        "/version" => {
            json!({"major": "1", "minor": "32", "gitVersion": "v1.32.4", "platform": "linux/amd64"})
        }
        "/api" => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}),
        "/api/v1" => json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [{
            "name": "secrets", "singularName": "secret", "namespaced": true, "kind": "Secret", "verbs": ALL_VERBS,
        }]}),
        _ => return None,
    })
}
