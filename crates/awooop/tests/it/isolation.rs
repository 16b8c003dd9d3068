//! Every operation of the OpenAPI document, with no key, with another project's key, and with the
//! project's own. The operations come from the document, so one that is added later is tested without a
//! word here.

use std::time::Duration;

use awooop_journeys::client::{Answer, Api};
use awooop_journeys::fixture_mcp::FixtureMcp;
use awooop_journeys::fixture_model::{FixtureModel, Line};
use serde_json::{Value, json};

use crate::scripted::until;
use crate::support::{kit, make_project, site};

const MINE: &str = "tenant-mine";
const OTHER: &str = "tenant-other";
/// An agent and a tool server that only [`MINE`] has.
const AGENT: &str = "only-mine";
const PROVIDER: &str = "onlymine";
const SCHEDULE: &str = "nightly-mine";
/// A principal that is nobody's way in.
const SPARE: &str = "spare-mine";

struct Operation {
    id: String,
    method: String,
    path: String,
    is_open: bool,
    has_body: bool,
    has_parts: bool,
}

/// The document's operations, path parts filled in with what exists in the project of `ids`.
fn operations(document: &Value, ids: &[(&str, &str)]) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let mut filled = path.clone();
            for (name, value) in ids {
                filled = filled.replace(&format!("{{{name}}}"), value);
            }
            assert!(!filled.contains('{'), "{path}: say in `ids` what its parts can be");
            let is_open = operation["security"].as_array().is_some_and(|s| s.contains(&json!({})));
            found.push(Operation {
                id: operation["operationId"].as_str().expect("an id").to_owned(),
                method: method.to_uppercase(),
                has_parts: filled != *path,
                path: filled,
                is_open,
                has_body: !operation["requestBody"].is_null(),
            });
        }
    }
    assert!(found.len() >= 15, "the document lists the operations");
    found
}

/// A body that is valid for the project, for operations that take one.
fn body(operation: &Operation, project: &str) -> Option<Value> {
    let body = match operation.id.as_str() {
        "create_run" => json!({"agent_id": "tester", "input": "hello"}),
        "apply_contracts" => {
            json!({"manifests": [{"kind": "project", "project": project, "id": project, "spec": {"display_name": "Mine"}}]})
        }
        "save_draft" => agent(project),
        "create_halt" | "lift_halt" => json!({"kind": "pause", "target": "agent", "name": AGENT}),
        "delete_project" => json!({"confirm": project, "dry_run": true}),
        "grant_role" => json!({"role": "viewer"}),
        "create_key" => json!({"name": "further", "role": "viewer"}),
        "decide_approval" => json!({"decision": "deny"}),
        "explain_tool_call" => json!({"agent_id": AGENT, "tool": format!("{PROVIDER}__echo")}),
        "deliver_result" => json!({"content": [{"type": "text", "text": "done"}]}),
        "use_mcp" | "use_mcp_of_provider" => json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
        _ if operation.has_body => json!({}),
        _ => return None,
    };
    Some(body)
}

/// The manifest of [`AGENT`].
fn agent(project: &str) -> Value {
    let nightly = json!({"id": SCHEDULE, "cron": "0 3 * * *", "input": "a question of mine"});
    let spec = json!({"instructions": "Answer.", "model": "brain/planner", "output_schema": {}, "schedules": [nightly]});
    json!({"kind": "agent", "project": project, "id": AGENT, "spec": spec})
}

/// Gives a project contracts whose names no other project has.
async fn apply_own_contracts(mine: &Api, fixture: &FixtureMcp) {
    let provider =
        json!({"kind": "provider", "project": MINE, "id": PROVIDER, "spec": fixture.provider_spec()});
    mine.apply(&[agent(MINE), provider]).await.expect("the manifests are valid");
}

/// An approval of the project: an agent in `suggest` that asks for a call.
async fn approval(mine: &Api) -> String {
    let call = Line::call(&format!("{PROVIDER}__echo"), json!({"text": "a question of mine"}));
    let model = FixtureModel::start(vec![call]).await.unwrap();
    let thinker =
        json!({"kind": "provider", "project": MINE, "id": "thinker", "spec": model.provider_spec()});
    let grants = [json!({"tool": format!("{PROVIDER}__echo"), "risk": "write"})];
    let spec = json!({"instructions": "Ask.", "model": "thinker/script", "output_schema": {}, "mode": "suggest",
        "grants": grants});
    let asker = json!({"kind": "agent", "project": MINE, "id": "asker", "spec": spec});
    mine.apply(&[thinker, asker]).await.expect("the manifests are valid");
    let run_id = mine.create_run("asker", &json!("go")).await.unwrap();
    let asked = async || mine.get_run(&run_id).await.unwrap()["waiting"]["approval_id"].clone();
    until("it waits for people", async || asked().await.is_string()).await;
    asked().await.as_str().unwrap().to_owned()
}

/// What ends something that others need comes late, and what revokes the key that is used, last.
fn turn(operation: &Operation) -> u8 {
    match operation.id.as_str() {
        "revoke_key" => 3,
        id if id.starts_with("revoke") => 2,
        id if id.starts_with("retire") => 1,
        _ => 0,
    }
}

async fn send(api: &Api, operation: &Operation, body: Option<&Value>) -> Answer {
    let headers = [("Accept", "application/json, text/event-stream")];
    let answer = api.send(&operation.method, &operation.path, &headers, body).await;
    answer.unwrap_or_else(|e| panic!("{}: {e}", operation.id))
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_no_operation_crosses_projects() {
    let (site, fixture) = (site().await, FixtureMcp::start().await.unwrap());
    let mine = make_project(site.server.api(), MINE, &fixture, "fail").await;
    // a person's key: there are things that only people may do
    let person = json!({"name": "mei", "role": "admin", "person": "mei"});
    let person = site.server.api().in_project(MINE).create_key(&person).await.unwrap();
    let mine = mine.with_key(Some(&person));
    mine.create_key(&json!({"name": SPARE, "role": "viewer"})).await.unwrap();
    let other = make_project(site.server.api(), OTHER, &fixture, "fail").await;
    let run_id = mine.create_run("tester", &json!("a question of mine")).await.unwrap();
    mine.wait_for_end(&run_id, Duration::from_secs(30)).await.unwrap();
    let keys = mine.get("/v1/platform/keys").await.unwrap().expect(200).unwrap();
    let key_id = keys["items"][0]["key_id"].as_str().unwrap().to_owned();
    let event_id = sealed_event(&mine).await;
    let document = mine.get("/openapi.json").await.unwrap().expect(200).unwrap();
    apply_own_contracts(&mine, &fixture).await;
    let approval_id = approval(&mine).await;
    let ids = [
        ("run_id", run_id.as_str()),
        ("n", "1"),
        ("approval_id", approval_id.as_str()),
        ("key_id", key_id.as_str()),
        ("code", "E-AUTH-001"),
        ("kind", "agent"),
        ("id", AGENT),
        ("version", "1"),
        ("provider_id", PROVIDER),
        ("event_id", event_id.as_str()),
        ("agent_id", AGENT),
        ("schedule_id", SCHEDULE),
        ("principal_id", SPARE),
        ("project_id", MINE),
    ];
    let secrets = [run_id.as_str(), key_id.as_str(), MINE, "a question of mine"];
    let mut operations = operations(&document, &ids);
    operations.sort_by_key(turn);
    for operation in &operations {
        let body = body(operation, MINE);
        let ask = async |api: &Api| send(api, operation, body.as_ref()).await;
        let name = format!("{} {}", operation.method, operation.path);
        if operation.is_open {
            assert_eq!(ask(&mine.with_key(None)).await.status, 200, "{name}");
            continue;
        }
        for bad in [None, Some(""), Some("awp_nonsense"), Some(forged().as_str())] {
            let answer = ask(&mine.with_key(bad)).await;
            assert_eq!(answer.status, 401, "{name} with {bad:?}: {}", answer.text);
            assert_silent(&name, &answer, &secrets);
        }

        let answer = ask(&other).await;
        assert_silent(&name, &answer, &secrets);
        if operation.id == "save_draft" {
            // its body names the project
            assert_eq!((answer.status, answer.code().as_str()), (403, "E-AUTH-003"), "{}", answer.text);
        } else if operation.has_parts {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "E-REQ-004"),
                "{name}: {}",
                answer.text
            );
        } else {
            assert!(answer.status < 500, "{name}: {}", answer.text);
        }
        let answer = ask(&other.in_project(MINE)).await;
        let refusal = (answer.status, answer.code());
        // the MCP endpoint says it in its protocol's form
        if operation.id.starts_with("use_mcp") {
            assert!(answer.status == 401 || answer.status == 403, "{name}: {}", answer.text);
        } else {
            assert_eq!(refusal, (403, "E-AUTH-003".to_owned()), "{name}: {}", answer.text);
        }
        let absent = ask(&other.in_project("no-such-project")).await;
        assert_eq!(absent.status, answer.status, "{name}: it does not matter whether the project exists");

        let answer = ask(&mine).await;
        if operation.id == "delete_project" {
            // the operators' alone
            assert_eq!((answer.status, answer.code().as_str()), (403, "E-AUTH-002"), "{}", answer.text);
            continue;
        }
        assert!(answer.status < 500 && ![401, 403, 404].contains(&answer.status), "{name}: {}", answer.text);
    }
    let after = mine.get_run(&run_id).await;
    assert!(after.is_err() || after.is_ok_and(|run| run["run"]["project_id"] == MINE));
    let listed = other.get("/v1/platform/runs").await.unwrap().expect(200).unwrap();
    for run in listed["items"].as_array().unwrap() {
        assert_eq!(run["run"]["project_id"], OTHER);
    }
}

/// An event of the project's audit that a seal holds.
async fn sealed_event(api: &Api) -> String {
    let page = api.get("/v1/platform/audit?action=run.create").await.unwrap().expect(200).unwrap();
    let id = page["items"][0]["id"].as_str().expect("a run was created").to_owned();
    let proof = format!("/v1/platform/audit/events/{id}/proof");
    while api.get(&proof).await.unwrap().status == 409 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    id
}

/// A well-formed key that nobody was given.
fn forged() -> String {
    format!("awp_{MINE}_{}_{}", "a".repeat(12), "b".repeat(43))
}

fn assert_silent(name: &str, answer: &Answer, secrets: &[&str]) {
    // the address it was asked under may be repeated; nothing else of the project
    let mut document = answer.json();
    if let Some(document) = document.as_object_mut() {
        document.remove("instance");
        document.remove("detail");
    }
    let shown = if document.is_null() { answer.text.clone() } else { document.to_string() };
    for secret in secrets {
        assert!(!shown.contains(secret), "{name} says {secret}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_project_s_manifests_cannot_name_another_project() {
    let (site, fixture) = (site().await, FixtureMcp::start().await.unwrap());
    make_project(site.server.api(), MINE, &fixture, "fail").await;
    let other = make_project(site.server.api(), OTHER, &fixture, "fail").await;
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let manifests = kit(MINE, fixture.provider_spec(), offline, "planner", &["echo"]);
    let answer = other.post("/v1/platform/contracts", &json!({"manifests": manifests})).await.unwrap();
    assert!([403, 422].contains(&answer.status), "{}: {}", answer.status, answer.text);
    let contracts = site.server.api().in_project(MINE).get("/v1/platform/contracts").await.unwrap();
    let contracts = contracts.expect(200).unwrap();
    assert!(contracts["items"].as_array().unwrap().iter().all(|item| item["version"] == 1), "{contracts}");
}
