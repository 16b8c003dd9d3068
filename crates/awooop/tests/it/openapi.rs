//! Schemathesis over the live document: generated requests, good and bad, against every operation but the
//! event stream (which has tests of its own). No answer is a 5xx, and none is undocumented.

use std::process::Command;

use awooop_journeys::fixture_mcp::FixtureMcp;
use serde_json::json;

use crate::support::{make_project, python, site};

#[tokio::test(flavor = "multi_thread")]
async fn heavy_generated_requests_get_only_documented_answers() {
    let (site, fixture) = (site().await, FixtureMcp::start().await.unwrap());
    let owner = make_project(site.server.api(), "fuzzed", &fixture, "slow").await;
    let key = owner.create_key(&json!({"name": "fuzzer", "role": "admin"})).await.unwrap();
    let report = site.home.path().join("fuzzing");
    std::fs::create_dir(&report).unwrap();
    let mut command = Command::new(python());
    command.args(["-m", "schemathesis.cli", "run"]).arg(format!("{}/openapi.json", site.server.url()));
    command.args(["--header", &format!("Authorization: Bearer {key}")]);
    command.args(["--exclude-operation-id", "watch_run"]);
    command.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "7"]);
    command.args(["--request-timeout", "20", "--warnings", "off", "--continue-on-failure", "--no-color"]);
    // its caches belong into the test's directory
    command.current_dir(&report).env("HOME", &report);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n--- the server said:\n{}", site.home.log());
    assert!(said.contains("passed") || said.contains("No issues found"), "it did test something: {said}");
    println!(
        "{}",
        said.lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    let (code, found) = site.home.cli_json(&["doctor"]).await.unwrap();
    assert_eq!(code, 0, "{found}");
}
