//! Who may come in, as whom and where.

use awooop_journeys::db::AGENT;
use serde_json::json;

use crate::api::{Api, RUNS, admin, request};

const KEYS: &str = "/v1/platform/keys";
const PROJECTS: &str = "/v1/platform/projects";

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_having_no_valid_key_gets_the_same_answer() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let good = admin(&project);
    let wrong_secret = format!("{}{}", &good[..good.len() - 1], if good.ends_with('A') { 'B' } else { 'A' });
    let nobody = format!("awp_nobody_{}_{}", "0".repeat(12), "0".repeat(43));
    let mut seen = Vec::new();
    for value in [
        "".to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Basic {good}"),
        good.clone(),
        format!("Bearer {wrong_secret}"),
        format!("Bearer {nobody}"),
        format!("Bearer {good} x"),
        "Bearer awp_".to_owned(),
    ] {
        let answer = api.send(request("GET", RUNS, "", &[("authorization", &value)], None)).await;
        assert_eq!(answer.problem(), (401, "E-AUTH-001".into()), "{value}");
        let mut document = answer.json();
        document["trace_id"] = json!(null);
        seen.push(document);
    }
    seen.dedup();
    assert_eq!(seen.len(), 1);
    let bearer = format!("Bearer {good}");
    let twice = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    assert_eq!(api.send(request("GET", RUNS, "", &twice, None)).await.status, 401);
    let lower = format!("bearer {good}");
    assert_eq!(api.send(request("GET", RUNS, "", &[("authorization", &lower)], None)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn naming_another_project_is_refused_whether_or_not_it_exists() {
    let api = Api::new().await;
    let (mine, other) = (api.test.project().await, api.test.project().await);
    let key = admin(&mine);
    let list = async |key: &str, projects: &[&str]| {
        let headers: Vec<_> = projects.iter().map(|p| ("X-Awooop-Project", *p)).collect();
        api.send(request("GET", PROJECTS, key, &headers, None)).await
    };
    let mut details = Vec::new();
    for project in [other.id.as_str(), "no-such-project", "platform"] {
        let answer = list(&key, &[project]).await;
        assert_eq!(answer.problem(), (403, "E-AUTH-003".into()));
        details.push(answer.json()["detail"].clone());
    }
    details.dedup();
    assert_eq!(details.len(), 1, "the answer does not tell which of them exist: {details:?}");
    assert_eq!(list(&key, &[mine.id.as_str()]).await.json()["items"][0]["project_id"], mine.id.as_str());
    for tricks in
        [&[mine.id.as_str(), other.id.as_str()][..], &[mine.id.as_str(); 2], &[""], &["A b"], &["a,b"]]
    {
        assert_eq!(list(&key, tricks).await.problem(), (400, "E-REQ-001".into()), "{tricks:?}");
    }
    let inside = list(&api.platform_key(), &[other.id.as_str()]).await.json();
    assert_eq!(inside["items"].as_array().unwrap().len(), 1);
    assert_eq!(inside["items"][0]["project_id"], other.id.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_admin_who_names_no_project_lists_all_of_them() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let (mut found, mut path) = (Vec::new(), format!("{PROJECTS}?limit=200"));
    loop {
        let page = api.get(&api.platform_key(), &path).await.json();
        found.extend(
            page["items"].as_array().unwrap().iter().map(|i| i["project_id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        path = format!("{PROJECTS}?limit=200&cursor={next}");
    }
    assert!(found.contains(&project.id.to_string()) && found.contains(&"platform".to_owned()));
    assert!(found.is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_reaches_what_the_table_gives_it() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let viewer = api.key(&project, json!({"name": "watcher", "role": "viewer"})).await;
    let operator = api.key(&project, json!({"name": "night-shift", "role": "operator"})).await;
    let run = json!({"agent_id": AGENT, "input": 1});
    assert_eq!(api.post(&viewer, RUNS, &run).await.problem(), (403, "E-AUTH-002".into()));
    // the role is asked before a byte of the body is read
    assert_eq!(api.post(&viewer, RUNS, &json!("nonsense")).await.problem(), (403, "E-AUTH-002".into()));
    assert_eq!(api.get(&viewer, RUNS).await.status, 200);
    assert_eq!(api.post(&operator, RUNS, &run).await.status, 202);
    assert_eq!(api.get(&operator, KEYS).await.problem(), (403, "E-AUTH-002".into()));
    let named = json!({"agent_id": AGENT, "input": 1, "triggered_by": "somebody"});
    assert_eq!(api.post(&operator, RUNS, &named).await.problem(), (403, "E-AUTH-002".into()));
    let made = api.post(&admin(&project), RUNS, &named).await.json();
    assert_eq!(made["run"]["trigger"], json!({"trigger_type": "api", "triggered_by": "somebody"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_works_and_stops_when_it_is_revoked() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let made = api.post(&key, KEYS, &json!({"name": "ci", "role": "viewer", "expires_in_s": 60})).await;
    assert_eq!((made.status.as_u16(), made.header("cache-control")), (201, "no-store"));
    let made = made.json();
    let (text, id) = (made["key"].as_str().unwrap(), made["key_id"].as_str().unwrap());
    assert!(made["expires_at"].is_string() && made["revoked_at"].is_null() && made["agent_id"].is_null());
    assert_eq!(api.get(text, RUNS).await.status, 200);
    let listed = api.get(&key, KEYS).await;
    assert!(!listed.text.contains(text) && listed.json()["items"][0]["key_id"] == id);
    let path = format!("{KEYS}/{id}/revoke");
    let revoked = api.send(request("POST", &path, &key, &[], None)).await.json();
    assert!(revoked["revoked_at"].is_string(), "{revoked}");
    assert_eq!(api.get(text, RUNS).await.status, 401);
    let again = api.send(request("POST", &path, &key, &[], None)).await.json();
    assert_eq!(again["revoked_at"], revoked["revoked_at"]);
    let stranger = api.test.project().await;
    for (key, path) in [
        (admin(&stranger), path.as_str()),
        (key.clone(), "/v1/platform/keys/000000000000/revoke"),
        (key.clone(), "/v1/platform/keys/%00/revoke"),
        (key.clone(), "/v1/platform/keys/%ff/revoke"),
    ] {
        let answer = api.send(request("POST", path, &key, &[], None)).await;
        assert_eq!(answer.problem(), (404, "E-REQ-004".into()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_is_not_made() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let refuse = async |body: serde_json::Value| {
        let answer = api.post(&admin(&project), KEYS, &body).await;
        (
            answer.problem().0,
            answer.problem().1,
            answer.json()["errors"][0]["path"].as_str().map(str::to_owned),
        )
    };
    let at = |path: &str| (422, "E-REQ-003".to_owned(), Some(path.to_owned()));
    assert_eq!(refuse(json!({"name": "a"})).await, at("/name"));
    assert_eq!(refuse(json!({"name": "ok"})).await, at("/role"));
    assert_eq!(refuse(json!({"name": "ok", "role": "agent"})).await, at("/role"));
    assert_eq!(refuse(json!({"name": "ok", "role": "god"})).await, at("/role"));
    assert_eq!(refuse(json!({"name": "ok", "role": "admin", "agent_id": AGENT})).await, at("/role"));
    assert_eq!(refuse(json!({"name": "ok", "role": "viewer", "expires_in_s": 0})).await, at("/expires_in_s"));
    assert_eq!(refuse(json!({"name": "admin", "role": "viewer"})).await, at("/name"));
    assert_eq!(refuse(json!({"name": "ok", "agent_id": "nobody"})).await.1, "E-RUN-002");
    let headers = [("x-awooop-project", "no-such-project")];
    let body = json!({"name": "ok", "role": "viewer"});
    let answer = api.post_with(&api.platform_key(), KEYS, &headers, &body).await;
    assert_eq!(answer.problem(), (404, "E-REQ-004".into()));
}
