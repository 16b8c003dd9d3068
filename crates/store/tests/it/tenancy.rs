//! The wall between projects, in raw SQL as the server's own role, on every table that has a project.
//!
//! The tables come from the catalogue and their rows are made up from their columns, so a table that is
//! added later is tested without a word here.

use std::collections::BTreeMap;

use awooop_journeys::db::{TestDatabase, TestStore, connect};
use awooop_store::run::NewRun;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::stepping::new_run;

pub(crate) const MINE: &str = "mine";
pub(crate) const OTHER: &str = "other";
/// Tables that the server only reads.
const UNWRITTEN: [&str; 1] = ["audit_event_before"];

/// A table with an INSERT that makes a valid row of a project.
pub(crate) struct Table {
    pub(crate) name: String,
    columns: Vec<(String, String)>,
}

impl Table {
    /// The INSERT of one made-up row.
    pub(crate) fn insert(&self, project: &str) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let values: Vec<&str> = self.columns.iter().map(|(_, value)| value.as_str()).collect();
        let (names, values) = (names.join(", "), values.join(", "));
        format!("INSERT INTO {} (project_id, {names}) VALUES ('{project}', {values})", self.name)
            .replace("(project_id, )", "(project_id)")
            .replace("', )", "')")
    }
}

/// Required columns of every tenant table; where a check lists words, the first of them.
const COLUMNS: &str = r"
SELECT c.relname, a.attname, format_type(a.atttypid, NULL),
  (SELECT substring(pg_get_constraintdef(k.oid) FROM '''([^'']*)''') FROM pg_constraint k
   WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum] LIMIT 1)
FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE s.nspname = 'awooop' AND c.relkind IN ('r', 'p') AND a.attnotnull AND a.attname <> 'project_id' AND NOT a.atthasdef
  AND EXISTS (SELECT FROM pg_attribute p WHERE p.attrelid = c.oid AND p.attname = 'project_id')
ORDER BY c.relname, a.attnum";

const TABLE_NAMES: &str = "
SELECT c.relname::text FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
JOIN pg_attribute p ON p.attrelid = c.oid AND p.attname = 'project_id'
WHERE s.nspname = 'awooop' AND c.relkind IN ('r', 'p') ORDER BY 1";

pub(crate) async fn tables(admin: &Client) -> Vec<Table> {
    let mut columns: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for row in admin.query(TABLE_NAMES, &[]).await.unwrap() {
        columns.insert(row.get(0), Vec::new());
    }
    for row in admin.query(COLUMNS, &[]).await.unwrap() {
        let (table, column, kind): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        let value = match (kind, row.get::<_, Option<&str>>(3)) {
            ("text", Some(word)) => format!("'{word}'"),
            ("text", None) => "'x' || gen_random_uuid()".to_owned(),
            ("uuid", _) => "gen_random_uuid()".to_owned(),
            ("uuid[]", _) => "ARRAY[gen_random_uuid()]".to_owned(),
            ("integer" | "bigint" | "smallint", _) => "1".to_owned(),
            ("timestamp with time zone", _) => "now()".to_owned(),
            ("boolean", _) => "false".to_owned(),
            ("bytea", _) => r"'\x00'".to_owned(),
            _ => panic!("{table}.{column} has the type {kind}: say here what a value of it looks like"),
        };
        columns.entry(table.to_owned()).or_default().push((column.to_owned(), value));
    }
    let tables: Vec<Table> = columns.into_iter().map(|(name, columns)| Table { name, columns }).collect();
    assert!(tables.len() >= 20, "the catalogue lists the tables");
    tables
}

/// A database in which two projects have a row in every table.
pub(crate) async fn two_projects() -> (TestDatabase, Vec<Table>) {
    let database = TestDatabase::private().await.unwrap();
    let admin = database.admin().await;
    let tables = tables(&admin).await;
    // rows are made up, so they refer to nothing
    admin.batch_execute("SET session_replication_role = replica").await.unwrap();
    for table in &tables {
        for project in [MINE, OTHER] {
            let insert = table.insert(project);
            admin.batch_execute(&insert).await.unwrap_or_else(|e| panic!("{insert}: {e:?}"));
        }
    }
    (database, tables)
}

/// Binds a transaction as `set_project` does, which lets nobody into a deleted project: these have tombstones too.
pub(crate) async fn act_as(client: &Client, project: &str) {
    let project = project.replace('\'', "''");
    client.batch_execute(&format!("BEGIN; SET LOCAL awooop.project_id = '{project}'")).await.unwrap();
}

pub(crate) async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

/// Rows a statement changed, or `None` when the role lacks the privilege. The transaction goes on.
async fn changed(client: &Client, sql: &str) -> Option<u64> {
    client.batch_execute("SAVEPOINT s").await.unwrap();
    let result = client.execute(sql, &[]).await;
    client.batch_execute("ROLLBACK TO SAVEPOINT s").await.unwrap();
    match result {
        Ok(rows) => Some(rows),
        Err(e) if is_denied(&e) => None,
        Err(e) => panic!("{sql}: {e:?}"),
    }
}

pub(crate) fn is_denied(error: &Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

fn is_refused_by_policy(error: &Error) -> bool {
    is_denied(error) && error.as_db_error().is_some_and(|e| e.message().contains("row-level security"))
}

/// Nothing of `project` can be read, locked, changed, deleted or made.
async fn sees_nothing_of(client: &Client, table: &Table, project: &str) {
    let name = &table.name;
    let found = count(client, &format!("SELECT count(*) FROM {name} WHERE project_id = '{project}'")).await;
    assert_eq!(found, 0, "{name}: rows of {project} are visible");
    for sql in [
        format!("UPDATE {name} SET project_id = project_id WHERE project_id = '{project}'"),
        format!("DELETE FROM {name} WHERE project_id = '{project}'"),
        format!("SELECT 1 FROM {name} WHERE project_id = '{project}' FOR UPDATE"),
        format!("SELECT 1 FROM {name} WHERE project_id = '{project}' FOR SHARE"),
    ] {
        assert!(matches!(changed(client, &sql).await, None | Some(0)), "{sql}");
    }
    assert_cannot_insert(client, table, project).await;
}

async fn assert_cannot_insert(client: &Client, table: &Table, project: &str) {
    client.batch_execute("SAVEPOINT s").await.unwrap();
    let insert = table.insert(project);
    let refused = client.batch_execute(&insert).await.expect_err(&insert);
    let is_refused = match UNWRITTEN.contains(&table.name.as_str()) {
        true => is_denied(&refused),
        false => is_refused_by_policy(&refused),
    };
    assert!(is_refused, "{insert}: {refused:?}");
    client.batch_execute("ROLLBACK TO SAVEPOINT s").await.unwrap();
}

#[tokio::test]
async fn a_project_reaches_only_its_own_rows_in_every_table() {
    let (database, tables) = two_projects().await;
    let app = database.app().await;
    for table in &tables {
        act_as(&app, MINE).await;
        let name = &table.name;
        assert_eq!(count(&app, &format!("SELECT count(*) FROM {name}")).await, 1, "{name}: its own row");
        sees_nothing_of(&app, table, OTHER).await;
        // not even by giving a row of its own away
        let give = format!("UPDATE {name} SET project_id = '{OTHER}' WHERE project_id = '{MINE}'");
        app.batch_execute("SAVEPOINT s").await.unwrap();
        let refused = app.batch_execute(&give).await.expect_err(&give);
        assert!(is_denied(&refused), "{give}: {refused:?}");
        app.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn without_a_project_no_table_has_rows() {
    let (database, tables) = two_projects().await;
    let fresh = database.app().await;
    let used = database.app().await;
    for end in ["COMMIT", "ROLLBACK"] {
        act_as(&used, MINE).await;
        used.batch_execute(end).await.unwrap();
        for table in &tables {
            for client in [&fresh, &used] {
                client.batch_execute("BEGIN").await.unwrap();
                for project in [MINE, OTHER] {
                    sees_nothing_of(client, table, project).await;
                }
                client.batch_execute("ROLLBACK").await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn after_a_reset_and_after_an_error_no_table_has_rows() {
    let (database, tables) = two_projects().await;
    let app = database.app().await;
    for table in &tables {
        act_as(&app, MINE).await;
        app.batch_execute("RESET awooop.project_id").await.unwrap();
        sees_nothing_of(&app, table, MINE).await;
        app.batch_execute("ROLLBACK").await.unwrap();

        act_as(&app, MINE).await;
        app.batch_execute("SELECT 1/0").await.unwrap_err();
        app.batch_execute("COMMIT").await.unwrap(); // answers ROLLBACK
        assert_eq!(count(&app, &format!("SELECT count(*) FROM {}", table.name)).await, 0, "{}", table.name);
    }
}

#[tokio::test]
async fn odd_project_names_are_just_names_without_rows() {
    let (database, tables) = two_projects().await;
    let app = database.app().await;
    for odd in ["", "mine ", "MINE", "mine' OR '1'='1", "%", "*", "m\u{131}ne", "other,mine"] {
        act_as(&app, odd).await;
        for table in &tables {
            assert_eq!(count(&app, &format!("SELECT count(*) FROM {}", table.name)).await, 0, "{odd:?}");
        }
        app.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn the_server_s_roles_cannot_take_the_wall_down() {
    let (database, tables) = two_projects().await;
    for client in [database.app().await, database.dispatch().await] {
        for table in &tables {
            let name = &table.name;
            for sql in [
                format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"),
                format!("ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY"),
                format!("DROP POLICY tenant ON {name}"),
                format!("CREATE POLICY mine ON {name} USING (true)"),
                format!("TRUNCATE {name}"),
                format!("DROP TABLE {name}"),
                format!("ALTER TABLE {name} OWNER TO CURRENT_USER"),
                format!(
                    "CREATE TRIGGER t AFTER INSERT ON {name} EXECUTE FUNCTION suppress_redundant_updates_trigger()"
                ),
            ] {
                let refused = client.batch_execute(&sql).await.expect_err(&sql);
                assert!(is_denied(&refused), "{sql}: {refused:?}");
            }
        }
        for sql in [
            "SET ROLE awooop_owner",
            "SET SESSION AUTHORIZATION awooop_owner",
            "SET session_replication_role = replica",
            "CREATE TABLE awooop.t (n int)",
            "CREATE TABLE public.t (n int)",
            "CALL awooop.protect('project', 'SELECT')",
            "ALTER ROLE CURRENT_USER BYPASSRLS",
            "CREATE ROLE x",
            "COPY (SELECT 1) TO PROGRAM 'cat'",
        ] {
            let refused = client.batch_execute(sql).await.expect_err(sql);
            assert!(is_denied(&refused), "{sql}: {refused:?}");
        }
    }
    // asking for no row security is an error, not a way around it
    let app = database.app().await;
    app.batch_execute("SET row_security = off").await.unwrap();
    assert!(is_denied(&app.batch_execute("SELECT * FROM run_state").await.unwrap_err()));
}

#[tokio::test]
async fn the_owner_too_sees_nothing_without_a_project() {
    let (database, tables) = two_projects().await;
    let owner = database.owner().await;
    for table in &tables {
        assert_eq!(count(&owner, &format!("SELECT count(*) FROM {}", table.name)).await, 0, "{}", table.name);
    }
}

#[tokio::test]
async fn discovery_sees_where_work_lies_and_nothing_of_what_it_is() {
    let (database, tables) = two_projects().await;
    let dispatch = database.dispatch().await;
    assert_eq!(count(&dispatch, "SELECT count(DISTINCT project_id) FROM run_queue").await, 2);
    for table in &tables {
        let name = &table.name;
        act_as(&dispatch, MINE).await;
        for sql in [
            format!("SELECT * FROM {name}"),
            table.insert(MINE),
            format!("DELETE FROM {name}"),
            format!("UPDATE {name} SET project_id = project_id"),
        ] {
            assert_eq!(changed(&dispatch, &sql).await, None, "{sql}");
        }
        dispatch.batch_execute("ROLLBACK").await.unwrap();
    }
    for hidden in [
        "input FROM run_state",
        "display_name FROM project",
        "agent_id FROM run_queue",
        "run_ids FROM run_lease",
    ] {
        let refused = dispatch.batch_execute(&format!("SELECT {hidden}")).await.expect_err(hidden);
        assert!(is_denied(&refused), "{hidden}: {refused:?}");
    }
}

#[tokio::test]
async fn nobody_inherits_a_project_from_a_connection_that_failed_or_was_left() {
    let test = TestStore::private().await;
    let (a, b) = (test.project().await, test.project().await);
    let of = async |project: &awooop_journeys::db::TestProject| {
        let found = test.store.list_contracts(&project.scope).await.unwrap();
        found.iter().filter(|c| c.version.document["project"] == project.id.as_str()).count() == found.len()
            && found.len() == 3
    };
    let admin = connect(&test.database().urls().admin).await.unwrap();
    let impossible = NewRun { priority: 99, ..new_run(&test.store, &a).await };
    for turn in 0..40u32 {
        // a statement that the database refuses, in a transaction of A
        let refused = test.store.create_run(&a.scope, &impossible).await;
        assert!(refused.is_err(), "the database knows no such priority");
        // a transaction of A whose caller goes away after some polls
        let mut left = Box::pin(test.store.list_contracts(&a.scope));
        for _ in 0..turn {
            if futures::poll!(left.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(left);
        assert!(of(&b).await, "turn {turn}: B reads its own contracts");
        assert!(of(&a).await, "turn {turn}: A reads its own contracts");
    }
    // the ones that were left end: nothing stays open in a transaction
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND state LIKE 'idle in transaction%' AND application_name = 'awooop'";
    let mut left = count(&admin, open).await;
    for _ in 0..200 {
        if left == 0 {
            break;
        }
        tokio::task::yield_now().await;
        left = count(&admin, open).await;
    }
    assert_eq!(left, 0, "a connection was left in a transaction");
}
