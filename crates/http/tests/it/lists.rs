//! Lists: pages, filters, cursors.

use awooop_journeys::db::AGENT;
use awooop_store::journal::StepKind;
use serde_json::{Value, json};

use crate::api::{Api, RUNS, admin, request};

/// Follows the cursors of `path` in pages of two; the named member of every item.
async fn all(api: &Api, key: &str, path: &str, member: &str) -> Vec<Value> {
    let (mut found, mut next) = (Vec::new(), format!("{path}limit=2"));
    loop {
        let answer = api.get(key, &next).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        found.extend(items.iter().map(|item| item.pointer(member).unwrap().clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { return found };
        next = format!("{path}limit=2&cursor={cursor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_runs_are_newest_first_and_neither_lose_nor_repeat() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.insert(0, json!(api.run(&project).await));
    }
    let key = admin(&project);
    assert_eq!(all(&api, &key, &format!("{RUNS}?"), "/run/run_id").await, made);
    let cancelled = made[2].as_str().unwrap();
    api.send(request("POST", &format!("{RUNS}/{cancelled}/cancel"), &key, &[], None)).await;
    assert_eq!(all(&api, &key, &format!("{RUNS}?state=cancelled&"), "/run/run_id").await, [made[2].clone()]);
    assert_eq!(
        all(&api, &key, &format!("{RUNS}?state=pending&agent_id={AGENT}&"), "/run/run_id").await.len(),
        4
    );
    assert!(all(&api, &key, &format!("{RUNS}?agent_id=nobody&"), "/run/run_id").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_steps_are_oldest_first_and_tell_tools_from_models() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let id = api.run(&project).await;
    let claimed = api.claim(&project).await;
    for n in 1..=5 {
        api.step(&claimed, n, if n % 2 == 0 { StepKind::Tool } else { StepKind::Llm }).await;
    }
    let path = format!("{RUNS}/{id}/steps?");
    let numbers = all(&api, &admin(&project), &path, "/n").await;
    assert_eq!(numbers, [1, 2, 3, 4, 5].map(|n| json!(n)));
    let items = api.get(&admin(&project), &path).await.json();
    let (model, tool) = (&items["items"][0], &items["items"][1]);
    assert_eq!(
        (&model["kind"], &model["model"], model.get("tool")),
        (&json!("llm"), &json!("planner"), None)
    );
    assert_eq!(
        (&tool["kind"], &tool["tool"], tool.get("model")),
        (&json!("tool"), &json!("shop__sales"), None)
    );
    assert_eq!(tool["gates"], json!([{"gate": "identity", "verdict": "pass", "code": null}]));
    assert_eq!((&tool["input"], &tool["usage"], &tool["epoch"]), (&json!({"q": 2}), &Value::Null, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_contracts_and_projects_page_as_runs_do() {
    let api = Api::new().await;
    let project = api.test.project().await;
    for n in 0..4 {
        api.key(&project, json!({"name": format!("viewer-{n}"), "role": "viewer"})).await;
    }
    let key = admin(&project);
    let names = all(&api, &key, "/v1/platform/keys?", "/name").await;
    assert_eq!(names, ["viewer-3", "viewer-2", "viewer-1", "viewer-0", "admin"].map(|n| json!(n)));
    let kinds = all(&api, &key, "/v1/platform/contracts?", "/kind").await;
    assert_eq!(kinds, ["agent", "project", "provider"].map(|k| json!(k)));
    let agents = all(&api, &key, "/v1/platform/contracts?kind=agent&", "/document/id").await;
    assert_eq!(agents, [json!(AGENT)]);
    let budget = api.get(&key, "/v1/platform/budgets").await.json();
    let item =
        json!({"scope": "project", "unit": "tokens", "limit": null, "settled": 0, "held": 0, "free": null});
    assert_eq!(budget, json!({"items": [item], "next_cursor": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_good_for_its_own_list_and_project_only() {
    let api = Api::new().await;
    let (project, other) = (api.test.project().await, api.test.project().await);
    for _ in 0..2 {
        api.run(&project).await;
        api.run(&other).await;
    }
    let page = api.get(&admin(&project), &format!("{RUNS}?limit=1")).await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let refuse = async |key: &str, path: &str, cursor: &str| {
        let answer = api.get(key, &format!("{path}?cursor={cursor}")).await;
        assert_eq!(answer.problem(), (400, "E-REQ-007".into()), "{path} {cursor}");
    };
    refuse(&admin(&other), RUNS, cursor).await;
    for list in ["keys", "contracts", "projects", "tools", "budgets"] {
        refuse(&admin(&project), &format!("/v1/platform/{list}"), cursor).await;
    }
    for bad in ["", "x", "%00", "null", &cursor[1..], &cursor.to_uppercase(), &format!("{cursor}A")] {
        refuse(&admin(&project), RUNS, bad).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn query_values_out_of_their_range_are_refused_by_name() {
    let api = Api::new().await;
    let project = api.test.project().await;
    for (query, path) in [
        ("limit=0", "/limit"),
        ("limit=201", "/limit"),
        ("limit=ten", "/limit"),
        ("state=done", "/state"),
        ("state=", "/state"),
        ("agent_id=A", "/agent_id"),
        ("agent_id=%00", "/agent_id"),
        ("limit=1&limit=2", ""),
        ("surprise=1", ""),
    ] {
        let answer = api.get(&admin(&project), &format!("{RUNS}?{query}")).await;
        assert_eq!(answer.problem(), (422, "E-REQ-003".into()), "{query}");
        assert_eq!(answer.json()["errors"][0]["path"], path, "{query}");
    }
    let answer = api.get(&admin(&project), "/v1/platform/contracts?kind=quota").await;
    assert_eq!(answer.problem(), (422, "E-REQ-003".into()));
}
