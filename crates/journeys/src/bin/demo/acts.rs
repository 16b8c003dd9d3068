//! The demo's acts, in their order. Each does something, checks that it went as it should, and prints it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use awooop_journeys::client::Api;
use awooop_journeys::server::{Home, Server};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::brain::{Brain, patient_analyst};
use crate::show::{answer, heading, line, seconds, steps};

const PROJECT: &str = "ewoooc";
const QUESTIONS: [&str; 5] = [
    "How much did we sell in March 1997?",
    "Who were the top 3 customers in 1997?",
    "What did customer 17 order?",
    "What is the repeat purchase rate of the January 1997 cohort?",
    "1998 年 1 月到 6 月的營收是多少？",
];
/// How long the patient planner thinks before each answer.
const DELAY_MS: u64 = 1_500;
const PATIENCE: Duration = Duration::from_secs(120);

fn shop() -> anyhow::Result<PathBuf> {
    let path = PathBuf::from("examples/ewoooc");
    ensure!(path.is_dir(), "examples/ewoooc is not here: run `./x demo` in the project's directory");
    Ok(path)
}

/// Starts the server with a PostgreSQL of its own.
pub(crate) async fn start(home: &Home) -> anyhow::Result<Server> {
    heading(1, "Start: awooop dev (the server, and a PostgreSQL of its own)");
    let server = home.start().await?;
    line(&format!("ready at {} after {}", server.url(), seconds(server.started_in())));
    line(&format!("data in {}, removed at the end", home.data_dir().display()));
    Ok(server)
}

/// Applies the shop's manifests, and the model's where the environment names one.
pub(crate) async fn apply(home: &Home, brain: &Brain) -> anyhow::Result<()> {
    let shop = shop()?;
    heading(2, "Apply the shop's contracts: awooop apply -f examples/ewoooc");
    applied(home, &shop.to_string_lossy()).await?;
    let more = brain.manifests(&shop)?;
    if !more.is_empty() {
        apply_documents(home, "model.json", &more).await?;
    }
    line(&brain.describe());
    Ok(())
}

async fn applied(home: &Home, path: &str) -> anyhow::Result<()> {
    let (code, document) = home.cli_json(&["apply", "-f", path]).await?;
    ensure!(code == 0, "apply failed: {document}");
    for item in document["items"].as_array().into_iter().flatten() {
        let text = |name: &str| item[name].as_str().unwrap_or_default();
        line(&format!(
            "{:<8} {:<16} version {} {}",
            text("kind"),
            text("id"),
            item["version"],
            text("change")
        ));
    }
    Ok(())
}

async fn apply_documents(home: &Home, name: &str, documents: &[Value]) -> anyhow::Result<()> {
    let directory = home.path().join("manifests").join(name);
    std::fs::create_dir_all(&directory)?;
    for (i, document) in documents.iter().enumerate() {
        std::fs::write(directory.join(format!("{i}.json")), document.to_string())?;
    }
    applied(home, &directory.to_string_lossy()).await
}

/// Asks the agent; returns the first run.
pub(crate) async fn ask(home: &Home) -> anyhow::Result<String> {
    heading(3, "Ask: awooop run shop-analyst \"...\" --project ewoooc");
    let mut first = String::new();
    for question in QUESTIONS {
        let began = Instant::now();
        let (code, document) =
            home.cli_json(&["run", "shop-analyst", question, "--project", PROJECT]).await?;
        answer(question, &document, began.elapsed());
        ensure!(code == 0, "the run did not complete: {}", document["error"]);
        if first.is_empty() {
            first = document["run"]["run_id"].as_str().unwrap_or_default().to_owned();
        }
    }
    Ok(first)
}

/// Another project's administrator asks for the shop's run.
pub(crate) async fn keep_out(server: &Server, run_id: &str) -> anyhow::Result<()> {
    heading(4, "Another project's key asks for that run");
    let manifest = json!({
        "kind": "project", "project": "other", "id": "other", "spec": {"display_name": "Another shop"},
    });
    let other = server.api().in_project("other");
    other.apply(&[manifest]).await?;
    let key = other.create_key(&json!({"name": "stranger", "role": "admin"})).await?;
    let stranger = Api::new(server.url(), Some(&key))?;
    let path = format!("/v1/platform/runs/{run_id}");
    let own = server.api().in_project(PROJECT).get(&path).await?;
    line(&format!("GET {path}"));
    line(&format!("the shop's operator:  {}", own.status));
    let theirs = stranger.get(&path).await?;
    line(&format!("project `other`:      {} {} {}", theirs.status, theirs.code(), theirs.json()["detail"]));
    ensure!(own.status == 200 && theirs.status == 404, "the wall between projects does not hold");
    line("Its rows are invisible to that key in PostgreSQL itself (FORCE ROW LEVEL SECURITY).");
    Ok(())
}

/// Kills the server while the model thinks about a tool's result, and starts it again.
pub(crate) async fn kill_and_resume(home: &Home, server: Server) -> anyhow::Result<Server> {
    heading(5, "kill -9 in the middle of a run");
    line(&format!("an agent whose planner thinks {DELAY_MS} ms before each answer:"));
    apply_documents(home, "patient.json", &patient_analyst(&shop()?, DELAY_MS)?).await?;
    let api = server.api().in_project(PROJECT);
    let question = "Who were the top 3 customers in 1997?";
    let run_id = api.create_run("patient-analyst", &json!(question)).await?;
    let began = Instant::now();
    let before = wait_for_steps(&api, &run_id, 2).await?;
    line(&format!("after {} two steps are recorded, and the model is thinking:", seconds(began.elapsed())));
    steps(&json!({ "steps": before }));
    server.kill()?;
    line("kill -9. The server is gone, and its PostgreSQL with it.");
    let server = home.start().await?;
    let ready = Instant::now();
    line(&format!("started again: ready after {}", seconds(server.started_in())));
    let api = server.api().in_project(PROJECT);
    let document = api.wait_for_end(&run_id, PATIENCE).await?;
    let after = api.steps(&run_id).await?;
    line(&format!("the run ended {} later, without being asked again:", seconds(ready.elapsed())));
    steps(&json!({ "steps": after }));
    for text in document["output"]["answer"].as_str().unwrap_or_default().lines() {
        line(text);
    }
    check_resumed(&document, &before, &after)?;
    line("Epoch 1 is the life before: those steps were read back, not done again.");
    Ok(server)
}

async fn wait_for_steps(api: &Api, run_id: &str, n: usize) -> anyhow::Result<Vec<Value>> {
    let began = Instant::now();
    loop {
        let steps = api.steps(run_id).await?;
        if steps.len() >= n {
            return Ok(steps);
        }
        ensure!(began.elapsed() < PATIENCE, "the run does not get on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn check_resumed(document: &Value, before: &[Value], after: &[Value]) -> anyhow::Result<()> {
    let state = document["run"]["state"].as_str().unwrap_or_default();
    ensure!(state == "completed", "the run is {state}: {}", document["error"]);
    let kept = after.get(..before.len()).context("steps are missing")?;
    ensure!(kept == before, "a step that was recorded has changed");
    let later = &after[before.len()..];
    ensure!(!later.is_empty(), "nothing was left to do after the kill");
    ensure!(later.iter().all(|step| step["epoch"].as_i64() > Some(1)), "a later step is of the first life");
    Ok(())
}

/// Asks the doctor and stops the server as an operator would.
pub(crate) async fn end(home: &Home, server: Server) -> anyhow::Result<()> {
    heading(6, "Check and stop: awooop doctor, then SIGTERM");
    let (code, document) = home.cli_json(&["doctor"]).await?;
    ensure!(code == 0, "the doctor found something: {document}");
    line("the doctor finds nothing wrong: queue, leases, budgets, contracts, row security");
    let began = Instant::now();
    let status = server.stop(Signal::SIGTERM).await?;
    ensure!(status.success(), "the server ended with {status}");
    line(&format!("stopped in {}, exit code 0", seconds(began.elapsed())));
    Ok(())
}
