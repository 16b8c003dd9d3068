//! What this process did since it began, counted where it is done: runs that began and ended, how long a claim and a
//! start took, schedules that fired. Counters only grow, as a monitoring system wants them; nothing here names a
//! project, so that their number stays the same however many there are.
//!
//! Each is one atomic addition. What other processes did, theirs tell; what is queued now, the rows do (`activity`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use awooop_core::run::StateName;

use crate::schedule::FireReport;

/// Upper bounds of the histograms' buckets, in seconds.
pub const BUCKETS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];

/// A counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// How often, since the process began.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, by buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Each bound with how many took no longer, how many there were, and their sum in seconds.
    pub fn read(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut below = 0;
        let cumulative = BUCKETS.iter().zip(&self.buckets).map(|(bound, n)| {
            below += n.load(Ordering::Relaxed);
            (*bound, below)
        });
        let cumulative = cumulative.collect();
        // never less than its buckets: a scrape may fall between two additions
        let count = self.count.load(Ordering::Relaxed).max(below);
        (cumulative, count, self.sum_us.load(Ordering::Relaxed) as f64 / 1e6)
    }
}

/// Slots of a worker: all, and those in use.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// Runs it can hold at the same time.
    pub total: usize,
    /// Runs it holds.
    pub used: usize,
}

/// See the module.
#[derive(Default)]
pub struct Figures {
    /// Runs that requests made.
    pub created: Counter,
    /// Claims of runs; one that is claimed again counts again.
    pub started: Counter,
    /// Runs that ended with an output.
    pub completed: Counter,
    /// Runs that ended with an error.
    pub failed: Counter,
    /// Runs that a caller ended.
    pub cancelled: Counter,
    /// Runs that the clock ended.
    pub timed_out: Counter,
    /// Runs put off until their next try.
    pub retried: Counter,
    /// Runs taken back from silent workers.
    pub reaped: Counter,
    /// Runs given back unharmed.
    pub released: Counter,
    /// Runs that schedules began.
    pub fired: Counter,
    /// Of them, those more than a minute late.
    pub fired_late: Counter,
    /// Times of schedules at which no run could begin.
    pub fire_refused: Counter,
    /// One claim's statement, whatever it found.
    pub claim: Histogram,
    /// From a run's creation to its first start.
    pub start: Histogram,
    slots: OnceLock<Box<dyn Fn() -> Slots + Send + Sync>>,
}

impl Figures {
    /// Says where this process's worker keeps its slots; once.
    pub fn watch_slots(&self, slots: impl Fn() -> Slots + Send + Sync + 'static) {
        // a second worker in one process is the tests' alone, and the first one's slots do
        let _ = self.slots.set(Box::new(slots));
    }

    /// The slots of this process's worker; none where it has no worker.
    pub fn slots(&self) -> Option<Slots> {
        self.slots.get().map(|slots| slots())
    }

    pub(crate) fn ended(&self, state: StateName, runs: usize) {
        match state {
            StateName::Completed => self.completed.add(runs),
            StateName::Failed => self.failed.add(runs),
            StateName::Cancelled => self.cancelled.add(runs),
            StateName::Timeout => self.timed_out.add(runs),
            StateName::Pending | StateName::Running | StateName::WaitingApproval | StateName::WaitingTool => {
            }
        }
    }

    pub(crate) fn fired(&self, report: FireReport) {
        self.fired.add(report.fired);
        self.fired_late.add(report.late);
        self.fire_refused.add(report.refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let histogram = Histogram::default();
        for ms in [1, 2, 30, 7_200_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let (buckets, count, sum) = histogram.read();
        let at = |bound: f64| buckets.iter().find(|(b, _)| *b == bound).map(|(_, n)| *n);
        assert_eq!(
            (at(0.001), at(0.0025), at(0.05), at(3600.0), count),
            (Some(1), Some(2), Some(3), Some(3), 4)
        );
        assert!((sum - 7200.033).abs() < 1e-6);
    }
}
