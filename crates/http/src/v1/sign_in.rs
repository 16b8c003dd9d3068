//! How people sign in here: what a client needs to begin, and no secret. Open to everybody, as nobody is signed in yet.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::AppState;

/// How people sign in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignInView {
    /// By OpenID Connect; null where people have keys only.
    oidc: Option<OidcView>,
}

/// An issuer, and how to ask it for a token that counts here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OidcView {
    /// The issuer's identifier; its discovery document lies below it.
    issuer: String,
    /// The public client to sign in as: authorization code with PKCE, redirected to `http://127.0.0.1:<port>/callback`.
    client_id: String,
    /// What the access token must be meant for.
    audience: String,
    /// The scopes to ask for.
    scopes: Vec<String>,
}

/// How people sign in.
#[utoipa::path(get, path = "/v1/platform/sign-in", operation_id = "get_sign_in", tag = "access", security(()),
    responses((status = 200, description = "How people sign in", body = SignInView)))]
pub(crate) async fn get_sign_in(State(state): State<AppState>) -> Json<SignInView> {
    let oidc = state.gateway.issuer().map(|issuer| {
        let settings = issuer.settings();
        OidcView {
            issuer: settings.issuer.clone(),
            client_id: settings.client_id.clone(),
            audience: settings.audience.clone(),
            scopes: settings.scopes(),
        }
    });
    Json(SignInView { oidc })
}
