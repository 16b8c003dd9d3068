//! Many at once in one transaction: each gets its own answer, none spoils another's, and what a lane does together is
//! what each would have done alone.

use std::collections::BTreeSet;
use std::time::Duration;

use awooop_core::run::StateName;
use awooop_core::{ErrorCode, RunId};
use awooop_journeys::db::TestStore;
use awooop_store::budget::ReserveError;
use awooop_store::claim::Wish;
use awooop_store::journal::{Outcome, RecordError};
use awooop_store::run::{Created, Idempotency, NewRun};
use futures::future::join_all;

use crate::counting::count;
use crate::stepping::{
    assert_healthy, call, claim_one, create_many, done, limit_queue, new_run, run_of, soon, step, worker,
};

fn keyed(new: &NewRun, key: u32) -> NewRun {
    let idempotency = Idempotency {
        principal: "t/p".to_owned(),
        key: format!("{key:064x}"),
        request_sha256: "0".repeat(64),
    };
    NewRun { idempotency: Some(idempotency), ..new.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_equal_keys_in_one_batch_one_makes_a_run_and_the_others_are_told_of_it() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let new = new_run(&test.store, &project).await;
    let asked: Vec<NewRun> =
        (0..120).map(|n| if n % 4 == 0 { new.clone() } else { keyed(&new, n % 10) }).collect();
    let made = join_all(asked.iter().map(|new| test.store.create_run(&project.scope, new))).await;
    let (mut ids, mut replayed) = (BTreeSet::new(), 0);
    for created in made {
        match created.unwrap() {
            Created::New(id) => assert!(ids.insert(id)),
            Created::Replayed(_) => replayed += 1,
            other => panic!("{other:?}"),
        }
    }
    // 30 without a key, ten keys
    assert_eq!((ids.len(), replayed), (40, 80));
    for table in ["run_state", "run_queue", "audit_event WHERE action = 'run.create'"] {
        assert_eq!(count(&test, table).await, 40, "{table}");
    }
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_written_spoils_no_other_of_its_batch() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let new = new_run(&test.store, &project).await;
    // priorities that the database refuses
    let asked: Vec<NewRun> =
        (0..60).map(|n| NewRun { priority: if n % 7 == 3 { 77 } else { 5 }, ..new.clone() }).collect();
    let made = join_all(asked.iter().map(|new| test.store.create_run(&project.scope, new))).await;
    for (created, asked) in made.iter().zip(&asked) {
        assert_eq!(created.is_ok(), asked.priority == 5, "{created:?}");
    }
    assert_eq!(count(&test, "run_state").await, made.iter().filter(|m| m.is_ok()).count() as i64);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_never_holds_more_than_its_limit_and_a_replay_needs_no_room() {
    let test = TestStore::private().await;
    let project = test.project().await;
    limit_queue(&test, &project, 50).await;
    let new = new_run(&test.store, &project).await;
    let first = test.store.create_run(&project.scope, &keyed(&new, 1)).await.unwrap();
    let Created::New(first) = first else { panic!("{first:?}") };
    let made = join_all((0..80).map(|_| test.store.create_run(&project.scope, &new))).await;
    let full = made.into_iter().filter(|m| matches!(m, Ok(Created::QueueFull))).count();
    assert_eq!((full, count(&test, "run_queue").await), (31, 50));
    assert_eq!(count(&test, "audit_event WHERE action = 'run.create'").await, 50);
    let again = test.store.create_run(&project.scope, &keyed(&new, 1)).await.unwrap();
    assert!(matches!(again, Created::Replayed(id) if id == first), "{again:?}");
    let refused = test.store.create_run(&project.scope, &keyed(&new, 2)).await.unwrap();
    assert!(matches!(refused, Created::QueueFull), "{refused:?}");
    assert_eq!(count(&test, "idempotency_key").await, 1, "a refused request leaves its key free");
    test.store.claim(&project.id, &worker("w"), 1).await.unwrap();
    let made = test.store.create_run(&project.scope, &keyed(&new, 2)).await.unwrap();
    assert!(matches!(made, Created::New(_)), "{made:?}");
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_go_away_take_no_others_answer_with_them() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let new = new_run(&test.store, &project).await;
    let asked = (0..100).map(async |n: u64| {
        let created = test.store.create_run(&project.scope, &new);
        match n % 3 {
            0 => tokio::time::timeout(Duration::from_micros(n * 40), created).await.ok(),
            _ => Some(created.await),
        }
    });
    let answers: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    assert!(answers.len() >= 66);
    assert!(answers.iter().all(|a| matches!(a, Ok(Created::New(_)))), "{answers:?}");
    assert!(count(&test, "run_state").await >= answers.len() as i64);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_holds_and_ends_of_many_runs_each_get_their_own_answer() {
    let test = TestStore::private().await;
    let project = test.project_with(Some(1_000_000), 3).await;
    create_many(&test.store, &project, 40).await;
    let claimed = test.store.claim(&project.id, &worker("w"), 40).await.unwrap();
    // every fourth is cancelled: nothing of it may be written any more
    let is_lost = |n: usize| n % 4 == 1;
    for (_, run) in claimed.iter().enumerate().filter(|(n, _)| is_lost(*n)) {
        test.store.cancel_run(&project.scope, run.run_id).await.unwrap();
    }
    let work = claimed.iter().enumerate().map(async |(n, run)| {
        let hold = match test.store.reserve(run, 1, 100, soon(&test.store)).await {
            Ok(hold) => hold,
            Err(ReserveError::Fenced) => {
                assert!(is_lost(n));
                let ended = test.store.end_run(run, &done(), None, false).await;
                assert!(matches!(ended, Err(RecordError::Fenced)), "{ended:?}");
                return;
            }
            Err(other) => panic!("{other:?}"),
        };
        assert!(!is_lost(n));
        let (first, call) = (step(&test.store, 1), call(&test.store));
        let settlement = hold.settle(10, false);
        test.store.record_step(run, &first, Some(&settlement), Some(&call)).await.unwrap();
        let hold = test.store.reserve(run, 2, 100, soon(&test.store)).await.unwrap();
        let (last, settlement) = (step(&test.store, 2), hold.settle(7, true));
        let outcome = match n % 3 {
            0 => Outcome::Failed(ErrorCode::Run012, "too many".to_owned()),
            _ => done(),
        };
        test.store.end_run(run, &outcome, Some((&last, Some(&settlement))), false).await.unwrap();
    });
    join_all(work).await;
    for (n, run) in claimed.iter().enumerate() {
        let found = run_of(&test.store, &project, run.run_id).await;
        let wanted = match (is_lost(n), n % 3) {
            (true, _) => StateName::Cancelled,
            (false, 0) => StateName::Failed,
            _ => StateName::Completed,
        };
        assert_eq!(found.state, wanted);
    }
    assert_eq!(count(&test, "step_journal").await, 60);
    assert_eq!(count(&test, "mcp_call").await, 30);
    assert_eq!(count(&test, "budget_hold").await, 0);
    assert_eq!(test.store.list_budgets(&project.scope).await.unwrap()[0].settled, 30 * 17);
    test.store.drop_lease(&project.scope, claimed[0].lease_id).await.unwrap();
    assert_eq!(count(&test, "run_lease").await, 0);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_another_epoch_wrote_spoils_no_other_of_its_batch_and_is_charged() {
    let test = TestStore::private().await;
    let project = test.project().await;
    create_many(&test.store, &project, 12).await;
    let claimed = test.store.claim(&project.id, &worker("w"), 12).await.unwrap();
    let holds = join_all(claimed.iter().map(|run| test.store.reserve(run, 1, 100, soon(&test.store)))).await;
    let admin = test.database().admin().await;
    for run in claimed.iter().step_by(5) {
        let sql = "INSERT INTO awooop.step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key,
            status, started_at, duration_ms, body) VALUES ($1, $2, 1, 'result', 0, 'llm', 'm', $3, 'ok', now(), 1, '{}')";
        let key = run.idempotency_key(1);
        admin.execute(sql, &[&project.id.as_str(), &run.run_id, &key]).await.unwrap();
    }
    let steps = claimed.iter().zip(holds).enumerate().map(async |(n, (run, hold))| {
        let settlement = hold.unwrap().settle(3, false);
        let written = test.store.record_step(run, &step(&test.store, 1), Some(&settlement), None).await;
        match (n % 5, written) {
            (0, Err(RecordError::Fenced)) | (1.., Ok(())) => {}
            (_, other) => panic!("{n}: {other:?}"),
        }
    });
    join_all(steps).await;
    assert_eq!(count(&test, "budget_hold").await, 0);
    assert_eq!(test.store.list_budgets(&project.scope).await.unwrap()[0].settled, 36);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_of_a_batch_fill_the_budget_and_the_rest_are_told_why_not() {
    let test = TestStore::private().await;
    let project = test.project_with(Some(1000), 3).await;
    create_many(&test.store, &project, 30).await;
    let claimed = test.store.claim(&project.id, &worker("w"), 30).await.unwrap();
    let amount = |n: usize| if n == 4 { 5000 } else { 100 };
    let asked =
        claimed.iter().enumerate().map(|(n, run)| test.store.reserve(run, 1, amount(n), soon(&test.store)));
    let (mut held, mut waits, mut spent) = (0, 0, 0);
    for (n, answer) in join_all(asked).await.into_iter().enumerate() {
        match answer {
            Ok(_) => held += 1,
            Err(ReserveError::Held { held: 1000 }) => waits += 1,
            Err(ReserveError::Held { held }) => panic!("room was left: {held}"),
            Err(ReserveError::Spent { asked: 5000, .. }) if n == 4 => spent += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((held, waits, spent), (10, 19, 1));
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_batched_ends_and_cancels_exactly_one_wins_for_each_run() {
    let test = TestStore::private().await;
    let project = test.project().await;
    for _ in 0..5 {
        create_many(&test.store, &project, 16).await;
        let claimed = test.store.claim(&project.id, &worker("w"), 16).await.unwrap();
        let outcome = done();
        let ends = join_all(claimed.iter().map(|run| test.store.end_run(run, &outcome, None, false)));
        let cancels = claimed.iter().map(|run| test.store.cancel_run(&project.scope, run.run_id));
        let (ends, _) = tokio::join!(ends, join_all(cancels));
        for (run, end) in claimed.iter().zip(ends) {
            let state = run_of(&test.store, &project, run.run_id).await.state;
            match end {
                Ok(()) => assert_eq!(state, StateName::Completed),
                Err(RecordError::Fenced) => assert_eq!(state, StateName::Cancelled),
                Err(other) => panic!("{other:?}"),
            }
            let events = ended_events(&test, run.run_id).await;
            assert_eq!(events, 1, "one end, one event");
        }
        test.store.drop_lease(&project.scope, claimed[0].lease_id).await.unwrap();
    }
    assert_eq!(count(&test, "run_lease").await, 0);
    assert_healthy(&test).await;
}

async fn ended_events(test: &TestStore, run_id: RunId) -> i64 {
    count(test, &format!("audit_event WHERE run_id = '{run_id}' AND action IN ('run.end', 'run.cancel')"))
        .await
}

#[tokio::test]
async fn the_last_run_of_a_lease_takes_it_along_in_a_batch_too() {
    let test = TestStore::private().await;
    let project = test.project().await;
    create_many(&test.store, &project, 2).await;
    let (one, two) = (claim_one(&test.store, &project, &worker("w")).await, worker("w"));
    let two = claim_one(&test.store, &project, &two).await;
    let outcome = done();
    let ends = [&one, &two].map(|run| test.store.end_run(run, &outcome, None, true));
    assert!(join_all(ends).await.iter().all(Result::is_ok));
    assert_eq!(count(&test, "run_lease").await, 0);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_many_projects_in_one_transaction_are_those_of_each_alone() {
    let test = TestStore::private().await;
    let projects = join_all((0..6).map(|_| test.project())).await;
    for (n, project) in projects.iter().enumerate() {
        create_many(&test.store, project, n).await;
    }
    let me = worker("w");
    let wishes: Vec<Wish> =
        projects.iter().map(|p| Wish::new(test.store.clock().new_id(), p.id.clone(), 3)).collect();
    let claims = test.store.claim_each(&wishes, &me).await;
    for (n, (claim, project)) in claims.into_iter().zip(&projects).enumerate() {
        let claim = claim.unwrap();
        assert_eq!((claim.runs.len(), claim.is_capped), (n.min(3), false));
        assert!(claim.runs.iter().all(|run| run.scope().project() == &project.id));
        for run in claim.runs {
            test.store.end_run(&run, &done(), None, false).await.unwrap();
        }
    }
    // a claim that fails, here for a lease that is there already, keeps no other from its runs
    let again: Vec<Wish> = [(4, wishes[5].clone()), (5, wishes[5].clone())]
        .map(|(n, taken)| match n {
            4 => Wish::new(test.store.clock().new_id(), projects[4].id.clone(), 9),
            _ => taken,
        })
        .to_vec();
    let claims = test.store.claim_each(&again, &me).await;
    assert_eq!(claims[0].as_ref().unwrap().runs.len(), 1);
    assert!(claims[1].is_err());
    assert_eq!(count(&test, "run_queue").await, 2);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_together_queue_no_more_than_the_limit() {
    let test = TestStore::private().await;
    let project = test.project().await;
    limit_queue(&test, &project, 100).await;
    let nodes = [test.through(test.database().urls()).await, test.through(test.database().urls()).await];
    let new = new_run(&test.store, &project).await;
    let (nodes, new, scope) = (&nodes, &new, &project.scope);
    let all = (0..400).map(|n: usize| async move { nodes[n % 2].create_run(scope, new).await.unwrap() });
    let all = join_all(all).await;
    let made = all.iter().filter(|created| matches!(created, Created::New(_))).count();
    assert_eq!(made, 100);
    assert!(all.iter().all(|created| matches!(created, Created::New(_) | Created::QueueFull)));
    assert_eq!(count(&test, "run_queue").await, 100);
    assert_eq!(count(&test, "audit_event WHERE action = 'run.create'").await, 100);
    assert_healthy(&test).await;
}
