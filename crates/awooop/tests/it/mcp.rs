//! `/mcp` as the official Python SDK sees it, with a key bound to an agent: lists, calls, and the gates'
//! refusals in the form each has on MCP.

use std::process::Command;

use awooop_journeys::client::Api;
use awooop_journeys::fixture_mcp::{BIG_CHARS, FixtureMcp, PLANTED};
use serde_json::{Value, json};

use crate::support::{make_project, python, root, site};

/// What a model gets of one result at most, marker included.
const RESULT_CHARS: usize = 16_384;

/// Runs the SDK against the server and returns what it printed.
async fn ask(url: &str, key: &str, mode: &str, calls: Value) -> Result<Value, String> {
    let mut command = Command::new(python());
    command.arg(root().join("crates/awooop/tests/it/mcp_client.py"));
    command.args([&format!("{url}/mcp"), key, mode, &calls.to_string()]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).expect("one JSON document")),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

async fn agent_key(owner: &Api) -> String {
    owner.create_key(&json!({"name": "tester-key", "agent_id": "tester"})).await.unwrap()
}

/// The text a call's result holds.
fn text(call: &Value) -> &str {
    call["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {call}"))
}

fn assert_refused(call: &Value, code: i64, gate: &str) {
    assert_eq!(call["error"]["code"], code, "{call}");
    if gate != "E-MCP-GATE-002" {
        assert_eq!(call["error"]["data"]["code"], gate, "{call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_the_official_sdk_lists_and_calls_and_is_refused_at_the_gates() {
    let (site, fixture) = (site().await, FixtureMcp::start().await.unwrap());
    let owner = make_project(site.server.api(), "mcp-one", &fixture, "fail").await;
    let other = FixtureMcp::start().await.unwrap();
    make_project(site.server.api(), "mcp-two", &other, "echo").await;
    let key = agent_key(&owner).await;
    let calls = json!([
        ["kit__echo", {"text": "héllo 你好"}],
        ["kit__secret", {}],
        ["kit__big", {}],
        ["kit__nothing", {}],
        ["nonsense", {}],
        ["kit__fail", {}],
        ["kit__echo", {"txt": 5}],
        ["kit__echo", {"text": format!("the key is {PLANTED}")}],
    ]);
    for mode in ["auto", "legacy"] {
        fixture.forget();
        let seen = ask(site.server.url(), &key, mode, calls.clone()).await.unwrap();
        assert_eq!(seen["protocol"], "2025-11-25", "{mode}");
        let mut names: Vec<&str> =
            seen["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["kit__big", "kit__echo", "kit__secret", "kit__slow"], "what is granted");
        let call = |n: usize| &seen["calls"][n];
        assert_eq!(text(call(0)), "echo: héllo 你好");
        assert_eq!(call(0)["result"]["structuredContent"], json!({"text": "héllo 你好"}));

        let secret = call(1)["result"].to_string();
        assert!(!secret.contains(PLANTED) && secret.contains("region"), "masked, the rest stays: {secret}");
        let big = text(call(2));
        let kept = big.chars().count();
        assert!(kept <= RESULT_CHARS && kept > RESULT_CHARS - 200, "cut at the cap, marker included: {kept}");
        let marker = big.rsplit_once("[truncated: ").map(|(_, marker)| marker).unwrap_or_default();
        assert!(marker.contains(&format!(" of {BIG_CHARS} characters, sha256 ")), "{marker}");

        assert_refused(call(3), -32602, "E-MCP-GATE-002");
        assert_refused(call(4), -32602, "E-MCP-GATE-002");
        assert_refused(call(5), -32001, "E-MCP-GATE-004");
        for wrong in [6, 7] {
            let refused = call(wrong);
            assert_eq!(refused["result"]["isError"], true, "{refused}");
            let first = text(refused).lines().next().unwrap_or_default();
            assert!(first.contains("E-MCP-GATE-006"), "{refused}");
            assert!(!text(refused).contains(PLANTED));
        }
        let made: Vec<String> = fixture.calls().into_iter().map(|call| call.tool).collect();
        assert_eq!(made, ["echo", "secret", "big"], "what is refused never reaches the server");
    }
    assert!(other.calls().is_empty(), "another project's server is never called");
    let (code, found) = site.home.cli_json(&["doctor"]).await.unwrap();
    assert_eq!(code, 0, "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_keys_without_an_agent_list_nothing_and_bad_keys_are_unauthorized() {
    let (site, fixture) = (site().await, FixtureMcp::start().await.unwrap());
    let owner = make_project(site.server.api(), "mcp-one", &fixture, "fail").await;
    let plain = owner.create_key(&json!({"name": "someone", "role": "operator"})).await.unwrap();
    let seen = ask(site.server.url(), &plain, "auto", json!([["kit__echo", {"text": "a"}]])).await.unwrap();
    assert_eq!(seen["tools"], json!([]));
    assert!(seen["instructions"].as_str().is_some_and(|why| why.contains("agent")), "{seen}");
    assert_refused(&seen["calls"][0], -32001, "E-MCP-GATE-001");

    let key = agent_key(&owner).await;
    let keys = owner.get("/v1/platform/keys").await.unwrap().expect(200).unwrap();
    let bound = keys["items"].as_array().unwrap().iter().find(|item| item["agent_id"] == "tester").unwrap();
    let id = bound["key_id"].as_str().unwrap();
    ask(site.server.url(), &key, "auto", json!([])).await.expect("it works until it is revoked");
    owner.post(&format!("/v1/platform/keys/{id}/revoke"), &json!({})).await.unwrap().expect(200).unwrap();
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    for bad in [Some(key.as_str()), Some("awp_x"), Some(""), None] {
        let api = Api::new(site.server.url(), bad).unwrap();
        let headers = [("Accept", "application/json, text/event-stream")];
        let answer = api.send("POST", "/mcp", &headers, Some(&list)).await.unwrap();
        assert_eq!(answer.status, 401, "{bad:?}: {}", answer.text);
        assert!(answer.headers.contains_key("www-authenticate"), "{bad:?}");
        assert_eq!(answer.json()["error"]["data"]["code"], "E-MCP-GATE-001", "{bad:?}: {}", answer.text);
    }
    assert!(ask(site.server.url(), &key, "auto", json!([])).await.is_err());
    assert!(fixture.calls().is_empty());
}
