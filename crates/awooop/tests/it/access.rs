//! Who may come in, over several servers: what one refuses, all refuse at once. And the words of the command line for
//! principals, roles and keys.

use std::time::{Duration, Instant};

use awooop_journeys::client::Api;
use serde_json::{Value, json};

use crate::scripted::Stage;
use crate::support::home_on;

const RUNS: &str = "/v1/platform/runs";
/// What is stated.
const EVERYWHERE_WITHIN: Duration = Duration::from_secs(1);

async fn stage() -> Stage {
    let stage = Stage::start(&[], None).await;
    let project =
        json!({"kind": "project", "project": "shop", "id": "shop", "spec": {"display_name": "A shop"}});
    stage.apply("shop", &[project]).await;
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_one_server_refuses_every_other_refuses_within_the_stated_second() {
    let stage = stage().await;
    // another server, with a data directory of its own: its keyring is the first one's
    let second = home_on(stage.database.urls());
    std::fs::create_dir(second.data_dir()).unwrap();
    std::fs::create_dir(second.data_dir().join("keys")).unwrap();
    let keyring = "keys/keyring.json";
    std::fs::copy(stage.home.data_dir().join(keyring), second.data_dir().join(keyring)).unwrap();
    let second = second.start().await.expect("a second server starts");
    let api = stage.api("shop");
    for (number, what) in ["revoke", "disable", "role/revoke"].into_iter().enumerate() {
        let name = format!("ci-{number}");
        let key = api.create_key(&json!({"name": name, "role": "viewer"})).await.unwrap();
        let there = Api::new(second.url(), Some(&key)).unwrap();
        assert_eq!(there.get(RUNS).await.unwrap().status, 200);
        let id = awooop_core::key::parse(&key).unwrap().id.to_owned();
        let path = match what {
            "revoke" => format!("/v1/platform/keys/{id}/revoke"),
            _ => format!("/v1/platform/principals/{name}/{what}"),
        };
        api.post(&path, &json!({})).await.unwrap().expect(200).unwrap();
        let began = Instant::now();
        let mut refused = there.get(RUNS).await.unwrap();
        while refused.status == 200 {
            assert!(began.elapsed() < EVERYWHERE_WITHIN, "{what}: it still opens the other server");
            refused = there.get(RUNS).await.unwrap();
        }
        assert_eq!((refused.status, refused.code()), (401, "E-AUTH-001".to_owned()), "{what}");
        assert_eq!(api.with_key(Some(&key)).get(RUNS).await.unwrap().status, 401, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a client of the test's own")]
async fn heavy_a_stream_ends_when_its_key_is_revoked() {
    let stage = stage().await;
    let api = stage.api("shop");
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let agent = json!({"instructions": "Answer.", "model": "brain/planner", "output_schema": {}});
    let one =
        |kind: &str, id: &str, spec: Value| json!({"kind": kind, "project": "shop", "id": id, "spec": spec});
    stage.apply("shop", &[one("provider", "brain", offline), one("agent", "clerk", agent)]).await;
    // a run that does not begin keeps its stream open
    api.post("/v1/platform/halts", &json!({"kind": "pause", "target": "project"})).await.unwrap();
    let run_id = api.create_run("clerk", &json!("go")).await.unwrap();
    let key = api.create_key(&json!({"name": "watcher", "role": "viewer"})).await.unwrap();
    let watcher = Api::new(stage.server.url(), Some(&key)).unwrap();
    let path = format!("{RUNS}/{run_id}/events");
    let watching = tokio::spawn(async move { watcher.get(&path).await });
    let id = awooop_core::key::parse(&key).unwrap().id.to_owned();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!watching.is_finished());
    api.post(&format!("/v1/platform/keys/{id}/revoke"), &json!({})).await.unwrap().expect(200).unwrap();
    let ended =
        tokio::time::timeout(Duration::from_secs(20), watching).await.expect("it ends").unwrap().unwrap();
    assert!(!ended.text.contains("event: end"), "{}", ended.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_the_command_line_looks_after_principals_roles_and_keys() {
    let stage = stage().await;
    let run = async |words: &[&str]| {
        let (code, document) = stage.home.cli_json(&[words, &["--project", "shop"]].concat()).await.unwrap();
        (code, document)
    };
    let made = run(&["key", "create", "ci", "--role", "viewer", "--scope", "runs:read,list_tools"]).await.1;
    assert_eq!(made["scopes"], json!(["list_tools", "runs:read"]));
    let id = made["key_id"].as_str().unwrap();
    let (code, rotated) = run(&["key", "rotate", id, "--overlap", "1h"]).await;
    assert_eq!((code, &rotated["former_key_id"], &rotated["scopes"]), (0, &json!(id), &made["scopes"]));
    assert_eq!(run(&["key", "rotate", id]).await.1["error"]["code"], "E-ACCESS-001");
    let (code, listed) = run(&["principals", "list"]).await;
    assert_eq!(
        (code, &listed["items"][0]["name"], &listed["items"][0]["working_keys"]),
        (0, &json!("ci"), &json!(2))
    );
    assert_eq!(run(&["roles", "grant", "ci", "operator"]).await.1["role"], "operator");
    assert_eq!(run(&["roles", "list"]).await.1["items"][0]["role"], "operator");
    assert!(run(&["principals", "disable", "ci"]).await.1["disabled_at"].is_string());
    assert_eq!(run(&["principals", "enable", "ci"]).await.1["disabled_at"], json!(null));
    assert_eq!(run(&["roles", "revoke", "ci"]).await.1["role"], json!(null));
    let (code, absent) = run(&["principals", "get", "nobody"]).await;
    assert_eq!((code, absent["error"]["code"].as_str()), (1, Some("E-REQ-004")));
    assert_eq!(run(&["key", "create", "x1", "--scope", "nonsense"]).await.0, 2);
    let (code, who) = run(&["whoami"]).await;
    assert_eq!((code, &who["is_platform_admin"], &who["project_id"]), (0, &json!(true), &json!("shop")));
    // the only admin of the platform cannot lock everybody out, whatever is said
    let kept = stage.home.cli_json(&["principals", "disable", "admin", "--even-if-last"]).await.unwrap();
    assert_eq!((kept.0, kept.1["error"]["code"].as_str()), (1, Some("E-ACCESS-002")));
    let text = stage.home.cli(&["key", "list", "--project", "shop"]).await.unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("rotated to") && text.contains("principal without a role"), "{text}");
}
