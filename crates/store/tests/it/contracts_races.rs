//! Many at once: whoever changes what is active holds the project's row, so exactly one wins and the losers
//! leave nothing behind.

use std::sync::Arc;

use awooop_core::role::Role;
use awooop_core::statement::Act;
use awooop_journeys::db::{AGENT, TestStore};
use awooop_store::contract::{ApplyOptions, ContractError, Version};
use futures::future::join_all;
use serde_json::json;

use crate::contracts::{activate, active_clerk, agent, apply, audited, clerk, findings, rule, signed};

const MANY: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn of_many_activations_of_one_version_one_changes_something() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let before = audited(&test, &project, "contract.activate").await;
    let second = signed(&test.store, &[&project.caller], &agent(&project, AGENT, "second")).await;
    let all = join_all((0..MANY).map(|_| activate(&test.store, &project.caller, &second))).await;
    let changed = all.into_iter().filter(|done| done.as_ref().unwrap().standing.is_some()).count();
    assert_eq!(changed, 1);
    assert_eq!(audited(&test, &project, "contract.activate").await, before + 1);
    assert_eq!(findings(&test, &project).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_versions_signed_against_the_same_one_becomes_active() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let mut versions = Vec::new();
    for n in 0..MANY {
        let manifest = agent(&project, AGENT, &format!("version {n}"));
        versions.push(signed(&test.store, &[&project.caller], &manifest).await);
    }
    let admin = test.database().admin().await;
    let rows = "SELECT (SELECT count(*) FROM audit_event), (SELECT count(*) FROM contract_version WHERE state = 'retired'),
                  (SELECT count(*) FROM contract_signature WHERE used_at IS NULL)";
    let counts = async || -> Vec<i64> {
        let row = admin.query_one(rows, &[]).await.unwrap();
        (0..3).map(|i| row.get(i)).collect()
    };
    let before = counts().await;
    let one =
        async |version: &Version| (version.version, activate(&test.store, &project.caller, version).await);
    let done = join_all(versions.iter().map(one)).await;
    let won: Vec<i32> = done.iter().filter(|(_, d)| d.is_ok()).map(|(n, _)| *n).collect();
    assert_eq!(won, [active_clerk(&test.store, &project.caller).await], "exactly one wins");
    for (n, lost) in done.iter().filter(|(n, _)| *n != won[0]) {
        assert!(matches!(lost, Err(ContractError::LostRace { .. })), "{n}: {lost:?}");
    }
    assert_eq!(counts().await, [before[0] + 1, before[1] + 1, before[2] - 1], "the losers wrote nothing");
    assert_eq!(findings(&test, &project).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_applies_of_the_same_manifest_one_makes_a_version() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let manifests = [agent(&project, AGENT, "second"), agent(&project, "further", "first")];
    let options = ApplyOptions::default();
    let all = join_all((0..MANY).map(|_| test.store.apply(&project.caller, &manifests, options))).await;
    let written = all.into_iter().filter(|done| done.as_ref().unwrap().0).count();
    assert_eq!(written, 1);
    let versions = test.store.list_versions(&project.scope, &clerk(), None, 100).await.unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(findings(&test, &project).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_of_an_absent_contract_do_not_wait_for_each_other_s_connections() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let absent = awooop_store::contract::ContractKey::new(awooop_core::contract::Kind::Agent, "absent");
    let all = join_all((0..MANY).map(|_| test.store.find_contract(&project.caller, &absent))).await;
    assert!(all.into_iter().all(|found| found.unwrap().is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_activating_retiring_and_applying_at_once_leave_the_project_whole() {
    let test = Arc::new(TestStore::private().await);
    let project = test.project().await;
    apply(&test.store, &project.caller, &[rule(&project, json!({"signatures": 2}))]).await;
    let mut people = Vec::new();
    for name in ["ana", "bob", "cid", "dan"] {
        people.push(test.person(&project, name, Role::Admin).await);
    }
    for n in 0..8 {
        signed(&test.store, &[&people[n % 4]], &agent(&project, AGENT, &format!("version {n}"))).await;
    }
    let hammer = async |task: usize| {
        let mut outcomes = [0usize; 2];
        for round in 0..24 {
            let by = &people[(task + round) % people.len()];
            let number = i32::try_from((task * 7 + round * 3) % 9).unwrap() + 1;
            let result = match (task + round) % 5 {
                0 | 1 => test.store.sign_version(by, &clerk(), number, Act::Activate, None).await.map(drop),
                2 => test.store.activate_version(by, &clerk(), number, None).await.map(drop),
                3 => test.store.retire_contract(by, &clerk(), None).await.map(drop),
                _ => {
                    let manifest = agent(&project, AGENT, &format!("version {}", round % 8));
                    test.store.apply(by, &[manifest], ApplyOptions::default()).await.map(drop)
                }
            };
            if let Err(ContractError::Store(e)) = &result {
                panic!("a conflict is told as one, not as {e}");
            }
            outcomes[usize::from(result.is_ok())] += 1;
        }
        outcomes
    };
    let outcomes = join_all((0..16).map(hammer)).await;
    assert!(outcomes.iter().map(|o| o[1]).sum::<usize>() > 20, "something did happen: {outcomes:?}");
    assert_eq!(findings(&test, &project).await, Vec::<String>::new());
}
