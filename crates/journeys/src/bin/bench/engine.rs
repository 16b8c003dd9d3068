//! The engine alone, beside queues that are libraries as well: creating runs, working them off, and the time from the
//! one to the other. The store is this process' own, on an embedded PostgreSQL with the server's settings; journal,
//! audit, row security, fence, budget and fsync are on. Peers run in a Node process on a cluster of their own with the
//! same settings, one after the other, so that nobody shares the machine with anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use awooop_core::Mode;
use awooop_journeys::cluster::Cluster;
use awooop_journeys::db::{TestDatabase, TestProject, TestStore, agent_id};
use awooop_store::Clock;
use awooop_store::claim::{ClaimedRun, Wish, Worker};
use awooop_store::journal::{Outcome, StepKind, StepResult, StepStatus};
use awooop_store::run::{Created, NewRun};
use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use serde_json::json;
use tokio_postgres::Client;

use crate::{cpu, peer, stats};

const CALLERS: usize = 64;
/// Tasks that claim and end.
const WORKERS: usize = 3;
/// Runs of one project that one claim takes, and projects of one claim.
const CLAIM: usize = 200;
const PROJECTS: usize = 10;
/// Seconds of the latency measurement.
const SECONDS: usize = 6;
/// Jobs of a peer's measurements.
const PEER_JOBS: usize = 10_000;

/// Measures and prints, in Markdown.
pub(crate) async fn measure() -> anyhow::Result<()> {
    println!(
        "# The engine beside queues\n\nMade by `./x bench engine`; what is measured is in [README.md](../README.md).\n"
    );
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores, load average {} before it began.\n", cpu::load());
    println!(
        "| | what | runs | a second | CPU us each: process | PostgreSQL | WAL bytes each | p50 / p99 ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut ours = Vec::new();
    for (projects, runs) in [(1, 10_000), (10, 10_000), (100, 10_000), (1, 100_000)] {
        ours.push(Site::start(projects).await?.measure(runs).await?);
    }
    let mut theirs = Vec::new();
    if std::env::var_os(peer::VARIABLE).is_some() {
        for name in ["graphile-500", "graphile-2000", "pg-boss"] {
            theirs.push((name, peer_rates(name).await?));
        }
    } else {
        println!("\nThe peers are not installed: node and npm are needed.");
    }
    println!(
        "\n| ratio of AwoooP, one project, 10,000 runs | enqueue | drain | drain with a step |\n| --- | --- | --- | --- |"
    );
    for (name, rates) in theirs {
        let ratio = |of: usize| ours[0][of] / rates[of];
        println!("| to {name} | {:.2} | {:.2} | {:.2} |", ratio(0), ratio(1), ratio(2));
    }
    Ok(())
}

/// Enqueued, drained, and drained with a step, a second.
type Rates = [f64; 3];

struct Site {
    test: TestStore,
    projects: Vec<(TestProject, NewRun)>,
    admin: Client,
    postmaster: u32,
}

/// Counters at one moment.
struct Reading {
    at: Instant,
    own: f64,
    postgres: f64,
    wal: i64,
}

impl Site {
    async fn start(projects: usize) -> anyhow::Result<Site> {
        let cluster = Cluster::get().await?;
        let postmaster = cluster.postmaster_pid().context("the cluster is this process' own")?;
        let test = TestStore::open(TestDatabase::private().await?, Clock::system()).await?;
        let mut made = Vec::new();
        for _ in 0..projects {
            let project = test.project_with(Some(1 << 50), 3).await;
            let agent = test.store.find_agent(&project.scope, &agent_id()).await?.context("an agent")?;
            let new = NewRun {
                agent: agent_id(),
                agent_version_id: agent.version_id,
                mode: Mode::Shadow,
                priority: 5,
                trace_id: None,
                parent_run_id: None,
                retry_of: None,
                triggered_by: "a measurement".to_owned(),
                max_attempts: 3,
                timeout: Duration::from_secs(3600),
                input: json!("What is the state of order 7?"),
                idempotency: None,
            };
            made.push((project, new));
        }
        let admin = test.database().admin().await;
        Ok(Site { test, projects: made, admin, postmaster })
    }

    async fn measure(self, runs: usize) -> anyhow::Result<Rates> {
        let what = format!("AwoooP, {} projects", self.projects.len());
        self.enqueue(500).await?;
        self.drain(500, true).await?;
        let enqueued = self.timed(&what, "enqueue", runs, self.enqueue(runs)).await?;
        let drained = self.timed(&what, "drain", runs, self.drain(runs, false)).await?;
        self.enqueue(runs).await?;
        let stepped = self.timed(&what, "drain with a step", runs, self.drain(runs, true)).await?;
        if runs <= 10_000 {
            self.latency(&what, 0.5 / (1.0 / enqueued + 1.0 / stepped)).await?;
        }
        let found = self.test.store.examine().await?;
        anyhow::ensure!(found.is_empty(), "the doctor found something: {found:?}");
        Ok([enqueued, drained, stepped])
    }

    async fn read(&self) -> anyhow::Result<Reading> {
        let wal = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        Ok(Reading {
            at: Instant::now(),
            own: cpu::of_process(std::process::id())?,
            postgres: cpu::of_postgres(self.postmaster)?,
            wal: self.admin.query_one(wal, &[]).await?.get(0),
        })
    }

    async fn timed(
        &self,
        who: &str,
        what: &str,
        runs: usize,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<f64> {
        let before = self.read().await?;
        work.await?;
        let took = before.at.elapsed().as_secs_f64();
        println!(
            "| {who} | {what} | {runs} | {:.0} | {} | |",
            runs as f64 / took,
            self.spent(&before, runs).await?
        );
        Ok(runs as f64 / took)
    }

    async fn spent(&self, before: &Reading, runs: usize) -> anyhow::Result<String> {
        let after = self.read().await?;
        let each = |from: f64, to: f64| (to - from) * 1e6 / runs as f64;
        Ok(format!(
            "{:.0} | {:.0} | {:.0}",
            each(before.own, after.own),
            each(before.postgres, after.postgres),
            (after.wal - before.wal) as f64 / runs as f64,
        ))
    }

    async fn create(&self, n: usize) -> anyhow::Result<()> {
        let (project, new) = &self.projects[n % self.projects.len()];
        match self.test.store.create_run(&project.scope, new).await? {
            Created::New(_) => Ok(()),
            other => anyhow::bail!("a run was not created: {other:?}"),
        }
    }

    async fn enqueue(&self, runs: usize) -> anyhow::Result<()> {
        let mut made = futures::stream::iter((0..runs).map(|n| self.create(n))).buffer_unordered(CALLERS);
        while let Some(one) = made.next().await {
            one?;
        }
        Ok(())
    }

    /// Claims and ends until `runs` have ended.
    async fn drain(&self, runs: usize, has_step: bool) -> anyhow::Result<()> {
        let left = AtomicUsize::new(runs);
        let work = (0..WORKERS).map(async |_| {
            let mut after = String::new();
            while left.load(Ordering::Relaxed) > 0 {
                let claimed = self.claim(&mut after).await?;
                left.fetch_sub(claimed.len(), Ordering::Relaxed);
                self.end(&claimed, has_step).await?;
            }
            anyhow::Ok(())
        });
        try_join_all(work).await.map(drop)
    }

    /// One look, as the worker's claimer has it.
    async fn claim(&self, after: &mut String) -> anyhow::Result<Vec<ClaimedRun>> {
        let store = &self.test.store;
        let me = Worker { id: "measured".to_owned(), incarnation: 1 };
        let due = store.discover(after, PROJECTS as i64).await?;
        *after = due.last().map_or_else(String::new, |due| due.project.to_string());
        let wishes: Vec<Wish> =
            due.into_iter().map(|due| Wish::new(store.clock().new_id(), due.project, CLAIM)).collect();
        if wishes.is_empty() {
            return Ok(Vec::new());
        }
        let claims: Vec<_> = store.claim_each(&wishes, &me).await.into_iter().collect::<Result<_, _>>()?;
        Ok(claims.into_iter().flat_map(|claim| claim.runs).collect())
    }

    async fn end(&self, claimed: &[ClaimedRun], has_step: bool) -> anyhow::Result<()> {
        let store = &self.test.store;
        let outcome = Outcome::Completed(json!({"answer": "42"}));
        let ends = claimed.iter().map(async |run| {
            if !has_step {
                return anyhow::Ok(store.end_run(run, &outcome, None, false).await?);
            }
            let hold = store.reserve(run, 1, 2000, store.clock().after(Duration::from_secs(600))).await?;
            let step = StepResult {
                n: 1,
                kind: StepKind::Llm,
                name: "offline/planner".to_owned(),
                status: StepStatus::Ok,
                code: None,
                started_at: store.clock().now(),
                duration_ms: 1,
                body: store
                    .redactor()
                    .clean(r#"{"input":{},"output":{"answer":"42"},"usage":null,"gates":[]}"#),
            };
            let settlement = hold.settle(40, false);
            Ok(store.end_run(run, &outcome, Some((&step, Some(&settlement))), false).await?)
        });
        join_all(ends).await.into_iter().collect::<Result<Vec<()>, _>>()?;
        // as the last of a claim's runs does
        let leases = claimed.chunk_by(|a, b| a.lease_id == b.lease_id);
        let drops = leases.map(|runs| store.drop_lease(runs[0].scope(), runs[0].lease_id));
        try_join_all(drops).await?;
        Ok(())
    }

    /// From a run's creation to its claim, at a steady rate, while claimed runs are worked off.
    async fn latency(&self, who: &str, rate: f64) -> anyhow::Result<()> {
        let count = (rate * SECONDS as f64) as usize;
        let store = &self.test.store;
        let before = self.read().await?;
        let send = async {
            let mut due = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
            due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            let due = Arc::new(tokio::sync::Mutex::new(due));
            let ticks = (0..count).map(async |n| {
                due.lock().await.tick().await;
                self.create(n).await
            });
            let mut sent = futures::stream::iter(ticks).buffer_unordered(CALLERS);
            while let Some(one) = sent.next().await {
                one?;
            }
            anyhow::Ok(())
        };
        let (claimed, to_end) = futures::channel::mpsc::unbounded();
        let claim = async move {
            let (mut after, mut waits) = (String::new(), Vec::with_capacity(count));
            while waits.len() < count {
                let some = self.claim(&mut after).await?;
                if some.is_empty() {
                    // the bell, or the floor beneath it
                    let _ = tokio::time::timeout(Duration::from_millis(250), store.wake().until_work()).await;
                    continue;
                }
                let now = store.clock().now();
                let wait = |run: &ClaimedRun| Duration::try_from(now.duration_since(run.created_at));
                waits.extend(some.iter().map(|run| wait(run).unwrap_or_default()));
                claimed.unbounded_send(some)?;
            }
            anyhow::Ok(waits)
        };
        let end = async {
            let mut ends =
                to_end.map(async |runs: Vec<ClaimedRun>| self.end(&runs, true).await).buffer_unordered(16);
            while let Some(ended) = ends.next().await {
                ended?;
            }
            anyhow::Ok(())
        };
        let (sent, waits, ended) = tokio::join!(send, claim, end);
        sent?;
        ended?;
        let mut waits = waits?;
        waits.sort_unstable();
        println!(
            "| {who} | latency at {rate:.0}/s | {count} | | {} | {:.1} / {:.1} |",
            self.spent(&before, count).await?,
            stats::percentile_ms(&waits, 0.5),
            stats::percentile_ms(&waits, 0.99),
        );
        Ok(())
    }
}

async fn peer_rates(name: &str) -> anyhow::Result<Rates> {
    let cluster = Cluster::start().await.context("the peer's cluster")?;
    let mut rates = [0.0; 3];
    for measured in peer::measure_engine(&cluster, name, PEER_JOBS, CALLERS, SECONDS).await? {
        let line = &measured.line;
        let what = line["name"].as_str().unwrap_or_default();
        let number = |member: &str| line[member].as_f64().unwrap_or_default();
        match what {
            "enqueue" => rates[0] = number("per_s"),
            "drain" => rates[1] = number("per_s"),
            "drain with a step" => rates[2] = number("per_s"),
            _ => {}
        }
        let cpu = format!("{:.0} | {:.0} |", number("process_us"), measured.postgres_us);
        match what {
            "warm" => {}
            "latency" => println!(
                "| {name} | latency at {:.0}/s | {} | | {cpu} | {:.1} / {:.1} |",
                number("rate"),
                number("jobs"),
                number("p50_ms"),
                number("p99_ms"),
            ),
            _ => println!("| {name} | {what} | {} | {:.0} | {cpu} | |", number("jobs"), number("per_s")),
        }
    }
    Ok(rates)
}
