//! Schedules through the API: what runs by itself, and who may fire one by hand.

use awooop_core::contract::RUN_SCHEMA;
use awooop_journeys::db::{AGENT, TestProject};
use serde_json::{Value, json};

use crate::api::{Api, RUNS, admin};

const SCHEDULES: &str = "/v1/platform/schedules";

async fn apply(api: &Api, project: &TestProject, schedules: Value) -> crate::api::Answer {
    let spec = json!({"instructions": "Answer.", "model": "offline/planner", "output_schema": {"type": "object"},
        "schedules": schedules});
    let manifest = json!({"kind": "agent", "project": project.id, "id": AGENT, "spec": spec});
    api.post(&admin(project), "/v1/platform/contracts", &json!({"manifests": [manifest]})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_listed_by_name_and_fired_by_operators() {
    let api = Api::new().await;
    let (project, other) = (api.test.project().await, api.test.project().await);
    let (viewer, operator) = (
        api.key(&project, json!({"name": "reader", "role": "viewer"})).await,
        api.key(&project, json!({"name": "runner", "role": "operator"})).await,
    );
    let schedules = json!([
        {"id": "morning", "cron": "0 7 * * *", "time_zone": "Asia/Taipei", "input": {"days": 1}, "catch_up": "last"},
        {"id": "evening", "cron": "0 19 * * *", "input": "x", "enabled": false},
    ]);
    assert_eq!(apply(&api, &project, schedules).await.status, 200);
    let first = api.get(&viewer, &format!("{SCHEDULES}?limit=1")).await.json();
    assert_eq!(
        (&first["items"][0]["schedule_id"], &first["items"][0]["next_at"]),
        (&json!("evening"), &Value::Null)
    );
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = api.get(&viewer, &format!("{SCHEDULES}?limit=1&cursor={cursor}")).await.json();
    let morning = &second["items"][0];
    assert_eq!((&morning["schedule_id"], &morning["catch_up"]), (&json!("morning"), &json!("last")));
    assert!(morning["next_at"].as_str().unwrap().ends_with("T23:00:00Z"), "seven in Taipei: {morning}");
    assert_eq!((&morning["last_run_id"], &second["next_cursor"]), (&Value::Null, &Value::Null));

    let fire = format!("{SCHEDULES}/{AGENT}/morning/fire");
    assert_eq!(api.post(&viewer, &fire, &json!({})).await.problem(), (403, "E-AUTH-002".into()));
    assert_eq!(api.post(&admin(&other), &fire, &json!({})).await.problem(), (404, "E-REQ-004".into()));
    let made = api.post(&operator, &fire, &json!({})).await;
    assert_eq!(made.status, 202, "{made:?}");
    let run = made.json()["run"].clone();
    RUN_SCHEMA.validate(&run).unwrap();
    assert_eq!(made.header("location"), format!("{RUNS}/{}", run["run_id"].as_str().unwrap()));
    let trigger = json!({"trigger_type": "schedule", "schedule_id": "morning",
        "triggered_by": format!("{}/runner", project.id)});
    assert_eq!(run["trigger"], trigger);
    let listed = api.get(&viewer, SCHEDULES).await.json();
    assert_eq!(listed["items"][1]["last_run_id"], run["run_id"]);
    assert_eq!(api.get(&admin(&other), SCHEDULES).await.json()["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_without_times_is_refused_where_it_is_wrong() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let schedules = json!([{"id": "leap", "cron": "0 0 30 2 *", "time_zone": "Mars", "input": 1}]);
    let refused = apply(&api, &project, schedules).await;
    assert_eq!(refused.problem(), (422, "E-CONTRACT-001".into()));
    let document = refused.json();
    assert_eq!(document["errors"][0]["path"], "/manifests/0/spec/schedules/0/cron");
}
