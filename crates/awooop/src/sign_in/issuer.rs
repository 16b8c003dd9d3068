//! The issuer as a client sees it: where to send the browser, where codes and refresh tokens are exchanged.
//!
//! Its document must name the issuer that the server named, and its addresses must be https, or on this machine.

use std::time::Duration;

use awooop_store::Clock;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::failure::Failure;

/// What one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest answer that is read, in bytes.
const MOST_BYTES: usize = 256 * 1024;

/// How a server lets people sign in, as it says itself.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Offer {
    /// The issuer's identifier.
    pub(crate) issuer: String,
    /// The client to sign in as.
    pub(crate) client_id: String,
    /// What the access token must be meant for.
    pub(crate) audience: String,
    /// What to ask for.
    pub(crate) scopes: Vec<String>,
}

/// The issuer, once its document was read.
pub(super) struct Issuer {
    http: reqwest::Client,
    offer: Offer,
    document: Discovery,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    revocation_endpoint: Option<Url>,
}

/// Tokens as they came.
pub(super) struct Tokens {
    pub(super) access_token: SecretString,
    pub(super) refresh_token: Option<SecretString>,
    pub(super) id_token: Option<String>,
    pub(super) expires_at: Option<Timestamp>,
}

/// Why there are no tokens.
pub(super) enum TokenFailure {
    /// The issuer said no, and why in its own words.
    Refused(String),
    /// It did not answer, or not as it should.
    Failed(Failure),
}

impl Issuer {
    /// Reads the issuer's document.
    pub(super) async fn discover(offer: &Offer) -> Result<Self, Failure> {
        let http = awooop_gateway::http_client::http_client().map_err(|e| Failure::invalid(e.to_string()))?;
        let at = format!("{}/.well-known/openid-configuration", offer.issuer.trim_end_matches('/'));
        let at = Url::parse(&at).map_err(|e| protocol(&offer.issuer, &format!("no address: {e}")))?;
        check_address(&at)?;
        let answer = http.get(at).header(ACCEPT, "application/json").timeout(PATIENCE).send().await;
        let answer = answer.map_err(|e| unreachable(&offer.issuer, &e))?;
        if !answer.status().is_success() {
            let reason = format!("its discovery document is answered with HTTP {}", answer.status().as_u16());
            return Err(protocol(&offer.issuer, &reason));
        }
        let body = body(&offer.issuer, answer).await?;
        let document: Discovery = serde_json::from_slice(&body)
            .map_err(|_| protocol(&offer.issuer, "its discovery document is none"))?;
        if document.issuer != offer.issuer {
            return Err(protocol(&offer.issuer, "its discovery document names another issuer"));
        }
        check_address(&document.authorization_endpoint)?;
        check_address(&document.token_endpoint)?;
        Ok(Self { http, offer: offer.clone(), document })
    }

    /// Where the browser begins.
    pub(super) fn begin(&self, redirect_uri: &str, state: &str, nonce: &str, challenge: &str) -> Url {
        let mut url = self.document.authorization_endpoint.clone();
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &self.offer.client_id),
            ("redirect_uri", redirect_uri),
            ("scope", &self.offer.scopes.join(" ")),
            ("audience", &self.offer.audience),
            ("state", state),
            ("nonce", nonce),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256"),
        ]);
        url
    }

    /// Tokens for a code.
    pub(super) async fn exchange(
        &self,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
    ) -> Result<Tokens, TokenFailure> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("client_id", &self.offer.client_id),
            ("code_verifier", verifier),
        ];
        self.tokens(&fields).await
    }

    /// Tokens for a refresh token.
    pub(super) async fn refresh(&self, token: &SecretString) -> Result<Tokens, TokenFailure> {
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", token.expose_secret()),
            ("client_id", &self.offer.client_id),
        ];
        self.tokens(&fields).await
    }

    /// Tells the issuer that a refresh token is needed no more; that it cannot be told is no failure.
    pub(super) async fn revoke(&self, token: &SecretString) {
        let Some(at) = self.document.revocation_endpoint.clone().filter(|at| check_address(at).is_ok())
        else {
            return;
        };
        let fields = [
            ("token", token.expose_secret()),
            ("token_type_hint", "refresh_token"),
            ("client_id", &self.offer.client_id),
        ];
        let _ = self.form(at, &fields).timeout(Duration::from_secs(5)).send().await;
    }

    async fn tokens(&self, fields: &[(&str, &str)]) -> Result<Tokens, TokenFailure> {
        let failed = |failure: Failure| TokenFailure::Failed(failure);
        let request = self.form(self.document.token_endpoint.clone(), fields);
        let answer = request.timeout(PATIENCE).send().await;
        let answer = answer.map_err(|e| failed(unreachable(&self.offer.issuer, &e)))?;
        let status = answer.status();
        let body = body(&self.offer.issuer, answer).await.map_err(failed)?;
        let document: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !status.is_success() {
            let said = document["error_description"].as_str().or(document["error"].as_str());
            return match status.as_u16() {
                400 | 401 | 403 => Err(TokenFailure::Refused(said.unwrap_or("no reason given").to_owned())),
                other => {
                    Err(failed(protocol(&self.offer.issuer, &format!("HTTP {other} instead of tokens"))))
                }
            };
        }
        let text = |name: &str| document[name].as_str().map(str::to_owned);
        let access_token = text("access_token");
        let access_token =
            access_token.ok_or_else(|| failed(protocol(&self.offer.issuer, "its answer holds no token")))?;
        let expires_at = ends(&document["expires_in"]).or_else(|| {
            let exp = claims(&access_token)?["exp"].as_i64()?;
            Timestamp::from_second(exp).ok()
        });
        Ok(Tokens {
            access_token: access_token.into(),
            refresh_token: text("refresh_token").map(Into::into),
            id_token: text("id_token"),
            expires_at,
        })
    }

    fn form(&self, at: Url, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.http.post(at).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        request.header(ACCEPT, "application/json").body(body)
    }
}

/// The claims of a token that came straight from the issuer, whose connection vouches for it.
pub(super) fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// When something ends that lasts so many seconds, given as a number or, by some, as text.
fn ends(expires_in: &Value) -> Option<Timestamp> {
    let seconds = expires_in.as_i64().or_else(|| expires_in.as_str()?.parse().ok());
    let seconds = seconds.filter(|s| (0..=31_536_000).contains(s))?;
    Some(Clock::system().now() + SignedDuration::from_secs(seconds))
}

/// Secrets go over https, or nowhere but this machine.
fn check_address(url: &Url) -> Result<(), Failure> {
    let is_here = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() == "https" || (url.scheme() == "http" && is_here) {
        return Ok(());
    }
    Err(protocol(url.as_str(), "people sign in over https"))
}

async fn body(issuer: &str, mut answer: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|e| unreachable(issuer, &e))? {
        body.extend_from_slice(&part);
        if body.len() > MOST_BYTES {
            return Err(protocol(issuer, "its answer is too large"));
        }
    }
    Ok(body)
}

fn protocol(issuer: &str, reason: &str) -> Failure {
    Failure::InTheWay {
        message: format!("the issuer {issuer} cannot be used: {reason}"),
        hint: "the server's operator names it in `sign_in.issuer`".to_owned(),
    }
}

fn unreachable(issuer: &str, error: &reqwest::Error) -> Failure {
    let reason = if error.is_timeout() { "no answer in time" } else { "no connection" };
    Failure::Unreachable { url: issuer.to_owned(), reason: reason.to_owned(), is_refused: error.is_connect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_https_or_stay_on_this_machine() {
        let check = |url: &str| check_address(&Url::parse(url).unwrap()).is_ok();
        assert!(check("https://id.example/token") && check("http://127.0.0.1:9/x") && check("http://[::1]/"));
        for bad in
            ["http://id.example/token", "http://10.0.0.1/", "file:///etc/passwd", "http://localhost.example/"]
        {
            assert!(!check(bad), "{bad}");
        }
    }
}
