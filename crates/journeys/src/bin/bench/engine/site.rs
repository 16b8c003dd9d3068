//! Our engine as a library: the store of this process on a database of its own, and what a worker does with it, without
//! models and tools.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use awooop_journeys::cluster::Cluster;
use awooop_journeys::db::{TestDatabase, TestProject, TestStore, new_run};
use awooop_store::Clock;
use awooop_store::claim::{ClaimedRun, Due, Wish, Worker};
use awooop_store::journal::{Outcome, StepKind, StepResult, StepStatus};
use awooop_store::run::{Created, NewRun};
use futures::StreamExt;
use futures::future::try_join_all;
use serde_json::json;
use tokio_postgres::Client;

use super::Measured;
use crate::{cpu, stats};

/// Callers that create one run at a time.
const CALLERS: usize = 64;
/// The same where creating is not what is measured.
const MANY_CALLERS: usize = 1024;
/// Tasks that claim and end.
const WORKERS: usize = 3;
/// Runs of one project that one claim takes, and projects of one claim.
const CLAIM: usize = 200;
const PROJECTS: usize = 25;
/// Runs before anything is measured.
const WARM_UP: usize = 1000;
/// What has been written to the log so far, in bytes.
pub(super) const WAL: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";

/// A store with projects in it.
pub(super) struct Site {
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
    /// A fresh database with so many projects.
    pub(super) async fn start(projects: usize) -> anyhow::Result<Site> {
        let cluster = Cluster::get().await?;
        let postmaster = cluster.postmaster_pid().context("the cluster is this process' own")?;
        let test = TestStore::open(TestDatabase::private().await?, Clock::system()).await?;
        let mut made = Vec::new();
        for _ in 0..projects {
            let project = test.project_with(Some(1 << 50), 3).await;
            let timeout = Duration::from_secs(3600);
            let new = NewRun { timeout, ..new_run(&test.store, &project).await };
            made.push((project, new));
        }
        let admin = test.database().admin().await;
        Ok(Site { test, projects: made, admin, postmaster })
    }

    /// Creates, works off without a step, works off with one, and takes the time from creation to claim.
    pub(super) async fn measure(self, runs: usize, seconds: usize) -> anyhow::Result<Vec<Measured>> {
        self.warm_up().await?;
        let enqueued = self.timed("enqueue", runs, self.enqueue(runs, CALLERS)).await?;
        let drained = self.timed("drain", runs, self.drain(runs, false)).await?;
        self.enqueue(runs, MANY_CALLERS).await?;
        let stepped = self.timed("drain with a step", runs, self.drain(runs, true)).await?;
        let rate = 0.5 / (1.0 / enqueued.per_s + 1.0 / stepped.per_s);
        let latency = self.latency(rate, seconds).await?;
        self.is_sound().await?;
        Ok(vec![enqueued, drained, stepped, latency])
    }

    /// Creates `queued` runs and works `some` of them off, twice.
    pub(super) async fn measure_deep(self, queued: usize, some: usize) -> anyhow::Result<Vec<Measured>> {
        self.warm_up().await?;
        let enqueued = self.timed("enqueue", queued, self.enqueue(queued, MANY_CALLERS)).await?;
        let drained = self.timed("drain", some, self.drain(some, false)).await?;
        let stepped = self.timed("drain with a step", some, self.drain(some, true)).await?;
        Ok(vec![enqueued, drained, stepped])
    }

    /// Connections, caches, and the statistics that any database has a minute after it began to be used.
    async fn warm_up(&self) -> anyhow::Result<()> {
        self.enqueue(WARM_UP, CALLERS).await?;
        self.drain(WARM_UP, true).await?;
        self.admin.batch_execute("ANALYZE").await?;
        self.enqueue(WARM_UP, CALLERS).await?;
        self.drain(WARM_UP, false).await
    }

    /// Nothing was lost, and nothing done twice.
    async fn is_sound(&self) -> anyhow::Result<()> {
        let found = self.test.store.examine().await?;
        anyhow::ensure!(found.is_empty(), "the doctor found something: {found:?}");
        Ok(())
    }

    async fn read(&self) -> anyhow::Result<Reading> {
        Ok(Reading {
            at: Instant::now(),
            own: cpu::of_process(std::process::id())?,
            postgres: cpu::of_postgres(self.postmaster)?,
            wal: self.admin.query_one(WAL, &[]).await?.get(0),
        })
    }

    async fn timed(
        &self,
        what: &str,
        runs: usize,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Measured> {
        let before = self.read().await?;
        work.await?;
        let took = before.at.elapsed().as_secs_f64();
        self.measured(what, &before, runs, runs as f64 / took).await
    }

    async fn measured(
        &self,
        what: &str,
        before: &Reading,
        runs: usize,
        per_s: f64,
    ) -> anyhow::Result<Measured> {
        let (after, count) = (self.read().await?, runs as f64);
        Ok(Measured {
            what: what.to_owned(),
            count,
            per_s,
            process_us: (after.own - before.own) * 1e6 / count,
            server_us: (after.postgres - before.postgres) * 1e6 / count,
            wal: Some((after.wal - before.wal) as f64 / count),
            start_ms: None,
        })
    }

    async fn create(&self, n: usize) -> anyhow::Result<()> {
        let (project, new) = &self.projects[n % self.projects.len()];
        match self.test.store.create_run(&project.scope, new).await? {
            Created::New(_) => Ok(()),
            other => anyhow::bail!("a run was not created: {other:?}"),
        }
    }

    async fn enqueue(&self, runs: usize, callers: usize) -> anyhow::Result<()> {
        let mut made = futures::stream::iter((0..runs).map(|n| self.create(n))).buffer_unordered(callers);
        while let Some(one) = made.next().await {
            one?;
        }
        Ok(())
    }

    /// Claims and ends until `runs` have ended; no more than `runs` where more are queued.
    async fn drain(&self, runs: usize, has_step: bool) -> anyhow::Result<()> {
        let left = AtomicUsize::new(runs);
        let work = (0..WORKERS).map(async |_| {
            let mut after = String::new();
            while let Some(most) = share(&left, CLAIM * self.projects.len().min(PROJECTS)) {
                let (claimed, _) = self.claim(&mut after, most).await?;
                left.fetch_add(most - claimed.len(), Ordering::Relaxed);
                self.end(&claimed, has_step).await?;
            }
            anyhow::Ok(())
        });
        try_join_all(work).await.map(drop)
    }

    /// One look for at most `most` runs, as the worker's claimer has it, and whether another may find more.
    async fn claim(&self, after: &mut String, most: usize) -> anyhow::Result<(Vec<ClaimedRun>, bool)> {
        let store = &self.test.store;
        let me = Worker { id: "measured".to_owned(), incarnation: 1 };
        let due = store.discover(after, PROJECTS as i64).await?;
        if let Some(last) = due.last() {
            *after = last.project.to_string();
        }
        let (is_whole, each) = (due.len() < PROJECTS, (most / due.len().max(1)).clamp(1, CLAIM));
        let wish = |due: Due| Wish::new(store.clock().new_id(), due.project, each);
        let wishes: Vec<Wish> = due.into_iter().take(most).map(wish).collect();
        if wishes.is_empty() {
            return Ok((Vec::new(), false));
        }
        let claims: Vec<_> = store.claim_each(&wishes, &me).await.into_iter().collect::<Result<_, _>>()?;
        let is_emptied = is_whole && claims.iter().all(|claim| claim.runs.len() < each);
        Ok((claims.into_iter().flat_map(|claim| claim.runs).collect(), !is_emptied))
    }

    async fn end(&self, claimed: &[ClaimedRun], has_step: bool) -> anyhow::Result<()> {
        let store = &self.test.store;
        let leases = claimed.chunk_by(|a, b| a.lease_id == b.lease_id).map(async |runs| {
            let is_alone = runs.len() == 1;
            try_join_all(runs.iter().map(|run| self.end_one(run, has_step, is_alone))).await?;
            // as the last of a claim's runs does, when others were under way at its end
            let last = runs.last().filter(|_| !is_alone);
            try_join_all(last.map(|run| store.drop_lease(run.scope(), run.lease_id))).await?;
            Ok(())
        });
        try_join_all(leases).await.map(drop)
    }

    async fn end_one(&self, run: &ClaimedRun, has_step: bool, is_last: bool) -> anyhow::Result<()> {
        let store = &self.test.store;
        let outcome = Outcome::Completed(json!({"answer": "42"}));
        if !has_step {
            return Ok(store.end_run(run, &outcome, None, is_last).await?);
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
            body: store.redactor().clean(r#"{"input":{},"output":{"answer":"42"},"usage":null,"gates":[]}"#),
        };
        let settlement = hold.settle(40, false);
        Ok(store.end_run(run, &outcome, Some((&step, Some(&settlement))), is_last).await?)
    }

    /// From a run's creation to its claim, at a steady rate, while claimed runs are worked off.
    async fn latency(&self, rate: f64, seconds: usize) -> anyhow::Result<Measured> {
        let count = (rate * seconds as f64) as usize;
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
                let (some, may_be_more) = self.claim(&mut after, CLAIM * PROJECTS).await?;
                let now = store.clock().now();
                let wait = |run: &ClaimedRun| Duration::try_from(now.duration_since(run.created_at));
                waits.extend(some.iter().map(|run| wait(run).unwrap_or_default()));
                claimed.unbounded_send(some)?;
                if !may_be_more {
                    // the bell, or the floor beneath it
                    let _ = tokio::time::timeout(Duration::from_millis(250), store.wake().until_work()).await;
                }
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
        let mut measured = self.measured("latency", &before, count, rate).await?;
        measured.start_ms = Some((stats::percentile_ms(&waits, 0.5), stats::percentile_ms(&waits, 0.99)));
        Ok(measured)
    }
}

/// At most `most` of what is left to claim, so that tasks that claim at the same time take no more than that together.
fn share(left: &AtomicUsize, most: usize) -> Option<usize> {
    let take = |left: usize| left.checked_sub(left.min(most)).filter(|_| left > 0);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok().map(|before| before.min(most))
}
