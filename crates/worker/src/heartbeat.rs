//! The worker's pulse. One beat per interval; when none was acknowledged for too long, counted from the
//! SENDING of the last one, the worker drops everything it does: by the time others take its runs, it has
//! stopped. When beats are heard again it goes on under a new incarnation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use awooop_store::Store;
use awooop_store::claim::Worker;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;

/// A life of the worker: its identity, and the token that ends all it does.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) me: Worker,
    pub(crate) is_over: CancellationToken,
}

/// The pulse, shared by the services.
#[derive(Clone)]
pub(crate) struct Heartbeat {
    store: Store,
    config: WorkerConfig,
    life: watch::Sender<Option<Life>>,
    last_sent: Arc<Mutex<Option<Instant>>>,
    is_clock_sure: Arc<AtomicBool>,
}

impl Heartbeat {
    pub(crate) fn new(store: Store, config: WorkerConfig) -> Self {
        Self {
            store,
            config,
            life: watch::Sender::new(None),
            last_sent: Arc::default(),
            is_clock_sure: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The present life, once a beat was heard.
    pub(crate) fn life(&self) -> watch::Receiver<Option<Life>> {
        self.life.subscribe()
    }

    /// May work be claimed? Not while the database's time is uncertain.
    pub(crate) fn is_clock_sure(&self) -> bool {
        self.is_clock_sure.load(Ordering::Relaxed)
    }

    /// Beats until `stop`, first of all at once.
    pub(crate) async fn run(self, mut me: Worker, stop: CancellationToken) {
        loop {
            let is_heard = self.beat_once(&mut me).await;
            let since_sent = self.last_sent.lock().await.map(|at| at.elapsed());
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause(&self.config, is_heard, since_sent)) => {}
            }
        }
        if let Err(error) = self.store.end_beat(&me).await {
            tracing::debug!(%error, "the last beat could not be taken away");
        }
    }

    /// One beat, bounded by what is left of the fence. True when it was acknowledged.
    pub(crate) async fn beat_once(&self, me: &mut Worker) -> bool {
        let mut last_sent = self.last_sent.lock().await;
        let left = last_sent
            .map_or(self.config.fence_after, |at| self.config.fence_after.saturating_sub(at.elapsed()));
        let heard = match tokio::time::timeout(left, self.store.beat(me)).await {
            Ok(Ok(beat)) => Some(beat),
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a heartbeat was not acknowledged");
                None
            }
            Err(_) => None,
        };
        let is_heard = heard.is_some();
        match heard {
            Some(beat) => {
                *last_sent = Some(beat.sent_at);
                self.is_clock_sure
                    .store(beat.uncertainty <= self.config.max_clock_uncertainty, Ordering::Relaxed);
                if self.life.borrow().is_none() {
                    self.life.send_replace(Some(Life { me: me.clone(), is_over: CancellationToken::new() }));
                }
            }
            None if last_sent.is_some_and(|at| at.elapsed() >= self.config.fence_after) => {
                // the next beat that is heard begins another life, whose former leases are known as such
                if let Some(life) = self.life.send_replace(None) {
                    tracing::error!("no heartbeat was acknowledged in time: this worker stops all its runs");
                    life.is_over.cancel();
                    me.incarnation += 1;
                }
                *last_sent = None;
            }
            None => {}
        }
        is_heard
    }
}

/// The first tries after a beat that was not acknowledged follow sooner than beats do.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How long to wait before the next beat: never past the fence, whose time is over at `fence_after` and not at
/// the beat after it.
fn pause(config: &WorkerConfig, is_heard: bool, since_sent: Option<Duration>) -> Duration {
    let wanted = if is_heard { config.beat_every } else { config.beat_every.min(RETRY_EVERY) };
    match since_sent {
        Some(since) => wanted.min(config.fence_after.saturating_sub(since)),
        None => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pause_reaches_past_the_fence() {
        let config = WorkerConfig::default();
        let pause = |is_heard, since: Option<u64>| {
            pause(&config, is_heard, since.map(Duration::from_millis)).as_millis()
        };
        assert_eq!(pause(true, Some(3)), 5000);
        assert_eq!(pause(false, Some(9000)), 1000);
        // a beat that failed shortly before the fence: without this bound the worker would go on to 19.8 s
        assert_eq!(pause(false, Some(14_800)), 200);
        assert_eq!(pause(false, Some(15_300)), 0);
        assert_eq!(pause(false, None), 1000);
    }
}
