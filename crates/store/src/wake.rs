//! Wake-ups within one process: work was queued, a run changed. Polling is the floor beneath them, so a
//! lost wake-up costs time, never work.

use awooop_core::RunId;
use tokio::sync::{Notify, broadcast};

/// The bells of a node.
pub struct Wake {
    work: Notify,
    runs: broadcast::Sender<RunId>,
    cancelled: broadcast::Sender<RunId>,
}

impl Default for Wake {
    fn default() -> Self {
        Self { work: Notify::new(), runs: broadcast::channel(1024).0, cancelled: broadcast::channel(1024).0 }
    }
}

impl Wake {
    /// Some project has a due run.
    pub fn work_queued(&self) {
        self.work.notify_one();
    }

    /// Waits until work was queued; a bell rung before the call is heard.
    pub async fn until_work(&self) {
        self.work.notified().await;
    }

    /// A run's state or journal changed.
    pub fn run_changed(&self, run_id: RunId) {
        // no listener is no error
        let _ = self.runs.send(run_id);
    }

    /// A run was cancelled: whatever is under way for it is in vain.
    pub fn run_cancelled(&self, run_id: RunId) {
        // no listener is no error
        let _ = self.cancelled.send(run_id);
    }

    /// Listens for cancelled runs.
    pub fn cancelled(&self) -> broadcast::Receiver<RunId> {
        self.cancelled.subscribe()
    }

    /// Listens for changes of runs. A listener that falls behind is told so and reads the row again.
    pub fn runs(&self) -> broadcast::Receiver<RunId> {
        self.runs.subscribe()
    }
}
