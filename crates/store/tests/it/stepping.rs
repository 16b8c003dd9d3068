//! Stepping the engine by hand: make runs, claim them, take them back, and ask the doctor afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use awooop_core::RunId;
pub(crate) use awooop_journeys::db::new_run;
use awooop_journeys::db::{TestProject, TestStore, agent_id, manifest};
use awooop_store::claim::{ClaimedRun, Worker};
use awooop_store::contract::ApplyOptions;
use awooop_store::journal::{CallRecord, Outcome, StepKind, StepResult, StepStatus};
use awooop_store::run::{Created, Run};
use awooop_store::{Clock, Store};
use jiff::Timestamp;
use serde_json::json;

/// Time of the tests that turn the clock themselves.
pub(crate) const START: i64 = 1_800_000_000;

pub(crate) fn worker(id: &str) -> Worker {
    Worker { id: id.to_owned(), incarnation: 1 }
}

pub(crate) fn manual() -> Clock {
    Clock::manual(Timestamp::from_second(START).unwrap())
}

pub(crate) async fn create(store: &Store, project: &TestProject) -> RunId {
    match store.create_run(&project.scope, &new_run(store, project).await).await.unwrap() {
        Created::New(run_id) => run_id,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn create_many(store: &Store, project: &TestProject, n: usize) -> BTreeSet<RunId> {
    let mut made = BTreeSet::new();
    for _ in 0..n {
        made.insert(create(store, project).await);
    }
    made
}

pub(crate) async fn claim_one(store: &Store, project: &TestProject, worker: &Worker) -> ClaimedRun {
    let mut claimed = store.claim(&project.id, worker, 1).await.unwrap();
    assert_eq!(claimed.len(), 1);
    claimed.remove(0)
}

pub(crate) async fn run_of(store: &Store, project: &TestProject, run_id: RunId) -> Run {
    store.find_run(&project.scope, run_id).await.unwrap().unwrap()
}

pub(crate) fn step(store: &Store, n: i32) -> StepResult {
    StepResult {
        n,
        kind: StepKind::Tool,
        name: "kit__echo".to_owned(),
        status: StepStatus::Ok,
        code: None,
        started_at: store.clock().now(),
        duration_ms: 3,
        body: store.redactor().clean(r#"{"input":{},"output":{},"usage":null,"gates":[]}"#),
    }
}

pub(crate) fn call(store: &Store) -> CallRecord {
    CallRecord {
        agent_id: agent_id().to_string(),
        tool: "kit__echo".to_owned(),
        status: StepStatus::Ok,
        code: None,
        arguments_sha256: "0".repeat(64),
        result_chars: 3,
        started_at: store.clock().now(),
        duration_ms: 3,
        trace_id: None,
        is_trusted: false,
    }
}

pub(crate) fn done() -> Outcome {
    Outcome::Completed(json!({"answer": "42"}))
}

pub(crate) fn soon(store: &Store) -> Timestamp {
    store.clock().after(Duration::from_secs(60))
}

/// The project's queue holds at most so many runs.
pub(crate) async fn limit_queue(test: &TestStore, project: &TestProject, runs: u32) {
    let spec = json!({"display_name": "Limited", "limits": {"max_queued_runs": runs}});
    let document = json!({"kind": "project", "project": project.id, "id": project.id, "spec": spec});
    let manifests = [manifest(document).unwrap()];
    test.store.apply(&project.caller, &manifests, ApplyOptions::default()).await.unwrap();
}

/// The doctor finds nothing.
pub(crate) async fn assert_healthy(test: &TestStore) {
    assert_eq!(test.store.examine().await.unwrap(), vec![]);
}

pub(crate) async fn reap_all(test: &TestStore, me: &Worker) -> Vec<RunId> {
    let mut reaped = Vec::new();
    for dead in test.store.former_leases(me).await.unwrap() {
        reaped.extend(test.store.reap(&dead).await.unwrap());
    }
    reaped
}

/// The worker's next life.
pub(crate) fn next_life(worker: &Worker) -> Worker {
    Worker { incarnation: worker.incarnation + 1, ..worker.clone() }
}
