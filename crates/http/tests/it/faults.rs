//! A database that is gone.

use awooop_journeys::db::{AGENT, TestStore};
use serde_json::json;

use crate::api::{Api, RUNS, admin, request};

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
