//! The one table of background services, and starting and stopping them together. Each is bounded work in
//! `run_once` and a loop around it; none belongs to a project, and what they start for one carries its
//! scope.

use std::sync::Arc;

use awooop_gateway::Gateway;
use awooop_store::claim::Worker;
use awooop_store::figures::Slots;
use awooop_store::{Store, scope};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::claimer::Claimer;
use crate::config::WorkerConfig;
use crate::heartbeat::Heartbeat;
use crate::held::Held;
use crate::reaper::Reaper;
use crate::runtime::Runtime;
use crate::turns::Resting;

/// A started worker.
pub struct Running {
    config: WorkerConfig,
    store: Store,
    tasks: TaskTracker,
    stop: CancellationToken,
    give_back: CancellationToken,
    end_beats: CancellationToken,
    beats: JoinHandle<()>,
    services: Vec<JoinHandle<()>>,
}

/// Starts the worker's services.
pub fn start(store: Store, gateway: Gateway, me: Worker, config: WorkerConfig) -> Running {
    let (stop, give_back, end_beats) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let tasks = TaskTracker::new();
    let heartbeat = Heartbeat::new(store.clone(), config.clone());
    let held = Held::default();
    let slots = Arc::new(Semaphore::new(config.slots));
    let (total, free) = (config.slots, slots.clone());
    store
        .figures()
        .watch_slots(move || Slots { total, used: total.saturating_sub(free.available_permits()) });
    let reaper = Reaper {
        store: store.clone(),
        config: config.clone(),
        heartbeat: heartbeat.clone(),
        held: held.clone(),
    };
    let claimer = Claimer {
        store: store.clone(),
        runtime: Runtime::new(store.clone(), gateway),
        config: config.clone(),
        heartbeat: heartbeat.clone(),
        slots,
        held,
        resting: Resting::default(),
        tasks: tasks.clone(),
        give_back: give_back.clone(),
    };
    // heartbeat, claimer, reaper: the whole table
    let beats = scope::spawn_service(scope::Service::Heartbeat, heartbeat.run(me, end_beats.clone()));
    let services = vec![
        scope::spawn_service(scope::Service::Claimer, claimer.run(stop.clone())),
        scope::spawn_service(scope::Service::Reaper, reaper.run(stop.clone())),
    ];
    Running { config, store, tasks, stop, give_back, end_beats, beats, services }
}

impl Running {
    /// Stops: claims no more, lets runs end for a while, gives the rest back, then takes the beat away. Each
    /// part is bounded by `drain_for`, whatever the database does.
    pub async fn drain(self) {
        self.stop.cancel();
        for service in self.services {
            // one that panicked has been logged by its panic, one that hangs on the database ends with the
            // process; the drain goes on
            let _ = tokio::time::timeout(self.config.drain_for, service).await;
        }
        self.tasks.close();
        if tokio::time::timeout(self.config.drain_for, self.tasks.wait()).await.is_err() {
            tracing::info!(runs = self.tasks.len(), "giving back the runs that did not end in time");
            self.give_back.cancel();
            if tokio::time::timeout(self.config.drain_for, self.tasks.wait()).await.is_err() {
                tracing::warn!(
                    runs = self.tasks.len(),
                    "some runs could not be given back; a reaper will take them"
                );
            }
        }
        self.end_beats.cancel();
        let _ = tokio::time::timeout(self.config.drain_for, self.beats).await;
        self.store.wake().work_queued();
    }
}
