//! The audit from outside: the command line against a real server, exported files that are checked without one,
//! the independent script, and a server that is killed while it seals.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use awooop_journeys::client::Api;
use awooop_journeys::db::{TestDatabase, TestStore};
use awooop_journeys::server::Home;
use awooop_store::Clock;
use awooop_store::audit::Note;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::scripted::{Say, Scripted};
use crate::support::{home_on, python, root, site};

const PROJECT: &str = "audited";

/// A project, and some keys made and revoked in it.
async fn write_events(api: &Api, count: usize) {
    for i in 0..count {
        api.create_key(&json!({"name": format!("viewer-{i}"), "role": "viewer"})).await.expect("a key");
    }
}

async fn project(api: &Api) -> Api {
    let inside = api.in_project(PROJECT);
    let spec = json!({"display_name": "Audited"});
    let manifest = json!({"kind": "project", "project": PROJECT, "id": PROJECT, "spec": spec});
    inside.apply(&[manifest]).await.expect("the manifest is valid");
    inside
}

/// Waits until nothing waits for a seal.
async fn sealed(api: &Api) -> Value {
    loop {
        let head = api.get("/v1/platform/audit/head").await.unwrap().expect(200).unwrap();
        if head["unsealed"] == 0 && head["head"].is_object() {
            return head;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn cli(home: &Home, words: &[&str]) -> (i32, String, String) {
    let words: Vec<&str> = words.iter().copied().chain(["--project", PROJECT]).collect();
    let output = home.cli(&words).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

async fn verified(home: &Home, words: &[&str]) -> (i32, Value) {
    let words: Vec<&str> =
        ["audit", "verify"].iter().chain(words).copied().chain(["--project", PROJECT]).collect();
    home.cli_json(&words).await.unwrap()
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_an_audit_is_checked_by_the_server_from_files_and_by_a_script_of_its_own() {
    let site = site().await;
    let (home, api) = (&site.home, project(site.server.api()).await);
    write_events(&api, 12).await;
    sealed(&api).await;
    let at = |name: &str| home.path().join(name);

    let found = cli(home, &["audit", "search", "--action", "key.create", "--limit", "5"]).await;
    assert!(found.0 == 0 && found.1.lines().count() == 6 && found.2.contains("--cursor"), "{found:?}");
    let (code, answer) = verified(home, &[]).await;
    assert_eq!((code, &answer["report"]["is_whole"]), (0, &json!(true)), "{answer}");

    let head = cli(home, &["audit", "head"]).await.1;
    std::fs::write(at("heads"), &head).unwrap();
    let keys = cli(home, &["audit", "head", "--public-keys"]).await.1.trim().to_owned();
    write_events(&api, 3).await;
    sealed(&api).await;
    std::fs::write(at("later"), cli(home, &["audit", "head"]).await.1).unwrap();
    let (events, seals) = (at("events"), at("seals"));
    let (events, seals) = (shown(&events), shown(&seals));
    let exported = cli(home, &["audit", "export", "--events", events, "--seals", seals]).await;
    assert_eq!(exported.0, 0, "{exported:?}");
    let offline = ["--export", events, "--seals", seals, "--public-key", &keys];
    let heads = at("heads");
    let both = [&offline[..], &["--head", shown(&heads)]].concat();
    let (code, answer) = verified(home, &both).await;
    assert_eq!((code, &answer["report"]["is_whole"]), (0, &json!(true)), "{answer}");
    check_script(home, &api, &keys).await;

    // one byte of one line
    let text = std::fs::read_to_string(events).unwrap();
    std::fs::write(events, text.replacen("viewer", "admins", 1)).unwrap();
    let (code, answer) = verified(home, &offline).await;
    assert_eq!((code, &answer["found"][0]["kind"]), (1, &json!("altered")), "{answer}");
    // an end that is cut off
    let lines = text.lines().count();
    std::fs::write(events, text.split_inclusive('\n').take(lines - 3).collect::<String>()).unwrap();
    let all = std::fs::read_to_string(seals).unwrap();
    let last = all.split_inclusive('\n').count() - 1;
    std::fs::write(seals, all.split_inclusive('\n').take(last).collect::<String>()).unwrap();
    let later = at("later");
    let (code, answer) = verified(home, &[&offline[..], &["--head", shown(&later)]].concat()).await;
    let kinds: Vec<&Value> = answer["found"].as_array().unwrap().iter().map(|f| &f["kind"]).collect();
    assert!(code == 1 && kinds.contains(&&json!("truncated")), "{answer}");
    let wrong = keys.replace(':', ":00").chars().take(keys.len()).collect::<String>();
    let refused = home
        .cli_json(&["audit", "verify", "--export", events, "--seals", seals, "--public-key", &wrong])
        .await;
    assert_ne!(refused.unwrap().0, 0);
}

/// The script that ships with the documentation, with a head and with a key, and on a proof that is none.
async fn check_script(home: &Home, api: &Api, keys: &str) {
    let page = api.get("/v1/platform/audit?action=key.create&limit=50").await.unwrap().expect(200).unwrap();
    let items = page["items"].as_array().unwrap();
    let (file, heads) = (home.path().join("proof"), home.path().join("heads"));
    let script = root().join("docs/audit_proof.py");
    let run = |more: &[&str]| {
        let output = Command::new(python()).arg(&script).arg(&file).args(more).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let public = keys.split_once(':').unwrap().1;
    // the oldest one is before the head that was kept
    let id = items.last().unwrap()["id"].as_str().unwrap();
    let proof = cli(home, &["audit", "prove", id, "--head", shown(&heads)]).await.1;
    std::fs::write(&file, &proof).unwrap();
    let (is_proved, text) = run(&["--head", shown(&heads)]);
    assert!(is_proved && text.contains("proved: key.create"), "{text}");
    assert!(!run(&[]).0, "nothing vouches for the seal");
    let (is_proved, text) = run(&["--head", shown(&heads), "--public-key", public]);
    assert!(is_proved, "{text}");
    std::fs::write(&file, proof.replace("key.create", "key.revoke")).unwrap();
    let (is_proved, text) = run(&["--head", shown(&heads)]);
    assert!(!is_proved && text.contains("not in the seal"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_server_killed_while_it_seals_loses_and_doubles_nothing() {
    let database = TestDatabase::private().await.unwrap();
    let home = home_on(database.urls());
    for life in 0..6 {
        let server = home.start().await.expect("the server starts");
        let api = project(server.api()).await;
        // a stop somewhere within a second, which is the sealer's
        let write = write_events(&api, 8 + 7 * life);
        let _ = tokio::time::timeout(Duration::from_millis(300 + 170 * life as u64), write).await;
        server.kill().unwrap();
    }
    let server = home.start().await.expect("the server starts");
    let api = project(server.api()).await;
    write_events(&api, 1).await;
    sealed(&api).await;
    let (code, answer) = verified(&home, &[]).await;
    assert_eq!((code, &answer["found"]), (0, &json!([])), "{answer}");
    assert_eq!(answer["report"]["verified"], answer["report"]["events"], "{answer}");
    let (code, doctor) = home.cli_json(&["doctor"]).await.unwrap();
    assert_eq!(code, 0, "{doctor}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_heads_go_where_the_database_s_owner_does_not_reach() {
    let database = TestDatabase::private().await.unwrap();
    // the first time it is away
    let times = std::sync::atomic::AtomicU32::new(0);
    let receiver = Scripted::start(move |_| match times.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Say::Status(503, json!({})),
        _ => Say::Json(json!({})),
    })
    .await;
    let home = home_on(database.urls());
    let kept = home.path().join("kept");
    let home = home
        .env("AWOOOP_AUDIT_HEADS_DIR", shown(&kept))
        .env("AWOOOP_AUDIT_HEADS_URL", &receiver.url("/heads"));
    let server = home.start().await.expect("the server starts");
    let platform = kept.join("platform.ndjson");
    while receiver.asked().len() < 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // the platform's first key was sealed at once
    let line = std::fs::read_to_string(&platform).unwrap();
    let head: Value = serde_json::from_str(line.trim()).unwrap();
    assert!(receiver.asked()[1].body["heads"].as_array().unwrap().contains(&head), "{:?}", receiver.asked());
    let check = ["audit", "verify", "--head", shown(&platform), "--project", "platform"];
    let (code, answer) = home.cli_json(&check).await.unwrap();
    assert_eq!((code, &answer["report"]["is_whole"]), (0, &json!(true)), "{answer}");

    sealed(&server.api().in_project("platform")).await;
    let admin = database.admin().await;
    admin.batch_execute("DELETE FROM awooop.audit_seal; DELETE FROM awooop.audit_event").await.unwrap();
    let (code, answer) = home.cli_json(&check).await.unwrap();
    assert_eq!((code, &answer["found"][0]["kind"]), (1, &json!("truncated")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_is_older_than_it_has_to_be_kept_expires_by_command() {
    let database = TestDatabase::private().await.unwrap();
    let test = TestStore::open(database, Clock::manual(Timestamp::from_second(1_700_000_000).unwrap())).await;
    let test = test.unwrap();
    let project = test.project().await;
    let note = |i: usize| Note::new("tool.refuse", format!("shop__refund/{i}"), json!({"i": i}));
    test.store.record_events(&project.scope, (0..5).map(note).collect()).await.unwrap();
    test.store.seal(&project.id, uuid::Uuid::nil(), &std::collections::HashSet::new()).await.unwrap();
    let urls = test.database().urls();
    let home = home_on(urls).env("AWOOOP_RETENTION_DATABASE_URL", &urls.retention);
    let asked = async |more: &[&str]| {
        let expire = ["audit", "expire", "--json", "--keys", shown(test.keys()), "--days"];
        let mut command = home.command(&[&expire[..], more].concat());
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code().unwrap(), answer)
    };

    let (code, answer) = asked(&["36500"]).await;
    assert_eq!((code, &answer["items"]), (0, &json!([])), "{answer}");
    let (code, answer) = asked(&["30", "--dry-run"]).await;
    let through = json!(1);
    assert_eq!(
        (code, &answer["is_dry_run"], &answer["items"][0]["through_seal"]),
        (0, &json!(true), &through)
    );
    let (code, again) = asked(&["30"]).await;
    assert_eq!((code, &again["items"], &again["is_dry_run"]), (0, &answer["items"], &json!(false)));
    let (code, answer) = asked(&["30"]).await;
    assert_eq!((code, &answer["items"]), (0, &json!([])), "{answer}");
    let left = test.store.export_events(&project.scope, uuid::Uuid::nil(), 100).await.unwrap();
    assert_eq!(left.iter().map(|e| &*e.action).collect::<Vec<_>>(), ["audit.expire"]);
    let (code, _) = asked(&["0"]).await;
    assert_eq!(code, 2, "what was just written cannot expire");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_every_change_of_the_keyring_is_in_the_audit_once() {
    let site = site().await;
    let platform = site.server.api().in_project("platform");
    let changes = async || {
        let page = platform.get("/v1/platform/audit?action=keyring.change&limit=50").await.unwrap();
        let items = page.expect(200).unwrap()["items"].as_array().unwrap().clone();
        let told = |item: &Value| {
            let body: Value = match &item["body"] {
                Value::String(text) => serde_json::from_str(text).unwrap(),
                body => body.clone(),
            };
            (item["subject"].as_str().unwrap().to_owned(), body["state"].as_str().unwrap().to_owned())
        };
        items.iter().map(told).collect::<Vec<_>>()
    };
    let until = async |count: usize| loop {
        let found = changes().await;
        if found.len() >= count {
            assert_eq!(found.len(), count, "{found:?}");
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let first = until(5).await;
    let publish = first.iter().find(|(subject, _)| subject.starts_with("keyring/publish/")).unwrap();
    let id = publish.0.rsplit('/').next().unwrap();

    let (code, made) = site.home.cli_json(&["keys", "rotate", "publish"]).await.unwrap();
    assert_eq!(code, 0, "{made}");
    let found = until(7).await;
    let subject = format!("keyring/publish/{}", made["id"].as_str().unwrap());
    assert!(found.contains(&(subject, "current".to_owned())), "{found:?}");
    assert!(found.contains(&(publish.0.clone(), "accepted".to_owned())), "{found:?}");
    let (code, retired) = site.home.cli_json(&["keys", "retire", "publish", id]).await.unwrap();
    assert_eq!(code, 0, "{retired}");
    let found = until(8).await;
    assert_eq!(found[0], (publish.0.clone(), "retired".to_owned()));
}
