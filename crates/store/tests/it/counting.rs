//! Counting rows across projects, as the superuser.

use awooop_journeys::db::TestStore;
use awooop_store::Store;
use tokio_postgres::Client;

/// Rows of a table; a condition may follow its name.
pub(crate) async fn count(test: &TestStore, from: &str) -> i64 {
    let admin = test.database().admin().await;
    admin.query_one(&format!("SELECT count(*) FROM {from}"), &[]).await.unwrap().get(0)
}

/// Rows that a piece of work reads of a table, by scans and through indexes, whatever the plan: the statistics of
/// PostgreSQL, which each session hands in as it ends. The work gets a store of its own.
pub(crate) async fn rows_read(test: &TestStore, table: &str, work: impl AsyncFnOnce(&Store)) -> i64 {
    let admin = test.database().admin().await;
    let before = rows_read_so_far(&admin, table).await;
    let store = test.through(test.database().urls()).await;
    work(&store).await;
    drop(store);
    rows_read_so_far(&admin, table).await - before
}

/// Deadlocks that PostgreSQL broke in this database, those that were repeated and nobody heard of included.
pub(crate) async fn deadlocks(test: &TestStore) -> i64 {
    let admin = test.database().admin().await;
    end_sessions(&admin).await;
    let read = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    admin.query_one(read, &[]).await.unwrap().get(0)
}

async fn rows_read_so_far(admin: &Client, table: &str) -> i64 {
    end_sessions(admin).await;
    let read = "SELECT (t.seq_tup_read + sum(i.idx_tup_read))::bigint FROM pg_stat_user_tables t
        JOIN pg_stat_user_indexes i USING (relid) WHERE t.relname = $1 GROUP BY t.seq_tup_read";
    admin.query_one(read, &[&table]).await.unwrap().get(0)
}

/// Ends every other session, so that its statistics are there.
async fn end_sessions(admin: &Client) {
    let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    admin.query(end, &[]).await.unwrap();
}
