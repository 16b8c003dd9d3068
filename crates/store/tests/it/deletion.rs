//! Deleting a project: from the mark on nothing of it is served, every row of it goes however often the work is cut, no
//! row of another project does, and the operators' audit holds how its own ended.

use std::collections::BTreeMap;
use std::time::Duration;

use awooop_core::ProjectId;
use awooop_core::role::Role;
use awooop_journeys::db::{TestProject, TestStore, manifests};
use awooop_store::StoreError;
use awooop_store::audit::AuditFilter;
use awooop_store::auth::Caller;
use awooop_store::contract::{ApplyOptions, ContractError};
use awooop_store::deletion::{DeletionState, Eraser, Progress, TABLES};
use awooop_store::keyring::{KeyName, KeyState, Keyring};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio_postgres::Client;

use crate::audit::verify;
use crate::stepping::{
    assert_healthy, call, claim_one, create, create_many, done, new_run, soon, step, worker,
};
use crate::tenancy::{is_denied, tables};

async fn operator(test: &TestStore) -> Caller {
    test.store.authenticate(test.platform_key.expose_secret()).await.unwrap().unwrap()
}

async fn eraser(test: &TestStore) -> Eraser {
    let url = test.database().urls().retention.clone().into();
    Eraser::open(test.store.clone(), Some(&url)).await.unwrap()
}

async fn delete(test: &TestStore, project: &TestProject) {
    let by = operator(test).await;
    let (_, is_new) = test.store.delete_project(&by, &project.id, "the shop closed").await.unwrap().unwrap();
    assert!(is_new);
}

async fn state(test: &TestStore, project: &TestProject) -> DeletionState {
    test.store.find_deletion(&project.id).await.unwrap().unwrap().state
}

/// Sweeps until the project's last row is gone.
async fn erase(test: &TestStore, project: &TestProject) {
    let eraser = eraser(test).await;
    while state(test, project).await != DeletionState::Deleted {
        eraser.run_once().await.unwrap();
    }
}

/// A run that ended, one that is under way, some that are queued, and a row in every other table.
async fn fill(test: &TestStore, project: &TestProject) {
    create_many(&test.store, project, 4).await;
    let run = claim_one(&test.store, project, &worker("w")).await;
    let hold = test.store.reserve(&run, 1, 100, soon(&test.store)).await.unwrap();
    test.store.settle(&project.scope, &hold.settle(40, false)).await.unwrap();
    test.store.record_step(&run, &step(&test.store, 1), None, Some(&call(&test.store))).await.unwrap();
    test.store.end_run(&run, &done(), None, true).await.unwrap();
    let run = claim_one(&test.store, project, &worker("w")).await;
    test.store.reserve(&run, 1, 100, soon(&test.store)).await.unwrap();
}

/// What a made-up row in every table that has none of the project makes of it.
async fn fill_every_table(test: &TestStore, project: &TestProject) {
    let admin = test.database().admin().await;
    admin.batch_execute("SET session_replication_role = replica").await.unwrap();
    for table in tables(&admin).await {
        let is_made = rows_of(&admin, &table.name, &project.id).await > 0;
        if !is_made && table.name != "project_deletion" {
            admin.batch_execute(&table.insert(project.id.as_str())).await.unwrap();
        }
    }
}

async fn rows_of(admin: &Client, table: &str, project: &ProjectId) -> i64 {
    let sql = format!("SELECT count(*) FROM {table} WHERE project_id = $1");
    admin.query_one(&sql, &[&project.as_str()]).await.unwrap().get(0)
}

/// How many rows the project has in each table of the catalogue, and a hash of them.
async fn picture(admin: &Client, project: &ProjectId) -> BTreeMap<String, (i64, String)> {
    let mut found = BTreeMap::new();
    for table in tables(admin).await {
        let sql = format!(
            "SELECT count(*), coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {} t WHERE project_id = $1",
            table.name
        );
        let row = admin.query_one(&sql, &[&project.as_str()]).await.unwrap();
        found.insert(table.name, (row.get(0), row.get(1)));
    }
    found
}

/// No table of the catalogue has a row of the project but the one that says so.
async fn assert_gone(test: &TestStore, project: &TestProject) {
    let admin = test.database().admin().await;
    let left = picture(&admin, &project.id).await;
    let left: Vec<_> = left.iter().filter(|(_, (n, _))| *n > 0).map(|(table, (n, _))| (table, *n)).collect();
    assert_eq!(left, [(&"project_deletion".to_owned(), 1)]);
}

/// The events about the project in the operators' audit, oldest first.
async fn told(test: &TestStore, project: &TestProject) -> Vec<(String, Value)> {
    let filter =
        AuditFilter { subject: Some(format!("project/{}", project.id)), limit: 50, ..AuditFilter::default() };
    let mut events = test.store.search_audit(operator(test).await.scope(), &filter).await.unwrap();
    events.reverse();
    let event =
        |e: &awooop_core::audit::Event<'_>| (e.action.to_string(), serde_json::from_str(&e.body).unwrap());
    events.iter().map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_with_a_project_is_listed_with_its_key_and_after_what_refers_to_it() {
    let test = TestStore::private().await;
    let admin = test.database().admin().await;
    let sql = "SELECT c.relname::text, array_agg(a.attname::text ORDER BY k.n) FROM pg_class c
        JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary,
        unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, n)
        JOIN pg_attribute a ON a.attnum = k.attnum
        WHERE a.attrelid = c.oid AND c.relnamespace = 'awooop'::regnamespace
          AND EXISTS (SELECT FROM pg_attribute p WHERE p.attrelid = c.oid AND p.attname = 'project_id')
        GROUP BY c.relname";
    let found: BTreeMap<String, Vec<String>> =
        admin.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut listed: BTreeMap<String, Vec<String>> = TABLES
        .iter()
        .map(|(table, keys)| {
            let keys = std::iter::once(&"project_id").chain(*keys).map(|key| (*key).to_owned()).collect();
            ((*table).to_owned(), keys)
        })
        .collect();
    listed.insert("project_deletion".to_owned(), vec!["project_id".to_owned()]);
    assert_eq!(listed, found);
    let place = |name: &str| TABLES.iter().position(|(table, _)| *table == name).unwrap();
    let sql = "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
        WHERE contype = 'f' AND connamespace = 'awooop'::regnamespace";
    for row in admin.query(sql, &[]).await.unwrap() {
        let (child, parent): (String, String) = (row.get(0), row.get(1));
        assert!(place(&child) < place(&parent), "{child} refers to {parent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_is_gone_from_every_table_and_nothing_of_another_is() {
    let test = TestStore::private().await;
    let (project, other) = (test.project().await, test.project().await);
    for project in [&project, &other] {
        fill(&test, project).await;
        fill_every_table(&test, project).await;
    }
    let admin = test.database().admin().await;
    let before = picture(&admin, &other.id).await;
    assert!(before.iter().all(|(table, (n, _))| *n > 0 || table == "project_deletion"), "{before:?}");
    let by = operator(&test).await;
    let counts = test.store.count_project(&by, &project.id).await.unwrap().unwrap();
    assert_eq!(counts.len(), TABLES.len(), "{counts:?}");
    delete(&test, &project).await;
    erase(&test, &project).await;
    assert_gone(&test, &project).await;
    assert_eq!(picture(&admin, &other.id).await, before);
    assert_eq!(test.store.project_ids("", 10).await.unwrap().len(), 2, "the other and the platform");
    let all = test.store.list_deletions("", false, 10).await.unwrap();
    assert_eq!(all.iter().map(|d| &d.project).collect::<Vec<_>>(), [&project.id]);
    assert_eq!(test.store.list_deletions("", true, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_audit_holds_how_the_project_s_own_ended() {
    let test = TestStore::private().await;
    let project = test.project().await;
    fill(&test, &project).await;
    crate::audit::seal(&test, &project).await;
    delete(&test, &project).await;
    let eraser = eraser(&test).await;
    // a dry look at the seals as they are in the end: the mark's own event is in the last one
    erase(&test, &project).await;
    assert_eq!(eraser.run_once().await.unwrap(), []);
    let told = told(&test, &project).await;
    let actions: Vec<&str> = told.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["project.delete", "project.checkpoint", "project.erase"]);
    let (asked, checkpoint) = (&told[0].1, &told[1].1);
    assert_eq!(asked["reason"], "the shop closed");
    assert_eq!(checkpoint["reason"], "the shop closed");
    assert!(checkpoint["requested_by"].as_str().unwrap().starts_with("platform/"), "{checkpoint}");
    assert_eq!(checkpoint["last_seal"], 2);
    assert_eq!(checkpoint["head"].as_str().unwrap().len(), 64);
    assert_eq!(checkpoint["events"], checkpoint["sealed_events"]);
    assert_eq!(checkpoint["rows"]["run_state"], 4);
    assert_eq!(checkpoint["rows"]["audit_event"], checkpoint["events"]);
    crate::audit::seal_project(&test, &ProjectId::platform()).await;
    let (found, report) = verify(&test.store, operator(&test).await.scope(), &[]).await;
    assert_eq!((found, report.unsealed), (vec![], 0));
    assert_healthy(&test).await;
    assert_eq!(test.store.examine_audit().await.unwrap(), vec![]);
    assert_eq!(test.store.examine_deletions().await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_mark_on_nothing_of_the_project_is_served_and_its_id_is_never_used_again() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let new = new_run(&test.store, &project).await;
    fill(&test, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    delete(&test, &project).await;
    for is_erased in [false, true] {
        let store = &test.store;
        assert!(store.authenticate(project.admin_key.expose_secret()).await.unwrap().is_none());
        assert!(!store.still_stands(&project.caller).await.unwrap());
        let deleted = |what: &str, answer: Result<(), StoreError>| {
            assert!(matches!(answer, Err(StoreError::Deleted)), "{what}: {answer:?}");
        };
        deleted("create", store.create_run(&project.scope, &new).await.map(drop));
        deleted("read", store.find_run(&project.scope, run.run_id).await.map(drop));
        deleted("claim", store.claim(&project.id, &worker("w"), 1).await.map(drop));
        deleted("give back", store.release(&run).await.map(drop));
        deleted("redactors", store.redactors(&project.scope).await.map(drop));
        let by = operator(&test).await;
        deleted("count", store.count_project(&by, &project.id).await.map(drop));
        let inside = by.act_in(&project.id).unwrap();
        let applied =
            store.apply(&inside, &manifests(&project.id, None, 3).unwrap(), ApplyOptions::default()).await;
        assert!(matches!(applied, Err(ContractError::Store(StoreError::Deleted))), "{applied:?}");
        let (again, is_new) = store.delete_project(&by, &project.id, "again").await.unwrap().unwrap();
        assert!(!is_new);
        assert_eq!(again.state == DeletionState::Deleted, is_erased);
        erase(&test, &project).await;
    }
    assert_gone(&test, &project).await;
    assert_eq!(told(&test, &project).await.len(), 3, "asking again leaves no trace");
    let by = operator(&test).await;
    let absent = ProjectId::parse("never-was").unwrap();
    assert!(test.store.delete_project(&by, &absent, "").await.unwrap().is_none());
    assert!(test.store.count_project(&by, &absent).await.unwrap().is_none());
    assert!(test.store.find_deletion(&absent).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_races_with_a_deletion_leaves_nothing_behind() {
    let test = TestStore::private().await;
    for _ in 0..8 {
        let project = test.project().await;
        create_many(&test.store, &project, 3).await;
        let new = new_run(&test.store, &project).await;
        let by = operator(&test).await;
        let inside = by.act_in(&project.id).unwrap();
        let applied = manifests(&project.id, Some(7), 2).unwrap();
        let (store, busy) = (&test.store, worker("busy"));
        let creating = async {
            for _ in 0..20 {
                if store.create_run(&project.scope, &new).await.is_err() {
                    break;
                }
            }
        };
        let deleting = async || store.delete_project(&by, &project.id, "").await.unwrap().unwrap().1;
        let erasing = async {
            tokio::task::yield_now().await;
            erase_when_marked(&test, &project).await;
        };
        let (first, second, ..) = futures::join!(
            deleting(),
            deleting(),
            creating,
            store.claim(&project.id, &busy, 2),
            store.apply(&inside, &applied, ApplyOptions::default()),
            test.store.authenticate(project.admin_key.expose_secret()),
            erasing,
        );
        assert!(first != second, "one of two made the mark");
        erase(&test, &project).await;
        assert_gone(&test, &project).await;
        let asked = told(&test, &project).await.iter().filter(|(a, _)| a == "project.delete").count();
        assert_eq!(asked, 1, "the loser wrote nothing");
    }
    assert_healthy(&test).await;
}

async fn erase_when_marked(test: &TestStore, project: &TestProject) {
    while test.store.find_deletion(&project.id).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    erase(test, project).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_anywhere_is_finished_by_another_sweep() {
    let test = TestStore::private().await;
    let project = test.project().await;
    fill(&test, &project).await;
    fill_every_table(&test, &project).await;
    delete(&test, &project).await;
    let url = test.database().urls().retention.clone().into();
    let mut cuts = 0;
    while state(&test, &project).await != DeletionState::Deleted {
        // a process of its own each time, that ends after a little more work than the one before
        let store = test.through(test.database().urls()).await;
        let eraser = Eraser::open(store, Some(&url)).await.unwrap().with_batch(1);
        cuts += 1;
        let within = Duration::from_millis(4 * cuts);
        let _ = tokio::time::timeout(within, eraser.run_once()).await;
    }
    assert!(cuts > 1);
    assert_gone(&test, &project).await;
    let told = told(&test, &project).await;
    let actions: Vec<&str> = told.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["project.delete", "project.checkpoint", "project.erase"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sweeps_of_one_project_end_it_once() {
    let test = TestStore::private().await;
    let project = test.project().await;
    fill(&test, &project).await;
    fill_every_table(&test, &project).await;
    delete(&test, &project).await;
    let (one, two) = (eraser(&test).await.with_batch(1), eraser(&test).await.with_batch(1));
    let (one, two) = futures::join!(one.run_once(), two.run_once());
    one.unwrap();
    two.unwrap();
    erase(&test, &project).await;
    assert_gone(&test, &project).await;
    assert_eq!(told(&test, &project).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_only_once_nobody_can_still_write_there() {
    let test = TestStore::private().await;
    let project = test.project().await;
    // somebody who began before the mark
    let late = test.database().app().await;
    late.batch_execute("BEGIN").await.unwrap();
    late.query_one("SELECT awooop.set_project($1)", &[&project.id.as_str()]).await.unwrap();
    delete(&test, &project).await;
    let eraser = eraser(&test).await;
    assert_eq!(eraser.run_once().await.unwrap(), [(project.id.clone(), Progress::Busy)]);
    assert_eq!(state(&test, &project).await, DeletionState::Marked);
    let sql = "INSERT INTO run_queue (project_id, priority, run_id, agent_id, timeout_at)
        VALUES ($1, 1, gen_random_uuid(), 'late', now())";
    late.execute(sql, &[&project.id.as_str()]).await.unwrap();
    late.batch_execute("COMMIT").await.unwrap();
    let done = eraser.run_once().await.unwrap();
    assert!(matches!(done[..], [(_, Progress::Deleted { rows })] if rows > 0), "{done:?}");
    assert_gone(&test, &project).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_role_that_deletes_nothing_of_the_project_is_found_and_its_rows_wait() {
    let test = TestStore::private().await;
    let project = test.project().await;
    fill(&test, &project).await;
    delete(&test, &project).await;
    let eraser_without = Eraser::open(test.store.clone(), None).await.unwrap();
    assert_eq!(eraser_without.run_once().await.unwrap(), [(project.id.clone(), Progress::Waits)]);
    let admin = test.database().admin().await;
    for table in ["run_queue", "run_timer", "run_lease", "schedule", "budget_hold", "run_child"] {
        assert_eq!(rows_of(&admin, table, &project.id).await, 0, "{table}");
    }
    assert!(rows_of(&admin, "run_state", &project.id).await > 0);
    assert_eq!(test.store.discover("", 10).await.unwrap().len(), 0);
    assert_healthy(&test).await;
    // it is named when it has waited for long
    let later = awooop_store::Clock::manual(test.store.clock().after(Duration::from_secs(3600)));
    let later = test.through_at(test.database().urls(), later).await;
    let found = later.examine_deletions().await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].message.contains("AWOOOP_RETENTION_DATABASE_URL"), "{found:?}");
    erase(&test, &project).await;
    assert_gone(&test, &project).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_deletes_can_take_from_a_living_or_marked_project_only_what_ages() {
    let test = TestStore::private().await;
    let (project, living) = (test.project().await, test.project().await);
    for project in [&project, &living] {
        fill(&test, project).await;
        fill_every_table(&test, project).await;
    }
    delete(&test, &project).await;
    let ages = [
        "audit_event",
        "run_state",
        "step_journal",
        "mcp_call",
        "approval",
        "approval_decision",
        "run_child",
    ];
    let retention = awooop_journeys::db::connect(&test.database().urls().retention).await.unwrap();
    for of in [&living.id, &project.id] {
        for (table, _) in TABLES.iter().filter(|(table, _)| !ages.contains(table)) {
            retention.batch_execute(&format!("BEGIN; SET LOCAL awooop.project_id = '{of}'")).await.unwrap();
            let sql = format!("DELETE FROM {table} WHERE project_id = '{of}'");
            assert_eq!(retention.execute(&sql, &[]).await.unwrap(), 0, "{table} of {of}");
            retention.batch_execute("ROLLBACK").await.unwrap();
        }
    }
    for sql in [
        "UPDATE project_deletion SET state = 'erasing'",
        "DELETE FROM project_deletion",
        "INSERT INTO project_deletion (project_id) VALUES ('x')",
        "SELECT body FROM contract_version",
        "SELECT secret_hmac FROM api_key",
        "SELECT tag_salt FROM project",
    ] {
        assert!(is_denied(&retention.batch_execute(sql).await.unwrap_err()), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_no_server_made_stops_a_project_and_erases_nothing() {
    let test = TestStore::private().await;
    let (project, other) = (test.project().await, test.project().await);
    fill(&test, &project).await;
    delete(&test, &other).await;
    let app = test.database().app().await;
    let forged =
        "INSERT INTO project_deletion (project_id, state, requested_at, requested_by, reason, key_id, mac)
        SELECT $1, 'marked', now(), 'platform/admin', '', $2, $3";
    let admin = test.database().admin().await;
    let genuine = "SELECT key_id, mac FROM awooop.project_deletion WHERE project_id = $1";
    let genuine = admin.query_one(genuine, &[&other.id.as_str()]).await.unwrap();
    app.batch_execute(&format!("BEGIN; SET LOCAL awooop.project_id = '{}'", project.id)).await.unwrap();
    let (key_id, mac): (&str, &[u8]) = (genuine.get(0), genuine.get(1));
    app.execute(forged, &[&project.id.as_str(), &key_id, &mac]).await.unwrap();
    app.batch_execute("COMMIT").await.unwrap();
    let before = picture(&admin, &project.id).await;
    let done = eraser(&test).await.run_once().await.unwrap();
    assert_eq!(done.iter().map(|(project, _)| project).collect::<Vec<_>>(), [&other.id]);
    assert_eq!(picture(&admin, &project.id).await, before);
    let found = test.store.examine_deletions().await.unwrap();
    assert!(found.len() == 1 && found[0].message.contains("does not load"), "{found:?}");
    // a platform admin's word makes it a mark
    let by = operator(&test).await;
    let (_, is_new) = test.store.delete_project(&by, &project.id, "meant").await.unwrap().unwrap();
    assert!(!is_new);
    erase(&test, &project).await;
    assert_gone(&test, &project).await;
    let told = told(&test, &project).await;
    assert_eq!(told[0].1, serde_json::json!({"reason": "meant", "is_confirmed": true}));
    assert_eq!(told.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_is_kept_under_the_key_that_is_current() {
    let test = TestStore::private().await;
    let (swept, unseen) = (test.project().await, test.project().await);
    let by = operator(&test).await;
    delete(&test, &swept).await;
    let pepper = |keyring: Keyring, state: KeyState| {
        let found = keyring.keys().into_iter().find(|k| k.name == KeyName::KeyPepper && k.state == state);
        found.unwrap().id
    };
    let former = pepper(Keyring::load(test.keys()).unwrap(), KeyState::Current);
    Keyring::rotate(test.keys(), KeyName::KeyPepper, test.store.clock().now()).unwrap();
    let node = test.through(test.database().urls()).await;
    let sweep = Eraser::open(node, None).await.unwrap();
    assert_eq!(sweep.run_once().await.unwrap(), [(swept.id.clone(), Progress::Waits)]);
    // this process signs under the former key still
    test.store.delete_project(&by, &unseen.id, "").await.unwrap().unwrap();
    Keyring::retire(test.keys(), KeyName::KeyPepper, &former).unwrap();
    let node = test.through(test.database().urls()).await;
    let url = test.database().urls().retention.clone().into();
    let eraser = Eraser::open(node.clone(), Some(&url)).await.unwrap();
    let done = eraser.run_once().await.unwrap();
    assert!(matches!(&done[..], [(project, Progress::Deleted { .. })] if *project == swept.id), "{done:?}");
    node.delete_project(&by, &unseen.id, "").await.unwrap().unwrap();
    let done = eraser.run_once().await.unwrap();
    assert!(matches!(&done[..], [(project, Progress::Deleted { .. })] if *project == unseen.id), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_somebody_wrote_erases_nothing_without_a_checkpoint() {
    let test = TestStore::private().await;
    let project = test.project().await;
    fill(&test, &project).await;
    delete(&test, &project).await;
    let app = test.database().app().await;
    let enter = format!("BEGIN; SET LOCAL awooop.project_id = '{}'", project.id);
    let forged = "UPDATE project_deletion SET state = 'erasing', erasing_at = now(), checkpoint = '{}'";
    app.batch_execute(&format!("{enter}; {forged}; COMMIT")).await.unwrap();
    erase(&test, &project).await;
    let told = told(&test, &project).await;
    let actions: Vec<&str> = told.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["project.delete", "project.checkpoint", "project.erase"]);
    assert_eq!(told[1].1["rows"]["run_state"], 4, "it was there before the first row went");

    let (other, forged) = (test.project().await, "state = 'deleted', deleted_at = now()");
    delete(&test, &other).await;
    let enter = format!("BEGIN; SET LOCAL awooop.project_id = '{}'", other.id);
    let sql = format!(
        "{enter}; UPDATE project_deletion SET erasing_at = now(), checkpoint = '{{}}', {forged}; COMMIT"
    );
    app.batch_execute(&sql).await.unwrap();
    let found = test.store.examine_deletions().await.unwrap();
    assert!(found.len() == 1 && found[0].message.contains("no row is left"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tombstone_says_is_fixed_and_the_operators_project_gets_none() {
    let test = TestStore::private().await;
    let project = test.project().await;
    delete(&test, &project).await;
    let app = test.database().app().await;
    for column in ["project_id = 'x'", "requested_at = now()", "requested_by = 'x'", "reason = 'x'"] {
        let changed = app.batch_execute(&format!("UPDATE project_deletion SET {column}")).await;
        assert!(is_denied(&changed.unwrap_err()), "{column}");
    }
    let admin = test.database().admin().await;
    let platform = "INSERT INTO awooop.project_deletion (project_id, state, requested_at, requested_by, reason, key_id, mac)
        VALUES ('platform', 'marked', now(), '', '', '', '')";
    let refused = admin.batch_execute(platform).await.unwrap_err();
    assert_eq!(refused.as_db_error().unwrap().constraint(), Some("project_deletion_platform"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_counted_in_time_holds_no_deletion_up() {
    let test = TestStore::private().await;
    let project = test.project().await;
    fill(&test, &project).await;
    delete(&test, &project).await;
    let holder = test.database().admin().await;
    holder.batch_execute("BEGIN; LOCK TABLE awooop.mcp_call").await.unwrap();
    let eraser = Eraser::open(test.store.clone(), None).await.unwrap();
    let eraser = eraser.with_count_time(Duration::from_millis(100));
    assert_eq!(eraser.run_once().await.unwrap(), [(project.id.clone(), Progress::Waits)]);
    holder.batch_execute("COMMIT").await.unwrap();
    let rows = told(&test, &project).await[1].1["rows"].clone();
    assert_eq!((rows.get("mcp_call"), &rows["run_state"]), (Some(&Value::Null), &Value::from(4)));
    erase(&test, &project).await;
    assert_gone(&test, &project).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_waits_for_what_the_role_that_deletes_began_before() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let retention = awooop_journeys::db::connect(&test.database().urls().retention).await.unwrap();
    retention.batch_execute("BEGIN; SELECT 1").await.unwrap();
    delete(&test, &project).await;
    let busy = [(project.id.clone(), Progress::Busy)];
    assert_eq!(eraser(&test).await.run_once().await.unwrap(), busy);
    retention.batch_execute("COMMIT").await.unwrap();
    let without = Eraser::open(test.store.clone(), None).await.unwrap();
    assert_eq!(without.run_once().await.unwrap(), busy, "who has the role goes on");
    assert_eq!(state(&test, &project).await, DeletionState::Marked);
    erase(&test, &project).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_s_tags_hang_on_a_salt_that_goes_with_it() {
    let test = TestStore::private().await;
    let (project, other) = (test.project().await, test.project().await);
    let text = "mei.lin@example.org";
    let tag = async |of: &TestProject| {
        let store = test.through(test.database().urls()).await;
        store.redactors(&of.scope).await.unwrap().observed.clean(text).into_inner()
    };
    let first = tag(&project).await;
    assert!(!first.contains("mei.lin"), "{first}");
    assert_eq!(tag(&project).await, first, "every process makes the same tag");
    assert_ne!(tag(&other).await, first);
    let admin = test.database().admin().await;
    let salts = "SELECT count(DISTINCT tag_salt), min(length(tag_salt)) FROM awooop.project";
    let row = admin.query_one(salts, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i32>(1)), (3, 32), "each project has one of its own");
    // the same keyring and id without the salt make another tag
    admin
        .execute(
            "UPDATE awooop.project SET tag_salt = '\\x00' WHERE project_id = $1",
            &[&project.id.as_str()],
        )
        .await
        .unwrap();
    assert_ne!(tag(&project).await, first);
    // a process that knows the key, and whose sweep comes when all is done
    let bystander = test.through(test.database().urls()).await;
    let first = bystander.redactors(&project.scope).await.unwrap().observed.clean(text).into_inner();
    delete(&test, &project).await;
    let tag_of =
        |store: &awooop_store::Store| store.known_redactors(&project.id).observed.clean(text).into_inner();
    assert_eq!(tag_of(&bystander), first);
    erase(&test, &project).await;
    Eraser::open(bystander.clone(), None).await.unwrap().run_once().await.unwrap();
    assert!([&test.store, &bystander].iter().all(|store| tag_of(store) != first), "no process keeps the key");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_s_keys_open_no_deleted_project() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let person = test.key_of(&project, "mei", Role::Admin).await;
    delete(&test, &project).await;
    assert!(test.store.authenticate(person.expose_secret()).await.unwrap().is_none());
    create(&test.store, &test.project().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_stays_until_every_server_had_time_to_see_it() {
    let test = TestStore::private().await;
    let project = test.project().await;
    // asked for by a server whose clock is ahead: the time in which the stop is seen is not over
    let ahead = awooop_store::Clock::manual(test.store.clock().after(Duration::from_secs(3600)));
    let ahead = test.through_at(test.database().urls(), ahead).await;
    ahead.delete_project(&operator(&test).await, &project.id, "").await.unwrap().unwrap();
    let done = eraser(&test).await.run_once().await.unwrap();
    assert_eq!(done, [(project.id.clone(), Progress::Busy)]);
    let stops = test.store.list_stops().await.unwrap();
    assert!(stops.iter().any(|stop| stop.project == project.id), "{stops:?}");
}
