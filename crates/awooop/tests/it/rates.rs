//! Rates and what untrusted output leads to, by the real binary: two servers that share a Redis never let through more
//! than a policy allows, whatever becomes of the Redis or of one of them; and a run that has read what nobody vouches for
//! changes nothing out in the world before a person has looked.
//!
//! The tool server is the test's own and counts what it is asked; it outlives every server under test.

use awooop_journeys::client::{Answer, Api};
use awooop_journeys::redis::TestRedis;
use awooop_journeys::server::{Home, Server};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::scripted::{
    PATIENCE, Say, Scripted, Stage, agent, ask_mcp, calls, end, given, id_of, manifest, mcp, result, run,
    says, steps, until,
};
use crate::support::home_on;

const PROJECT: &str = "rated";
const OTHER: &str = "unrated";

/// What the operator allows: a tool server on this machine.
const OPERATOR: &str = "private_addresses = [\"127.0.0.0/8\"]\n";

/// `holds` answers when it is let go, everything else at once. `modest` admits what it does.
fn tools_server(message: &Value) -> Say {
    let tool = |name: &str| {
        let schema = json!({"type": "object", "properties": {"to": {"type": "string"}}});
        let mut tool = json!({"name": name, "description": "Does something", "inputSchema": schema});
        if name == "modest" {
            tool["annotations"] = json!({"readOnlyHint": false, "openWorldHint": false});
        }
        tool
    };
    let listed = ["reads", "clock", "holds", "sends", "notes", "modest"].map(tool);
    mcp(message, json!(listed), |name, _| {
        let said = json!({"content": [{"type": "text", "text": format!("{name}: done")}]});
        match name {
            "holds" => Say::WhenLetGo(json!({"jsonrpc": "2.0", "id": message["id"], "result": said})),
            _ => result(message, said),
        }
    })
}

/// A model that makes the calls its run's input names, one after the other, then answers.
fn caller(request: &Value) -> Say {
    let names = request["messages"][1]["content"].as_str().unwrap_or_default();
    match names.split(' ').nth(given(request)) {
        Some(name) => Say::Json(calls(&[(&format!("kit__{name}"), "{}")])),
        None => Say::Json(says(r#"{"answer": "done"}"#)),
    }
}

fn kit(tools: &Scripted) -> Value {
    let mut kit = tools.tool_spec(&[
        ("reads", "read_only"),
        ("clock", "read_only"),
        ("holds", "read_only"),
        ("sends", "write"),
        ("notes", "write"),
        ("modest", "read_only"),
    ]);
    kit["tools"][1]["trusted_output"] = json!(true);
    kit["tools"][4]["open_world"] = json!(false);
    kit["timeout_ms"] = json!(60_000);
    kit
}

fn manifests(project: &str, tools: &Scripted, model: &Scripted) -> Vec<Value> {
    let granted = ["reads", "clock", "holds", "sends", "notes", "modest"].map(|name| format!("kit__{name}"));
    let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
    vec![
        manifest("project", project, project, json!({"display_name": "Rated"})),
        manifest("provider", project, "kit", kit(tools)),
        manifest("provider", project, "brain", model.model_spec(&["caller"])),
        agent(project, "bold", "brain/caller", &granted, json!({"mode": "live"})),
    ]
}

fn rates(rules: Value) -> Value {
    manifest("policy", PROJECT, "house", json!({ "rates": rules }))
}

/// A key of a client that acts as the agent.
async fn client(api: &Api) -> String {
    api.create_key(&json!({"name": "client", "agent_id": "bold"})).await.unwrap()
}

async fn call(api: &Api, tool: &str) -> Answer {
    ask_mcp(api, "tools/call", json!({"name": format!("kit__{tool}"), "arguments": {}})).await
}

/// What a server says once Redis did not answer in time.
const AWAY: &str = "Redis does not answer: this process counts rates";

/// Two servers on one database.
struct Nodes {
    stage: Stage,
    second: Server,
    home: Home,
    tools: Scripted,
    _model: Scripted,
    api: Api,
    clients: [Api; 2],
}

impl Nodes {
    async fn start(redis: &str) -> Nodes {
        let (tools, model) = (Scripted::start(tools_server).await, Scripted::start(caller).await);
        let stage = Stage::start(&[("AWOOOP_REDIS_URL", redis)], Some(OPERATOR)).await;
        let api = stage.apply(PROJECT, &manifests(PROJECT, &tools, &model)).await;
        stage.apply(OTHER, &manifests(OTHER, &tools, &model)).await;
        let home = home_on(stage.database.urls()).env("AWOOOP_REDIS_URL", redis);
        std::fs::create_dir_all(home.data_dir().join("keys")).unwrap();
        for file in ["keys/keyring.json", "operator.toml"] {
            std::fs::copy(stage.home.data_dir().join(file), home.data_dir().join(file)).unwrap();
        }
        let second = home.start().await.expect("a second server starts");
        let key = client(&api).await;
        let clients = [stage.server.api().with_key(Some(&key)), Api::new(second.url(), Some(&key)).unwrap()];
        Nodes { stage, second, home, tools, _model: model, api, clients }
    }

    /// So many calls at once over both servers; those that were refused.
    async fn at_once(&self, tool: &str, n: usize) -> Vec<Value> {
        let answers = join_all((0..n).map(|i| call(&self.clients[i % 2], tool))).await;
        let is_refused = |body: &Value| !body["error"].is_null();
        answers.iter().map(Answer::json).filter(is_refused).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_two_servers_share_exact_rates_and_lose_nothing_but_that_with_their_redis() {
    let Some(mut redis) = TestRedis::start().unwrap() else {
        eprintln!("no Redis on this machine: not tested");
        return;
    };
    let nodes = Nodes::start(&redis.url()).await;
    let away_of = |home: &Home| home.log().matches(AWAY).count();
    let away = || away_of(&nodes.stage.home) + away_of(&nodes.home);
    // a machine on which Redis did not answer in time shows what comes then, and is asked again
    let mut window = 3600;
    let (refused, made) = loop {
        let ten = json!([{"per": "project", "tools": ["kit__reads"], "calls": 10, "window_s": window}]);
        nodes.api.apply(&[rates(ten)]).await.unwrap();
        let (before, away_before) = (nodes.tools.calls_of("reads"), away());
        let refused = nodes.at_once("reads", 64).await;
        if away() == away_before || window == 3604 {
            assert_eq!((nodes.tools.calls_of("reads") - before, refused.len()), (10, 54));
            break (refused, before);
        }
        window += 1;
    };
    for body in &refused {
        assert_eq!(
            (&body["error"]["code"], &body["error"]["data"]["code"]),
            (&json!(-32001), &json!("E-MCP-GATE-007"))
        );
        assert!(body["error"]["data"]["retry_after_s"].as_u64().is_some_and(|s| s > 3000), "{body}");
    }
    let arguments = json!({"agent_id": "bold", "tool": "kit__reads"});
    let why = nodes.api.post("/v1/platform/tools/why", &arguments).await.unwrap().expect(200).unwrap();
    assert_eq!(
        (&why["prospect"], &why["gates"][3]["code"]),
        (&json!("refused"), &json!("E-MCP-GATE-007")),
        "{why}"
    );
    // what else the project does, and what another does, has room
    assert!(nodes.at_once("clock", 4).await.is_empty());
    let theirs = client(&nodes.stage.api(OTHER)).await;
    assert!(call(&nodes.stage.server.api().with_key(Some(&theirs)), "reads").await.json()["error"].is_null());
    // another number keeps the count
    let twelve = json!([{"per": "project", "tools": ["kit__reads"], "calls": 12, "window_s": window}]);
    nodes.api.apply(&[rates(twelve)]).await.unwrap();
    nodes.at_once("reads", 16).await;
    assert_eq!(nodes.tools.calls_of("reads") - made, 10 + 1 + 2);
    let away_before = away_of(&nodes.stage.home);
    redis.kill().unwrap();
    // each has let through some of the twelve, and goes on to twelve of its own
    nodes.at_once("reads", 64).await;
    assert_eq!(nodes.tools.calls_of("reads") - made, 1 + 2 * 12);
    assert_eq!(away_of(&nodes.stage.home) - away_before, 1, "said once");
    let metrics = nodes.api.with_key(None).get("/metrics").await.unwrap();
    assert!(metrics.text.contains("awooop_redis_away 1"), "{}", metrics.text);
    nodes.stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_place_is_free_when_its_call_is_stopped_and_when_its_server_is_killed() {
    let Some(redis) = TestRedis::start().unwrap() else {
        eprintln!("no Redis on this machine: not tested");
        return;
    };
    let nodes = Nodes::start(&redis.url()).await;
    nodes.api.apply(&[rates(json!([{"per": "tool", "concurrent": 1}]))]).await.unwrap();
    let there = Api::new(nodes.second.url(), Some(nodes.stage.server.key())).unwrap().in_project(PROJECT);
    let would_be_made = async |api: &Api| {
        let asked = json!({"agent_id": "bold", "tool": "kit__holds"});
        let why = api.post("/v1/platform/tools/why", &asked).await.unwrap().expect(200).unwrap();
        why["prospect"] == "call"
    };
    let [first, second] = nodes.clients.clone();
    let refused =
        async |api: &Api| call(api, "holds").await.json()["error"]["data"]["code"] == "E-MCP-GATE-007";

    let (held, ()) = tokio::join!(call(&first, "holds"), async {
        until("the call is held", async || nodes.tools.is_waiting()).await;
        assert!(refused(&second).await && refused(&first).await);
        let stop = json!({"kind": "stop", "target": "agent", "name": "bold", "reason": "enough"});
        nodes.api.post("/v1/platform/halts", &stop).await.unwrap().expect(201).unwrap();
    });
    assert_eq!(held.json()["error"]["data"]["code"], "E-STOP-001", "{}", held.text);
    let lift = json!({"kind": "stop", "target": "agent", "name": "bold"});
    nodes.api.post("/v1/platform/halts/lift", &lift).await.unwrap().expect(200).unwrap();
    until("the place is free", async || would_be_made(&there).await).await;

    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "kit__holds", "arguments": {}}});
    let headers = [("Accept", "application/json, text/event-stream")];
    let (cut, ()) = tokio::join!(second.send("POST", "/mcp", &headers, Some(&body)), async {
        until("the call is held", async || !would_be_made(&nodes.api).await).await;
        assert!(refused(&first).await);
        nix::sys::signal::kill(nodes.second.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
    });
    assert!(cut.is_err(), "its server is gone");
    until("the place is free", async || would_be_made(&nodes.api).await).await;
}

/// A server, a tool server and a model, with one person who decides.
async fn minded() -> (Stage, Scripted, Scripted, Api, String) {
    let (tools, model) = (Scripted::start(tools_server).await, Scripted::start(caller).await);
    let stage = Stage::start(&[], Some(OPERATOR)).await;
    let api = stage.apply(PROJECT, &manifests(PROJECT, &tools, &model)).await;
    let key = api.create_key(&json!({"name": "mei", "role": "approver", "person": "mei"})).await.unwrap();
    (stage, tools, model, api, key)
}

/// The one approval that a run waits for.
async fn asked(api: &Api, run_id: &str) -> Value {
    let waits = async || api.get_run(run_id).await.unwrap()["run"]["state"] == "waiting_approval";
    until("people are asked", waits).await;
    let page =
        api.get(&format!("/v1/platform/approvals?run_id={run_id}")).await.unwrap().expect(200).unwrap();
    page["items"][0].clone()
}

async fn decide(api: &Api, approval: &Value, decision: &str) {
    let path = format!("/v1/platform/approvals/{}/decide", approval["approval_id"].as_str().unwrap());
    api.post(&path, &json!({"decision": decision, "reason": "seen"})).await.unwrap().expect(200).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_after_untrusted_output_a_person_allows_what_goes_out_into_the_world() {
    let (mut stage, tools, _model, api, mei) = minded().await;
    let completed = async |input: &str| {
        let ended = run(&api, "bold", &json!(input)).await;
        assert_eq!(end(&ended).0, "completed", "{ended}");
        ended
    };
    // nothing untrusted was read before, or what is changed is the project's own
    completed("sends").await;
    completed("clock sends").await;
    completed("reads notes").await;
    assert_eq!((tools.calls_of("sends"), tools.calls_of("notes")), (2, 1));

    let run_id = api.create_run("bold", &json!("reads sends")).await.unwrap();
    let approval = asked(&api, &run_id).await;
    assert_eq!(approval["asked_by"], "untrusted output of step 2 (kit__reads)", "{approval}");
    // the journal says so, not the process
    stage.server.kill().unwrap();
    stage.server = stage.home.start().await.unwrap();
    let api = stage.api(PROJECT);
    let mei = api.with_key(Some(&mei));
    assert_eq!((tools.calls_of("sends"), tools.calls_of("reads")), (2, 2));
    decide(&mei, &approval, "approve").await;
    assert_eq!(end(&api.wait_for_end(&run_id, PATIENCE).await.unwrap()).0, "completed");
    assert_eq!(tools.calls_of("sends"), 3);

    // a write's own answer is untrusted as well, and a denial keeps its next from going out
    let run_id = api.create_run("bold", &json!("sends sends")).await.unwrap();
    decide(&mei, &asked(&api, &run_id).await, "deny").await;
    let ended = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    let made = steps(&api, &ended).await;
    assert_eq!(
        (&made[3]["status"], &made[3]["code"]),
        (&json!("refused"), &json!("E-MCP-GATE-008")),
        "{made:?}"
    );
    assert_eq!(tools.calls_of("sends"), 4);

    let why =
        api.post("/v1/platform/tools/why", &json!({"agent_id": "bold", "tool": "kit__sends"})).await.unwrap();
    let why = why.expect(200).unwrap();
    let said = "once the run has read untrusted output, a person must allow it first";
    assert_eq!((&why["prospect"], &why["gates"][4]["reason"]), (&json!("call"), &json!(said)), "{why}");
    let allow =
        json!({"after_untrusted_output": [{"action": "allow", "tools": ["kit__sends"], "agents": ["bold"]}]});
    let allowed = api.apply(&[manifest("policy", PROJECT, "house", allow)]).await.unwrap();
    assert!(allowed.to_string().contains("policy_weakened"), "{allowed}");
    let ended = run(&api, "bold", &json!("reads sends")).await;
    assert_eq!(end(&ended).0, "completed", "{ended}");
    assert_eq!(tools.calls_of("sends"), 5);
    let why =
        api.post("/v1/platform/tools/why", &json!({"agent_id": "bold", "tool": "kit__sends"})).await.unwrap();
    assert_eq!(why.json()["gates"][4]["reason"], Value::Null);
    stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_a_definition_admits_makes_its_tool_graver_than_its_contract_says() {
    let (stage, tools, _model, api, mei) = minded().await;
    let key = client(&api).await;
    let answer = call(&stage.server.api().with_key(Some(&key)), "modest").await;
    assert!(answer.text.contains("Shadow mode"), "{}", answer.text);
    assert_eq!(tools.calls_of("modest"), 0);
    let why = api
        .post("/v1/platform/tools/why", &json!({"agent_id": "bold", "tool": "kit__modest"}))
        .await
        .unwrap();
    let said = "its own definition says `readOnlyHint: false`: it counts as write at least";
    assert_eq!(why.json()["gates"][2]["reason"], json!(said), "{}", why.text);
    let listed = api.get("/v1/platform/tools").await.unwrap().json();
    let risk = listed["items"].as_array().unwrap().iter().find(|tool| tool["name"] == "kit__modest");
    assert_eq!(risk.unwrap()["risk"], "write", "{listed}");
    let rule = json!({"approvals": [{"risk": "write", "tools": ["kit__modest"]}]});
    api.apply(&[manifest("policy", PROJECT, "house", rule)]).await.unwrap();
    let run_id = api.create_run("bold", &json!("modest")).await.unwrap();
    let approval = asked(&api, &run_id).await;
    assert_eq!((&approval["asked_by"], &approval["risk"]), (&json!("policy house"), &json!("write")));
    decide(&api.with_key(Some(&mei)), &approval, "approve").await;
    let ended = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    assert_eq!((end(&ended).0, tools.calls_of("modest")), ("completed", 1), "{}", id_of(&ended));
}
