//! The engine's guards, each in a race: whoever loses has written nothing. After each test the doctor's
//! questions about the rows find nothing.
//!
//! Claims are stepped by hand; races are joined futures on connections of their own, many times over.

use std::collections::BTreeSet;
use std::time::Duration;

use awooop_core::run::StateName;
use awooop_core::{ErrorCode, RunId};
use awooop_journeys::db::TestStore;
use awooop_store::budget::ReserveError;
use awooop_store::journal::{Outcome, RecordError};
use awooop_store::run::{Cancelled, Created, Idempotency, NewRun, RunFilter};
use futures::future::join_all;

use crate::counting::{count, rows_read};
use crate::stepping::{
    assert_healthy, call, claim_one, create, create_many, done, manual, new_run, next_life, reap_all, run_of,
    soon, step, worker,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_claimers_claim_each_of_200_runs_once() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let made = create_many(&test.store, &project, 200).await;
    let claims = async |name: &str| {
        let (me, mut all) = (worker(name), Vec::new());
        loop {
            let some = test.store.claim(&project.id, &me, 7).await.unwrap();
            if some.is_empty() {
                return all;
            }
            assert!(some.len() <= 7, "a claim never takes more than it asked for");
            all.extend(some.into_iter().map(|run| (run.run_id, run.epoch, run.attempt)));
        }
    };
    let (one, two) = tokio::join!(claims("one"), claims("two"));
    assert_eq!(one.len() + two.len(), 200);
    let ids: BTreeSet<RunId> = one.iter().chain(&two).map(|(id, ..)| *id).collect();
    assert_eq!(ids, made);
    assert!(one.iter().chain(&two).all(|(_, epoch, attempt)| (*epoch, *attempt) == (1, 1)));
    assert_eq!(count(&test, "run_queue").await, 0);
    assert_healthy(&test).await;
}

#[tokio::test]
async fn claims_follow_priority_and_then_age() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let mut wanted = Vec::new();
    for priority in [9, 0, 5, 0, 5] {
        let new = NewRun { priority, ..new_run(&test.store, &project).await };
        let Created::New(id) = test.store.create_run(&project.scope, &new).await.unwrap() else { panic!() };
        wanted.push((priority, id));
    }
    wanted.sort_unstable();
    for (priority, id) in wanted {
        assert_eq!(claim_one(&test.store, &project, &worker("w")).await.run_id, id, "priority {priority}");
    }
    assert!(test.store.claim(&project.id, &worker("w"), 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn discovery_lists_each_project_with_work_once() {
    let test = TestStore::private().await;
    let (a, b, idle) = (test.project().await, test.project().await, test.project().await);
    create_many(&test.store, &a, 3).await;
    create_many(&test.store, &b, 2).await;
    let mut with_work = vec![a.id.clone(), b.id.clone()];
    with_work.sort();
    let discover = async |after: &str, limit| {
        let due = test.store.discover(after, limit).await.unwrap();
        due.into_iter().map(|due| due.project).collect::<Vec<_>>()
    };
    assert_eq!(discover("", 10).await, with_work);
    assert_eq!(discover("", 1).await, with_work[..1]);
    assert_eq!(discover(with_work[0].as_str(), 10).await, with_work[1..]);
    assert!(test.store.claim(&idle.id, &worker("w"), 5).await.unwrap().is_empty());
    test.store.claim(&a.id, &worker("w"), 5).await.unwrap();
    assert_eq!(discover("", 10).await, [b.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_cancel_and_complete_exactly_one_wins() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let (mut cancelled, mut completed) = (0, 0);
    for _ in 0..40 {
        let run_id = create(&test.store, &project).await;
        let run = claim_one(&test.store, &project, &worker("w")).await;
        let (outcome, last) = (done(), step(&test.store, 1));
        let (cancel, end) = tokio::join!(
            test.store.cancel_run(&project.scope, run_id),
            test.store.end_run(&run, &outcome, Some((&last, None)), true),
        );
        let found = run_of(&test.store, &project, run_id).await;
        match (cancel.unwrap(), end) {
            (Cancelled::Done(_), Err(RecordError::Fenced)) => {
                cancelled += 1;
                assert_eq!((found.state, &found.output, found.epoch), (StateName::Cancelled, &None, 2));
                assert_eq!(audited(&test, run_id, "run.end").await, 0);
                // what the loser still tries is refused as well
                assert!(test.store.record_step(&run, &step(&test.store, 2), None, None).await.is_err());
            }
            (Cancelled::Ended(_), Ok(())) => {
                completed += 1;
                assert_eq!((found.state, found.epoch), (StateName::Completed, 1));
                assert_eq!(audited(&test, run_id, "run.cancel").await, 0);
            }
            (cancel, end) => panic!("both or none won: {cancel:?} {end:?}"),
        }
        test.store.drop_lease(&project.scope, run.lease_id).await.unwrap();
    }
    println!("cancel won {cancelled} times, completion {completed} times");
    assert_eq!(count(&test, "step_journal").await, completed, "the loser's last step was not written");
    assert_eq!(count(&test, "run_lease").await, 0);
    assert_healthy(&test).await;
}

async fn audited(test: &TestStore, run_id: RunId, action: &str) -> i64 {
    count(test, &format!("audit_event WHERE run_id = '{run_id}' AND action = '{action}'")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_cancel_and_claim_exactly_one_comes_first() {
    let test = TestStore::private().await;
    let project = test.project().await;
    for _ in 0..40 {
        let run_id = create(&test.store, &project).await;
        let me = worker("w");
        let (cancel, claimed) = tokio::join!(
            test.store.cancel_run(&project.scope, run_id),
            test.store.claim(&project.id, &me, 1),
        );
        // cancelled in the queue, or taken from the worker that had just claimed it
        assert!(matches!(cancel.unwrap(), Cancelled::Done(_)));
        assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::Cancelled);
        for run in claimed.unwrap() {
            let fenced = test.store.end_run(&run, &done(), None, true).await;
            assert!(matches!(fenced, Err(RecordError::Fenced)), "{fenced:?}");
        }
    }
    assert_eq!(count(&test, "run_queue").await, 0);
    assert_eq!(count(&test, "audit_event WHERE action = 'run.cancel'").await, 40);
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_stale_epoch_records_nothing_holds_nothing_and_ends_nothing() {
    let test = TestStore::private().await;
    let project = test.project_with(Some(1000), 3).await;
    let run_id = create(&test.store, &project).await;
    let (me, later) = (worker("w"), next_life(&worker("w")));
    let old = claim_one(&test.store, &project, &me).await;
    test.store.record_step(&old, &step(&test.store, 1), None, Some(&call(&test.store))).await.unwrap();
    let hold = test.store.reserve(&old, 2, 100, soon(&test.store)).await.unwrap();
    assert_eq!(reap_all(&test, &later).await, [run_id]);
    let new = claim_one(&test.store, &project, &later).await;
    assert_eq!((new.epoch, new.attempt), (3, 2));

    let (late, used) = (step(&test.store, 2), hold.settle(40, false));
    let late = test.store.record_step(&old, &late, Some(&used), Some(&call(&test.store))).await;
    assert!(matches!(late, Err(RecordError::Fenced)));
    assert!(matches!(test.store.end_run(&old, &done(), None, true).await, Err(RecordError::Fenced)));
    let reserved = test.store.reserve(&old, 2, 10, soon(&test.store)).await;
    assert!(matches!(reserved, Err(ReserveError::Fenced)), "{reserved:?}");
    test.store.release(&old).await.unwrap();

    let found = run_of(&test.store, &project, run_id).await;
    assert_eq!((found.state, found.epoch, found.attempt), (StateName::Running, 3, 2));
    assert_eq!(count(&test, "step_journal WHERE phase = 'result'").await, 1);
    assert_eq!(count(&test, "mcp_call").await, 1);
    assert_eq!(count(&test, "run_lease").await, 1, "the new lease is untouched");
    // the hold was charged in full when the run was taken back; settling it later changes nothing
    let budget = test.store.list_budgets(&project.scope).await.unwrap().remove(0);
    assert_eq!((budget.settled, budget.held), (100, 0));
    assert_eq!(count(&test, "budget_ledger WHERE reason = 'abandoned' AND is_estimated").await, 1);

    // the new epoch goes on where the old one stopped
    test.store.record_step(&new, &step(&test.store, 2), None, None).await.unwrap();
    test.store.end_run(&new, &done(), None, true).await.unwrap();
    let steps = test.store.list_steps(&project.scope, run_id, 0, 10).await.unwrap();
    assert_eq!(steps.iter().map(|s| (s.n, s.epoch)).collect::<Vec<_>>(), [(1, 1), (2, 3)]);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_recorded_once_however_often_it_is_sent() {
    let test = TestStore::private().await;
    let project = test.project().await;
    create(&test.store, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    let (result, record) = (step(&test.store, 1), call(&test.store));
    let sent = join_all((0..8).map(|_| test.store.record_step(&run, &result, None, Some(&record)))).await;
    assert_eq!(sent.iter().filter(|r| r.is_ok()).count(), 1, "{sent:?}");
    assert!(sent.iter().all(|r| matches!(r, Ok(()) | Err(RecordError::Fenced))), "{sent:?}");
    assert_eq!((count(&test, "step_journal").await, count(&test, "mcp_call").await), (1, 1));
}

#[tokio::test]
async fn cancelling_one_run_of_a_lease_leaves_the_others_to_their_worker() {
    let test = TestStore::private().await;
    let project = test.project().await;
    create_many(&test.store, &project, 3).await;
    let claimed = test.store.claim(&project.id, &worker("w"), 3).await.unwrap();
    let [victim, other, last] = &claimed[..] else { panic!("three runs") };
    assert!(matches!(test.store.cancel_run(&project.scope, victim.run_id).await, Ok(Cancelled::Done(_))));
    assert_eq!(count(&test, "run_lease WHERE dirty").await, 1);
    let store = &test.store;
    assert!(matches!(store.record_step(victim, &step(store, 1), None, None).await, Err(RecordError::Fenced)));
    assert!(matches!(store.end_run(victim, &done(), None, false).await, Err(RecordError::Fenced)));
    assert!(matches!(store.reserve(victim, 1, 1, soon(store)).await, Err(ReserveError::Fenced)));
    store.record_step(other, &step(store, 1), None, Some(&call(store))).await.unwrap();
    store.drop_lease(&project.scope, other.lease_id).await.unwrap();
    assert_eq!(count(&test, "run_lease").await, 1, "a lease with runs is not dropped");
    store.end_run(other, &done(), None, false).await.unwrap();
    let failed = Outcome::Failed(ErrorCode::Run013, "the provider said no".to_owned());
    store.end_run(last, &failed, None, true).await.unwrap();
    let found = run_of(store, &project, last.run_id).await;
    assert_eq!((found.state, found.error_code.as_deref()), (StateName::Failed, Some("E-RUN-013")));
    assert_eq!(count(&test, "run_lease").await, 0);
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_run_whose_time_is_over_in_the_queue_times_out() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let short = NewRun { timeout: Duration::from_secs(5), ..new_run(&test.store, &project).await };
    let Created::New(run_id) = test.store.create_run(&project.scope, &short).await.unwrap() else { panic!() };
    let long = create(&test.store, &project).await;
    clock.advance(Duration::from_millis(4_999));
    assert_eq!(test.store.time_out_queued().await.unwrap(), 0);
    clock.advance(Duration::from_millis(1));
    assert_eq!(test.store.time_out_queued().await.unwrap(), 1);
    assert_eq!(test.store.time_out_queued().await.unwrap(), 0);
    let found = run_of(&test.store, &project, run_id).await;
    assert_eq!((found.state, found.error_code.as_deref()), (StateName::Timeout, Some("E-RUN-011")));
    assert_eq!(found.completed_at, Some(clock.now()));
    assert_eq!(claim_one(&test.store, &project, &worker("w")).await.run_id, long);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_time_out_and_claim_exactly_one_wins() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    for _ in 0..30 {
        let short = NewRun { timeout: Duration::from_secs(1), ..new_run(&test.store, &project).await };
        let Created::New(run_id) = test.store.create_run(&project.scope, &short).await.unwrap() else {
            panic!()
        };
        clock.advance(Duration::from_secs(1));
        let me = worker("w");
        let (ended, claimed) =
            tokio::join!(test.store.time_out_queued(), test.store.claim(&project.id, &me, 1));
        let claimed = claimed.unwrap();
        assert_eq!(ended.unwrap() + claimed.len(), 1);
        let state = run_of(&test.store, &project, run_id).await.state;
        assert_eq!(state, if claimed.is_empty() { StateName::Timeout } else { StateName::Running });
        for run in claimed {
            test.store.end_run(&run, &Outcome::TimedOut, None, true).await.unwrap();
            assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::Timeout);
        }
    }
    assert_healthy(&test).await;
}

fn keyed(new: &NewRun, principal: &str, request: &str) -> NewRun {
    let idempotency = Idempotency {
        principal: principal.to_owned(),
        key: "k1".to_owned(),
        request_sha256: request.to_owned(),
    };
    NewRun { idempotency: Some(idempotency), ..new.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_in_32_parallel_requests_makes_one_run() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let (project, other) = (test.project().await, test.project().await);
    let new = keyed(&new_run(&test.store, &project).await, "admin", "hash");
    let all = join_all((0..32).map(|_| test.store.create_run(&project.scope, &new))).await;
    let mut ids = BTreeSet::new();
    let mut fresh = 0;
    for created in all {
        match created.unwrap() {
            Created::New(id) => {
                fresh += 1;
                ids.insert(id);
            }
            Created::Replayed(id) => drop(ids.insert(id)),
            other => panic!("the request was the same: {other:?}"),
        }
    }
    assert_eq!((fresh, ids.len()), (1, 1));
    assert_eq!(count(&test, "run_state").await, 1);
    assert_eq!(count(&test, "audit_event WHERE action = 'run.create'").await, 1);

    let changed = keyed(&new, "admin", "another hash");
    let made = test.store.create_run(&project.scope, &changed).await.unwrap();
    assert!(matches!(made, Created::OtherRequest), "{made:?}");
    let somebody = keyed(&new, "somebody", "hash");
    assert!(matches!(test.store.create_run(&project.scope, &somebody).await, Ok(Created::New(_))));
    let elsewhere = keyed(&new_run(&test.store, &other).await, "admin", "hash");
    assert!(matches!(test.store.create_run(&other.scope, &elsewhere).await, Ok(Created::New(_))));

    clock.advance(Duration::from_secs(24 * 3600));
    assert!(matches!(test.store.create_run(&project.scope, &new).await, Ok(Created::Replayed(_))));
    clock.advance(Duration::from_secs(1));
    let later = test.store.create_run(&project.scope, &new).await.unwrap();
    assert!(
        matches!(later, Created::New(id) if !ids.contains(&id)),
        "after a day the key is free: {later:?}"
    );
    assert_healthy(&test).await;
}

#[tokio::test]
async fn another_project_s_runs_are_absent() {
    let test = TestStore::private().await;
    let (mine, other) = (test.project().await, test.project().await);
    let theirs = create(&test.store, &other).await;
    let store = &test.store;
    assert!(store.find_run(&mine.scope, theirs).await.unwrap().is_none());
    assert!(matches!(store.cancel_run(&mine.scope, theirs).await.unwrap(), Cancelled::Absent));
    assert!(store.list_steps(&mine.scope, theirs, 0, 10).await.unwrap().is_empty());
    let filter = RunFilter { limit: 10, ..RunFilter::default() };
    assert!(store.list_runs(&mine.scope, &filter).await.unwrap().is_empty());
    assert_eq!(store.list_runs(&other.scope, &filter).await.unwrap().len(), 1);
    assert!(store.claim(&mine.id, &worker("w"), 10).await.unwrap().is_empty());
    assert_eq!(run_of(store, &other, theirs).await.state, StateName::Pending);
}

#[tokio::test]
async fn the_doctor_sees_what_is_wrong() {
    let test = TestStore::private().await;
    let project = test.project_with(Some(10), 3).await;
    create_many(&test.store, &project, 3).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    assert_healthy(&test).await;
    let admin = test.database().admin().await;
    for (damage, sign) in [
        (
            format!("DELETE FROM run_lease WHERE lease_id = '{}'", run.lease_id),
            "under a lease that does not list it",
        ),
        ("DELETE FROM run_queue".to_owned(), "is pending and neither queued nor waiting"),
        ("UPDATE budget SET held = 5 WHERE project_id <> 'platform'".to_owned(), "its holds say 0"),
        ("UPDATE budget SET settled = 5 WHERE project_id <> 'platform'".to_owned(), "its ledger says 0"),
        ("UPDATE contract SET active_version = 9 WHERE kind = 'agent'".to_owned(), "has no active version 9"),
        ("ALTER TABLE run_state NO FORCE ROW LEVEL SECURITY".to_owned(), "FORCE ROW LEVEL SECURITY"),
    ] {
        admin.batch_execute(&damage).await.unwrap();
        let found = test.store.examine().await.unwrap();
        assert!(found.iter().any(|f| f.message.contains(sign)), "{damage}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_for_overdue_runs_reads_none_that_is_not_due() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let run_id = create(&test.store, &project).await;
    let admin = test.database().admin().await;
    let many =
        "INSERT INTO awooop.run_queue SELECT project_id, priority, gen_random_uuid(), agent_id, timeout_at
        FROM awooop.run_queue, generate_series(1, 50000)";
    admin.batch_execute(many).await.unwrap();
    admin.batch_execute("ANALYZE awooop.run_queue").await.unwrap();
    let read = rows_read(&test, "run_queue", async |store| {
        assert_eq!(store.time_out_queued().await.unwrap(), 0);
    });
    let read = read.await;
    assert!(read < 20, "{read} rows were read");
    let due = "UPDATE awooop.run_queue SET timeout_at = now() WHERE run_id = $1";
    test.database().admin().await.execute(due, &[&run_id]).await.unwrap();
    let read = rows_read(&test, "run_queue", async |store| {
        assert_eq!(store.time_out_queued().await.unwrap(), 1);
    });
    let read = read.await;
    assert!(read < 20, "{read} rows were read");
}
