//! The peer beside us: graphile-worker in a Node process, on a cluster of its own with the same settings.
//!
//! `bench/graphile.mjs` does the work and prints a JSON line where a measurement begins and ends; CPU of its
//! PostgreSQL is read at these lines. Where it was installed is named by `AWOOOP_BENCH_GRAPHILE`. The
//! process is killed with its handle.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use awooop_journeys::cluster::Cluster;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio_postgres::config::Host;

use crate::cpu;
use crate::stats::Options;

/// The variable that names the directory where the peer is installed.
pub(crate) const VARIABLE: &str = "AWOOOP_BENCH_GRAPHILE";
const SCRIPT: &str = include_str!("../../../../../bench/graphile.mjs");
/// Longest a round of the peer may take.
const AT_MOST: Duration = Duration::from_secs(240);

/// A measurement of the peer, with what its PostgreSQL used.
pub(crate) struct Measured {
    /// What the peer's process printed.
    pub(crate) line: Value,
    /// CPU of its PostgreSQL, in microseconds a job.
    pub(crate) postgres_us: f64,
}

/// One round of every measurement of the peer.
pub(crate) async fn measure(cluster: &Cluster, options: &Options) -> anyhow::Result<Vec<Measured>> {
    let numbers = [options.runs, options.callers, options.rate as usize, options.seconds as usize];
    ask(cluster, &numbers).await
}

async fn ask(cluster: &Cluster, numbers: &[usize]) -> anyhow::Result<Vec<Measured>> {
    let installed = std::env::var_os(VARIABLE).context("the peer is not installed")?;
    let mut command = Command::new("node");
    command.args(["--input-type=module", "--eval", SCRIPT]).arg(installed);
    for number in numbers {
        command.arg(number.to_string());
    }
    let config: tokio_postgres::Config = cluster.urls().admin.parse()?;
    if let Some(Host::Unix(directory)) = config.get_hosts().first() {
        command.env("PGHOST", directory);
    }
    command.env("PGPORT", config.get_ports().first().copied().unwrap_or(5432).to_string());
    command.env("PGUSER", config.get_user().unwrap_or_default());
    let password = config.get_password().map(|p| String::from_utf8_lossy(p).into_owned());
    command.env("PGPASSWORD", password.unwrap_or_default());
    command.env("PGDATABASE", config.get_dbname().unwrap_or_default());
    tokio::time::timeout(AT_MOST, follow(command, cluster))
        .await
        .with_context(|| format!("the peer is not done after {AT_MOST:?}"))?
}

async fn follow(mut command: Command, cluster: &Cluster) -> anyhow::Result<Vec<Measured>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("node does not start")?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is a pipe")?).lines();
    let postmaster = cluster.postmaster_pid().context("the peer's cluster runs")?;
    let (mut measured, mut before) = (Vec::new(), 0.0);
    while let Some(text) = lines.next_line().await? {
        let line: Value = serde_json::from_str(&text).with_context(|| format!("the peer said: {text}"))?;
        let now = cpu::of_postgres(postmaster)?;
        match line["jobs"].as_f64() {
            Some(jobs) => measured.push(Measured { line, postgres_us: (now - before) * 1e6 / jobs }),
            None => before = now,
        }
    }
    let status = child.wait().await?;
    anyhow::ensure!(status.success(), "the peer ended with {status}");
    Ok(measured)
}
