//! Starting, finding and cancelling runs.

use awooop_core::ErrorCode;
use awooop_core::contract::RUN_SCHEMA;
use awooop_journeys::db::AGENT;
use awooop_store::journal::{Outcome, StepKind};
use serde_json::{Value, json};

use crate::api::{Api, RUNS, admin, request};

const CONTRACTS: &str = "/v1/platform/contracts";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_fits_its_contract_in_every_state() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let body = json!({"agent_id": AGENT, "input": {"q": 1}, "priority": 0, "timeout_ms": 5000});
    let made = api.post(&key, RUNS, &body).await;
    let run = made.json()["run"].clone();
    let path = format!("{RUNS}/{}", run["run_id"].as_str().unwrap());
    assert_eq!((made.status.as_u16(), made.header("location")), (202, path.as_str()));
    RUN_SCHEMA.validate(&run).unwrap();
    let claimed = api.claim(&project).await;
    api.step(&claimed, 1, StepKind::Llm).await;
    let running = api.get(&key, &path).await.json();
    RUN_SCHEMA.validate(&running["run"]).unwrap();
    assert_eq!((&running["run"]["state"], &running["run"]["step_count"]), (&json!("running"), &json!(1)));
    assert_eq!(
        (&running["mode"], &running["attempt"], &running["output"]),
        (&json!("shadow"), &json!(1), &Value::Null)
    );
    api.end(&claimed, Outcome::Completed(json!({"answer": 42}))).await;
    let ended = api.get(&key, &path).await.json();
    RUN_SCHEMA.validate(&ended["run"]).unwrap();
    assert_eq!((&ended["output"], &ended["error"]), (&json!({"answer": 42}), &Value::Null));
    assert_eq!(ended["run"]["cost_usd"], Value::Null);
    assert!(ended["run"]["completed_at"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_says_why() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let id = api.run(&project).await;
    let claimed = api.claim(&project).await;
    let outcome = Outcome::Failed(ErrorCode::Run013, "the provider is gone".into());
    api.end(&claimed, outcome).await;
    let found = api.get(&admin(&project), &format!("{RUNS}/{id}")).await.json();
    RUN_SCHEMA.validate(&found["run"]).unwrap();
    assert_eq!(found["error"], json!({"code": "E-RUN-013", "message": "the provider is gone"}));
    let cancel = request("POST", &format!("{RUNS}/{id}/cancel"), &admin(&project), &[], None);
    assert_eq!(api.send(cancel).await.problem(), (409, "E-RUN-001".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_starts_one_run() {
    let api = Api::new().await;
    let (project, other) = (api.test.project().await, api.test.project().await);
    let body = json!({"agent_id": AGENT, "input": {"b": 1, "a": 2}});
    let send = async |key: &str, body: &Value| {
        api.post_with(key, RUNS, &[("Idempotency-Key", "order-17")], body).await
    };
    let first = send(&admin(&project), &body).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (202, ""));
    let id = first.json()["run"]["run_id"].clone();
    // the order of members does not make another request
    let again = send(&admin(&project), &json!({"input": {"a": 2, "b": 1}, "agent_id": AGENT})).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (202, "true"));
    assert_eq!(again.json()["run"]["run_id"], id);
    let changed = send(&admin(&project), &json!({"agent_id": AGENT, "input": "other"})).await;
    assert_eq!(changed.problem(), (422, "E-REQ-006".into()));
    assert_ne!(send(&admin(&other), &body).await.json()["run"]["run_id"], id);
    for bad in ["", "a b", "ä", &"x".repeat(256)] {
        let answer = api.post_with(&admin(&project), RUNS, &[("Idempotency-Key", bad)], &body).await;
        assert_eq!(answer.problem(), (400, "E-REQ-001".into()), "{bad:?}");
    }
    let longest = "x".repeat(255);
    assert_eq!(
        api.post_with(&admin(&project), RUNS, &[("Idempotency-Key", &longest)], &body).await.status,
        202
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_waits_gets_the_end_and_one_who_waits_too_short_the_run() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let body = json!({"agent_id": AGENT, "input": "hi"});
    let waiting = api.post_with(&key, RUNS, &[("Prefer", "wait=30"), ("Idempotency-Key", "w")], &body);
    let working = async {
        let claimed = loop {
            let worker = awooop_store::claim::Worker { id: "hand".into(), incarnation: 1 };
            if let Some(run) = api.test.store.claim(&project.id, &worker, 1).await.unwrap().pop() {
                break run;
            }
            tokio::task::yield_now().await;
        };
        api.end(&claimed, Outcome::Completed(json!({"answer": 1}))).await;
    };
    let (answer, ()) = tokio::join!(waiting, working);
    assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (200, "wait=30"));
    assert_eq!(answer.json()["output"], json!({"answer": 1}));
    let replayed = api.post_with(&key, RUNS, &[("Prefer", "wait=1"), ("Idempotency-Key", "w")], &body).await;
    assert_eq!((replayed.status.as_u16(), replayed.header("idempotency-replayed")), (200, "true"));
    let short = api.post_with(&key, RUNS, &[("Prefer", "wait=1")], &body).await;
    assert_eq!((short.status.as_u16(), short.json()["run"]["state"].as_str()), (202, Some("pending")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drains_does_not_keep_a_waiting_caller() {
    let api = Api::new().await;
    let project = api.test.project().await;
    api.draining.cancel();
    let body = json!({"agent_id": AGENT, "input": "hi"});
    let answer = api.post_with(&admin(&project), RUNS, &[("Prefer", "wait=60")], &body).await;
    assert_eq!(answer.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_with_its_own_code() {
    let api = Api::new().await;
    let project = api.test.project_with(Some(0), 3).await;
    let key = admin(&project);
    let schema = json!({"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]});
    let agent = json!({"kind": "agent", "project": project.id, "id": "strict", "spec": {
        "instructions": "x", "model": "offline/planner", "output_schema": {}, "input_schema": schema}});
    assert_eq!(api.post(&key, CONTRACTS, &json!({"manifests": [agent]})).await.status, 200);
    let refuse = async |body: Value| {
        let answer = api.post(&key, RUNS, &body).await;
        (answer.problem(), answer.json()["errors"][0]["path"].as_str().unwrap_or("-").to_owned())
    };
    let told = |status: u16, code: &str, path: &str| ((status, code.to_owned()), path.to_owned());
    let body = |more: Value| {
        let mut body = json!({"agent_id": "strict", "input": {"q": "x"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert_eq!(
        refuse(body(json!({"agent_id": "nobody", "mode": "live"}))).await,
        told(422, "E-RUN-002", "-")
    );
    assert_eq!(refuse(body(json!({"mode": "live", "input": 1}))).await, told(403, "E-RUN-003", "-"));
    assert_eq!(refuse(body(json!({"mode": "suggest"}))).await, told(403, "E-RUN-003", "-"));
    assert_eq!(refuse(body(json!({"input": {"q": 1}}))).await, told(422, "E-REQ-003", "/input/q"));
    assert_eq!(refuse(body(json!({}))).await, told(402, "E-BUDGET-001", "-"));
    for (member, value) in [
        ("mode", json!("loud")),
        ("priority", json!(-1)),
        ("priority", json!(1.5)),
        ("timeout_ms", json!(999)),
        ("timeout_ms", json!(86_400_001)),
        ("parent_run_id", json!("not-a-uuid")),
        ("parent_run_id", json!("00000000-0000-7000-8000-000000000000")),
        ("triggered_by", json!("line\nbreak")),
        ("triggered_by", json!("nul\u{0}")),
        ("triggered_by", json!("")),
    ] {
        let expected = told(422, "E-REQ-003", &format!("/{member}"));
        assert_eq!(refuse(body(json!({ member: value.clone() }))).await, expected, "{value}");
    }
    assert_eq!(refuse(body(json!({"budget": {"tokens": 5}}))).await.0, (422, "E-REQ-003".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runs_limit_is_never_above_its_agents() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let asked = json!({"agent_id": AGENT, "input": 1, "timeout_ms": 86_400_000});
    let made = api.post(&admin(&project), RUNS, &asked).await.json();
    let id: uuid::Uuid = made["run"]["run_id"].as_str().unwrap().parse().unwrap();
    let run = api.test.store.find_run(&project.scope, id).await.unwrap().unwrap();
    assert_eq!(run.timeout_at.duration_since(run.created_at).as_secs(), 900);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_projects_run_is_as_absent_as_none() {
    let api = Api::new().await;
    let (mine, other) = (api.test.project().await, api.test.project().await);
    let id = api.run(&mine).await;
    let absent = "00000000-0000-7000-8000-000000000000";
    for run in [id.as_str(), absent, "nonsense", "%00", "%ff", &id.replace('-', "")] {
        for (method, end) in [("GET", ""), ("GET", "/steps"), ("GET", "/events"), ("POST", "/cancel")] {
            let path = format!("{RUNS}/{run}{end}");
            let answer = api.send(request(method, &path, &admin(&other), &[], None)).await;
            assert_eq!(answer.problem(), (404, "E-REQ-004".into()), "{method} {path}");
        }
    }
    let child = json!({"agent_id": AGENT, "input": 1, "parent_run_id": id});
    assert_eq!(api.post(&admin(&other), RUNS, &child).await.problem(), (422, "E-REQ-003".into()));
    let child = api.post(&admin(&mine), RUNS, &child).await.json();
    assert_eq!(child["run"]["trigger"]["trigger_type"], "sub_agent");
    RUN_SCHEMA.validate(&child["run"]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_a_run_at_once_and_twice_is_the_same_as_once() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let cancel = async |id: &str| {
        api.send(request("POST", &format!("{RUNS}/{id}/cancel"), &admin(&project), &[], None)).await
    };
    let queued = api.run(&project).await;
    let first = cancel(&queued).await;
    assert_eq!((first.status.as_u16(), first.json()["run"]["state"].as_str()), (200, Some("cancelled")));
    RUN_SCHEMA.validate(&first.json()["run"]).unwrap();
    assert_eq!(cancel(&queued).await.json(), first.json());
    let running = api.run(&project).await;
    let claimed = api.claim(&project).await;
    assert_eq!(cancel(&running).await.status, 200);
    let late = api.test.store.end_run(&claimed, &Outcome::Completed(json!({})), None, true).await;
    assert!(late.is_err(), "a cancelled run takes no outcome");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_key_starts_and_sees_runs_of_its_own_agent_only() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let twin = json!({"kind": "agent", "project": project.id, "id": "twin", "spec": {
        "instructions": "x", "model": "offline/planner", "output_schema": {}}});
    assert_eq!(api.post(&key, CONTRACTS, &json!({"manifests": [twin]})).await.status, 200);
    let own = api.key(&project, json!({"name": "bot", "agent_id": "twin"})).await;
    let mine = api.post(&own, RUNS, &json!({"agent_id": "twin", "input": 1})).await;
    assert_eq!(mine.status, 202, "{mine:?}");
    let refused = api.post(&own, RUNS, &json!({"agent_id": AGENT, "input": 1})).await;
    assert_eq!(refused.problem(), (403, "E-AUTH-002".into()));
    let other = api.run(&project).await;
    assert_eq!(api.get(&own, &format!("{RUNS}/{other}")).await.problem(), (404, "E-REQ-004".into()));
    let child = json!({"agent_id": "twin", "input": 1, "parent_run_id": other});
    assert_eq!(api.post(&own, RUNS, &child).await.problem(), (422, "E-REQ-003".into()));
    assert_eq!(api.get(&own, RUNS).await.problem(), (403, "E-AUTH-002".into()));
    let tools = api.get(&own, &format!("/v1/platform/tools?agent_id={AGENT}")).await;
    assert_eq!(tools.problem(), (403, "E-AUTH-002".into()));
    assert_eq!(api.get(&own, "/v1/platform/tools").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_the_callers_trace() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let body = json!({"agent_id": AGENT, "input": 1});
    let trace = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    let made = api.post_with(&admin(&project), RUNS, &trace, &body).await.json();
    assert_eq!(made["run"]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    let made = api.post_with(&admin(&project), RUNS, &[("traceparent", "nonsense")], &body).await.json();
    assert_eq!(made["run"]["trace_id"].as_str().map(str::len), Some(32));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_answered_whatever_came_between() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let body = json!({"agent_id": AGENT, "input": "once"});
    let send = async || api.post_with(&admin(&project), RUNS, &[("Idempotency-Key", "k-1")], &body).await;
    let first = send().await.json();
    let spent = json!({"manifests": [{"kind": "project", "project": project.id, "id": project.id,
        "spec": {"display_name": "spent", "budget": {"tokens": 0}}}]});
    assert_eq!(api.post(&admin(&project), CONTRACTS, &spent).await.status.as_u16(), 200);
    let again = send().await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (202, "true"));
    assert_eq!(again.json()["run"]["run_id"], first["run"]["run_id"]);
    let another = api.post_with(&admin(&project), RUNS, &[("Idempotency-Key", "k-2")], &body).await;
    assert_eq!(another.problem(), (402, "E-BUDGET-001".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_whose_storage_is_used_up_starts_nothing_and_is_told_what_it_has_stored() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let listed = async || api.get(&key, "/v1/platform/projects").await.json()["items"][0]["storage"].clone();
    assert_eq!(listed().await, Value::Null);
    let limited = json!({"manifests": [{"kind": "project", "project": project.id, "id": project.id,
        "spec": {"display_name": "full", "limits": {"max_storage_bytes": 1_000_000}}}]});
    assert_eq!(api.post(&key, CONTRACTS, &limited).await.status, 200);
    assert_eq!(listed().await, json!({"max_bytes": 1_000_000, "stored_bytes": null, "counted_at": null}));
    let body = json!({"agent_id": AGENT, "input": "a question"});
    assert_eq!(api.post(&key, RUNS, &body).await.status, 202);
    // as a count would find it
    let sql =
        "UPDATE project SET stored_bytes = 1000000, storage_counted_at = now(), storage_due_at = 'infinity'
        WHERE project_id = $1";
    api.test.database().admin().await.execute(sql, &[&project.id.as_str()]).await.unwrap();
    assert_eq!(api.post(&key, RUNS, &body).await.problem(), (402, "E-LIMIT-006".into()));
    assert_eq!(listed().await["stored_bytes"], 1_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_refused_with_the_time_to_come_again_and_keeps_nothing() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let spec = json!({"display_name": "Limited", "limits": {"max_queued_runs": 2}});
    let document = json!({"kind": "project", "project": project.id, "id": project.id, "spec": spec});
    let applied = api.post(&admin(&project), CONTRACTS, &json!({"manifests": [document]})).await;
    assert_eq!(applied.status, 200, "{applied:?}");
    let (first, _) = (api.run(&project).await, api.run(&project).await);
    let body = json!({"agent_id": AGENT, "input": "one too many"});
    let refused = api.post_with(&admin(&project), RUNS, &[("Idempotency-Key", "k")], &body).await;
    assert_eq!((refused.problem(), refused.header("retry-after")), ((429, "E-LIMIT-002".into()), "1"));
    assert_eq!(refused.json()["retryable"], json!(true));
    let cancel = request("POST", &format!("{RUNS}/{first}/cancel"), &admin(&project), &[], None);
    assert_eq!(api.send(cancel).await.status, 200);
    let made = api.post_with(&admin(&project), RUNS, &[("Idempotency-Key", "k")], &body).await;
    assert_eq!((made.status.as_u16(), made.header("idempotency-replayed")), (202, ""));
}
