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

impl WorkerConfig {
    /// The same with another time of silence after which a worker counts as dead, and all that hangs on it: four beats
    /// in that time, and the worker stops itself when a quarter of it is left. Every worker on a database must have
    /// the same: whoever waits less than another fences takes runs that are still worked on.
    #[must_use]
    pub fn with_silence(self, silent_after: Duration) -> Self {
        Self {
            beat_every: silent_after / 4,
            fence_after: silent_after / 4 * 3,
            silent_after,
            reap_every: self.reap_every.min(silent_after / 4),
            ..self
        }
    }
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            slots: 64,
            claim_batch: 16,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_stops_itself_before_others_take_its_runs_whatever_the_silence() {
        let default = WorkerConfig::default();
        for silence in [Duration::from_secs(1), default.silent_after, Duration::from_secs(600)] {
            let config = WorkerConfig::default().with_silence(silence);
            assert!(config.beat_every * 2 < config.fence_after && config.fence_after < config.silent_after);
        }
        let same = WorkerConfig::default().with_silence(default.silent_after);
        assert_eq!((same.beat_every, same.fence_after), (default.beat_every, default.fence_after));
    }
}
