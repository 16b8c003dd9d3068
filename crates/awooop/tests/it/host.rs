//! What a project reaches of the host: nothing that the operator did not list for it, neither when a contract
//! is applied nor from inside a tool server that runs as a child.
//!
//! Addresses, commands and credentials of this machine are asked for by every way a contract has.

mod addresses;
mod children;
mod credentials;
mod intruder;

use awooop_journeys::client::Api;
use serde_json::{Value, json};

use crate::gates::agent_client;
use crate::scripted::{Stage, agent, ask_mcp, manifest};

const PROJECT: &str = "gated";

/// The same tool server behind a credential.
fn with_credential(mut spec: Value, credential: &str) -> Value {
    spec["auth"] = json!({"header": "Authorization", "credential": credential});
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_contract_names_nothing_that_the_operator_did_not_list() {
    let list = "private_addresses = [\"127.0.0.0/8\"]\n[projects.gated]\nuid = 200008\n\
        commands = { listed = \"/usr/bin/id\" }\n";
    let stage = Stage::start(&[], Some(list)).await;
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let kept = [
        manifest("project", PROJECT, PROJECT, json!({"display_name": "Guests"})),
        manifest("provider", PROJECT, "brain", offline),
    ];
    let api: Api = stage.apply(PROJECT, &kept).await;
    let contracts = || async { api.get("/v1/platform/contracts").await.unwrap().expect(200).unwrap() };
    let before = contracts().await;
    let stdio = |env: Value| {
        json!({"type": "mcp", "transport": "stdio", "command": "sh", "args": ["-c", "id"], "tools": [],
            "env": env})
    };
    let command = |name: &str| {
        let mut spec = stdio(json!({}));
        spec["command"] = json!(name);
        spec
    };
    let http = |url: &str| json!({"type": "mcp", "transport": "http", "url": url, "tools": []});
    let model =
        |url: &str| json!({"type": "llm", "dialect": "openai", "base_url": url, "models": [{"name": "m"}]});
    let secret = with_credential(http("http://127.0.0.1:9/mcp"), "env://PATH");
    for (spec, path) in [
        (stdio(json!({})), "/spec/command"),
        (stdio(json!({"K": "env://HOME"})), "/spec/env/K"),
        (command("/usr/bin/id"), "/spec/command"),
        (command("../bin/id"), "/spec/command"),
        (command("./listed"), "/spec/command"),
        (command("listed -c id"), "/spec/command"),
        (command("listed;id"), "/spec/command"),
        (command("$(id)"), "/spec/command"),
        (command("`id`"), "/spec/command"),
        (command("listed\n"), "/spec/command"),
        (command("listed\0"), "/spec/command"),
        (command("Listed"), "/spec/command"),
        (command("lіsted"), "/spec/command"),
        (command(""), "/spec/command"),
        (http("http://10.0.0.1/mcp"), "/spec/url"),
        (http("http://169.254.169.254/latest"), "/spec/url"),
        (http("http://[::ffff:10.0.0.1]/mcp"), "/spec/url"),
        (model("http://192.168.0.1:11434/v1"), "/spec/base_url"),
        (secret, "/spec/auth/credential"),
    ] {
        let manifests = [
            manifest(
                "agent",
                PROJECT,
                "newcomer",
                agent(PROJECT, "x", "brain/planner", &[], json!({}))["spec"].clone(),
            ),
            manifest("provider", PROJECT, "outside", spec.clone()),
        ];
        let body = json!({ "manifests": manifests });
        let answer = api.post("/v1/platform/contracts", &body).await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, "E-CONTRACT-001"),
            "{spec}: {}",
            answer.text
        );
        let named: Vec<String> = answer.json()["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["path"].as_str().unwrap().to_owned())
            .collect();
        assert!(named.contains(&format!("/manifests/1{path}")), "{spec}: {named:?}");
    }
    assert_eq!(contracts().await, before, "not even the manifest that was fine");

    let file = stage.home.path().join("outside.yaml");
    let one = manifest("provider", PROJECT, "outside", http("http://10.0.0.1/mcp"));
    std::fs::write(&file, one.to_string()).unwrap();
    let arguments = ["apply", "-f", file.to_str().unwrap(), "--project", PROJECT];
    let (code, said) = stage.home.cli_json(&arguments).await.unwrap();
    assert_eq!((code, &said["error"]["code"]), (2, &json!("E-CONTRACT-001")), "{said}");
    assert_eq!(contracts().await, before);
}

/// A tool server in shell: its one tool answers with the environment it lives in.
const ENVIRONMENT_SERVER: &str = r#"#!/bin/sh
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9][0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) result='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"env","version":"1"}}' ;;
    *'"tools/list"'*) result='{"tools":[{"name":"show","description":"Shows","inputSchema":{"type":"object"}}]}' ;;
    *'"tools/call"'*)
      seen=$(env | tr '\n' ' ' | tr -d '"\\')
      result="{\"content\":[{\"type\":\"text\",\"text\":\"seen: $seen length ${#MINE} end\"}]}" ;;
    *) result='{}' ;;
  esac
  [ -n "$id" ] && printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_child_gets_the_credentials_it_was_given_and_nothing_else_of_the_server() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::Builder::new()
        .prefix("awooop-child-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = place.path().join("server.sh");
    std::fs::write(&program, ENVIRONMENT_SERVER).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let list = format!(
        "allow_same_uid_children = true\nprivate_addresses = [\"127.0.0.1\"]\n[projects.gated]\nuid = 200009\n\
         env = [\"AWOOOP_TEST_GIVEN\"]\ncommands = {{ shows = \"{}\" }}\n",
        program.display()
    );
    let more = [("AWOOOP_TEST_GIVEN", "given-value-7"), ("AWOOOP_TEST_KEPT", "kept-value-7")];
    let stage = Stage::start(&more, Some(&list)).await;
    let stdio = json!({"type": "mcp", "transport": "stdio", "command": "shows",
        "env": {"MINE": "env://AWOOOP_TEST_GIVEN"}, "tools": [{"name": "show", "risk": "read_only"}]});
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let manifests = [
        manifest("project", PROJECT, PROJECT, json!({"display_name": "Children"})),
        manifest("provider", PROJECT, "host", stdio),
        manifest("provider", PROJECT, "brain", offline),
        agent(PROJECT, "tester", "brain/planner", &["host__show"], json!({})),
    ];
    let api = stage.apply(PROJECT, &manifests).await;
    let client = agent_client(&api, "tester").await;
    let said = ask_mcp(&client, "tools/call", json!({"name": "host__show"})).await.json();
    let seen = said["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{said}"));
    // it has the value, and does not get it past the gateway
    assert!(seen.contains("MINE=[SECRET]") && seen.contains("length 13"), "{seen}");
    for kept in ["AWOOOP_", "given-value-7", "kept-value-7", "DATABASE", "password", stage.server.key()] {
        assert!(!seen.contains(kept), "{kept} in {seen}");
    }
}
