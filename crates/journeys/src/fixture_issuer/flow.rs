//! The authorization code flow: what a client asks is checked to the letter, and a code and a refresh token are good
//! for one use.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{CLIENT, Person, Shared, locked};

/// What a code was given for.
pub(super) struct Code {
    challenge: String,
    redirect_uri: String,
    nonce: String,
    person: Person,
}

type Fields = HashMap<String, String>;

/// Signs the next person in without asking, and sends the browser back.
pub(super) async fn authorize(State(shared): State<Arc<Shared>>, Query(asked): Query<Fields>) -> Response {
    let get = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
    let redirect_uri = get("redirect_uri");
    let is_loopback = redirect_uri.starts_with("http://127.0.0.1:") && redirect_uri.ends_with("/callback");
    let is_right = get("response_type") == "code"
        && get("client_id") == CLIENT
        && is_loopback
        && get("scope").split(' ').any(|scope| scope == "openid")
        && get("code_challenge_method") == "S256"
        && get("code_challenge").len() == 43
        && get("state").len() >= 22
        && get("nonce").len() >= 22;
    if !is_right {
        return (StatusCode::BAD_REQUEST, "that is not how it is asked").into_response();
    }
    let code = format!("code-{}", shared.made.fetch_add(1, Ordering::SeqCst));
    let given = Code {
        challenge: get("code_challenge").to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        nonce: get("nonce").to_owned(),
        person: locked(&shared.person).clone(),
    };
    locked(&shared.codes).insert(code.clone(), given);
    Redirect::to(&format!("{redirect_uri}?code={code}&state={}&iss={}", get("state"), shared.base))
        .into_response()
}

/// Tokens for a code, or for a refresh token.
pub(super) async fn token(State(shared): State<Arc<Shared>>, Form(asked): Form<Fields>) -> Response {
    let get = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
    let refuse = || (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    if get("client_id") != CLIENT {
        return refuse();
    }
    match get("grant_type") {
        "authorization_code" => {
            let Some(code) = locked(&shared.codes).remove(get("code")) else { return refuse() };
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(get("code_verifier")));
            if challenge != code.challenge || get("redirect_uri") != code.redirect_uri {
                return refuse();
            }
            Json(answer(&shared, code.person, Some(&code.nonce))).into_response()
        }
        "refresh_token" => {
            let person = locked(&shared.refreshing).remove(get("refresh_token"));
            let Some(person) = person else { return refuse() };
            Json(answer(&shared, person, None)).into_response()
        }
        _ => refuse(),
    }
}

fn answer(shared: &Shared, person: Person, nonce: Option<&str>) -> Value {
    let refresh_token = format!("refresh-{}", shared.made.fetch_add(1, Ordering::SeqCst));
    let access_token = shared.access_token(json!({"sub": person.subject, "groups": person.groups}));
    let mut answer = json!({"access_token": access_token, "token_type": "Bearer",
        "expires_in": shared.lifetime_s.load(Ordering::SeqCst), "refresh_token": refresh_token});
    if let Some(nonce) = nonce {
        let claims = shared.claims(&json!({"aud": CLIENT, "sub": person.subject, "nonce": nonce}));
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": locked(&shared.key).0});
        answer["id_token"] = shared.sign(&header.to_string(), &claims.to_string()).into();
    }
    locked(&shared.refreshing).insert(refresh_token, person);
    answer
}
