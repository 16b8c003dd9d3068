//! What a project has stored: counted where its contract limits it, by one node, as it lies in the database.

use awooop_core::ErrorCode;
use awooop_journeys::db::{AGENT, TestProject, TestStore, agent_id, manifest, new_run};
use awooop_store::contract::ApplyOptions;
use awooop_store::project::Storage;
use awooop_store::run::{Created, NewRun};
use awooop_store::schedule::FiredNow;
use serde_json::{Value, json};

use crate::stepping::{assert_healthy, claim_one, create, done, manual, step, worker};

const LEAST: i64 = 1_000_000;

async fn apply(test: &TestStore, project: &TestProject, kind: &str, id: &str, spec: Value) {
    let document = json!({"kind": kind, "project": project.id, "id": id, "spec": spec});
    let manifests = [manifest(document).unwrap()];
    test.store.apply(&project.caller, &manifests, ApplyOptions::default()).await.unwrap();
}

async fn limit(test: &TestStore, project: &TestProject, bytes: Option<i64>) {
    let limits = bytes.map_or(json!({}), |bytes| json!({"max_storage_bytes": bytes}));
    apply(test, project, "project", project.id.as_str(), json!({"display_name": "Full", "limits": limits}))
        .await;
}

async fn storage(test: &TestStore, project: &TestProject) -> Option<Storage> {
    test.store.find_project(&project.scope).await.unwrap().unwrap().storage
}

async fn is_full(test: &TestStore, project: &TestProject) -> bool {
    test.store.find_agent(&project.scope, &agent_id()).await.unwrap().unwrap().is_storage_full
}

/// Words that no compression makes much shorter: each letter is drawn anew.
fn noise(letters: usize) -> String {
    let letter = |n| if n % 7 == 6 { ' ' } else { char::from(rand::random_range(b'a'..=b'z')) };
    (0..letters).map(letter).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_is_counted_when_it_is_due_by_one_node_and_for_its_own_project_only() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let (limited, other) = (test.project().await, test.project().await);
    assert!(storage(&test, &limited).await.is_none(), "without a limit nothing is counted");
    limit(&test, &limited, Some(LEAST)).await;
    assert!(storage(&test, &limited).await.unwrap().counted.is_none(), "not yet");
    for _ in 0..3 {
        create(&test.store, &limited).await;
        create(&test.store, &other).await;
    }
    let run = claim_one(&test.store, &limited, &worker("w")).await;
    test.store.record_step(&run, &step(&test.store, 1), None, None).await.unwrap();
    test.store.end_run(&run, &done(), None, true).await.unwrap();

    // two nodes look at once
    let second = test.through(test.database().urls()).await;
    let (a, b) = tokio::join!(test.store.count_storage(), second.count_storage());
    assert_eq!(a.unwrap() + b.unwrap(), 1);
    let (stored, at) = storage(&test, &limited).await.unwrap().counted.unwrap();
    assert_eq!(at, clock.now());
    let tables = ["run_state", "step_journal", "mcp_call", "approval", "budget_ledger", "audit_event"];
    let rows = tables.map(|t| format!("SELECT pg_column_size(t.*) AS n FROM {t} t WHERE project_id = $1"));
    let sql = format!("SELECT sum(n)::bigint FROM ({}) x", rows.join(" UNION ALL "));
    let admin = test.database().admin().await;
    let really: i64 = admin.query_one(&sql, &[&limited.id.as_str()]).await.unwrap().get(0);
    assert_eq!(stored, really);
    assert!(storage(&test, &other).await.is_none());

    create(&test.store, &limited).await;
    clock.advance(std::time::Duration::from_secs(599));
    assert_eq!(test.store.count_storage().await.unwrap(), 0, "not before ten minutes");
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(test.store.count_storage().await.unwrap(), 1);
    assert!(storage(&test, &limited).await.unwrap().counted.unwrap().0 > stored);
    limit(&test, &limited, None).await;
    clock.advance(std::time::Duration::from_secs(3600));
    assert_eq!(test.store.count_storage().await.unwrap(), 0, "no limit, no count");
    assert!(storage(&test, &limited).await.is_none());
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_rows_than_a_page_are_all_counted() {
    let test = TestStore::private().await;
    let project = test.project().await;
    limit(&test, &project, Some(LEAST)).await;
    for _ in 0..25 {
        // a thousand at a time would wait for each other
        futures::future::join_all((0..100).map(|_| create(&test.store, &project))).await;
    }
    assert_eq!(test.store.count_storage().await.unwrap(), 1);
    let (stored, _) = storage(&test, &project).await.unwrap().counted.unwrap();
    let sql = "SELECT ((SELECT sum(pg_column_size(t.*)) FROM run_state t WHERE project_id = $1)
        + (SELECT sum(pg_column_size(t.*)) FROM audit_event t WHERE project_id = $1))::bigint";
    let admin = test.database().admin().await;
    let really: i64 = admin.query_one(sql, &[&project.id.as_str()]).await.unwrap().get(0);
    assert_eq!(stored, really);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_project_begins_no_run_until_its_limit_is_raised() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let schedule = json!({"id": "hourly", "cron": "0 * * * *", "input": "a question"});
    let agent = json!({"instructions": "Answer.", "model": "offline/planner", "output_schema": {}, "schedules": [schedule]});
    apply(&test, &project, "agent", AGENT, agent).await;
    limit(&test, &project, Some(LEAST)).await;
    let input = json!(noise(1_500_000));
    let new = NewRun { input, ..new_run(&test.store, &project).await };
    assert!(matches!(test.store.create_run(&project.scope, &new).await.unwrap(), Created::New(_)));
    assert!(!is_full(&test, &project).await, "it was not counted yet");
    assert_eq!(test.store.count_storage().await.unwrap(), 1, "the first count is due at once");
    assert!(is_full(&test, &project).await);
    let fired = test.store.fire_schedule(&project.scope, &agent_id(), "hourly").await.unwrap();
    assert!(matches!(fired, FiredNow::Refused(ErrorCode::Limit006)), "{fired:?}");
    // what exists goes on
    let run = claim_one(&test.store, &project, &worker("w")).await;
    test.store.end_run(&run, &done(), None, true).await.unwrap();
    limit(&test, &project, Some(LEAST * 10)).await;
    assert!(!is_full(&test, &project).await, "a raised limit counts at once");
    assert!(matches!(
        test.store.fire_schedule(&project.scope, &agent_id(), "hourly").await.unwrap(),
        FiredNow::Run(_)
    ));
    assert_healthy(&test).await;
}
