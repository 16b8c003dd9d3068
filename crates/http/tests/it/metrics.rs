//! Figures: what `/metrics` and the activity tell, to whom, and that every name is documented.

use std::collections::BTreeSet;

use awooop_journeys::db::TestStore;
use awooop_store::journal::Outcome;
use serde_json::{Value, json};

use crate::api::{Answer, Api, admin};

const ACTIVITY: &str = "/v1/platform/activity";

async fn metrics(api: &Api, key: &str) -> Answer {
    let answer = api.get(key, "/metrics").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// The value of a series, by its name with its labels.
fn value(answer: &Answer, series: &str) -> f64 {
    let line = answer.text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {}", answer.text)).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_counted_and_what_goes_on_is_seen() {
    let api = Api::over(TestStore::private().await).await;
    let project = api.test.project().await;
    for _ in 0..3 {
        api.run(&project).await;
    }
    let claimed = api.claim(&project).await;
    let before = metrics(&api, "").await;
    assert_eq!(value(&before, "awooop_runs_created_total{trigger=\"api\"}"), 3.0);
    assert_eq!((value(&before, "awooop_queue_runs"), value(&before, "awooop_leases")), (2.0, 1.0));
    assert_eq!(value(&before, "awooop_run_start_seconds_count"), 1.0);
    assert_eq!(value(&before, "awooop_run_start_seconds_bucket{le=\"+Inf\"}"), 1.0);
    assert!(!before.text.contains(project.id.as_str()), "no project is named to everybody");
    api.end(&claimed, Outcome::Completed(json!({}))).await;
    let after = metrics(&api, &api.platform_key()).await;
    assert_eq!(value(&after, "awooop_runs_ended_total{outcome=\"completed\"}"), 1.0);
    let own = format!("awooop_project_queue_runs{{project=\"{}\"}}", project.id);
    assert_eq!(value(&after, &own), 2.0);
    assert_eq!(api.get(&admin(&project), "/metrics").await.problem(), (403, "E-AUTH-002".into()));
    assert_eq!(api.get("awp_nonsense", "/metrics").await.problem(), (401, "E-AUTH-001".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_nothing_else_is() {
    let api = Api::over(TestStore::private().await).await;
    let project = api.test.project().await;
    api.run(&project).await;
    let told = metrics(&api, &api.platform_key()).await;
    let names = told.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    // told only by a process with a worker, one that speaks TLS, or one with a Redis
    let of_worker = ["awooop_worker_slots", "awooop_worker_slots_used"];
    let of_tls = ["awooop_tls_certificate_expires_in_seconds"];
    let of_redis = ["awooop_redis_away"];
    let told: BTreeSet<&str> = names.chain(of_worker).chain(of_tls).chain(of_redis).collect();
    let page = include_str!("../../../../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `awooop_")?.split(['`', '{', ' ']).next());
    let documented: BTreeSet<String> = rows.map(|name| format!("awooop_{name}")).collect();
    let documented: BTreeSet<&str> = documented.iter().map(String::as_str).collect();
    assert_eq!(told, documented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_sees_its_own_activity_and_the_platform_everybody_s() {
    let api = Api::over(TestStore::private().await).await;
    let (project, other, idle) =
        (api.test.project().await, api.test.project().await, api.test.project().await);
    api.run(&project).await;
    let claimed = api.claim(&project).await;
    api.run(&project).await;
    api.run(&other).await;
    let viewer = api.key(&project, json!({"name": "reader", "role": "viewer"})).await;
    let own = api.get(&viewer, ACTIVITY).await.json();
    let seen = &own["projects"][0];
    assert_eq!((own["projects"].as_array().unwrap().len(), &seen["project_id"]), (1, &json!(project.id)));
    assert_eq!(
        (&seen["queued"], &seen["running"], &seen["started_last_minute"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(seen["start_p50_s"].is_f64() && seen["oldest_queued_at"].is_string(), "{own}");
    api.end(&claimed, Outcome::Completed(json!({}))).await;
    let all = api.get(&api.platform_key(), ACTIVITY).await.json();
    let ids: Vec<&Value> = all["projects"].as_array().unwrap().iter().map(|p| &p["project_id"]).collect();
    assert!(ids.contains(&&json!(project.id)) && ids.contains(&&json!(other.id)), "{all}");
    let ended =
        all["projects"].as_array().unwrap().iter().find(|p| p["project_id"] == json!(project.id)).unwrap();
    assert_eq!((&ended["running"], &ended["ended_last_minute"]), (&json!(0), &json!(1)));
    let unseen = api.get(&admin(&idle), ACTIVITY).await.json();
    assert_eq!(unseen["projects"][0]["queued"], 0);
    let agent = api.key(&project, json!({"name": "bot", "agent_id": awooop_journeys::db::AGENT})).await;
    assert_eq!(api.get(&agent, ACTIVITY).await.problem(), (403, "E-AUTH-002".into()));
}
