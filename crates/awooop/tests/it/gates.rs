//! The five gates and what lies behind them, in runs and through `/mcp`, by the real binary: who is refused
//! with which code, what never reaches a tool's server, and what of its answers never gets out.
//!
//! Tool servers are the tests' own and count what they are asked; a refusal that was sent upstream all the
//! same would be seen there. Audit rows and calls are read as the database's superuser.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use awooop_journeys::client::{Answer, Api};
use awooop_journeys::fixture_mcp::PLANTED;
use serde_json::{Value, json};

use crate::scripted::{
    Say, Scripted, Stage, agent, ask_mcp, budget, calls, calls_for, end, given, manifest, mcp, result, run,
    says, steps,
};

const PROJECT: &str = "gated";
const OTHER: &str = "other";
/// What a model gets of one result at most, marker included.
const RESULT_CHARS: usize = 16_384;

fn tool(name: &str, description: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"text": {"type": "string", "maxLength": 100}},
        "additionalProperties": false});
    json!({"name": name, "description": description, "inputSchema": schema})
}

fn text(message: &Value, text: &str) -> Say {
    result(message, json!({"content": [{"type": "text", "text": text}]}))
}

/// A tool server with every behaviour, by the tool's name. `is_other` changes the definition of `drifts`.
fn tools_server(message: &Value, is_other: &AtomicBool) -> Say {
    let drifts = if is_other.load(Ordering::SeqCst) { "Now does something else" } else { "Does one thing" };
    let listed = json!([
        tool("echo", "Gives the text back"),
        tool("drifts", drifts),
        tool("ungranted", "Is not granted"),
        tool("bounded", "Takes short texts only"),
        tool("writes", "Changes something"),
        tool("big", "Returns a long text"),
        tool("leaks", "Returns a credential"),
        tool("fails", "Fails with a credential in its words"),
        tool("breaks", "Answers with a JSON-RPC error"),
        tool("garbles", "Answers with no JSON"),
        tool("hangs", "Never answers"),
        tool("pinned", "Does not have the hash its contract names"),
    ]);
    mcp(message, listed, |name, arguments| match name {
        "big" => text(message, &"0123456789".repeat(10_000)),
        "leaks" => result(
            message,
            json!({"content": [{"type": "text", "text": format!("token={PLANTED} in eu")}],
                "structuredContent": {"settings": {"api_key": PLANTED, "region": "eu"}},
                "_meta": {"note": PLANTED}}),
        ),
        "fails" => result(
            message,
            json!({"content": [{"type": "text", "text": format!("no access with {PLANTED}")}], "isError": true}),
        ),
        "breaks" => Say::Json(json!({"jsonrpc": "2.0", "id": message["id"],
            "error": {"code": -32000, "message": format!("broken by {PLANTED}"), "data": {"k": PLANTED}}})),
        "garbles" => Say::Text("<html>no answer of a tool</html>"),
        "hangs" => Say::Never,
        _ => text(message, &format!("echo: {}", arguments["text"].as_str().unwrap_or_default())),
    })
}

const TOOLS: [(&str, &str); 12] = [
    ("echo", "read_only"),
    ("drifts", "read_only"),
    ("ungranted", "read_only"),
    ("bounded", "read_only"),
    ("writes", "write"),
    ("big", "read_only"),
    ("leaks", "read_only"),
    ("fails", "read_only"),
    ("breaks", "read_only"),
    ("garbles", "read_only"),
    ("hangs", "read_only"),
    ("pinned", "read_only"),
];

/// A model that first makes the one call its run's input tells, `{"tool", "arguments"}`, then ends.
fn caller(request: &Value) -> Say {
    if given(request) > 0 {
        return Say::Json(says(&json!({"answer": format!("done without {PLANTED}")}).to_string()));
    }
    let asked = request["messages"][1]["content"].as_str().unwrap_or_default();
    let asked: Value = serde_json::from_str(asked).unwrap_or_default();
    if asked["tool"] == "careless" {
        return Say::Json(calls(&[("kit__echo", &json!({"text": format!("try {PLANTED}")}).to_string())]));
    }
    Say::Json(calls(&[(asked["tool"].as_str().unwrap_or_default(), &asked["arguments"].to_string())]))
}

/// What the operator lists: two credentials that are not there.
const OPERATOR: &str = r#"
allow_same_uid_children = true
private_addresses = ["127.0.0.0/8"]
secrets = "/nonexistent"
[projects.gated]
env = ["AWOOOP_TEST_ABSENT", "AWOOOP_TEST_PRESENT"]
"#;

/// A server, a tool server, a model, and the project around them.
struct Gates {
    stage: Stage,
    tools: Scripted,
    _model: Scripted,
    is_other: Arc<AtomicBool>,
    api: Api,
    client: Api,
}

fn with_credential(mut spec: Value, credential: &str) -> Value {
    spec["auth"] = json!({"header": "Authorization", "prefix": "Bearer ", "credential": credential});
    spec
}

fn manifests(project: &str, tools: &Scripted, model: &Scripted) -> Vec<Value> {
    let mut kit = tools.tool_spec(&TOOLS);
    kit["timeout_ms"] = json!(400);
    kit["tools"][11]["definition_sha256"] = json!("0".repeat(64));
    let dead = json!({"type": "mcp", "transport": "http", "url": "http://127.0.0.1:1/mcp",
        "tools": [{"name": "echo", "risk": "read_only"}]});
    let granted: Vec<String> = TOOLS
        .iter()
        .filter(|(name, _)| *name != "ungranted")
        .map(|(name, _)| format!("kit__{name}"))
        .chain(["dead__echo".to_owned()])
        .collect();
    let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
    let mut tester = agent(project, "tester", "brain/caller", &granted, json!({}));
    let constraints = json!({"properties": {"text": {"maxLength": 3}}, "required": ["text"]});
    tester["spec"]["grants"][2]["constraints"] = constraints;
    let mut live = agent(project, "bold", "brain/caller", &["kit__writes"], json!({}));
    live["spec"]["mode"] = json!("live");
    vec![
        manifest("project", project, project, json!({"display_name": "Gates"})),
        manifest("provider", project, "kit", kit),
        manifest("provider", project, "dead", dead),
        manifest("provider", project, "brain", model.model_spec(&["caller"])),
        tester,
        live,
    ]
}

impl Gates {
    async fn start() -> Gates {
        let is_other = Arc::new(AtomicBool::new(false));
        let flag = is_other.clone();
        let tools = Scripted::start(move |message| tools_server(message, &flag)).await;
        let model = Scripted::start(caller).await;
        let more = [("AWOOOP_TEST_PRESENT", "present-value-1")];
        let stage = Stage::start(&more, Some(OPERATOR)).await;
        let api = stage.apply(PROJECT, &manifests(PROJECT, &tools, &model)).await;
        let client = agent_client(&api, "tester").await;
        Gates { stage, tools, _model: model, is_other, api, client }
    }

    /// One call in a run: its step.
    async fn in_run(&self, agent: &str, tool: &str, arguments: Value) -> Value {
        let found = run(&self.api, agent, &json!({"tool": tool, "arguments": arguments})).await;
        assert_eq!(end(&found), ("completed", ""), "{tool}: the run goes on: {found}");
        let answer = found["output"]["answer"].as_str().unwrap_or_default();
        assert!(answer.starts_with("done without ") && !answer.contains(PLANTED), "{tool}: {answer}");
        let steps = steps(&self.api, &found).await;
        assert_eq!(steps.len(), 3, "{tool}: {steps:?}");
        steps[1].clone()
    }

    /// One call of an MCP client.
    async fn by_client(&self, tool: &str, arguments: Value) -> Answer {
        ask_mcp(&self.client, "tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    /// Audited refusals of a tool: how many, and with which code.
    async fn audited(&self, tool: &str) -> Vec<String> {
        let admin = self.stage.database.admin().await;
        let sql = "SELECT body FROM audit_event WHERE action = 'tool.refuse' AND subject = $1 ORDER BY id";
        let rows = admin.query(sql, &[&format!("tool/{tool}")]).await.unwrap();
        let bodies = rows.iter().map(|row| serde_json::from_str::<Value>(row.get(0)).unwrap());
        bodies.map(|body| body["code"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// A client with a key bound to the agent.
pub(crate) async fn agent_client(api: &Api, agent: &str) -> Api {
    let name = format!("{agent}-key");
    let key = api.create_key(&json!({"name": name, "agent_id": agent})).await.unwrap();
    Api::new(api.base(), Some(&key)).unwrap()
}

/// The verdict that refused, of a step.
fn refusal(step: &Value) -> (&str, &str) {
    let last = step["gates"].as_array().and_then(|gates| gates.last()).unwrap();
    assert_eq!(last["verdict"], "refuse", "{step}");
    assert_eq!(last["code"], step["code"], "{step}");
    (last["gate"].as_str().unwrap(), last["code"].as_str().unwrap())
}

fn first_line(text: &Value) -> &str {
    text.as_str().and_then(|text| text.lines().next()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_each_gate_refuses_with_its_code_in_runs_and_for_clients() {
    let g = Gates::start().await;
    g.in_run("tester", "kit__drifts", json!({"text": "a"})).await;
    g.is_other.store(true, Ordering::SeqCst);
    // the list is believed for a while: another version of the provider's contract asks again
    let mut again = manifests(PROJECT, &g.tools, &g._model);
    again[1]["spec"]["timeout_ms"] = json!(500);
    g.api.apply(&again).await.unwrap();

    let a = || json!({"text": "a"});
    for (tool, arguments, gate, code) in [
        ("kit__nothing", a(), "registry", "E-MCP-GATE-002"),
        ("no name at all", a(), "registry", "E-MCP-GATE-002"),
        ("kit__drifts", a(), "registry", "E-MCP-GATE-003"),
        ("kit__pinned", a(), "registry", "E-MCP-GATE-003"),
        ("kit__ungranted", a(), "authorization", "E-MCP-GATE-004"),
        ("kit__echo", json!({"txt": 1}), "arguments", "E-MCP-GATE-006"),
        ("kit__echo", json!({"text": "x".repeat(101)}), "arguments", "E-MCP-GATE-006"),
        ("kit__bounded", json!({"text": "four"}), "arguments", "E-MCP-GATE-006"),
        ("kit__bounded", json!({}), "arguments", "E-MCP-GATE-006"),
    ] {
        let before = g.audited(tool).await.len();
        let step = g.in_run("tester", tool, arguments.clone()).await;
        assert_eq!(step["status"], "refused", "{step}");
        assert_eq!(refusal(&step), (gate, code), "{tool} {arguments}");
        assert_eq!(first_line(&step["output"]["text"]), code, "{step}");
        assert_eq!(step["output"]["is_error"], true);

        let answer = g.by_client(tool, arguments.clone()).await;
        let said = answer.json();
        assert_eq!(answer.status, 200, "{tool}: {}", answer.text);
        match code {
            "E-MCP-GATE-006" => {
                assert_eq!(said["result"]["isError"], true, "{said}");
                assert_eq!(first_line(&said["result"]["content"][0]["text"]), code, "{said}");
            }
            "E-MCP-GATE-002" => assert_eq!(said["error"]["code"], -32602, "{said}"),
            _ => {
                assert_eq!(said["error"]["code"], -32001, "{said}");
                assert_eq!(said["error"]["data"]["code"], code, "{said}");
            }
        }
        let audited = g.audited(tool).await;
        assert_eq!(audited.len(), before + 2, "{tool}: every refused call is audited");
        assert!(audited[before..].iter().all(|c| c == code), "{tool}: {audited:?}");
    }
    for tool in ["nothing", "pinned", "ungranted", "bounded", "echo"] {
        assert_eq!(g.tools.calls_of(tool), 0, "{tool}: nothing refused goes upstream");
    }
    assert_eq!(g.tools.calls_of("drifts"), 1, "before it changed");
    let fits = g.in_run("tester", "kit__bounded", json!({"text": "abc"})).await;
    assert_eq!((&fits["status"], &fits["output"]["text"]), (&json!("ok"), &json!("echo: abc")));

    check_credential_in_arguments(&g).await;
    check_effects(&g).await;
    check_tool_states(&g).await;
    g.stage.assert_unseen(PLANTED, &[]).await;
    g.stage.assert_well().await;
}

/// A credential in arguments: refused to a client. A model never has one to begin with: what goes into a
/// run and what comes out of a model is masked before anything is done with it.
async fn check_credential_in_arguments(g: &Gates) {
    let arguments = json!({"text": format!("use {PLANTED}")});
    let before = g.tools.calls_of("echo");
    let said = g.by_client("kit__echo", arguments.clone()).await.json();
    assert_eq!(said["result"]["isError"], true, "{said}");
    let text = said["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("E-MCP-GATE-006\n") && text.contains("/text"), "{text}");
    assert!(!text.contains(PLANTED), "{text}");
    assert_eq!(g.tools.calls_of("echo"), before);
    g.in_run("tester", "kit__echo", arguments).await;
    g.in_run("tester", "careless", json!({})).await;
    let named = g.by_client(&format!("kit__{PLANTED}"), json!({})).await;
    assert_eq!(named.json()["error"]["code"], -32602, "{}", named.text);
    assert_eq!(g.tools.calls_of("echo"), before + 2);
    // a name that is cut where a credential stands
    for lead in [40, 70, 100, 180, 480] {
        let name = format!("kit__{} {PLANTED} {}", "x".repeat(lead), "y".repeat(300));
        assert_eq!(g.by_client(&name, json!({})).await.json()["error"]["code"], -32602, "{lead}");
        g.in_run("tester", &name, json!({})).await;
    }
    assert_eq!(g.stage.tables_with(&PLANTED[..10]).await, Vec::<String>::new(), "nor half of it");
    for asked in g.tools.asked() {
        assert!(!asked.body.to_string().contains(PLANTED), "{}", asked.body);
    }
}

/// Effects: a stub in shadow, of which upstream hears nothing, and a call in live, announced in journal and audit.
async fn check_effects(g: &Gates) {
    let stub = g.in_run("tester", "kit__writes", json!({"text": "now"})).await;
    assert_eq!(stub["status"], "stub", "{stub}");
    assert!(stub["output"]["text"].as_str().is_some_and(|t| t.contains("not called")), "{stub}");
    assert_eq!(stub["gates"][2], json!({"gate": "authorization", "verdict": "stub", "code": null}));
    let client = g.by_client("kit__writes", json!({"text": "now"})).await.json();
    assert_eq!(client["result"]["isError"], false, "a client calls in shadow: {client}");
    assert_eq!(g.tools.calls_of("writes"), 0, "no effect goes upstream in shadow");
    let made = g.in_run("bold", "kit__writes", json!({"text": "now"})).await;
    assert_eq!((&made["status"], &made["output"]["text"]), (&json!("ok"), &json!("echo: now")), "{made}");
    assert_eq!(g.tools.calls_of("writes"), 1);
    let admin = g.stage.database.admin().await;
    let sql = "SELECT status FROM mcp_call WHERE tool = 'kit__writes' ORDER BY call_id";
    let rows = admin.query(sql, &[]).await.unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, ["stub", "stub", "ok"], "every call has its row");
    let sql = "SELECT (SELECT count(*) FROM step_journal WHERE phase = 'intent' AND name = 'kit__writes'),
        (SELECT count(*) FROM audit_event WHERE action = 'tool.call' AND subject = 'tool/kit__writes')";
    let row = admin.query_one(sql, &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1)),
        (1, 1),
        "an effect is announced before it is made"
    );
}

/// What people see of the tools, and what an agent's list leaves out.
async fn check_tool_states(g: &Gates) {
    let listed = g.api.get("/v1/platform/tools").await.unwrap().expect(200).unwrap();
    let state = |name: &str| {
        let item = listed["items"].as_array().unwrap().iter().find(|item| item["name"] == name);
        item.unwrap_or_else(|| panic!("{name} in {listed}"))["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("kit__echo"), "available");
    assert_eq!(state("kit__drifts"), "drifted");
    assert_eq!(state("kit__pinned"), "drifted");
    assert_eq!(state("dead__echo"), "unreachable");
    let listed = ask_mcp(&g.client, "tools/list", json!({})).await.json();
    let tools = listed["result"]["tools"].as_array().unwrap();
    let names: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert!(names.contains(&"kit__echo") && names.contains(&"kit__writes"), "{names:?}");
    for hidden in ["kit__drifts", "kit__pinned", "kit__ungranted", "dead__echo"] {
        assert!(!names.contains(&hidden), "{hidden} in {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_why_says_what_each_gate_would_say_and_leaves_no_trace() {
    let g = Gates::start().await;
    // a policy that denies and asks, and a tool without its credential
    let rules = json!({"deny": ["kit__leaks"], "approvals": [{"risk": "write", "signatures": 2, "expires_in_s": 600}]});
    let mut all = manifests(PROJECT, &g.tools, &g._model);
    let mut locked = with_credential(g.tools.tool_spec(&[("echo", "read_only")]), "env://AWOOOP_TEST_ABSENT");
    locked["timeout_ms"] = json!(400);
    all.push(manifest("provider", PROJECT, "locked", locked));
    all.push(manifest("policy", PROJECT, "house", rules));
    all.push(agent(PROJECT, "keyless", "brain/caller", &["locked__echo"], json!({})));
    g.api.apply(&all).await.unwrap();

    let ask = async |words: &[&str]| {
        let words = [&["tools", "why", "--project", PROJECT], words].concat();
        g.stage.home.cli_json(&words).await.unwrap()
    };
    for (words, exit, prospect, gate, verdict, code) in [
        ("tester kit__echo {\"text\":\"a\"}", 0, "call", 5, "pass", Value::Null),
        ("tester kit__writes {\"text\":\"a\"}", 0, "stub", 3, "stub", Value::Null),
        ("bold kit__writes {\"text\":\"a\"}", 5, "ask", 5, "ask", json!("E-MCP-GATE-008")),
        ("tester kit__nothing {}", 3, "refused", 2, "refuse", json!("E-MCP-GATE-002")),
        ("tester kit__pinned {}", 3, "refused", 2, "refuse", json!("E-MCP-GATE-003")),
        ("tester kit__ungranted {}", 3, "refused", 3, "refuse", json!("E-MCP-GATE-004")),
        ("tester kit__leaks {}", 3, "refused", 3, "refuse", json!("E-MCP-GATE-005")),
        ("tester kit__bounded {\"text\":\"four\"}", 3, "refused", 4, "refuse", json!("E-MCP-GATE-006")),
        ("keyless locked__echo {}", 3, "refused", 2, "refuse", json!("E-MCP-GATE-009")),
        ("tester dead__echo {}", 4, "unreachable", 2, "unknown", json!("E-MCP-UPSTREAM-001")),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let (found, said) = ask(&words).await;
        assert_eq!((found, &said["prospect"]), (exit, &json!(prospect)), "{words:?}: {said}");
        let gates = said["gates"].as_array().unwrap();
        assert_eq!(gates.len(), 5, "{said}");
        let word = &gates[gate - 1];
        assert_eq!((&word["verdict"], &word["code"]), (&json!(verdict), &code), "{words:?}: {said}");
        assert!(gates[..gate - 1].iter().all(|word| word["verdict"] == "pass"), "{said}");
        let rest = if matches!(verdict, "refuse" | "unknown") { "not_asked" } else { "pass" };
        assert!(gates[gate..].iter().all(|word| word["verdict"] == rest), "{said}");
    }
    let bold = ["bold", "kit__writes", "{\"text\":\"a\"}"];
    let (_, said) = ask(&bold).await;
    assert_eq!(said["approval"], json!({"asked_by": "policy house", "needed": 2, "expires_in_s": 600}));
    assert_eq!(ask(&[&bold[..], &["--mode", "shadow"]].concat()).await.1["prospect"], "stub");
    let above = ask(&["tester", "kit__echo", "--mode", "live"]).await.1;
    assert_eq!(above["error"]["code"], "E-RUN-003", "{above}");
    let stop = json!({"kind": "stop", "target": "provider", "name": "kit", "reason": "a look"});
    g.api.post("/v1/platform/halts", &stop).await.unwrap().expect(201).unwrap();
    let (exit, said) = ask(&["tester", "kit__echo"]).await;
    assert_eq!(
        (exit, &said["prospect"], &said["gates"][1]["code"]),
        (3, &json!("stopped"), &json!("E-STOP-001"))
    );

    // an agent's own key asks about its own calls, and about no other's
    let ask = json!({"agent_id": "bold", "tool": "kit__writes"});
    assert_eq!(g.client.post("/v1/platform/tools/why", &ask).await.unwrap().code(), "E-AUTH-002");
    let own = json!({"agent_id": "tester", "tool": "kit__writes"});
    g.client.post("/v1/platform/tools/why", &own).await.unwrap().expect(200).unwrap();

    let called = g.tools.asked().iter().filter(|asked| asked.body["method"] == "tools/call").count();
    assert_eq!(called, 0, "nothing was called");
    let admin = g.stage.database.admin().await;
    let sql = "SELECT (SELECT count(*) FROM mcp_call), (SELECT count(*) FROM mcp_pin),
        (SELECT count(*) FROM approval), (SELECT count(*) FROM audit_event WHERE action LIKE 'tool.%')";
    let row = admin.query_one(sql, &[]).await.unwrap();
    let left: Vec<i64> = (0..4).map(|n| row.get(n)).collect();
    assert_eq!(left, [0, 0, 0, 0], "calls, pins, approvals, refusals");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_only_a_living_key_of_the_agent_itself_reaches_a_tool() {
    let g = Gates::start().await;
    let others = manifests(OTHER, &g.tools, &g._model);
    let mut others: Vec<Value> = others.into_iter().filter(|m| m["id"] != "kit").collect();
    let own = g.tools.tool_spec(&[("echo", "read_only")]);
    others.push(manifest("provider", OTHER, "theirs", own));
    others.retain(|m| m["kind"] != "agent");
    others.push(agent(OTHER, "tester", "brain/caller", &["theirs__echo"], json!({})));
    let other = g.stage.apply(OTHER, &others).await;
    let stranger = agent_client(&other, "tester").await;
    let call = |tool: &str| json!({"name": tool, "arguments": {"text": "a"}});

    let mine = ask_mcp(&stranger, "tools/call", call("theirs__echo")).await.json();
    assert_eq!(mine["result"]["content"][0]["text"], "echo: a", "{mine}");
    let theirs = ask_mcp(&stranger, "tools/call", call("kit__echo")).await.json();
    let absent = ask_mcp(&stranger, "tools/call", call("kit__absent")).await.json();
    assert_eq!(theirs["error"]["code"], -32602, "{theirs}");
    let plain = |answer: &Value| answer.to_string().replace("kit__absent", "kit__echo");
    assert_eq!(plain(&theirs), plain(&absent), "another project's tool is as absent as any");

    let unbound = g.api.create_key(&json!({"name": "person", "role": "admin"})).await.unwrap();
    let unbound = Api::new(g.api.base(), Some(&unbound)).unwrap();
    let refused = ask_mcp(&unbound, "tools/call", call("kit__echo")).await.json();
    let data = &refused["error"]["data"]["code"];
    assert_eq!((&refused["error"]["code"], data), (&json!(-32001), &json!("E-MCP-GATE-001")), "{refused}");

    let short = json!({"name": "brief", "agent_id": "tester", "expires_in_s": 60});
    let brief = g.api.create_key(&short).await.unwrap();
    let brief = Api::new(g.api.base(), Some(&brief)).unwrap();
    assert_eq!(ask_mcp(&brief, "tools/call", call("kit__echo")).await.status, 200);
    let admin = g.stage.database.admin().await;
    let expire = "UPDATE api_key SET expires_at = now() - interval '1 second' WHERE expires_at IS NOT NULL";
    assert_eq!(admin.execute(expire, &[]).await.unwrap(), 1);
    let keys = g.api.get("/v1/platform/keys").await.unwrap().expect(200).unwrap();
    let bound = keys["items"].as_array().unwrap().iter().find(|key| key["name"] == "tester-key").unwrap();
    let path = format!("/v1/platform/keys/{}/revoke", bound["key_id"].as_str().unwrap());
    g.api.post(&path, &json!({})).await.unwrap().expect(200).unwrap();
    let before = g.tools.calls_of("echo");
    for (why, api) in [("expired", &brief), ("revoked", &g.client), ("none", &g.client.with_key(None))] {
        let answer = ask_mcp(api, "tools/call", call("kit__echo")).await;
        assert_eq!(answer.status, 401, "{why}: {}", answer.text);
        assert!(answer.headers.contains_key("www-authenticate"), "{why}");
        assert_eq!(answer.json()["error"]["data"]["code"], "E-MCP-GATE-001", "{why}");
        assert_eq!(api.get("/v1/platform/runs").await.unwrap().code(), "E-AUTH-001", "{why}");
    }
    assert_eq!(g.tools.calls_of("echo"), before, "none of them got through");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_a_tool_answers_is_bounded_masked_and_its_faults_are_results() {
    let g = Gates::start().await;
    let mut shown = Vec::new();
    for (tool, code) in [
        ("dead__echo", "E-MCP-UPSTREAM-001"),
        ("kit__hangs", "E-MCP-UPSTREAM-002"),
        ("kit__garbles", "E-MCP-UPSTREAM-003"),
    ] {
        let step = g.in_run("tester", tool, json!({})).await;
        assert_eq!((&step["status"], &step["code"]), (&json!("error"), &json!(code)), "{step}");
        assert_eq!(first_line(&step["output"]["text"]), code, "{step}");
        let said = g.by_client(tool, json!({})).await.json();
        assert_eq!(said["result"]["isError"], true, "{said}");
        assert_eq!(first_line(&said["result"]["content"][0]["text"]), code, "{said}");
    }
    for tool in ["kit__leaks", "kit__fails", "kit__breaks"] {
        let step = g.in_run("tester", tool, json!({})).await;
        let expected = if tool == "kit__leaks" { "ok" } else { "error" };
        assert_eq!(step["status"], expected, "{step}");
        let said = g.by_client(tool, json!({})).await;
        assert_eq!(said.status, 200, "{}", said.text);
        shown.extend([step.to_string(), said.text]);
    }
    assert!(shown[0].contains("region") && shown[0].contains(" in eu"), "the rest stays: {}", shown[0]);
    assert!(shown[2].contains("no access with"), "{}", shown[2]);

    let step = g.in_run("tester", "kit__big", json!({})).await;
    let said = g.by_client("kit__big", json!({})).await.json();
    for text in [&step["output"]["text"], &said["result"]["content"][0]["text"]] {
        let text = text.as_str().unwrap();
        assert!(text.chars().count() <= RESULT_CHARS, "{}", text.chars().count());
        assert!(text.contains("[truncated: ") && text.contains(" of 100000 characters, sha256 "));
    }
    let told: Vec<String> = g._model.asked().iter().map(|asked| asked.body.to_string()).collect();
    shown.extend(told);
    let runs = g.api.get("/v1/platform/runs?limit=200").await.unwrap().text;
    shown.push(runs);
    g.stage.assert_unseen(PLANTED, &shown).await;
    let listed = ask_mcp(&g.client, "tools/list", json!({})).await.json();
    let tools = listed["result"]["tools"].as_array().unwrap();
    assert!(
        tools.iter().any(|t| t["name"] == "kit__echo"),
        "a dead server takes only its own away: {listed}"
    );
    g.stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_missing_credential_and_a_spent_budget_stop_a_call() {
    let g = Gates::start().await;
    let echo = [("echo", "read_only")];
    let spec = |credential: &str| with_credential(g.tools.tool_spec(&echo), credential);
    let mut all = manifests(PROJECT, &g.tools, &g._model);
    all.push(manifest("provider", PROJECT, "absent", spec("env://AWOOOP_TEST_ABSENT")));
    all.push(manifest("provider", PROJECT, "file", spec("file://service/token")));
    all.push(manifest("provider", PROJECT, "present", spec("env://AWOOOP_TEST_PRESENT")));
    let granted = ["absent__echo", "file__echo", "present__echo", "kit__echo"];
    all[4] = agent(PROJECT, "tester", "brain/caller", &granted, json!({}));
    g.api.apply(&all).await.unwrap();
    for tool in ["absent__echo", "file__echo"] {
        let step = g.in_run("tester", tool, json!({"text": "a"})).await;
        assert_eq!((&step["status"], &step["code"]), (&json!("refused"), &json!("E-MCP-GATE-009")), "{step}");
        assert!(!step.to_string().contains("/nonexistent"), "no path of the host: {step}");
        let said = g.by_client(tool, json!({"text": "a"})).await.json();
        assert_eq!(said["error"]["data"]["code"], "E-MCP-GATE-009", "{said}");
        assert_eq!(g.audited(tool).await, ["E-MCP-GATE-009", "E-MCP-GATE-009"]);
    }
    assert_eq!(g.tools.calls_of("echo"), 0);
    let step = g.in_run("tester", "present__echo", json!({"text": "a"})).await;
    assert_eq!(step["status"], "ok", "{step}");
    let sent = g.tools.asked().into_iter().find(|asked| asked.body["method"] == "tools/call").unwrap();
    assert_eq!(sent.authorization.as_deref(), Some("Bearer present-value-1"), "it goes to the server");
    g.stage.assert_unseen("present-value-1", &[step.to_string()]).await;

    // what a call of the model costs spends the budget; its tool calls are not carried out any more
    let used = budget(&g.api).await["settled"].as_i64().unwrap();
    let costly = Scripted::start(|request| match given(request) {
        0 => Say::Json(calls_for(&[("kit__echo", r#"{"text": "b"}"#)], (100_000, 5))),
        _ => Say::Json(says(r#"{"answer": "done"}"#)),
    })
    .await;
    all[0]["spec"]["budget"] = json!({"tokens": used + 20_000});
    all[3] = manifest("provider", PROJECT, "brain", costly.model_spec(&["caller"]));
    g.api.apply(&all).await.unwrap();
    let before = g.tools.calls_of("echo");
    let found = run(&g.api, "tester", &json!("go")).await;
    assert_eq!(end(&found), ("failed", "E-BUDGET-001"), "{found}");
    let made = steps(&g.api, &found).await;
    assert_eq!(refusal(&made[1]), ("arguments", "E-MCP-GATE-007"), "{made:?}");
    let said = g.by_client("kit__echo", json!({"text": "a"})).await.json();
    assert_eq!(said["error"]["data"]["code"], "E-MCP-GATE-007", "{said}");
    assert_eq!(g.tools.calls_of("echo"), before);
    g.stage.assert_well().await;
}
