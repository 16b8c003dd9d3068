//! An OpenID Connect issuer for tests, strict about what it is asked and obedient about what it answers: discovery,
//! keys, authorization code with PKCE, refreshing, and any misbehaviour that a test asks for.
//!
//! It signs with Ed25519 and knows one person at a time, who is signed in without being asked. Tokens that no issuer
//! would make are put together by [`FixtureIssuer::sign`].

mod flow;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use awooop_core::sign_in::SignIn;
use awooop_store::Clock;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// What tokens are meant for.
pub const AUDIENCE: &str = "awooop";
/// The client that people sign in with.
pub const CLIENT: &str = "awooop-cli";

/// How the issuer answers.
#[derive(Debug, Clone, Default)]
pub enum Behaviour {
    /// As it should.
    #[default]
    Good,
    /// HTTP 503 to everything.
    Down,
    /// Each answer so much later.
    Slow(Duration),
    /// Its discovery document is said to be elsewhere.
    Redirecting(String),
    /// Its discovery document names another issuer.
    Impostor,
    /// Its keys are said to be here.
    KeysAt(String),
    /// Its keys are this text.
    Keys(String),
}

/// Who signs in next.
#[derive(Debug, Clone)]
pub struct Person {
    /// `sub`.
    pub subject: String,
    /// `groups`.
    pub groups: Vec<String>,
}

struct Shared {
    base: String,
    key: Mutex<(String, Ed25519KeyPair)>,
    further: Mutex<Vec<Value>>,
    behaviour: Mutex<Behaviour>,
    person: Mutex<Person>,
    lifetime_s: AtomicU64,
    asked: AtomicU64,
    made: AtomicU64,
    codes: Mutex<HashMap<String, flow::Code>>,
    refreshing: Mutex<BTreeMap<String, Person>>,
}

/// A running issuer. Dropping it closes its port.
pub struct FixtureIssuer {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl FixtureIssuer {
    /// Listens on a free port of 127.0.0.1.
    #[expect(clippy::disallowed_methods, reason = "test support: the fixture belongs to no project")]
    pub async fn start() -> anyhow::Result<FixtureIssuer> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let shared = Arc::new(Shared {
            base: format!("http://{}", listener.local_addr()?),
            key: Mutex::new(new_key(0)?),
            further: Mutex::default(),
            behaviour: Mutex::default(),
            person: Mutex::new(Person { subject: "1".to_owned(), groups: Vec::new() }),
            lifetime_s: AtomicU64::new(300),
            asked: AtomicU64::new(0),
            made: AtomicU64::new(0),
            codes: Mutex::default(),
            refreshing: Mutex::default(),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discover))
            .route("/keys", get(keys))
            .route("/authorize", get(flow::authorize))
            .route("/token", post(flow::token))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // ends with the task
            let _ = axum::serve(listener, router).await;
        });
        Ok(FixtureIssuer { shared, task })
    }

    /// Its identifier.
    pub fn url(&self) -> &str {
        &self.shared.base
    }

    /// The operator's settings for it.
    pub fn settings(&self) -> SignIn {
        SignIn {
            issuer: self.url().to_owned(),
            client_id: CLIENT.to_owned(),
            audience: AUDIENCE.to_owned(),
            ..SignIn::default()
        }
    }

    /// The same as a part of `operator.toml`.
    pub fn settings_toml(&self) -> String {
        format!(
            "[sign_in]\nissuer = \"{}\"\nclient_id = \"{CLIENT}\"\naudience = \"{AUDIENCE}\"\n",
            self.url()
        )
    }

    /// From now on it behaves like this.
    pub fn behave(&self, behaviour: Behaviour) {
        *locked(&self.shared.behaviour) = behaviour;
    }

    /// From now on this person signs in.
    pub fn signs_in(&self, subject: &str, groups: &[&str]) {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        *locked(&self.shared.person) = Person { subject: subject.to_owned(), groups };
    }

    /// From now on access tokens live so long.
    pub fn tokens_live(&self, seconds: u64) {
        self.shared.lifetime_s.store(seconds, Ordering::SeqCst);
    }

    /// How often its discovery document or its keys were asked for.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Signs with another key from now on, and no longer shows the former.
    pub fn rotate(&self) {
        let n = self.shared.made.fetch_add(1, Ordering::SeqCst) + 1;
        *locked(&self.shared.key) = new_key(n).expect("the system has random numbers");
    }

    /// Shows this key as well.
    pub fn show_key(&self, key: Value) {
        locked(&self.shared.further).push(key);
    }

    /// The id of the key it signs with.
    pub fn kid(&self) -> String {
        locked(&self.shared.key).0.clone()
    }

    /// An access token of this person.
    pub fn token(&self, subject: &str, groups: &[&str]) -> String {
        self.token_with(json!({"sub": subject, "groups": groups}))
    }

    /// An access token whose claims are changed; null takes one away.
    pub fn token_with(&self, changes: Value) -> String {
        self.shared.access_token(changes)
    }

    /// Header and claims, whatever they are, with a genuine signature of the current key.
    pub fn sign(&self, header: &Value, claims: &str) -> String {
        self.shared.sign(&header.to_string(), claims)
    }

    /// The claims of a good access token.
    pub fn claims(&self) -> Value {
        self.shared.claims(&json!({}))
    }
}

impl Drop for FixtureIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn claims(&self, changes: &Value) -> Value {
        let now = Clock::system().now().as_second();
        let lifetime = self.lifetime_s.load(Ordering::SeqCst);
        let mut claims = json!({"iss": self.base, "aud": AUDIENCE, "azp": CLIENT, "sub": "1", "iat": now,
            "exp": now + i64::try_from(lifetime).unwrap_or(300), "groups": []});
        let members = claims.as_object_mut().expect("an object");
        for (name, value) in changes.as_object().into_iter().flatten() {
            match value {
                Value::Null => drop(members.remove(name)),
                value => drop(members.insert(name.clone(), value.clone())),
            }
        }
        claims
    }

    fn access_token(&self, changes: Value) -> String {
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": locked(&self.key).0});
        self.sign(&header.to_string(), &self.claims(&changes).to_string())
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = locked(&self.key).1.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// What a misbehaving issuer does before it answers at all.
    async fn misbehave(&self) -> Option<Response> {
        let behaviour = locked(&self.behaviour).clone();
        match behaviour {
            Behaviour::Down => Some(axum::http::StatusCode::SERVICE_UNAVAILABLE.into_response()),
            Behaviour::Slow(by) => {
                tokio::time::sleep(by).await;
                None
            }
            _ => None,
        }
    }
}

async fn discover(State(shared): State<Arc<Shared>>) -> Response {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    if let Some(answer) = shared.misbehave().await {
        return answer;
    }
    let base = &shared.base;
    let mut document = json!({
        "issuer": base, "jwks_uri": format!("{base}/keys"), "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"), "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["EdDSA"],
        "code_challenge_methods_supported": ["S256"],
    });
    match &*locked(&shared.behaviour) {
        Behaviour::Redirecting(to) => return Redirect::temporary(to).into_response(),
        Behaviour::Impostor => document["issuer"] = "https://id.example".into(),
        Behaviour::KeysAt(at) => document["jwks_uri"] = at.as_str().into(),
        _ => {}
    }
    Json(document).into_response()
}

async fn keys(State(shared): State<Arc<Shared>>) -> Response {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    if let Some(answer) = shared.misbehave().await {
        return answer;
    }
    if let Behaviour::Keys(text) = &*locked(&shared.behaviour) {
        return text.clone().into_response();
    }
    let mut shown = locked(&shared.further).clone();
    let key = locked(&shared.key);
    let x = URL_SAFE_NO_PAD.encode(key.1.public_key().as_ref());
    shown.push(json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.0, "x": x}));
    Json(json!({ "keys": shown })).into_response()
}

fn new_key(n: u64) -> anyhow::Result<(String, Ed25519KeyPair)> {
    let failed = |_| anyhow::anyhow!("no key could be made");
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(failed)?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| anyhow::anyhow!("a bad key"))?;
    Ok((format!("key-{n}"), pair))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
