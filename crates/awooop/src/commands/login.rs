//! `awooop login` and `awooop logout`: a person's sign-in at a server, kept on this machine.

use serde_json::json;

use super::Session;
use crate::cli::{LoginArgs, LogoutArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Reply;
use crate::settings::Settings;
use crate::sign_in::{Offer, sign_in, sign_out};

/// Signs in, and shows that the server takes it.
pub(crate) async fn login(args: LoginArgs, _session: &Session) -> Result<Reply, Failure> {
    let settings = Settings::find(&args.server, None)?;
    let found = Client::of_nobody(&settings)?.get(&["v1", "platform", "sign-in"], &[]).await?;
    let offer: Option<Offer> = serde_json::from_value(found["oidc"].clone()).ok();
    let offer = offer.ok_or_else(|| Failure::InTheWay {
        message: format!("nobody signs in at {}", settings.shown_url()),
        hint: "its operator has to name an issuer: docs/access.md; until then use a key".to_owned(),
    })?;
    let login = sign_in(&settings.url, &offer, !args.no_browser).await?;
    let client = Client::of_login(&settings)?;
    let who = client.get(&["v1", "platform", "whoami"], &[]).await?;
    let projects: Vec<&str> =
        who["projects"].as_array().into_iter().flatten().filter_map(|p| p["project_id"].as_str()).collect();
    let place = match projects.as_slice() {
        [] => "your groups give you nothing in any project yet".to_owned(),
        [one] => format!("project {one}"),
        several => format!("projects {}; name one with --project", several.join(", ")),
    };
    let text = format!("signed in at {}: {place}", settings.shown_url());
    let lasts = match (&login.refresh_token, login.expires_at) {
        (Some(_), _) => "it is refreshed by itself".to_owned(),
        (None, Some(at)) => format!("it lasts until {at}: the issuer gave no refresh token"),
        (None, None) => "the issuer does not say how long it lasts".to_owned(),
    };
    let document = json!({"url": settings.shown_url(), "issuer": offer.issuer, "whoami": who,
        "expires_at": login.expires_at, "is_refreshed": login.refresh_token.is_some()});
    let reply = Reply::done(document, text).with_note(lasts);
    Ok(match std::env::var_os("AWOOOP_KEY").is_some_and(|key| !key.is_empty()) {
        true => reply.with_note("AWOOOP_KEY is set and goes before the sign-in; unset it to act as yourself"),
        false => reply,
    })
}

/// Forgets the sign-in.
pub(crate) async fn logout(args: LogoutArgs, _session: &Session) -> Result<Reply, Failure> {
    let settings = Settings::find(&args.server, None)?;
    let was_in = sign_out(&settings.url).await?;
    let text = match was_in {
        true => format!("signed out at {}", settings.shown_url()),
        false => format!("nobody was signed in at {}", settings.shown_url()),
    };
    Ok(Reply::done(json!({"url": settings.shown_url(), "was_signed_in": was_in}), text))
}
