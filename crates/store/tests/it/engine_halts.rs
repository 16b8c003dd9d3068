//! What is paused or stopped: not claimed, not lost, not another project's, and each guard in a race.

use std::time::Duration;

use awooop_core::ProjectId;
use awooop_core::halt::{HaltKind, Stop, Target};
use awooop_core::ids::ProviderId;
use awooop_core::run::StateName;
use awooop_journeys::db::{TestProject, TestStore, agent_id};
use awooop_store::ProjectScope;
use awooop_store::claim::ClaimedRun;
use secrecy::ExposeSecret;
use tokio_postgres::error::SqlState;

use crate::counting::count;
use crate::stepping::{assert_healthy, claim_one, create, done, manual, run_of, worker};

fn agent() -> Target {
    Target::Agent(agent_id())
}

fn offline() -> ProviderId {
    ProviderId::parse("offline").unwrap()
}

async fn halt(test: &TestStore, project: &TestProject, kind: HaltKind, target: &Target) {
    let made = test.store.create_halt(&project.scope, kind, target, "a test").await.unwrap();
    assert!(made.is_some_and(|(_, is_new)| is_new));
}

async fn lift(test: &TestStore, project: &TestProject, kind: HaltKind, target: &Target) {
    assert!(test.store.lift_halt(&project.scope, kind, target).await.unwrap());
}

/// The scope of the platform's operators.
async fn operators(test: &TestStore) -> ProjectScope {
    let caller = test.store.authenticate(test.platform_key.expose_secret()).await.unwrap().unwrap();
    caller.scope().clone()
}

async fn claimed(test: &TestStore, project: &TestProject) -> Vec<ClaimedRun> {
    test.store.claim(&project.id, &worker("w"), 10).await.unwrap()
}

#[tokio::test]
async fn what_is_halted_is_not_claimed_and_another_project_is_not_touched() {
    let test = TestStore::private().await;
    let (mine, other) = (test.project().await, test.project().await);
    let operators = operators(&test).await;
    for (kind, target, is_project) in [
        (HaltKind::Pause, Target::Project, true),
        (HaltKind::Stop, Target::Project, true),
        (HaltKind::Pause, agent(), false),
        (HaltKind::Stop, agent(), false),
    ] {
        let run_id = create(&test.store, &mine).await;
        halt(&test, &mine, kind, &target).await;
        let other_run = create(&test.store, &other).await;
        assert!(claimed(&test, &mine).await.is_empty(), "{kind:?} {target:?}");
        let mut with_work = test.store.discover("", 10).await.unwrap();
        with_work.retain(|due| due.project == mine.id);
        assert_eq!(with_work.is_empty(), is_project, "a project with another agent's work is discovered");
        let pending = run_of(&test.store, &mine, run_id).await;
        let why = test.store.find_halt_of(&mine.scope, &pending).await.unwrap().unwrap();
        assert_eq!((why.kind, &why.stop.target, why.reason.as_str()), (kind, &target, "a test"));
        let elsewhere = claim_one(&test.store, &other, &worker("w")).await;
        assert_eq!(elsewhere.run_id, other_run);
        test.store.end_run(&elsewhere, &done(), None, true).await.unwrap();

        lift(&test, &mine, kind, &target).await;
        let run = claim_one(&test.store, &mine, &worker("w")).await;
        assert_eq!((run.run_id, run.attempt), (run_id, 1));
        test.store.end_run(&run, &done(), None, true).await.unwrap();
    }
    for project in [&mine, &other] {
        create(&test.store, project).await;
    }
    test.store.create_halt(&operators, HaltKind::Stop, &Target::All, "").await.unwrap().unwrap();
    assert_eq!(test.store.discover("", 10).await.unwrap(), []);
    for project in [&mine, &other] {
        assert!(claimed(&test, project).await.is_empty());
        assert_eq!(test.store.find_project(&project.scope).await.unwrap().unwrap().state, "stopped");
        assert_eq!(test.store.list_halts(&project.scope).await.unwrap().len(), 1, "everybody sees it");
    }
    assert!(test.store.lift_halt(&operators, HaltKind::Stop, &Target::All).await.unwrap());
    assert_eq!((claimed(&test, &mine).await.len(), claimed(&test, &other).await.len()), (1, 1));
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_claim_that_begins_after_a_halt_takes_anything_and_none_before_it_is_torn() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let mut before = 0;
    for i in 0..40 {
        let (kind, target) =
            if i % 2 == 0 { (HaltKind::Pause, agent()) } else { (HaltKind::Stop, Target::Project) };
        let run_id = create(&test.store, &project).await;
        let me = worker("w");
        let (taken, ()) =
            tokio::join!(test.store.claim(&project.id, &me, 1), halt(&test, &project, kind, &target));
        let taken = taken.unwrap();
        assert!(claimed(&test, &project).await.is_empty(), "this claim began after the halt");
        before += taken.len();
        let state = run_of(&test.store, &project, run_id).await.state;
        assert_eq!(state, if taken.is_empty() { StateName::Pending } else { StateName::Running });
        // a run under way goes on to its end
        for run in &taken {
            test.store.end_run(run, &done(), None, true).await.unwrap();
        }
        lift(&test, &project, kind, &target).await;
        for run in claimed(&test, &project).await {
            assert_eq!(run.run_id, run_id);
            test.store.end_run(&run, &done(), None, true).await.unwrap();
        }
        assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::Completed);
    }
    println!("the claim came first {before} times of 40");
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_halt_or_lift_the_same_one_did_it_and_it_is_audited_once() {
    let test = TestStore::private().await;
    let project = test.project().await;
    for n in 1..=10 {
        let make = || test.store.create_halt(&project.scope, HaltKind::Stop, &Target::Project, "now");
        let made = futures::future::join_all((0..4).map(|_| make())).await;
        let made: Vec<_> = made.into_iter().map(|made| made.unwrap().unwrap()).collect();
        assert_eq!(made.iter().filter(|(_, is_new)| *is_new).count(), 1);
        assert!(made.iter().all(|(halt, _)| halt.halted_at == made[0].0.halted_at));
        let let_go = || test.store.lift_halt(&project.scope, HaltKind::Stop, &Target::Project);
        let lifted = futures::future::join_all((0..4).map(|_| let_go())).await;
        assert_eq!(lifted.into_iter().filter(|lifted| *lifted.as_ref().unwrap()).count(), 1);
        assert_eq!(count(&test, "audit_event WHERE action = 'halt.create'").await, n);
        assert_eq!(count(&test, "audit_event WHERE action = 'halt.lift'").await, n);
    }
}

#[tokio::test]
async fn what_is_not_there_cannot_be_halted() {
    let test = TestStore::private().await;
    let project = test.project().await;
    for (sort, name) in [("agent", "clerc"), ("provider", "ofline"), ("tool", "shop__orders")] {
        let target = Target::parse(sort, name).unwrap();
        let made = test.store.create_halt(&project.scope, HaltKind::Stop, &target, "").await.unwrap();
        assert!(made.is_none(), "{target}");
    }
    assert_eq!(count(&test, "halt").await, 0);
    assert_eq!(count(&test, "audit_event WHERE action = 'halt.create'").await, 0);
}

#[tokio::test]
async fn a_stop_waits_for_no_lock_that_work_can_hold() {
    let test = TestStore::private().await;
    let project = test.project().await;
    create(&test.store, &project).await;
    claim_one(&test.store, &project, &worker("w")).await;
    create(&test.store, &project).await;
    let mut busy = test.database().admin().await;
    let holding = busy.transaction().await.unwrap();
    for table in ["project", "budget", "run_state", "run_queue", "run_lease", "contract"] {
        holding.execute(&format!("SELECT FROM awooop.{table} FOR UPDATE"), &[]).await.unwrap();
    }
    halt(&test, &project, HaltKind::Stop, &Target::Project).await;
    halt(&test, &project, HaltKind::Stop, &agent()).await;
    assert_eq!(test.store.list_stops().await.unwrap().len(), 2);
    holding.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_parked_while_its_provider_is_started_never_stays_behind() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let provider = Target::Provider(offline());
    let (mut parked, mut refused) = (0, 0);
    for _ in 0..40 {
        let run_id = create(&test.store, &project).await;
        let run = claim_one(&test.store, &project, &worker("w")).await;
        halt(&test, &project, HaltKind::Stop, &provider).await;
        let offline = offline();
        let (park, ()) = tokio::join!(
            test.store.park_for_start(&run, &offline),
            lift(&test, &project, HaltKind::Stop, &provider)
        );
        if park.unwrap() {
            parked += 1;
            // it stands among the timers, and is due
            test.store.wake_due().await.unwrap();
        } else {
            refused += 1;
            test.store.release(&run).await.unwrap();
        }
        test.store.drop_lease(&project.scope, run.lease_id).await.unwrap();
        let again = claim_one(&test.store, &project, &worker("w")).await;
        assert_eq!((again.run_id, again.attempt, again.epoch), (run_id, 1, 3), "no attempt was counted");
        test.store.end_run(&again, &done(), None, true).await.unwrap();
    }
    println!("parked first {parked} times, started first {refused} times");
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_run_parked_for_its_provider_says_so_is_not_claimed_and_times_out_at_its_time() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let run_id = create(&test.store, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    halt(&test, &project, HaltKind::Stop, &Target::Provider(offline())).await;
    assert!(test.store.park_for_start(&run, &offline()).await.unwrap());
    assert!(!test.store.park_for_start(&run, &offline()).await.unwrap(), "it is this claim's no more");
    test.store.drop_lease(&project.scope, run.lease_id).await.unwrap();
    let found = run_of(&test.store, &project, run_id).await;
    assert_eq!((found.state, found.attempt), (StateName::Pending, 0));
    assert!(found.retry.is_none());
    let why = test.store.find_halt_of(&project.scope, &found).await.unwrap().unwrap();
    assert_eq!(why.stop.target, Target::Provider(offline()));
    assert_healthy(&test).await;
    test.store.wake_due().await.unwrap();
    assert!(claimed(&test, &project).await.is_empty());
    clock.advance(Duration::from_secs(15 * 60));
    test.store.wake_due().await.unwrap();
    assert_eq!(test.store.time_out_queued().await.unwrap(), 1);
    assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::Timeout);
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_project_reads_its_own_halts_and_the_operators_and_can_make_none_for_all() {
    let test = TestStore::private().await;
    let (mine, other) = (test.project().await, test.project().await);
    halt(&test, &other, HaltKind::Stop, &Target::Project).await;
    let operators = operators(&test).await;
    test.store.create_halt(&operators, HaltKind::Stop, &Target::All, "everything").await.unwrap().unwrap();
    test.store.create_halt(&operators, HaltKind::Stop, &Target::Project, "ours").await.unwrap().unwrap();
    let seen = test.store.list_halts(&mine.scope).await.unwrap();
    let seen: Vec<Stop> = seen.into_iter().map(|halt| halt.stop).collect();
    assert_eq!(seen, [Stop { project: ProjectId::platform(), target: Target::All }]);
    assert!(!test.store.lift_halt(&mine.scope, HaltKind::Stop, &Target::All).await.unwrap());

    let mut app = test.database().app().await;
    let tx = app.transaction().await.unwrap();
    tx.execute("SELECT awooop.set_project($1)", &[&mine.id.as_str()]).await.unwrap();
    assert_eq!(tx.execute("DELETE FROM halt_all", &[]).await.unwrap(), 0);
    let made =
        tx.execute("INSERT INTO halt_all VALUES (true, '', 'me', now()) ON CONFLICT DO NOTHING", &[]).await;
    assert_eq!(made.unwrap_err().code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    assert_eq!((count(&test, "halt").await, count(&test, "halt_all").await), (2, 1));
}
