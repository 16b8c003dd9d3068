//! Retention: old events go, their seals stay, the rest still checks, and what was merely deleted is not taken
//! for expired.

use std::time::Duration;

use awooop_journeys::db::TestStore;
use awooop_store::Clock;
use awooop_store::audit::{Expired, Retention};
use jiff::{SignedDuration, Timestamp};

use crate::audit::{events, record, seal, verify};

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_is_recorded_and_the_rest_still_checks() {
    let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
    let test = TestStore::private_with(clock.clone()).await;
    let url = test.database().urls().retention.clone().into();
    let days = SignedDuration::from_hours(24 * 30);
    let retention = Retention::open(test.store.clone(), &url, days).await.unwrap();
    let (project, other) = (test.project().await, test.project().await);
    for project in [&project, &other] {
        record(&test, project, 10).await;
        seal(&test, project).await;
    }
    let old = events(&test, &project).await.len() as u64;
    assert_eq!(
        retention.expire(&project.id, false).await.unwrap(),
        Expired::default(),
        "nothing is old enough"
    );
    clock.advance(Duration::from_secs(86_400 * 31));
    record(&test, &project, 4).await;
    seal(&test, &project).await;
    let head = test.store.audit_head(&project.scope).await.unwrap().unwrap();

    let wanted = Expired { through_seal: 1, events: old };
    assert_eq!(retention.expire(&project.id, true).await.unwrap(), wanted);
    assert_eq!(events(&test, &project).await.len() as u64, old + 4, "a dry run deletes nothing");
    assert_eq!(retention.expire(&project.id, false).await.unwrap(), wanted);
    assert_eq!(events(&test, &project).await.len(), 5, "what is young, and the record");
    assert_eq!(retention.expire(&project.id, false).await.unwrap(), Expired::default());
    assert_eq!(events(&test, &other).await.len() as u64, old, "another project's events stay");

    for _ in 0..2 {
        let (found, report) = verify(&test.store, &project.scope, std::slice::from_ref(&head)).await;
        assert_eq!((found, report.expired, report.expired_through), (vec![], old, 1));
        seal(&test, &project).await;
    }
    let admin = test.database().admin().await;
    let delete = "DELETE FROM awooop.audit_event WHERE project_id = $1 AND action = 'tool.refuse'";
    admin.execute(delete, &[&project.id.as_str()]).await.unwrap();
    let (found, _) = verify(&test.store, &project.scope, &[]).await;
    assert_eq!(found.iter().map(|f| (f.kind.as_str(), f.seal)).collect::<Vec<_>>(), [("missing", Some(2))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_nodes_that_see_the_same_expire_one_says_so() {
    let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
    let test = TestStore::private_with(clock.clone()).await;
    let url = test.database().urls().retention.clone().into();
    let project = test.project().await;
    record(&test, &project, 10).await;
    seal(&test, &project).await;
    clock.advance(Duration::from_secs(86_400 * 31));
    let days = SignedDuration::from_hours(24 * 30);
    let mut nodes = Vec::new();
    for _ in 0..8 {
        nodes.push(Retention::open(test.store.clone(), &url, days).await.unwrap());
    }
    let all = nodes.iter().map(|node| node.expire(&project.id, false));
    for done in futures::future::join_all(all).await {
        done.unwrap();
    }
    let said: Vec<String> =
        events(&test, &project).await.into_iter().map(|event| event.action.into()).collect();
    assert_eq!(said, ["audit.expire"]);
    seal(&test, &project).await;
    let (found, _) = verify(&test.store, &project.scope, &[]).await;
    assert_eq!(found, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_deletes_sees_one_project_s_ids_and_nothing_else() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let client = awooop_journeys::db::connect(&test.database().urls().retention).await.unwrap();
    let count = "SELECT count(id) FROM audit_event";
    assert_eq!(client.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0, "no project, no rows");
    client.execute("SELECT awooop.set_project($1)", &[&project.id.as_str()]).await.unwrap();
    for refused in [
        "SELECT body FROM audit_event",
        "UPDATE audit_event SET body = ''",
        "SELECT input FROM run_state",
        "INSERT INTO audit_seal (n) VALUES (1)",
    ] {
        let error = client.batch_execute(refused).await.unwrap_err();
        assert_eq!(error.code().map(|c| c.code()), Some("42501"), "{refused}");
    }
}
