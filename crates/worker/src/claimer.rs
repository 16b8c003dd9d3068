//! The claimer: finds projects with due work, takes from each in turn no more than there are free slots,
//! and starts what it took. Every look begins after the project the last look ended with, so that none is
//! served twice before another was served once.

use std::sync::Arc;

use awooop_core::ProjectId;
use awooop_store::claim::ClaimedRun;
use awooop_store::{Store, StoreError, scope};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::WorkerConfig;
use crate::heartbeat::{Heartbeat, Life};
use crate::held::{Held, Share};
use crate::runtime::Runtime;

/// Finds, claims, starts.
pub(crate) struct Claimer {
    pub(crate) store: Store,
    pub(crate) runtime: Runtime,
    pub(crate) config: WorkerConfig,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) held: Held,
    pub(crate) tasks: TaskTracker,
    /// Gives running runs back: the end of a drain.
    pub(crate) give_back: CancellationToken,
}

impl Claimer {
    /// Claims until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut life = self.heartbeat.life();
        let mut after = String::new();
        loop {
            // all slots may be taken for long, and a stop does not wait for that
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.free_slot() => {}
            }
            let now = life.borrow_and_update().clone();
            let claimed = match now {
                Some(life) if self.heartbeat.is_clock_sure() => {
                    self.run_once(&life, &mut after).await.unwrap_or_else(|error| {
                        tracing::warn!(error = &error as &dyn std::error::Error, "claiming failed");
                        0
                    })
                }
                _ => 0,
            };
            if claimed > 0 && !stop.is_cancelled() {
                continue;
            }
            let jitter = rand::random_range(0.8..1.2);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.store.wake().until_work() => {}
                _ = life.changed() => {}
                () = tokio::time::sleep(self.config.poll_every.mul_f64(jitter)) => {}
            }
        }
    }

    /// Waits for a free slot and leaves it free: only this task takes any.
    async fn free_slot(&self) {
        drop(self.slots.acquire().await);
    }

    /// One look: every project with work, in turn, as long as there are free slots. Returns the runs taken.
    /// A project whose runs cannot be claimed keeps no other waiting.
    pub(crate) async fn run_once(&self, life: &Life, after: &mut String) -> Result<usize, StoreError> {
        let mut projects = self.store.discover(after, 100).await?;
        if projects.is_empty() && !after.is_empty() {
            after.clear();
            projects = self.store.discover(after, 100).await?;
        }
        let mut taken = 0;
        for project in projects {
            let free = self.slots.available_permits().min(self.config.claim_batch);
            if free == 0 || life.is_over.is_cancelled() {
                break;
            }
            *after = project.to_string();
            match self.claim(life, &project, free).await {
                Ok(runs) => taken += runs,
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        project = project.as_str(),
                        "a project's runs could not be claimed"
                    );
                }
            }
        }
        Ok(taken)
    }

    async fn claim(&self, life: &Life, project: &ProjectId, free: usize) -> Result<usize, StoreError> {
        let Ok(permits) = self.slots.clone().acquire_many_owned(u32::try_from(free).unwrap_or(1)).await
        else {
            return Ok(0);
        };
        let limit = i64::try_from(free).unwrap_or(1);
        let lease_id = self.store.clock().new_id();
        // known before it exists: when the answer is lost, the reaper finds a lease that nobody knows
        let holding = self.held.hold(lease_id);
        let runs = self.store.claim_under(lease_id, project, &life.me, limit).await?;
        let taken = runs.len();
        let mut permits = Some(permits);
        for (run, share) in runs.into_iter().zip(Share::of(holding, taken)) {
            let permit = permits.as_mut().and_then(|p| p.split(1));
            self.start(life, run, share, permit);
        }
        Ok(taken)
    }

    fn start(&self, life: &Life, run: ClaimedRun, share: Share, permit: Option<OwnedSemaphorePermit>) {
        let (runtime, life, give_back) = (self.runtime.clone(), life.clone(), self.give_back.clone());
        let scope = run.scope().clone();
        let tracked = self.tasks.track_future(async move {
            runtime.run(run, share, &life, &give_back).await;
            drop(permit);
        });
        scope::spawn(&scope, "run", tracked);
    }
}
