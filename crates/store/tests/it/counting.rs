//! Counting rows across projects, as the superuser.

use awooop_journeys::db::TestStore;

/// Rows of a table; a condition may follow its name.
pub(crate) async fn count(test: &TestStore, from: &str) -> i64 {
    let admin = test.database().admin().await;
    admin.query_one(&format!("SELECT count(*) FROM {from}"), &[]).await.unwrap().get(0)
}
