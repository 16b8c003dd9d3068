//! What is measured: the real server as a child, on an embedded PostgreSQL that can be looked into.
//!
//! The server is `awooop dev` with its three database URLs pointed at a cluster that this process started
//! with the same code and settings as the server's own, because only so is there a superuser's connection
//! to count commits with. Projects have one agent without tools, on the offline planner.

use std::time::{Duration, Instant};

use anyhow::Context;
use awooop_journeys::client::Api;
use awooop_journeys::cluster::Cluster;
use awooop_journeys::server::{Home, Server};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

use crate::{cpu, memory};

/// The agent that every project here has.
pub(crate) const AGENT: &str = "clerk";

/// A server with its database. The fields are dropped in order: the server first, its cluster last.
pub(crate) struct Site {
    server: Server,
    _home: Home,
    admin: Client,
    cluster: Cluster,
}

/// Counters at one moment.
pub(crate) struct Reading {
    at: Instant,
    server: f64,
    postgres: f64,
    client: f64,
    machine: f64,
    transactions: i64,
    wal_bytes: i64,
}

/// What lies between two readings, a run.
pub(crate) struct Spent {
    /// CPU of the server's process, in microseconds a run.
    pub(crate) server_us: f64,
    /// CPU of PostgreSQL, in microseconds a run.
    pub(crate) postgres_us: f64,
    /// CPU of the callers, in microseconds a run.
    pub(crate) client_us: f64,
    /// Transactions that wrote, a run.
    pub(crate) transactions: f64,
    /// Bytes of write-ahead log a run.
    pub(crate) wal_bytes: f64,
    /// Cores that other processes of the machine kept busy meanwhile.
    pub(crate) others: f64,
}

impl Site {
    /// Starts cluster and server.
    pub(crate) async fn start() -> anyhow::Result<Site> {
        let cluster = Cluster::start().await?;
        let urls = cluster.urls();
        let home = Home::new()?
            .env("AWOOOP_DATABASE_URL", &urls.app)
            .env("AWOOOP_DISPATCH_DATABASE_URL", &urls.dispatch)
            .env("AWOOOP_OWNER_DATABASE_URL", &urls.owner);
        let server = home.start().await?;
        let admin = connect(&urls.admin).await?;
        Ok(Site { server, _home: home, admin, cluster })
    }

    /// Makes a project and gives back its API, with a key of an operator.
    pub(crate) async fn make_project(&self, project: &str) -> anyhow::Result<Api> {
        let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
        let agent = json!({
            "instructions": "Answer the question.", "model": "offline/planner", "grants": [],
            "output_schema": {
                "type": "object",
                "required": ["answer"],
                "properties": {"answer": {"type": "string"}},
            },
        });
        let one = |kind: &str, id: &str, spec: Value| json!({"kind": kind, "project": project, "id": id, "spec": spec});
        let display = json!({"display_name": "Measured", "budget": {"tokens": 1_000_000_000_000_i64}});
        let manifests = [
            one("project", project, display),
            one("provider", "offline", offline),
            one("agent", AGENT, agent),
        ];
        let inside = self.server.api().in_project(project);
        inside.apply(&manifests).await.context("the project is valid")?;
        let key = inside.create_key(&json!({"name": "bench", "role": "operator"})).await?;
        Api::new(self.server.url(), Some(&key))
    }

    /// The server's API with the platform admin's key.
    pub(crate) fn api(&self) -> &Api {
        self.server.api()
    }

    /// Settings of the database that matter here, in words.
    pub(crate) async fn facts(&self) -> anyhow::Result<String> {
        let names = "server_version fsync synchronous_commit wal_sync_method shared_buffers max_connections";
        let mut facts = Vec::new();
        for name in names.split(' ') {
            let row = self.admin.query_one("SELECT current_setting($1)", &[&name]).await?;
            facts.push(format!("{name} {}", row.get::<_, String>(0)));
        }
        Ok(facts.join(", "))
    }

    /// A connection of the superuser.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        connect(&self.cluster.urls().admin).await
    }

    /// Bytes of memory of the server's process and of PostgreSQL.
    pub(crate) fn memory(&mut self) -> anyhow::Result<(u64, u64)> {
        let postmaster = self.cluster.postmaster_pid().context("the cluster runs")?;
        Ok((memory::of_process(self.server_pid())?, memory::of_postgres(postmaster)?))
    }

    fn server_pid(&mut self) -> u32 {
        self.server.process().pid().as_raw().unsigned_abs()
    }

    /// Reads all counters.
    pub(crate) async fn read(&mut self) -> anyhow::Result<Reading> {
        let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
                          pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        let row = self.admin.query_one(sql, &[]).await?;
        let postmaster = self.cluster.postmaster_pid().context("the cluster runs")?;
        Ok(Reading {
            at: Instant::now(),
            server: cpu::of_process(self.server_pid())?,
            postgres: cpu::of_postgres(postmaster)?,
            client: cpu::of_process(std::process::id())?,
            machine: cpu::of_machine()?,
            transactions: row.get(0),
            wal_bytes: row.get(1),
        })
    }
}

impl Reading {
    /// What was spent since this reading for each of `runs`.
    pub(crate) fn until(&self, later: &Reading, runs: usize) -> Spent {
        let each = |from: f64, to: f64| (to - from) * 1e6 / runs as f64;
        let known =
            (later.server - self.server) + (later.postgres - self.postgres) + (later.client - self.client);
        let elapsed = later.at.duration_since(self.at).max(Duration::from_millis(1));
        Spent {
            server_us: each(self.server, later.server),
            postgres_us: each(self.postgres, later.postgres),
            client_us: each(self.client, later.client),
            transactions: (later.transactions - self.transactions) as f64 / runs as f64,
            wal_bytes: (later.wal_bytes - self.wal_bytes) as f64 / runs as f64,
            others: ((later.machine - self.machine - known) / elapsed.as_secs_f64()).max(0.0),
        }
    }
}

/// Connects, and drives the connection until the client is dropped.
pub(crate) async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    #[expect(clippy::disallowed_methods, reason = "a driver of a measurement belongs to no project")]
    tokio::spawn(async move {
        // it ends with its client; an error is the next statement's
        let _ = connection.await;
    });
    Ok(client)
}
