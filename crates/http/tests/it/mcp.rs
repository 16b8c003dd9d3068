//! `/mcp` for clients: who gets which tools, and how refusals look.

use awooop_journeys::db::{AGENT, TestProject};
use awooop_journeys::fixture_everything::{FixtureEverything, Speaks};
use awooop_journeys::fixture_mcp::{FixtureMcp, PLANTED};
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::api::{Answer, Api, admin, request};

const ACCEPT: (&str, &str) = ("accept", "application/json, text/event-stream");
const REVISION: (&str, &str) = ("mcp-protocol-version", "2025-11-25");

async fn ask(api: &Api, key: &str, method: &str, params: Value) -> Answer {
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    api.post_with(key, "/mcp", &[ACCEPT, REVISION], &body).await
}

async fn call(api: &Api, key: &str, tool: &str, arguments: Value) -> Value {
    let answer = ask(api, key, "tools/call", json!({"name": tool, "arguments": arguments})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// A project whose agent may use some of a server's tools, and that agent's key.
async fn with_tools(api: &Api, provider: Value, grants: &[&str]) -> (TestProject, String) {
    let project = api.test.project().await;
    let id = project.id.as_str();
    let grants: Vec<Value> = grants.iter().map(|tool| json!({"tool": tool})).collect();
    let body = json!({"manifests": [
        {"kind": "provider", "project": id, "id": "fx", "spec": provider},
        {"kind": "agent", "project": id, "id": AGENT, "spec": {"instructions": "x", "model": "offline/planner",
            "output_schema": {}, "grants": grants}},
    ]});
    let answer = api.post(&admin(&project), "/v1/platform/contracts", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let key = api.key(&project, json!({"name": "bot", "agent_id": AGENT})).await;
    (project, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_initializes_lists_and_calls() {
    let api = Api::new().await;
    let fixture = FixtureMcp::start().await.unwrap();
    let (project, key) =
        with_tools(&api, fixture.provider_spec(), &["fx__echo", "fx__fail", "fx__secret"]).await;
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let answer = ask(&api, &key, "initialize", params).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    let hello = answer.json();
    assert_eq!((&hello["id"], &hello["result"]["protocolVersion"]), (&json!(7), &json!("2025-11-25")));
    assert_eq!(hello["result"]["capabilities"], json!({"logging": {}, "tools": {}}));
    assert!(hello["result"].get("instructions").is_none());
    let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(api.post_with(&key, "/mcp", &[ACCEPT, REVISION], &body).await.status, 202);
    assert_eq!(ask(&api, &key, "ping", json!({})).await.json()["result"], json!({}));
    let listed = ask(&api, &key, "tools/list", json!({})).await.json();
    let names: Vec<&str> =
        listed["result"]["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fx__echo", "fx__fail", "fx__secret"]);
    let echoed = call(&api, &key, "fx__echo", json!({"text": "hi"})).await;
    assert_eq!(echoed["result"]["structuredContent"], json!({"text": "hi"}));
    assert_eq!(echoed["result"]["isError"], false);
    let failed = call(&api, &key, "fx__fail", json!({})).await;
    assert_eq!(failed["result"]["isError"], true);
    let secret = call(&api, &key, "fx__secret", json!({})).await;
    assert!(secret["result"]["content"].is_array() && !secret.to_string().contains(PLANTED));
    let tools = api.get(&admin(&project), "/v1/platform/tools").await.json();
    assert_eq!(tools["items"].as_array().unwrap().len(), 5);
    assert_eq!(
        (&tools["items"][1]["name"], &tools["items"][1]["status"]),
        (&json!("fx__echo"), &json!("available"))
    );
    assert_eq!(tools["items"][1]["granted_to"], json!([AGENT]));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_s_tools_are_seen_under_their_own_names() {
    let api = Api::new().await;
    let fixture = FixtureMcp::start().await.unwrap();
    let (project, key) = with_tools(&api, fixture.provider_spec(), &["fx__echo", "fx__secret"]).await;
    let ask = async |path: &str, key: &str, method: &str, params: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        api.post_with(key, path, &[ACCEPT, REVISION], &body).await
    };
    let names = async |path: &str| -> Vec<String> {
        let listed = ask(path, &key, "tools/list", json!({})).await.json();
        let tools = listed["result"]["tools"].as_array().unwrap().clone();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("/mcp/fx").await, ["echo", "secret"]);
    assert_eq!(names("/mcp").await, ["fx__echo", "fx__secret"]);
    let echo = json!({"name": "echo", "arguments": {"text": "hi"}});
    let echoed = ask("/mcp/fx", &key, "tools/call", echo.clone()).await.json();
    assert_eq!(echoed["result"]["structuredContent"], json!({"text": "hi"}));
    // the gates are the same: what is not granted, what is not there, a full name where it is none
    for (tool, code) in
        [("fail", "E-MCP-GATE-004"), ("nothing", "E-MCP-GATE-002"), ("fx__echo", "E-MCP-GATE-002")]
    {
        let said = ask("/mcp/fx", &key, "tools/call", json!({"name": tool, "arguments": {}})).await.json();
        assert_eq!(said["error"]["data"]["code"], code, "{said}");
    }
    // a server of nobody has no tools, whether another project has one of this name or not
    let other = FixtureMcp::start().await.unwrap();
    let id = project.id.as_str();
    let (theirs, _) = with_tools(&api, other.provider_spec(), &["fx__echo"]).await;
    let body = json!({"manifests": [{"kind": "provider", "project": theirs.id.as_str(), "id": "theirs",
        "spec": other.provider_spec()}]});
    assert_eq!(api.post(&admin(&theirs), "/v1/platform/contracts", &body).await.status, 200, "{id}");
    let mut said = Vec::new();
    for provider in ["theirs", "nobody"] {
        let path = format!("/mcp/{provider}");
        assert!(names(&path).await.is_empty(), "{provider}");
        let answer = ask(&path, &key, "tools/call", echo.clone()).await.json();
        said.push(answer.to_string().replace(provider, "x"));
    }
    assert_eq!(said[0], said[1]);
    for path in ["/mcp/No%20Name", "/mcp/a__b", "/mcp/..", "/mcp/fx/more"] {
        assert_eq!(ask(path, &key, "tools/list", json!({})).await.status, 404, "{path}");
    }
    assert_eq!(ask("/mcp/fx", "awp_no_key", "tools/list", json!({})).await.status, 401);
}

/// A request of revision 2026-07-28, with headers that say what the body says.
async fn ask_stateless(api: &Api, key: &str, method: &str, mut params: Value) -> Answer {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    let name = params["name"].as_str().map(str::to_owned);
    let mut headers = vec![ACCEPT, ("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    headers.extend(name.as_deref().map(|name| ("mcp-name", name)));
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    api.post_with(key, "/mcp", &headers, &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_handshake_discovers_lists_and_calls() {
    let api = Api::new().await;
    let fixture = FixtureMcp::start().await.unwrap();
    let (_, key) = with_tools(&api, fixture.provider_spec(), &["fx__echo"]).await;
    let found = ask_stateless(&api, &key, "server/discover", json!({})).await.json()["result"].clone();
    assert_eq!(found["supportedVersions"][0], "2026-07-28", "{found}");
    assert_eq!(
        (&found["capabilities"], &found["resultType"], &found["cacheScope"]),
        (&json!({"tools": {}}), &json!("complete"), &json!("private"))
    );
    let listed = ask_stateless(&api, &key, "tools/list", json!({})).await.json()["result"].clone();
    assert_eq!(listed["tools"][0]["name"], "fx__echo");
    assert!(listed["ttlMs"].as_u64().unwrap() > 0 && listed["cacheScope"] == "private", "{listed}");
    let call = json!({"name": "fx__echo", "arguments": {"text": "hi"}});
    let answer = ask_stateless(&api, &key, "tools/call", call).await.json();
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    assert_eq!(answer["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "awooop");
    assert_eq!(fixture.calls().len(), 1);

    let other = ask_stateless(&api, &key, "tools/call", json!({"name": "fx__fail", "arguments": {}})).await;
    assert_eq!((other.status.as_u16(), &other.json()["error"]["code"]), (200, &json!(-32001)), "{other:?}");
    for method in ["ping", "initialize", "subscriptions/listen", "resources/list"] {
        let answer = ask_stateless(&api, &key, method, json!({})).await;
        let error = answer.json();
        assert_eq!((answer.status.as_u16(), &error["id"]), (404, &json!(7)), "{error}");
        assert_eq!(error["error"]["code"], -32601);
    }
    // routed for one tool, and another in the body: refused before anything is done
    let body = json!({"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {"name": "fx__echo",
        "arguments": {"text": "hi"}, "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}}}});
    let headers = [
        ACCEPT,
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "fx__harmless"),
    ];
    let answer = api.post_with(&key, "/mcp", &headers, &body).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (400, &json!(-32020)));
    assert_eq!(fixture.calls().len(), 1);
}

/// The messages of an answer: one that is JSON, or all of a stream.
fn messages(answer: &Answer) -> Vec<Value> {
    if answer.header("content-type") == "application/json" {
        return vec![answer.json()];
    }
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let lines = answer.text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_of_a_call_reaches_who_wants_to_hear_it_before_the_answer() {
    let api = Api::new().await;
    let server = FixtureEverything::start(Speaks::Only2025).await.unwrap();
    let (works, logs) = ("fx__test_tool_with_progress", "fx__test_tool_with_logging");
    let (_, key) = with_tools(&api, server.provider_spec(), &[works, logs]).await;
    let with_meta = |tool: &str, meta: Value| json!({"name": tool, "arguments": {}, "_meta": meta});
    let methods = |messages: &[Value]| -> Vec<String> {
        messages.iter().map(|m| m["method"].as_str().unwrap_or("answer").to_owned()).collect()
    };

    let told = ask(&api, &key, "tools/call", with_meta(works, json!({"progressToken": "mine"}))).await;
    let told = messages(&told);
    let progress = "notifications/progress";
    assert_eq!(methods(&told), [progress, progress, progress, "answer"], "{told:?}");
    let places: Vec<&Value> = told.iter().take(3).map(|m| &m["params"]["progress"]).collect();
    assert_eq!(places, [&json!(0), &json!(50), &json!(100)], "in their order");
    assert_eq!(told[0]["params"]["progressToken"], "mine");
    assert_eq!((&told[3]["id"], told[3]["result"].is_object()), (&json!(7), true));
    let told = messages(&ask(&api, &key, "tools/call", with_meta(works, json!({}))).await);
    assert_eq!(methods(&told), ["answer"], "without a token nobody hears of progress");

    let told = messages(&ask(&api, &key, "tools/call", with_meta(logs, json!({}))).await);
    let log = "notifications/message";
    assert_eq!(methods(&told), [log, log, log, "answer"], "{told:?}");
    let sent = ask_stateless(&api, &key, "tools/call", with_meta(logs, json!({}))).await;
    assert_eq!(methods(&messages(&sent)), ["answer"], "the newest revision asks for logs");
    let level = json!({"io.modelcontextprotocol/logLevel": "info"});
    let sent = ask_stateless(&api, &key, "tools/call", with_meta(logs, level)).await;
    assert_eq!(methods(&messages(&sent)), [log, log, log, "answer"]);
    let tokens: Vec<Value> = server
        .calls("test_tool_with_progress")
        .iter()
        .map(|seen| seen.meta()["progressToken"].clone())
        .collect();
    assert!(
        tokens.iter().all(|token| *token != json!("mine")),
        "the server gets a token of ours: {tokens:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gate_refuses_in_its_own_form() {
    let api = Api::new().await;
    let fixture = FixtureMcp::start().await.unwrap();
    let (_, key) = with_tools(&api, fixture.provider_spec(), &["fx__echo"]).await;
    let error = |answer: &Value| (answer["error"]["code"].clone(), answer["error"]["data"]["code"].clone());
    let unknown = call(&api, &key, "fx__nothing", json!({})).await;
    assert_eq!(error(&unknown), (json!(-32602), json!("E-MCP-GATE-002")));
    let elsewhere = call(&api, &key, "nowhere__echo", json!({})).await;
    assert_eq!(error(&elsewhere), (json!(-32602), json!("E-MCP-GATE-002")));
    let ungranted = call(&api, &key, "fx__big", json!({})).await;
    assert_eq!(error(&ungranted), (json!(-32001), json!("E-MCP-GATE-004")));
    let wrong = call(&api, &key, "fx__echo", json!({"text": 5})).await;
    assert_eq!(wrong["result"]["isError"], true);
    let text = wrong["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("E-MCP-GATE-006"), "{text}");
    assert!(fixture.calls().is_empty(), "nothing refused went upstream");
    for params in [json!({}), json!({"name": 5}), json!([]), json!({"name": "fx__echo", "arguments": []})] {
        assert_eq!(ask(&api, &key, "tools/call", params).await.json()["error"]["code"], -32602);
    }
    assert_eq!(ask(&api, &key, "tools/list", json!({"cursor": "x"})).await.json()["error"]["code"], -32602);
    assert_eq!(ask(&api, &key, "no/such", json!({})).await.json()["error"]["code"], -32601);
    assert_eq!(ask(&api, &key, "prompts/get", json!({"name": "x"})).await.json()["error"]["code"], -32601);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_401_and_a_key_without_an_agent_is_told_why_it_has_no_tools() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let answer = ask(&api, "awp_nobody", "tools/list", json!({})).await;
    assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Bearer"));
    assert_eq!(answer.json()["error"]["data"]["code"], "E-MCP-GATE-001");
    let viewer = api.key(&project, json!({"name": "watcher", "role": "viewer"})).await;
    for key in [admin(&project), viewer, api.platform_key()] {
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let body = json!({"jsonrpc": "2.0", "id": "a", "method": "initialize", "params": params});
        let hello = api.post_with(&key, "/mcp", &[ACCEPT], &body).await.json();
        assert_eq!(hello["result"]["protocolVersion"], "2025-06-18");
        assert!(hello["result"]["instructions"].as_str().unwrap().contains("bound to no agent"));
        let listed = ask(&api, &key, "tools/list", json!({})).await.json();
        assert_eq!(listed["result"]["tools"], json!([]));
        assert!(listed["result"]["_meta"]["awooop/reason"].is_string());
        let called = call(&api, &key, "fx__echo", json!({})).await;
        assert_eq!(called["error"]["data"]["code"], "E-MCP-GATE-001");
        assert_eq!(called["error"]["code"], -32001);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_and_other_names_are_refused() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let send = async |host: &str, origin: Option<&str>| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        let mut headers = vec![ACCEPT, REVISION];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let mut request = request("POST", "/mcp", &admin(&project), &headers, Some(&body));
        request.headers_mut().insert("host", host.parse().unwrap());
        api.send(request).await.status.as_u16()
    };
    assert_eq!(send("localhost:7700", None).await, 200);
    assert_eq!(send("agents.example", Some("https://agents.example")).await, 200);
    assert_eq!(send("127.0.0.1:7700", Some("https://evil.example")).await, 403);
    assert_eq!(send("127.0.0.1:7700", Some("null")).await, 403);
    assert_eq!(send("evil.example", None).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_of_the_protocol_gets_a_json_rpc_error() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let send = async |headers: &[(&str, &str)], body: &str| {
        let mut request = Request::builder().method("POST").uri("/mcp").header("host", "localhost");
        request = request.header("authorization", format!("Bearer {key}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = api.send(request.body(Body::from(body.to_owned())).unwrap()).await;
        assert_eq!(answer.header("content-type"), "application/json", "{answer:?}");
        assert!(answer.json()["error"]["code"].is_i64(), "{answer:?}");
        answer.status.as_u16()
    };
    let json = ("content-type", "application/json");
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(send(&[json], ping).await, 406);
    assert_eq!(send(&[json, ("accept", "application/json")], ping).await, 406);
    assert_eq!(send(&[ACCEPT], ping).await, 415);
    assert_eq!(send(&[ACCEPT, ("content-type", "text/plain")], ping).await, 415);
    for bad in [
        "",
        "{",
        "[]",
        "5",
        "{}",
        "null",
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":5}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
    ] {
        assert_eq!(send(&[ACCEPT, json], bad).await, 400, "{bad}");
    }
    assert_eq!(send(&[ACCEPT, json, ("mcp-protocol-version", "2099-01-01")], ping).await, 400);
    assert_eq!(send(&[ACCEPT, json, ("mcp-protocol-version", "2026-07-28")], ping).await, 400);
    let large =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":"{}"}}}}"#, "x".repeat(1 << 20));
    assert_eq!(send(&[ACCEPT, json], &large).await, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_reaches_the_client_as_its_server_wrote_it() {
    let api = Api::new().await;
    let definition = json!({
        "name": "odd", "title": "Odd", "description": "d", "inputSchema": {"type": "object"},
        "execution": {"taskSupport": "forbidden"}, "x-unknown": [1, {"a": null}], "annotations": {"x-more": true},
    });
    let url = odd_server(definition.clone()).await;
    let spec = json!({"type": "mcp", "transport": "http", "url": url, "tools": [{"name": "odd", "risk": "read_only"}]});
    let (_, key) = with_tools(&api, spec, &["fx__odd"]).await;
    let listed = ask(&api, &key, "tools/list", json!({})).await.json();
    let mut expected = definition;
    expected["name"] = json!("fx__odd");
    assert_eq!(listed["result"]["tools"], json!([expected]));
}

/// A server with one tool, defined by this very JSON. It ends with the test's runtime.
#[expect(clippy::disallowed_methods, reason = "a test's server belongs to no project")]
async fn odd_server(definition: Value) -> String {
    let answer = move |axum::Json(message): axum::Json<Value>| {
        let definition = definition.clone();
        async move {
            let result = match message["method"].as_str().unwrap_or_default() {
                "tools/list" => json!({"tools": [definition]}),
                "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "odd", "version": "1"}}),
                _ => json!({}),
            };
            match message.get("id") {
                Some(id) => Ok(axum::Json(json!({"jsonrpc": "2.0", "id": id, "result": result}))),
                None => Err(http::StatusCode::ACCEPTED),
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/mcp", axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}
