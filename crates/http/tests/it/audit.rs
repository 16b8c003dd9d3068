//! The audit over HTTP: who may read it, what is refused and recorded, pages, lines, proofs.

use std::collections::HashSet;
use std::time::Duration;

use awooop_journeys::db::TestProject;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{Api, RUNS, admin, request};

const AUDIT: &str = "/v1/platform/audit";

async fn seal(api: &Api, project: &TestProject) {
    api.test.store.seal(&project.id, Uuid::nil(), &HashSet::new()).await.unwrap();
}

/// Waits for events that are written beside an answer.
async fn found(api: &Api, project: &TestProject, action: &str) -> Vec<Value> {
    for _ in 0..200 {
        let page = api.get(&admin(project), &format!("{AUDIT}?action={action}")).await.json();
        let items = page["items"].as_array().unwrap().clone();
        if !items.is_empty() {
            return items;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no event {action}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_searched_in_pages_by_whoever_may_read() {
    let api = Api::new().await;
    let project = api.test.project().await;
    for n in 0..5 {
        api.key(&project, json!({"name": format!("viewer-{n}"), "role": "viewer"})).await;
    }
    let viewer = api.key(&project, json!({"name": "auditor", "role": "viewer"})).await;
    let agent = api.key(&project, json!({"name": "bot", "agent_id": "clerk"})).await;
    assert_eq!(api.get(&agent, AUDIT).await.problem(), (403, "E-AUTH-002".into()));
    let (mut seen, mut path) = (Vec::new(), format!("{AUDIT}?action=key.create&limit=2"));
    loop {
        let page = api.get(&viewer, &path).await.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        path = format!("{AUDIT}?action=key.create&limit=2&cursor={next}");
    }
    assert_eq!(seen.len(), 8, "seven, and the project's own admin");
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first, none twice");
    for bad in ["since=yesterday", "run_id=1", "actor=", "limit=0", "surprise=1", "subject=%00"] {
        assert_eq!(api.get(&viewer, &format!("{AUDIT}?{bad}")).await.problem().0, 422, "{bad}");
    }
    let none = api.get(&viewer, &format!("{AUDIT}?until=1999-01-01T00:00:00Z")).await.json();
    assert_eq!(none["items"], json!([]));
    let all = api
        .get(&viewer, &format!("{AUDIT}?since=0001-01-01T00:00:00Z&until=9999-01-01T00:00:00Z&limit=200"))
        .await;
    assert!(all.json()["items"].as_array().unwrap().len() > 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_keys_and_calls_are_in_the_audit_and_a_flood_of_them_is_not() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let viewer = api.key(&project, json!({"name": "watcher", "role": "viewer"})).await;
    let last = if viewer.ends_with('A') { 'B' } else { 'A' };
    let wrong = format!("{}{last}", &viewer[..viewer.len() - 1]);
    for _ in 0..20 {
        assert_eq!(api.get(&wrong, RUNS).await.status, 401);
        assert_eq!(api.post(&viewer, RUNS, &json!({})).await.status, 403);
    }
    let keys = found(&api, &project, "key.refuse").await;
    assert_eq!((keys.len(), &keys[0]["body"]["reason"]), (1, &json!("wrong_secret")), "{keys:?}");
    assert!(!keys[0].to_string().contains(&wrong[20..]), "no part of the secret is kept");
    let calls = found(&api, &project, "call.refuse").await;
    assert_eq!((calls.len(), &calls[0]["body"]["code"]), (1, &json!("E-AUTH-002")), "{calls:?}");
    assert_eq!(calls[0]["actor"], format!("{}/watcher", project.id));
    let id = keys[0]["subject"].as_str().unwrap().trim_start_matches("key/").to_owned();
    let revoke = format!("/v1/platform/keys/{id}/revoke");
    api.send(request("POST", &revoke, &admin(&project), &[], None)).await;
    assert_eq!(api.get(&viewer, RUNS).await.status, 401);
    let mut reasons: Vec<Value> = Vec::new();
    while reasons.len() < 2 {
        let items = found(&api, &project, "key.refuse").await;
        reasons = items.iter().map(|item| item["body"]["reason"].clone()).collect();
    }
    assert_eq!(reasons, [json!("revoked"), json!("wrong_secret")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_an_export_and_a_proof_go_out_as_documents() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let event = found(&api, &project, "key.create").await[0]["id"].as_str().unwrap().to_owned();
    let proof = format!("{AUDIT}/events/{event}/proof");
    let early = api.get(&key, &proof).await;
    assert_eq!((early.problem(), &early.json()["retryable"]), ((409, "E-AUDIT-001".into()), &json!(true)));
    seal(&api, &project).await;
    assert_eq!(api.get(&key, &proof).await.json()["format"], "awooop-audit-proof-v1");
    assert_eq!(api.get(&key, &format!("{proof}?to=9")).await.problem().0, 422, "there is no such seal");
    assert_eq!(api.get(&key, &format!("{proof}?to=0")).await.problem().0, 422);
    assert_eq!(api.get(&key, &format!("{AUDIT}/events/nonsense/proof")).await.problem().0, 404);

    let head = api.get(&key, &format!("{AUDIT}/head")).await.json();
    let (n, hash) = (&head["head"]["seal"]["n"], head["head"]["hash"].as_str().unwrap());
    let lines = |text: &str| text.lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<Value>>();
    let check = api.get(&key, &format!("{AUDIT}/verify?heads={n}:{hash}")).await;
    assert_eq!(check.header("content-type"), "application/x-ndjson");
    assert_eq!(lines(&check.text).last().unwrap()["report"]["is_whole"], true, "{}", check.text);
    let check = api.get(&key, &format!("{AUDIT}/verify?heads=7:{hash}")).await;
    assert_eq!(lines(&check.text).iter().find_map(|l| l["found"]["kind"].as_str()), Some("truncated"));
    assert_eq!(api.get(&key, &format!("{AUDIT}/verify?heads=7:xx")).await.problem().0, 422);

    let events = lines(&api.get(&key, &format!("{AUDIT}/export")).await.text);
    assert!(
        events.iter().all(|e| e["format"] == "awooop-audit-event-v1" && e["project"] == project.id.as_str())
    );
    let seals = lines(&api.get(&key, &format!("{AUDIT}/export?what=seals")).await.text);
    assert_eq!((seals.len(), &seals[0]["seal"]["count"]), (1, &json!(events.len())));
    assert_eq!(api.get(&key, &format!("{AUDIT}/export?what=seals&after=1")).await.text, "");
    assert_eq!(api.get(&key, &format!("{AUDIT}/export?what=keys")).await.problem().0, 422);
    let stranger = api.test.project().await;
    assert_eq!(api.get(&admin(&stranger), &proof).await.problem(), (404, "E-REQ-004".into()));
    let metrics = api.get("", "/metrics").await;
    assert!(metrics.status == 200 && metrics.text.contains("awooop_audit_oldest_unsealed_seconds "));
    assert!(!metrics.text.contains(project.id.as_str()), "{}", metrics.text);
}
