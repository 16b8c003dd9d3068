//! One sign-in: the browser goes to the issuer and comes back with a code, the code becomes tokens.

use std::process::{Command, Stdio};
use std::time::Duration;

use awooop_store::Clock;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use url::Url;

use super::issuer::{Issuer, TokenFailure, Tokens, claims};
use super::loopback::{Loopback, Returned};
use super::{Login, Logins, Offer};
use crate::failure::Failure;
use crate::output::say_address;

/// How long the person has.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lets the person sign in at `server` as it offers, keeps the tokens, and gives them back.
///
/// # Errors
/// Any [`Failure`] but `Interrupted`.
pub(crate) async fn sign_in(server: &Url, offer: &Offer, opens_browser: bool) -> Result<Login, Failure> {
    let logins = Logins::here().ok_or_else(|| Failure::Invalid {
        message: "there is no place to keep a sign-in".to_owned(),
        hint: Some("set XDG_CONFIG_HOME or HOME".to_owned()),
    })?;
    let issuer = Issuer::discover(offer).await?;
    let stuck = |e: std::io::Error| in_the_way(format!("no port of this machine can be had: {e}"));
    let loopback = Loopback::open().await.map_err(stuck)?;
    let (state, nonce, verifier) = (unguessable(), unguessable(), unguessable());
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
    let address = issuer.begin(loopback.redirect_uri(), &state, &nonce, &challenge);
    say_address(&format!("sign in at {} in a browser on this machine:", offer.issuer), address.as_str());
    if opens_browser {
        open_browser(&address);
    }
    let returned = tokio::time::timeout(PATIENCE, loopback.wait(&state)).await;
    let returned = returned.map_err(|_| in_the_way("nobody signed in within 10 minutes".to_owned()))?;
    let code = match returned.map_err(stuck)? {
        Returned::Refused(why) => return Err(in_the_way(format!("the issuer let nobody in: {why}"))),
        // who answers must be whom we asked (RFC 9207)
        Returned::Code { issuer: Some(issuer), .. } if issuer != offer.issuer => {
            return Err(in_the_way(format!("the answer came from {issuer}, which was not asked")));
        }
        Returned::Code { code, .. } => code,
    };
    let tokens = issuer.exchange(&code, loopback.redirect_uri(), &verifier).await;
    let tokens = tokens.map_err(|failure| match failure {
        TokenFailure::Refused(why) => in_the_way(format!("the issuer gave no tokens: {why}")),
        TokenFailure::Failed(failure) => failure,
    })?;
    check_identity(&tokens, offer, &nonce)
        .map_err(|why| in_the_way(format!("the issuer's ID token {why}")))?;
    let login = Login {
        issuer: offer.issuer.clone(),
        client_id: offer.client_id.clone(),
        audience: offer.audience.clone(),
        scopes: offer.scopes.clone(),
        access_token: tokens.access_token,
        refresh_token: tokens.refresh_token,
        expires_at: tokens.expires_at,
    };
    logins.lock().await?.put(server, login.clone())?;
    Ok(login)
}

/// Forgets the sign-in at `server`, and tells the issuer where it can be told; was there one?
///
/// # Errors
/// [`Failure::Invalid`] for a file that cannot be read or written.
pub(crate) async fn sign_out(server: &Url) -> Result<bool, Failure> {
    let Some(logins) = Logins::here() else { return Ok(false) };
    if logins.find(server)?.is_none() {
        return Ok(false);
    }
    let Some(login) = logins.lock().await?.remove(server)? else { return Ok(false) };
    if let Some(token) = &login.refresh_token
        && let Ok(issuer) = Issuer::discover(&login.offer()).await
    {
        issuer.revoke(token).await;
    }
    Ok(true)
}

/// The ID token ties the tokens to this very sign-in. It came straight from the issuer, so its signature adds nothing.
fn check_identity(tokens: &Tokens, offer: &Offer, nonce: &str) -> Result<(), &'static str> {
    let claims = tokens.id_token.as_deref().and_then(claims).ok_or("is missing")?;
    let is_for_us = match &claims["aud"] {
        serde_json::Value::Array(several) => several.iter().any(|one| *one == *offer.client_id),
        one => *one == *offer.client_id,
    };
    if claims["iss"] != *offer.issuer || !is_for_us {
        return Err("is another's");
    }
    if claims["nonce"] != *nonce {
        return Err("belongs to another sign-in");
    }
    let is_over =
        claims["exp"].as_f64().is_none_or(|exp| exp <= Clock::system().now().as_second() as f64 - 60.0);
    if is_over { Err("is over") } else { Ok(()) }
}

/// 256 random bits as text.
fn unguessable() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// Tries to; the address is on the terminal anyway.
fn open_browser(address: &Url) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let browser =
        std::env::var("BROWSER").ok().filter(|name| !name.is_empty() && !name.contains(['%', ':', ' ']));
    let mut command = Command::new(browser.as_deref().unwrap_or(opener));
    command.arg(address.as_str()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    drop(command.spawn());
}

fn in_the_way(message: String) -> Failure {
    Failure::InTheWay { message, hint: "try again with `awooop login`".to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(changes: Value) -> Result<(), &'static str> {
        let offer = Offer {
            issuer: "https://id.example".to_owned(),
            client_id: "cli".to_owned(),
            audience: "awooop".to_owned(),
            scopes: Vec::new(),
        };
        let mut claims =
            json!({"iss": "https://id.example", "aud": "cli", "nonce": "n", "exp": 32_503_680_000_i64});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let token = format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let tokens = |id_token| Tokens {
            access_token: "a".to_owned().into(),
            refresh_token: None,
            id_token,
            expires_at: None,
        };
        assert_eq!(check_identity(&tokens(None), &offer, "n"), Err("is missing"));
        check_identity(&tokens(Some(token)), &offer, "n")
    }

    #[test]
    fn an_id_token_must_be_of_this_sign_in() {
        assert_eq!(judged(json!({})), Ok(()));
        assert_eq!(judged(json!({"aud": ["x", "cli"]})), Ok(()));
        assert_eq!(judged(json!({"iss": "https://other.example"})), Err("is another's"));
        assert_eq!(judged(json!({"aud": "awooop"})), Err("is another's"));
        assert_eq!(judged(json!({"nonce": "m"})), Err("belongs to another sign-in"));
        assert_eq!(judged(json!({"nonce": null})), Err("belongs to another sign-in"));
        assert_eq!(judged(json!({"exp": 1})), Err("is over"));
    }
}
