//! Tokens held and charged: a limit is never overspent, and each hold is charged once.

use std::time::Duration;

use awooop_core::ErrorCode;
use awooop_journeys::db::TestStore;
use awooop_store::budget::ReserveError;
use awooop_store::journal::RecordError;
use futures::future::join_all;

use crate::counting::count;
use crate::stepping::{assert_healthy, claim_one, create, manual, soon, step, worker};

#[tokio::test(flavor = "multi_thread")]
async fn reservations_in_parallel_never_exceed_the_limit() {
    let test = TestStore::private().await;
    let project = test.project_with(Some(1_000), 3).await;
    create(&test.store, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    let until = soon(&test.store);
    let asked = join_all((1..=64).map(|n| test.store.reserve(&run, n, 90, until))).await;
    let (held, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(Result::is_ok);
    assert_eq!(held.len(), 11, "11 times 90 fit into 1000");
    for error in refused.into_iter().filter_map(Result::err) {
        assert!(matches!(error, ReserveError::Held { held: 1..=990 }), "{error:?}");
    }
    assert_eq!(count(&test, "budget_hold").await, 11);
    let budget = async || test.store.list_budgets(&project.scope).await.unwrap().remove(0);
    assert_eq!((budget().await.held, budget().await.settled), (990, 0));
    assert_healthy(&test).await;

    // settled in parallel, each twice: charged once each
    let settlements: Vec<_> = held.into_iter().map(|hold| hold.unwrap().settle(90, false)).collect();
    let twice = settlements.iter().chain(&settlements).map(|s| test.store.settle(&project.scope, s));
    for settled in join_all(twice).await {
        settled.unwrap();
    }
    assert_eq!((budget().await.held, budget().await.settled), (0, 990));
    assert_eq!(count(&test, "budget_ledger").await, 11);
    let spent = test.store.reserve(&run, 65, 11, until).await.unwrap_err();
    assert!(matches!(spent, ReserveError::Spent { settled: 990, limit: 1_000, asked: 11 }), "{spent:?}");
    assert_eq!(spent.code(), ErrorCode::Budget001);
    test.store.reserve(&run, 65, 10, until).await.unwrap();
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_settling_and_charging_an_expired_hold_exactly_one_happens() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project_with(Some(100_000), 3).await;
    create(&test.store, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    let mut expected = 0;
    for n in 1..=30 {
        let hold = test.store.reserve(&run, n, 100, clock.after(Duration::from_secs(1))).await.unwrap();
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            test.store.projects_with_expired_holds().await.unwrap(),
            std::slice::from_ref(&project.id)
        );
        let settlement = hold.settle(7, false);
        let (settled, charged) = tokio::join!(
            test.store.settle(&project.scope, &settlement),
            test.store.charge_abandoned(&project.id),
        );
        settled.unwrap();
        expected += if charged.unwrap() == 1 { 100 } else { 7 };
        assert_eq!(count(&test, "budget_ledger").await, i64::from(n));
    }
    let budget = test.store.list_budgets(&project.scope).await.unwrap().remove(0);
    assert_eq!((budget.settled, budget.held), (expected, 0));
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_and_its_settlement_stand_together() {
    let test = TestStore::private().await;
    let project = test.project_with(Some(1_000), 3).await;
    create(&test.store, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    let hold = test.store.reserve(&run, 1, 100, soon(&test.store)).await.unwrap();
    // it used more than was held: that is charged too
    let settlement = hold.settle(150, true);
    test.store.record_step(&run, &step(&test.store, 1), Some(&settlement), None).await.unwrap();
    let budget = async || test.store.list_budgets(&project.scope).await.unwrap().remove(0);
    assert_eq!((budget().await.settled, budget().await.held), (150, 0));
    // a step that another epoch has written already: refused, and what was used is charged all the same
    let hold = test.store.reserve(&run, 1, 100, soon(&test.store)).await.unwrap();
    let again =
        test.store.record_step(&run, &step(&test.store, 1), Some(&hold.settle(20, false)), None).await;
    assert!(matches!(again, Err(RecordError::Fenced)), "{again:?}");
    assert_eq!((budget().await.settled, budget().await.held), (170, 0));
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_s_hold_waits_for_its_settlement() {
    let test = TestStore::private().await;
    let project = test.project_with(Some(1_000), 3).await;
    let run_id = create(&test.store, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    let hold = test.store.reserve(&run, 1, 100, soon(&test.store)).await.unwrap();
    test.store.cancel_run(&project.scope, run_id).await.unwrap();
    assert_eq!(test.store.charge_abandoned(&project.id).await.unwrap(), 0);
    let late = test.store.record_step(&run, &step(&test.store, 1), Some(&hold.settle(30, false)), None).await;
    assert!(matches!(late, Err(RecordError::Fenced)), "{late:?}");
    let budget = test.store.list_budgets(&project.scope).await.unwrap().remove(0);
    assert_eq!((budget.settled, budget.held), (30, 0));
    assert_eq!(count(&test, "step_journal").await, 0);
    assert_healthy(&test).await;
}
