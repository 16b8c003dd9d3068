//! Applying manifests.

use awooop_journeys::db::AGENT;
use serde_json::{Value, json};

use crate::api::{Api, admin};

const CONTRACTS: &str = "/v1/platform/contracts";

fn agent(project: &str, id: &str, spec: Value) -> Value {
    let mut all = json!({"instructions": "x", "model": "offline/planner", "output_schema": {}});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"kind": "agent", "project": project, "id": id, "spec": all})
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_tells_what_changed_and_twice_changes_nothing() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let body = json!({"manifests": [
        agent(project.id.as_str(), "new-one", json!({})),
        agent(project.id.as_str(), AGENT, json!({"description": "changed"})),
    ]});
    let first = api.post(&admin(&project), CONTRACTS, &body).await.json();
    assert_eq!((&first["project_id"], &first["is_changed"]), (&json!(project.id), &json!(true)));
    let changes = |answer: &Value| -> Vec<(String, i64)> {
        let items = answer["items"].as_array().unwrap().iter();
        items.map(|i| (i["change"].as_str().unwrap().to_owned(), i["version"].as_i64().unwrap())).collect()
    };
    let mut found = changes(&first);
    found.sort();
    assert_eq!(found, [("created".to_owned(), 1), ("updated".to_owned(), 2)]);
    let again = api.post(&admin(&project), CONTRACTS, &body).await.json();
    assert_eq!(again["is_changed"], false);
    assert!(changes(&again).iter().all(|(change, _)| change == "unchanged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_any_manifest_is_told_and_nothing_is_applied() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let id = project.id.as_str();
    let url = "http://169.254.169.254/latest";
    let body = json!({"manifests": [
        agent(id, "fine", json!({})),
        agent(id, "wrong", json!({"max_steps": "many"})),
        {"kind": "quota", "project": id, "id": "p1", "spec": {}},
        "nonsense",
        {"kind": "provider", "project": id, "id": "meta", "spec":
            {"type": "mcp", "transport": "http", "url": url, "tools": [{"name": "x", "risk": "read_only"}]}},
        {"kind": "project", "project": id, "id": id, "spec": {"display_name": "a\u{0}b"}},
    ]});
    let answer = api.post(&admin(&project), CONTRACTS, &body).await;
    // a manifest that is no object is refused by the request's own schema
    assert_eq!(answer.problem(), (422, "E-REQ-003".into()));
    assert_eq!(answer.json()["errors"][0]["path"], "/manifests/3");
    let mut body = body;
    body["manifests"].as_array_mut().unwrap().remove(3);
    let answer = api.post(&admin(&project), CONTRACTS, &body).await;
    assert_eq!(answer.problem(), (422, "E-CONTRACT-001".into()));
    let document = answer.json();
    let errors = document["errors"].as_array().unwrap();
    let paths: Vec<&str> = errors.iter().map(|e| e["path"].as_str().unwrap()).collect();
    for expected in [
        "/manifests/1/spec/max_steps",
        "/manifests/2/kind",
        "/manifests/3/spec/url",
        "/manifests/4/spec/display_name",
    ] {
        assert!(paths.contains(&expected), "{expected} in {paths:?}");
    }
    let listed = api.get(&admin(&project), CONTRACTS).await;
    assert!(!listed.text.contains("\"fine\""), "nothing was applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_of_another_project_are_not_applied() {
    let api = Api::new().await;
    let (project, other) = (api.test.project().await, api.test.project().await);
    for target in [other.id.as_str(), "no-such-project"] {
        let body = json!({"manifests": [agent(target, "intruder", json!({}))]});
        let answer = api.post(&admin(&project), CONTRACTS, &body).await;
        assert_eq!(answer.problem(), (403, "E-AUTH-003".into()));
        let answer = api.post(&api.platform_key(), CONTRACTS, &body).await;
        assert_eq!(answer.problem(), (422, "E-CONTRACT-001".into()));
        assert_eq!(answer.json()["errors"][0]["path"], "/manifests/0/project");
    }
    let body = json!({"manifests": [agent(other.id.as_str(), "guest", json!({}))]});
    let headers = [("x-awooop-project", other.id.as_str())];
    assert_eq!(api.post_with(&api.platform_key(), CONTRACTS, &headers, &body).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_holds_one_to_two_hundred_manifests() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let many: Vec<Value> = (0..201).map(|_| json!({})).collect();
    for manifests in [json!([]), json!(many), json!({}), json!(null)] {
        let answer = api.post(&admin(&project), CONTRACTS, &json!({ "manifests": manifests })).await;
        assert_eq!(answer.problem(), (422, "E-REQ-003".into()));
        assert_eq!(answer.json()["errors"][0]["path"], "/manifests");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_holds_no_credential() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let secret = format!("ghp_{}", "16C7e42F292c6912E7710c838347Ae178B4a");
    let spec = json!({"instructions": format!("Use {secret} to push.")});
    let body = json!({"manifests": [agent(project.id.as_str(), "leaky", spec)]});
    let answer = api.post(&admin(&project), CONTRACTS, &body).await;
    assert_eq!(answer.problem(), (422, "E-CONTRACT-001".into()));
    assert_eq!(answer.json()["errors"][0]["path"], "/manifests/0/spec/instructions");
    assert!(!answer.json().to_string().contains(&secret));
    let active = api.get(&admin(&project), &format!("{CONTRACTS}?kind=agent")).await.json().to_string();
    assert!(!active.contains("leaky"));
}
