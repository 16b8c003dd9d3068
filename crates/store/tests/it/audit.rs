//! The audit as the server writes it: every event carries its MAC, the sealer seals each once, a check of the
//! whole finds nothing, and what is looked for is found.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use awooop_core::ProjectId;
use awooop_core::audit::{Event, Head, Report, Tampering};
use awooop_core::statement::Act;
use awooop_journeys::db::{TestProject, TestStore, test_store};
use awooop_store::audit::{AuditFilter, Note, ProveError, Sealer, SealerConfig, VerifyStep};
use awooop_store::claim::Worker;
use awooop_store::contract::ApplyOptions;
use awooop_store::journal::Outcome;
use awooop_store::keyring::{KeyName, Keyring};
use awooop_store::{ProjectScope, Store};
use serde_json::json;
use uuid::Uuid;

use crate::contracts::{agent, clerk, publish};
use crate::stepping::create;

/// Seals everything of a project. Returns how many events were sealed.
pub(crate) async fn seal(test: &TestStore, project: &TestProject) -> usize {
    seal_project(test, &project.id).await
}

/// The same of a project that no test made, such as the operators'.
pub(crate) async fn seal_project(test: &TestStore, project: &ProjectId) -> usize {
    test.store.seal(project, Uuid::nil(), &HashSet::new()).await.unwrap().events
}

/// What a check of the whole finds.
pub(crate) async fn verify(store: &Store, scope: &ProjectScope, heads: &[Head]) -> (Vec<Tampering>, Report) {
    let (to, mut steps) = tokio::sync::mpsc::channel(16);
    let heads: Vec<_> = heads.iter().map(Head::anchor).collect();
    let check = async {
        store.verify_audit(scope, &heads, &to).await.unwrap();
        drop(to);
    };
    let gather = async {
        let (mut found, mut report) = (Vec::new(), None);
        while let Some(step) = steps.recv().await {
            match step {
                VerifyStep::Found(one) => found.push(one),
                VerifyStep::Progress(_) => {}
                VerifyStep::Done(done) => report = Some(done),
            }
        }
        (found, report.expect("a check that was not cut ends with a report"))
    };
    futures::join!(check, gather).1
}

/// Records events that change nothing else.
pub(crate) async fn record(test: &TestStore, project: &TestProject, count: usize) {
    let note = |i: usize| Note::new("tool.refuse", format!("shop__refund/{i}"), json!({"i": i}));
    test.store.record_events(&project.scope, (0..count).map(note).collect()).await.unwrap();
}

pub(crate) async fn events(test: &TestStore, project: &TestProject) -> Vec<Event<'static>> {
    test.store.export_events(&project.scope, Uuid::nil(), 10_000).await.unwrap()
}

/// Does one of everything that the store records.
async fn do_everything(test: &TestStore, project: &TestProject) {
    let (store, by) = (&test.store, &project.caller);
    let cancelled = create(store, project).await;
    store.cancel_run(&project.scope, cancelled).await.unwrap();
    let worker = Worker { id: "audit".to_owned(), incarnation: 1 };
    let started = create(store, project).await;
    let claimed = store.claim(&project.id, &worker, 1).await.unwrap().pop().unwrap();
    store.cancel_run(&project.scope, started).await.unwrap();
    drop(claimed);
    create(store, project).await;
    let claimed = store.claim(&project.id, &worker, 1).await.unwrap().pop().unwrap();
    store.end_run(&claimed, &Outcome::Completed(json!({"a": "\u{0}é"})), None, true).await.unwrap();
    create(store, project).await;
    let claimed = store.claim(&project.id, &worker, 1).await.unwrap().pop().unwrap();
    let dead =
        awooop_store::lease::DeadLeases { project: project.id.clone(), lease_ids: vec![claimed.lease_id] };
    assert_eq!(store.reap(&dead).await.unwrap().len(), 1);
    let (_, key) = store
        .create_key(
            &project.scope,
            &awooop_store::auth::NewKey::of_service(
                awooop_core::ids::PrincipalId::parse("viewer").unwrap(),
                awooop_core::role::Role::Viewer,
            ),
        )
        .await
        .unwrap();
    store.revoke_key(&project.scope, &key.key_id).await.unwrap();
    store.save_draft(by, &agent(project, "drafted", "draft"), None).await.unwrap();
    publish(store, by, &agent(project, "clerk", "second")).await;
    store.sign_version(by, &clerk(), 2, Act::Activate, None).await.unwrap();
    store.activate_version(by, &clerk(), 2, None).await.unwrap();
    store.apply(by, &[agent(project, "clerk", "third")], ApplyOptions::default()).await.unwrap();
    store.retire_contract(by, &clerk(), None).await.unwrap();
    awooop_store::keyring::Keyring::rotate(
        test.keys(),
        awooop_store::keyring::KeyName::Publish,
        store.clock().now(),
    )
    .unwrap();
    store.keyring().refresh().unwrap();
    store.resign_contracts(by).await.unwrap();
    let body = json!({"text": "\u{1}\u{7f}\"\\ 中文", "n": 1.5});
    store.record_event(&project.scope, "tool.refuse", "x\u{0}y", Some(started), body).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_that_is_written_carries_its_mac_and_is_sealed_once() {
    let test = TestStore::private().await;
    let project = test.project().await;
    do_everything(&test, &project).await;
    let actions: BTreeSet<String> =
        events(&test, &project).await.iter().map(|e| e.action.clone().into_owned()).collect();
    let expected = [
        "contract.activate",
        "contract.draft",
        "contract.publish",
        "contract.resign",
        "contract.retire",
        "contract.sign",
        "key.create",
        "key.revoke",
        "run.cancel",
        "run.create",
        "run.end",
        "run.reap",
        "tool.refuse",
    ];
    assert_eq!(actions.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let (found, report) = verify(&test.store, &project.scope, &[]).await;
    assert_eq!((found, report.verified), (vec![], 0), "unsealed, and every MAC is good");
    let sealed = seal(&test, &project).await;
    assert_eq!(sealed as u64, report.events);
    assert_eq!(seal(&test, &project).await, 0, "nothing is sealed twice");
    let (found, report) = verify(&test.store, &project.scope, &[]).await;
    assert_eq!((found, report.verified, report.unsealed), (vec![], sealed as u64, 0));
    let status = test.store.audit_status(&project.scope).await.unwrap();
    assert_eq!((status.unsealed, status.forged.len(), status.sealed_events), (0, 0, sealed as i64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealer_finds_what_it_wrote_and_what_others_left() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let other = test.through(test.database().urls()).await;
    record(&test, &project, 3).await;
    let mut sealer = Sealer::new(test.store.clone(), SealerConfig::default());
    assert!(sealer.round().await > 3);
    // another process knows nothing of these writes but what discovery sees
    record(&test, &project, 5).await;
    let mut foreign = Sealer::new(other, SealerConfig::default());
    assert_eq!(foreign.round().await, 0);
    assert_eq!(foreign.sweep(None).await, 5);
    assert_eq!(foreign.sweep(Some(Duration::from_secs(300))).await, 0);
    let heads = test.store.new_heads().await;
    assert!(heads.iter().any(|head| head.seal.project == project.id.as_str()));
    assert_eq!(verify(&test.store, &project.scope, &heads).await.0, vec![]);
    assert_eq!(test.store.oldest_unsealed().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn sealers_at_the_same_time_seal_each_event_once() {
    let test = TestStore::private().await;
    let project = test.project().await;
    for _ in 0..5 {
        record(&test, &project, 40).await;
        let ignored = HashSet::new();
        let sealers = (0..6).map(|_| test.store.seal(&project.id, Uuid::nil(), &ignored));
        for done in futures::future::join_all(sealers).await {
            done.unwrap();
        }
    }
    seal(&test, &project).await;
    let (found, report) = verify(&test.store, &project.scope, &[]).await;
    assert_eq!((found, report.unsealed, report.verified), (vec![], 0, report.events));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_is_sealed_as_late() {
    let clock = awooop_store::Clock::manual(jiff::Timestamp::from_second(1_800_000_000).unwrap());
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    record(&test, &project, 2).await;
    clock.advance(Duration::from_secs(301));
    let done = test.store.seal(&project.id, Uuid::nil(), &HashSet::new()).await.unwrap();
    assert_eq!(done.late, done.events);
    let (found, report) = verify(&test.store, &project.scope, &[]).await;
    assert_eq!((found, report.late_seals), (vec![], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_found_by_who_what_and_when() {
    let test = test_store().await;
    let project = test.project().await;
    let run_id = create(&test.store, &project).await;
    record(&test, &project, 7).await;
    let find = async |filter: AuditFilter| {
        let found =
            test.store.search_audit(&project.scope, &AuditFilter { limit: 100, ..filter }).await.unwrap();
        assert!(found.is_sorted_by(|a, b| a.id > b.id), "newest first");
        found.len()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(find(AuditFilter { action: text("tool.refuse"), ..AuditFilter::default() }).await, 7);
    assert_eq!(find(AuditFilter { subject: text("shop__refund/3"), ..AuditFilter::default() }).await, 1);
    assert_eq!(find(AuditFilter { run_id: Some(run_id), ..AuditFilter::default() }).await, 1);
    let actor = project.scope.actor().to_owned();
    assert!(find(AuditFilter { actor: Some(actor), ..AuditFilter::default() }).await >= 8);
    assert_eq!(find(AuditFilter { actor: text("nobody"), ..AuditFilter::default() }).await, 0);
    let now = test.store.clock().now();
    assert_eq!(find(AuditFilter { since: Some(now), ..AuditFilter::default() }).await, 0);
    assert!(find(AuditFilter { until: Some(now), ..AuditFilter::default() }).await >= 8);
    let stranger = test.project().await;
    let all = AuditFilter { limit: 100, ..AuditFilter::default() };
    let found = test.store.search_audit(&stranger.scope, &all).await;
    assert!(found.unwrap().iter().all(|e| e.project == stranger.id.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_proved_up_to_a_head() {
    let test = test_store().await;
    let project = test.project().await;
    record(&test, &project, 20).await;
    let one = events(&test, &project).await.pop().unwrap();
    let early = test.store.prove_event(&project.scope, one.id, None).await;
    assert!(matches!(early, Err(ProveError::Unsealed)));
    seal(&test, &project).await;
    record(&test, &project, 2).await;
    seal(&test, &project).await;
    let head = test.store.audit_head(&project.scope).await.unwrap().unwrap();
    let proof = test.store.prove_event(&project.scope, one.id, Some(head.seal.n)).await.unwrap();
    let keys = test.store.keyring().audit_public_keys();
    assert_eq!(proof.check(&keys, Some(&head)), Ok(()));
    assert_eq!(proof.chain.len(), 1);
    let absent = test.store.prove_event(&project.scope, Uuid::nil(), None).await;
    assert!(matches!(absent, Err(ProveError::Absent)));
    let before = test.store.prove_event(&project.scope, one.id, Some(0)).await;
    assert!(matches!(before, Err(ProveError::NoWay { .. })));
    let stranger = test.project().await;
    let foreign = test.store.prove_event(&stranger.scope, one.id, None).await;
    assert!(matches!(foreign, Err(ProveError::Absent)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_s_state_is_recorded_once_however_many_servers_see_it() {
    let test = TestStore::private().await;
    let other = test.through(test.database().urls()).await;
    let count = async || {
        let (a, b) = futures::join!(test.store.record_keys(), other.record_keys());
        a.unwrap().unwrap() + b.unwrap().unwrap()
    };
    assert_eq!(count().await, KeyName::ALL.len());
    assert_eq!(count().await, 0);
    Keyring::rotate(test.keys(), KeyName::RedactionTag, test.store.clock().now()).unwrap();
    assert!(test.store.keyring().refresh().unwrap() && other.keyring().refresh().unwrap());
    assert_eq!(count().await, 2, "the new key, and the former one that only verifies now");
    assert_eq!(count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_somebody_else_took_over_first_is_recorded_too() {
    let test = TestStore::private().await;
    let count = async |wanted: i64| {
        while crate::counting::count(&test, "audit_event WHERE action = 'keyring.change'").await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let changes = async {
        let all = i64::try_from(KeyName::ALL.len()).unwrap();
        count(all).await;
        Keyring::rotate(test.keys(), KeyName::Approval, test.store.clock().now()).unwrap();
        test.store.keyring().refresh().unwrap();
        count(all + 2).await;
    };
    tokio::select! {
        () = test.store.follow_keys() => {}
        ended = tokio::time::timeout(Duration::from_secs(60), changes) => ended.expect("it is recorded"),
    }
}
