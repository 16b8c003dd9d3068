//! Schedules: fired once whoever looks, at the contract's word and no row's, and stopped by what stops them.

use std::time::Duration;

use awooop_core::ErrorCode;
use awooop_core::contract::Kind;
use awooop_core::halt::{HaltKind, Target};
use awooop_core::run::StateName;
use awooop_journeys::db::{AGENT, TestProject, TestStore, agent_id, manifest, test_store};
use awooop_store::Clock;
use awooop_store::contract::{ApplyOptions, ContractKey};
use awooop_store::run::{Run, RunFilter};
use awooop_store::schedule::{FireReport, FiredNow, Schedule};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::counting::count;
use crate::stepping::{assert_healthy, claim_one, done, limit_queue, worker};

/// Half a minute to seven in the evening, UTC.
const BEFORE: &str = "2026-05-01T18:59:30Z";

fn clock_at(text: &str) -> Clock {
    Clock::manual(text.parse().unwrap())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hourly(more: Value) -> Value {
    let mut schedule = json!({"id": "hourly", "cron": "0 * * * *", "input": {"q": "how many?"}});
    schedule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    schedule
}

async fn apply(test: &TestStore, project: &TestProject, schedules: Value) {
    let spec = json!({"instructions": "Answer.", "model": "offline/planner", "output_schema": {"type": "object"},
        "schedules": schedules});
    let document = json!({"kind": "agent", "project": project.id, "id": AGENT, "spec": spec});
    let manifests = [manifest(document).unwrap()];
    test.store.apply(&project.caller, &manifests, ApplyOptions::default()).await.unwrap();
}

async fn with_hourly(clock: &Clock, more: Value) -> (TestStore, TestProject) {
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    apply(&test, &project, json!([hourly(more)])).await;
    (test, project)
}

async fn schedule(test: &TestStore, project: &TestProject) -> Schedule {
    let mut all = test.store.list_schedules(&project.scope, ("", ""), 10).await.unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

async fn runs(test: &TestStore, project: &TestProject) -> Vec<Run> {
    let filter = RunFilter { limit: 100, ..RunFilter::default() };
    test.store.list_runs(&project.scope, &filter).await.unwrap()
}

fn fired(fired: usize) -> FireReport {
    FireReport { fired, ..FireReport::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_fires_once_at_its_time_and_its_run_says_by_what() {
    let clock = clock_at(BEFORE);
    let (test, project) = with_hourly(&clock, json!({})).await;
    assert_eq!(schedule(&test, &project).await.next_at, Some(at("2026-05-01T19:00:00Z")));
    assert_eq!(test.store.fire_due().await.unwrap(), FireReport::default());
    clock.advance(Duration::from_secs(31));
    assert_eq!(test.store.fire_due().await.unwrap(), fired(1));
    assert_eq!(test.store.fire_due().await.unwrap(), FireReport::default());
    let found = runs(&test, &project).await.remove(0);
    assert_eq!((found.trigger_type.as_str(), found.schedule_id.as_deref()), ("schedule", Some("hourly")));
    assert_eq!((found.triggered_by.as_str(), found.state), ("platform/schedule", StateName::Pending));
    let now = schedule(&test, &project).await;
    assert_eq!((now.last_run_id, now.last_at), (Some(found.run_id), Some(clock.now())));
    assert_eq!(now.next_at, Some(at("2026-05-01T20:00:00Z")));
    let run = claim_one(&test.store, &project, &worker("w")).await;
    assert_eq!((run.run_id, run.input.clone()), (found.run_id, json!({"q": "how many?"})));
    test.store.end_run(&run, &done(), None, true).await.unwrap();
    assert_eq!(count(&test, "audit_event WHERE action = 'run.create' AND body LIKE '%\"hourly\"%'").await, 1);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_look_each_time_fires_once() {
    let clock = clock_at(BEFORE);
    let (test, project) = with_hourly(&clock, json!({})).await;
    clock.advance(Duration::from_secs(45));
    for round in 1..=10 {
        clock.advance(Duration::from_secs(3_600));
        let all = join_all((0..6).map(|_| test.store.fire_due())).await;
        assert_eq!(all.into_iter().map(|r| r.unwrap().fired).sum::<usize>(), 1);
        assert_eq!(runs(&test, &project).await.len(), round);
    }
    assert_eq!((count(&test, "run_queue").await, count(&test, "run_state").await), (10, 10));
    assert_eq!(count(&test, "audit_event WHERE action = 'run.create'").await, 10);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_firing_and_retiring_the_loser_writes_nothing() {
    let clock = clock_at(BEFORE);
    let test = TestStore::private_with(clock.clone()).await;
    for _ in 0..15 {
        let project = test.project().await;
        apply(&test, &project, json!([hourly(json!({"catch_up": "last"}))])).await;
        clock.advance(Duration::from_secs(3_600));
        let key = ContractKey::new(Kind::Agent, AGENT);
        let (fired, retired, other) = tokio::join!(
            test.store.fire_due(),
            test.store.retire_contract(&project.caller, &key, None),
            test.store.fire_due()
        );
        assert!(retired.unwrap().is_done);
        let fired = fired.unwrap().fired + other.unwrap().fired;
        let made = runs(&test, &project).await.len();
        assert_eq!(made, fired);
        let events = format!("audit_event WHERE action = 'run.create' AND project_id = '{}'", project.id);
        assert_eq!(count(&test, &events).await, made as i64);
        assert_eq!(count(&test, "schedule").await, 0);
    }
    assert_eq!(test.store.fire_due().await.unwrap(), FireReport::default());
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firing_that_is_cut_off_fires_the_next_time() {
    let clock = clock_at(BEFORE);
    let (test, project) = with_hourly(&clock, json!({})).await;
    clock.advance(Duration::from_secs(31));
    // what comes last in the statement fails, as when the server dies in it
    let admin = test.database().admin().await;
    let refuse = "ALTER TABLE awooop.run_queue ADD CONSTRAINT test_refuses CHECK (false) NOT VALID";
    admin.batch_execute(refuse).await.unwrap();
    assert_eq!(test.store.fire_due().await.unwrap(), FireReport::default());
    assert_eq!((count(&test, "run_state").await, count(&test, "run_queue").await), (0, 0));
    assert_eq!(schedule(&test, &project).await.next_at, Some(at("2026-05-01T19:00:00Z")));
    admin.batch_execute("ALTER TABLE awooop.run_queue DROP CONSTRAINT test_refuses").await.unwrap();
    assert_eq!(test.store.fire_due().await.unwrap(), fired(1));
    assert_eq!(runs(&test, &project).await.len(), 1);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_caught_up_as_the_contract_says_and_recorded() {
    for (policy, expected) in [("skip", 0), ("last", 1), ("all", 24)] {
        let clock = clock_at(BEFORE);
        let (test, project) = with_hourly(&clock, json!({"catch_up": policy})).await;
        clock.advance(Duration::from_secs(2 * 86_400 + 900));
        let report = test.store.fire_due().await.unwrap();
        assert_eq!(report, FireReport { late: expected, ..fired(expected) }, "{policy}");
        assert_eq!(runs(&test, &project).await.len(), expected);
        assert_eq!(count(&test, "audit_event WHERE action = 'schedule.miss'").await, 1);
        assert_eq!(test.store.fire_due().await.unwrap(), FireReport::default());
        // each time after that is on time again
        clock.advance(Duration::from_secs(2_760));
        assert_eq!(test.store.fire_due().await.unwrap().fired, 1, "{policy}");
        assert_healthy(&test).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_or_stopped_fires_nothing_and_catches_up_afterwards() {
    let clock = clock_at(BEFORE);
    let (test, project) = with_hourly(&clock, json!({"catch_up": "last"})).await;
    for (kind, target) in [
        (HaltKind::Pause, Target::Project),
        (HaltKind::Stop, Target::Project),
        (HaltKind::Pause, Target::Agent(agent_id())),
        (HaltKind::Stop, Target::Agent(agent_id())),
    ] {
        test.store.create_halt(&project.scope, kind, &target, "a test").await.unwrap().unwrap();
        clock.advance(Duration::from_secs(3 * 3_600));
        assert_eq!(test.store.fire_due().await.unwrap(), FireReport::default(), "{kind:?} {target:?}");
        assert!(test.store.lift_halt(&project.scope, kind, &target).await.unwrap());
        assert_eq!(test.store.fire_due().await.unwrap().fired, 1, "{kind:?} {target:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_recorded_as_refused_and_the_schedule_goes_on() {
    let clock = clock_at(BEFORE);
    let test = TestStore::private_with(clock.clone()).await;
    let spent = test.project_with(Some(1), 3).await;
    apply(&test, &spent, json!([hourly(json!({}))])).await;
    let admin = test.database().admin().await;
    let spend = "UPDATE awooop.budget SET settled = 1 WHERE project_id = $1";
    admin.execute(spend, &[&spent.id.as_str()]).await.unwrap();
    let forged = test.project().await;
    apply(&test, &forged, json!([hourly(json!({}))])).await;
    let forge =
        "UPDATE awooop.contract_version SET body = replace(body, 'Answer.', 'Obey.') WHERE project_id = $1";
    admin.execute(forge, &[&forged.id.as_str()]).await.unwrap();
    clock.advance(Duration::from_secs(45));
    for _ in 0..2 {
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(test.store.fire_due().await.unwrap().refused, 2);
    }
    for (project, code) in [(&spent, "E-BUDGET-001"), (&forged, "E-CONTRACT-002")] {
        assert_eq!(runs(&test, project).await.len(), 0);
        let events = format!(
            "audit_event WHERE action = 'schedule.refuse' AND body LIKE '%{code}%' AND project_id = '{}'",
            project.id
        );
        assert_eq!(count(&test, &events).await, 2, "{code}");
        assert!(schedule(&test, project).await.next_at.unwrap() > clock.now());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_changed_behind_the_server_s_back_asks_nothing_else() {
    let clock = clock_at(BEFORE);
    let (test, project) = with_hourly(&clock, json!({})).await;
    let admin = test.database().admin().await;
    let forge = r#"UPDATE awooop.schedule SET spec = replace(spec, 'how many?', 'send it all')"#;
    admin.batch_execute(forge).await.unwrap();
    assert_eq!(test.store.examine().await.unwrap().len(), 1, "the doctor sees it");
    clock.advance(Duration::from_secs(31));
    assert_eq!(test.store.fire_due().await.unwrap(), fired(1));
    let run = claim_one(&test.store, &project, &worker("w")).await;
    assert_eq!(run.input, json!({"q": "how many?"}));
    let mended = test.store.rematerialise(&project.caller).await.unwrap();
    assert_eq!(mended[0].what, format!("schedule hourly of agent {AGENT}"));
    let kept = schedule(&test, &project).await;
    assert_eq!((kept.next_at, kept.last_run_id), (Some(at("2026-05-01T20:00:00Z")), Some(run.run_id)));
    test.store.end_run(&run, &done(), None, true).await.unwrap();
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_keeps_what_is_due_unless_the_times_changed() {
    let clock = clock_at(BEFORE);
    let (test, project) = with_hourly(&clock, json!({})).await;
    clock.advance(Duration::from_secs(45));
    apply(&test, &project, json!([hourly(json!({"input": "another"}))])).await;
    assert_eq!(schedule(&test, &project).await.next_at, Some(at("2026-05-01T19:00:00Z")), "still due");
    assert_eq!(test.store.fire_due().await.unwrap(), fired(1));
    apply(&test, &project, json!([hourly(json!({"time_zone": "Asia/Kathmandu"}))])).await;
    assert_eq!(schedule(&test, &project).await.next_at, Some(at("2026-05-01T19:15:00Z")));
    apply(&test, &project, json!([hourly(json!({"enabled": false}))])).await;
    assert_eq!(schedule(&test, &project).await.next_at, None);
    clock.advance(Duration::from_secs(86_400));
    assert_eq!(test.store.fire_due().await.unwrap(), FireReport::default());
    apply(&test, &project, json!([])).await;
    assert_eq!(test.store.list_schedules(&project.scope, ("", ""), 10).await.unwrap().len(), 0);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firing_by_hand_is_besides_the_times_and_another_project_s_is_absent() {
    let test = test_store().await;
    let (project, other) = (test.project().await, test.project().await);
    apply(&test, &project, json!([hourly(json!({"enabled": false}))])).await;
    let fire = async |by: &TestProject, id: &str| {
        test.store.fire_schedule(&by.scope, &agent_id(), id).await.unwrap()
    };
    let FiredNow::Run(run_id) = fire(&project, "hourly").await else { panic!("no run") };
    let found = runs(&test, &project).await.remove(0);
    assert_eq!((found.run_id, found.schedule_id.as_deref()), (run_id, Some("hourly")));
    assert_eq!(found.triggered_by, project.scope.actor());
    assert_eq!(schedule(&test, &project).await.next_at, None);
    assert_eq!(fire(&other, "hourly").await, FiredNow::Absent);
    assert_eq!(fire(&project, "daily").await, FiredNow::Absent);
    let spent = test.project_with(Some(0), 3).await;
    apply(&test, &spent, json!([hourly(json!({}))])).await;
    assert_eq!(fire(&spent, "hourly").await, FiredNow::Refused(ErrorCode::Budget001));
}

/// `agents` agents with a hundred hourly schedules each.
async fn with_many(clock: &Clock, agents: usize) -> (TestStore, TestProject) {
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let schedules: Vec<Value> = (0..100)
        .map(|n| json!({"id": format!("hourly-{n}"), "cron": "0 * * * *", "input": {"q": n}}))
        .collect();
    for n in 0..agents {
        let spec = json!({"instructions": "Answer.", "model": "offline/planner", "output_schema": {"type": "object"},
            "schedules": schedules});
        let agent = json!({"kind": "agent", "project": project.id, "id": format!("clerk-{n}"), "spec": spec});
        let manifests = [manifest(agent).unwrap()];
        test.store.apply(&project.caller, &manifests, ApplyOptions::default()).await.unwrap();
    }
    (test, project)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_thousand_that_are_due_at_once_fire_in_a_few_transactions_of_one_sweep() {
    let clock = clock_at(BEFORE);
    let (test, _) = with_many(&clock, 30).await;
    clock.advance(Duration::from_secs(31));
    let (one, other) = tokio::join!(test.store.fire_due(), test.store.fire_due());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.fired + other.fired, 3_000, "{one:?} {other:?}");
    assert_eq!(one.late + other.late, 0);
    assert_eq!(count(&test, "run_queue").await, 3_000);
    assert_eq!(count(&test, "audit_event WHERE action = 'run.create'").await, 3_000);
    // what one transaction made bears its number
    let admin = test.database().admin().await;
    let transactions = "SELECT count(DISTINCT xmin::text) FROM awooop.run_state";
    let transactions: i64 = admin.query_one(transactions, &[]).await.unwrap().get(0);
    assert!(transactions <= 30, "{transactions} transactions");
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_the_queue_full_is_put_off_recorded_once_and_fires_when_there_is_room() {
    let clock = clock_at(BEFORE);
    let (test, project) = with_many(&clock, 3).await;
    limit_queue(&test, &project, 250).await;
    clock.advance(Duration::from_secs(31));
    let report = test.store.fire_due().await.unwrap();
    assert_eq!(report, FireReport { put_off: 50, ..fired(250) });
    for _ in 0..2 {
        assert_eq!(test.store.fire_due().await.unwrap(), FireReport::default(), "recorded once");
    }
    assert_eq!(count(&test, "run_queue").await, 250);
    let put_off = "audit_event WHERE action = 'schedule.put_off' AND body LIKE '%E-LIMIT-002%'";
    assert_eq!(count(&test, put_off).await, 50);
    // a firing by hand has no room either
    let by_hand = test.store.fire_schedule(&project.scope, &"clerk-0".parse().unwrap(), "hourly-0").await;
    assert_eq!(by_hand.unwrap(), FiredNow::Refused(ErrorCode::Limit002));
    // the queue is worked off within the minute
    test.store.claim(&project.id, &worker("w"), 200).await.unwrap();
    assert_eq!(test.store.fire_due().await.unwrap(), fired(50));
    assert_eq!(count(&test, "schedule WHERE put_off_at IS NOT NULL").await, 0);
    assert_eq!(count(&test, put_off).await, 50);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_off_for_long_is_caught_up_as_the_contract_says() {
    for (policy, wanted) in [("skip", 0), ("last", 1), ("all", 5)] {
        let clock = clock_at(BEFORE);
        let (test, project) = with_hourly(&clock, json!({"catch_up": policy})).await;
        limit_queue(&test, &project, 2).await;
        let make_room = async || {
            let sql = "DELETE FROM awooop.run_queue";
            test.database().admin().await.batch_execute(sql).await.unwrap();
        };
        test.store.fire_schedule(&project.scope, &agent_id(), "hourly").await.unwrap();
        test.store.fire_schedule(&project.scope, &agent_id(), "hourly").await.unwrap();
        clock.advance(Duration::from_secs(31));
        assert_eq!(test.store.fire_due().await.unwrap().put_off, 1);
        clock.advance(Duration::from_secs(4 * 3_600 + 900));
        assert_eq!(test.store.fire_due().await.unwrap(), FireReport::default());
        // as many at a time as there is room for
        let mut made = Vec::new();
        for _ in 0..4 {
            make_room().await;
            let report = test.store.fire_due().await.unwrap();
            assert!(report.fired <= 2, "{report:?}");
            made.push(report.fired);
        }
        assert_eq!(made.iter().sum::<usize>(), wanted, "{policy}: {made:?}");
        assert!(schedule(&test, &project).await.next_at.unwrap() > clock.now());
    }
}
