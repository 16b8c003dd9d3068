//! Retention of runs: what ended long ago goes, whole, recorded and only where the contract says so; nothing else does.

use std::time::Duration;

use awooop_core::RunId;
use awooop_journeys::db::{TestProject, TestStore, manifest};
use awooop_store::claim::ClaimedRun;
use awooop_store::contract::ApplyOptions;
use awooop_store::expire::{ExpiredRuns, RunRetention};
use awooop_store::run::{Created, Idempotency, NewRun};
use jiff::ToSpan;
use serde_json::json;

use crate::audit::{seal, verify};
use crate::counting::count;
use crate::stepping::{assert_healthy, call, claim_one, create, done, manual, new_run, soon, step, worker};

const DAY: Duration = Duration::from_secs(86_400);

async fn keep_for(test: &TestStore, project: &TestProject, days: u16) {
    let spec = json!({"display_name": "A test's project", "retention": {"runs_days": days}});
    let document = json!({"kind": "project", "project": project.id, "id": project.id, "spec": spec});
    let manifests = [manifest(document).unwrap()];
    test.store.apply(&project.caller, &manifests, ApplyOptions::default()).await.unwrap();
}

async fn retention(test: &TestStore) -> RunRetention {
    let url = test.database().urls().retention.clone().into();
    RunRetention::open(test.store.clone(), &url).await.unwrap()
}

/// A run that ended, with a tool call and tokens that were charged.
async fn ended(test: &TestStore, project: &TestProject) -> RunId {
    create(&test.store, project).await;
    let run = claim_one(&test.store, project, &worker("w")).await;
    end(test, project, &run).await;
    run.run_id
}

async fn end(test: &TestStore, project: &TestProject, run: &ClaimedRun) {
    let hold = test.store.reserve(run, 1, 100, soon(&test.store)).await.unwrap();
    test.store.settle(&project.scope, &hold.settle(40, false)).await.unwrap();
    test.store.record_step(run, &step(&test.store, 1), None, Some(&call(&test.store))).await.unwrap();
    test.store.end_run(run, &done(), None, true).await.unwrap();
}

async fn child_of(test: &TestStore, project: &TestProject, parent: RunId) -> RunId {
    let new = NewRun { parent_run_id: Some(parent), ..new_run(&test.store, project).await };
    match test.store.create_run(&project.scope, &new).await.unwrap() {
        Created::New(run_id) => run_id,
        other => panic!("{other:?}"),
    }
}

async fn is_there(test: &TestStore, project: &TestProject, run_id: RunId) -> bool {
    test.store.find_run(&project.scope, run_id).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_long_ago_goes_whole_and_the_budget_stays_right() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let (project, keeper) = (test.project().await, test.project().await);
    keep_for(&test, &project, 30).await;
    for project in [&project, &keeper] {
        for _ in 0..3 {
            ended(&test, project).await;
        }
    }
    let asked = "INSERT INTO awooop.approval SELECT project_id, run_id, run_id, 1, 1, 'call', 'consumed', agent_id, 'a__b', 'write',
        '{}', '', 'mode suggest', 1, created_at, created_at, created_at FROM awooop.run_state";
    let said = "INSERT INTO awooop.approval_decision SELECT project_id, approval_id, 'ann', 'approve', NULL, 'x', requested_at
        FROM awooop.approval";
    test.database().admin().await.batch_execute(&format!("{asked}; {said}")).await.unwrap();
    let retention = retention(&test).await;
    clock.advance(DAY * 29);
    let young = ended(&test, &project).await;
    assert_eq!(retention.run_once(false).await.unwrap(), []);
    clock.advance(DAY * 2);
    let wanted = ExpiredRuns { runs: 3, steps: 0, calls: 0 };
    assert_eq!(retention.run_once(true).await.unwrap(), [(project.id.clone(), wanted)]);
    assert_eq!(count(&test, "run_state").await, 7, "a dry run deletes nothing");
    let wanted = ExpiredRuns { runs: 3, steps: 3, calls: 3 };
    assert_eq!(retention.run_once(false).await.unwrap(), [(project.id.clone(), wanted)]);
    assert_eq!(retention.run_once(false).await.unwrap(), []);
    assert!(is_there(&test, &project, young).await);
    for (table, left) in [
        ("run_state", 4),
        ("step_journal", 4),
        ("mcp_call", 4),
        ("budget_ledger", 7),
        ("approval", 3),
        ("approval_decision", 3),
    ] {
        assert_eq!(count(&test, table).await, left, "{table}");
    }
    let budget = test.store.list_budgets(&project.scope).await.unwrap().remove(0);
    assert_eq!(budget.settled, 160);
    let events = format!("audit_event WHERE action = 'run.expire' AND project_id = '{}'", project.id);
    assert_eq!(count(&test, &events).await, 2, "one of runs, one of calls");
    seal(&test, &project).await;
    let (found, _) = verify(&test.store, &project.scope, &[]).await;
    assert_eq!(found, vec![]);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_has_not_ended_goes_nor_its_family() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    keep_for(&test, &project, 1).await;
    // the queue gives them out in this order
    create(&test.store, &project).await;
    let ending_parent = claim_one(&test.store, &project, &worker("w")).await;
    let parent = ending_parent.run_id;
    let other = create(&test.store, &project).await;
    let running_parent = claim_one(&test.store, &project, &worker("w")).await;
    assert_eq!(running_parent.run_id, other);
    let ended_child = child_of(&test, &project, other).await;
    let child = claim_one(&test.store, &project, &worker("w")).await;
    test.store.end_run(&child, &done(), None, true).await.unwrap();
    create(&test.store, &project).await;
    let put_off = claim_one(&test.store, &project, &worker("w")).await;
    let due_at = clock.now() + 600.seconds();
    assert!(test.store.retry_later(&put_off, awooop_core::ErrorCode::Run013, "busy", due_at).await.unwrap());
    test.store.drop_lease(&project.scope, put_off.lease_id).await.unwrap();
    let pending_child = child_of(&test, &project, parent).await;
    end(&test, &project, &ending_parent).await;
    clock.advance(DAY * 400);
    let retention = retention(&test).await;
    // of the ended parent only the call of its step is looked at, and stays with it
    assert_eq!(retention.expire(&project.id, false).await.unwrap(), ExpiredRuns::default());
    for run_id in [parent, other, ended_child, put_off.run_id, pending_child] {
        assert!(is_there(&test, &project, run_id).await);
    }
    assert_healthy(&test).await;
    test.store.cancel_run(&project.scope, pending_child).await.unwrap();
    clock.advance(DAY * 2);
    assert_eq!(retention.expire(&project.id, false).await.unwrap().runs, 2, "parent and child");
    assert!(is_there(&test, &project, ended_child).await, "its parent still runs");
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sweeps_and_everybody_else_at_once_lose_and_double_nothing() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    keep_for(&test, &project, 1).await;
    for _ in 0..40 {
        ended(&test, &project).await;
    }
    clock.advance(DAY * 2);
    let (one, two) = (retention(&test).await, retention(&test).await);
    let live = async {
        let mut made = Vec::new();
        for _ in 0..10 {
            made.push(ended(&test, &project).await);
        }
        made
    };
    let (a, b, live) = tokio::join!(one.expire(&project.id, false), two.expire(&project.id, false), live);
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.runs + b.runs, a.steps + b.steps, a.calls + b.calls), (40, 40, 40));
    for run_id in live {
        assert!(is_there(&test, &project, run_id).await);
    }
    let counted = "(SELECT sum((body::jsonb ->> 'runs')::int) AS n FROM awooop.audit_event WHERE action = 'run.expire') x WHERE n = 40";
    assert_eq!(count(&test, counted).await, 1, "what is recorded is what was deleted");
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_is_cut_off_is_finished_by_the_next() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    keep_for(&test, &project, 1).await;
    ended(&test, &project).await;
    clock.advance(DAY * 2);
    let (retention, admin) = (retention(&test).await, test.database().admin().await);
    // its last statement fails, as when the server dies in it
    let refuse =
        "ALTER TABLE awooop.audit_event ADD CONSTRAINT test_refuses CHECK (action <> 'run.expire') NOT VALID";
    admin.batch_execute(refuse).await.unwrap();
    retention.expire(&project.id, false).await.unwrap_err();
    assert_eq!((count(&test, "run_state").await, count(&test, "step_journal").await), (1, 1));
    admin.batch_execute("ALTER TABLE awooop.audit_event DROP CONSTRAINT test_refuses").await.unwrap();
    assert_eq!(
        retention.expire(&project.id, false).await.unwrap(),
        ExpiredRuns { runs: 1, steps: 1, calls: 1 }
    );
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_is_not_what_was_signed_deletes_nothing() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    keep_for(&test, &project, 365).await;
    ended(&test, &project).await;
    let admin = test.database().admin().await;
    let forge = "UPDATE awooop.contract_version SET body = replace(body, '365', '1') WHERE kind = 'project'";
    admin.batch_execute(forge).await.unwrap();
    clock.advance(DAY * 30);
    retention(&test).await.expire(&project.id, false).await.unwrap_err();
    assert_eq!(count(&test, "run_state").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_deletes_runs_reads_none_and_sees_one_project() {
    let test = TestStore::private().await;
    let (project, other) = (test.project().await, test.project().await);
    ended(&test, &project).await;
    ended(&test, &other).await;
    let client = awooop_journeys::db::connect(&test.database().urls().retention).await.unwrap();
    let ids = "SELECT count(run_id) FROM run_state";
    assert_eq!(client.query_one(ids, &[]).await.unwrap().get::<_, i64>(0), 0, "no project, no rows");
    client.execute("SELECT awooop.set_project($1)", &[&project.id.as_str()]).await.unwrap();
    for refused in [
        "SELECT input FROM run_state",
        "SELECT body FROM step_journal",
        "SELECT arguments_sha256 FROM mcp_call",
        "UPDATE run_state SET completed_at = now()",
        "UPDATE budget SET settled = 0",
        "SELECT amount FROM budget_ledger",
    ] {
        let error = client.batch_execute(refused).await.unwrap_err();
        assert_eq!(error.code().map(|c| c.code()), Some("42501"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn day_old_idempotency_keys_and_workers_long_gone_are_forgotten() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let with_key = async |key: &str| {
        let idempotency = Some(Idempotency {
            principal: project.scope.actor().to_owned(),
            key: key.to_owned(),
            request_sha256: "0".repeat(64),
        });
        let new = NewRun { idempotency, ..new_run(&test.store, &project).await };
        test.store.create_run(&project.scope, &new).await.unwrap();
    };
    with_key("old").await;
    test.store.beat(&worker("gone")).await.unwrap();
    claim_one(&test.store, &project, &worker("busy")).await;
    test.store.beat(&worker("busy")).await.unwrap();
    clock.advance(DAY - Duration::from_secs(1));
    with_key("young").await;
    assert_eq!(test.store.forget_old_keys().await.unwrap(), 0);
    clock.advance(Duration::from_secs(2));
    assert_eq!(test.store.forget_old_keys().await.unwrap(), 1);
    assert_eq!(count(&test, "idempotency_key").await, 1);
    test.store.beat(&worker("alive")).await.unwrap();
    assert_eq!(test.store.forget_gone_workers().await.unwrap(), 1);
    let left: Vec<String> = test.store.workers().await.unwrap().into_iter().map(|w| w.worker_id).collect();
    assert_eq!(left, ["alive", "busy"], "one with a lease is the reaper's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_goes_no_sooner_than_its_parent_so_that_what_a_family_used_stays_whole() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    keep_for(&test, &project, 30).await;
    create(&test.store, &project).await;
    let parent = claim_one(&test.store, &project, &worker("w")).await;
    child_of(&test, &project, parent.run_id).await;
    let child = claim_one(&test.store, &project, &worker("w")).await;
    let last = child_of(&test, &project, child.run_id).await;
    let grandchild = claim_one(&test.store, &project, &worker("w")).await;
    assert_eq!(grandchild.run_id, last);
    end(&test, &project, &grandchild).await;
    end(&test, &project, &child).await;
    clock.advance(DAY);
    end(&test, &project, &parent).await;
    let retention = retention(&test).await;
    // the parent has a day left
    clock.advance(DAY * 29 + DAY / 2);
    assert_eq!(retention.run_once(false).await.unwrap(), []);
    let used = test.store.usage_of(&project.scope, parent.run_id).await.unwrap();
    assert_eq!((used.own, used.with_descendants, used.descendants), (40, 120, 2));
    assert_eq!(count(&test, "run_child").await, 2, "no sweep has forgotten them");
    clock.advance(DAY);
    let wanted = ExpiredRuns { runs: 3, steps: 3, calls: 3 };
    assert_eq!(retention.run_once(false).await.unwrap(), [(project.id.clone(), wanted)]);
    for table in ["run_state", "run_child"] {
        assert_eq!(count(&test, table).await, 0, "{table}");
    }
    assert_healthy(&test).await;
}
