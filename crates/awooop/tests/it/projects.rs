//! Exporting and deleting a project, from outside: by command, on two servers, with work under way and with a server that is
//! killed in between.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use awooop_journeys::client::Api;
use awooop_journeys::db::{TestDatabase, connect};
use awooop_journeys::fixture_mcp::FixtureMcp;
use awooop_journeys::server::Home;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::scripted::{Say, Scripted, Stage, agent, id_of, manifest, until};
use crate::support::{home_on, make_project};

const MINE: &str = "closing";
const OTHER: &str = "staying";
const RUNS: &str = "/v1/platform/runs";

/// A server with the role that deletes.
async fn stage() -> (TestDatabase, Home) {
    let database = TestDatabase::private().await.unwrap();
    let home = home_on(database.urls()).env("AWOOOP_RETENTION_DATABASE_URL", &database.urls().retention);
    (database, home)
}

async fn deleted(api: &Api, project: &str) -> bool {
    let page = api.get("/v1/platform/deletions").await.unwrap().expect(200).unwrap();
    let items = page["items"].as_array().unwrap();
    items.iter().any(|item| item["project_id"] == project && item["state"] == "deleted")
}

/// Rows of a project in every table but the tombstone's.
async fn rows(database: &TestDatabase, project: &str) -> BTreeMap<String, i64> {
    let admin = database.admin().await;
    let tables = "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id'
        WHERE c.relnamespace = 'awooop'::regnamespace AND c.relkind = 'r' AND c.relname <> 'project_deletion'";
    let mut found = BTreeMap::new();
    for row in admin.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let sql = format!("SELECT count(*) FROM awooop.{table} WHERE project_id = $1");
        let n: i64 = admin.query_one(&sql, &[&project]).await.unwrap().get(0);
        if n > 0 {
            found.insert(table, n);
        }
    }
    found
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Checks what an export wrote against its manifest.
fn assert_whole(directory: &Path) -> Value {
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(directory.join("MANIFEST.json")).unwrap()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory), 0o700);
    let listed = manifest["files"].as_array().unwrap();
    for file in listed {
        let path = directory.join(file["name"].as_str().unwrap());
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        assert_eq!(file["bytes"], bytes.len());
        assert_eq!(file["rows"], bytes.iter().filter(|byte| **byte == b'\n').count());
        assert_eq!(file["sha256"], awooop_core::json::hex(&Sha256::digest(&bytes)));
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            serde_json::from_slice::<Value>(line).unwrap();
        }
    }
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), listed.len() + 1);
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_project_is_exported_deleted_and_never_comes_back() {
    let (database, home) = stage().await;
    let (server, fixture) = (home.start().await.unwrap(), FixtureMcp::start().await.unwrap());
    let mine = make_project(server.api(), MINE, &fixture, "fail").await;
    let other = make_project(server.api(), OTHER, &fixture, "fail").await;
    for api in [&mine, &other] {
        let run_id = api.create_run("tester", &json!("a question")).await.unwrap();
        api.wait_for_end(&run_id, std::time::Duration::from_secs(30)).await.unwrap();
    }

    let to = home.path().join("export");
    let export = ["project", "export", MINE, "--to", shown(&to)];
    let (code, _) = home.cli_json(&export).await.unwrap();
    assert_eq!(code, 0);
    let manifest = assert_whole(&to);
    assert_eq!(manifest["project_id"], MINE);
    let runs = std::fs::read_to_string(to.join("runs.ndjson")).unwrap();
    assert!(runs.contains("a question") && !runs.contains(OTHER), "{runs}");
    let (code, _) = home.cli_json(&export).await.unwrap();
    assert_eq!(code, 2, "a directory with something in it is refused");
    let head = server.api().in_project(MINE).get("/v1/platform/audit/head").await.unwrap().json();
    let key = &head["public_keys"][0];
    let key = format!("{}:{}", key["key_id"].as_str().unwrap(), key["public_key"].as_str().unwrap());
    let (events, seals) = (to.join("audit_events.ndjson"), to.join("audit_seals.ndjson"));
    let verify =
        ["audit", "verify", "--export", shown(&events), "--seals", shown(&seals), "--public-key", &key];
    let (code, report) = home.cli_json(&verify).await.unwrap();
    assert_eq!((code, &report["report"]["is_whole"]), (0, &json!(true)), "{report}");
    let viewer = mine.create_key(&json!({"name": "looks", "role": "viewer"})).await.unwrap();
    assert_eq!(mine.with_key(Some(&viewer)).get("/v1/platform/export").await.unwrap().status, 403);

    let path = format!("/v1/platform/projects/{MINE}/delete");
    let confirmed = json!({"confirm": MINE});
    let refused = mine.post(&path, &confirmed).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (403, "E-AUTH-002"), "not its own admin");
    let refused = other.post(&path, &confirmed).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (404, "E-REQ-004"), "nor another's");
    for (path, body, status) in [
        (path.as_str(), json!({"confirm": OTHER}), 422),
        ("/v1/platform/projects/platform/delete", json!({"confirm": "platform"}), 422),
        ("/v1/platform/projects/never-was/delete", json!({"confirm": "never-was"}), 404),
        ("/v1/platform/projects/No%20Id/delete", json!({"confirm": "No Id"}), 404),
    ] {
        let answer = server.api().post(path, &body).await.unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
    }
    let delete = ["project", "delete", MINE, "--confirm", MINE, "--reason", "the shop closed"];
    let (code, dry) = home.cli_json(&[&delete[..], &["--dry-run"]].concat()).await.unwrap();
    assert_eq!((code, &dry["rows"]["run_state"]), (0, &json!(1)), "{dry}");
    assert_eq!(mine.get(RUNS).await.unwrap().status, 200, "a dry run deletes nothing");

    let (code, answer) = home.cli_json(&delete).await.unwrap();
    assert_eq!((code, &answer["is_erased_here"]), (0, &json!(true)), "{answer}");
    assert_eq!(mine.get(RUNS).await.unwrap().code(), "E-AUTH-001");
    let inside = server.api().in_project(MINE);
    let project = json!({"kind": "project", "project": MINE, "id": MINE, "spec": {"display_name": "Again"}});
    for answer in [
        inside.get(RUNS).await.unwrap(),
        inside.post("/v1/platform/contracts", &json!({"manifests": [project]})).await.unwrap(),
        inside.post("/v1/platform/keys", &json!({"name": "late", "role": "viewer"})).await.unwrap(),
        inside.get("/v1/platform/export").await.unwrap(),
    ] {
        assert_eq!((answer.status, answer.code().as_str()), (410, "E-PROJECT-001"), "{}", answer.text);
    }
    until("its rows are gone", async || deleted(server.api(), MINE).await).await;
    assert_eq!(rows(&database, MINE).await, BTreeMap::new());
    let (code, again) = home.cli_json(&delete).await.unwrap();
    assert_eq!((code, &again["deletion"]["state"]), (0, &json!("deleted")));
    let listed = server.api().get("/v1/platform/projects").await.unwrap().text;
    assert!(listed.contains(OTHER) && !listed.contains(MINE), "{listed}");
    let found = other.get("/v1/platform/deletions").await.unwrap().expect(200).unwrap();
    assert_eq!(found["items"], json!([]), "nobody else learns of it");
    let run_id = other.create_run("tester", &json!("again")).await.unwrap();
    other.wait_for_end(&run_id, std::time::Duration::from_secs(30)).await.unwrap();
    let told = server.api().get(&format!("/v1/platform/audit?subject=project/{MINE}")).await.unwrap().text;
    assert!(told.contains("project.checkpoint") && told.contains("the shop closed"), "{told}");
    let doctor = home.cli(&["doctor"]).await.unwrap();
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_deletion_goes_on_after_the_server_was_killed() {
    let (database, home) = stage().await;
    let (server, fixture) = (home.start().await.unwrap(), FixtureMcp::start().await.unwrap());
    for project in [MINE, OTHER] {
        make_project(server.api(), project, &fixture, "fail").await;
    }
    let admin = connect(&database.urls().admin).await.unwrap();
    let many = "INSERT INTO awooop.step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status,
        started_at, duration_ms, body) SELECT $1, gen_random_uuid(), n, 'result', 1, 'llm', 'm', 'k', 'ok', now(), 1, '{}'
        FROM generate_series(1, 3000) n";
    for project in [MINE, OTHER] {
        admin.execute(many, &[&project]).await.unwrap();
    }
    let before = rows(&database, OTHER).await;
    // a row that goes late is held, so that the work stands still in the middle
    admin.batch_execute("BEGIN").await.unwrap();
    admin.query("SELECT FROM awooop.contract WHERE project_id = $1 FOR UPDATE", &[&MINE]).await.unwrap();
    let path = format!("/v1/platform/projects/{MINE}/delete");
    server.api().post(&path, &json!({"confirm": MINE})).await.unwrap().expect(202).unwrap();
    until("some rows are gone", async || !rows(&database, MINE).await.contains_key("step_journal")).await;
    server.kill().unwrap();
    admin.batch_execute("ROLLBACK").await.unwrap();
    let left = rows(&database, MINE).await;
    assert!(left.contains_key("contract") && left.contains_key("audit_event"), "{left:?}");
    let server = home.start().await.unwrap();
    until("its rows are gone", async || deleted(server.api(), MINE).await).await;
    assert_eq!(rows(&database, MINE).await, BTreeMap::new());
    let after = rows(&database, OTHER).await;
    assert_eq!(after["step_journal"], before["step_journal"]);
    assert_eq!(after["contract_version"], before["contract_version"]);
    let told = server.api().get(&format!("/v1/platform/audit?subject=project/{MINE}")).await.unwrap();
    let told = told.expect(200).unwrap();
    let mut actions: Vec<&str> =
        told["items"].as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap()).collect();
    actions.reverse();
    assert_eq!(actions, ["project.delete", "project.checkpoint", "project.erase"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_call_under_way_is_cut_and_another_server_refuses_at_once() {
    let model = Scripted::start(|_| Say::WhenLetGo(json!({}))).await;
    let stage = Stage::start(&[], None).await;
    let manifests = [
        manifest("project", MINE, MINE, json!({"display_name": "Closing"})),
        manifest("provider", MINE, "brain", model.model_spec(&["slow"])),
        agent(MINE, "thinker", "brain/slow", &[], json!({})),
    ];
    let api = stage.apply(MINE, &manifests).await;
    let key = api.create_key(&json!({"name": "owner", "role": "admin"})).await.unwrap();
    let second = home_on(stage.database.urls());
    std::fs::create_dir_all(second.data_dir().join("keys")).unwrap();
    let keyring = "keys/keyring.json";
    std::fs::copy(stage.home.data_dir().join(keyring), second.data_dir().join(keyring)).unwrap();
    let second = second.start().await.expect("a second server starts");
    let there = Api::new(second.url(), Some(&key)).unwrap();
    assert_eq!(there.get(RUNS).await.unwrap().status, 200);
    let created = api.post(RUNS, &json!({"agent_id": "thinker", "input": "think"})).await.unwrap();
    let _ = id_of(&created.expect(202).unwrap());
    until("its model thinks", async || model.is_waiting()).await;

    let path = format!("/v1/platform/projects/{MINE}/delete");
    let answer = stage.server.api().post(&path, &json!({"confirm": MINE})).await.unwrap();
    let answer = answer.expect(202).unwrap();
    assert_eq!(answer["is_erased_here"], false, "this server has no role that deletes");
    assert_eq!(there.get(RUNS).await.unwrap().code(), "E-AUTH-001", "no time passes");
    until("the call is cut", async || !model.is_waiting()).await;
    until("nothing looks for its work", async || {
        let left = rows(&stage.database, MINE).await;
        ["run_queue", "run_lease", "run_timer", "budget_hold"].iter().all(|table| !left.contains_key(*table))
    })
    .await;
    // the rows wait for a server that has the role
    let page = stage.server.api().get("/v1/platform/deletions").await.unwrap().expect(200).unwrap();
    assert_ne!(page["items"][0]["state"], "deleted");
    assert!(rows(&stage.database, MINE).await.contains_key("run_state"));
}
