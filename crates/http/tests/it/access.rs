//! Principals, roles, and keys that are narrower than their principal or follow another.

use awooop_journeys::db::AGENT;
use serde_json::{Value, json};

use crate::api::{Answer, Api, RUNS, admin, request};

const KEYS: &str = "/v1/platform/keys";
const PRINCIPALS: &str = "/v1/platform/principals";
const WHOAMI: &str = "/v1/platform/whoami";

async fn change(api: &Api, key: &str, name: &str, what: &str, body: Value) -> Answer {
    api.post(key, &format!("{PRINCIPALS}/{name}/{what}"), &body).await
}

fn id_of(key: &str) -> String {
    awooop_core::key::parse(key).unwrap().id.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_is_listed_disabled_and_enabled_and_its_role_changed() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let root = admin(&project);
    let ci = api.key(&project, json!({"name": "ci", "role": "viewer"})).await;
    let page = api.get(&root, &format!("{PRINCIPALS}?limit=1")).await.json();
    assert_eq!((&page["items"][0]["name"], &page["items"][0]["kind"]), (&json!("ci"), &json!("service")));
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = api.get(&root, &format!("{PRINCIPALS}?limit=1&cursor={cursor}")).await.json();
    assert_eq!((&next["items"][0]["name"], &next["next_cursor"]), (&json!("admin"), &json!(null)));

    assert_eq!(change(&api, &root, "ci", "disable", json!({})).await.json()["working_keys"], 0);
    assert_eq!(api.get(&ci, RUNS).await.problem(), (401, "E-AUTH-001".into()));
    let listed = api.get(&root, KEYS).await.json();
    assert!(listed["items"][0]["disabled_at"].is_string(), "{listed}");
    let refused = api.post(&root, KEYS, &json!({"name": "ci", "role": "viewer"})).await;
    assert_eq!(refused.problem(), (409, "E-ACCESS-001".into()));
    assert_eq!(change(&api, &root, "ci", "enable", json!({})).await.json()["disabled_at"], json!(null));
    assert_eq!(api.get(&ci, RUNS).await.status, 200);

    assert_eq!(
        change(&api, &root, "ci", "role", json!({"role": "operator"})).await.json()["role"],
        "operator"
    );
    let run = json!({"agent_id": AGENT, "input": 1});
    assert_eq!(api.post(&ci, RUNS, &run).await.status, 202);
    assert_eq!(change(&api, &root, "ci", "role/revoke", json!({})).await.json()["role"], json!(null));
    assert_eq!(api.get(&ci, RUNS).await.problem(), (401, "E-AUTH-001".into()));

    for (name, what, body, expected) in [
        ("nobody", "disable", json!({}), (404, "E-REQ-004")),
        ("%00", "disable", json!({}), (404, "E-REQ-004")),
        ("admin", "disable", json!({}), (409, "E-ACCESS-002")),
        ("admin", "role", json!({"role": "viewer"}), (409, "E-ACCESS-002")),
        ("admin", "role/revoke", json!({}), (409, "E-ACCESS-002")),
        ("ci", "role", json!({"role": "agent"}), (422, "E-REQ-003")),
        ("ci", "role", json!({}), (422, "E-REQ-003")),
    ] {
        let answer = change(&api, &root, name, what, body).await;
        assert_eq!(answer.problem(), (expected.0, expected.1.to_owned()), "{name} {what}");
    }
    api.key(&project, json!({"name": AGENT, "agent_id": AGENT})).await;
    let of_agent = change(&api, &root, AGENT, "role", json!({"role": "viewer"})).await;
    assert_eq!(of_agent.problem(), (409, "E-ACCESS-001".into()));
    assert_eq!(change(&api, &root, "admin", "disable", json!({"even_if_last": true})).await.status, 200);
    assert_eq!(api.get(&root, RUNS).await.status, 401);
    let headers = [("x-awooop-project", project.id.as_str())];
    let path = format!("{PRINCIPALS}/admin/enable");
    let back = api.send(request("POST", &path, &api.platform_key(), &headers, None)).await;
    assert_eq!((back.status.as_u16(), api.get(&root, RUNS).await.status.as_u16()), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_project_s_principal_is_absent() {
    let api = Api::new().await;
    let (mine, other) = (api.test.project().await, api.test.project().await);
    api.key(&mine, json!({"name": "only-mine", "role": "viewer"})).await;
    let path = format!("{PRINCIPALS}/only-mine");
    assert_eq!(api.get(&admin(&mine), &path).await.status, 200);
    assert_eq!(api.get(&admin(&other), &path).await.problem(), (404, "E-REQ-004".into()));
    assert!(!api.get(&admin(&other), PRINCIPALS).await.text.contains("only-mine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowed_key_does_what_its_scopes_hold_and_makes_none_that_reaches_further() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let scoped = |scopes: &[&str]| json!({"name": "bot", "role": "admin", "scopes": scopes});
    let reader = api.key(&project, scoped(&["runs:read", "create_run"])).await;
    assert_eq!(api.get(&reader, RUNS).await.status, 200);
    assert_eq!(api.post(&reader, RUNS, &json!({"agent_id": AGENT, "input": 1})).await.status, 202);
    let refused = api.get(&reader, KEYS).await;
    assert_eq!(refused.problem(), (403, "E-AUTH-002".into()));
    assert_eq!(refused.json()["detail"], "this key's scopes do not hold list_keys");
    let whoami = api.get(&reader, WHOAMI).await.json();
    assert_eq!(whoami["credential"]["scopes"], json!(["create_run", "runs:read"]));

    let maker = api.key(&project, scoped(&["access:write", "runs:read"])).await;
    for too_far in [
        json!({"name": "wide", "role": "admin"}),
        json!({"name": "wide", "role": "viewer", "scopes": ["runs:write"]}),
    ] {
        assert_eq!(api.post(&maker, KEYS, &too_far).await.problem(), (403, "E-AUTH-002".into()));
    }
    let within = json!({"name": "within", "role": "viewer", "scopes": ["list_runs"]});
    assert_eq!(api.post(&maker, KEYS, &within).await.status, 201);
    let wide = format!("{KEYS}/{}/rotate", id_of(&admin(&project)));
    assert_eq!(api.post(&maker, &wide, &json!({})).await.problem(), (403, "E-AUTH-002".into()));
    for bad in [json!([]), json!(["runs"]), json!(["any"]), json!(vec!["runs:read"; 65])] {
        let body = json!({"name": "bot", "role": "admin", "scopes": bad});
        assert_eq!(
            api.post(&admin(&project), KEYS, &body).await.problem(),
            (422, "E-REQ-003".into()),
            "{bad}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_an_agent_that_is_narrowed_to_something_else_reaches_no_tool() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = api.key(&project, json!({"name": "bot", "agent_id": AGENT, "scopes": ["get_run"]})).await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let headers = [("accept", "application/json, text/event-stream")];
    let answer = api.post_with(&key, "/mcp", &headers, &list).await;
    assert_eq!(answer.status, 403, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_by_who_may_hold_it_and_once() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let (root, inside) = (admin(&project), [("x-awooop-project", project.id.as_str())]);
    let old = api.key(&project, json!({"name": "ci", "role": "viewer", "expires_in_s": 3600})).await;
    let path = format!("{KEYS}/{}/rotate", id_of(&old));
    let rotated = api.post(&root, &path, &json!({"overlap_s": 600})).await;
    assert_eq!((rotated.status.as_u16(), rotated.header("cache-control")), (201, "no-store"));
    let rotated = rotated.json();
    let new = rotated["key"].as_str().unwrap();
    assert_eq!((&rotated["name"], &rotated["role"]), (&json!("ci"), &json!("viewer")));
    assert!(rotated["expires_at"].is_string() && rotated["former_key_id"] == id_of(&old));
    assert_eq!(
        (api.get(&old, RUNS).await.status, api.get(new, RUNS).await.status),
        (http::StatusCode::OK, http::StatusCode::OK)
    );
    assert_eq!(api.post(&root, &path, &json!({})).await.problem(), (409, "E-ACCESS-001".into()));
    let now = format!("{KEYS}/{}/rotate", id_of(new));
    let last = api.post(&root, &now, &json!({"overlap_s": 0})).await.json();
    assert_eq!(api.get(new, RUNS).await.problem(), (401, "E-AUTH-001".into()));
    assert_eq!(api.get(last["key"].as_str().unwrap(), RUNS).await.status, 200);

    // who rotates a key holds the new one: a person's is rotated by them or the platform's operators
    let body = json!({"name": "mei", "role": "admin", "person": "mei"});
    let mei = api.post_with(&api.platform_key(), KEYS, &inside, &body).await.json();
    let mei = mei["key"].as_str().unwrap().to_owned();
    let path = format!("{KEYS}/{}/rotate", id_of(&mei));
    assert_eq!(api.post(&root, &path, &json!({})).await.problem(), (403, "E-AUTH-002".into()));
    assert_eq!(api.post(&mei, &path, &json!({})).await.json()["person"], "mei");
    for absent in ["000000000000", "%00", "nope"] {
        let path = format!("{KEYS}/{absent}/rotate");
        assert_eq!(api.post(&root, &path, &json!({})).await.problem(), (404, "E-REQ-004".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_may_ask_who_it_is() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let agent = api.key(&project, json!({"name": "bot", "agent_id": AGENT})).await;
    let of = async |key: &str| {
        let found = api.get(key, WHOAMI).await.json();
        (found["name"].clone(), found["kind"].clone(), found["roles"].clone(), found["project_id"].clone())
    };
    let here = json!(project.id.as_str());
    assert_eq!(
        of(&admin(&project)).await,
        (json!("admin"), json!("service"), json!(["admin"]), here.clone())
    );
    assert_eq!(of(&agent).await, (json!("bot"), json!("agent"), json!(["agent"]), here.clone()));
    let headers = [("x-awooop-project", project.id.as_str())];
    let inside = api.send(request("GET", WHOAMI, &api.platform_key(), &headers, None)).await.json();
    assert_eq!((&inside["project_id"], &inside["is_platform_admin"]), (&here, &json!(true)));
    let elsewhere = [("x-awooop-project", "no-such-project")];
    let refused = api.send(request("GET", WHOAMI, &agent, &elsewhere, None)).await;
    assert_eq!(refused.problem(), (403, "E-AUTH-003".into()));
    assert_eq!(api.get("", WHOAMI).await.status, 401);
    assert_eq!(api.get("", "/v1/platform/sign-in").await.json(), json!({"oidc": null}));
}
