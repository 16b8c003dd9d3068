//! A stop is bounded, whatever the runs do.

use std::time::{Duration, Instant};

use awooop_core::run::StateName;
use awooop_journeys::db::TestStore;
use awooop_worker::WorkerConfig;

use crate::support::{assert_healthy, create, project, until, work};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_free_slot() {
    let test = TestStore::private().await;
    let project = project(&test, 30_000).await;
    let (first, second) = (create(&test, &project).await, create(&test, &project).await);
    let config = WorkerConfig { slots: 1, drain_for: Duration::from_millis(300), ..WorkerConfig::default() };
    let worker = work(&test, config);
    until(&test, &project, first, |run| run.state == StateName::Running).await;
    let began = Instant::now();
    worker.drain().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for (run_id, epoch) in [(first, 2), (second, 0)] {
        let run = until(&test, &project, run_id, |run| run.state == StateName::Pending).await;
        assert_eq!((run.attempt, run.epoch), (0, epoch), "given back, or never taken");
    }
    assert_healthy(&test).await;
}
