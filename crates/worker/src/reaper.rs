//! The reaper, on any node: takes back the runs of workers that fell silent, ends queued runs whose time is
//! over, queues those whose next try is due, fires schedules, forgets old keys, charges holds nobody will settle. A worker that starts
//! again takes back its own former leases at once, and so it does with present ones that none of its tasks has; for
//! any other's it waits out the silence. What fails for one project is logged and keeps no other waiting.

use awooop_store::Store;
use awooop_store::StoreError;
use awooop_store::claim::Worker;
use awooop_store::lease::DeadLeases;
use awooop_store::schedule::FireReport;
use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;
use crate::heartbeat::Heartbeat;
use crate::held::Held;
use crate::vacuum_watch::VacuumWatch;

/// What one sweep did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) reaped: usize,
    pub(crate) timed_out: usize,
    pub(crate) woken: usize,
    pub(crate) orphaned: usize,
    pub(crate) fired: FireReport,
    pub(crate) forgotten: usize,
    pub(crate) charged: i64,
}

/// Sweeps.
pub(crate) struct Reaper {
    pub(crate) store: Store,
    pub(crate) config: WorkerConfig,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) held: Held,
}

impl Reaper {
    /// Sweeps until `stop`; begins each life with its own former leases.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut life = self.heartbeat.life();
        let mut swept_for = None;
        let mut watch = VacuumWatch::default();
        loop {
            let now = life.borrow_and_update().clone();
            if let Some(life) = now {
                let is_new = swept_for.as_ref() != Some(&life.me);
                match self.run_once(&life.me, is_new).await {
                    Ok(report) => {
                        swept_for = Some(life.me.clone());
                        if report != Report::default() {
                            tracing::info!(?report, "the reaper swept");
                        }
                    }
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "the reaper could not sweep"
                        );
                    }
                }
            }
            watch.look(&self.store).await;
            tokio::select! {
                () = stop.cancelled() => return,
                _ = life.changed() => {}
                () = tokio::time::sleep(self.config.reap_every) => {}
            }
        }
    }

    /// One sweep.
    pub(crate) async fn run_once(&self, me: &Worker, is_new_life: bool) -> Result<Report, StoreError> {
        let mut report = Report::default();
        if is_new_life {
            report.reaped += self.reap_each(self.store.former_leases(me).await?).await?;
        }
        let mut nobodys = self.store.present_leases(me).await?;
        for leases in &mut nobodys {
            leases.lease_ids.retain(|lease_id| !self.held.knows(lease_id));
        }
        nobodys.retain(|leases| !leases.lease_ids.is_empty());
        report.reaped += self.reap_each(nobodys).await?;
        let silent = SignedDuration::try_from(self.config.silent_after).unwrap_or(SignedDuration::MAX);
        report.reaped += self.reap_each(self.store.dead_leases(me, silent).await?).await?;
        // schedules before what may take long: a time that is seen too late counts as missed
        report.fired = self.store.fire_due().await?;
        report.timed_out = self.store.time_out_queued().await?;
        report.woken = self.store.wake_due().await?;
        report.orphaned = self.store.cancel_orphans().await?;
        report.forgotten = self.store.forget_old_keys().await? + self.store.forget_gone_workers().await?;
        for project in self.store.projects_with_expired_holds().await? {
            match self.store.charge_abandoned(&project).await {
                Ok(charged) => report.charged += charged,
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => {
                    let (error, project) = (&error as &dyn std::error::Error, project.as_str());
                    tracing::error!(error, project, "a project's abandoned holds could not be charged");
                }
            }
        }
        Ok(report)
    }

    /// Takes back what lies under these leases.
    async fn reap_each(&self, all: Vec<DeadLeases>) -> Result<usize, StoreError> {
        let mut reaped = 0;
        for dead in all {
            match self.store.reap(&dead).await {
                Ok(runs) => reaped += runs.len(),
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => {
                    let (error, project) = (&error as &dyn std::error::Error, dead.project.as_str());
                    tracing::error!(error, project, "a project's leases could not be reaped");
                }
            }
        }
        Ok(reaped)
    }
}
