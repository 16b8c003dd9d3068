//! The worker's numbers. The defaults hold: silent for 20 s means dead, and a worker that was not heard
//! for 15 s stops itself first, so no run is ever held twice.

use std::time::Duration;

/// Intervals and bounds of one worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Runs at the same time.
    pub slots: usize,
    /// Most runs of one project in one claim.
    pub claim_batch: usize,
    /// Between two looks for work when no bell rings.
    pub poll_every: Duration,
    /// Between two beats.
    pub beat_every: Duration,
    /// Since the sending of the last acknowledged beat: after it the worker stops everything.
    pub fence_after: Duration,
    /// Since a worker's last beat: after it others take its runs.
    pub silent_after: Duration,
    /// Between two sweeps of the reaper.
    pub reap_every: Duration,
    /// How long a stop waits for runs to end before it gives them back.
    pub drain_for: Duration,
    /// Above this uncertainty of the database's time the worker claims nothing.
    pub max_clock_uncertainty: Duration,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            slots: 64,
            claim_batch: 64,
            poll_every: Duration::from_millis(250),
            beat_every: Duration::from_secs(5),
            fence_after: Duration::from_secs(15),
            silent_after: Duration::from_secs(20),
            reap_every: Duration::from_secs(1),
            drain_for: Duration::from_secs(10),
            max_clock_uncertainty: Duration::from_secs(1),
        }
    }
}
