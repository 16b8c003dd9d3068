//! The engine's guards, each in a race: whoever loses has written nothing. After each test the doctor's
//! questions about the rows find nothing.
//!
//! Claims are stepped by hand; races are joined futures on connections of their own, many times over.

use std::collections::BTreeSet;
use std::time::Duration;

use awooop_core::run::StateName;
use awooop_core::{ErrorCode, Mode, RunId};
use awooop_journeys::db::{TestProject, TestStore, agent_id};
use awooop_store::budget::ReserveError;
use awooop_store::claim::{ClaimedRun, Worker};
use awooop_store::journal::{CallRecord, Outcome, RecordError, StepKind, StepResult, StepStatus};
use awooop_store::run::{Cancelled, Created, Idempotency, NewRun, Run, RunFilter};
use awooop_store::{Clock, Store};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::counting::count;

/// Time of the tests that turn the clock themselves.
const START: i64 = 1_800_000_000;

fn worker(id: &str) -> Worker {
    Worker { id: id.to_owned(), incarnation: 1 }
}

fn manual() -> Clock {
    Clock::manual(Timestamp::from_second(START).unwrap())
}

async fn new_run(store: &Store, project: &TestProject) -> NewRun {
    let agent = store.find_agent(&project.scope, &agent_id(), None).await.unwrap().unwrap();
    NewRun {
        agent: agent_id(),
        agent_version_id: agent.version_id,
        mode: Mode::Shadow,
        priority: 5,
        trace_id: None,
        parent_run_id: None,
        triggered_by: "a test".to_owned(),
        max_attempts: agent.spec.max_attempts,
        timeout: Duration::from_millis(agent.spec.timeout_ms),
        input: json!("a question"),
        idempotency: None,
    }
}

async fn create(store: &Store, project: &TestProject) -> RunId {
    match store.create_run(&project.scope, &new_run(store, project).await).await.unwrap() {
        Created::New(run_id) => run_id,
        other => panic!("{other:?}"),
    }
}

async fn create_many(store: &Store, project: &TestProject, n: usize) -> BTreeSet<RunId> {
    let mut made = BTreeSet::new();
    for _ in 0..n {
        made.insert(create(store, project).await);
    }
    made
}

async fn claim_one(store: &Store, project: &TestProject, worker: &Worker) -> ClaimedRun {
    let mut claimed = store.claim(&project.id, worker, 1).await.unwrap();
    assert_eq!(claimed.len(), 1);
    claimed.remove(0)
}

async fn run_of(store: &Store, project: &TestProject, run_id: RunId) -> Run {
    store.find_run(&project.scope, run_id).await.unwrap().unwrap()
}

fn step(store: &Store, n: i32) -> StepResult {
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

fn call(store: &Store) -> CallRecord {
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
    }
}

fn done() -> Outcome {
    Outcome::Completed(json!({"answer": "42"}))
}

fn soon(store: &Store) -> Timestamp {
    store.clock().after(Duration::from_secs(60))
}

/// Ends every claimed run and asks the doctor.
async fn assert_healthy(test: &TestStore) {
    assert_eq!(test.store.examine().await.unwrap(), vec![]);
}

async fn reap_all(test: &TestStore, me: &Worker) -> Vec<RunId> {
    let mut reaped = Vec::new();
    for dead in test.store.former_leases(me).await.unwrap() {
        reaped.extend(test.store.reap(&dead).await.unwrap());
    }
    reaped
}

/// The worker's next life.
fn next_life(worker: &Worker) -> Worker {
    Worker { incarnation: worker.incarnation + 1, ..worker.clone() }
}

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
    assert_eq!(test.store.discover("", 10).await.unwrap(), with_work);
    assert_eq!(test.store.discover("", 1).await.unwrap(), with_work[..1]);
    assert_eq!(test.store.discover(with_work[0].as_str(), 10).await.unwrap(), with_work[1..]);
    assert!(test.store.claim(&idle.id, &worker("w"), 5).await.unwrap().is_empty());
    test.store.claim(&a.id, &worker("w"), 5).await.unwrap();
    assert_eq!(test.store.discover("", 10).await.unwrap(), [b.id]);
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
    test.store.beat(&a).await.unwrap();
    let run = claim_one(&test.store, &project, &a).await;
    let dead = async |me: &Worker| -> usize {
        let found = test.store.dead_leases(me, silent_for).await.unwrap();
        found.iter().map(|d| d.lease_ids.len()).sum()
    };
    assert_eq!(dead(&b).await, 0, "who has never beaten himself judges nobody");
    clock.advance(Duration::from_secs(21));
    test.store.beat(&b).await.unwrap();
    assert_eq!(dead(&b).await, 0, "b has not lived long enough to call a silent");
    clock.advance(Duration::from_secs(21));
    test.store.beat(&b).await.unwrap();
    assert_eq!(dead(&b).await, 1);
    test.store.beat(&a).await.unwrap();
    assert_eq!(dead(&b).await, 0, "a is back");

    // PostgreSQL crashed: the unlogged table is empty, and everybody gets time to beat again
    test.database().dispatch().await.execute("DELETE FROM worker_beat", &[]).await.unwrap();
    assert_eq!(dead(&b).await, 0);
    test.store.beat(&b).await.unwrap();
    clock.advance(Duration::from_secs(20));
    test.store.beat(&b).await.unwrap();
    assert_eq!(dead(&b).await, 0);
    clock.advance(Duration::from_secs(1));
    test.store.beat(&b).await.unwrap();
    assert_eq!(dead(&b).await, 1, "a did not come back");

    // a started again: its former life's leases are dead at once, its new ones are not
    let again = next_life(&a);
    test.store.beat(&again).await.unwrap();
    let newer = claim_one(&test.store, &project, &again).await;
    let found = test.store.dead_leases(&b, silent_for).await.unwrap();
    assert_eq!(found[0].lease_ids, [run.lease_id]);
    assert_eq!(test.store.former_leases(&again).await.unwrap()[0].lease_ids, [run.lease_id]);
    assert_eq!(test.store.reap(&found[0]).await.unwrap(), [run.run_id]);
    assert_eq!(run_of(&test.store, &project, newer.run_id).await.state, StateName::Running);
    test.store.end_beat(&again).await.unwrap();
    assert_eq!(dead(&b).await, 1, "who left has no beat");
    assert_healthy(&test).await;
}

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
        assert_eq!(test.store.projects_with_expired_holds().await.unwrap(), [project.id.clone()]);
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
            Created::OtherRequest => panic!("the request was the same"),
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
        ("DELETE FROM run_queue".to_owned(), "is pending and not in the queue"),
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
