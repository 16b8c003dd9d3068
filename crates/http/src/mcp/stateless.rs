//! Revision 2026-07-28: no handshake and no sessions. Every request says in `_meta` which revision it speaks and what
//! its client can, and repeats in its headers what the body says, so that what stands before us can route without
//! reading bodies; one that says two things is refused, since we would do the one and they have judged the other.
//!
//! Codes and statuses are the revision's: -32020 for headers that differ, -32022 for a revision that is not spoken, both
//! with HTTP 400; -32601 with 404.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use rmcp::model::ProtocolVersion;
use serde_json::{Value, json};

use super::reply::{Asked, INVALID_PARAMS, Refusal};
use super::tools::{self, WITHOUT_AGENT};
use super::{Message, View};
use crate::caller::Access;
use crate::state::AppState;

/// The revision.
const REVISION: ProtocolVersion = ProtocolVersion::V_2026_07_28;
/// Where a request names its revision.
pub(super) const VERSION_META: &str = "io.modelcontextprotocol/protocolVersion";
/// Where a request says what its client can.
const CAPABILITIES_META: &str = "io.modelcontextprotocol/clientCapabilities";

/// A header does not say what the body says.
const HEADER_MISMATCH: i32 = -32020;
/// The revision is not spoken here.
const UNSUPPORTED_REVISION: i32 = -32022;
/// JSON-RPC: no such method.
const NO_METHOD: i32 = -32601;

/// Is a message of this revision, or of one that is not known? What has sessions is known by its header alone.
pub(super) fn is_asked(headers: &HeaderMap, message: &Message) -> bool {
    let has_handshake = |name: &str| with_handshake().any(|known| known.as_str() == name);
    let in_body = message.meta(VERSION_META).and_then(Value::as_str);
    let in_header = text(headers, "mcp-protocol-version");
    in_body.or(in_header).is_some_and(|named| !has_handshake(named))
        || message.method.as_deref() == Some("server/discover")
}

fn with_handshake() -> impl Iterator<Item = &'static ProtocolVersion> {
    ProtocolVersion::known_up_to(&REVISION).iter().filter(|known| known.has_initialize())
}

/// Every revision spoken here, newest first.
fn spoken() -> Vec<&'static str> {
    ProtocolVersion::known_up_to(&REVISION).iter().rev().map(ProtocolVersion::as_str).collect()
}

/// Answers one message.
pub(super) async fn serve(
    state: &AppState,
    access: &Access,
    view: &View,
    headers: &HeaderMap,
    message: Message,
    trace_id: Option<String>,
) -> Result<Response, Refusal> {
    let method = message.method.clone().unwrap_or_default();
    check(headers, &method, &message).map_err(|refusal| refusal.to(message.id.as_ref()))?;
    let Some(id) = message.id else { return Ok(StatusCode::ACCEPTED.into_response()) };
    let asked = Asked::stateless(id);
    match method.as_str() {
        "server/discover" => Ok(asked.listing(discovered(access))),
        "tools/list" => Ok(tools::list(state, access, view, &asked, message.params).await),
        "tools/call" => Ok(tools::call(state, access, view, &asked, message.params, trace_id).await),
        _ => {
            let message = "there is no such method here";
            Err(Refusal::of(StatusCode::NOT_FOUND, NO_METHOD, message, None).to(Some(asked.id())))
        }
    }
}

/// What this server is and can. Nothing is told of changes, so nobody can listen for them.
fn discovered(access: &Access) -> Value {
    let mut found = json!({"supportedVersions": spoken(), "capabilities": {"tools": {}}});
    if access.caller.agent().is_none() {
        found["instructions"] = WITHOUT_AGENT.into();
    }
    found
}

/// What the transport asks of every message.
fn check(headers: &HeaderMap, method: &str, message: &Message) -> Result<(), Refusal> {
    let version = text(headers, "mcp-protocol-version")
        .ok_or_else(|| mismatch("the header MCP-Protocol-Version is missing"))?;
    let named = message.meta(VERSION_META).and_then(Value::as_str);
    let (Some(named), true) = (named, message.meta(CAPABILITIES_META).is_some_and(Value::is_object)) else {
        let said = format!(
            "params._meta names the revision ({VERSION_META}) and what the client can ({CAPABILITIES_META})"
        );
        return Err(Refusal::of(StatusCode::BAD_REQUEST, INVALID_PARAMS, &said, None));
    };
    if named != version {
        return Err(mismatch("the header MCP-Protocol-Version is not what the body says"));
    }
    if version != REVISION.as_str() {
        let data = json!({"supported": spoken(), "requested": version});
        let said = "this revision of the protocol is not spoken here";
        return Err(Refusal::of(StatusCode::BAD_REQUEST, UNSUPPORTED_REVISION, said, Some(data)));
    }
    if text(headers, "mcp-method") != Some(method) {
        return Err(mismatch("the header Mcp-Method is not what the body says"));
    }
    let name = match method {
        "tools/call" | "prompts/get" => message.param("name"),
        "resources/read" => message.param("uri"),
        _ => return Ok(()),
    };
    let said = text(headers, "mcp-name").and_then(decoded);
    match (name.and_then(Value::as_str), said) {
        (Some(name), Some(said)) if name == said => Ok(()),
        (None, _) => Ok(()),
        _ => Err(mismatch("the header Mcp-Name is not what the body says")),
    }
}

fn mismatch(what: &str) -> Refusal {
    Refusal::of(StatusCode::BAD_REQUEST, HEADER_MISMATCH, what, None)
}

/// A header's one value; one that stands twice says nothing.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok().map(str::trim)
}

/// The value of a header, out of `=?base64?…?=` where it is wrapped so.
fn decoded(value: &str) -> Option<Cow<'_, str>> {
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        None => Some(Cow::Borrowed(value)),
        Some(wrapped) => String::from_utf8(STANDARD.decode(wrapped).ok()?).ok().map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(method: &str, params: Value) -> Message {
        serde_json::from_value(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
            .unwrap()
    }

    fn meta() -> Value {
        json!({VERSION_META: "2026-07-28", CAPABILITIES_META: {}})
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).fold(
            HeaderMap::new(),
            |mut all, (name, value): (http::HeaderName, _)| {
                all.append(name, value);
                all
            },
        )
    }

    const VERSION: (&str, &str) = ("mcp-protocol-version", "2026-07-28");
    const CALL: (&str, &str) = ("mcp-method", "tools/call");

    fn number(headers: &HeaderMap, message: &Message) -> Option<i64> {
        let method = message.method.clone().unwrap();
        check(headers, &method, message).err().map(|refusal| refusal.number())
    }

    #[test]
    fn the_revision_is_told_by_the_body_or_by_the_header() {
        let plain = message("tools/list", json!({}));
        for (named, is_here) in [
            ("2026-07-28", true),
            ("2025-11-25", false),
            ("2024-11-05", false),
            ("1999-01-01", true),
            ("nonsense", true),
        ] {
            assert_eq!(is_asked(&headers(&[("mcp-protocol-version", named)]), &plain), is_here, "{named}");
            let told = message("tools/list", json!({"_meta": {VERSION_META: named}}));
            assert_eq!(is_asked(&HeaderMap::new(), &told), is_here, "{named}");
        }
        assert!(
            !is_asked(&HeaderMap::new(), &plain) && !is_asked(&HeaderMap::new(), &message("ping", json!({})))
        );
        assert!(is_asked(&HeaderMap::new(), &message("server/discover", json!({}))));
    }

    #[test]
    fn headers_say_what_the_body_says() {
        let call = message("tools/call", json!({"name": "kit__查詢", "_meta": meta()}));
        let wrapped = format!("=?base64?{}?=", STANDARD.encode("kit__查詢"));
        assert_eq!(number(&headers(&[VERSION, CALL, ("mcp-name", &wrapped)]), &call), None);
        for wrong in [
            headers(&[CALL, ("mcp-name", &wrapped)]),
            headers(&[VERSION, ("mcp-name", &wrapped)]),
            headers(&[VERSION, CALL]),
            headers(&[VERSION, CALL, ("mcp-name", "kit__echo")]),
            headers(&[VERSION, CALL, ("mcp-name", "=?base64?%%%?=")]),
            headers(&[VERSION, ("mcp-method", "tools/list"), ("mcp-name", &wrapped)]),
            headers(&[VERSION, CALL, CALL, ("mcp-name", &wrapped)]),
            headers(&[VERSION, CALL, ("mcp-name", &wrapped), ("mcp-name", &wrapped)]),
            headers(&[("mcp-protocol-version", "2026-07-29"), CALL, ("mcp-name", &wrapped)]),
        ] {
            assert_eq!(number(&wrong, &call), Some(i64::from(HEADER_MISMATCH)), "{wrong:?}");
        }
    }

    #[test]
    fn who_does_not_say_what_it_speaks_and_can_is_told_what_is_missing() {
        let all = headers(&[VERSION, ("mcp-method", "tools/list")]);
        for lacking in [json!({}), json!({VERSION_META: "2026-07-28"}), json!({CAPABILITIES_META: {}})] {
            let asked = message("tools/list", json!({ "_meta": lacking }));
            assert_eq!(number(&all, &asked), Some(i64::from(INVALID_PARAMS)), "{lacking}");
        }
        let newer = json!({VERSION_META: "2027-01-01", CAPABILITIES_META: {}});
        let asked = message("tools/list", json!({ "_meta": newer }));
        let newer = headers(&[("mcp-protocol-version", "2027-01-01"), ("mcp-method", "tools/list")]);
        assert_eq!(number(&newer, &asked), Some(i64::from(UNSUPPORTED_REVISION)));
    }
}
