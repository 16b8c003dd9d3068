//! How runs go and how they end, by the real binary: what a model's answers do to a run, what time and
//! callers do, what a request may ask for, and what somebody who watches sees.
//!
//! The models are servers of the test's own; everything is asked through HTTP. Runs go side by side in one
//! project, so every assertion is about the run it names.

use awooop_core::schema::Schema;
use awooop_journeys::client::Api;
use awooop_journeys::fixture_mcp::{FixtureMcp, PLANTED};
use serde_json::{Value, json};

use crate::scripted::{
    PATIENCE, Say, Scripted, Stage, agent, budget, calls, end, given, id_of, manifest, run, says, steps,
    until,
};
use crate::support::root;

const PROJECT: &str = "runs";
const RUNS: &str = "/v1/platform/runs";

fn project() -> Value {
    manifest("project", PROJECT, PROJECT, json!({"display_name": "Runs of all kinds"}))
}

/// An answer in one strict form.
fn strict() -> Value {
    json!({"type": "object", "required": ["answer"], "additionalProperties": false,
        "properties": {"answer": {"type": "string"}}})
}

/// The contract that `run` has to fit.
fn run_contract() -> Schema {
    let text = std::fs::read_to_string(root().join("contracts/runtime_run_state/schema.json")).unwrap();
    Schema::compile(&serde_json::from_str(&text).unwrap()).unwrap()
}

fn done() -> Say {
    Say::Json(says(r#"{"answer": "done"}"#))
}

/// Every kind of answer, by the model's name.
fn answers(request: &Value) -> Say {
    let echo = |text: &str| ("kit__echo", format!(r#"{{"text": "{text}"}}"#));
    match (request["model"].as_str().unwrap_or_default(), given(request)) {
        ("unfit", _) => Say::Json(says(r#"{"answer": 5}"#)),
        ("mends", 0) => Say::Json(says("no JSON at all")),
        ("mends", _) => Say::Json(says("```json\n{\"answer\": \"mended\"}\n```")),
        ("plain", _) => Say::Json(says("just words, 就這樣")),
        ("trouble", _) => Say::Status(500, json!({"error": {"message": format!("key {PLANTED}")}})),
        ("garbled", _) => Say::Text("<html>nothing of a model</html>"),
        ("mute", _) => Say::Never,
        ("malformed", 0) => Say::Json(calls(&[("kit__echo", "{\"text\": ")])),
        ("unknown", 0) => Say::Json(calls(&[("kit__no_such_tool", "{}"), ("格式 nonsense", "{}")])),
        ("several", 0) => {
            let (one, two) = (echo("one"), echo("two"));
            Say::Json(calls(&[(one.0, &one.1), (two.0, &two.1)]))
        }
        ("endless", _) => Say::Json(calls(&[("kit__echo", &echo("again").1)])),
        _ => done(),
    }
}

const MODELS: [&str; 9] =
    ["unfit", "mends", "plain", "trouble", "garbled", "malformed", "unknown", "several", "endless"];

/// An agent a model, all with the echo tool; one whose model is nowhere, and one whose model is too slow.
fn manifests(model: &Scripted, kit: &FixtureMcp) -> Vec<Value> {
    let nowhere = json!({"type": "llm", "dialect": "openai", "base_url": "http://127.0.0.1:1/v1",
        "models": [{"name": "gone"}]});
    let mut hasty = model.model_spec(&["mute"]);
    hasty["timeout_ms"] = json!(300);
    let mut all = vec![
        project(),
        manifest("provider", PROJECT, "kit", kit.provider_spec()),
        manifest("provider", PROJECT, "brain", model.model_spec(&MODELS)),
        manifest("provider", PROJECT, "hasty", hasty),
        manifest("provider", PROJECT, "nowhere", nowhere),
        agent(PROJECT, "unreachable", "nowhere/gone", &[], json!({})),
        agent(PROJECT, "too-slow", "hasty/mute", &[], json!({})),
    ];
    for name in MODELS {
        let schema = if name == "plain" { json!({"type": "string"}) } else { strict() };
        let more = json!({"output_schema": schema, "max_steps": if name == "endless" { 4 } else { 20 }});
        all.push(agent(PROJECT, name, &format!("brain/{name}"), &["kit__echo"], more));
    }
    all
}

/// The steps in short: kind, status, code.
fn shape(steps: &[Value]) -> Vec<(&str, &str, &str)> {
    fn text<'a>(step: &'a Value, member: &str) -> &'a str {
        step[member].as_str().unwrap_or_default()
    }
    steps.iter().map(|s| (text(s, "kind"), text(s, "status"), text(s, "code"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_model_s_answers_decide_how_its_run_ends() {
    let (model, kit) = (Scripted::start(answers).await, FixtureMcp::start().await.unwrap());
    let stage = Stage::start(&[], None).await;
    let api = stage.apply(PROJECT, &manifests(&model, &kit)).await;
    let go = json!("go");
    let run = async |name: &str| (name.to_owned(), run(&api, name, &go).await);
    let (a, b, c, d, e, f) = tokio::join!(
        run("unfit"),
        run("mends"),
        run("plain"),
        run("trouble"),
        run("garbled"),
        run("unreachable")
    );
    let (g, h, i, j, k) =
        tokio::join!(run("malformed"), run("unknown"), run("several"), run("endless"), run("too-slow"));
    let contract = run_contract();
    let expected = [
        (a, ("failed", "E-SCHEMA-001"), 3),
        (b, ("completed", ""), 2),
        (c, ("completed", ""), 1),
        (d, ("failed", "E-RUN-013"), 1),
        (e, ("failed", "E-RUN-013"), 1),
        (f, ("failed", "E-RUN-013"), 1),
        (g, ("completed", ""), 2),
        (h, ("completed", ""), 2),
        (i, ("completed", ""), 2),
        (j, ("failed", "E-RUN-012"), 2),
        (k, ("failed", "E-RUN-013"), 1),
    ];
    for ((name, document), ended, llm_steps) in &expected {
        assert_eq!(end(document), *ended, "{name}: {document}");
        assert_eq!(document["run"]["step_count"], *llm_steps, "{name}: model steps are counted");
        assert_eq!(contract.validate(&document["run"]), Ok(()), "{name}: {document}");
        assert_eq!(document["run"]["output_sha256"].is_null(), ended.0 != "completed", "{name}: {document}");
        let made = steps(&api, document).await;
        let tools = made.iter().filter(|step| step["kind"] == "tool").count();
        assert_eq!(made.len(), llm_steps + tools, "{name}");
    }
    let document = |name: &str| &expected.iter().find(|(run, _, _)| run.0 == name).unwrap().0.1;

    check_schema_loop(&model, document("unfit"), document("mends"));
    assert_eq!(document("plain")["output"], "just words, 就這樣");
    assert_eq!(model.asked_of("trouble").len(), 9, "three tries by each of three claims, no more");
    assert_eq!(model.asked_of("mute").len(), 1, "an answer that may be billed is not asked for again");
    for name in ["trouble", "garbled", "unreachable", "too-slow"] {
        let made = steps(&api, document(name)).await;
        assert_eq!(shape(&made), [("llm", "error", "E-RUN-013")], "{name}: the failed step is recorded");
    }
    check_tool_errors(&api, &model, document("malformed"), document("unknown")).await;

    let made = steps(&api, document("several")).await;
    let kinds: Vec<&str> = made.iter().map(|step| step["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["llm", "tool", "tool", "llm"]);
    let texts = [&made[1]["output"]["text"], &made[2]["output"]["text"]];
    assert_eq!(texts, ["echo: one", "echo: two"], "calls of one answer run in their order");
    let second = &model.asked_of("several")[1];
    let ids: Vec<&Value> =
        second["messages"].as_array().unwrap().iter().filter_map(|m| m.get("tool_call_id")).collect();
    assert_eq!(ids, ["call_0", "call_1"], "each result goes to its call");

    assert_eq!(steps(&api, document("endless")).await.len(), 4, "max_steps counts all steps");
    let texts = expected.iter().map(|(run, _, _)| run.1.to_string()).collect::<Vec<_>>();
    stage.assert_unseen(PLANTED, &texts).await;
    stage.assert_well().await;
}

/// Three answers in all, and the model is told what was wrong with each.
fn check_schema_loop(model: &Scripted, unfit: &Value, mends: &Value) {
    let asked = model.asked_of("unfit");
    assert_eq!(asked.len(), 3, "three answers in all");
    let message = unfit["error"]["message"].as_str().unwrap();
    assert!(message.contains("3 answers") && message.contains("/answer"), "{message}");
    let told = asked[1]["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(told["role"], "user");
    assert!(told["content"].as_str().is_some_and(|text| text.contains("/answer")), "{told}");
    assert_eq!(mends["output"], json!({"answer": "mended"}), "also out of a Markdown fence");
}

/// What a model wrote wrongly comes back to it as the tool's result, and the run goes on.
async fn check_tool_errors(api: &Api, model: &Scripted, malformed: &Value, unknown: &Value) {
    let made = steps(api, malformed).await;
    assert_eq!(shape(&made)[1], ("tool", "refused", "E-MCP-GATE-006"));
    let told = &model.asked_of("malformed")[1]["messages"];
    let result = told.as_array().unwrap().iter().find(|m| m["role"] == "tool").unwrap();
    let text = result["content"].as_str().unwrap();
    assert_eq!(text.lines().next(), Some("E-MCP-GATE-006"), "{text}");
    assert!(text.contains("JSON"), "it says what is wrong: {text}");

    let made = steps(api, unknown).await;
    assert_eq!(made.len(), 4, "{made:?}");
    for step in &made[1..3] {
        assert_eq!((&step["status"], &step["code"]), (&json!("refused"), &json!("E-MCP-GATE-002")), "{step}");
        let gates: Vec<(&str, &str)> = step["gates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|g| (g["gate"].as_str().unwrap(), g["verdict"].as_str().unwrap()))
            .collect();
        assert_eq!(gates, [("identity", "pass"), ("registry", "refuse")], "{step}");
    }
}

/// Models that wait: `mute` for ever, `slow` calls the slow tool and then answers.
fn waiting(request: &Value) -> Say {
    match (request["model"].as_str().unwrap_or_default(), given(request)) {
        ("mute", _) => Say::Never,
        ("slow", 0) => Say::Json(calls(&[("kit__slow", "{}")])),
        _ => done(),
    }
}

fn waiting_manifests(model: &Scripted, kit: &FixtureMcp) -> Vec<Value> {
    vec![
        project(),
        manifest("provider", PROJECT, "kit", kit.provider_spec()),
        manifest("provider", PROJECT, "brain", model.model_spec(&["mute", "slow", "quick"])),
        agent(PROJECT, "late", "brain/mute", &[], json!({"timeout_ms": 1000})),
        agent(PROJECT, "mute", "brain/mute", &[], json!({})),
        agent(PROJECT, "slow", "brain/slow", &["kit__slow"], json!({})),
        agent(PROJECT, "quick", "brain/quick", &[], json!({})),
    ]
}

async fn cancel(api: &Api, run_id: &str) -> (u16, String, Value) {
    let answer = api.post(&format!("{RUNS}/{run_id}/cancel"), &json!({})).await.unwrap();
    (answer.status, answer.code(), answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_time_and_callers_end_a_run_and_what_it_held_is_charged() {
    let (model, kit) = (Scripted::start(waiting).await, FixtureMcp::start().await.unwrap());
    let stage = Stage::start(&[], None).await;
    let api = stage.apply(PROJECT, &waiting_manifests(&model, &kit)).await;

    // the model does not answer in the run's time
    let run_id = api.create_run("late", &json!("go")).await.unwrap();
    until("the model is asked", async || model.asked_of("mute").len() == 1).await;
    let held = budget(&api).await["held"].as_i64().unwrap();
    assert!(held > 0, "a call under way is held for");
    let late = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    assert_eq!(end(&late), ("timeout", "E-RUN-011"), "{late}");
    assert_eq!(run_contract().validate(&late["run"]), Ok(()), "{late}");
    let after = budget(&api).await;
    assert_eq!((&after["held"], &after["settled"]), (&json!(0), &json!(held)), "charged in full");
    assert_eq!(cancel(&api, &run_id).await.1, "E-RUN-001", "what ended otherwise is not cancelled");

    // cancelled while a model is asked
    let run_id = api.create_run("mute", &json!("go")).await.unwrap();
    until("the model is asked", async || model.asked_of("mute").len() == 2).await;
    let (status, _, document) = cancel(&api, &run_id).await;
    assert_eq!((status, end(&document)), (200, ("cancelled", "")), "{document}");
    assert_eq!(run_contract().validate(&document["run"]), Ok(()), "{document}");
    until("the hold is charged", async || budget(&api).await["held"] == 0).await;
    assert!(budget(&api).await["settled"].as_i64().unwrap() > held);

    // cancelled in a tool, whose result comes afterwards
    kit.hold();
    let run_id = api.create_run("slow", &json!("go")).await.unwrap();
    until("the tool is called", async || kit.calls().len() == 1).await;
    assert_eq!(cancel(&api, &run_id).await.0, 200);
    kit.let_go();
    let other = run(&api, "slow", &json!("go")).await;
    assert_eq!(end(&other), ("completed", ""), "{other}");
    assert_eq!(api.steps(&run_id).await.unwrap().len(), 1, "the tool's result came after the end");
    let again = cancel(&api, &run_id).await;
    assert_eq!((again.0, end(&again.2)), (200, ("cancelled", "")), "cancelling twice is fine");
    let ended = cancel(&api, id_of(&other)).await;
    assert_eq!((ended.0, ended.1.as_str()), (409, "E-RUN-001"));
    let absent = cancel(&api, "01900000-0000-7000-8000-000000000001").await;
    assert_eq!((absent.0, absent.1.as_str()), (404, "E-REQ-004"));

    let admin = stage.database.admin().await;
    let rows = admin.query("SELECT reason, is_estimated FROM budget_ledger WHERE is_estimated", &[]).await;
    let reasons: Vec<String> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(reasons, ["settled", "settled"], "both cut calls were charged by estimate");
    stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_run_keeps_the_contract_it_began_with_and_a_caller_may_wait() {
    let (model, kit) = (Scripted::start(waiting).await, FixtureMcp::start().await.unwrap());
    let stage = Stage::start(&[], None).await;
    let mut manifests = waiting_manifests(&model, &kit);
    let api = stage.apply(PROJECT, &manifests).await;
    kit.hold();
    let body = json!({"agent_id": "slow", "input": "go"});
    let wait = |s: &'static str| [("Prefer", s), ("Idempotency-Key", "waits")];
    let answer = api.send("POST", RUNS, &wait("wait=1"), Some(&body)).await.unwrap();
    assert_eq!(answer.status, 202, "it has not ended: {}", answer.text);
    assert_eq!(answer.headers["preference-applied"], "wait=1");
    let run_id = id_of(&answer.json()).to_owned();
    assert_eq!(answer.headers["location"], format!("{RUNS}/{run_id}").as_str());

    // another contract in the middle of the run
    until("the tool is called", async || !kit.calls().is_empty()).await;
    let slow = manifests.iter_mut().find(|m| m["kind"] == "agent" && m["id"] == "slow").unwrap();
    slow["spec"]["instructions"] = json!("Quite other instructions.");
    slow["spec"]["grants"] = json!([]);
    api.apply(&manifests).await.unwrap();
    kit.let_go();
    let answer = api.send("POST", RUNS, &wait("wait=30"), Some(&body)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["idempotency-replayed"], "true");
    assert_eq!((id_of(&answer.json()), end(&answer.json())), (run_id.as_str(), ("completed", "")));
    let instructions = |n: usize| model.asked_of("slow")[n]["messages"][0]["content"].clone();
    assert_eq!(instructions(0), "Do as the script says.");
    assert_eq!(instructions(1), instructions(0), "the run goes on as it began");
    run(&api, "slow", &json!("go")).await;
    assert_eq!(instructions(2), "Quite other instructions.", "the next run is another matter");
    for nonsense in ["wait=soon", "wait=-1", "respond-async", ""] {
        let body = json!({"agent_id": "quick", "input": "go"});
        let answer = api.send("POST", RUNS, &[("Prefer", nonsense)], Some(&body)).await.unwrap();
        assert_eq!(answer.status, 202, "{nonsense}: {}", answer.text);
    }
}

/// A request for a run of `asker`, with more members.
async fn request(api: &Api, headers: &[(&str, &str)], more: Value) -> (u16, String, Value) {
    let mut body = json!({"agent_id": "asker", "input": {"n": 1}});
    for (member, value) in more.as_object().cloned().unwrap_or_default() {
        body[member] = value;
    }
    let answer = api.send("POST", RUNS, headers, Some(&body)).await.unwrap();
    (answer.status, answer.code(), answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_a_request_asks_for_is_kept_or_refused() {
    let model = Scripted::start(waiting).await;
    let stage = Stage::start(&[], None).await;
    let input_schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let manifests = [
        project(),
        manifest("provider", PROJECT, "brain", model.model_spec(&["quick"])),
        agent(PROJECT, "asker", "brain/quick", &[], json!({ "input_schema": input_schema })),
        agent(PROJECT, "bold", "brain/quick", &[], json!({"mode": "live"})),
    ];
    let api = stage.apply(PROJECT, &manifests).await;
    for (more, status, code) in [
        (json!({"mode": "live"}), 403, "E-RUN-003"),
        (json!({"mode": "suggest"}), 403, "E-RUN-003"),
        (json!({"mode": "foo"}), 422, "E-REQ-003"),
        (json!({"mode": ""}), 422, "E-REQ-003"),
        (json!({"mode": 5}), 422, "E-REQ-003"),
        (json!({"agent_id": "nobody"}), 422, "E-RUN-002"),
        (json!({"agent_id": "../keys"}), 422, "E-REQ-003"),
        (json!({"input": {"n": "one"}}), 422, "E-REQ-003"),
        (json!({"input": null}), 422, "E-REQ-003"),
        (json!({"priority": 10}), 422, "E-REQ-003"),
        (json!({"timeout_ms": 999}), 422, "E-REQ-003"),
        (json!({"no_such_member": 1}), 422, "E-REQ-003"),
        (json!({"parent_run_id": "01900000-0000-7000-8000-000000000001"}), 422, "E-REQ-003"),
        (json!({"parent_run_id": "nonsense"}), 422, "E-REQ-003"),
    ] {
        let refused = request(&api, &[], more.clone()).await;
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{more}: {}", refused.2);
        assert_eq!(refused.2["status"], status, "{more}");
    }
    let refused = request(&api, &[], json!({"input": {"n": "one"}})).await;
    assert_eq!(refused.2["errors"][0]["path"], "/input/n", "{}", refused.2);
    let listed = api.get(RUNS).await.unwrap().expect(200).unwrap();
    assert_eq!(listed["items"], json!([]), "what is refused leaves no run");
    assert!(model.asked().is_empty());

    check_modes_and_parents(&stage, &api).await;
    check_trace_and_replay(&api).await;
    check_masked_input(&stage, &api, &model).await;
}

async fn check_modes_and_parents(stage: &Stage, api: &Api) {
    let made = request(api, &[], json!({"agent_id": "bold"})).await.2;
    let bold = api.wait_for_end(id_of(&made), PATIENCE).await.unwrap();
    assert_eq!(bold["mode"], "live", "the agent's own");
    let made = request(api, &[], json!({"mode": "shadow"})).await.2;
    let parent = api.wait_for_end(id_of(&made), PATIENCE).await.unwrap();
    assert_eq!(parent["mode"], "shadow");
    let child = json!({"agent_id": "bold", "parent_run_id": id_of(&parent)});
    let made = request(api, &[], child.clone()).await;
    assert_eq!(made.0, 202, "{}", made.2);
    assert_eq!(made.2["run"]["parent_run_id"], id_of(&parent));
    assert_eq!(made.2["run"]["trigger"]["trigger_type"], "sub_agent");
    assert_eq!(run_contract().validate(&made.2["run"]), Ok(()), "{}", made.2);
    let found = api.wait_for_end(id_of(&made.2), PATIENCE).await.unwrap();
    assert_eq!(found["mode"], "shadow", "never above the parent's");
    let mut bolder = child.clone();
    bolder["mode"] = json!("live");
    assert_eq!(request(api, &[], bolder).await.1, "E-RUN-003");

    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let elsewhere = [
        manifest("project", "elsewhere", "elsewhere", json!({"display_name": "Another"})),
        manifest("provider", "elsewhere", "offline", offline),
        agent("elsewhere", "bold", "offline/planner", &[], json!({})),
    ];
    let other = stage.apply("elsewhere", &elsewhere).await;
    let refused = request(&other, &[], child).await;
    assert_eq!((refused.0, refused.1.as_str()), (422, "E-REQ-003"), "a parent is of the same project");
}

async fn check_trace_and_replay(api: &Api) {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let traceparent = format!("00-{trace}-b7ad6b7169203331-01");
    let made = request(api, &[("traceparent", &traceparent)], json!({})).await.2;
    assert_eq!(made["run"]["trace_id"], trace);
    for nonsense in ["", "00-0-0-0", "ff-00000000000000000000000000000000-0000000000000000-00"] {
        let made = request(api, &[("traceparent", nonsense)], json!({})).await;
        let own = made.2["run"]["trace_id"].as_str().unwrap();
        assert!(own.len() == 32 && own != trace && own != "0".repeat(32), "{nonsense}: {own}");
    }
    let key = [("Idempotency-Key", "once")];
    let first = request(api, &key, json!({})).await;
    let again = request(api, &key, json!({})).await;
    assert_eq!((first.0, again.0), (202, 202));
    assert_eq!(id_of(&first.2), id_of(&again.2), "one run");
    let other = request(api, &key, json!({"input": {"n": 2}})).await;
    assert_eq!(other.1, "E-REQ-006", "{}", other.2);
    let side_by_side: Vec<_> = (0..8)
        .map(|_| async {
            id_of(&request(api, &[("Idempotency-Key", "raced")], json!({})).await.2).to_owned()
        })
        .collect();
    let ids = futures::future::join_all(side_by_side).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "one run, however many ask at once: {ids:?}");
    let blank = request(api, &[("Idempotency-Key", "")], json!({})).await;
    assert_eq!((blank.0, blank.1.as_str()), (400, "E-REQ-001"));
}

async fn check_masked_input(stage: &Stage, api: &Api, model: &Scripted) {
    let input = json!({"n": 3, "note": format!("use {PLANTED} for it"), "list": [{"token": PLANTED}]});
    let key = [("Idempotency-Key", "with-a-secret")];
    let made =
        request(api, &key, json!({ "input": input, "triggered_by": format!("ci with {PLANTED}") })).await.2;
    let by = made["run"]["trigger"]["triggered_by"].as_str().unwrap();
    assert!(by.starts_with("ci with ") && !by.contains(PLANTED), "{by}");
    let found = api.wait_for_end(id_of(&made), PATIENCE).await.unwrap();
    assert_eq!(found["run"]["state"], "completed", "{found}");
    assert_eq!(found["run"]["input_sha256"], awooop_core::json::sha256_hex(&input), "over what came in");
    // runs of the checks before may still ask: whatever the model was asked must not hold it
    let mut shown: Vec<String> = model.asked().iter().map(|asked| asked.body.to_string()).collect();
    assert!(shown.iter().any(|asked| asked.contains("for it")), "the model got the rest: {shown:?}");
    shown.push(found.to_string());
    for path in ["", "/steps", "/events"] {
        shown.push(api.get(&format!("{RUNS}/{}{path}", id_of(&made))).await.unwrap().text);
    }
    stage.assert_unseen(PLANTED, &shown).await;
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

fn events(text: &str) -> Vec<Event> {
    let event = |block: &str| {
        let line = |head: &str| block.lines().find_map(|line| line.strip_prefix(head)).unwrap_or_default();
        let data = serde_json::from_str(line("data: ")).unwrap_or_default();
        Event { id: line("id: ").to_owned(), name: line("event: ").to_owned(), data }
    };
    text.split("\n\n").filter(|block| block.contains("event: ")).map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_watcher_sees_each_step_once_however_often_it_comes_back() {
    let (model, kit) = (Scripted::start(waiting).await, FixtureMcp::start().await.unwrap());
    let stage = Stage::start(&[], None).await;
    let api = stage.apply(PROJECT, &waiting_manifests(&model, &kit)).await;
    kit.hold();
    let run_id = api.create_run("slow", &json!("go")).await.unwrap();
    let path = format!("{RUNS}/{run_id}/events");
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let request = http.get(format!("{}{path}", api.base())).bearer_auth(stage.server.key());
    let mut stream = request.header("X-Awooop-Project", PROJECT).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut live = String::new();
    while !live.contains("event: step") {
        live += &String::from_utf8_lossy(&stream.chunk().await.unwrap().expect("it goes on"));
    }
    assert!(!live.contains("event: end"), "the first step came while the run goes on: {live}");
    kit.let_go();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        live += &String::from_utf8_lossy(&chunk);
    }
    let seen = events(&live);
    let names: Vec<&str> = seen.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names.first(), Some(&"state"), "{names:?}");
    assert_eq!(names.last(), Some(&"end"), "{names:?}");
    let steps: Vec<&Event> = seen.iter().filter(|event| event.name == "step").collect();
    assert_eq!(steps.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["1.1", "1.2", "1.3"]);
    let stored = api.steps(&run_id).await.unwrap();
    assert!(steps.iter().map(|e| &e.data).eq(stored.iter()), "an event is the step as it is listed");
    let document = api.get_run(&run_id).await.unwrap();
    assert_eq!(seen.last().unwrap().data, document, "the end is the final document");

    for (last, rest) in [
        ("1.0", vec!["1.1", "1.2", "1.3"]),
        ("1.1", vec!["1.2", "1.3"]),
        ("1.3", vec![]),
        ("0.0", vec!["1.1", "1.2", "1.3"]),
    ] {
        let answer = api.send("GET", &path, &[("Last-Event-ID", last)], None).await.unwrap();
        let again = events(&answer.text);
        let ids: Vec<&str> = again.iter().filter(|e| e.name == "step").map(|e| e.id.as_str()).collect();
        assert_eq!(ids, rest, "after {last}");
        assert_eq!(again.last().map(|e| e.name.as_str()), Some("end"), "after {last}");
    }
    let nonsense = api.send("GET", &path, &[("Last-Event-ID", "soon")], None).await.unwrap();
    assert!([200, 400].contains(&nonsense.status), "{}", nonsense.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_run_whose_model_is_away_waits_without_a_worker_and_is_tried_again() {
    // away until the third claim; a claim asks three times by itself
    let asked = std::sync::atomic::AtomicU32::new(0);
    let model = Scripted::start(move |request| {
        let times = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match request["model"] == "away" && times < 6 {
            true => Say::Status(503, json!({"error": {"message": format!("key {PLANTED}")}})),
            false => done(),
        }
    })
    .await;
    let stage = Stage::start(&[], None).await;
    let brain = manifest("provider", PROJECT, "brain", model.model_spec(&["away"]));
    let patient = agent(PROJECT, "away", "brain/away", &[], json!({"max_attempts": 3}));
    let api = stage.apply(PROJECT, &[project(), brain, patient]).await;
    let run_id = api.create_run("away", &json!("go")).await.unwrap();
    let path = format!("{RUNS}/{run_id}");
    let waiting = loop {
        let found = api.get(&path).await.unwrap().expect(200).unwrap();
        if found["retry"].is_object() {
            break found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!((&waiting["run"]["state"], &waiting["error"]), (&json!("pending"), &Value::Null), "{waiting}");
    assert_eq!(waiting["retry"]["code"], "E-RUN-013", "{waiting}");
    let is_over = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    assert_eq!((end(&is_over), &is_over["attempt"]), (("completed", ""), &json!(3)), "{is_over}");
    assert_eq!((is_over["retry"].is_null(), &is_over["run"]["step_count"]), (true, &json!(1)), "{is_over}");
    assert_eq!(
        model.asked_of("away").len(),
        7,
        "three tries by each of two claims, and the one that was answered"
    );
    let budget = budget(&api).await;
    assert_eq!(budget["held"], 0, "{budget}");
    let page = api.get("/v1/platform/audit?action=run.retry&limit=50").await.unwrap().expect(200).unwrap();
    assert_eq!(page["items"].as_array().unwrap().len(), 2, "{page}");
    stage.assert_unseen(PLANTED, &[waiting.to_string(), page.to_string(), is_over.to_string()]).await;
    stage.assert_well().await;
}
