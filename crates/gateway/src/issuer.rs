//! The issuer that people sign in with: its discovery document and its public keys, fetched here, kept for a while, and
//! fetched again when a token names a key that is not among them.
//!
//! - Keys are fresh for five minutes; older ones are fetched anew beside the request, and before it once they are twice
//!   as old, so that a key that was withdrawn ends within ten. While the issuer is away they go on for an hour, then no
//!   token counts until it answers.
//! - Between two attempts lie ten seconds, whatever tokens ask for; one attempt takes at most five, and whoever needs
//!   its outcome shares it. So strangers' tokens can make the issuer no work.
//! - No redirect is followed. The document must name the issuer exactly, and the keys' address must be public, the
//!   issuer's own, or on the operator's list, as for every address that somebody else names.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use awooop_core::sign_in::{Memberships, SignIn};
use awooop_store::Clock;
use awooop_store::sign_in::{IssuerKeys, Proven, Token, TokenFault};
use futures::StreamExt;
use serde::Deserialize;
use url::Url;

use crate::http_client::http_client_pinned;
use crate::operator::Operator;
use crate::upstream::address::pin;

/// Largest document that is read, in bytes.
const MOST_DOCUMENT_BYTES: usize = 256 * 1024;
/// Between two lines of the log about one fault.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How often the issuer is asked, and how long its answers count.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// For so long keys are not asked for again.
    pub fresh: Duration,
    /// For so long keys count while the issuer is away.
    pub keep: Duration,
    /// Between two attempts.
    pub floor: Duration,
    /// What one attempt may take.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(300),
            keep: Duration::from_secs(3600),
            floor: Duration::from_secs(10),
            patience: Duration::from_secs(5),
        }
    }
}

/// Why a token was not judged, or proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    /// It proves nothing; the log says why, the caller is not told.
    #[error("the token is not valid")]
    Refused,
    /// There are no keys to judge it by.
    #[error("the issuer cannot be asked for its keys")]
    Away,
}

/// The issuer. Clones share what was fetched.
#[derive(Clone)]
pub struct Issuer(Arc<Inner>);

struct Inner {
    settings: SignIn,
    memberships: Memberships,
    private_addresses: Vec<String>,
    clock: Clock,
    pace: Pace,
    held: RwLock<Option<Held>>,
    /// When the issuer was asked last; held while it is being asked.
    asked: tokio::sync::Mutex<Option<Instant>>,
    /// The last attempt came to nothing: nobody waits for the next one while there are keys.
    is_away: AtomicBool,
    told: Mutex<HashMap<String, (Instant, u64)>>,
}

#[derive(Clone)]
struct Held {
    keys: Arc<IssuerKeys>,
    since: Instant,
}

/// Why the issuer's keys could not be had. For the log.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("it did not answer in time")]
    Slow,
    #[error("{0}")]
    Address(String),
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("{0}")]
    Answer(String),
}

/// What is read of a discovery document.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

impl Issuer {
    /// The issuer of the operator's list, if it names one.
    pub fn of(operator: &Operator, clock: Clock) -> Option<Self> {
        Self::with(operator, clock, Pace::default())
    }

    /// The same at another pace.
    pub fn with(operator: &Operator, clock: Clock, pace: Pace) -> Option<Self> {
        let settings = operator.sign_in.clone()?;
        let url = settings.issuer_url().ok()?;
        let mut private_addresses = operator.private_addresses.clone();
        // the issuer is the operator's choice, wherever it is
        private_addresses
            .extend(url.host_str().zip(url.port_or_known_default()).map(|(h, p)| format!("{h}:{p}")));
        Some(Self(Arc::new(Inner {
            memberships: operator.memberships().ok()?,
            settings,
            private_addresses,
            clock,
            pace,
            held: RwLock::default(),
            asked: tokio::sync::Mutex::default(),
            is_away: AtomicBool::new(false),
            told: Mutex::default(),
        })))
    }

    /// How people sign in.
    pub fn settings(&self) -> &SignIn {
        &self.0.settings
    }

    /// Judges a token.
    ///
    /// # Errors
    /// [`ProveError::Refused`] for every fault of the token alike.
    pub async fn prove(&self, text: &str) -> Result<Proven, ProveError> {
        let inner = &self.0;
        let refuse = |fault: TokenFault| {
            inner.tell(&fault.to_string());
            ProveError::Refused
        };
        // what cannot be a token asks nobody for keys
        let token = Token::read(text).map_err(refuse)?;
        let held = self.keys().await.ok_or(ProveError::Away)?;
        let judged = inner.judge(&token, &held);
        if !matches!(judged, Err(TokenFault::UnknownKey)) {
            return judged.map_err(refuse);
        }
        self.refresh(held.since).await;
        let newer = inner.held().unwrap_or(held);
        inner.judge(&token, &newer).map_err(refuse)
    }

    /// The keys that count now; asks for them where there are none.
    async fn keys(&self) -> Option<Held> {
        let inner = &self.0;
        let held = inner.held().filter(|held| held.since.elapsed() < inner.pace.keep);
        let Some(held) = held else {
            self.refresh(Instant::now()).await;
            return inner.held().filter(|held| held.since.elapsed() < inner.pace.keep);
        };
        let age = held.since.elapsed();
        if age >= 2 * inner.pace.fresh && !inner.is_away.load(Ordering::Relaxed) {
            self.refresh(held.since).await;
            return inner.held();
        }
        // whoever is asking does so for everybody
        if age >= inner.pace.fresh && inner.asked.try_lock().is_ok() {
            let (again, since) = (Arc::clone(inner), held.since);
            drop(awooop_store::scope::spawn_service(awooop_store::scope::Service::Issuer, async move {
                again.refresh(since).await
            }));
        }
        Some(held)
    }

    /// Asks the issuer for its keys in a task of its own: a caller that goes away ends no attempt.
    async fn refresh(&self, seen: Instant) {
        let inner = Arc::clone(&self.0);
        let asking = awooop_store::scope::spawn_service(awooop_store::scope::Service::Issuer, async move {
            inner.refresh(seen).await
        });
        // one that panicked has said so, and the keys are as they were
        let _ = asking.await;
    }
}

impl Inner {
    fn judge(&self, token: &Token, held: &Held) -> Result<Proven, TokenFault> {
        token.prove(&held.keys, &self.settings, &self.memberships, self.clock.now())
    }

    fn held(&self) -> Option<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the issuer for its keys, unless somebody did since `seen` or too little time has passed.
    async fn refresh(&self, seen: Instant) {
        let mut asked = self.asked.lock().await;
        let is_newer = self.held().is_some_and(|held| held.since > seen);
        if is_newer || asked.is_some_and(|at| at.elapsed() < self.pace.floor) {
            return;
        }
        *asked = Some(Instant::now());
        let fetched = tokio::time::timeout(self.pace.patience, self.fetch()).await;
        let fetched = fetched.unwrap_or(Err(FetchError::Slow));
        self.is_away.store(fetched.is_err(), Ordering::Relaxed);
        match fetched {
            Ok(keys) => {
                let held = Held { keys: Arc::new(keys), since: Instant::now() };
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(issuer = self.settings.issuer, error, "the issuer's keys cannot be had");
            }
        }
        *asked = Some(Instant::now());
    }

    async fn fetch(&self) -> Result<IssuerKeys, FetchError> {
        let issuer = &self.settings.issuer;
        let at = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let at = Url::parse(&at).map_err(|e| FetchError::Address(e.to_string()))?;
        let document = self.get(&at).await?;
        let document: Discovery = serde_json::from_slice(&document)
            .map_err(|_| FetchError::Answer("its discovery document is none".to_owned()))?;
        if document.issuer != *issuer {
            return Err(FetchError::Answer("its discovery document names another issuer".to_owned()));
        }
        if document.jwks_uri.scheme() != "https" && at.scheme() == "https" {
            return Err(FetchError::Answer("it names an address for its keys that is not https".to_owned()));
        }
        let keys = self.get(&document.jwks_uri).await?;
        IssuerKeys::parse(&keys).map_err(|e| FetchError::Answer(format!("of its keys: {e}")))
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let pinned = pin(url, &self.private_addresses).await;
        let pinned =
            pinned.map_err(|e| FetchError::Address(format!("its name leads nowhere: {}", e.kind())))?;
        let pinned = pinned
            .map_err(|e| FetchError::Address(format!("of {}: {e}", url.origin().ascii_serialization())))?;
        let client = http_client_pinned(Some(&pinned)).map_err(|e| FetchError::Answer(e.to_string()))?;
        let request = client.get(url.clone()).header(http::header::ACCEPT, "application/json");
        let response = request.send().await.map_err(FetchError::Unreachable)?;
        let status = response.status();
        if status != http::StatusCode::OK {
            return Err(FetchError::Answer(format!("it answered with HTTP {}", status.as_u16())));
        }
        let mut body = Vec::new();
        let mut parts = response.bytes_stream();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part.map_err(FetchError::Unreachable)?);
            if body.len() > MOST_DOCUMENT_BYTES {
                return Err(FetchError::Answer("its answer is too large".to_owned()));
            }
        }
        Ok(body)
    }

    /// Says why a token was refused, at most once in a while for each reason.
    fn tell(&self, reason: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, left_out) = match told.get(reason) {
            Some((at, left_out)) if at.elapsed() < LOG_EVERY => (*at, left_out + 1),
            Some((_, left_out)) => {
                tracing::warn!(reason, left_out, "a token was refused");
                (Instant::now(), 0)
            }
            None => {
                tracing::warn!(reason, left_out = 0, "a token was refused");
                (Instant::now(), 0)
            }
        };
        told.insert(reason.to_owned(), (at, left_out));
    }
}
