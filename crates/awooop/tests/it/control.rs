//! What people do to runs by the real binary: pause, stop and start, cancel and retry many, end a family. Asked
//! through HTTP and the command line, with the texts a person reads.

use awooop_journeys::client::Api;
use serde_json::{Value, json};

use crate::scripted::{PATIENCE, Stage, agent, end, id_of, manifest, until};

const PROJECT: &str = "ctl";
const HALTS: &str = "/v1/platform/halts";
const RUNS: &str = "/v1/platform/runs";

async fn stage() -> (Stage, Api) {
    let stage = Stage::start(&[], None).await;
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let free = json!({"output_schema": {}});
    let manifests = [
        manifest("project", PROJECT, PROJECT, json!({"display_name": "Controlled"})),
        manifest("provider", PROJECT, "offline", offline),
        agent(PROJECT, "clerk", "offline/planner", &[], free.clone()),
        agent(PROJECT, "other", "offline/planner", &[], free),
    ];
    let api = stage.apply(PROJECT, &manifests).await;
    (stage, api)
}

/// What a command prints on stdout and stderr, and its exit code.
async fn cli(stage: &Stage, arguments: &[&str]) -> (i32, String, String) {
    let output = stage.home.cli(&[arguments, &["--project", PROJECT]].concat()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn said(stage: &Stage, arguments: &[&str]) -> String {
    let (code, out, err) = cli(stage, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {out} {err}");
    out
}

async fn post(api: &Api, path: &str, body: &Value) -> (u16, String, Value) {
    let answer = api.post(path, body).await.unwrap();
    (answer.status, answer.code(), answer.json())
}

async fn in_state(api: &Api, run_id: &str, state: &str) -> bool {
    api.get_run(run_id).await.unwrap()["run"]["state"] == state
}

/// The API with a key of this role.
async fn with_role(api: &Api, role: &str) -> Api {
    let key = api.create_key(&json!({"name": format!("a-{role}"), "role": role})).await.unwrap();
    Api::new(api.base(), Some(&key)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_paused_agent_waits_says_why_and_goes_on_when_it_is_resumed() {
    let (stage, api) = stage().await;
    let paused = said(&stage, &["pause", "--agent", "clerk", "--reason", "the index is rebuilt"]).await;
    assert!(paused.starts_with("agent clerk is paused since "), "{paused}");
    assert!(paused.ends_with(", by platform/admin: the index is rebuilt"), "{paused}");
    let again = said(&stage, &["pause", "--agent", "clerk", "--reason", "another"]).await;
    assert_eq!(again, paused, "the first time and its reason stay");
    let listed = said(&stage, &["halts"]).await;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("KIND   TARGET  NAME   SINCE"), "{listed}");
    assert!(lines[1].starts_with("pause  agent   clerk  ") && lines[1].ends_with("the index is rebuilt"));

    let waits = api.create_run("clerk", &json!("go")).await.unwrap();
    let other = api.create_run("other", &json!("go")).await.unwrap();
    assert_eq!(end(&api.wait_for_end(&other, PATIENCE).await.unwrap()), ("completed", ""));
    let found = api.get_run(&waits).await.unwrap();
    assert_eq!(found["run"]["state"], "pending", "{found}");
    assert_eq!(found["halt"]["reason"], "the index is rebuilt", "{found}");
    let shown = said(&stage, &["runs", "get", &waits]).await;
    assert!(shown.contains("waits: agent clerk is paused since "), "{shown}");
    assert_eq!(said(&stage, &["resume", "--agent", "clerk"]).await, "agent clerk is resumed");
    let ended = api.wait_for_end(&waits, PATIENCE).await.unwrap();
    assert_eq!((end(&ended), &ended["halt"]), (("completed", ""), &Value::Null));

    assert!(said(&stage, &["pause"]).await.starts_with("the project is paused since "));
    let project = api.get("/v1/platform/projects").await.unwrap().expect(200).unwrap();
    assert_eq!(project["items"][0]["state"], "paused", "{project}");
    assert_eq!(said(&stage, &["resume"]).await, "the project is resumed");
    assert_eq!(said(&stage, &["halts"]).await, "nothing is paused or stopped");
    let (code, _, err) = cli(&stage, &["resume"]).await;
    assert!(code == 1 && err.contains("there is no such pause here (E-REQ-004)"), "{code} {err}");
    let audit = api.get("/v1/platform/audit?action=halt.create").await.unwrap().expect(200).unwrap();
    let subjects: Vec<&str> =
        audit["items"].as_array().unwrap().iter().map(|e| e["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["project/ctl", "agent/clerk"]);
    stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_who_may_stop_what_and_what_a_mistyped_name_is_told() {
    let (stage, api) = stage().await;
    let (operator, viewer) = (with_role(&api, "operator").await, with_role(&api, "viewer").await);
    let stop = json!({"kind": "stop", "target": "project", "reason": "an incident"});
    assert_eq!(post(&viewer, HALTS, &stop).await.1, "E-AUTH-002");
    let (status, _, halt) = post(&operator, HALTS, &stop).await;
    assert_eq!((status, &halt["halted_by"]), (201, &json!("ctl/a-operator")), "{halt}");
    assert_eq!(post(&operator, HALTS, &stop).await.0, 200);
    let seen = viewer.get(HALTS).await.unwrap().expect(200).unwrap();
    assert_eq!(seen["items"], json!([halt]));
    assert_eq!(post(&viewer, &format!("{HALTS}/lift"), &stop).await.1, "E-AUTH-002");
    assert_eq!(post(&operator, &format!("{HALTS}/lift"), &stop).await.0, 200);

    for (body, status, code) in [
        (json!({"kind": "stop", "target": "all"}), 403, "E-AUTH-002"),
        (json!({"kind": "pause", "target": "all"}), 422, "E-REQ-003"),
        (json!({"kind": "pause", "target": "provider", "name": "offline"}), 422, "E-REQ-003"),
        (json!({"kind": "stop", "target": "agent", "name": "clerc"}), 404, "E-REQ-004"),
        (json!({"kind": "stop", "target": "tool", "name": "shop__orders"}), 404, "E-REQ-004"),
        (json!({"kind": "stop", "target": "agent"}), 422, "E-REQ-003"),
        (json!({"kind": "stop", "target": "project", "name": "x1"}), 422, "E-REQ-003"),
        (json!({"kind": "halt", "target": "project"}), 422, "E-REQ-003"),
        (json!({"target": "project"}), 422, "E-REQ-003"),
    ] {
        let refused = post(&api, HALTS, &body).await;
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{body}: {}", refused.2);
    }
    let (code, _, err) = cli(&stage, &["stop", "--agent", "clerc"]).await;
    assert!(code == 1 && err.contains("there is no such agent here"), "{code} {err}");
    assert_eq!(
        cli(&stage, &["stop", "--agent", "clerk", "--tool", "a__b"]).await.0,
        2,
        "one target at a time"
    );

    // the operators stop everything, and every project sees it
    let all = stage.home.cli(&["stop", "--all", "--reason", "maintenance"]).await.unwrap();
    let all = String::from_utf8(all.stdout).unwrap();
    assert!(all.starts_with("everything is stopped since ") && all.contains(": maintenance"), "{all}");
    let waits = operator.create_run("clerk", &json!("go")).await.unwrap();
    let found = operator.get_run(&waits).await.unwrap();
    assert_eq!((&found["run"]["state"], &found["halt"]["target"]), (&json!("pending"), &json!("all")));
    let (code, _, err) = cli(&stage, &["start", "--all"]).await;
    assert!(code == 3 && err.contains("only the platform's operators"), "{code} {err}");
    let started = stage.home.cli(&["start", "--all"]).await.unwrap();
    assert_eq!(String::from_utf8(started.stdout).unwrap(), "everything is started\n");
    assert_eq!(end(&operator.wait_for_end(&waits, PATIENCE).await.unwrap()), ("completed", ""));
    stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_many_runs_are_cancelled_and_done_again_by_a_filter() {
    let (stage, api) = stage().await;
    said(&stage, &["pause", "--agent", "clerk"]).await;
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(api.create_run("clerk", &json!({ "n": n })).await.unwrap());
    }
    let (code, _, err) = cli(&stage, &["runs", "cancel"]).await;
    assert!(code == 2 && err.contains("--all"), "a filter is needed: {code} {err}");
    let bulk = format!("{RUNS}/bulk-cancel");
    assert_eq!(post(&api, &bulk, &json!({})).await.1, "E-REQ-003");
    assert_eq!(post(&api, &bulk, &json!({"state": "pending", "all": true})).await.1, "E-REQ-003");
    assert_eq!(post(&api, &bulk, &json!({"state": "failed"})).await.1, "E-REQ-003");
    let dry = said(&stage, &["runs", "cancel", "--agent", "clerk", "--dry-run"]).await;
    assert_eq!(dry, "5 runs would be cancelled");
    assert_eq!(said(&stage, &["runs", "cancel", "--agent", "other"]).await, "0 runs cancelled");
    assert_eq!(said(&stage, &["runs", "cancel", "--older-than", "1h"]).await, "0 runs cancelled");
    let page = post(&api, &bulk, &json!({"agent_id": "clerk", "limit": 2})).await.2;
    assert_eq!((page["looked_at"].as_i64(), page["next_cursor"].is_string()), (Some(5), true), "{page}");
    let first: Vec<&str> =
        page["items"].as_array().unwrap().iter().map(|item| item["run_id"].as_str().unwrap()).collect();
    assert_eq!(first, [&made[4], &made[3]], "the newest first");
    let cursor = page["next_cursor"].clone();
    let page = post(&api, &bulk, &json!({"agent_id": "clerk", "dry_run": true, "cursor": cursor})).await.2;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next_cursor"]), (3, &Value::Null), "{page}");
    assert_eq!(page["items"][0]["run_id"], json!(made[2]), "it goes on where the page before ended");
    assert_eq!(said(&stage, &["runs", "cancel", "--state", "pending"]).await, "3 runs cancelled");
    assert_eq!(said(&stage, &["runs", "cancel", "--all"]).await, "0 runs cancelled");
    said(&stage, &["resume", "--agent", "clerk"]).await;

    let dry = said(&stage, &["runs", "retry", "--state", "cancelled", "--dry-run"]).await;
    assert!(dry.ends_with("5 runs would be done again") && dry.contains("would_create"), "{dry}");
    let retry = ["runs", "retry", "--state", "cancelled", "--idempotency-key", "k1"];
    let once = said(&stage, &retry).await;
    assert!(once.ends_with("5 runs done again, 0 refused"), "{once}");
    let twice = said(&stage, &retry).await;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&twice.replace("replayed", "created")), words(&once), "the same new runs");
    let listed = api.get(&format!("{RUNS}?limit=200")).await.unwrap().expect(200).unwrap();
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), 10);
    for item in items.iter().filter(|item| !made.iter().any(|id| id == id_of(item))) {
        assert_eq!(item["run"]["trigger"]["trigger_type"], "retry");
        let ended = api.wait_for_end(id_of(item), PATIENCE).await.unwrap();
        assert_eq!(end(&ended), ("completed", ""));
        let event = format!("/v1/platform/audit?action=run.create&run_id={}", id_of(item));
        let event = api.get(&event).await.unwrap().expect(200).unwrap();
        let of = event["items"][0]["body"]["retry_of"].as_str().unwrap_or_default().to_owned();
        assert!(made.contains(&of), "{event}");
        let input = api.get_run(&of).await.unwrap()["run"]["input_sha256"].clone();
        assert_eq!(ended["run"]["input_sha256"], input, "the same is asked");
    }
    check_retry_of_one(&stage, &api, &made[0]).await;
    stage.assert_well().await;
}

async fn check_retry_of_one(stage: &Stage, api: &Api, run_id: &str) {
    let bulk = format!("{RUNS}/bulk-retry");
    let headers = [("Idempotency-Key", "k2")];
    let body = json!({"run_id": run_id});
    let send = async |body: &Value| api.send("POST", &bulk, &headers, Some(body)).await.unwrap();
    let first = send(&body).await.json();
    let again = send(&body).await.json();
    assert_eq!(
        (&first["items"][0]["result"], &again["items"][0]["result"]),
        (&json!("created"), &json!("replayed"))
    );
    assert_eq!(first["items"][0]["new_run_id"], again["items"][0]["new_run_id"]);
    assert_eq!(first["items"][0]["is_input_masked"], false);
    assert_eq!(send(&json!({"all": true})).await.code(), "E-REQ-006", "the key stands for another request");

    // a masked input is asked again as it was kept
    let secret = format!("ghp_{}", "aB3dE6gH9j".repeat(4).chars().take(36).collect::<String>());
    let masked = api.create_run("other", &json!(format!("my key is {secret}"))).await.unwrap();
    api.wait_for_end(&masked, PATIENCE).await.unwrap();
    let (code, _, err) = cli(stage, &["runs", "retry", &masked]).await;
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("1 of them had their input masked when they were made"), "{err}");
    stage.assert_unseen(&secret, &[]).await;

    let viewer = with_role(api, "viewer").await;
    assert_eq!(post(&viewer, &bulk, &body).await.1, "E-AUTH-002");
    assert_eq!(post(&viewer, &format!("{RUNS}/bulk-cancel"), &json!({"all": true})).await.1, "E-AUTH-002");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_cancelled_parent_takes_its_open_descendants_with_it() {
    let (stage, api) = stage().await;
    said(&stage, &["pause"]).await;
    let parent = api.create_run("clerk", &json!("go")).await.unwrap();
    let mut family = vec![parent.clone()];
    for _ in 0..3 {
        let body = json!({"agent_id": "other", "input": "go", "parent_run_id": family.last()});
        let made = post(&api, RUNS, &body).await;
        assert_eq!(made.0, 202, "{}", made.2);
        family.push(id_of(&made.2).to_owned());
    }
    let listed = said(&stage, &["runs", "list", "--parent", &parent]).await;
    assert!(listed.contains(&family[1]) && !listed.contains(&family[2]), "{listed}");
    let shown = said(&stage, &["runs", "get", &parent]).await;
    assert!(shown.contains("0 tokens (0 with its 3 descendants)"), "{shown}");
    said(&stage, &["runs", "cancel", &parent]).await;
    until("the last descendant is cancelled", async || in_state(&api, &family[3], "cancelled").await).await;
    for run_id in &family[1..] {
        assert!(in_state(&api, run_id, "cancelled").await);
    }
    let event = format!("/v1/platform/audit?action=run.cancel&run_id={}", family[3]);
    let event = api.get(&event).await.unwrap().expect(200).unwrap();
    let cause = &event["items"][0]["body"]["cause"];
    assert_eq!(*cause, json!({"parent_run_id": family[2], "parent_state": "cancelled"}), "{event}");
    let late = post(&api, RUNS, &json!({"agent_id": "other", "input": "go", "parent_run_id": parent})).await;
    assert_eq!((late.0, late.1.as_str()), (409, "E-RUN-001"), "{}", late.2);
    stage.assert_well().await;
}
