//! `/mcp` as the official Python SDK sees it, with a key bound to an agent: lists, calls, and the gates'
//! refusals in the form each has on MCP.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use awooop_journeys::client::Api;
use awooop_journeys::fixture_everything::{FixtureEverything, Speaks};
use awooop_journeys::fixture_mcp::{BIG_CHARS, FixtureMcp, PLANTED};
use awooop_journeys::server::Home;
use serde_json::{Value, json};

use crate::support::{make_everything_but, make_project, python, root, site};

/// What a model gets of one result at most, marker included.
const RESULT_CHARS: usize = 16_384;

/// Runs the SDK against the server's own endpoint and returns what it printed.
async fn ask(url: &str, key: &str, mode: &str, calls: Value) -> Result<Value, String> {
    let headers = json!({"Authorization": format!("Bearer {key}")});
    drive(&json!({"url": format!("{url}/mcp"), "headers": headers}), mode, calls).await
}

/// Runs the SDK with the settings of a server and returns what it printed.
async fn drive(server: &Value, mode: &str, calls: Value) -> Result<Value, String> {
    let mut command = Command::new(python());
    command.arg(root().join("crates/awooop/tests/it/mcp_client.py"));
    command.args([&server.to_string(), mode, &calls.to_string()]);
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
        let revision = if mode == "auto" { "2026-07-28" } else { "2025-11-25" };
        assert_eq!(seen["protocol"], revision, "{mode}");
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

/// The words that a shell makes of a command of `claude`.
fn words_of(command: &str) -> Vec<String> {
    let script = format!("claude() {{ printf '%s\\0' \"$@\"; }}; {command}");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// What a client makes of the settings that were printed for it: the one server in them.
fn server_of(client: &str, printed: &Value) -> Value {
    let only = |servers: &Value| {
        let servers = servers.as_object().unwrap();
        assert_eq!(servers.len(), 1, "{servers:?}");
        servers.values().next().unwrap().clone()
    };
    let mut server = match client {
        "vscode" => only(&printed["servers"]),
        "codex" => {
            let table: toml::Table = printed.as_str().unwrap().parse().unwrap();
            only(&serde_json::to_value(&table["mcp_servers"]).unwrap())
        }
        "claude-code" => {
            let words = words_of(printed.as_str().unwrap());
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words[..] {
                ["mcp", "add", "--transport", "http", _, url, "--header", header] => {
                    let (name, value) = header.split_once(": ").unwrap();
                    json!({"url": url, "headers": {name: value}})
                }
                ["mcp", "add", _, "--env", url, "--env", key, "--", program, ref rest @ ..] => {
                    let env = [url, key].map(|text| text.split_once('=').unwrap());
                    let env: serde_json::Map<String, Value> =
                        env.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
                    json!({"command": program, "args": rest, "env": env})
                }
                _ => panic!("{words:?}"),
            }
        }
        _ => only(&printed["mcpServers"]),
    };
    if let Some(headers) = server.get("http_headers").cloned() {
        server["headers"] = headers;
    }
    let keep = ["url", "headers", "command", "args", "env"];
    server.as_object_mut().unwrap().retain(|member, _| keep.contains(&member.as_str()));
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_is_printed_for_each_client_gives_it_its_tools() {
    let (site, fixture) = (site().await, FixtureMcp::start().await.unwrap());
    make_project(site.server.api(), "mcp-one", &fixture, "fail").await;
    let config = async |words: &[&str]| {
        let words = [&["mcp", "config", "--project", "mcp-one", "--agent", "tester"], words].concat();
        let (code, said) = site.home.cli_json(&words).await.unwrap();
        assert_eq!(code, 0, "{said}");
        said
    };
    for (client, more, is_spawned) in [
        ("claude-code", &[][..], false),
        ("claude-code", &["--stdio"], true),
        ("claude-desktop", &[], true),
        ("cursor", &["--provider", "kit"], false),
        ("vscode", &["--stdio", "--provider", "kit"], true),
        ("vscode", &[], false),
        ("codex", &["--provider", "kit"], false),
        ("codex", &["--stdio"], true),
    ] {
        let said = config(&[&["--client", client], more].concat()).await;
        let server = server_of(client, &said["config"]);
        assert_eq!(server.get("command").is_some(), is_spawned, "{client}: {server}");
        let is_of_one = more.contains(&"--provider");
        let echo = if is_of_one { "echo" } else { "kit__echo" };
        fixture.forget();
        let seen = drive(&server, "auto", json!([[echo, {"text": client}], ["nothing", {}]])).await.unwrap();
        let mut names: Vec<&str> =
            seen["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
        names.sort_unstable();
        match is_of_one {
            true => assert_eq!(names, ["big", "echo", "secret", "slow"], "{client}"),
            false => assert_eq!(names, ["kit__big", "kit__echo", "kit__secret", "kit__slow"], "{client}"),
        }
        assert_eq!(text(&seen["calls"][0]), format!("echo: {client}"));
        assert_refused(&seen["calls"][1], -32602, "E-MCP-GATE-002");
        assert_eq!(fixture.calls().len(), 1, "{client}");
    }
}

/// `awooop mcp stdio` with lines to send and answers to read.
struct Spoken {
    child: Child,
    input: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Spoken {
    fn start(home: &Home, url: &str, key: &str) -> Spoken {
        let mut command = home.command(&["mcp", "stdio"]);
        command.env("AWOOOP_URL", url).env("AWOOOP_KEY", key);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Spoken { child, input, answers: BufReader::new(output).lines() }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn hear(&mut self) -> Value {
        serde_json::from_str(&self.answers.next().unwrap().unwrap()).expect("each line is one message")
    }

    /// The exit code after the input has ended, and that nothing more was said.
    fn end(mut self) -> Option<i32> {
        drop(self.input.take());
        assert!(self.answers.next().is_none(), "nothing more is said");
        self.child.wait().unwrap().code()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_spawned_server_answers_each_line_and_outlives_nonsense_and_a_server_that_is_away() {
    let (site, fixture) = (site().await, FixtureMcp::start().await.unwrap());
    let owner = make_project(site.server.api(), "mcp-one", &fixture, "fail").await;
    let key = agent_key(&owner).await;
    fixture.hold();
    let mut spoken = Spoken::start(&site.home, site.server.url(), &key);
    let call = |id: &str, tool: &str| {
        let arguments = if tool == "kit__slow" { json!({}) } else { json!({"text": id}) };
        let params = json!({"name": tool, "arguments": arguments});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
    };
    tokio::task::spawn_blocking(move || {
        spoken.say(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#);
        let hello = spoken.hear();
        assert_eq!((&hello["id"], &hello["result"]["protocolVersion"]), (&json!(0), &json!("2025-06-18")));
        spoken.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        for nonsense in ["", "nonsense", "[]", r#"{"jsonrpc":"1.0","id":3,"method":"ping"}"#] {
            spoken.say(nonsense);
            if !nonsense.is_empty() {
                assert!(spoken.hear()["error"]["code"].is_i64(), "{nonsense}");
            }
        }
        // what is slow keeps nothing back, and what is cancelled is not answered
        spoken.say(&call("slow", "kit__slow"));
        spoken.say(&call("quick", "kit__echo"));
        assert_eq!(spoken.hear()["id"], "quick");
        spoken.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"slow"}}"#);
        spoken.say(&call("last", "kit__echo"));
        assert_eq!(spoken.hear()["id"], "last");
        assert_eq!(spoken.end(), Some(0));
    })
    .await
    .unwrap();

    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let mut away = Spoken::start(&site.home, &gone, &key);
    let mut refused = Spoken::start(&site.home, site.server.url(), &format!("{key}x"));
    tokio::task::spawn_blocking(move || {
        for id in [1, 2] {
            away.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#));
            let said = away.hear();
            assert_eq!((&said["id"], &said["error"]["code"]), (&json!(id), &json!(-32603)), "{said}");
        }
        assert_eq!(away.end(), Some(0));
        refused.say(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#);
        let said = refused.hear();
        assert_eq!(
            (&said["id"], &said["error"]["data"]["code"]),
            (&json!(7), &json!("E-MCP-GATE-001")),
            "{said}"
        );
        assert_eq!(refused.end(), Some(0));
    })
    .await
    .unwrap();
    let keyless = site.home.cli(&["mcp", "stdio"]).await.unwrap();
    assert_eq!(keyless.status.code(), Some(2), "the key of this machine's administrator is no agent's");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_spawned_server_passes_progress_on_and_speaks_both_revisions() {
    let (site, server) = (site().await, FixtureEverything::start(Speaks::Only2025).await.unwrap());
    let key = make_everything_but(site.server.api(), "mcp-all", &server, "held").await;
    let mut spoken = Spoken::start(&site.home, site.server.url(), &key);
    let call = |id: &str, meta: Value| {
        let params = json!({"name": "kit__test_tool_with_progress", "arguments": {}, "_meta": meta});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
    };
    tokio::task::spawn_blocking(move || {
        let stateless = json!({"progressToken": 9, "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {}});
        for (id, meta) in [("old", json!({"progressToken": 9})), ("new", stateless)] {
            spoken.say(&call(id, meta));
            for _ in 0..3 {
                let said = spoken.hear();
                assert_eq!(
                    (&said["method"], &said["params"]["progressToken"]),
                    (&json!("notifications/progress"), &json!(9)),
                    "{said}"
                );
            }
            let answer = spoken.hear();
            assert_eq!(
                (&answer["id"], answer["result"]["resultType"].is_string()),
                (&json!(id), id == "new"),
                "{answer}"
            );
        }
        assert_eq!(spoken.end(), Some(0));
    })
    .await
    .unwrap();
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
