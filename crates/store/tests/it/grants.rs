//! Who may do what, as the catalogue says it: a snapshot of every privilege and every policy, and the
//! rules each table of a project has to keep.

use std::fmt::Write;

use awooop_journeys::db::TestDatabase;
use tokio_postgres::Client;

/// One line a row, its columns joined.
async fn lines(client: &Client, sql: &str) -> String {
    let mut text = String::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let line: String = row.get(0);
        writeln!(text, "{line}").unwrap();
    }
    text
}

const PRIVILEGES: &str = "
SELECT line FROM (
  SELECT c.relname || ': ' || coalesce(r.rolname, 'PUBLIC') || ' '
         || string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS line
  FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace,
    aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
  WHERE s.nspname = 'awooop' AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND a.grantee <> c.relowner
  GROUP BY c.relname, r.rolname
  UNION ALL
  SELECT c.relname || ' (' || string_agg(t.attname, ', ' ORDER BY t.attnum) || '): '
         || coalesce(r.rolname, 'PUBLIC') || ' ' || a.privilege_type
  FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
    JOIN pg_attribute t ON t.attrelid = c.oid AND t.attnum > 0,
    aclexplode(t.attacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
  WHERE s.nspname = 'awooop'
  GROUP BY c.relname, r.rolname, a.privilege_type
  UNION ALL
  SELECT p.proname || '(): ' || coalesce(r.rolname, 'PUBLIC') || ' ' || a.privilege_type
  FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace,
    aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a LEFT JOIN pg_roles r ON r.oid = a.grantee
  WHERE s.nspname = 'awooop' AND a.grantee <> p.proowner
  UNION ALL
  SELECT 'schema ' || s.nspname || ': ' || coalesce(r.rolname, 'PUBLIC') || ' '
         || string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type)
  FROM pg_namespace s, aclexplode(s.nspacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
  WHERE s.nspname = 'awooop' AND a.grantee <> s.nspowner
  GROUP BY s.nspname, r.rolname
) x ORDER BY line COLLATE \"C\"";

const POLICIES: &str = "
SELECT tablename || ': ' || policyname || ' for ' || cmd || ' to ' || array_to_string(roles, ', ') || ' ' || permissive
  || E'\\n    using ' || coalesce(qual, '-') || E'\\n    with check ' || coalesce(with_check, '-')
FROM pg_policies WHERE schemaname = 'awooop' ORDER BY tablename COLLATE \"C\", policyname COLLATE \"C\"";

const ROLES: &str = "
SELECT rolname || ': superuser=' || rolsuper || ' bypassrls=' || rolbypassrls || ' createdb=' || rolcreatedb
  || ' createrole=' || rolcreaterole || ' replication=' || rolreplication || ' login=' || rolcanlogin
  || ' member of=' || coalesce((SELECT string_agg(g.rolname, ', ') FROM pg_auth_members m
       JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid), '-')
FROM pg_roles r WHERE rolname IN ('awooop_owner', 'awooop_app', 'awooop_dispatch', 'awooop_retention') ORDER BY rolname";

#[tokio::test]
async fn privileges_and_policies_are_those_that_were_reviewed() {
    let database = TestDatabase::shared().await.unwrap();
    let admin = database.admin().await;
    insta::assert_snapshot!("privileges", lines(&admin, PRIVILEGES).await);
    insta::assert_snapshot!("policies", lines(&admin, POLICIES).await);
    insta::assert_snapshot!("roles", lines(&admin, ROLES).await);
}

/// Tables, owners and functions that break a rule, each as a sentence. An empty text is good news.
const BROKEN_RULES: &str = "
WITH t AS (
  SELECT c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity, c.relowner,
    EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'project_id') AS has_project
  FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = 'awooop' AND c.relkind IN ('r', 'p'))
SELECT relname || ' has no project and is not one of the global tables' FROM t
  WHERE NOT has_project AND relname NOT IN ('worker_beat', 'halt_all', 'refinery_schema_history')
UNION ALL
SELECT relname || ' has no forced row security' FROM t
  WHERE has_project AND NOT (relrowsecurity AND relforcerowsecurity)
UNION ALL
SELECT relname || ' is not owned by awooop_owner' FROM t
  WHERE relowner <> (SELECT oid FROM pg_roles WHERE rolname = 'awooop_owner')
UNION ALL
SELECT relname || ': project_id may be null' FROM t JOIN pg_attribute a ON a.attrelid = t.oid
  WHERE has_project AND a.attname = 'project_id' AND NOT a.attnotnull
UNION ALL
SELECT relname || ' has no primary key' FROM t
  WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'p')
UNION ALL
SELECT relname || ': project_id does not lead ' || k.conname FROM t JOIN pg_constraint k ON k.conrelid = t.oid
  WHERE has_project AND k.contype IN ('p', 'u', 'f')
    AND (SELECT attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = k.conkey[1]) <> 'project_id'
UNION ALL
SELECT relname || ': ' || k.conname || ' does not tie the projects of both tables' FROM t
  JOIN pg_constraint k ON k.conrelid = t.oid
  WHERE k.contype = 'f'
    AND (SELECT attname FROM pg_attribute a WHERE a.attrelid = k.confrelid AND a.attnum = k.confkey[1]) <> 'project_id'
UNION ALL
SELECT relname || ': project_id does not lead the index ' || i.indexrelid::regclass FROM t
  JOIN pg_index i ON i.indrelid = t.oid
  WHERE has_project AND (SELECT attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = i.indkey[0]) <> 'project_id'
UNION ALL
SELECT relname || ' has a trigger' FROM t JOIN pg_trigger g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal
UNION ALL
SELECT relname || ': the policy ' || p.polname || ' lets ' || r.rolname || ' see other projects' FROM t
  JOIN pg_policy p ON p.polrelid = t.oid JOIN pg_roles r ON r.oid = ANY (p.polroles)
  WHERE has_project AND p.polname <> 'tenant' AND (r.rolname <> 'awooop_dispatch' OR p.polcmd <> 'r')
UNION ALL
SELECT p.proname || ' runs with its owner''s rights' FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
  WHERE s.nspname = 'awooop' AND p.prosecdef";

#[tokio::test]
async fn every_table_of_projects_keeps_the_rules() {
    let database = TestDatabase::shared().await.unwrap();
    assert_eq!(lines(&database.admin().await, BROKEN_RULES).await, "");
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
    assert!(matches!(refused, OpenError::Schema { found: 99, .. }), "{refused}");
    let refused = open("host='127.0.0.1' port='nonsense'", &urls.dispatch).await.unwrap_err();
    assert!(matches!(refused, OpenError::Url { .. }), "{refused}");
}
