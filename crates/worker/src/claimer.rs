//! The claimer: finds projects with due work, shares the free slots out among them ([`Turns`]), takes from each no
//! more than its share, and starts what it took. Nothing is taken ahead of a free slot.

use std::sync::Arc;

use awooop_core::ProjectId;
use awooop_store::claim::{Claim, ClaimedRun, Due, MAX_CLAIM, Wish};
use awooop_store::{Store, StoreError, scope};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::WorkerConfig;
use crate::heartbeat::{Heartbeat, Life};
use crate::held::{Held, Holding, Share};
use crate::runtime::Runtime;
use crate::turns::{REST, Resting, Turns};

/// Most projects of one look.
const MOST_DUE: usize = 100;

/// A claim that is to be made, with the slots its runs will have.
struct Taking {
    project: ProjectId,
    share: usize,
    permits: OwnedSemaphorePermit,
    holding: Holding,
    wish: Wish,
}

/// Finds, claims, starts.
pub(crate) struct Claimer {
    pub(crate) store: Store,
    pub(crate) runtime: Runtime,
    pub(crate) config: WorkerConfig,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) held: Held,
    pub(crate) resting: Resting,
    pub(crate) tasks: TaskTracker,
    /// Gives running runs back: the end of a drain.
    pub(crate) give_back: CancellationToken,
}

impl Claimer {
    /// Claims until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut life = self.heartbeat.life();
        let mut turns = Turns::default();
        loop {
            // all slots may be taken for long, and a stop does not wait for that
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.free_slot() => {}
            }
            let now = life.borrow_and_update().clone();
            let may_be_more = match now {
                Some(life) if self.heartbeat.is_clock_sure() => {
                    self.run_once(&life, &mut turns).await.unwrap_or_else(|error| {
                        tracing::warn!(error = &error as &dyn std::error::Error, "claiming failed");
                        false
                    })
                }
                _ => false,
            };
            if may_be_more && !stop.is_cancelled() {
                continue;
            }
            let jitter = rand::random_range(0.8..1.2);
            let pause = if self.resting.now().is_empty() {
                self.config.poll_every
            } else {
                REST.min(self.config.poll_every)
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.store.wake().until_work() => {}
                _ = life.changed() => {}
                () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
            }
        }
    }

    /// Waits for a free slot and leaves it free: only this task takes any.
    async fn free_slot(&self) {
        drop(self.slots.acquire().await);
    }

    /// One look: shares the free slots out and takes what fills them. Says whether another look may find more: not when
    /// every project with due runs had fewer than its share, for what is queued later rings. A project whose runs cannot
    /// be claimed keeps no other waiting.
    pub(crate) async fn run_once(&self, life: &Life, turns: &mut Turns) -> Result<bool, StoreError> {
        let free = self.slots.available_permits();
        let (due, is_whole) = self.next_due(turns, free).await?;
        let shares: Vec<Taking> = turns
            .share(&due, is_whole, free)
            .into_iter()
            .filter_map(|(project, share)| self.taking(project, share))
            .collect();
        // a project that got no share has work still
        let has_share = |due: &Due| shares.iter().any(|taking| taking.project == due.project);
        let (mut taken, mut is_emptied, mut away) = (0, is_whole && due.iter().all(has_share), None);
        let wishes: Vec<Wish> = shares.iter().map(|taking| taking.wish.clone()).collect();
        for (taking, claim) in shares.into_iter().zip(self.store.claim_each(&wishes, &life.me).await) {
            match claim {
                Ok(claim) => {
                    is_emptied &= claim.runs.len() < taking.share;
                    taken += self.take(life, turns, taking, claim);
                }
                // what others took is theirs whatever became of this one
                Err(error @ StoreError::Unavailable(_)) => away = Some(error),
                Err(error) => {
                    turns.end(&taking.project);
                    let (error, project) = (&error as &dyn std::error::Error, taking.project.as_str());
                    tracing::error!(error, project, "a project's runs could not be claimed");
                }
            }
        }
        away.filter(|_| taken == 0).map_or(Ok(taken > 0 && !is_emptied), Err)
    }

    /// Slots and a lease for a project's share; none when no slot is free after all.
    fn taking(&self, project: ProjectId, share: usize) -> Option<Taking> {
        let share = share.min(self.config.claim_batch).min(MAX_CLAIM);
        let permits = self.slots.clone().try_acquire_many_owned(u32::try_from(share).ok()?).ok()?;
        let lease_id = self.store.clock().new_id();
        // known before it exists: when the answer is lost, the reaper finds a lease that nobody knows
        let holding = self.held.hold(lease_id);
        let wish = Wish::new(lease_id, project.clone(), share);
        Some(Taking { project, share, permits, holding, wish })
    }

    /// Starts what a claim took. Returns how many.
    fn take(&self, life: &Life, turns: &mut Turns, taking: Taking, claim: Claim) -> usize {
        let Taking { project, share, mut permits, holding, .. } = taking;
        let taken = claim.runs.len();
        if taken < share {
            turns.end(&project);
        }
        if taken == 0 && claim.is_capped {
            self.resting.rest(project);
        }
        for (run, share) in claim.runs.into_iter().zip(Share::of(holding, taken)) {
            self.start(life, run, share, permits.split(1));
        }
        taken
    }

    /// The projects whose turns are next, without those that rest, and whether there are no others.
    async fn next_due(&self, turns: &Turns, free: usize) -> Result<(Vec<Due>, bool), StoreError> {
        let resting = self.resting.now();
        let wanted = free.min(MOST_DUE) + resting.len();
        let limit = i64::try_from(wanted).unwrap_or(i64::MAX);
        let mut due = self.store.discover(turns.after(), limit).await?;
        let is_whole = due.len() < wanted;
        due.retain(|due| !resting.contains(&due.project));
        Ok((due, is_whole))
    }

    fn start(&self, life: &Life, run: ClaimedRun, share: Share, permit: Option<OwnedSemaphorePermit>) {
        let (runtime, life, give_back) = (self.runtime.clone(), life.clone(), self.give_back.clone());
        let (scope, is_capped, resting) = (run.scope().clone(), run.is_capped, self.resting.clone());
        let store = self.store.clone();
        let tracked = self.tasks.track_future(async move {
            let project = run.scope().project().clone();
            runtime.run(run, share, &life, &give_back).await;
            drop(permit);
            if is_capped {
                // another one may wait for its room
                resting.wake(&project);
                store.wake().work_queued();
            }
        });
        scope::spawn(&scope, "run", tracked);
    }
}
