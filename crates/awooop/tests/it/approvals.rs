//! People in the loop, by the real binary: what waits for them, what they allow happens once and exactly as shown, and
//! nobody but a person decides. A call that was cut in flight is made again only where that is harmless or a person
//! says so; a result may come later.
//!
//! The tool server is the test's own and counts what it is asked, with the idempotency key of each call; it outlives
//! every server under test.

use awooop_journeys::client::Api;
use serde_json::{Value, json};

use crate::scripted::{
    PATIENCE, Say, Scripted, Stage, agent, calls, end, given, id_of, manifest, mcp, result, says, steps,
    until,
};

const PROJECT: &str = "minded";

/// What the operator allows: a tool server on this machine.
const OPERATOR: &str = "private_addresses = [\"127.0.0.0/8\"]\n";

fn tool(name: &str) -> Value {
    let schema =
        json!({"type": "object", "properties": {"to": {"type": "string"}}, "additionalProperties": false});
    json!({"name": name, "description": "Does something", "inputSchema": schema})
}

/// `holds*` answers when it is let go, `cuts` breaks off after it was asked, everything else at once.
fn tools_server(message: &Value) -> Say {
    let listed = ["sends", "holds", "holds_again", "cuts", "later", "cuts_again"].map(tool);
    mcp(message, json!(listed), |name, arguments| {
        let to = arguments["to"].as_str().unwrap_or_default();
        let said = json!({"content": [{"type": "text", "text": format!("{name} {to}: done")}]});
        match name {
            "holds" | "holds_again" => {
                Say::WhenLetGo(json!({"jsonrpc": "2.0", "id": message["id"], "result": said}))
            }
            "cuts" | "cuts_again" => Say::Text("<html>502</html>"),
            _ => result(message, said),
        }
    })
}

/// A model that makes the one call its run's input names, then answers with what it was told.
fn caller(request: &Value) -> Say {
    if given(request) > 0 {
        let last = request["messages"].as_array().and_then(|m| m.last()).cloned().unwrap_or_default();
        return Say::Json(says(&json!({"answer": last["content"]}).to_string()));
    }
    let name = request["messages"][1]["content"].as_str().unwrap_or_default();
    Say::Json(calls(&[(&format!("kit__{name}"), r#"{"to": "everybody"}"#)]))
}

/// A server, a tool server, a model, and the project around them.
struct Minded {
    stage: Stage,
    tools: Scripted,
    _model: Scripted,
    api: Api,
    mei: Api,
    bo: Api,
}

impl Minded {
    async fn start() -> Minded {
        let tools = Scripted::start(tools_server).await;
        let model = Scripted::start(caller).await;
        let stage = Stage::start(&[], Some(OPERATOR)).await;
        let write = |name: &'static str| (name, "write");
        let mut kit =
            tools.tool_spec(&["sends", "holds", "holds_again", "cuts", "later", "cuts_again"].map(write));
        kit["tools"][2]["idempotent"] = json!(true);
        kit["tools"][4]["delivers_within_s"] = json!(600);
        kit["tools"][5]["idempotent"] = json!(true);
        let granted =
            ["kit__sends", "kit__holds", "kit__holds_again", "kit__cuts", "kit__later", "kit__cuts_again"];
        let agents = [("careful", "suggest"), ("bold", "live")];
        let agents =
            agents.map(|(id, mode)| agent(PROJECT, id, "brain/caller", &granted, json!({"mode": mode})));
        let mut manifests = vec![
            manifest("project", PROJECT, PROJECT, json!({"display_name": "Minded"})),
            manifest("provider", PROJECT, "kit", kit),
            manifest("provider", PROJECT, "brain", model.model_spec(&["caller"])),
        ];
        manifests.extend(agents);
        let api = stage.apply(PROJECT, &manifests).await;
        let person = async |name: &str| {
            let body = json!({"name": name, "role": "approver", "person": name});
            api.with_key(Some(&api.create_key(&body).await.unwrap()))
        };
        let (mei, bo) = (person("mei").await, person("bo").await);
        Minded { tools, _model: model, api, mei, bo, stage }
    }

    /// A run of `agent` whose model calls `tool`, once it waits in `state`.
    async fn waiting(&self, agent: &str, tool: &str, state: &str) -> Value {
        let run_id = self.api.create_run(agent, &json!(tool)).await.unwrap();
        until(state, async || self.api.get_run(&run_id).await.unwrap()["run"]["state"] == state).await;
        self.api.get_run(&run_id).await.unwrap()
    }

    async fn ended(&self, run: &Value) -> Value {
        self.api.wait_for_end(id_of(run), PATIENCE).await.unwrap()
    }

    /// The keys under which a tool was called.
    fn keys_of(&self, tool: &str) -> Vec<String> {
        let is_call = |b: &Value| b["method"] == "tools/call" && b["params"]["name"] == tool;
        let asked = self.tools.asked().into_iter().map(|asked| asked.body).filter(is_call);
        asked
            .map(|b| b["params"]["_meta"]["awooop/idempotency-key"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

/// The approval a run waits for.
fn approval_of(run: &Value) -> String {
    run["waiting"]["approval_id"].as_str().unwrap_or_else(|| panic!("it waits for nobody: {run}")).to_owned()
}

async fn decide(api: &Api, run: &Value, body: Value) -> (u16, String) {
    let path = format!("/v1/platform/approvals/{}/decide", approval_of(run));
    let answer = api.post(&path, &body).await.unwrap();
    (answer.status, answer.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_people_allow_happens_once_and_exactly_as_shown() {
    let m = Minded::start().await;
    // suggest: nothing happens before somebody said yes
    let run = m.waiting("careful", "sends", "waiting_approval").await;
    assert_eq!(m.tools.calls_of("sends"), 0);
    let listed = m.mei.get("/v1/platform/approvals?state=pending").await.unwrap().expect(200).unwrap();
    let item = &listed["items"][0];
    assert_eq!(item["approval_id"].as_str(), Some(approval_of(&run).as_str()), "{listed}");
    assert_eq!((&item["tool"], &item["arguments"]), (&json!("kit__sends"), &json!({"to": "everybody"})));
    assert_eq!((item["asked_by"].as_str(), item["needed"].as_i64()), (Some("mode suggest"), Some(1)));
    // only people decide, and of those only whose role allows it
    let yes = json!({"decision": "approve", "reason": "fine"});
    assert_eq!(decide(&m.api, &run, yes.clone()).await, (403, "E-APPROVAL-003".to_owned()));
    let service = m.api.create_key(&json!({"name": "robot", "role": "approver"})).await.unwrap();
    let service = m.api.with_key(Some(&service));
    assert_eq!(decide(&service, &run, yes.clone()).await, (403, "E-APPROVAL-003".to_owned()));
    let viewer = m.api.create_key(&json!({"name": "ann", "role": "viewer", "person": "ann"})).await.unwrap();
    let viewer = m.api.with_key(Some(&viewer));
    assert_eq!(decide(&viewer, &run, yes.clone()).await, (403, "E-AUTH-002".to_owned()));
    for (body, path) in [
        (json!({"decision": "perhaps"}), "/decision"),
        (json!({"decision": "record", "result": {"content": [{"type": "text", "text": "x"}]}}), "/decision"),
        (json!({"decision": "approve", "result": {"content": []}}), "/result"),
        (json!({"decision": "approve", "reason": "x".repeat(1001)}), "/reason"),
    ] {
        let path_of = format!("/v1/platform/approvals/{}/decide", approval_of(&run));
        let refused = m.mei.post(&path_of, &body).await.unwrap().expect(422).unwrap();
        assert_eq!(refused["errors"][0]["path"], path, "{refused}");
    }
    assert_eq!(decide(&m.mei, &run, yes.clone()).await.0, 200);
    let ended = m.ended(&run).await;
    assert_eq!(ended["output"]["answer"], "sends everybody: done", "{ended}");
    assert_eq!(m.keys_of("sends"), [format!("{}:2", id_of(&run))]);
    let shown = m.mei.get(&format!("/v1/platform/approvals/{}", approval_of(&run))).await.unwrap();
    assert_eq!(shown.expect(200).unwrap()["state"], "consumed");
    assert_eq!(decide(&m.mei, &run, yes.clone()).await.0, 200, "the same again is the same");
    assert_eq!(decide(&m.bo, &run, yes).await, (409, "E-APPROVAL-001".to_owned()));

    // no: the agent is told why, and goes on
    let run = m.waiting("careful", "sends", "waiting_approval").await;
    let no = json!({"decision": "deny", "reason": "not on a Sunday"});
    assert_eq!(decide(&m.bo, &run, no).await.0, 200);
    let ended = m.ended(&run).await;
    let answer = ended["output"]["answer"].as_str().unwrap_or_default().to_owned();
    assert!(answer.contains("E-MCP-GATE-008") && answer.contains("not on a Sunday"), "{ended}");
    let taken = steps(&m.api, &ended).await;
    assert_eq!(
        (&taken[1]["status"], &taken[1]["gates"][4]["verdict"]),
        (&json!("refused"), &json!("refuse"))
    );
    assert_eq!(m.tools.calls_of("sends"), 1);

    // cancelled while it waits
    let run = m.waiting("careful", "sends", "waiting_approval").await;
    let cancelled =
        m.api.post(&format!("/v1/platform/runs/{}/cancel", id_of(&run)), &json!({})).await.unwrap();
    assert_eq!(cancelled.expect(200).unwrap()["run"]["state"], "cancelled");
    assert_eq!(decide(&m.mei, &run, json!({"decision": "approve"})).await.0, 409);
    m.stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_live_calls_go_out_unless_a_policy_asks_for_people() {
    let m = Minded::start().await;
    let run_id = m.api.create_run("bold", &json!("sends")).await.unwrap();
    let ended = m.api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    assert_eq!(ended["output"]["answer"], "sends everybody: done", "{ended}");
    let rules = json!({"approvals": [{"risk": "write", "tools": ["kit__sends"], "signatures": 2, "expires_in_s": 600}]});
    m.stage.apply(PROJECT, &[manifest("policy", PROJECT, "house", rules)]).await;
    let run = m.waiting("bold", "sends", "waiting_approval").await;
    let yes = json!({"decision": "approve"});
    assert_eq!(decide(&m.mei, &run, yes.clone()).await.0, 200);
    let still = m.api.get_run(id_of(&run)).await.unwrap();
    assert_eq!(still["run"]["state"], "waiting_approval", "one of two");
    assert_eq!(decide(&m.bo, &run, yes).await.0, 200);
    assert_eq!(end(&m.ended(&run).await), ("completed", ""));
    assert_eq!(m.tools.calls_of("sends"), 2);
    let (code, found) = m
        .stage
        .home
        .cli_json(&["audit", "search", "--action", "approval.decide", "--project", PROJECT])
        .await
        .unwrap();
    assert_eq!((code, found["items"].as_array().map(Vec::len)), (0, Some(2)), "{found}");
    // the command line says who is waited for, and that it waits
    let home = &m.stage.home;
    let (code, waits) = home.cli_json(&["run", "bold", "sends", "--project", PROJECT]).await.unwrap();
    assert_eq!((code, waits["run"]["state"].as_str()), (5, Some("waiting_approval")), "{waits}");
    let told = home.cli(&["run", "bold", "sends", "--watch", "--project", PROJECT]).await.unwrap();
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert_eq!(told.status.code(), Some(5), "{text}");
    assert!(text.contains("awooop approvals approve ") && text.contains("step 2 waits for people"), "{text}");
    let (code, listed) = home.cli_json(&["approvals", "list", "--project", PROJECT]).await.unwrap();
    assert_eq!((code, listed["items"].as_array().map(Vec::len)), (0, Some(2)), "{listed}");
    let approval_id = listed["items"][0]["approval_id"].as_str().unwrap().to_owned();
    let mei = m.api.create_key(&json!({"name": "mei", "role": "approver", "person": "mei"})).await.unwrap();
    let deny = ["approvals", "deny", &approval_id, "--reason", "no", "--key", &mei];
    let (code, denied) = home.cli_json(&deny).await.unwrap();
    assert_eq!((code, denied["state"].as_str()), (0, Some("denied")), "{denied}");
    let (code, again) = home.cli_json(&["approvals", "approve", &approval_id, "--key", &mei]).await.unwrap();
    assert_eq!((code, again["error"]["code"].as_str()), (1, Some("E-APPROVAL-001")), "{again}");
    m.stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_call_cut_by_a_kill_is_not_made_again_unless_a_person_says_so() {
    let mut m = Minded::start().await;
    let run_id = m.api.create_run("bold", &json!("holds")).await.unwrap();
    let harmless = m.api.create_run("bold", &json!("holds_again")).await.unwrap();
    until("both were asked", async || m.tools.calls_of("holds") + m.tools.calls_of("holds_again") == 2).await;
    let Stage { server, home, database } = m.stage;
    server.kill().unwrap();
    m.tools.let_go();
    let server = home.start().await.unwrap();
    let base = server.url().to_owned();
    m.stage = Stage { server, home, database };
    m.api = m.stage.api(PROJECT);
    let mei = m.api.create_key(&json!({"name": "mei", "role": "approver", "person": "mei"})).await.unwrap();
    m.mei = Api::new(&base, Some(&mei)).unwrap();
    until("people are asked", async || {
        m.api.get_run(&run_id).await.unwrap()["run"]["state"] == "waiting_approval"
    })
    .await;
    let run = m.api.get_run(&run_id).await.unwrap();
    // declared idempotent: made once more, under the same key, and nobody is asked
    let ended = m.api.wait_for_end(&harmless, PATIENCE).await.unwrap();
    assert_eq!(end(&ended), ("completed", ""));
    assert_eq!(m.keys_of("holds_again"), [format!("{harmless}:2"), format!("{harmless}:2")]);
    assert_eq!(m.tools.calls_of("holds"), 1);
    let taken = steps(&m.api, &run).await;
    assert_eq!((&taken[1]["status"], &taken[1]["output"]), (&json!("open"), &Value::Null), "{}", taken[1]);
    let asked = m.mei.get(&format!("/v1/platform/approvals/{}", approval_of(&run))).await.unwrap();
    assert_eq!(asked.expect(200).unwrap()["kind"], "outcome");
    let result = json!({"content": [{"type": "text", "text": "I saw that it was sent"}]});
    assert_eq!(decide(&m.mei, &run, json!({"decision": "record", "result": result})).await.0, 200);
    let ended = m.ended(&run).await;
    assert_eq!(ended["output"]["answer"], "I saw that it was sent", "{ended}");
    assert_eq!(m.tools.calls_of("holds"), 1);
    m.stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_an_answer_that_is_none_leaves_the_outcome_to_a_person() {
    let m = Minded::start().await;
    let run = m.waiting("bold", "cuts", "waiting_approval").await;
    assert_eq!(
        decide(&m.mei, &run, json!({"decision": "deny", "reason": "it is in the ledger"})).await.0,
        200
    );
    assert_eq!(end(&m.ended(&run).await), ("failed", "E-RUN-014"));
    let run = m.waiting("bold", "cuts", "waiting_approval").await;
    assert_eq!(decide(&m.mei, &run, json!({"decision": "approve"})).await.0, 200);
    // it was made again, under the same key, and is as unknown as before
    until("asked again", async || m.tools.calls_of("cuts") == 3).await;
    let keys = m.keys_of("cuts");
    assert_eq!((&keys[1], &keys[2]), (&format!("{}:2", id_of(&run)), &format!("{}:2", id_of(&run))));
    until("waits again", async || {
        let now = m.api.get_run(id_of(&run)).await.unwrap();
        now["run"]["state"] == "waiting_approval" && approval_of(&now) != approval_of(&run)
    })
    .await;
    // what is idempotent is made once more under the same key before anybody is asked, and never under another
    let run = m.waiting("bold", "cuts_again", "waiting_approval").await;
    let key = format!("{}:2", id_of(&run));
    assert_eq!(m.keys_of("cuts_again"), [key.clone(), key]);
    m.stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_result_that_is_delivered_later_is_taken_once() {
    let m = Minded::start().await;
    let run = m.waiting("bold", "later", "waiting_tool").await;
    assert_eq!((&run["waiting"]["step"], &run["waiting"]["approval_id"]), (&json!(2), &Value::Null));
    let secret = format!("{}{}", "ghp_", "0123456789abcdefghijABCDEFGHIJ012345");
    let result = json!({"content": [{"type": "text", "text": format!("sent with {secret}")}]});
    let path = format!("/v1/platform/runs/{}/steps/2/result", id_of(&run));
    let refused = m.mei.post(&path, &result).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (403, "E-AUTH-002"));
    assert_eq!(m.api.post(&path, &json!({})).await.unwrap().status, 422);
    let absent = format!("/v1/platform/runs/{}/steps/1/result", id_of(&run));
    assert_ne!(
        m.api.post(&absent, &result).await.unwrap().status,
        200,
        "a model's step is delivered by nobody"
    );
    assert_eq!(m.api.post(&path, &result).await.unwrap().status, 200);
    assert_eq!(m.api.post(&path, &result).await.unwrap().status, 200, "the same again is the same");
    let other = json!({"content": [{"type": "text", "text": "not sent"}]});
    let refused = m.api.post(&path, &other).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (409, "E-RUN-001"));
    let ended = m.ended(&run).await;
    assert_eq!(ended["output"]["answer"], "sent with [GITHUB_TOKEN]", "{ended}");
    assert_eq!(m.tools.calls_of("later"), 1);
    assert_eq!(m.stage.tables_with(&secret).await, Vec::<String>::new());
    m.stage.assert_well().await;
}
