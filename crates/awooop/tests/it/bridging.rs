//! The gateway in front of tool servers of one revision each: what it sends them, what it leaves out, how
//! often it asks, and what of their answers reaches the client.

use std::time::Duration;

use awooop_journeys::client::{Answer, Api};
use awooop_journeys::fixture_everything::{FixtureEverything, Speaks};
use serde_json::{Value, json};

use crate::support::{Site, make_everything, site};

/// Between two looks at what the fixture saw.
const STEP: Duration = Duration::from_millis(2);
/// What a call may take where it must be cut: enough for one that is not held on a busy machine.
const TIMEOUT_MS: u64 = 5_000;

/// A client at `/mcp/kit`.
struct Client(Api);

impl Client {
    async fn of(site: &Site, project: &str, fixture: &FixtureEverything) -> Client {
        let key = make_everything(site.server.api(), project, fixture).await;
        Client(Api::new(site.server.url(), Some(&key)).unwrap())
    }

    /// Asks in 2026-07-28, with these headers beside the version.
    async fn ask_new(&self, headers: &[(&str, &str)], method: &str, mut params: Value) -> Answer {
        let version = "2026-07-28";
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = version.into();
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {}});
        let always = [("Accept", "application/json, text/event-stream"), ("MCP-Protocol-Version", version)];
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let headers = [&always[..], headers].concat();
        self.0.send("POST", "/mcp/kit", &headers, Some(&message)).await.unwrap()
    }

    /// Asks in 2025-11-25.
    async fn ask(&self, method: &str, params: Value) -> Value {
        let headers =
            [("Accept", "application/json, text/event-stream"), ("MCP-Protocol-Version", "2025-11-25")];
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.0.send("POST", "/mcp/kit", &headers, Some(&message)).await.unwrap().json()
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments})).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_an_old_server_is_asked_once_a_call_and_its_answer_stays_whole() {
    let (site, fixture) = (site().await, FixtureEverything::start(Speaks::Only2025).await.unwrap());
    let client = Client::of(&site, "old-server", &fixture).await;
    client.call("echo", json!({"text": "first"})).await;
    fixture.forget();
    let meta = json!({"progressToken": "mine", "example.com/trace": "x", "awooop/idempotency-key": "forged"});
    let params = json!({"name": "echo", "arguments": {"text": "hi"}, "_meta": meta});
    let answer = client.ask("tools/call", params).await;
    let result = &answer["result"];
    assert_eq!(result["content"][0]["futureMember"], json!({"kept": true}), "{answer}");
    assert_eq!(result["structuredContent"], json!({"text": "hi"}));
    assert_eq!(result["_meta"]["example.com/from"], "fixture");

    let seen = fixture.seen();
    assert_eq!(seen.len(), 1, "one request upstream: {seen:?}");
    let call = &seen[0];
    assert_eq!(call.header("mcp-protocol-version"), Some("2025-11-25"));
    assert!(call.header("mcp-session-id").is_some() && call.header("authorization").is_none());
    assert_eq!(call.message["params"]["name"], "echo", "under its own name");
    assert_ne!(call.meta()["awooop/idempotency-key"], "forged", "the key is the gateway's to give");
    assert_ne!(call.meta()["progressToken"], "mine", "tokens of different clients never meet");
    assert_eq!(call.meta().get("io.modelcontextprotocol/protocolVersion"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_session_that_the_server_ended_is_opened_again_and_the_call_made_once() {
    let (site, fixture) = (site().await, FixtureEverything::start(Speaks::Only2025).await.unwrap());
    let client = Client::of(&site, "ended-session", &fixture).await;
    client.call("echo", json!({"text": "first"})).await;
    fixture.end_sessions();
    fixture.forget();
    let answer = client.call("echo", json!({"text": "second"})).await;
    assert_eq!(answer["result"]["structuredContent"], json!({"text": "second"}), "{answer}");
    let sessions: Vec<_> =
        fixture.calls("echo").iter().map(|call| call.headers["mcp-session-id"].clone()).collect();
    assert!(
        sessions.len() == 2 && sessions[0] != sessions[1],
        "refused once, carried out once: {sessions:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_stream_that_was_cut_is_taken_up_again() {
    let (site, fixture) = (site().await, FixtureEverything::start(Speaks::Only2025).await.unwrap());
    let client = Client::of(&site, "cut-stream", &fixture).await;
    let answer = client.call("test_reconnection", json!({})).await;
    let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
    assert_eq!(text, "Answered after the stream was closed", "{answer}");
    assert_eq!(fixture.calls("test_reconnection").len(), 1, "asked for once");
    assert!(fixture.seen().iter().any(|seen| seen.verb == "GET" && seen.header("last-event-id").is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_question_of_an_old_server_that_nobody_can_answer_ends_the_call() {
    let (site, fixture) = (site().await, FixtureEverything::start(Speaks::Only2025).await.unwrap());
    let client = Client::of(&site, "unanswered", &fixture).await;
    let answer = client.call("ask_name", json!({})).await;
    assert_eq!(answer["result"]["isError"], true, "the gateway promises the server nothing: {answer}");
    assert_eq!(fixture.calls("ask_name").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_call_that_takes_too_long_is_cancelled_upstream_and_holds_nothing_else_up() {
    let (site, fixture) = (site().await, FixtureEverything::start(Speaks::Only2025).await.unwrap());
    let client = Client::of(&site, "too-long", &fixture).await;
    let mut spec = fixture.provider_spec();
    spec["timeout_ms"] = TIMEOUT_MS.into();
    let kit = json!({"kind": "provider", "project": "too-long", "id": "kit", "spec": spec});
    site.server.api().in_project("too-long").apply(&[kit]).await.unwrap();
    fixture.hold();
    let meanwhile = async {
        while fixture.calls("held").is_empty() {
            tokio::time::sleep(STEP).await;
        }
        client.call("echo", json!({"text": "meanwhile"})).await
    };
    let (cut, echoed) = tokio::join!(client.call("held", json!({})), meanwhile);
    assert_eq!(echoed["result"]["structuredContent"], json!({"text": "meanwhile"}), "{echoed}");
    let said = cut["result"]["content"][0]["text"].as_str().unwrap_or_default();
    assert!(said.starts_with("E-MCP-UPSTREAM-002"), "{cut}");
    while fixture.cancelled().is_empty() {
        tokio::time::sleep(STEP).await;
    }
    assert_eq!(fixture.cancelled(), [fixture.calls("held")[0].message["id"].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_new_client_calls_an_old_server_and_each_hears_its_own_revision() {
    let (site, fixture) = (site().await, FixtureEverything::start(Speaks::Only2025).await.unwrap());
    let client = Client::of(&site, "new-client", &fixture).await;
    let listed = client.ask_new(&[("Mcp-Method", "tools/list")], "tools/list", json!({})).await.json();
    let result = &listed["result"];
    assert_eq!(result["tools"].as_array().map(Vec::len), Some(fixture.tools().len()), "{listed}");
    assert_eq!((&result["resultType"], &result["cacheScope"]), (&json!("complete"), &json!("private")));
    fixture.forget();

    let params = json!({"name": "echo", "arguments": {"text": "hi"}});
    let headers = [("Mcp-Method", "tools/call"), ("Mcp-Name", "echo")];
    let answer = client.ask_new(&headers, "tools/call", params.clone()).await.json();
    assert_eq!(answer["result"]["structuredContent"], json!({"text": "hi"}), "{answer}");
    assert_eq!(answer["result"]["resultType"], "complete");
    let seen = fixture.seen();
    assert_eq!(seen.len(), 1, "one request upstream: {seen:?}");
    assert_eq!(seen[0].header("mcp-protocol-version"), Some("2025-11-25"));
    let meta = seen[0].meta().to_string();
    assert!(
        !meta.contains("io.modelcontextprotocol/"),
        "an old server is told nothing of the new revision: {meta}"
    );

    for headers in [
        [("Mcp-Method", "tools/call"), ("Mcp-Name", "held")],
        [("Mcp-Method", "tools/list"), ("Mcp-Name", "echo")],
    ] {
        let refused = client.ask_new(&headers, "tools/call", params.clone()).await;
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!(-32020)), "{headers:?}");
    }
    assert_eq!(fixture.seen().len(), 1, "what is refused does not reach the server");
}
