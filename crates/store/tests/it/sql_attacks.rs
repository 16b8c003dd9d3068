//! Whoever could put SQL of their own into the server's connection, as if every defence before it had failed: what the
//! database still refuses, and what is left. `docs/security/tenancy.md` says the same to people; what is left (naming
//! another project) stands there with what limits it, and in the last test here.

use awooop_journeys::db::{TestDatabase, TestStore};
use awooop_store::run::NewRun;
use futures::{StreamExt, pin_mut};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::stepping::new_run;
use crate::tenancy::{MINE, OTHER, Table, act_as, count, is_denied, two_projects};

/// What one says comes back, or the code it is refused with. The transaction goes on.
async fn attempt(client: &Client, sql: &str) -> Result<Vec<String>, SqlState> {
    client.batch_execute("SAVEPOINT attempt").await.unwrap();
    match client.simple_query(sql).await {
        Ok(messages) => {
            client.batch_execute("RELEASE SAVEPOINT attempt").await.unwrap();
            let cells = |message: &SimpleQueryMessage| match message {
                SimpleQueryMessage::Row(row) => {
                    (0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()).collect()
                }
                _ => Vec::new(),
            };
            Ok(messages.iter().flat_map(cells).collect())
        }
        Err(error) => {
            client.batch_execute("ROLLBACK TO SAVEPOINT attempt").await.unwrap();
            Err(error.code().unwrap_or_else(|| panic!("{sql}: {error:?}")).clone())
        }
    }
}

#[tokio::test]
async fn no_shape_of_query_reads_or_writes_another_projects_rows() {
    let (database, tables) = two_projects().await;
    let app = database.app().await;
    for Table { name, .. } in &tables {
        act_as(&app, MINE).await;
        for sql in [
            format!("WITH a AS (WITH b AS (SELECT * FROM {name}) SELECT * FROM b) SELECT project_id FROM a"),
            format!("SELECT project_id FROM {name} UNION ALL SELECT project_id FROM {name}"),
            format!("SELECT (SELECT string_agg(DISTINCT project_id, ',') FROM {name})"),
            format!("SELECT b.project_id FROM {name} a RIGHT JOIN {name} b ON true"),
            format!("SELECT l.project_id FROM (SELECT 1) x, LATERAL (SELECT * FROM {name}) l"),
            format!("SELECT project_id FROM {name} WHERE project_id <> '{MINE}' OR true"),
            format!("SELECT query_to_xml('SELECT project_id FROM awooop.{name}', true, false, '')"),
            format!("SELECT table_to_xml('awooop.{name}', true, false, '')"),
            format!("SELECT project_id FROM {name} TABLESAMPLE SYSTEM (100)"),
            format!("TABLE {name}"),
        ] {
            let Ok(cells) = attempt(&app, &sql).await else { continue };
            assert!(!cells.iter().any(|cell| cell.contains(OTHER)), "{sql}: {cells:?}");
        }
        // a filter that fails on another's row would tell that it exists
        let telling =
            format!("SELECT 1 FROM {name} WHERE 1 / (CASE project_id WHEN '{OTHER}' THEN 0 ELSE 1 END) = 1");
        assert!(attempt(&app, &telling).await.is_ok(), "{telling}");
        for sql in [
            format!("WITH d AS (DELETE FROM {name} RETURNING project_id) SELECT project_id FROM d"),
            format!("DO $$ BEGIN DELETE FROM {name} WHERE project_id = '{OTHER}'; END $$"),
            format!("DO $$ BEGIN EXECUTE 'DELETE FROM ' || '{name}'; END $$"),
            format!(
                "MERGE INTO {name} t USING (SELECT 1) s ON t.project_id = '{OTHER}' WHEN MATCHED THEN DELETE"
            ),
        ] {
            let _ = attempt(&app, &sql).await;
        }
        app.batch_execute("COMMIT").await.unwrap();
        let admin = database.admin().await;
        let left = format!("SELECT count(*) FROM {name} WHERE project_id = '{OTHER}'");
        assert_eq!(count(&admin, &left).await, 1, "{name}: the other's row is there");
    }
}

#[tokio::test]
async fn copying_out_copies_ones_own_and_copying_in_is_refused() {
    let (database, tables) = two_projects().await;
    let app = database.app().await;
    for Table { name, .. } in &tables {
        act_as(&app, MINE).await;
        if let Ok(rows) = app.copy_out(&format!("COPY {name} TO STDOUT")).await {
            pin_mut!(rows);
            while let Some(row) = rows.next().await {
                let row = String::from_utf8_lossy(&row.unwrap()).into_owned();
                assert!(row.split('\t').any(|cell| cell == MINE) && !row.contains(OTHER), "{name}: {row}");
            }
        }
        let refused = app.batch_execute(&format!("COPY {name} FROM STDIN")).await.unwrap_err();
        let code = refused.code().unwrap();
        assert!(*code == SqlState::FEATURE_NOT_SUPPORTED || is_denied(&refused), "{name}: {refused:?}");
        app.batch_execute("ROLLBACK").await.unwrap();
    }
    for sql in [
        "COPY run_state TO '/tmp/awooop-stolen'",
        "COPY run_state FROM '/etc/passwd'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_read_file('global/pg_filenode.map')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT pg_current_logfile()",
        "SELECT * FROM pg_hba_file_rules",
        "SELECT rolpassword FROM pg_authid",
        "SELECT * FROM pg_statistic",
        "SELECT umoptions FROM pg_user_mapping",
    ] {
        let refused = app.simple_query(sql).await.expect_err(sql);
        assert!(is_denied(&refused), "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn no_role_can_be_taken_and_nothing_can_be_made_that_outlives_the_statement() {
    let (database, _) = two_projects().await;
    for client in [database.app().await, database.dispatch().await] {
        for sql in [
            "SET ROLE awooop_owner",
            "SET ROLE awooop_retention",
            "SET ROLE pg_read_all_data",
            "SET SESSION AUTHORIZATION awooop_owner",
            "ALTER ROLE awooop_app SUPERUSER",
            "ALTER ROLE awooop_app SET awooop.project_id = 'other'",
            "ALTER DATABASE template1 SET search_path = public",
            "GRANT awooop_owner TO awooop_app",
            "CREATE TEMP TABLE run_state (project_id text)",
            "CREATE TEMP VIEW run_state AS SELECT 1",
            "CREATE TABLE stolen AS SELECT 1",
            "SELECT 1 AS one INTO TEMP stolen",
            "CREATE FUNCTION awooop.set_project(p text, q text) RETURNS void LANGUAGE sql AS 'SELECT 1'",
            "CREATE OR REPLACE FUNCTION awooop.set_project(p text) RETURNS void LANGUAGE sql AS 'SELECT 1'",
            "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE SCHEMA mine",
            "CREATE EXTENSION dblink",
            "CREATE EXTENSION pgcrypto",
            "CREATE FOREIGN DATA WRAPPER f",
            "CREATE PUBLICATION p FOR ALL TABLES",
            "CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION awooop.schema_version()",
            "CREATE RULE r AS ON SELECT TO awooop.run_state DO INSTEAD NOTHING",
            "CREATE OPERATOR awooop.= (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
            "CREATE CAST (text AS int) WITH INOUT",
            "ALTER FUNCTION awooop.set_project(text) SECURITY DEFINER",
            "COMMENT ON TABLE awooop.run_state IS 'mine'",
            "CREATE STATISTICS awooop.s ON project_id, run_id FROM awooop.run_state",
            "SET session_replication_role = replica",
            "ALTER SYSTEM SET row_security = off",
            "SET zero_damaged_pages = on",
            "LOAD 'auto_explain'",
            "SELECT pg_reload_conf()",
            "SELECT pg_create_restore_point('x')",
            "SELECT pg_logical_slot_get_changes('x', NULL, NULL)",
        ] {
            let refused = client.batch_execute(sql).await.expect_err(sql);
            let is_refused = is_denied(&refused)
                || refused.code() == Some(&SqlState::INVALID_PARAMETER_VALUE)
                || refused.code() == Some(&SqlState::INVALID_SCHEMA_NAME);
            assert!(is_refused, "{sql}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn a_search_path_left_by_others_finds_no_other_tables() {
    let (database, tables) = two_projects().await;
    let app = database.app().await;
    for path in ["pg_temp, public", "pg_temp, awooop", "public, awooop", "pg_catalog"] {
        app.batch_execute(&format!("SET search_path = {path}")).await.unwrap();
        act_as(&app, MINE).await;
        for Table { name, .. } in &tables {
            // either the table itself, or none of this name
            match attempt(&app, &format!("SELECT DISTINCT project_id FROM {name}")).await {
                Ok(cells) => assert_eq!(cells, [MINE], "{path}: {name}"),
                Err(code) => assert_eq!(code, SqlState::UNDEFINED_TABLE, "{path}: {name}"),
            }
        }
        app.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn a_project_set_for_a_session_is_not_the_next_ones() {
    // what an injected statement left in a pooled connection does not reach who gets it next: every transaction names
    // its own project before anything else
    let test = TestStore::private().await;
    let (a, b) = (test.project().await, test.project().await);
    let app = test.database().app().await;
    app.batch_execute(&format!("SET awooop.project_id = '{}'", b.id)).await.unwrap();
    act_as(&app, a.id.as_str()).await;
    let seen = attempt(&app, "SELECT DISTINCT project_id FROM contract").await.unwrap();
    assert_eq!(seen, [a.id.as_str()]);
    app.batch_execute("COMMIT").await.unwrap();
    let discarded = ["DISCARD ALL", "RESET ALL", "RESET awooop.project_id", "SET awooop.project_id = ''"];
    for reset in discarded {
        app.batch_execute(reset).await.unwrap();
        assert_eq!(count(&app, "SELECT count(*) FROM awooop.contract").await, 0, "{reset}");
    }
}

#[tokio::test]
async fn keys_of_other_projects_rows_are_not_told_by_conflicts() {
    let (database, tables) = two_projects().await;
    let (admin, app) = (database.admin().await, database.app().await);
    for Table { name, .. } in &tables {
        let theirs = format!("SELECT row_to_json(t)::text FROM {name} t WHERE project_id = '{OTHER}'");
        let theirs: String = admin.query_one(&theirs, &[]).await.unwrap().get(0);
        act_as(&app, MINE).await;
        let copy =
            format!("INSERT INTO {name} SELECT * FROM json_populate_record(NULL::{name}, $1::text::json)");
        // a row in the other's name is refused before any key is compared
        app.batch_execute("SAVEPOINT s").await.unwrap();
        let refused = app.execute(&copy, &[&theirs]).await.unwrap_err();
        assert!(is_denied(&refused), "{name}: {refused:?}");
        app.batch_execute("ROLLBACK TO SAVEPOINT s").await.unwrap();
        // and the same key in one's own name meets no other's
        let own = theirs.replace(&format!("\"{OTHER}\""), &format!("\"{MINE}\""));
        if let Err(refused) = app.execute(&copy, &[&own]).await {
            let detail = refused.as_db_error().and_then(|e| e.detail()).unwrap_or_default();
            assert!(!detail.contains(OTHER), "{name}: {refused:?}");
        }
        app.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn the_catalogue_tells_structure_and_no_content() {
    let canary = "canary-4f1d";
    let test = TestStore::private().await;
    let (a, b) = (test.project().await, test.project().await);
    let run = NewRun { input: serde_json::json!({ "secret": canary }), ..new_run(&test.store, &b).await };
    test.store.create_run(&b.scope, &run).await.unwrap();
    test.database().admin().await.batch_execute("ANALYZE").await.unwrap();
    for client in [test.database().app().await, test.database().dispatch().await] {
        act_as(&client, a.id.as_str()).await;
        for view in [
            "pg_stats",
            "pg_stats_ext",
            "pg_stat_activity",
            "pg_prepared_statements",
            "pg_cursors",
            "pg_settings",
            "pg_locks",
            "pg_stat_user_tables",
            "pg_class",
            "pg_proc",
            "pg_description",
            "pg_largeobject_metadata",
            "information_schema.columns",
        ] {
            let found = attempt(&client, &format!("SELECT v::text FROM {view} v")).await.unwrap_or_default();
            for word in [canary, b.id.as_str()] {
                assert!(!found.iter().any(|row| row.contains(word)), "{view} tells {word}");
            }
        }
        client.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn what_is_left_is_naming_another_project_and_being_a_nuisance() {
    // not refused: the server's own role is trusted with the name
    let (database, _): (TestDatabase, _) = two_projects().await;
    let app = database.app().await;
    act_as(&app, MINE).await;
    let seen = attempt(
        &app,
        &format!("SET LOCAL awooop.project_id = '{OTHER}'; SELECT DISTINCT project_id FROM run_state"),
    )
    .await;
    assert_eq!(seen.unwrap().last().map(String::as_str), Some(OTHER));
    // and what has been written to the audit by then cannot be unwritten
    for sql in [
        "DELETE FROM audit_event",
        "UPDATE audit_event SET actor = 'x'",
        "TRUNCATE audit_event",
        "DELETE FROM audit_seal",
    ] {
        assert_eq!(attempt(&app, sql).await, Err(SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }
}
