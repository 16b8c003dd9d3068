//! OAuth 2.1 client credentials (RFC 6749, section 4.4): a token for a tool's server from the issuer that the contract
//! names. The issuer is dialled by the rules of upstream addresses; it is asked once, follows no redirect, and what it
//! says is read for the token and nothing else.

use std::time::Duration;

use awooop_core::ProjectId;
use awooop_core::contract::{ClientAuth, OauthSpec};
use http::header::{ACCEPT, CONTENT_TYPE};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::http_client::http_client_pinned;
use crate::upstream::address::pin;

/// Longest wait for the issuer, in all.
const LIMIT: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// How long a token is used whose issuer names no time.
const UNNAMED: Duration = Duration::from_secs(300);
/// The longest that a token is used without asking again.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long before its end a token is no longer used; a quarter of a short life.
const BEFORE_END: Duration = Duration::from_secs(60);

/// Why no token was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A rule of this host forbids the address.
    #[error("this host does not allow the address of the token issuer")]
    Address,
    /// It does not answer in time, or cannot be reached.
    #[error("the token issuer does not answer")]
    Away,
    /// It says no.
    #[error("the token issuer answers with HTTP {0}{name}", name = .1.map(|name| format!(" ({name})")).unwrap_or_default())]
    Refused(u16, Option<&'static str>),
    /// It answers something else than a bearer token.
    #[error("the token issuer's answer is no bearer token")]
    NoToken,
}

/// Who asked for which token. A changed client secret is another key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    project: ProjectId,
    request: String,
    secret: [u8; 32],
}

impl TokenKey {
    pub(super) fn new(project: &ProjectId, spec: &OauthSpec, secret: &SecretString) -> Self {
        let secret = Sha256::digest(secret.expose_secret().as_bytes()).into();
        Self { project: project.clone(), request: request(spec), secret }
    }

    /// Is it a key of these client credentials, whatever their secret was?
    pub(super) fn is_of(&self, project: &ProjectId, spec: &OauthSpec) -> bool {
        self.project == *project && self.request == request(spec)
    }
}

fn request(spec: &OauthSpec) -> String {
    awooop_core::json::to_value(spec).to_string()
}

#[derive(Deserialize)]
struct Issued {
    access_token: String,
    token_type: String,
    expires_in: Option<f64>,
}

/// Fetches a token, and says how long it may be used.
pub(super) async fn fetch(
    spec: &OauthSpec,
    secret: &SecretString,
    allowed_private: &[String],
) -> Result<(SecretString, Duration), TokenError> {
    let asked = tokio::time::timeout(LIMIT, ask(spec, secret, allowed_private));
    asked.await.unwrap_or(Err(TokenError::Away))
}

async fn ask(
    spec: &OauthSpec,
    secret: &SecretString,
    allowed_private: &[String],
) -> Result<(SecretString, Duration), TokenError> {
    let pinned = pin(&spec.token_url, allowed_private).await.map_err(|_| TokenError::Away)?;
    let pinned = pinned.map_err(|_| TokenError::Address)?;
    let client = http_client_pinned(Some(&pinned)).map_err(|_| TokenError::Away)?;
    let form = "application/x-www-form-urlencoded";
    let mut request = client.post(spec.token_url.clone()).header(ACCEPT, "application/json");
    if spec.client_auth == ClientAuth::Basic {
        request = request.basic_auth(encoded(&spec.client_id), Some(encoded(secret.expose_secret())));
    }
    let request = request.header(CONTENT_TYPE, form).body(body(spec, secret));
    let mut answer = request.send().await.map_err(|_| TokenError::Away)?;
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| TokenError::Away)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(TokenError::NoToken);
        }
        bytes.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        return Err(TokenError::Refused(status.as_u16(), named(&bytes)));
    }
    let issued: Issued = serde_json::from_slice(&bytes).map_err(|_| TokenError::NoToken)?;
    let is_bearer = issued.token_type.eq_ignore_ascii_case("bearer");
    if !is_bearer
        || issued.access_token.is_empty()
        || !issued.access_token.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(TokenError::NoToken);
    }
    Ok((SecretString::from(issued.access_token), usable(issued.expires_in)))
}

/// How long a token that lives so many seconds is used.
fn usable(expires_in: Option<f64>) -> Duration {
    let life = match expires_in.map(Duration::try_from_secs_f64) {
        None => UNNAMED,
        Some(Ok(life)) => life,
        Some(Err(_)) => Duration::ZERO,
    };
    (life - BEFORE_END.min(life / 4)).min(LONGEST)
}

fn body(spec: &OauthSpec, secret: &SecretString) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if spec.client_auth == ClientAuth::Body {
        form.append_pair("client_id", &spec.client_id).append_pair("client_secret", secret.expose_secret());
    }
    let more = [("scope", &spec.scope), ("audience", &spec.audience), ("resource", &spec.resource)];
    for (name, value) in more.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        form.append_pair(name, value);
    }
    form.finish()
}

/// As RFC 6749 (section 2.3.1) has id and secret in the header: form-encoded each.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The error's name, where it is one of the standard's: nothing else of an answer is repeated.
fn named(body: &[u8]) -> Option<&'static str> {
    const NAMES: [&str; 7] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
    ];
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let name = body.get("error")?.as_str()?;
    NAMES.into_iter().find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_until_shortly_before_its_end() {
        for (expires_in, seconds) in [
            (Some(3600.0), 3540),
            (Some(300.0), 240),
            (Some(40.0), 30),
            (Some(0.0), 0),
            (Some(-5.0), 0),
            (Some(f64::NAN), 0),
            (Some(1e9), 3600),
            (None, 240),
        ] {
            assert_eq!(usable(expires_in), Duration::from_secs(seconds), "{expires_in:?}");
        }
    }

    #[test]
    fn an_issuers_words_are_repeated_only_where_they_are_the_standards() {
        assert_eq!(named(br#"{"error":"invalid_client","error_description":"x"}"#), Some("invalid_client"));
        assert_eq!(named(br#"{"error":"the secret hunter2 is wrong"}"#), None);
        assert_eq!(named(b"<html>"), None);
        let error = TokenError::Refused(401, Some("invalid_client")).to_string();
        assert_eq!(error, "the token issuer answers with HTTP 401 (invalid_client)");
    }
}
