//! The agent runtime: LLM step, tool calls in order, again, until an answer fits the agent's schema. The
//! journal is the run's memory: the conversation is rebuilt from it, so a run that was cut goes on after
//! its last recorded step and repeats at most the one that was in flight, under the same key.

mod conversation;
mod drive;
mod output;
mod strict;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use awooop_core::halt::Work;
use awooop_gateway::Gateway;
use awooop_store::budget::Settlement;
use awooop_store::claim::ClaimedRun;
use awooop_store::journal::{Outcome, RecordError};
use awooop_store::{Store, StoreError};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::heartbeat::Life;
use crate::held::Share;

/// Runs claimed runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Runtime {
    pub(crate) store: Store,
    pub(crate) gateway: Gateway,
}

/// What is to be charged for the hold of a call when the call is dropped: nothing before it begins, all of it after.
#[derive(Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<Option<Settlement>>>);

impl InFlight {
    fn set(&self, settlement: Settlement) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(settlement);
    }

    fn take(&self) -> Option<Settlement> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Why a run stopped before its end.
enum Cut {
    /// Another worker may have it now: write nothing.
    Lost,
    /// A caller ended it.
    Cancelled,
    /// The node stops, or people stopped its project or agent: give it back.
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
        mut share: Share,
        life: &Life,
        give_back: &CancellationToken,
    ) {
        let in_flight = InFlight::default();
        let mut ear = self.gateway.listen_for_stops();
        let cancelled = self.store.wake().cancelled();
        let whole = Work { project: run.scope().project(), agent: &run.agent_id, provider: None, tool: None };
        let left = run.timeout_at.duration_since(self.store.clock().now());
        let left = Duration::try_from(left).unwrap_or_default();
        let cut = tokio::select! {
            biased;
            () = life.is_over.cancelled() => Err(Cut::Lost),
            () = heard(cancelled, &run) => Err(Cut::Cancelled),
            () = give_back.cancelled() => Err(Cut::GivenBack),
            () = ear.until_stopped(whole) => Err(Cut::GivenBack),
            // before the drive: with no time left it makes no call
            () = tokio::time::sleep(left) => Err(Cut::TimedOut),
            ended = self.drive(&run, &share, &in_flight) => Ok(ended),
        };
        let result = match cut {
            Ok(ended) => ended,
            Err(cut) => self.cut(&run, &share, cut, &in_flight).await,
        };
        let is_sure = match result {
            Ok(()) => true,
            Err(RecordError::Fenced) => self.fenced(&run, life).await,
            // with the project every lease goes
            Err(RecordError::Store(StoreError::Deleted)) => {
                tracing::info!(run_id = %run.run_id, "the run's project was deleted");
                true
            }
            Err(RecordError::Store(error)) => {
                tracing::error!(run_id = %run.run_id, error = &error as &dyn std::error::Error, "a run was cut");
                self.abandon(&run, &error, &in_flight, life, give_back).await
            }
        };
        if share.leave(is_sure)
            && !life.is_over.is_cancelled()
            && let Err(error) = self.store.drop_lease(run.scope(), run.lease_id).await
        {
            tracing::debug!(%error, "an ended lease could not be dropped; the reaper will");
        }
    }

    /// Ends what was cut: charges the call under way, then writes what the cut asks for.
    async fn cut(
        &self,
        run: &ClaimedRun,
        share: &Share,
        cut: Cut,
        in_flight: &InFlight,
    ) -> Result<(), RecordError> {
        if matches!(cut, Cut::Lost) {
            return Err(RecordError::Fenced);
        }
        if let Some(settlement) = in_flight.take() {
            self.store.settle(run.scope(), &settlement).await?;
        }
        match cut {
            // anybody may ring that bell: the row says whether it is so
            Cut::Lost | Cut::Cancelled => Err(RecordError::Fenced),
            Cut::GivenBack => Ok(self.store.release(run).await.map(drop)?),
            Cut::TimedOut => self.store.end_run(run, &Outcome::TimedOut, None, share.is_last()).await,
        }
    }

    /// A write was refused: somebody else has the run, or a write of this very claim whose answer was lost
    /// came first. In the second case the run is still ours and is given back; in the first this does nothing.
    /// True when the run is surely not under this lease any more.
    async fn fenced(&self, run: &ClaimedRun, life: &Life) -> bool {
        tracing::info!(run_id = %run.run_id, "the run was taken from this worker");
        !life.is_over.is_cancelled() && self.store.release(run).await.is_ok()
    }

    /// After a database error in the middle. Where the database was away, the run is given back as soon as it
    /// answers again, until the worker fences itself and the reaper has it. A run whose own rows cannot be
    /// read would only come to the same again: it fails. True when the run is surely not under this lease any
    /// more; otherwise the reaper finds it once the lease is nobody's.
    async fn abandon(
        &self,
        run: &ClaimedRun,
        error: &StoreError,
        in_flight: &InFlight,
        life: &Life,
        give_back: &CancellationToken,
    ) -> bool {
        let held = in_flight.take();
        let mut wait = Duration::from_millis(100);
        loop {
            match self.let_go(run, error, held.as_ref()).await {
                Ok(()) => return true,
                Err(again) if !is_away(&again) => return false,
                Err(_) if life.is_over.is_cancelled() || give_back.is_cancelled() => return false,
                Err(_) => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }

    /// Charges the call that was under way, then gives the run back or fails it.
    async fn let_go(
        &self,
        run: &ClaimedRun,
        error: &StoreError,
        held: Option<&Settlement>,
    ) -> Result<(), StoreError> {
        if let Some(settlement) = held {
            self.store.settle(run.scope(), settlement).await?;
        }
        if is_away(error) {
            return self.store.release(run).await.map(drop);
        }
        let outcome = Outcome::Failed(error.code(), error.to_string());
        match self.store.end_run(run, &outcome, None, false).await {
            Ok(()) => Ok(()),
            Err(RecordError::Fenced) => self.store.release(run).await.map(drop),
            Err(RecordError::Store(error)) => Err(error),
        }
    }
}

/// May the same succeed a little later?
fn is_away(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_) | StoreError::Contended(_))
}

/// Waits until it is told that this run was cancelled, here or by another process.
async fn heard(mut cancelled: broadcast::Receiver<awooop_core::RunId>, run: &ClaimedRun) {
    loop {
        match cancelled.recv().await {
            Ok(run_id) if run_id == run.run_id => return,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
