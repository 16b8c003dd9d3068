//! What separating projects costs: the walls around one request, and thousands of projects that do nothing.
//!
//! **Walls.** A request as the server sends it, `BEGIN`, `set_project`, the query, `COMMIT` in one flight as the role
//! that row security binds, beside the same flight without `set_project` as a superuser, whom nothing binds, and beside
//! the query alone. One connection each, one request after the other, in turns, so that all see the same weather.
//!
//! **Idle.** A server with one project and the same server with thousands, each with a provider, an agent and a key:
//! memory, and the processor's time while nothing is asked of it.

use std::time::{Duration, Instant};

use anyhow::Context;
use awooop_core::{ProjectId, RunId};
use awooop_journeys::cluster::Cluster;
use awooop_journeys::db::{TestDatabase, TestStore, connect, new_run};
use awooop_store::Clock;
use awooop_store::run::Created;
use futures::StreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::cpu;
use crate::site::Site;

const ROUNDS: usize = 8;
/// Requests of one kind in one round.
const REQUESTS: usize = 2_000;
const PROJECTS: usize = 16;
const RUNS: usize = 500;
/// Projects that are made at the same time.
const MAKERS: usize = 8;
/// How long nothing is asked.
const IDLE: Duration = Duration::from_secs(60);
/// Until what was begun by making projects has ended.
const SETTLE: Duration = Duration::from_secs(20);

/// Each reads one project's rows and names the project, as every statement of the server does.
const QUERIES: [(&str, &str); 3] = [
    (
        "one run by its id",
        "SELECT state, agent_id, attempt FROM awooop.run_state WHERE project_id = $1 AND run_id = $2",
    ),
    (
        "one run with its contract, four tables",
        "SELECT r.state, c.active_version, v.sha256, p.display_name FROM awooop.run_state r
         JOIN awooop.contract_version v ON v.project_id = $1 AND v.version_id = r.agent_version_id
         JOIN awooop.contract c ON c.project_id = $1 AND c.kind = 'agent' AND c.id = r.agent_id
         JOIN awooop.project p ON p.project_id = $1
         WHERE r.project_id = $1 AND r.run_id = $2",
    ),
    (
        "the fifty runs before one",
        "SELECT run_id, state, agent_id FROM awooop.run_state WHERE project_id = $1 AND run_id <= $2
         ORDER BY run_id DESC LIMIT 50",
    ),
];

/// Measures and prints; so many idle projects, none to leave that part out.
pub(crate) async fn measure(idle: usize) -> anyhow::Result<()> {
    println!(
        "load average {}; {} cores",
        cpu::load(),
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    walls().await?;
    if idle > 0 {
        idle_projects(idle).await?;
    }
    Ok(())
}

/// How a request is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Walled,
    Transaction,
    Alone,
}

const FORMS: [(Form, &str); 3] = [
    (Form::Walled, "as the server sends it"),
    (Form::Transaction, "a transaction, no walls"),
    (Form::Alone, "the query alone, no walls"),
];

#[derive(Default, Clone, Copy)]
struct Cost {
    requests: usize,
    took: f64,
    postgres: f64,
}

/// One connection with what it sends prepared.
struct Sender {
    form: Form,
    client: Client,
    set_project: Statement,
    queries: Vec<Statement>,
}

async fn walls() -> anyhow::Result<()> {
    let cluster = Cluster::get().await?;
    let postmaster = cluster.postmaster_pid().context("the cluster is this process' own")?;
    let test = TestStore::open(TestDatabase::private().await?, Clock::system()).await?;
    let runs = make_runs(&test).await?;
    test.database().admin().await.batch_execute("ANALYZE").await?;
    let urls = test.database().urls();
    let mut senders = Vec::new();
    for (form, _) in FORMS {
        let client = connect(if form == Form::Walled { &urls.app } else { &urls.admin }).await?;
        let set_project = client.prepare("SELECT awooop.set_project($1)").await?;
        let mut queries = Vec::new();
        for (_, sql) in QUERIES {
            queries.push(client.prepare(sql).await?);
        }
        senders.push(Sender { form, client, set_project, queries });
    }
    println!(
        "\n| request | how | us | ratio | CPU us of PostgreSQL | ratio |\n| --- | --- | --- | --- | --- | --- |"
    );
    for (q, (what, _)) in QUERIES.iter().enumerate() {
        let mut costs = [Cost::default(); FORMS.len()];
        for round in 0..=ROUNDS {
            for (sender, cost) in senders.iter().zip(&mut costs) {
                let (before, began) = (cpu::of_postgres(postmaster)?, Instant::now());
                for n in 0..REQUESTS {
                    // no two in a row of one project
                    let (project, run_id) = &runs[(n * (RUNS + 1)) % runs.len()];
                    let rows = sender.send(q, project.as_str(), run_id).await?;
                    anyhow::ensure!(rows > 0, "{what}: a run was not found");
                }
                // the first round warms up
                if round > 0 {
                    cost.requests += REQUESTS;
                    cost.took += began.elapsed().as_secs_f64();
                    cost.postgres += cpu::of_postgres(postmaster)? - before;
                }
            }
        }
        let walled = costs[0];
        for (cost, (_, how)) in costs.iter().zip(FORMS) {
            let each = |seconds: f64| seconds * 1e6 / cost.requests as f64;
            println!(
                "| {what} | {how} | {:.0} | {:.2} | {:.0} | {:.2} |",
                each(cost.took),
                walled.took / cost.took,
                each(cost.postgres),
                walled.postgres / cost.postgres,
            );
        }
    }
    Ok(())
}

async fn make_runs(test: &TestStore) -> anyhow::Result<Vec<(ProjectId, RunId)>> {
    let mut runs = Vec::new();
    for _ in 0..PROJECTS {
        let project = test.project_with(Some(1 << 50), 3).await;
        let new = new_run(&test.store, &project).await;
        let create = |_| test.store.create_run(&project.scope, &new);
        let mut made = futures::stream::iter((0..RUNS).map(create)).buffer_unordered(64);
        while let Some(one) = made.next().await {
            match one? {
                Created::New(run_id) => runs.push((project.id.clone(), run_id)),
                other => anyhow::bail!("a run was not created: {other:?}"),
            }
        }
    }
    Ok(runs)
}

impl Sender {
    /// How many rows came.
    async fn send(&self, query: usize, project: &str, run_id: &RunId) -> anyhow::Result<usize> {
        let Self { form, client, set_project, queries } = self;
        let of_set: [&(dyn ToSql + Sync); 1] = [&project];
        let of_query: [&(dyn ToSql + Sync); 2] = [&project, run_id];
        let ask = client.query(&queries[query], &of_query);
        let (begin, commit) = (client.batch_execute("BEGIN"), client.batch_execute("COMMIT"));
        let rows = match form {
            Form::Walled => futures::try_join!(begin, client.query(set_project, &of_set), ask, commit)?.2,
            Form::Transaction => futures::try_join!(begin, ask, commit)?.1,
            Form::Alone => ask.await?,
        };
        Ok(rows.len())
    }
}

async fn idle_projects(count: usize) -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    site.make_project("idle-0").await?;
    println!(
        "\n| projects | memory of the server | of PostgreSQL | CPU of the server, of a core | of PostgreSQL |"
    );
    println!("| --- | --- | --- | --- | --- |");
    idle(&mut site, 1).await?;
    let began = Instant::now();
    let make = |n| {
        let site = &site;
        async move { site.make_project(&format!("idle-{n}")).await }
    };
    let mut made = futures::stream::iter((1..count).map(make)).buffer_unordered(MAKERS);
    while let Some(one) = made.next().await {
        one?;
    }
    drop(made);
    let took = began.elapsed();
    idle(&mut site, count).await?;
    println!("\n{count} projects were made in {:.0} s", took.as_secs_f64());
    Ok(())
}

async fn idle(site: &mut Site, projects: usize) -> anyhow::Result<()> {
    tokio::time::sleep(SETTLE).await;
    let before = site.read().await?;
    tokio::time::sleep(IDLE).await;
    // for each second of one core: what a core spends in a second
    let spent = before.until(&site.read().await?, 1);
    let (server, postgres) = site.memory()?;
    let (mebi, share) = (|bytes: u64| bytes as f64 / 1_048_576.0, |us: f64| us / IDLE.as_micros() as f64);
    println!(
        "| {projects} | {:.0} MiB | {:.0} MiB | {:.4} | {:.4} |",
        mebi(server),
        mebi(postgres),
        share(spent.server_us),
        share(spent.postgres_us)
    );
    Ok(())
}
