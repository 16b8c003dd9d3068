//! The audit from outside: the command line against a real server, exported files that are checked without one,
//! the independent script, and a server that is killed while it seals.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use awooop_journeys::client::Api;
use awooop_journeys::db::TestDatabase;
use awooop_journeys::server::Home;
use serde_json::{Value, json};

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
