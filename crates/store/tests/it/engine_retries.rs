//! Runs that are tried again later: they wait without a worker, are queued once when their time has come, and are
//! never both waiting and queued.

use std::time::Duration;

use awooop_core::ErrorCode;
use awooop_core::run::StateName;
use awooop_journeys::db::{TestStore, test_store};
use awooop_store::journal::RecordError;
use awooop_store::run::Cancelled;
use futures::future::join_all;
use jiff::ToSpan;

use crate::counting::count;
use crate::stepping::{assert_healthy, claim_one, create, done, manual, run_of, step, worker};

const CODE: ErrorCode = ErrorCode::Run013;

#[tokio::test]
async fn a_run_that_is_put_off_waits_without_a_worker_and_is_queued_when_due() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project_with(None, 2).await;
    let run_id = create(&test.store, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    let store = &test.store;
    let due_at = clock.now() + 7.seconds();
    let reason = format!("busy, with {}=hunter2hunter2", "password");
    assert!(store.retry_later(&run, CODE, &reason, due_at).await.unwrap());
    let found = run_of(store, &project, run_id).await;
    let retry = found.retry.expect("it waits");
    assert_eq!((found.state, found.attempt, found.epoch, retry.at), (StateName::Pending, 1, 2, due_at));
    assert_eq!((retry.code.as_str(), retry.reason.as_str()), ("E-RUN-013", "busy, with password=[SECRET]"));
    assert_healthy(&test).await;
    // the claim is over: nothing of it is recorded any more
    assert!(matches!(store.record_step(&run, &step(store, 1), None, None).await, Err(RecordError::Fenced)));
    assert!(matches!(store.end_run(&run, &done(), None, false).await, Err(RecordError::Fenced)));
    assert!(matches!(store.retry_later(&run, CODE, "again", due_at).await, Err(RecordError::Fenced)));
    store.release(&run).await.unwrap();
    store.drop_lease(&project.scope, run.lease_id).await.unwrap();
    assert_eq!((count(&test, "run_lease").await, count(&test, "run_queue").await), (0, 0));

    clock.advance(Duration::from_millis(6_999));
    assert_eq!(store.wake_due().await.unwrap(), 0);
    clock.advance(Duration::from_millis(1));
    assert_eq!(store.wake_due().await.unwrap(), 1);
    assert_eq!(store.wake_due().await.unwrap(), 0);
    assert!(run_of(store, &project, run_id).await.retry.is_none());
    assert_healthy(&test).await;
    let again = claim_one(store, &project, &worker("w")).await;
    assert_eq!((again.run_id, again.attempt, again.epoch), (run_id, 2, 3));
    assert!(
        !store.retry_later(&again, CODE, "busy", clock.now() + 1.second()).await.unwrap(),
        "no claim is left"
    );
    store.end_run(&again, &done(), None, true).await.unwrap();
    let events = "audit_event WHERE action = 'run.retry' AND body NOT LIKE '%hunter2%'";
    assert_eq!(count(&test, events).await, 1);
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_run_whose_time_would_be_over_is_not_put_off() {
    let test = test_store().await;
    let project = test.project().await;
    create(&test.store, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    assert!(!test.store.retry_later(&run, CODE, "busy", run.timeout_at).await.unwrap());
    test.store.record_step(&run, &step(&test.store, 1), None, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_waking_and_cancelling_exactly_one_comes_first_and_nothing_is_left() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    for _ in 0..30 {
        let run_id = create(&test.store, &project).await;
        let run = claim_one(&test.store, &project, &worker("w")).await;
        assert!(test.store.retry_later(&run, CODE, "busy", clock.now() + 1.second()).await.unwrap());
        clock.advance(Duration::from_secs(1));
        let (woken, cancelled, other) = tokio::join!(
            test.store.wake_due(),
            test.store.cancel_run(&project.scope, run_id),
            test.store.wake_due()
        );
        assert!(woken.unwrap() + other.unwrap() <= 1);
        assert!(matches!(cancelled.unwrap(), Cancelled::Done(_)));
        assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::Cancelled);
        assert_eq!((count(&test, "run_queue").await, count(&test, "run_timer").await), (0, 0));
        test.store.drop_lease(&project.scope, run.lease_id).await.unwrap();
    }
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_putting_off_completing_and_cancelling_exactly_one_wins() {
    let test = TestStore::private().await;
    let project = test.project().await;
    for _ in 0..30 {
        let run_id = create(&test.store, &project).await;
        let run = claim_one(&test.store, &project, &worker("w")).await;
        let (outcome, due_at) = (done(), test.store.clock().after(Duration::from_secs(60)));
        let (put_off, ended, cancelled) = tokio::join!(
            test.store.retry_later(&run, CODE, "busy", due_at),
            test.store.end_run(&run, &outcome, None, false),
            test.store.cancel_run(&project.scope, run_id)
        );
        let found = run_of(&test.store, &project, run_id).await;
        match (put_off, ended) {
            (Ok(_), Ok(())) => panic!("both"),
            // a cancel comes after either
            (Ok(_), Err(RecordError::Fenced)) => assert_eq!(found.state, StateName::Cancelled),
            (Err(RecordError::Fenced), Ok(())) => {
                assert!(matches!(cancelled, Ok(Cancelled::Ended(_))));
                assert_eq!(found.state, StateName::Completed);
            }
            (Err(RecordError::Fenced), Err(RecordError::Fenced)) => {
                assert_eq!(found.state, StateName::Cancelled);
            }
            (put_off, ended) => panic!("{put_off:?} {ended:?}"),
        }
        let waits = format!("run_timer WHERE run_id = '{run_id}'");
        assert_eq!(count(&test, &waits).await, 0);
        test.store.drop_lease(&project.scope, run.lease_id).await.unwrap();
    }
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_timers_wake_once_each_however_many_sweepers_there_are() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    for _ in 0..450 {
        create(&test.store, &project).await;
    }
    let due_at = clock.now() + 1.second();
    while let Some(runs) =
        Some(test.store.claim(&project.id, &worker("w"), 200).await.unwrap()).filter(|r| !r.is_empty())
    {
        for run in &runs {
            assert!(test.store.retry_later(run, CODE, "busy", due_at).await.unwrap());
        }
        test.store.drop_lease(&project.scope, runs[0].lease_id).await.unwrap();
    }
    clock.advance(Duration::from_secs(2));
    let woken = join_all((0..4).map(|_| test.store.wake_due())).await;
    let woken: usize = woken.into_iter().map(Result::unwrap).sum();
    assert_eq!(woken + test.store.wake_due().await.unwrap(), 450);
    assert_eq!((count(&test, "run_queue").await, count(&test, "run_timer").await), (450, 0));
    assert_healthy(&test).await;
}
