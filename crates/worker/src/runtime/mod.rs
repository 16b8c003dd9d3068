//! The agent runtime: LLM step, tool calls in order, again, until an answer fits the agent's schema. The
//! journal is the run's memory: the conversation is rebuilt from it, so a run that was cut goes on after
//! its last recorded step and repeats at most the one that was in flight, under the same key.

mod conversation;
mod drive;
mod output;

use std::sync::Arc;
use std::time::Duration;

use awooop_gateway::Gateway;
use awooop_store::{Store, StoreError};
use awooop_store::budget::Settlement;
use awooop_store::claim::ClaimedRun;
use awooop_store::journal::{Outcome, RecordError};
use tokio::sync::{Mutex, broadcast};
use tokio_util::sync::CancellationToken;

use crate::claimer::LeaseCount;
use crate::heartbeat::Life;

/// Runs claimed runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Runtime {
    pub(crate) store: Store,
    pub(crate) gateway: Gateway,
}

/// What is held for a call under way: charged in full when the call is dropped.
pub(crate) type InFlight = Arc<Mutex<Option<Settlement>>>;

/// Why a run stopped before its end.
enum Cut {
    /// Another worker may have it now: write nothing.
    Lost,
    /// A caller ended it.
    Cancelled,
    /// The node stops: give it back.
    GivenBack,
    /// Its time is over.
    TimedOut,
}

impl Runtime {
    pub(crate) fn new(store: Store, gateway: Gateway) -> Self {
        Self { store, gateway }
    }

    /// Runs one claim to its end, whatever that is.
    pub(crate) async fn run(
        &self,
        run: ClaimedRun,
        count: LeaseCount,
        life: &Life,
        give_back: &CancellationToken,
    ) {
        let in_flight = InFlight::default();
        let cancelled = self.store.wake().cancelled();
        let left = run.timeout_at.duration_since(self.store.clock().now());
        let left = Duration::try_from(left).unwrap_or_default();
        let cut = tokio::select! {
            biased;
            () = life.is_over.cancelled() => Err(Cut::Lost),
            () = heard(cancelled, &run) => Err(Cut::Cancelled),
            () = give_back.cancelled() => Err(Cut::GivenBack),
            ended = self.drive(&run, &count, &in_flight) => Ok(ended),
            () = tokio::time::sleep(left) => Err(Cut::TimedOut),
        };
        let result = match cut {
            Ok(ended) => ended,
            Err(cut) => self.cut(&run, &count, cut, &in_flight).await,
        };
        match result {
            Ok(()) => {}
            Err(RecordError::Fenced) => {
                tracing::info!(run_id = %run.run_id, "the run was taken from this worker")
            }
            Err(RecordError::Store(error)) => {
                tracing::error!(run_id = %run.run_id, error = &error as &dyn std::error::Error, "a run was cut");
                self.abandon(&run, &error, life, give_back).await;
            }
        }
        if count.ended()
            && !life.is_over.is_cancelled()
            && let Err(error) = self.store.drop_lease(run.scope(), run.lease_id).await
        {
            tracing::debug!(%error, "an ended lease could not be dropped; the reaper will");
        }
    }

    /// Ends what was cut: charges the call under way in full, then writes what the cut asks for.
    async fn cut(
        &self,
        run: &ClaimedRun,
        count: &LeaseCount,
        cut: Cut,
        in_flight: &InFlight,
    ) -> Result<(), RecordError> {
        if matches!(cut, Cut::Lost) {
            return Err(RecordError::Fenced);
        }
        if let Some(settlement) = in_flight.lock().await.take() {
            self.store.settle(run.scope(), &settlement).await?;
        }
        match cut {
            Cut::Lost | Cut::Cancelled => Ok(()),
            Cut::GivenBack => Ok(self.store.release(run).await?),
            Cut::TimedOut => self.store.end_run(run, &Outcome::TimedOut, None, count.is_last()).await,
        }
    }

    /// After a database error in the middle. Where the database was away, the run is given back as soon as it
    /// answers again, until the worker fences itself and the reaper has it. A run whose own rows cannot be
    /// read would only come to the same again: it fails.
    async fn abandon(&self, run: &ClaimedRun, error: &StoreError, life: &Life, give_back: &CancellationToken) {
        let is_away = matches!(error, StoreError::Unavailable(_) | StoreError::Contended(_));
        let mut wait = Duration::from_millis(100);
        loop {
            let done = if is_away {
                self.store.release(run).await
            } else {
                let outcome = Outcome::Failed(error.code(), error.to_string());
                match self.store.end_run(run, &outcome, None, false).await {
                    Ok(()) | Err(RecordError::Fenced) => Ok(()),
                    Err(RecordError::Store(error)) => Err(error),
                }
            };
            if done.is_ok() || life.is_over.is_cancelled() || give_back.is_cancelled() {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }
}

/// Waits until this run is cancelled on this node. A cancel elsewhere is met by the fence.
async fn heard(mut cancelled: broadcast::Receiver<awooop_core::RunId>, run: &ClaimedRun) {
    loop {
        match cancelled.recv().await {
            Ok(run_id) if run_id == run.run_id => return,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
