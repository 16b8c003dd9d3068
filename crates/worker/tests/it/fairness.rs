//! Projects beside one another: one that floods the queue delays no other's run by more than the slots there are.
//! What is asserted is counted, not timed: how many runs of the one were started between the enqueuing and the start
//! of the other's.

use awooop_journeys::db::{TestProject, TestStore, manifest};
use awooop_store::contract::ApplyOptions;
use awooop_store::run::{Run, RunFilter};
use awooop_worker::WorkerConfig;
use futures::future::join_all;
use serde_json::json;

use crate::support::{assert_healthy, create, project, until, work};

const SLOTS: usize = 4;

fn config() -> WorkerConfig {
    WorkerConfig { slots: SLOTS, ..WorkerConfig::default() }
}

async fn started(test: &TestStore, project: &TestProject) -> Vec<Run> {
    let filter = RunFilter { limit: 1000, ..RunFilter::default() };
    let runs = test.store.list_runs(&project.scope, &filter).await.expect("the database answers");
    runs.into_iter().filter(|run| run.started_at.is_some()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_project_delays_anothers_run_by_no_more_than_the_slots() {
    let test = TestStore::private().await;
    let flooding = project(&test, 5).await;
    let others = join_all((0..5).map(|_| project(&test, 0))).await;
    join_all((0..150).map(|_| create(&test, &flooding))).await;
    let worker = work(&test, config());
    for other in &others {
        let run_id = create(&test, other).await;
        let run = until(&test, other, run_id, |run| run.completed_at.is_some()).await;
        let (enqueued, start) = (run.created_at, run.started_at.unwrap());
        let between = |run: &&Run| run.started_at.is_some_and(|at| enqueued < at && at < start);
        let before = started(&test, &flooding).await.iter().filter(between).count();
        // at most one look was under way, which may fill all slots, and one turn comes before ours
        assert!(before <= 2 * SLOTS, "{before} runs of the flooding project came first");
    }
    worker.drain().await;
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_shared_by_the_weights_of_contracts() {
    let test = TestStore::private().await;
    let (heavy, light) = (project(&test, 5).await, project(&test, 5).await);
    let spec = json!({"display_name": "Heavy", "weight": 3});
    let document = json!({"kind": "project", "project": heavy.id, "id": heavy.id, "spec": spec});
    let manifests = [manifest(document).unwrap()];
    test.store.apply(&heavy.caller, &manifests, ApplyOptions::default()).await.unwrap();
    join_all((0..90).map(|n| create(&test, if n % 2 == 0 { &heavy } else { &light }))).await;
    let worker = work(&test, config());
    let newest = RunFilter { limit: 1, ..RunFilter::default() };
    let last = test.store.list_runs(&heavy.scope, &newest).await.unwrap().remove(0);
    let last = until(&test, &heavy, last.run_id, |run| run.started_at.is_some()).await.started_at;
    let lighter = started(&test, &light).await.iter().filter(|run| run.started_at <= last).count();
    // while 45 of the one were started, 15 of the other were: give or take what is under way
    assert!((15 - SLOTS..=15 + SLOTS).contains(&lighter), "{lighter} of the lighter project");
    worker.drain().await;
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capped_projects_runs_follow_one_another_without_waiting_for_a_look() {
    let test = TestStore::private().await;
    let capped = project(&test, 0).await;
    let spec = json!({"display_name": "Capped", "limits": {"max_running_runs": 1}});
    let document = json!({"kind": "project", "project": capped.id, "id": capped.id, "spec": spec});
    let manifests = [manifest(document).unwrap()];
    test.store.apply(&capped.caller, &manifests, ApplyOptions::default()).await.unwrap();
    let runs = join_all((0..20).map(|_| create(&test, &capped))).await;
    // with this pause between two looks, the runs would take minutes if their ends did not ring
    let config = WorkerConfig { poll_every: std::time::Duration::from_secs(30), ..config() };
    let worker = work(&test, config);
    for run_id in runs {
        until(&test, &capped, run_id, |run| run.completed_at.is_some()).await;
    }
    let mut runs = started(&test, &capped).await;
    runs.sort_by_key(|run| run.started_at);
    let overlap = runs.windows(2).any(|pair| pair[1].started_at < pair[0].completed_at);
    assert!(!overlap, "one at a time");
    worker.drain().await;
    assert_healthy(&test).await;
}
