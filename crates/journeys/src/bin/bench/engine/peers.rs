//! The engine's peers: each a Node process of `bench/engine`, on a fresh database of the peers' own cluster, or on a
//! Restate server of its own. The script prints a JSON line where a measurement begins and ends; the CPU of the peer's
//! PostgreSQL or server, and the write-ahead log, are read at these lines. Everything is killed with its handle.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use awooop_journeys::client::Api;
use awooop_journeys::cluster::Cluster;
use awooop_journeys::db::connect;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_postgres::Client;
use tokio_postgres::config::Host;

use super::{Measured, Sizes};
use crate::{cpu, peer};

/// All of them.
pub(super) const PEERS: [&str; 5] = ["graphile-500", "graphile-2000", "pgboss", "dbos", "restate"];
/// Those that do some hundreds a second.
const SLOW: [&str; 2] = ["dbos", "restate"];
const SCRIPT: &str = "bench/engine/main.mjs";
const RESTATE: &str = "node_modules/@restatedev/restate-server-linux-x64/bin/restate-server";
/// Callers that add one at a time.
const CALLERS: usize = 64;
/// Longest a peer's measurements may take.
const AT_MOST: Duration = Duration::from_secs(120);
/// Longest a Restate server may take to start.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Did `bench/run` install them?
pub(super) fn is_installed() -> bool {
    std::env::var_os(peer::VARIABLE).is_some()
}

/// Where peers run.
pub(super) struct Peers {
    cluster: Cluster,
    admin: Client,
}

impl Peers {
    pub(super) async fn start() -> anyhow::Result<Peers> {
        let cluster = Cluster::start().await.context("the peers' cluster")?;
        let admin = connect(&cluster.urls().admin).await?;
        Ok(Peers { cluster, admin })
    }

    /// One round of a peer.
    pub(super) async fn measure(&self, name: &str, sizes: &Sizes) -> anyhow::Result<Vec<Measured>> {
        let installed = std::env::var_os(peer::VARIABLE).context("the peers are not installed")?;
        let jobs = if SLOW.contains(&name) { sizes.slow_jobs } else { sizes.jobs };
        let mut command = Command::new("node");
        command.arg(SCRIPT).arg(installed).arg(name);
        command.args([jobs, CALLERS, sizes.seconds].map(|number| number.to_string()));
        let following = async {
            if name == "restate" {
                let server = Restate::start().await?;
                command.env("RESTATE_INGRESS", &server.ingress).env("RESTATE_ADMIN", &server.admin);
                return follow(command, Server::Restate(&server)).await;
            }
            self.admin.batch_execute("DROP DATABASE IF EXISTS peer WITH (FORCE)").await?;
            self.admin.batch_execute("CREATE DATABASE peer").await?;
            self.point(&mut command)?;
            follow(command, Server::Postgres(self)).await
        };
        let ended = tokio::time::timeout(AT_MOST, following).await;
        ended.with_context(|| format!("not done after {AT_MOST:?}"))?
    }

    /// Points a command to the peers' database.
    fn point(&self, command: &mut Command) -> anyhow::Result<()> {
        let config: tokio_postgres::Config = self.cluster.urls().admin.parse()?;
        if let Some(Host::Unix(directory)) = config.get_hosts().first() {
            command.env("PGHOST", directory);
        }
        let password = config.get_password().map(|p| String::from_utf8_lossy(p).into_owned());
        command.env("PGPORT", config.get_ports().first().copied().unwrap_or(5432).to_string());
        command.env("PGUSER", config.get_user().unwrap_or_default());
        command.env("PGPASSWORD", password.unwrap_or_default());
        command.env("PGDATABASE", "peer");
        Ok(())
    }
}

/// What a peer keeps its jobs in.
enum Server<'a> {
    Postgres(&'a Peers),
    Restate(&'a Restate),
}

impl Server<'_> {
    /// CPU seconds, and bytes of write-ahead log where there is one.
    async fn read(&self) -> anyhow::Result<(f64, Option<i64>)> {
        match self {
            Server::Postgres(peers) => {
                let postmaster = peers.cluster.postmaster_pid().context("the peers' cluster runs")?;
                let wal = peers.admin.query_one(super::site::WAL, &[]).await?.get(0);
                Ok((cpu::of_postgres(postmaster)?, Some(wal)))
            }
            Server::Restate(server) => {
                let pid = server.child.id().context("the server runs")?;
                Ok((cpu::of_process(pid)?, None))
            }
        }
    }
}

async fn follow(mut command: Command, server: Server<'_>) -> anyhow::Result<Vec<Measured>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("node does not start")?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is a pipe")?).lines();
    let (mut measured, mut before) = (Vec::new(), server.read().await?);
    while let Some(text) = lines.next_line().await? {
        let line: Value = serde_json::from_str(&text).with_context(|| format!("the peer said: {text}"))?;
        let now = server.read().await?;
        if line["begins"].is_string() {
            before = now;
            continue;
        }
        let number = |member: &str| line[member].as_f64();
        let count = number("jobs").context("a result names its jobs")?;
        measured.push(Measured {
            what: line["name"].as_str().unwrap_or_default().to_owned(),
            count,
            per_s: number("rate").or(number("per_s")).unwrap_or_default(),
            process_us: number("process_us").unwrap_or_default(),
            server_us: (now.0 - before.0) * 1e6 / count,
            wal: now.1.zip(before.1).map(|(now, before)| (now - before) as f64 / count),
            start_ms: number("p50_ms").zip(number("p99_ms")),
        });
    }
    let status = child.wait().await?;
    anyhow::ensure!(status.success(), "the peer ended with {status}");
    Ok(measured)
}

/// A Restate server on ports of 127.0.0.1, with its data in a temporary directory.
struct Restate {
    child: Child,
    ingress: String,
    admin: String,
    _data: TempDir,
}

impl Restate {
    async fn start() -> anyhow::Result<Restate> {
        let installed = std::env::var_os(peer::VARIABLE).context("the peers are not installed")?;
        let data = tempfile::tempdir()?;
        let [ingress, admin, node] = [free_address()?, free_address()?, free_address()?];
        let mut command = Command::new(std::path::Path::new(&installed).join(RESTATE));
        command.args(["--node-name", "bench"]).env_clear();
        for (name, value) in [
            ("RESTATE_BIND_IP", "127.0.0.1"),
            ("RESTATE_ADVERTISED_HOST", "127.0.0.1"),
            ("RESTATE_LISTEN_MODE", "tcp"),
            ("RESTATE_DISABLE_TELEMETRY", "true"),
            ("DO_NOT_TRACK", "1"),
            ("RESTATE_LOG_FILTER", "error"),
            ("RESTATE_INGRESS__BIND_ADDRESS", &ingress),
            ("RESTATE_ADMIN__BIND_ADDRESS", &admin),
            ("RESTATE_BIND_ADDRESS", &node),
        ] {
            command.env(name, value);
        }
        command.env("RESTATE_BASE_DIR", data.path());
        let quiet = [Stdio::null(), Stdio::null(), Stdio::null()];
        let [stdin, stdout, stderr] = quiet;
        let child = command.stdin(stdin).stdout(stdout).stderr(stderr).kill_on_drop(true).spawn();
        let child = child.context("the Restate server does not start")?;
        let url = |address: &str| format!("http://{address}");
        let server = Restate { child, ingress: url(&ingress), admin: url(&admin), _data: data };
        let (api, began) = (Api::new(&server.admin, None)?, Instant::now());
        while !api.get("/health").await.is_ok_and(|answer| answer.status == 200) {
            anyhow::ensure!(began.elapsed() < START_WITHIN, "the Restate server is not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }
}

/// An address of 127.0.0.1 that nobody listened on a moment ago.
fn free_address() -> anyhow::Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
