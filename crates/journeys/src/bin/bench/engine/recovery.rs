//! How long the runs of a killed worker wait for another: real `awooop serve` processes with their defaults, on a database
//! that `awooop migrate` made, and a model that does not answer, so that every run is in the middle of a step.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use awooop_journeys::client::Api;
use awooop_journeys::cluster::Cluster;
use awooop_journeys::db::connect;
use awooop_journeys::process::Process;
use awooop_journeys::server::Home;
use serde_json::json;
use tokio_postgres::Client;

/// Runs under way when the worker is killed.
const RUNS: i64 = 40;
const PROJECT: &str = "measured";
/// Longest anything here may take.
const AT_MOST: Duration = Duration::from_secs(90);
const STEP: Duration = Duration::from_millis(20);

/// From the kill to the moment when the other worker has every run.
pub(super) async fn measure() -> anyhow::Result<Duration> {
    let cluster = Cluster::start().await?;
    let admin = connect(&cluster.urls().in_database("postgres").admin).await?;
    admin.batch_execute("CREATE DATABASE recovery").await?;
    let urls = cluster.urls().in_database("recovery");
    let home = Home::new()?
        .env("AWOOOP_DATABASE_URL", &urls.app)
        .env("AWOOOP_DISPATCH_DATABASE_URL", &urls.dispatch)
        .env("AWOOOP_OWNER_DATABASE_URL", &urls.owner);
    let keys = home.path().join("keys").display().to_string();
    std::fs::write(home.path().join("operator.toml"), "private_addresses = [\"127.0.0.1\"]\n")?;
    let mut migrate = home.command(&["migrate", "--admin-url", &urls.admin, "--keys", &keys]);
    let made = migrate.stderr(Stdio::null()).output().context("`awooop migrate` does not start")?;
    anyhow::ensure!(made.status.success(), "`awooop migrate` failed");
    let key = String::from_utf8(made.stdout)?.trim().to_owned();

    // it accepts connections, which nobody takes up
    let model = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut victim = Node::start(&home, "worker", "victim").await?;
    let front = Node::start(&home, "api", "front").await?;
    let api = Api::new(&front.address()?, Some(&key))?.in_project(PROJECT);
    let base_url = format!("http://{}/v1", model.local_addr()?);
    let models = json!([{"name": "script"}]);
    let provider = json!({"type": "llm", "dialect": "openai", "base_url": base_url, "models": models});
    let agent =
        json!({"instructions": "Answer.", "model": "silent/script", "output_schema": {"type": "object"}});
    let one = |kind: &str, id: &str, spec| json!({"kind": kind, "project": PROJECT, "id": id, "spec": spec});
    api.apply(&[
        one("project", PROJECT, json!({"display_name": "Measured"})),
        one("provider", "silent", provider),
        one("agent", "clerk", agent),
    ])
    .await?;
    for _ in 0..RUNS {
        api.create_run("clerk", &json!("What is the state of order 7?")).await?;
    }
    let inside = connect(&urls.admin).await?;
    until_running(&inside, 1).await.context("the first worker has every run")?;
    let _other = Node::start(&home, "worker", "other").await?;
    let killed = Instant::now();
    victim.process.kill()?;
    until_running(&inside, 2).await.context("the other worker has every run")?;
    Ok(killed.elapsed())
}

async fn until_running(admin: &Client, attempt: i32) -> anyhow::Result<()> {
    let sql = "SELECT count(*) FROM run_state WHERE state = 'running' AND attempt = $1";
    let began = Instant::now();
    while admin.query_one(sql, &[&attempt]).await?.get::<_, i64>(0) < RUNS {
        anyhow::ensure!(began.elapsed() < AT_MOST, "not within {AT_MOST:?}");
        tokio::time::sleep(STEP).await;
    }
    Ok(())
}

/// A process of `awooop serve`.
struct Node {
    process: Process,
    log: PathBuf,
}

impl Node {
    async fn start(home: &Home, role: &str, name: &str) -> anyhow::Result<Node> {
        let log = home.path().join(format!("{name}.log"));
        let file = File::create(&log)?;
        let mut command: Command = home.command(&["serve", "--role", role, "--listen", "127.0.0.1:0"]);
        command.args(["--key-rate", "0"]);
        command.arg("--keys").arg(home.path().join("keys"));
        command.arg("--operator").arg(home.path().join("operator.toml"));
        command.arg("--data-dir").arg(home.path().join(name));
        command.env("AWOOOP_LOG", "info").stdout(file.try_clone()?).stderr(file);
        let mut node = Node { process: Process::spawn(&mut command)?, log };
        let began = Instant::now();
        while !node.said().contains("AwoooP serves") {
            let has_ended = node.process.ended()?.is_some() || began.elapsed() > AT_MOST;
            anyhow::ensure!(!has_ended, "`awooop serve` is not ready:\n{}", node.said());
            tokio::time::sleep(STEP).await;
        }
        Ok(node)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn address(&self) -> anyhow::Result<String> {
        let said = self.said();
        let rest = said.split_once("serves http://").context("the node says where it listens")?.1;
        Ok(format!("http://{}", rest.split_whitespace().next().unwrap_or_default()))
    }
}
