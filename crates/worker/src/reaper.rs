//! The reaper, on any node: takes back the runs of workers that fell silent, ends queued runs whose time is
//! over, charges holds nobody will settle. A worker that starts again takes back its own former leases at
//! once; for any other's it waits out the silence.

use awooop_store::Store;
use awooop_store::StoreError;
use awooop_store::claim::Worker;
use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;
use crate::heartbeat::Heartbeat;

/// What one sweep did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) reaped: usize,
    pub(crate) timed_out: usize,
    pub(crate) charged: i64,
}

/// Sweeps.
pub(crate) struct Reaper {
    pub(crate) store: Store,
    pub(crate) config: WorkerConfig,
    pub(crate) heartbeat: Heartbeat,
}

impl Reaper {
    /// Sweeps until `stop`; begins each life with its own former leases.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut life = self.heartbeat.life();
        let mut swept_for = None;
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
            for dead in self.store.former_leases(me).await? {
                report.reaped += self.store.reap(&dead).await?.len();
            }
        }
        let silent = SignedDuration::try_from(self.config.silent_after).unwrap_or(SignedDuration::MAX);
        for dead in self.store.dead_leases(me, silent).await? {
            report.reaped += self.store.reap(&dead).await?.len();
        }
        report.timed_out = self.store.time_out_queued().await?;
        for project in self.store.projects_with_expired_holds().await? {
            report.charged += self.store.charge_abandoned(&project).await?;
        }
        Ok(report)
    }
}
