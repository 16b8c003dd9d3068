//! What keeps vacuum from its work is named, as far as the server's role may see it.

use std::time::Duration;

use awooop_journeys::db::TestStore;
use awooop_store::Clock;
use awooop_store::vacuum::Holdback;

async fn of(test: &TestStore, user: &str) -> Option<Holdback> {
    test.store.holdbacks().await.unwrap().into_iter().find(|h| h.user == user)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_is_named_without_its_query_and_its_time_once_that_may_be_seen() {
    let clock = Clock::system();
    let test = TestStore::private_with(clock.clone()).await;
    let forgotten = test.database().owner().await;
    let open =
        "SET application_name = 'a report'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'a question'";
    forgotten.batch_execute(open).await.unwrap();
    let found = of(&test, "awooop_owner").await.expect("it holds a snapshot");
    assert_eq!((found.kind, found.application.as_str()), ("session", "a report"));
    // another role's session: neither its state nor its time is shown to an ordinary role
    assert_eq!((found.state.clone(), found.since), (None, None));
    assert!(!found.is_long(clock.now()) && Holdback { age_xids: 100_000, ..found }.is_long(clock.now()));

    let own = test.database().dispatch().await;
    own.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    let found = of(&test, "awooop_dispatch").await.expect("it holds a snapshot");
    assert_eq!(found.state.as_deref(), Some("idle in transaction"));
    let since = found.since.unwrap();
    assert!(
        !found.is_long(since + Duration::from_secs(299)) && found.is_long(since + Duration::from_secs(300))
    );
    let said = found.to_string();
    assert!(
        said.contains("awooop_dispatch") && said.contains("since") && !said.contains("question"),
        "{said}"
    );
    own.batch_execute("ROLLBACK").await.unwrap();
    forgotten.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(of(&test, "awooop_owner").await, None);
}
