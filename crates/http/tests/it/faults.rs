//! A database that is gone, and callers that are slow.

use awooop_journeys::db::{AGENT, TestStore};
use axum::body::Body;
use serde_json::json;

use crate::api::{Api, RUNS, admin, request};

/// The beginning of a body whose rest never comes.
fn endless() -> Body {
    let beginning = futures::stream::iter([Ok::<_, std::io::Error>("{\"agent_id\":")]);
    Body::from_stream(futures::StreamExt::chain(beginning, futures::stream::pending()))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_everything_says_so_and_nothing_leaks() {
    let api = Api::over(TestStore::private().await).await;
    let project = api.test.project().await;
    let agent = api.key(&project, json!({"name": "bot", "agent_id": AGENT})).await;
    api.test.store.close();
    let key = admin(&project);
    let id = "00000000-0000-7000-8000-000000000000";
    for (method, path) in [
        ("GET", "/readyz".to_owned()),
        ("GET", RUNS.to_owned()),
        ("POST", RUNS.to_owned()),
        ("GET", format!("{RUNS}/{id}")),
        ("GET", format!("{RUNS}/{id}/events")),
        ("POST", "/v1/platform/contracts".to_owned()),
        ("GET", "/v1/platform/budgets".to_owned()),
    ] {
        let answer = api.send(request(method, &path, &key, &[], Some(&json!({})))).await;
        assert_eq!(answer.problem(), (503, "E-STORE-001".into()), "{method} {path}");
        assert_eq!((answer.header("retry-after"), &answer.json()["retryable"]), ("1", &json!(true)));
        assert!(!answer.text.contains("pool"), "the inner cause stays inside: {}", answer.text);
    }
    assert_eq!(api.get("", "/healthz").await.status, 200);
    let accept = [("accept", "application/json, text/event-stream")];
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let answer = api.post_with(&agent, "/mcp", &accept, &body).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    assert_eq!(answer.json()["error"]["data"]["code"], "E-STORE-001");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_refused_after_its_time_and_leaves_its_place_to_others() {
    let patience = std::time::Duration::from_millis(800);
    let test = TestStore::private().await;
    let api = Api::with(test, |state| state.with_bodies_within(patience)).await;
    let project = api.test.project().await;
    let (key, json) = (admin(&project), ("content-type", "application/json"));
    for path in [RUNS, "/v1/platform/contracts", "/v1/platform/runs/bulk-cancel"] {
        let slow = request("POST", path, &key, &[json], None).map(|_| endless());
        let answer = api.send(slow).await;
        assert_eq!(answer.problem(), (408, "E-REQ-008".into()), "{path}");
        assert_eq!(answer.json()["retryable"], true);
    }
    // as many as a project may have at a time, all of them slow
    let slow = || api.send(request("POST", RUNS, &key, &[json], None).map(|_| endless()));
    let answers = futures::future::join_all((0..600).map(|_| slow())).await;
    let refused = answers.iter().filter(|answer| answer.problem() == (429, "E-LIMIT-002".into())).count();
    let too_slow = answers.iter().filter(|answer| answer.problem() == (408, "E-REQ-008".into())).count();
    assert_eq!(refused + too_slow, 600);
    assert!(refused >= 600 - 512, "{refused} were refused");
    // an agent's key at /mcp is no exception
    let agent = api.key(&project, json!({"name": "bot", "agent_id": AGENT})).await;
    let accept = ("accept", "application/json, text/event-stream");
    let answer = api.send(request("POST", "/mcp", &agent, &[json, accept], None).map(|_| endless())).await;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert_eq!(answer.json()["error"]["data"]["code"], "E-REQ-008");
    api.run(&project).await;
}
