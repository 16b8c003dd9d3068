//! Who may do what, as the catalogue says it, is what was reviewed; each table of a project keeps the rules; and the
//! doctor finds whatever was changed behind the server's back.

use awooop_journeys::db::{TestDatabase, TestStore};
use awooop_store::walls::{WALLS, broken_rules};

const RENEW: &str = "AWOOOP_RENEW=1 cargo nextest run -p awooop-store -E 'test(walls)'";

#[tokio::test]
async fn privileges_policies_functions_and_roles_are_those_that_were_reviewed() {
    let database = TestDatabase::private().await.unwrap();
    let admin = database.admin().await;
    for wall in &WALLS {
        let found = wall.read(&admin).await.unwrap();
        if std::env::var_os("AWOOOP_RENEW").is_some() {
            let path = format!("{}/walls/{}.txt", env!("CARGO_MANIFEST_DIR"), wall.name);
            std::fs::write(path, found).unwrap();
        } else {
            assert_eq!(
                found, wall.expected,
                "walls/{}.txt is stale; renew and review it: {RENEW}",
                wall.name
            );
        }
    }
}

#[tokio::test]
async fn every_table_of_projects_keeps_the_rules() {
    let database = TestDatabase::private().await.unwrap();
    assert_eq!(broken_rules(&database.app().await).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn the_doctor_names_whatever_was_changed_behind_the_servers_back() {
    let test = TestStore::private().await;
    assert_eq!(test.store.examine().await.unwrap(), []);
    let admin = test.database().admin().await;
    let row = admin.query_one("SELECT current_database()::text", &[]).await.unwrap();
    let database: String = row.get(0);
    for (done, undone, named) in [
        (
            "GRANT DELETE ON awooop.audit_event TO awooop_app",
            "REVOKE DELETE ON awooop.audit_event FROM awooop_app",
            "audit_event: awooop_app DELETE",
        ),
        (
            "GRANT SELECT ON awooop.api_key TO PUBLIC",
            "REVOKE SELECT ON awooop.api_key FROM PUBLIC",
            "api_key: PUBLIC SELECT",
        ),
        (
            "GRANT SELECT (input) ON awooop.run_state TO awooop_dispatch",
            "REVOKE SELECT (input) ON awooop.run_state FROM awooop_dispatch",
            "input",
        ),
        (
            "CREATE POLICY more ON awooop.run_state TO awooop_app USING (true)",
            "DROP POLICY more ON awooop.run_state",
            "lets awooop_app see other projects",
        ),
        (
            "ALTER POLICY tenant ON awooop.budget USING (true)",
            "ALTER POLICY tenant ON awooop.budget USING (project_id = current_setting('awooop.project_id', true))",
            "budget: tenant for ALL",
        ),
        (
            "ALTER TABLE awooop.run_state NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE awooop.run_state FORCE ROW LEVEL SECURITY",
            "run_state is not under FORCE ROW LEVEL SECURITY",
        ),
        (
            "ALTER TABLE awooop.run_state DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE awooop.run_state ENABLE ROW LEVEL SECURITY",
            "run_state is not under FORCE ROW LEVEL SECURITY",
        ),
        (
            "ALTER FUNCTION awooop.set_project(text) SECURITY DEFINER",
            "ALTER FUNCTION awooop.set_project(text) SECURITY INVOKER",
            "set_project runs with its owner's rights",
        ),
        (
            "CREATE FUNCTION awooop.more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "DROP FUNCTION awooop.more()",
            "more(): sql",
        ),
        (
            "CREATE RULE more AS ON INSERT TO awooop.run_state DO ALSO NOTIFY stolen",
            "DROP RULE more ON awooop.run_state",
            "run_state has the rule more",
        ),
        (
            "ALTER FUNCTION awooop.set_project(text) SET search_path = public",
            "ALTER FUNCTION awooop.set_project(text) RESET search_path",
            "with search_path=public",
        ),
        ("CREATE TABLE awooop.more (n int)", "DROP TABLE awooop.more", "more has no project"),
        (
            "CREATE INDEX more ON awooop.run_state (state)",
            "DROP INDEX awooop.more",
            "does not lead the index",
        ),
        (
            &format!("GRANT TEMPORARY ON DATABASE {database} TO PUBLIC"),
            &format!("REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC"),
            "may make temporary tables",
        ),
        (
            "GRANT CREATE ON SCHEMA public TO awooop_app",
            "REVOKE CREATE ON SCHEMA public FROM awooop_app",
            "may make objects in the schema public",
        ),
    ] {
        admin.batch_execute(done).await.unwrap_or_else(|e| panic!("{done}: {e:?}"));
        let found = test.store.examine().await.unwrap();
        assert!(found.iter().any(|f| f.message.contains(named)), "{done}: {named} is not in {found:#?}");
        admin.batch_execute(undone).await.unwrap_or_else(|e| panic!("{undone}: {e:?}"));
        assert_eq!(test.store.examine().await.unwrap(), [], "{undone}");
    }
}

#[tokio::test]
async fn applied_migrations_are_the_schema_the_server_expects() {
    let database = TestDatabase::private().await.unwrap();
    let app = database.app().await;
    let version: i64 = app.query_one("SELECT awooop.schema_version()", &[]).await.unwrap().get(0);
    assert_eq!(version, awooop_store::migrate::latest_version());
    let again = awooop_store::migrate::migrate(&database.urls().owner.clone().into()).await.unwrap();
    assert_eq!(again, Vec::<i64>::new(), "a second migration applies nothing");
}

#[tokio::test]
async fn roles_may_be_made_for_many_databases_at_once() {
    let database = TestDatabase::private().await.unwrap();
    let admin = database.urls().admin.clone().into();
    let making = (0..8).map(|_| awooop_store::migrate::create_roles(&admin, &[]));
    for made in futures::future::join_all(making).await {
        made.unwrap();
    }
}

#[tokio::test]
async fn a_role_that_could_step_over_the_wall_is_refused() {
    use awooop_store::keyring::Keyring;
    use awooop_store::pool::OpenError;
    use awooop_store::{Clock, DatabaseUrls, Store};
    let database = TestDatabase::private().await.unwrap();
    let keys = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let open = async |app: &str, dispatch: &str| {
        let urls = DatabaseUrls { app: app.to_owned().into(), dispatch: dispatch.to_owned().into() };
        let keyring = Keyring::load_or_create(keys.path(), clock.now()).unwrap();
        Store::open(&urls, clock.clone(), keyring).await.map(|store| store.close())
    };
    let urls = database.urls();
    assert!(open(&urls.app, &urls.dispatch).await.is_ok());
    for (app, dispatch, named) in [
        (&urls.admin, &urls.dispatch, "AWOOOP_DATABASE_URL"),
        (&urls.owner, &urls.dispatch, "AWOOOP_DATABASE_URL"),
        (&urls.app, &urls.admin, "AWOOOP_DISPATCH_DATABASE_URL"),
        (&urls.app, &urls.owner, "AWOOOP_DISPATCH_DATABASE_URL"),
    ] {
        let refused = open(app, dispatch).await.unwrap_err();
        assert!(matches!(refused, OpenError::UnsafeRole { variable, .. } if variable == named), "{refused}");
        assert!(refused.to_string().contains("refusing to start"), "{refused}");
    }
    let newer = "CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 99::bigint'";
    database.owner().await.batch_execute(newer).await.unwrap();
    let refused = open(&urls.app, &urls.dispatch).await.unwrap_err();
    assert!(matches!(refused, OpenError::NewerSchema { found: 99, .. }), "{refused}");
    let refused = open("host='127.0.0.1' port='nonsense'", &urls.dispatch).await.unwrap_err();
    assert!(matches!(refused, OpenError::Url { .. }), "{refused}");
}
