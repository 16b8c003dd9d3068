//! Wake-ups: work was queued, a run changed, a run was cancelled. What rings in one process is heard there at once and
//! kept for the others, which `notify` tells. Polling is the floor beneath them, so a lost wake-up costs
//! time, never work.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use awooop_core::RunId;
use tokio::sync::{Notify, broadcast};

/// Most runs of each kind that are kept for other processes; what comes beyond it they find by looking.
const MOST_NEWS: usize = 2000;

/// The bells of a node.
pub struct Wake {
    work: Notify,
    runs: broadcast::Sender<RunId>,
    cancelled: broadcast::Sender<RunId>,
    news: Mutex<News>,
    has_news: Notify,
}

/// What rang here and other processes have not been told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Some project has a due run.
    pub(crate) work: bool,
    /// Runs that changed.
    pub(crate) runs: BTreeSet<RunId>,
    /// Runs that were cancelled.
    pub(crate) cancelled: BTreeSet<RunId>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            work: Notify::new(),
            runs: broadcast::channel(1024).0,
            cancelled: broadcast::channel(1024).0,
            news: Mutex::default(),
            has_news: Notify::new(),
        }
    }
}

impl Wake {
    /// Some project has a due run.
    pub fn work_queued(&self) {
        self.work.notify_one();
        self.keep(|news| news.work = true);
    }

    /// Waits until work was queued; a bell rung before the call is heard.
    pub async fn until_work(&self) {
        self.work.notified().await;
    }

    /// A run's state or journal changed.
    pub fn run_changed(&self, run_id: RunId) {
        // no listener is no error
        let _ = self.runs.send(run_id);
        self.keep(|news| insert(&mut news.runs, run_id));
    }

    /// A run was cancelled: whatever is under way for it is in vain.
    pub fn run_cancelled(&self, run_id: RunId) {
        // no listener is no error
        let _ = self.cancelled.send(run_id);
        self.keep(|news| insert(&mut news.cancelled, run_id));
    }

    /// Listens for cancelled runs.
    pub fn cancelled(&self) -> broadcast::Receiver<RunId> {
        self.cancelled.subscribe()
    }

    /// Listens for changes of runs. A listener that falls behind is told so and reads the row again.
    pub fn runs(&self) -> broadcast::Receiver<RunId> {
        self.runs.subscribe()
    }

    /// Rings here for what another process told; it is not told on.
    pub(crate) fn ring(&self, news: &News) {
        if news.work {
            self.work.notify_one();
        }
        for run_id in &news.cancelled {
            let _ = self.cancelled.send(*run_id);
        }
        for run_id in &news.runs {
            let _ = self.runs.send(*run_id);
        }
    }

    /// Waits until there is something to tell other processes.
    pub(crate) async fn until_news(&self) {
        self.has_news.notified().await;
    }

    /// What is to be told; from then on it counts as told.
    pub(crate) fn take_news(&self) -> News {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.has_news.notify_one();
    }
}

fn insert(runs: &mut BTreeSet<RunId>, run_id: RunId) {
    if runs.len() < MOST_NEWS {
        runs.insert(run_id);
    }
}
