//! Parents and children: none begins after its parent's end, and none outlives it, however it ends.

use std::time::Duration;

use awooop_core::run::StateName;
use awooop_core::{ErrorCode, RunId};
use awooop_journeys::db::{TestProject, TestStore};
use awooop_store::claim::ClaimedRun;
use awooop_store::journal::Outcome;
use awooop_store::run::{Cancelled, Created, MAX_DEPTH, NewRun, RunFilter};

use crate::counting::{count, rows_read};
use crate::stepping::{
    assert_healthy, claim_one, create, done, manual, new_run, next_life, reap_all, run_of, soon, worker,
};

async fn try_child(test: &TestStore, project: &TestProject, parent: RunId) -> Created {
    let child = NewRun { parent_run_id: Some(parent), ..new_run(&test.store, project).await };
    test.store.create_run(&project.scope, &child).await.unwrap()
}

async fn child(test: &TestStore, project: &TestProject, parent: RunId) -> RunId {
    match try_child(test, project, parent).await {
        Created::New(run_id) => run_id,
        other => panic!("{other:?}"),
    }
}

async fn state(test: &TestStore, project: &TestProject, run_id: RunId) -> StateName {
    run_of(&test.store, project, run_id).await.state
}

/// A parent and its child that a worker has, with a grandchild in the queue.
async fn family(test: &TestStore, project: &TestProject) -> (ClaimedRun, ClaimedRun, RunId) {
    create(&test.store, project).await;
    let parent = claim_one(&test.store, project, &worker("w")).await;
    child(test, project, parent.run_id).await;
    let below = claim_one(&test.store, project, &worker("w")).await;
    let last = child(test, project, below.run_id).await;
    (parent, below, last)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_made_before_its_parent_ends_or_not_at_all() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let (mut made, mut refused) = (0, 0);
    for i in 0..40 {
        create(&test.store, &project).await;
        let parent = claim_one(&test.store, &project, &worker("w")).await;
        let outcome = done();
        let end = async {
            if i % 2 == 0 {
                test.store.end_run(&parent, &outcome, None, true).await.unwrap();
            } else {
                let ended = test.store.cancel_run(&project.scope, parent.run_id).await.unwrap();
                assert!(matches!(ended, Cancelled::Done(_)));
            }
        };
        let (created, ()) = tokio::join!(try_child(&test, &project, parent.run_id), end);
        match created {
            Created::New(run_id) => {
                made += 1;
                test.store.cancel_orphans().await.unwrap();
                assert_eq!(state(&test, &project, run_id).await, StateName::Cancelled);
            }
            Created::ParentEnded => refused += 1,
            other => panic!("{other:?}"),
        }
        assert!(matches!(try_child(&test, &project, parent.run_id).await, Created::ParentEnded));
        test.store.drop_lease(&project.scope, parent.lease_id).await.unwrap();
    }
    println!("the child came first {made} times, the end {refused} times");
    assert_eq!(count(&test, "run_state").await, 40 + made, "the losers wrote nothing");
    assert_eq!(count(&test, "audit_event WHERE action = 'run.create'").await, 40 + made);
    assert_eq!(count(&test, "run_queue").await, 0);
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_refused_child_leaves_its_idempotency_key_free() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let parent = create(&test.store, &project).await;
    test.store.cancel_run(&project.scope, parent).await.unwrap();
    let key = awooop_store::run::Idempotency {
        principal: "admin".to_owned(),
        key: "k".to_owned(),
        request_sha256: "h".to_owned(),
    };
    let new = new_run(&test.store, &project).await;
    let new = NewRun { parent_run_id: Some(parent), idempotency: Some(key), ..new };
    for _ in 0..2 {
        let made = test.store.create_run(&project.scope, &new).await.unwrap();
        assert!(matches!(made, Created::ParentEnded), "{made:?}");
    }
    assert_eq!(count(&test, "idempotency_key").await, 0);
}

#[tokio::test]
async fn however_a_parent_ends_its_descendants_are_cancelled_with_the_cause_in_the_audit() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project_with(None, 1).await;
    for (i, wanted) in ["completed", "failed", "cancelled", "timeout", "failed"].into_iter().enumerate() {
        // descendants are cancelled whatever they are doing
        let (parent, running, last) = family(&test, &project).await;
        let below = running.run_id;
        let failed = Outcome::Failed(ErrorCode::Run013, "no".to_owned());
        match i {
            0 => test.store.end_run(&parent, &done(), None, true).await.unwrap(),
            1 => test.store.end_run(&parent, &failed, None, true).await.unwrap(),
            2 => drop(test.store.cancel_run(&project.scope, parent.run_id).await.unwrap()),
            3 => test.store.end_run(&parent, &Outcome::TimedOut, None, true).await.unwrap(),
            _ => {
                // the worker of both died, and neither has another attempt
                let reaped = reap_all(&test, &next_life(&worker("w"))).await;
                assert_eq!(reaped.len(), 2);
            }
        }
        assert_eq!(state(&test, &project, parent.run_id).await.as_str(), wanted);
        test.store.cancel_orphans().await.unwrap();
        if i < 4 {
            assert_eq!(state(&test, &project, below).await, StateName::Cancelled);
            let refused = test.store.end_run(&running, &done(), None, true).await;
            assert!(refused.is_err(), "its worker cannot end it any more");
        }
        assert_eq!(state(&test, &project, last).await, StateName::Cancelled);
        let because = format!(
            "audit_event WHERE action = 'run.cancel' AND run_id = '{last}' AND actor = 'platform/cascade'
             AND body::json -> 'cause' ->> 'parent_run_id' = '{below}'"
        );
        assert_eq!(count(&test, &because).await, 1);
        for lease in [parent.lease_id, running.lease_id] {
            test.store.drop_lease(&project.scope, lease).await.unwrap();
        }
        assert_eq!(test.store.cancel_orphans().await.unwrap(), 0);
        assert_eq!(count(&test, "run_child").await, 0, "nobody looks after them any more");
        assert_healthy(&test).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cascade_and_a_child_s_own_end_exactly_one_counts_for_each_child() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let mut completed = 0;
    for _ in 0..15 {
        let parent = create(&test.store, &project).await;
        for _ in 0..4 {
            child(&test, &project, parent).await;
        }
        let claimed = test.store.claim(&project.id, &worker("w"), 5).await.unwrap();
        let children: Vec<_> = claimed.iter().filter(|run| run.run_id != parent).collect();
        test.store.cancel_run(&project.scope, parent).await.unwrap();
        let outcome = done();
        let ends = futures::future::join_all(
            children.iter().map(|run| test.store.end_run(run, &outcome, None, false)),
        );
        let (first, second, ends) =
            tokio::join!(test.store.cancel_orphans(), test.store.cancel_orphans(), ends);
        first.unwrap();
        second.unwrap();
        for (run, end) in children.iter().zip(ends) {
            let wanted = if end.is_ok() { StateName::Completed } else { StateName::Cancelled };
            assert_eq!(state(&test, &project, run.run_id).await, wanted);
            let ended = format!(
                "audit_event WHERE run_id = '{}' AND action IN ('run.end', 'run.cancel')",
                run.run_id
            );
            assert_eq!(count(&test, &ended).await, 1);
            completed += usize::from(end.is_ok());
        }
        test.store.drop_lease(&project.scope, claimed[0].lease_id).await.unwrap();
    }
    println!("{completed} of 60 children came first");
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cascade_that_was_cut_anywhere_is_finished_by_the_next_sweep() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let parent = create(&test.store, &project).await;
    let mut below = Vec::new();
    for _ in 0..30 {
        let first = child(&test, &project, parent).await;
        below.push(first);
        below.push(child(&test, &project, first).await);
    }
    test.store.cancel_run(&project.scope, parent).await.unwrap();
    let open = "run_state WHERE completed_at IS NULL";
    let mut cut = 0;
    for ms in [1, 3, 6, 10, 15, 21] {
        // the future is dropped wherever it is, as a process that is killed drops it
        let swept = tokio::time::timeout(Duration::from_millis(ms), test.store.cancel_orphans()).await;
        cut += usize::from(swept.is_err() && count(&test, open).await > 0);
    }
    println!("cut in the middle {cut} times");
    test.store.cancel_orphans().await.unwrap();
    assert_eq!(count(&test, open).await, 0);
    for run_id in below {
        assert_eq!(state(&test, &project, run_id).await, StateName::Cancelled);
    }
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_family_has_a_depth_and_its_use_adds_up() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let first = create(&test.store, &project).await;
    let mut last = first;
    for _ in 0..MAX_DEPTH {
        last = child(&test, &project, last).await;
    }
    assert!(matches!(try_child(&test, &project, last).await, Created::TooDeep));
    let stranger = create(&test.store, &project).await;
    let claimed = test.store.claim(&project.id, &worker("w"), 20).await.unwrap();
    for (run, amount) in claimed.iter().zip([100, 20, 3]) {
        let hold = test.store.reserve(run, 1, amount, soon(&test.store)).await.unwrap();
        test.store.settle(&project.scope, &hold.settle(amount, false)).await.unwrap();
    }
    let of_first = test.store.usage_of(&project.scope, first).await.unwrap();
    assert_eq!(
        (of_first.own, of_first.with_descendants, of_first.descendants),
        (100, 123, i64::from(MAX_DEPTH))
    );
    let of_stranger = test.store.usage_of(&project.scope, stranger).await.unwrap();
    assert_eq!((of_stranger.own, of_stranger.with_descendants, of_stranger.descendants), (0, 0, 0));
    let other = test.project().await;
    let hidden = test.store.usage_of(&other.scope, first).await.unwrap();
    assert_eq!((hidden.own, hidden.descendants), (0, 0), "another project's family adds up to nothing");

    let children = RunFilter { parent: Some(first), limit: 10, ..RunFilter::default() };
    let listed = test.store.list_runs(&project.scope, &children).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].parent_run_id, Some(first));
    assert!(test.store.list_runs(&other.scope, &children).await.unwrap().is_empty());
}

/// Children of a run, made with the tables' own statements: `n` of them, all ended or all in the queue.
async fn many_children(test: &TestStore, parent: RunId, n: i32, is_ended: bool) {
    let (state, ended) = if is_ended { ("completed", "now()") } else { ("pending", "NULL") };
    let made = format!(
        "WITH c AS (INSERT INTO awooop.run_state (project_id, run_id, state, agent_id, agent_version_id, mode, priority,
            trace_id, parent_run_id, trigger_type, triggered_by, max_attempts, created_at, completed_at, timeout_at, input,
            input_sha256, depth)
          SELECT project_id, gen_random_uuid(), '{state}', agent_id, agent_version_id, mode, priority, trace_id, run_id,
            'sub_agent', triggered_by, max_attempts, created_at, {ended}, timeout_at, input, input_sha256, 1
          FROM awooop.run_state, generate_series(1, {n}) WHERE run_id = '{parent}'
          RETURNING project_id, run_id, priority, agent_id, timeout_at, state),
        q AS (INSERT INTO awooop.run_queue (project_id, priority, run_id, agent_id, timeout_at)
          SELECT project_id, priority, run_id, agent_id, timeout_at FROM c WHERE state = 'pending')
        INSERT INTO awooop.run_child SELECT project_id, run_id, '{parent}' FROM c"
    );
    let admin = test.database().admin().await;
    admin.batch_execute(&made).await.unwrap();
    admin.batch_execute("ANALYZE awooop.run_child, awooop.run_state, awooop.run_queue").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_reads_no_child_of_a_parent_that_has_not_ended() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let (parent, other) = (create(&test.store, &project).await, create(&test.store, &project).await);
    many_children(&test, parent, 5_000, false).await;
    many_children(&test, other, 5_000, true).await;
    for table in ["run_child", "run_state"] {
        let read = rows_read(&test, table, async |store| {
            assert_eq!(store.cancel_orphans().await.unwrap(), 0);
        });
        let read = read.await;
        assert!(read < 20, "{read} rows of {table} were read");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sweep_forgets_all_the_ended_children_of_a_run_that_has_ended() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let parent = create(&test.store, &project).await;
    many_children(&test, parent, 3_500, true).await;
    test.store.cancel_run(&project.scope, parent).await.unwrap();
    assert_eq!(test.store.cancel_orphans().await.unwrap(), 0);
    assert_eq!(count(&test, "run_child").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_parents_are_open_every_orphan_s_turn_comes() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let ended = create(&test.store, &project).await;
    let orphan = child(&test, &project, ended).await;
    // parents before and after it that have not ended, more than one look takes
    let parents = "INSERT INTO awooop.run_state (project_id, run_id, state, agent_id, agent_version_id, mode, priority,
            trace_id, trigger_type, triggered_by, max_attempts, created_at, timeout_at, input, input_sha256)
          SELECT project_id, gen_random_uuid(), 'pending', agent_id, agent_version_id, mode, priority, trace_id, 'api',
            triggered_by, max_attempts, created_at, timeout_at, input, input_sha256
          FROM awooop.run_state, generate_series(1, 2500) WHERE run_id = $1";
    let children =
        "INSERT INTO awooop.run_child SELECT project_id, gen_random_uuid(), run_id FROM awooop.run_state
          WHERE trigger_type = 'api' AND run_id <> $1";
    let admin = test.database().admin().await;
    for sql in [parents, children] {
        admin.execute(sql, &[&ended]).await.unwrap();
    }
    test.store.cancel_run(&project.scope, ended).await.unwrap();
    let mut cancelled = 0;
    for _ in 0..3 {
        cancelled += test.store.cancel_orphans().await.unwrap();
    }
    assert_eq!(cancelled, 1);
    assert_eq!(state(&test, &project, orphan).await, StateName::Cancelled);
}
