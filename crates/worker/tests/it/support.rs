//! A worker on a store of its own, and runs of an agent whose model takes a given time.

use std::time::Duration;

use awooop_core::{Mode, RunId};
use awooop_gateway::{Gateway, Operator};
use awooop_journeys::db::{TestProject, TestStore, agent_id, manifest, new_run};
use awooop_store::claim::Worker;
use awooop_store::contract::ApplyOptions;
use awooop_store::run::{Created, NewRun, Run};
use awooop_worker::{Running, WorkerConfig, start};
use serde_json::json;

/// Longer than any of these tests may take.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn me() -> Worker {
    Worker { id: "worker".to_owned(), incarnation: 1 }
}

pub(crate) fn work(test: &TestStore, config: WorkerConfig) -> Running {
    let gateway = Gateway::new(test.store.clone(), Operator::default());
    start(test.store.clone(), gateway, me(), config)
}

/// A project whose agent answers any text after `delay_ms`.
pub(crate) async fn project(test: &TestStore, delay_ms: u64) -> TestProject {
    let project = test.project().await;
    let model = json!({"kind": "provider", "project": project.id, "id": "offline", "spec": {
        "type": "llm", "dialect": "offline", "models": [{"name": "planner", "delay_ms": delay_ms}]}});
    let agent = json!({"kind": "agent", "project": project.id, "id": agent_id().as_str(), "spec": {
        "instructions": "Answer.", "model": "offline/planner", "output_schema": {}, "max_attempts": 10}});
    let manifests = [manifest(model), manifest(agent)].map(|m| m.expect("a valid manifest"));
    test.store
        .apply(&project.caller, &manifests, ApplyOptions::default())
        .await
        .expect("the manifests apply");
    project
}

pub(crate) async fn create(test: &TestStore, project: &TestProject) -> RunId {
    create_in(test, project, Mode::Shadow).await
}

pub(crate) async fn create_in(test: &TestStore, project: &TestProject, mode: Mode) -> RunId {
    let new = NewRun { mode, timeout: LIMIT, ..new_run(&test.store, project).await };
    match test.store.create_run(&project.scope, &new).await.expect("the database answers") {
        Created::New(run_id) => run_id,
        other => panic!("{other:?}"),
    }
}

/// Waits until the run is as wanted, and fails with what it is when that does not come.
pub(crate) async fn until(
    test: &TestStore,
    project: &TestProject,
    run_id: RunId,
    is: impl Fn(&Run) -> bool,
) -> Run {
    let mut changes = test.store.wake().runs();
    let began = std::time::Instant::now();
    loop {
        let found = test.store.find_run(&project.scope, run_id).await;
        match found {
            Ok(Some(run)) if is(&run) => return run,
            Ok(run) if began.elapsed() > LIMIT / 3 => panic!("this did not come: {run:?}"),
            // the database may be away just now, and a lagging listener reads the row again anyway
            _ => drop(tokio::time::timeout(Duration::from_millis(100), changes.recv()).await),
        }
    }
}

pub(crate) async fn assert_healthy(test: &TestStore) {
    assert_eq!(test.store.examine().await.expect("the database answers"), vec![]);
}
