//! Taking runs back and giving them back: whose lease is dead, and who wins when its worker is not.

use std::collections::BTreeSet;
use std::time::Duration;

use awooop_core::RunId;
use awooop_core::run::StateName;
use awooop_journeys::db::TestStore;
use awooop_store::claim::{Wish, Worker};
use awooop_store::journal::RecordError;
use awooop_store::run::{Cancelled, Created, NewRun};
use awooop_store::{Clock, Store};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::types::ToSql;

use crate::counting::{count, deadlocks};
use crate::stepping::{
    assert_healthy, claim_one, create, create_many, done, manual, new_run, next_life, reap_all, run_of, soon,
    step, worker,
};

/// A beat as the store sends it, at a time of the test's choice.
const BEAT: &str = "INSERT INTO worker_beat AS b (worker_id, incarnation, first_at, beat_at)
    VALUES ($1, $2, $3, $3)
    ON CONFLICT (worker_id) DO UPDATE SET incarnation = $2, beat_at = $3,
      first_at = CASE WHEN b.incarnation = $2 THEN b.first_at ELSE $3 END";

#[tokio::test(flavor = "multi_thread")]
async fn of_reap_and_complete_exactly_one_wins() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let me = worker("w");
    for _ in 0..40 {
        let run_id = create(&test.store, &project).await;
        let run = claim_one(&test.store, &project, &me).await;
        let dead = test.store.former_leases(&next_life(&me)).await.unwrap().remove(0);
        let hold = test.store.reserve(&run, 1, 10, soon(&test.store)).await.unwrap();
        let (outcome, last, used) = (done(), step(&test.store, 1), hold.settle(4, false));
        let ending = test.store.end_run(&run, &outcome, Some((&last, Some(&used))), true);
        let (reaped, end) = tokio::join!(test.store.reap(&dead), ending);
        let steps = test.store.list_steps(&project.scope, run_id, 0, 10).await.unwrap().len();
        let found = run_of(&test.store, &project, run_id).await;
        if reaped.unwrap() == [run_id] {
            assert!(matches!(end, Err(RecordError::Fenced)), "{end:?}");
            assert_eq!((found.state, found.epoch, &found.output), (StateName::Pending, 2, &None));
            assert_eq!(steps, 0, "the loser's last step was not written");
            assert!(matches!(test.store.cancel_run(&project.scope, run_id).await, Ok(Cancelled::Done(_))));
        } else {
            end.expect("who was not reaped may end");
            assert_eq!((found.state, found.epoch, steps), (StateName::Completed, 1, 1));
        }
        assert_eq!(count(&test, &format!("budget_ledger WHERE run_id = '{run_id}'")).await, 1);
    }
    assert_eq!(count(&test, "budget_hold").await, 0);
    assert_eq!(count(&test, "run_lease").await, 0);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_reapers_take_a_run_back_once() {
    let test = TestStore::private().await;
    let project = test.project().await;
    create_many(&test.store, &project, 30).await;
    let me = worker("w");
    for _ in 0..10 {
        test.store.claim(&project.id, &me, 3).await.unwrap();
    }
    let dead = test.store.former_leases(&next_life(&me)).await.unwrap().remove(0);
    assert_eq!(dead.lease_ids.len(), 10);
    let reaped = join_all((0..4).map(|_| test.store.reap(&dead))).await;
    assert_eq!(reaped.into_iter().map(|r| r.unwrap().len()).sum::<usize>(), 30);
    assert_eq!(count(&test, "step_journal WHERE phase = 'reaped'").await, 30);
    assert_eq!(count(&test, "run_queue").await, 30);
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_run_whose_attempts_are_used_up_fails() {
    let test = TestStore::private().await;
    let project = test.project_with(None, 3).await;
    let run_id = create(&test.store, &project).await;
    let mut me = worker("w");
    for attempt in 1..=3 {
        assert_eq!(claim_one(&test.store, &project, &me).await.attempt, attempt);
        me = next_life(&me);
        assert_eq!(reap_all(&test, &me).await, [run_id]);
    }
    let found = run_of(&test.store, &project, run_id).await;
    assert_eq!((found.state, found.error_code.as_deref()), (StateName::Failed, Some("E-RUN-010")));
    assert!(found.error_message.is_some_and(|m| m.contains("3 times")));
    assert!(test.store.claim(&project.id, &me, 1).await.unwrap().is_empty());
    assert_eq!(count(&test, "step_journal WHERE phase = 'reaped'").await, 3);
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_released_run_is_due_at_once_and_lost_no_attempt() {
    let test = TestStore::private().await;
    let project = test.project_with(None, 1).await;
    let run_id = create(&test.store, &project).await;
    for turn in 0..3 {
        let run = claim_one(&test.store, &project, &worker("w")).await;
        assert_eq!((run.attempt, run.epoch), (1, 1 + 2 * turn));
        test.store.release(&run).await.unwrap();
        test.store.release(&run).await.unwrap(); // the second time it holds nothing any more
        assert!(matches!(test.store.end_run(&run, &done(), None, false).await, Err(RecordError::Fenced)));
        test.store.drop_lease(&project.scope, run.lease_id).await.unwrap();
    }
    let found = run_of(&test.store, &project, run_id).await;
    assert_eq!((found.state, found.attempt, found.epoch), (StateName::Pending, 0, 6));
    assert_eq!(count(&test, "step_journal WHERE phase = 'released'").await, 3);
    assert_eq!(count(&test, "run_lease").await, 0);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_release_and_complete_exactly_one_wins() {
    let test = TestStore::private().await;
    let project = test.project().await;
    for _ in 0..30 {
        let run_id = create(&test.store, &project).await;
        let run = claim_one(&test.store, &project, &worker("w")).await;
        let outcome = done();
        let (released, ended) =
            tokio::join!(test.store.release(&run), test.store.end_run(&run, &outcome, None, false));
        released.unwrap();
        let found = run_of(&test.store, &project, run_id).await;
        let is_queued = count(&test, &format!("run_queue WHERE run_id = '{run_id}'")).await == 1;
        match ended {
            Ok(()) => assert_eq!((found.state, is_queued), (StateName::Completed, false)),
            Err(RecordError::Fenced) => {
                assert_eq!((found.state, is_queued, found.output), (StateName::Pending, true, None));
                test.store.cancel_run(&project.scope, run_id).await.unwrap();
            }
            Err(other) => panic!("{other}"),
        }
        test.store.drop_lease(&project.scope, run.lease_id).await.unwrap();
    }
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_reaped_run_whose_time_is_over_times_out() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let short = NewRun { timeout: Duration::from_secs(5), ..new_run(&test.store, &project).await };
    let Created::New(run_id) = test.store.create_run(&project.scope, &short).await.unwrap() else { panic!() };
    let me = worker("w");
    claim_one(&test.store, &project, &me).await;
    clock.advance(Duration::from_secs(5));
    assert_eq!(reap_all(&test, &next_life(&me)).await, [run_id]);
    let found = run_of(&test.store, &project, run_id).await;
    assert_eq!((found.state, found.error_code.as_deref()), (StateName::Timeout, Some("E-RUN-011")));
    assert_healthy(&test).await;
}

#[tokio::test]
async fn leases_are_dead_when_their_worker_was_silent_or_started_again() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let silent_for = SignedDuration::from_secs(20);
    let (a, b) = (worker("a"), worker("b"));
    create_many(&test.store, &project, 2).await;
    let run = claim_one(&test.store, &project, &a).await;
    // beats of the turned clock: the store's own would be set right by the database's time
    let dispatch = test.database().dispatch().await;
    let beat = async |me: &Worker| {
        let params: [&(dyn ToSql + Sync); 3] = [&me.id, &me.incarnation, &clock.now()];
        dispatch.execute(BEAT, &params).await.unwrap();
    };
    let dead = async |me: &Worker| -> usize {
        let found = test.store.dead_leases(me, silent_for).await.unwrap();
        found.iter().map(|d| d.lease_ids.len()).sum()
    };
    beat(&a).await;
    assert_eq!(dead(&b).await, 0, "who has never beaten himself judges nobody");
    clock.advance(Duration::from_secs(21));
    beat(&b).await;
    assert_eq!(dead(&b).await, 0, "b has not lived long enough to call a silent");
    clock.advance(Duration::from_secs(21));
    beat(&b).await;
    assert_eq!(dead(&b).await, 1);
    beat(&a).await;
    assert_eq!(dead(&b).await, 0, "a is back");

    // PostgreSQL crashed: the unlogged table is empty, and everybody gets time to beat again
    dispatch.execute("DELETE FROM worker_beat", &[]).await.unwrap();
    assert_eq!(dead(&b).await, 0);
    beat(&b).await;
    clock.advance(Duration::from_secs(20));
    beat(&b).await;
    assert_eq!(dead(&b).await, 0);
    clock.advance(Duration::from_secs(1));
    beat(&b).await;
    assert_eq!(dead(&b).await, 1, "a did not come back");

    // a started again: its former life's leases are dead at once, its new ones are not
    let again = next_life(&a);
    beat(&again).await;
    let newer = claim_one(&test.store, &project, &again).await;
    let found = test.store.dead_leases(&b, silent_for).await.unwrap();
    assert_eq!(found[0].lease_ids, [run.lease_id]);
    assert_eq!(test.store.former_leases(&again).await.unwrap()[0].lease_ids, [run.lease_id]);
    assert_eq!(test.store.reap(&found[0]).await.unwrap(), [run.run_id]);
    assert_eq!(run_of(&test.store, &project, newer.run_id).await.state, StateName::Running);
    // and started again with the lower number: a life that it began within its process was counted in memory only
    beat(&a).await;
    let found = test.store.dead_leases(&b, silent_for).await.unwrap();
    assert_eq!(found[0].lease_ids, [newer.lease_id]);
    assert_eq!(test.store.former_leases(&a).await.unwrap()[0].lease_ids, [newer.lease_id]);
    beat(&again).await;
    test.store.end_beat(&again).await.unwrap();
    assert_eq!(dead(&b).await, 1, "who left has no beat");
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_by_minutes_is_set_right_before_it_can_harm() {
    let test = TestStore::private().await;
    let project = test.project().await;
    create_many(&test.store, &project, 2).await;
    let database = test.database().admin().await;
    let off = async |store: &Store| {
        let theirs: Timestamp = database.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0);
        store.clock().now().duration_since(theirs).abs()
    };
    let minutes = SignedDuration::from_mins;
    let machine = async |by| {
        let clock = Clock::system();
        clock.discipline(by);
        let store = test.through_at(test.database().urls(), clock).await;
        assert!(off(&store).await > minutes(5));
        store
    };
    let (fast, slow, api) =
        (machine(minutes(10)).await, machine(minutes(-7)).await, machine(minutes(-20)).await);
    fast.beat(&worker("fast")).await.unwrap();
    slow.beat(&worker("slow")).await.unwrap();
    api.set_clock().await.unwrap();
    for store in [&fast, &slow, &api] {
        assert!(off(store).await < SignedDuration::from_secs(1));
    }
    // neither takes the other for dead, and a run that is made by the third is not over before its time
    claim_one(&fast, &project, &worker("fast")).await;
    claim_one(&slow, &project, &worker("slow")).await;
    create(&api, &project).await;
    for (store, me) in [(&fast, "fast"), (&slow, "slow")] {
        assert!(store.dead_leases(&worker(me), SignedDuration::from_secs(20)).await.unwrap().is_empty());
        assert_eq!(store.time_out_queued().await.unwrap(), 0);
    }
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claiming_ending_cancelling_and_reaping_at_once_never_deadlock_and_each_run_ends_once() {
    const RUNS: usize = 240;
    const OPEN: &str = "SELECT count(*) FROM run_state WHERE completed_at IS NULL";
    let test = TestStore::private().await;
    let project = test.project().await;
    let runs = create_many(&test.store, &project, RUNS).await;
    let (test, project, store, admin) = (&test, &project, &test.store, test.database().admin().await);
    let admin = &admin;
    let is_open = async || admin.query_one(OPEN, &[]).await.unwrap().get::<_, i64>(0) > 0;
    let is_open = &is_open;
    // two lives of a worker, each of which reaps what the other has: what is claimed is taken away again and again
    let life = |incarnation| Worker { incarnation, ..worker("w") };
    let claiming = |incarnation| async move {
        while is_open().await {
            let wish = Wish::new(store.clock().new_id(), project.id.clone(), 7);
            for claim in store.claim_each(&[wish], &life(incarnation)).await {
                let claimed = claim.unwrap().runs;
                for (place, run) in claimed.iter().enumerate() {
                    match store.end_run(run, &done(), None, place + 1 == claimed.len()).await {
                        Ok(()) | Err(RecordError::Fenced) => {}
                        Err(RecordError::Store(error)) => panic!("{error:?}"),
                    }
                }
            }
        }
    };
    let reaping = |incarnation| async move {
        while is_open().await {
            for dead in store.former_leases(&life(incarnation)).await.unwrap() {
                store.reap(&dead).await.unwrap();
            }
        }
    };
    let cancelling = |part| {
        let some: Vec<RunId> = runs.iter().copied().skip(part).step_by(9).collect();
        async move {
            for run_id in some {
                store.cancel_run(&project.scope, run_id).await.unwrap();
            }
        }
    };
    let all = async {
        tokio::join!(
            claiming(1),
            claiming(2),
            claiming(2),
            reaping(1),
            reaping(2),
            cancelling(0),
            cancelling(4)
        )
    };
    tokio::time::timeout(Duration::from_secs(60), Box::pin(all)).await.expect("every run ends");
    let ends =
        "SELECT count(*) FILTER (WHERE action = 'run.end'), count(*) FILTER (WHERE action = 'run.cancel')
        FROM audit_event WHERE run_id = $1";
    let mut met = BTreeSet::new();
    for run_id in runs {
        let row = admin.query_one(ends, &[&run_id]).await.unwrap();
        let state = run_of(store, project, run_id).await.state;
        let expected = match state {
            StateName::Completed => (1, 0),
            StateName::Cancelled => (0, 1),
            // taken away as often as it may be claimed
            StateName::Failed => (0, 0),
            other => panic!("{other:?}"),
        };
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), expected, "{state:?}");
        met.insert(state.as_str());
    }
    assert!(met.contains("completed") && met.contains("cancelled"), "{met:?}");
    assert_healthy(test).await;
    // last, since it ends every session
    assert_eq!(deadlocks(test).await, 0);
}
