//! A server killed with -9 again and again while a client applies one of two pairs of manifests, a tool server
//! with the agent that needs it. After each start the doctor is content and the active pair fits together.

use std::time::Duration;

use awooop_journeys::client::Api;
use awooop_journeys::db::TestDatabase;
use awooop_journeys::server::Home;
use serde_json::{Value, json};

use crate::support::home_on;

const PROJECT: &str = "killed";
const KILLS: u64 = 12;

/// A tool server and the agent that is granted its one tool; both say which pair they are of.
fn pair(name: &str) -> Vec<Value> {
    let one =
        |kind: &str, id: &str, spec: Value| json!({"kind": kind, "project": PROJECT, "id": id, "spec": spec});
    let url = format!("https://tools.example.com/{name}");
    let tools = json!([{"name": format!("tool_{name}"), "risk": "read_only"}]);
    let grants = json!([{"tool": format!("shop__tool_{name}")}]);
    vec![
        one("provider", "shop", json!({"type": "mcp", "transport": "http", "url": url, "tools": tools})),
        one(
            "agent",
            "clerk",
            json!({"instructions": name, "model": "brain/planner", "output_schema": {}, "grants": grants}),
        ),
    ]
}

async fn apply(api: &Api, manifests: &[Value]) -> bool {
    let answer = api.post("/v1/platform/contracts", &json!({ "manifests": manifests })).await;
    answer.is_ok_and(|answer| {
        assert!([200, 503].contains(&answer.status), "{}", answer.text);
        answer.status == 200
    })
}

/// The name of the pair that is active, after checking that it is one pair and that its rows are those.
async fn active_pair(api: &Api, home: &Home) -> String {
    let listed = api.get("/v1/platform/contracts").await.unwrap().expect(200).unwrap();
    let of = |kind: &str, id: &str| {
        let found = listed["items"].as_array().unwrap().iter().find(|i| i["kind"] == kind && i["id"] == id);
        let found = found.unwrap_or_else(|| panic!("{kind}/{id} in {listed}"));
        assert!(found["problem"].is_null(), "{found}");
        found["document"]["spec"].clone()
    };
    let (agent, shop) = (of("agent", "clerk"), of("provider", "shop"));
    let name = agent["instructions"].as_str().unwrap().to_owned();
    assert_eq!(shop["url"], format!("https://tools.example.com/{name}"), "one pair");
    assert_eq!(agent["grants"][0]["tool"], format!("shop__{}", shop["tools"][0]["name"].as_str().unwrap()));
    let (code, doctor) = home.cli_json(&["doctor"]).await.unwrap();
    assert_eq!(code, 0, "{doctor}");
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_server_killed_while_contracts_change_leaves_a_pair_that_fits() {
    let database = TestDatabase::private().await.unwrap();
    let home = home_on(database.urls());
    let mut server = home.start().await.expect("the server starts");
    let brain = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let project =
        json!({"kind": "project", "project": PROJECT, "id": PROJECT, "spec": {"display_name": "Killed"}});
    let base = [project, json!({"kind": "provider", "project": PROJECT, "id": "brain", "spec": brain})];
    let inside = |server: &awooop_journeys::server::Server| server.api().in_project(PROJECT);
    inside(&server).apply(&[&base[..], &pair("a")[..]].concat()).await.expect("the manifests are valid");
    let (mut applied, mut seen) = (0, Vec::new());
    for kill in 0..KILLS {
        let api = inside(&server);
        let is_under_way = tokio::sync::Notify::new();
        let client = async {
            let mut done = 0;
            // ends when the server is gone
            while apply(&api, &pair(["b", "a"][done % 2])).await {
                done += 1;
                is_under_way.notify_one();
            }
            done
        };
        // another moment of the next activation every time
        let killer = async {
            is_under_way.notified().await;
            tokio::time::sleep(Duration::from_millis(kill * 9)).await;
            server.kill().expect("the server is there to be killed");
        };
        let (done, ()) = tokio::join!(client, killer);
        applied += done;
        server = home.start().await.expect("the server starts again");
        seen.push(active_pair(&inside(&server), &home).await);
    }
    println!("{KILLS} kills among {applied} activations; found active: {seen:?}");
}
