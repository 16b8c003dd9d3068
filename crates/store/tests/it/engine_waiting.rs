//! Runs that wait for people or for a result: nobody holds them, a decision is counted once and by people, whoever
//! loses a race has written nothing, and what was approved is used up by one call.

use std::time::Duration;

use awooop_core::approval::{ApprovalKind, ApprovalState, Decision, Demand};
use awooop_core::contract::Risk;
use awooop_core::role::Role;
use awooop_core::run::StateName;
use awooop_core::{ErrorCode, RunId};
use awooop_journeys::db::{TestProject, TestStore, test_store};
use awooop_store::approval::{Approval, ApprovalFilter, Decided, Ruling};
use awooop_store::claim::ClaimedRun;
use awooop_store::delivery::{Delivered, Delivery};
use awooop_store::effect::Intent;
use awooop_store::journal::RecordError;
use awooop_store::park::ApprovalRequest;
use awooop_store::run::Cancelled;
use awooop_store::{Store, StoreError};
use jiff::ToSpan;
use serde_json::json;
use uuid::Uuid;

use crate::counting::{count, deadlocks};
use crate::stepping::{
    assert_healthy, claim_one, create, done, manual, next_life, reap_all, run_of, step, worker,
};

const HASH: &str = "00";

fn demand(kind: ApprovalKind, needed: u8) -> Demand {
    Demand { kind, asked_by: "policy house".to_owned(), needed, expires_in_s: 3600 }
}

fn request(kind: ApprovalKind, needed: u8) -> ApprovalRequest {
    ApprovalRequest {
        n: 2,
        demand: demand(kind, needed),
        tool: "kit__send".to_owned(),
        risk: Risk::Write,
        arguments: json!({"to": "all"}).as_object().cloned().unwrap(),
        action_sha256: HASH.to_owned(),
    }
}

fn ruling(decision: Decision) -> Ruling {
    let output = json!({"text": "it was sent", "structured": null, "is_error": false});
    let output = (decision == Decision::Record).then_some(output);
    Ruling { decision, reason: Some("because".to_owned()), output }
}

fn intent(approval: Option<Uuid>) -> Intent<'static> {
    Intent {
        n: 2,
        tool: "kit__send",
        arguments_sha256: "11",
        action_sha256: HASH,
        approval,
        is_again: false,
        is_trusted: false,
        body: json!({"input": {"to": "all"}, "gates": []}),
    }
}

/// A run that waits for people at its second step.
async fn parked(test: &TestStore, project: &TestProject, kind: ApprovalKind, needed: u8) -> (RunId, Uuid) {
    let run_id = create(&test.store, project).await;
    let run = claim_one(&test.store, project, &worker("w")).await;
    test.store.record_step(&run, &step(&test.store, 1), None, None).await.unwrap();
    if kind == ApprovalKind::Outcome {
        test.store.begin_effect(&run, &intent(None)).await.unwrap();
    }
    let approval_id = test.store.park_for_approval(&run, &request(kind, needed)).await.unwrap();
    test.store.drop_lease(&project.scope, run.lease_id).await.unwrap();
    (run_id, approval_id)
}

async fn approval_of(test: &TestStore, project: &TestProject, approval_id: Uuid) -> Approval {
    test.store.find_approval(&project.scope, approval_id).await.unwrap().unwrap()
}

async fn decide(
    test: &TestStore,
    project: &TestProject,
    person: &str,
    approval_id: Uuid,
    decision: Decision,
) -> Result<Decided, StoreError> {
    // a person's key is not needed to test what rows do: the caller is the project's admin
    test.store.decide_approval(&project.caller, person, approval_id, &ruling(decision)).await
}

async fn is_effect_begun(store: &Store, run: &ClaimedRun, approval: Option<Uuid>) -> bool {
    match store.begin_effect(run, &intent(approval)).await {
        Ok(()) => true,
        Err(RecordError::Fenced) => false,
        Err(RecordError::Store(error)) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_run_waits_for_people_without_lease_or_queue_and_goes_on_when_they_decided() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let (run_id, approval_id) = parked(&test, &project, ApprovalKind::Call, 1).await;
    let waiting = run_of(&test.store, &project, run_id).await;
    assert_eq!((waiting.state, waiting.attempt, waiting.epoch), (StateName::WaitingApproval, 0, 2));
    let place = waiting.waiting.clone().expect("it waits");
    assert_eq!((place.n, place.approval_id), (2, Some(approval_id)));
    assert_eq!((count(&test, "run_queue").await, count(&test, "run_lease").await), (0, 0));
    assert_healthy(&test).await;
    // a week is no time: the run's own clock stands still
    clock.advance(Duration::from_secs(3599));
    assert_eq!(test.store.wake_due().await.unwrap() + test.store.time_out_queued().await.unwrap(), 0);
    assert!(matches!(
        decide(&test, &project, "mei", approval_id, Decision::Approve).await,
        Ok(Decided::Done(_))
    ));
    let going = run_of(&test.store, &project, run_id).await;
    assert_eq!((going.state, going.epoch, going.waiting.is_none()), (StateName::Pending, 3, true));
    assert_eq!(going.timeout_at, waiting.timeout_at + 3599.seconds());
    assert_healthy(&test).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    assert_eq!((run.attempt, run.epoch), (1, 4), "waiting costs no attempt");
    assert!(is_effect_begun(&test.store, &run, Some(approval_id)).await);
    assert_eq!(approval_of(&test, &project, approval_id).await.state, ApprovalState::Consumed);
    assert!(!is_effect_begun(&test.store, &run, Some(approval_id)).await, "an approval is good for one call");
    test.store.record_step(&run, &step(&test.store, 2), None, None).await.unwrap();
    test.store.end_run(&run, &done(), None, true).await.unwrap();
    for (action, n) in [("approval.request", 1), ("approval.decide", 1), ("tool.call", 1)] {
        assert_eq!(count(&test, &format!("audit_event WHERE action = '{action}'")).await, n, "{action}");
    }
    assert_healthy(&test).await;
}

#[tokio::test]
async fn people_are_counted_once_each_and_one_no_is_enough() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let (run_id, approval_id) = parked(&test, &project, ApprovalKind::Call, 2).await;
    let yes = Decision::Approve;
    for _ in 0..2 {
        let said = decide(&test, &project, "mei", approval_id, yes).await;
        assert!(
            matches!(said, Ok(Decided::Done(a)) if a.state == ApprovalState::Pending && a.decisions.len() == 1)
        );
    }
    assert!(matches!(
        decide(&test, &project, "mei", approval_id, Decision::Deny).await,
        Ok(Decided::Settled(_))
    ));
    assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::WaitingApproval);
    assert!(
        matches!(decide(&test, &project, "bo", approval_id, yes).await, Ok(Decided::Done(a)) if a.state == ApprovalState::Approved)
    );
    assert!(matches!(decide(&test, &project, "ann", approval_id, yes).await, Ok(Decided::Settled(_))));

    let (run_id, approval_id) = {
        // the first run is pending now: claim it away
        claim_one(&test.store, &project, &worker("x")).await;
        parked(&test, &project, ApprovalKind::Call, 3).await
    };
    decide(&test, &project, "mei", approval_id, yes).await.unwrap();
    let denied = decide(&test, &project, "bo", approval_id, Decision::Deny).await;
    assert!(
        matches!(denied, Ok(Decided::Done(a)) if a.state == ApprovalState::Denied && a.reason.as_deref() == Some("because"))
    );
    assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::Pending, "the agent is told");
    assert!(matches!(decide(&test, &project, "x", Uuid::max(), yes).await, Ok(Decided::Absent)));
    assert_healthy(&test).await;
}

#[tokio::test]
async fn an_unknown_outcome_is_recorded_repeated_or_ends_the_run_as_a_person_says() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let store = &test.store;
    let (run_id, approval_id) = parked(&test, &project, ApprovalKind::Outcome, 1).await;
    let steps = store.list_steps_and_open(&project.scope, run_id, 0, 10).await.unwrap();
    assert_eq!(steps.iter().map(|s| s.status.as_str()).collect::<Vec<_>>(), ["ok", "open"]);
    let said = decide(&test, &project, "mei", approval_id, Decision::Record).await;
    assert!(matches!(said, Ok(Decided::Done(a)) if a.state == ApprovalState::Consumed));
    let steps = store.list_steps(&project.scope, run_id, 0, 10).await.unwrap();
    assert_eq!((steps[1].n, steps[1].body["output"]["text"].as_str()), (2, Some("it was sent")));
    claim_one(store, &project, &worker("w")).await;

    let (run_id, approval_id) = parked(&test, &project, ApprovalKind::Outcome, 1).await;
    decide(&test, &project, "mei", approval_id, Decision::Deny).await.unwrap();
    let ended = run_of(store, &project, run_id).await;
    assert_eq!((ended.state, ended.error_code.as_deref()), (StateName::Failed, Some("E-RUN-014")));

    let (run_id, approval_id) = parked(&test, &project, ApprovalKind::Outcome, 1).await;
    decide(&test, &project, "mei", approval_id, Decision::Approve).await.unwrap();
    let run = claim_one(store, &project, &worker("w")).await;
    assert_eq!(run.run_id, run_id);
    let again = Intent { is_again: true, ..intent(Some(approval_id)) };
    store.begin_effect(&run, &again).await.unwrap();
    assert!(matches!(store.begin_effect(&run, &again).await, Err(RecordError::Fenced)));
    assert_healthy(&test).await;
}

#[tokio::test]
async fn what_nobody_decides_in_time_is_denied_and_what_is_approved_lapses() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let (call, of_call) = parked(&test, &project, ApprovalKind::Call, 1).await;
    let (outcome, _) = parked(&test, &project, ApprovalKind::Outcome, 1).await;
    clock.advance(Duration::from_secs(3600));
    // a late decision ends the waiting just as the sweep does
    assert!(matches!(
        decide(&test, &project, "mei", of_call, Decision::Approve).await,
        Ok(Decided::Expired(_))
    ));
    assert_eq!(test.store.wake_due().await.unwrap(), 1);
    assert_eq!(test.store.wake_due().await.unwrap(), 0);
    assert_eq!(run_of(&test.store, &project, call).await.state, StateName::Pending);
    let failed = run_of(&test.store, &project, outcome).await;
    assert_eq!((failed.state, failed.error_code.as_deref()), (StateName::Failed, Some("E-RUN-014")));
    claim_one(&test.store, &project, &worker("w")).await;

    let (_, approval_id) = parked(&test, &project, ApprovalKind::Call, 1).await;
    decide(&test, &project, "mei", approval_id, Decision::Approve).await.unwrap();
    let run = claim_one(&test.store, &project, &worker("w")).await;
    clock.advance(Duration::from_secs(3600));
    assert!(!is_effect_begun(&test.store, &run, Some(approval_id)).await, "its time to execute is over");
    assert_eq!(count(&test, "audit_event WHERE action = 'approval.expire'").await, 2);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_deciding_expiring_and_cancelling_exactly_one_moves_the_run() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    for round in 0..30 {
        let (run_id, approval_id) = parked(&test, &project, ApprovalKind::Call, 1).await;
        clock.advance(Duration::from_secs(if round % 2 == 0 { 3600 } else { 10 }));
        let (yes, no, swept, cancelled) = tokio::join!(
            decide(&test, &project, "mei", approval_id, Decision::Approve),
            decide(&test, &project, "bo", approval_id, Decision::Deny),
            test.store.wake_due(),
            test.store.cancel_run(&project.scope, run_id)
        );
        let done = |d: Result<Decided, StoreError>| matches!(d.unwrap(), Decided::Done(_));
        let settled = usize::from(done(yes)) + usize::from(done(no)) + swept.unwrap();
        assert!(settled <= 1, "round {round}");
        // a cancel comes after whatever came first
        assert!(matches!(cancelled.unwrap(), Cancelled::Done(_)));
        assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::Cancelled);
        let events = format!(
            "audit_event WHERE run_id = '{run_id}' AND action IN ('approval.decide', 'approval.expire')"
        );
        let state = approval_of(&test, &project, approval_id).await.state;
        assert_eq!(count(&test, &events).await, i64::from(state != ApprovalState::Withdrawn), "{state:?}");
        assert_eq!((count(&test, "run_queue").await, count(&test, "run_timer").await), (0, 0));
    }
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parking_completing_and_cancelling_exactly_one_wins() {
    let test = TestStore::private().await;
    let project = test.project().await;
    for _ in 0..30 {
        let run_id = create(&test.store, &project).await;
        let run = claim_one(&test.store, &project, &worker("w")).await;
        let (outcome, asked) = (done(), request(ApprovalKind::Call, 1));
        let (parked, ended, cancelled) = tokio::join!(
            test.store.park_for_approval(&run, &asked),
            test.store.end_run(&run, &outcome, None, false),
            test.store.cancel_run(&project.scope, run_id)
        );
        let state = run_of(&test.store, &project, run_id).await.state;
        match (parked, ended) {
            (Ok(_), Ok(())) => panic!("both"),
            (_, Err(RecordError::Fenced)) => assert_eq!(state, StateName::Cancelled),
            (Err(RecordError::Fenced), Ok(())) => {
                assert!(matches!(cancelled, Ok(Cancelled::Ended(_))));
                assert_eq!(state, StateName::Completed);
            }
            (parked, ended) => panic!("{parked:?} {ended:?}"),
        }
        test.store.drop_lease(&project.scope, run.lease_id).await.unwrap();
    }
    assert_eq!(count(&test, "approval WHERE state = 'pending'").await, 0);
    let asked = count(&test, "approval").await;
    assert_eq!(count(&test, "audit_event WHERE action = 'approval.request'").await, asked);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_people_at_once_exactly_as_many_count_as_are_needed() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let (run_id, approval_id) = parked(&test, &project, ApprovalKind::Call, 3).await;
    let people: Vec<String> = (0..16).map(|i| format!("person{}", i / 2)).collect();
    let all = people.iter().map(|person| decide(&test, &project, person, approval_id, Decision::Approve));
    let done = futures::future::join_all(all).await;
    let done = done.into_iter().filter(|d| matches!(d.as_ref().unwrap(), Decided::Done(_))).count();
    let decisions = approval_of(&test, &project, approval_id).await.decisions.len();
    assert_eq!(decisions, 3);
    assert!((3..=6).contains(&done), "each said it twice: {done}");
    assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::Pending);
    assert_eq!(count(&test, "run_queue").await, 1);
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_cancelled_run_begins_no_effect() {
    let test = test_store().await;
    let project = test.project().await;
    let run_id = create(&test.store, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    test.store.cancel_run(&project.scope, run_id).await.unwrap();
    assert!(!is_effect_begun(&test.store, &run, None).await);
    let open = format!("step_journal WHERE run_id = '{run_id}' AND phase = 'intent'");
    assert_eq!(count(&test, &open).await, 0);
    let events = format!("audit_event WHERE run_id = '{run_id}' AND action = 'tool.call'");
    assert_eq!(count(&test, &events).await, 0);
}

fn delivery(text: &str) -> Delivery {
    let output = json!({"text": text, "structured": null, "is_error": false});
    Delivery { n: 2, output, chars: 4, sha256: text.to_owned() }
}

/// A run that waits for the result of its second step.
async fn deferred(test: &TestStore, project: &TestProject, within_s: u64) -> RunId {
    let run_id = create(&test.store, project).await;
    let run = claim_one(&test.store, project, &worker("w")).await;
    test.store.record_step(&run, &step(&test.store, 1), None, None).await.unwrap();
    test.store.begin_effect(&run, &intent(None)).await.unwrap();
    let early = test.store.deliver_result(&project.scope, run_id, &delivery("early")).await.unwrap();
    assert_eq!(early, Delivered::TooEarly);
    test.store.park_for_result(&run, 2, "kit__send", Duration::from_secs(within_s)).await.unwrap();
    test.store.drop_lease(&project.scope, run.lease_id).await.unwrap();
    run_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_delivered_once_however_often_it_is_sent() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let run_id = deferred(&test, &project, 60).await;
    assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::WaitingTool);
    assert_healthy(&test).await;
    let deliver = async |text: &'static str| {
        test.store.deliver_result(&project.scope, run_id, &delivery(text)).await.unwrap()
    };
    let (a, b, c, d) = tokio::join!(deliver("one"), deliver("one"), deliver("two"), deliver("two"));
    let all = [a, b, c, d];
    assert_eq!(all.iter().filter(|d| **d == Delivered::Done).count(), 1, "{all:?}");
    assert_eq!(all.iter().filter(|d| **d == Delivered::Replayed).count(), 1, "{all:?}");
    assert_eq!(all.iter().filter(|d| **d == Delivered::Other).count(), 2, "{all:?}");
    assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::Pending);
    assert_eq!(count(&test, "audit_event WHERE action = 'tool.deliver'").await, 1);
    assert_eq!(count(&test, "mcp_call").await, 1);
    assert_healthy(&test).await;
    let absent = test.store.deliver_result(&project.scope, Uuid::max(), &delivery("one")).await.unwrap();
    assert_eq!(absent, Delivered::Absent);
}

#[tokio::test]
async fn a_result_that_does_not_come_is_an_error_of_its_step_and_past_the_runs_own_time_its_end() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let run_id = deferred(&test, &project, 60).await;
    let ended_by_clock = deferred(&test, &project, 86_400).await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(test.store.wake_due().await.unwrap(), 1);
    assert_eq!(run_of(&test.store, &project, run_id).await.state, StateName::Pending);
    let steps = test.store.list_steps(&project.scope, run_id, 1, 10).await.unwrap();
    assert_eq!((steps[0].status.as_str(), steps[0].code.as_deref()), ("error", Some("E-MCP-UPSTREAM-002")));
    assert_eq!(steps[0].body["input"]["to"], "all");
    let late = test.store.deliver_result(&project.scope, run_id, &delivery("late")).await.unwrap();
    assert_eq!(late, Delivered::Other);
    clock.advance(Duration::from_secs(900));
    assert_eq!(test.store.wake_due().await.unwrap(), 1);
    let ended = run_of(&test.store, &project, ended_by_clock).await;
    assert_eq!(
        (ended.state, ended.error_code.as_deref()),
        (StateName::Timeout, Some(ErrorCode::Run011.as_str()))
    );
    let late = test.store.deliver_result(&project.scope, ended_by_clock, &delivery("late")).await.unwrap();
    assert_eq!(late, Delivered::NotWaiting(StateName::Timeout));
    assert_healthy(&test).await;
}

#[tokio::test]
async fn the_inbox_lists_what_waits_and_nothing_of_another_project() {
    let test = test_store().await;
    let (mine, other) = (test.project().await, test.project().await);
    let (run_id, approval_id) = parked(&test, &mine, ApprovalKind::Call, 1).await;
    let list = async |project: &TestProject, state| {
        let filter = ApprovalFilter { state, limit: 10, ..ApprovalFilter::default() };
        let found = test.store.list_approvals(&project.scope, &filter).await.unwrap();
        found.into_iter().map(|a| a.approval_id).collect::<Vec<_>>()
    };
    assert_eq!(list(&mine, Some(ApprovalState::Pending)).await, [approval_id]);
    assert!(list(&mine, Some(ApprovalState::Denied)).await.is_empty());
    assert!(list(&other, None).await.is_empty());
    assert!(test.store.find_approval(&other.scope, approval_id).await.unwrap().is_none());
    assert!(matches!(
        decide(&test, &other, "mei", approval_id, Decision::Approve).await,
        Ok(Decided::Absent)
    ));
    let delivered = test.store.deliver_result(&other.scope, run_id, &delivery("x")).await.unwrap();
    assert_eq!(delivered, Delivered::Absent);
    let person = test.person(&mine, "mei", Role::Approver).await;
    assert_eq!(person.person(), Some("mei"));
}

#[tokio::test]
async fn a_result_that_comes_while_people_are_asked_for_it_answers_them_and_the_run_goes_on() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let store = &test.store;
    let (run_id, approval_id) = parked(&test, &project, ApprovalKind::Outcome, 2).await;
    decide(&test, &project, "mei", approval_id, Decision::Approve).await.unwrap();
    let before = run_of(store, &project, run_id).await;
    clock.advance(Duration::from_secs(600));
    for wanted in [Delivered::Done, Delivered::Replayed] {
        assert_eq!(store.deliver_result(&project.scope, run_id, &delivery("sent")).await.unwrap(), wanted);
    }
    let asked = approval_of(&test, &project, approval_id).await;
    assert_eq!(asked.state, ApprovalState::Withdrawn);
    assert_eq!(asked.reason.as_deref(), Some("the tool delivered its result"));
    let going = run_of(store, &project, run_id).await;
    assert_eq!((going.state, going.timeout_at), (StateName::Pending, before.timeout_at + 600.seconds()));
    let said = format!(
        "audit_event WHERE action = 'tool.deliver' AND body::json ->> 'withdrawn_approval_id' = '{approval_id}'"
    );
    assert_eq!((count(&test, &said).await, count(&test, "mcp_call").await), (1, 1));
    let steps = store.list_steps(&project.scope, run_id, 1, 10).await.unwrap();
    assert_eq!((steps[0].n, steps[0].body["output"]["text"].as_str()), (2, Some("sent")));
    assert_healthy(&test).await;
    let run = claim_one(store, &project, &worker("w")).await;
    assert!(
        !is_effect_begun(store, &run, Some(approval_id)).await,
        "what was withdrawn allows no call, and none is needed"
    );
    // of a call that people have to allow first there is nothing to deliver
    let (run_id, _) = parked(&test, &project, ApprovalKind::Call, 1).await;
    let absent = store.deliver_result(&project.scope, run_id, &delivery("sent")).await.unwrap();
    assert_eq!(absent, Delivered::Absent);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_delivery_a_decision_an_expiry_and_a_cancel_one_answers_and_the_others_write_nothing() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let mut won = std::collections::BTreeMap::new();
    for round in 0..40 {
        let (run_id, approval_id) = parked(&test, &project, ApprovalKind::Outcome, 1).await;
        clock.advance(Duration::from_secs(if round % 4 == 0 { 3600 } else { 10 }));
        let cancel = async {
            if round % 2 == 0 {
                test.store.cancel_run(&project.scope, run_id).await.unwrap();
            }
        };
        let late = delivery("sent");
        let (said, delivered, swept, ()) = tokio::join!(
            decide(&test, &project, "mei", approval_id, Decision::Record),
            test.store.deliver_result(&project.scope, run_id, &late),
            test.store.wake_due(),
            cancel
        );
        let said = matches!(said.unwrap(), Decided::Done(_));
        let (delivered, swept) = (delivered.unwrap() == Delivered::Done, swept.unwrap() == 1);
        let state = approval_of(&test, &project, approval_id).await.state;
        let settled = usize::from(said) + usize::from(delivered) + usize::from(swept);
        assert!(settled <= 1 && (settled == 1 || round % 2 == 0), "round {round}");
        *won.entry((said, delivered, swept)).or_insert(0) += 1;
        if delivered {
            assert_eq!(state, ApprovalState::Withdrawn);
        }
        let of_run = |rest: &str| format!("run_id = '{run_id}' AND {rest}");
        let results = format!("step_journal WHERE {}", of_run("n = 2 AND phase = 'result'"));
        assert_eq!(count(&test, &results).await, i64::from(said || delivered));
        let calls = format!("mcp_call WHERE {}", of_run("n = 2"));
        assert_eq!(count(&test, &calls).await, i64::from(delivered));
        for (action, is_done) in
            [("tool.deliver", delivered), ("approval.decide", said), ("approval.expire", swept)]
        {
            let events = format!("audit_event WHERE {}", of_run(&format!("action = '{action}'")));
            let n = count(&test, &events).await;
            // whoever decides too late lets the request expire
            assert!(n == i64::from(is_done) || (action == "approval.expire" && n == 1), "{action}: {n}");
        }
        assert_healthy(&test).await;
        test.store.cancel_run(&project.scope, run_id).await.unwrap();
    }
    println!("(decided, delivered, expired): {won:?}");
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beginning_deciding_expiring_cancelling_and_reaping_at_once_never_deadlock() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let mut begun = 0;
    for round in 0..60 {
        let (run_id, approval_id) = parked(&test, &project, ApprovalKind::Call, 1).await;
        decide(&test, &project, "mei", approval_id, Decision::Approve).await.unwrap();
        let run = claim_one(&test.store, &project, &worker("w")).await;
        // another of the project's runs waits meanwhile, and its time is over
        let (_, waiting) = parked(&test, &project, ApprovalKind::Outcome, 1).await;
        clock.advance(Duration::from_secs(if round % 2 == 0 { 3_500 } else { 3_600 }));
        let cancel = async {
            if round % 3 == 0 {
                test.store.cancel_run(&project.scope, run_id).await.unwrap();
            }
        };
        let reap = async {
            if round % 3 == 1 {
                reap_all(&test, &next_life(&worker("w"))).await;
            }
        };
        let (first, second, again, other, swept, (), ()) = tokio::join!(
            is_effect_begun(&test.store, &run, Some(approval_id)),
            is_effect_begun(&test.store, &run, Some(approval_id)),
            decide(&test, &project, "bo", approval_id, Decision::Deny),
            decide(&test, &project, "bo", waiting, Decision::Deny),
            test.store.wake_due(),
            cancel,
            reap
        );
        assert!(!(first && second), "an approval is good for one call");
        assert!(matches!(again.unwrap(), Decided::Settled(_)));
        assert!(matches!(other.unwrap(), Decided::Done(_) | Decided::Expired(_)));
        swept.unwrap();
        let state = approval_of(&test, &project, approval_id).await.state;
        assert_eq!(state == ApprovalState::Consumed, first || second, "round {round}");
        begun += i64::from(first || second);
        test.store.cancel_run(&project.scope, run_id).await.unwrap();
        reap_all(&test, &next_life(&worker("w"))).await;
        assert_healthy(&test).await;
    }
    println!("{begun} of 60 calls were begun");
    // (of each waiting run's call there is an intent too)
    let intents = "step_journal WHERE phase = 'intent'";
    assert_eq!(count(&test, intents).await, begun + 60);
    assert_eq!(count(&test, "audit_event WHERE action = 'tool.call'").await, begun + 60);
    assert_eq!(deadlocks(&test).await, 0);
}
