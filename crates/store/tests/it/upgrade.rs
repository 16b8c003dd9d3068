//! Migrations beside servers that work: a newer schema disturbs none that runs, one that is a version behind starts only
//! where the schema allows it, and a migration waits for nobody's lock.

use awooop_journeys::cluster::ClusterUrls;
use awooop_journeys::db::{TestDatabase, TestStore};
use awooop_store::keyring::Keyring;
use awooop_store::migrate::{MigrateError, latest_version, migrate, plan};
use awooop_store::pool::OpenError;
use awooop_store::{Clock, DatabaseUrls, Store};

use crate::stepping::{claim_one, create, worker};

/// What a later version might bring: a table, a column, and itself.
fn made_up(version: i64, compatible_from: i64) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS awooop.made_up (project_id text NOT NULL PRIMARY KEY, more text);
         CALL awooop.protect('made_up', 'SELECT, INSERT');
         ALTER TABLE awooop.run_state ADD COLUMN IF NOT EXISTS made_up text;
         {}",
        versions(version, compatible_from)
    )
}

fn versions(version: i64, compatible_from: i64) -> String {
    let one = |name: &str, n: i64| {
        format!(
            "CREATE OR REPLACE FUNCTION awooop.{name}() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT {n}::bigint';"
        )
    };
    format!("{} {}", one("schema_version", version), one("compatible_from", compatible_from))
}

async fn open(test: &TestStore, urls: &ClusterUrls) -> Result<(), OpenError> {
    let urls = DatabaseUrls { app: urls.app.clone().into(), dispatch: urls.dispatch.clone().into() };
    let keyring = Keyring::load(test.keys()).unwrap();
    Store::open(&urls, Clock::system(), keyring).await.map(|store| store.close())
}

#[tokio::test]
async fn a_newer_schema_disturbs_no_running_server_and_decides_who_starts() {
    let test = TestStore::private().await;
    let (urls, project) = (test.database().urls().clone(), test.project().await);
    create(&test.store, &project).await;
    let owner = test.database().owner().await;
    let now = latest_version();

    owner.batch_execute(&made_up(now + 1, now)).await.unwrap();
    // with what it had prepared
    create(&test.store, &project).await;
    let claimed = claim_one(&test.store, &project, &worker("w")).await;
    assert!(test.store.find_run(&project.scope, claimed.run_id).await.unwrap().is_some());
    open(&test, &urls).await.expect("the schema is made for it too");
    let found = test.store.examine().await.unwrap();
    let is_told = found.iter().any(|finding| finding.message.contains("newer than this binary's"));
    assert!(is_told && found.len() == 1, "{found:?}");
    let refused = migrate(&urls.owner.clone().into()).await.unwrap_err();
    assert!(matches!(refused, MigrateError::Newer { .. }), "an older binary migrates nothing: {refused}");

    for (version, compatible_from) in [(now + 1, now + 1), (now + 2, now), (now + 2, 1)] {
        owner.batch_execute(&versions(version, compatible_from)).await.unwrap();
        let refused = open(&test, &urls).await.unwrap_err();
        assert!(matches!(refused, OpenError::NewerSchema { found, .. } if found == version), "{refused}");
        assert!(refused.to_string().contains("start a server of the newer version"), "{refused}");
    }
    owner.batch_execute(&versions(now - 1, 1)).await.unwrap();
    let refused = open(&test, &urls).await.unwrap_err();
    assert!(refused.to_string().contains("run `awooop migrate`"), "{refused}");
}

#[tokio::test]
async fn a_migration_gives_up_waiting_for_a_lock_and_tries_again() {
    let database = TestDatabase::private().await.unwrap();
    let (mut holder, watcher) = (database.admin().await, database.admin().await);
    let held = holder.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE awooop.refinery_schema_history").await.unwrap();
    let url = database.urls().owner.clone().into();
    let waits = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        WHERE NOT l.granted AND c.relname = 'refinery_schema_history'";
    let count = async || watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0);
    let released = async {
        // in line, out of it, in it once more
        for is_waiting in [1, 0, 1] {
            while count().await != is_waiting {
                tokio::task::yield_now().await;
            }
        }
        held.commit().await.unwrap();
    };
    let (migrated, ()) = tokio::join!(migrate(&url), released);
    assert_eq!(migrated.unwrap(), Vec::<i64>::new());
}

#[tokio::test]
async fn a_plan_names_what_would_run_and_nothing_where_nothing_would() {
    let database = TestDatabase::private().await.unwrap();
    let url = database.urls().owner.clone().into();
    assert_eq!(plan(&url).await.unwrap(), (latest_version(), vec![]));
    database.owner().await.batch_execute(&versions(4, 1)).await.unwrap();
    let (found, pending) = plan(&url).await.unwrap();
    assert_eq!((found, pending.len()), (4, usize::try_from(latest_version() - 4).unwrap()));
    assert_eq!(pending[0].version, 5);
    assert!(pending[0].tables.contains_key("audit_event"), "{:?}", pending[0]);
}
