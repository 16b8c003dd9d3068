//! Definitions as they are seen: one first sight wins, each definition has one row and one event, and a server that shows a
//! new one each time fills nothing.

use std::time::Duration;

use awooop_core::ids::ToolName;
use awooop_core::scan::{Find, FindKind};
use awooop_journeys::db::{TestProject, TestStore};
use awooop_store::Store;
use awooop_store::definition::{Found, MOST_KEPT, MOST_NEW, SeenDefinition, Sighting};
use futures::future::join_all;
use serde_json::json;

use crate::counting::count;
use crate::stepping::manual;

fn tool(name: &str) -> ToolName {
    ToolName::parse(&format!("kit__{name}")).unwrap()
}

fn hash(n: usize) -> String {
    format!("{n:064x}")
}

fn sighting(name: &str, n: usize, found: Found) -> Sighting {
    let definition = json!({"name": name, "description": format!("the {n}th")}).to_string();
    Sighting {
        name: tool(name),
        sha256: hash(n),
        plain_sha256: hash(n),
        found,
        definition,
        finds: Vec::new(),
    }
}

async fn seen(store: &Store, project: &TestProject, name: &str) -> Vec<SeenDefinition> {
    store.seen_definitions(&project.scope, &tool(name)).await.unwrap()
}

async fn events(test: &TestStore, project: &TestProject, action: &str) -> i64 {
    count(test, &format!("audit_event WHERE project_id = '{}' AND action = '{action}'", project.id)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_first_sights_one_is_pinned_and_the_loser_wrote_nothing() {
    let test = TestStore::private().await;
    let second = test.through(test.database().urls()).await;
    for round in 0..20 {
        let project = test.project().await;
        let (a, b) = (sighting("echo", 1, Found::First), sighting("echo", 2, Found::First));
        let (a, b) = tokio::join!(
            test.store.record_sightings(&project.scope, vec![a]),
            second.record_sightings(&project.scope, vec![b])
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(a, b, "round {round}: both are told the same pin");
        let kept = seen(&test.store, &project, "echo").await;
        assert_eq!(
            kept.iter().map(|d| &d.sha256).collect::<Vec<_>>(),
            [&a[0].1],
            "only the winner's is kept"
        );
        assert_eq!(events(&test, &project, "tool.pin").await, 1);
        let pins = format!("mcp_pin WHERE project_id = '{}'", project.id);
        assert_eq!(count(&test, &pins).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drift_seen_by_many_at_once_is_one_row_and_one_event() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let drift = || vec![sighting("echo", 2, Found::Drifted(hash(1))), sighting("other", 7, Found::Pinned)];
    join_all((0..16).map(|_| test.store.record_sightings(&project.scope, drift())))
        .await
        .into_iter()
        .for_each(|done| assert_eq!(done.unwrap(), []));
    assert_eq!(seen(&test.store, &project, "echo").await.len(), 1);
    assert_eq!(events(&test, &project, "tool.drift").await, 1);
    // a person took it over, then the server went back
    for (n, found, expected) in [
        (2, Found::Pinned, 1),
        (1, Found::Drifted(hash(2)), 2),
        (1, Found::Drifted(hash(2)), 2),
        (2, Found::Drifted(hash(1)), 3),
    ] {
        test.store.record_sightings(&project.scope, vec![sighting("echo", n, found)]).await.unwrap();
        assert_eq!(events(&test, &project, "tool.drift").await, expected, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_and_when_is_kept_as_it_was_first_seen() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    let find =
        Find { kind: FindKind::Instructions, path: "/description".into(), detail: "to act in secret".into() };
    let first =
        Sighting { finds: vec![find.clone()], ..sighting("echo", 1, Found::Quarantined("suspicious")) };
    test.store.record_sightings(&project.scope, vec![first]).await.unwrap();
    let began = clock.now();
    clock.advance(Duration::from_secs(60));
    let again = sighting("echo", 1, Found::Quarantined("suspicious"));
    test.store.record_sightings(&project.scope, vec![again]).await.unwrap();
    let kept = seen(&test.store, &project, "echo").await;
    let [one] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((one.first_seen_at, one.last_seen_at), (began, clock.now()));
    assert_eq!((one.standing.as_str(), &one.finds[..]), ("quarantined", &[find][..]));
    assert_eq!(events(&test, &project, "tool.quarantine").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_definitions_of_a_hostile_server_fill_neither_the_table_nor_the_audit() {
    let clock = manual();
    let test = TestStore::private_with(clock.clone()).await;
    let project = test.project().await;
    test.store.record_sightings(&project.scope, vec![sighting("echo", 0, Found::First)]).await.unwrap();
    let mut n = 0;
    for hour in 0..4 {
        for _ in 0..500 {
            n += 1;
            let look = sighting("echo", n, Found::Drifted(hash(0)));
            test.store.record_sightings(&project.scope, vec![look]).await.unwrap();
        }
        let kept = seen(&test.store, &project, "echo").await;
        assert!(kept.len() <= usize::try_from(MOST_KEPT).unwrap() + 1, "{}", kept.len());
        assert!(kept.iter().any(|d| d.sha256 == hash(0)), "the pinned one stays");
        let of_hour = kept.iter().filter(|d| d.sha256 > hash(hour * 500)).count();
        assert_eq!(of_hour, usize::try_from(MOST_NEW).unwrap() - usize::from(hour == 0), "the oldest went");
        clock.advance(Duration::from_secs(3_601));
    }
    assert_eq!(events(&test, &project, "tool.drift").await, 4 * MOST_NEW - 1);
    // and the pinned one again works as before
    test.store.record_sightings(&project.scope, vec![sighting("echo", 0, Found::Pinned)]).await.unwrap();
    assert_eq!(events(&test, &project, "tool.pin").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_project_s_tools_showed_is_no_other_project_s() {
    let test = TestStore::private().await;
    let (mine, other) = (test.project().await, test.project().await);
    test.store.record_sightings(&mine.scope, vec![sighting("echo", 1, Found::First)]).await.unwrap();
    let pinned =
        test.store.record_sightings(&other.scope, vec![sighting("echo", 2, Found::First)]).await.unwrap();
    assert_eq!(pinned, [(tool("echo"), hash(2))]);
    assert_eq!(seen(&test.store, &other, "echo").await[0].sha256, hash(2));
    assert!(test.store.first_pinned_at(&mine.scope, &tool("echo")).await.unwrap().is_some());
    assert!(test.store.first_pinned_at(&mine.scope, &tool("absent")).await.unwrap().is_none());
}
