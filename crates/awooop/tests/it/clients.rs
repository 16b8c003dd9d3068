//! Clients that others wrote, driven against `/mcp/{provider_id}` with the fixture that has everything behind it,
//! and against that fixture alone: the TypeScript SDK (both of its lines), the Python SDK, the MCP inspector.
//!
//! Each lists, calls, answers the server's questions, follows progress and is refused. What a client gets of
//! the gateway today stands in the constants below.

use std::process::{Command, Stdio};

use awooop_journeys::fixture_everything::{FixtureEverything, Speaks};
use serde_json::{Value, json};

use crate::support::{make_everything_but, node, npm_peers, python, root, site};

/// The revision that a client gets which would rather speak 2026-07-28.
const PREFERRED: &str = "2026-07-28";
/// What arrives of three reports of progress.
const PROGRESS: &[i64] = &[0, 50, 100];
/// What a tool answers that asks the person behind the client.
const ASKED: &str = "the client does not declare elicitation";

/// A client, and how it is told to agree on a revision.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Peer {
    /// `@modelcontextprotocol/sdk`: 2025-11-25 only.
    TypeScriptV1,
    /// `@modelcontextprotocol/client`, in the mode of this name.
    TypeScriptV2(&'static str),
    /// `mcp`, in the mode of this name.
    Python(&'static str),
}

const PEERS: [Peer; 5] = [
    Peer::TypeScriptV1,
    Peer::TypeScriptV2("legacy"),
    Peer::TypeScriptV2("auto"),
    Peer::Python("legacy"),
    Peer::Python("auto"),
];

impl Peer {
    /// Does it try 2026-07-28 first?
    fn is_new(self) -> bool {
        matches!(self, Peer::TypeScriptV2("auto") | Peer::Python("auto"))
    }

    fn command(self, server: &Value, calls: &Value) -> Command {
        let (mut command, mode) = match self {
            Peer::Python(mode) => {
                let mut command = Command::new(python());
                command.arg(root().join("crates/awooop/tests/it/mcp_client.py"));
                (command, mode)
            }
            Peer::TypeScriptV1 => (script("v1"), "legacy"),
            Peer::TypeScriptV2(mode) => (script("v2"), mode),
        };
        command.args([&server.to_string(), mode, &calls.to_string()]);
        command
    }

    /// What it printed, or what it said when it gave up.
    async fn drive(self, url: &str, key: &str, calls: Value) -> Result<Value, String> {
        let server = json!({"url": url, "headers": {"Authorization": format!("Bearer {key}")}});
        let (code, printed, said) = ended(self.command(&server, &calls)).await;
        match code {
            0 => Ok(serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{self:?}: {e}: {printed}"))),
            _ => Err(said),
        }
    }
}

/// The driver of the TypeScript SDKs, whose imports are looked for beside it.
fn script(line: &str) -> Command {
    let peers = npm_peers();
    let beside = peers.join("client.mjs");
    let text = std::fs::read(root().join("crates/awooop/tests/peers/client.mjs")).unwrap();
    // other tests may be reading it: it is whole at every moment
    let new = tempfile::NamedTempFile::new_in(&peers).unwrap();
    std::fs::write(&new, text).unwrap();
    new.persist(&beside).unwrap();
    let mut command = node(&peers);
    command.arg(beside).arg(line);
    command
}

async fn ended(mut command: Command) -> (i32, String, String) {
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// The names of the tools, whichever form the client prints them in.
fn names(seen: &Value) -> Vec<&str> {
    let tools = seen["tools"].as_array().unwrap().iter();
    tools.filter_map(|tool| tool.as_str().or(tool["name"].as_str())).collect()
}

fn text(call: &Value) -> &str {
    call["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {call}"))
}

/// Progress in whole numbers, however a client writes them.
#[expect(clippy::cast_possible_truncation, reason = "the fixture reports whole numbers below 101")]
fn progress(call: &Value) -> Vec<i64> {
    call["progress"].as_array().unwrap().iter().map(|done| done.as_f64().unwrap() as i64).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_official_clients_understand_the_fixture_in_each_revision() {
    for speaks in [Speaks::Only2025, Speaks::Only2026, Speaks::Both] {
        let fixture = FixtureEverything::start(speaks).await.unwrap();
        for peer in PEERS {
            let calls = json!([["ask_name", {}], ["test_tool_with_progress", {}], ["nothing", {}]]);
            let seen = peer.drive(fixture.url(), "unused", calls).await;
            if speaks == Speaks::Only2026 && !peer.is_new() {
                let said = seen.unwrap_err();
                assert!(said.contains("this revision is not supported"), "{peer:?}: {said}");
                continue;
            }
            let seen = seen.unwrap_or_else(|said| panic!("{peer:?}, {speaks:?}: {said}"));
            let is_new = peer.is_new() && speaks != Speaks::Only2025;
            assert_eq!(
                seen["protocol"],
                if is_new { "2026-07-28" } else { "2025-11-25" },
                "{peer:?}, {speaks:?}"
            );
            assert_eq!(names(&seen), fixture.tools(), "{peer:?}");
            assert!(text(&seen["calls"][0]).contains("Ada"), "{peer:?}: {seen}");
            assert_eq!(progress(&seen["calls"][1]), [0, 50, 100], "{peer:?}");
            assert_eq!(seen["calls"][2]["error"]["code"], -32602, "{peer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_official_clients_list_call_and_are_refused_through_the_gateway() {
    let (site, fixture) = (site().await, FixtureEverything::start(Speaks::Both).await.unwrap());
    let key = make_everything_but(site.server.api(), "clients", &fixture, "held").await;
    let url = format!("{}/mcp/kit", site.server.url());
    let mut granted = fixture.tools();
    granted.retain(|name| *name != "held");
    granted.sort_unstable();
    let calls = json!([
        ["echo", {"text": "héllo 你好"}],
        ["test_error_handling", {}],
        ["test_tool_with_progress", {}],
        ["ask_name", {}],
        ["held", {}],
        ["nothing", {}],
        ["echo", {"txt": 5}],
    ]);
    for peer in PEERS {
        fixture.forget();
        let seen = peer.drive(&url, &key, calls.clone()).await;
        let seen = seen.unwrap_or_else(|said| panic!("{peer:?}: {said}"));
        assert_eq!(seen["protocol"], if peer.is_new() { PREFERRED } else { "2025-11-25" }, "{peer:?}");
        let mut listed = names(&seen);
        listed.sort_unstable();
        assert_eq!(listed, granted, "{peer:?}");
        let call = |number: usize| &seen["calls"][number];
        assert_eq!(text(call(0)), "echo: héllo 你好", "{peer:?}");
        assert_eq!(call(0)["result"]["structuredContent"], json!({"text": "héllo 你好"}), "{peer:?}");
        assert_eq!(call(1)["result"]["isError"], true, "{peer:?}");
        assert_eq!(progress(call(2)), PROGRESS, "{peer:?}");
        assert!(text(call(3)).contains(ASKED), "{peer:?}: {}", call(3));
        assert_eq!(call(4)["error"]["code"], -32001, "{peer:?}: {}", call(4));
        assert_eq!(call(4)["error"]["data"]["code"], "E-MCP-GATE-004", "{peer:?}");
        assert_eq!(call(5)["error"]["code"], -32602, "{peer:?}: {}", call(5));
        let mend = call(6);
        assert!(
            mend["result"]["isError"] == true && text(mend).starts_with("E-MCP-GATE-006"),
            "{peer:?}: {mend}"
        );
        let reached = ["echo", "test_error_handling", "test_tool_with_progress", "ask_name"];
        for tool in fixture.tools() {
            let expected = usize::from(reached.contains(&tool));
            assert_eq!(fixture.calls(tool).len(), expected, "{peer:?}: one request upstream a call, {tool}");
        }
        for seen in fixture.seen() {
            let headers = format!("{:?}", seen.headers);
            assert!(!headers.contains(&key), "the caller's key is not passed on: {headers}");
        }
        let refused = peer.drive(&url, "awp_wrong", json!([])).await.unwrap_err();
        assert!(refused.contains("a valid key is needed"), "{peer:?}: {refused}");
    }
}

/// Runs the inspector's command line on one method; its exit code, what it printed and what it said.
async fn inspect(url: &str, key: &str, words: &[&str]) -> (i32, Value, String) {
    let (peers, home) = (npm_peers(), tempfile::tempdir().unwrap());
    let mut command = node(&peers);
    command.arg(peers.join("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"));
    command.args(["--cli", url, "--transport", "http", "--header", &format!("Authorization: Bearer {key}")]);
    // it keeps a catalog of servers at home
    command.args(words).env("HOME", home.path());
    let (code, printed, said) = ended(command).await;
    (code, serde_json::from_str(&printed).unwrap_or_default(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_the_inspector_lists_calls_and_shows_a_refusal() {
    let (site, fixture) = (site().await, FixtureEverything::start(Speaks::Both).await.unwrap());
    let key = make_everything_but(site.server.api(), "inspector", &fixture, "held").await;
    let url = format!("{}/mcp", site.server.url());
    let (code, listed, said) = inspect(&url, &key, &["--method", "tools/list"]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(names(&listed).len(), fixture.tools().len() - 1);
    assert!(names(&listed).contains(&"kit__echo") && !names(&listed).contains(&"kit__held"), "{listed}");
    let call = ["--method", "tools/call", "--tool-name", "kit__echo", "--tool-arg"];
    let (code, echoed, said) = inspect(&url, &key, &[&call[..], &["text=hi"]].concat()).await;
    assert_eq!((code, &echoed["structuredContent"]), (0, &json!({"text": "hi"})), "{said}");
    let (code, refused, said) = inspect(&url, &key, &[&call[..], &["txt=hi"]].concat()).await;
    let text = refused["content"][0]["text"].as_str().unwrap_or_default();
    assert!(code == 5 && text.starts_with("E-MCP-GATE-006"), "{code}: {refused} {said}");
    let (code, _, said) = inspect(&url, "awp_wrong", &["--method", "tools/list"]).await;
    assert!(code == 3 && said.contains("auth_required"), "{code}: {said}");
}
