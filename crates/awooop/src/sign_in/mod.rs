//! Signing in as a person from the command line: authorization code with PKCE, the browser sent back to a port of this
//! machine (RFC 8252), and the tokens that come of it, kept and refreshed.
//!
//! The server says which issuer and client; the issuer says where to go. A refresh token goes to that issuer only, an
//! access token to that server only. What an answer must agree with (state, nonce, verifier, issuer) is made anew for
//! each sign-in and kept in memory.

mod flow;
mod issuer;
mod logins;
mod loopback;

use std::sync::Arc;

use awooop_store::Clock;
use jiff::Timestamp;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use url::Url;

pub(crate) use flow::{sign_in, sign_out};
pub(crate) use issuer::Offer;
pub(crate) use logins::{Login, Logins};

use crate::failure::Failure;

/// A token that ends within so many seconds is taken for over.
const NEAR_S: i64 = 30;

/// A sign-in at one server, refreshed when it has to be. Clones share it.
#[derive(Clone)]
pub(crate) struct Session {
    server: Url,
    logins: Logins,
    login: Arc<Mutex<Login>>,
}

impl Session {
    /// The sign-in that this machine has at `server`, if any.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for a file that cannot be read.
    pub(crate) fn find(server: &Url) -> Result<Option<Self>, Failure> {
        let Some(logins) = Logins::here() else { return Ok(None) };
        let found = logins.find(server)?;
        Ok(found.map(|login| Self { server: server.clone(), logins, login: Arc::new(Mutex::new(login)) }))
    }

    /// The header that proves the person, with a token that is still good.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when the sign-in is over and cannot be refreshed.
    pub(crate) async fn bearer(&self) -> Result<HeaderValue, Failure> {
        let mut login = self.login.lock().await;
        if is_over(&login, Clock::system().now()) {
            *login = self.refreshed(&login).await?;
        }
        bearer(&login.access_token)
    }

    /// A refresh token is often good for one use: whoever holds the file's lock uses it, the others read what came.
    async fn refreshed(&self, seen: &Login) -> Result<Login, Failure> {
        let over = || Failure::Invalid {
            message: format!("the sign-in at {} is over", self.server),
            hint: Some("sign in again with `awooop login`".to_owned()),
        };
        let held = self.logins.lock().await?;
        let login = held.find(&self.server)?.ok_or_else(over)?;
        let is_newer = login.access_token.expose_secret() != seen.access_token.expose_secret();
        if is_newer && !is_over(&login, Clock::system().now()) {
            return Ok(login);
        }
        let Some(token) = login.refresh_token.clone() else { return Err(over()) };
        let issuer = issuer::Issuer::discover(&login.offer()).await?;
        let tokens = issuer.refresh(&token).await.map_err(|failure| match failure {
            issuer::TokenFailure::Refused(_) => over(),
            issuer::TokenFailure::Failed(failure) => failure,
        })?;
        let fresh = Login {
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token.or(login.refresh_token.clone()),
            expires_at: tokens.expires_at,
            ..login
        };
        held.put(&self.server, fresh.clone())?;
        Ok(fresh)
    }
}

fn is_over(login: &Login, now: Timestamp) -> bool {
    login.expires_at.is_some_and(|at| at.as_second() - now.as_second() < NEAR_S)
}

/// The header of a key or token.
///
/// # Errors
/// [`Failure::Invalid`] for what fits in no header.
pub(crate) fn bearer(token: &SecretString) -> Result<HeaderValue, Failure> {
    let mut header = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
        .map_err(|_| Failure::invalid("the key holds characters that no key has"))?;
    header.set_sensitive(true);
    Ok(header)
}
