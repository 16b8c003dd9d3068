//! Exporting a project: every table is in it or left out for a reason, all of one moment, of no other project, and without
//! a secret.

use std::collections::BTreeMap;

use awooop_core::role::Role;
use awooop_journeys::db::{TestProject, TestStore};
use awooop_store::StoreError;
use awooop_store::export::{Export, ExportError, KINDS, LEFT_OUT};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::audit::{events, seal};
use crate::stepping::{call, claim_one, create_many, done, soon, step, worker};
use crate::tenancy::tables;

/// The rows of an export, by kind.
async fn read(mut export: Export) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    while let Some(lines) = export.next().await.unwrap() {
        assert!(lines.ends_with(b"\n"));
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mut line: Value = serde_json::from_slice(line).unwrap();
            let kind = line["kind"].as_str().unwrap().to_owned();
            found.entry(kind).or_default().push(line["row"].take());
        }
    }
    found
}

async fn fill(test: &TestStore, project: &TestProject) {
    create_many(&test.store, project, 3).await;
    let run = claim_one(&test.store, project, &worker("w")).await;
    let hold = test.store.reserve(&run, 1, 100, soon(&test.store)).await.unwrap();
    test.store.settle(&project.scope, &hold.settle(40, false)).await.unwrap();
    test.store.record_step(&run, &step(&test.store, 1), None, Some(&call(&test.store))).await.unwrap();
    test.store.end_run(&run, &done(), None, true).await.unwrap();
    test.key_of(project, "mei", Role::Viewer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_column_of_a_project_is_exported_or_left_out_by_name() {
    let test = TestStore::private().await;
    let admin = test.database().admin().await;
    let sql = "SELECT c.relname::text, a.attname::text FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'awooop'::regnamespace AND c.relkind IN ('r', 'p')
          AND EXISTS (SELECT FROM pg_attribute p WHERE p.attrelid = c.oid AND p.attname = 'project_id')";
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in admin.query(sql, &[]).await.unwrap() {
        columns.entry(row.get(0)).or_default().push(row.get(1));
    }
    for (table, reason) in LEFT_OUT {
        assert!(columns.remove(*table).is_some(), "{table} is no table");
        assert!(!reason.is_empty());
    }
    for kind in KINDS {
        let mut there = columns.remove(kind.table).unwrap_or_else(|| panic!("{} is no table", kind.table));
        let shown = kind.columns.iter().map(|column| column.trim_end_matches("::json"));
        let mut said: Vec<&str> = shown.chain(kind.hidden.iter().copied()).collect();
        if !said.contains(&"project_id") {
            said.push("project_id");
        }
        said.sort_unstable();
        there.sort_unstable();
        assert_eq!(said, there, "{}", kind.table);
    }
    assert_eq!(columns.keys().collect::<Vec<_>>(), Vec::<&String>::new(), "say what becomes of these tables");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_the_project_s_rows_as_they_are_and_nobody_else_s() {
    let test = TestStore::private().await;
    let (project, other) = (test.project().await, test.project().await);
    for project in [&project, &other] {
        fill(&test, project).await;
        seal(&test, project).await;
    }
    let kept = events(&test, &project).await;
    let found = read(test.store.export_project(&project.scope).await.unwrap()).await;
    let text = serde_json::to_string(&found).unwrap();
    assert!(!text.contains(other.id.as_str()), "nothing of another project");
    for secret in [project.admin_key.expose_secret(), test.platform_key.expose_secret()] {
        let secret = secret.rsplit('_').next().unwrap();
        assert!(!text.contains(secret));
    }
    for hidden in ["secret_hmac", "tag_salt", "pepper"] {
        assert!(!text.contains(hidden), "{hidden}");
    }
    let begin = &found["begin"][0];
    assert_eq!(begin["project_id"], project.id.as_str());
    assert_eq!(begin["schema_version"], awooop_store::migrate::latest_version());
    let admin = test.database().admin().await;
    for kind in KINDS {
        let sql = format!("SELECT count(*) FROM awooop.{} WHERE project_id = $1", kind.table);
        let mut n: i64 = admin.query_one(&sql, &[&project.id.as_str()]).await.unwrap().get(0);
        if kind.table == "audit_event" {
            // that there was an export is recorded after its moment
            n -= 1;
        }
        let rows = found.get(kind.name).map_or(0, Vec::len);
        assert_eq!(rows as i64, n, "{}", kind.name);
        assert_eq!(found["end"][0]["rows"][kind.name], n, "{}", kind.name);
    }
    let run = found["runs"].iter().find(|run| run["state"] == "completed").unwrap();
    assert_eq!((&run["input"], &run["output"]["answer"]), (&"a question".into(), &"42".into()));
    assert!(run["created_at"].as_str().unwrap().ends_with("+00:00"), "{run}");
    // the audit's own lines: what a check of exported files reads
    let lines: Vec<Value> = kept.iter().map(|event| serde_json::from_slice(&event.line()).unwrap()).collect();
    assert_eq!(found["audit_events"], lines);
    assert_eq!(events(&test, &project).await.last().unwrap().action, "project.export");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_shows_one_moment_whatever_happens_meanwhile() {
    let test = TestStore::private().await;
    let project = test.project().await;
    create_many(&test.store, &project, 200).await;
    let mut export = test.store.export_project(&project.scope).await.unwrap();
    export.next().await.unwrap().unwrap();
    create_many(&test.store, &project, 5).await;
    let found = read(export).await;
    assert_eq!(found["runs"].len(), 200);
    let created = found["audit_events"].iter().filter(|event| event["action"] == "run.create").count();
    assert_eq!(created, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_export_of_a_project_at_a_time_over_all_nodes_and_few_on_one() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let node = test.through(test.database().urls()).await;
    let first = test.store.export_project(&project.scope).await.unwrap();
    let events_before = events(&test, &project).await.len();
    for store in [&test.store, &node] {
        let refused = store.export_project(&project.scope).await;
        assert!(matches!(refused, Err(ExportError::TooMany(_))));
    }
    assert_eq!(events(&test, &project).await.len(), events_before, "who was refused left no trace");
    let mut others = Vec::new();
    loop {
        let other = test.project().await;
        match test.store.export_project(&other.scope).await {
            Ok(export) => others.push(export),
            Err(ExportError::TooMany(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(others.len(), 3);
    drop(others);
    // an export whose reader went away ends, and makes room
    drop(first);
    let mut tries = 0;
    while let Err(error) = test.store.export_project(&project.scope).await {
        assert!(matches!(error, ExportError::TooMany(_)), "{error}");
        tries += 1;
        assert!(tries < 1000, "the first one's transaction is gone by now");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_can_be_read_whatever_a_row_in_it_says() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let admin = test.database().admin().await;
    admin.batch_execute("SET session_replication_role = replica").await.unwrap();
    let json = ["input", "output", "body", "arguments", "spec", "definition", "finds"];
    for table in tables(&admin).await {
        if LEFT_OUT.iter().any(|(name, _)| *name == table.name) {
            continue;
        }
        // rows that are there already stand for themselves
        let _ = admin.batch_execute(&table.insert(project.id.as_str())).await;
        for column in json {
            let sql = format!("UPDATE {} SET {column} = '{{\"a\": \"\\u0000\"}}'", table.name);
            let _ = admin.batch_execute(&sql).await;
        }
    }
    let found = read(test.store.export_project(&project.scope).await.unwrap()).await;
    for kind in KINDS {
        assert!(found["end"][0]["rows"][kind.name].as_u64().unwrap() > 0, "{}", kind.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_deleted_or_absent_project_there_is_no_export() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let by = test.store.authenticate(test.platform_key.expose_secret()).await.unwrap().unwrap();
    let absent = by.act_in(&awooop_core::ProjectId::parse("never-was").unwrap()).unwrap();
    assert!(matches!(test.store.export_project(absent.scope()).await, Err(ExportError::Absent)));
    test.store.delete_project(&by, &project.id, "").await.unwrap().unwrap();
    let refused = test.store.export_project(&project.scope).await;
    assert!(matches!(refused, Err(ExportError::Store(StoreError::Deleted))));
}
