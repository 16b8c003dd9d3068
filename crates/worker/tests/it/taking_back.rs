//! Runs nobody has: their worker takes them back itself, without waiting for its own silence.

use awooop_core::run::StateName;
use awooop_journeys::db::TestStore;
use awooop_store::journal::{StepKind, StepResult, StepStatus};
use awooop_worker::WorkerConfig;

use crate::support::{assert_healthy, create, me, project, until, work};

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_was_lost_is_taken_back_at_once() {
    let test = TestStore::private().await;
    let project = project(&test, 0).await;
    let run_id = create(&test, &project).await;
    // as this worker would have claimed it, had the connection not ended before the answer
    let lost = test.store.claim(&project.id, &me(), 1).await.unwrap();
    assert_eq!(lost.len(), 1);
    let worker = work(&test, WorkerConfig::default());
    let ended = until(&test, &project, run_id, |run| run.completed_at.is_some()).await;
    assert_eq!((ended.state, ended.attempt), (StateName::Completed, 2));
    worker.drain().await;
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_step_an_earlier_claim_wrote_late_goes_on() {
    let test = TestStore::private().await;
    let project = project(&test, 1500).await;
    let run_id = create(&test, &project).await;
    let worker = work(&test, WorkerConfig::default());
    let running = until(&test, &project, run_id, |run| run.state == StateName::Running).await;
    // a write of this worker that it believed lost arrives while the same step is done again
    let mut late = test.database().admin().await;
    let wrote = late.transaction().await.unwrap();
    let step = late_step(&test);
    let sql = "INSERT INTO awooop.step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key,
        status, started_at, duration_ms, body) VALUES ($1, $2, $3, 'result', $4, 'llm', $5, $6, 'ok', now(), 1, $7)";
    let key = format!("{run_id}:1");
    wrote
        .execute(
            sql,
            &[&project.id.as_str(), &run_id, &step.n, &running.epoch, &step.name, &key, &step.body.as_str()],
        )
        .await
        .unwrap();
    wrote.commit().await.unwrap();
    let ended = until(&test, &project, run_id, |run| run.completed_at.is_some()).await;
    assert_eq!(ended.state, StateName::Completed);
    assert_eq!(ended.output.as_deref(), Some("\"written late\""), "what was recorded first counts");
    worker.drain().await;
    assert_healthy(&test).await;
}

fn late_step(test: &TestStore) -> StepResult {
    StepResult {
        n: 1,
        kind: StepKind::Llm,
        name: "offline/planner".to_owned(),
        status: StepStatus::Ok,
        code: None,
        started_at: test.store.clock().now(),
        duration_ms: 1,
        body: test.store.redactor().clean(r#"{"output":{"content":"written late","tool_calls":[]}}"#),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_under_load_lose_no_run_and_no_money() {
    let test = TestStore::private().await;
    let project = project(&test, 20).await;
    let mut made = Vec::new();
    for _ in 0..60 {
        made.push(create(&test, &project).await);
    }
    let worker = work(&test, WorkerConfig { slots: 8, claim_batch: 3, ..WorkerConfig::default() });
    let admin = test.database().admin().await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE usename IN ('awooop_app', 'awooop_dispatch') AND datname = current_database()";
    for (i, run_id) in made.iter().enumerate() {
        let ended = until(&test, &project, *run_id, |run| run.completed_at.is_some()).await;
        assert_eq!(ended.state, StateName::Completed, "{ended:?}");
        if i % 4 == 0 {
            admin.execute(cut, &[]).await.unwrap();
        }
    }
    worker.drain().await;
    assert_healthy(&test).await;
}
