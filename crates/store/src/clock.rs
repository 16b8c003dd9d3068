//! Time and ids. The application names every time and id itself, so that a statement repeats exactly
//! and a distributed PostgreSQL agrees with itself; the clock is disciplined to the database's, whose
//! offset each heartbeat measures. Tests drive a manual clock.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use uuid::timestamp::context::ContextV7;

/// The one source of time and ids. Cheap to clone; clones share the offset.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    System { offset_us: AtomicI64, ids: Mutex<ContextV7> },
    Manual(Mutex<Timestamp>),
}

impl Clock {
    /// The machine's clock, corrected by the measured offset to the database.
    pub fn system() -> Self {
        let ids = Mutex::new(ContextV7::new());
        Self(Arc::new(Source::System { offset_us: AtomicI64::new(0), ids }))
    }

    /// A clock that only moves by [`Clock::advance`].
    pub fn manual(start: Timestamp) -> Self {
        Self(Arc::new(Source::Manual(Mutex::new(start))))
    }

    /// Now, in microseconds' resolution, which is PostgreSQL's.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::System { offset_us, .. } => {
                let offset = SignedDuration::from_micros(offset_us.load(Ordering::Relaxed));
                let now = Timestamp::now().saturating_add(offset).unwrap_or(Timestamp::MAX);
                Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
            }
            Source::Manual(at) => *at.lock().expect("no panic while held"),
        }
    }

    /// Now plus `by`.
    pub fn after(&self, by: Duration) -> Timestamp {
        self.now().saturating_add(by).unwrap_or(Timestamp::MAX)
    }

    /// A new id, UUID v7, whose time is [`Clock::now`]: ids of one process sort by the order they were made in.
    pub fn new_id(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        Uuid::new_v7(match &*self.0 {
            Source::System { ids, .. } => uuid::Timestamp::from_unix(ids, seconds, nanos),
            Source::Manual(_) => uuid::Timestamp::from_unix(ContextV7::new(), seconds, nanos),
        })
    }

    /// `count` new ids, in order.
    pub fn new_ids(&self, count: usize) -> Vec<Uuid> {
        std::iter::repeat_with(|| self.new_id()).take(count).collect()
    }

    /// Takes over the measured offset of the database's clock from this machine's.
    pub fn discipline(&self, offset: SignedDuration) {
        if let Source::System { offset_us, .. } = &*self.0 {
            let step = i64::try_from(offset.as_micros()).unwrap_or(0);
            offset_us.fetch_add(step, Ordering::Relaxed);
        }
    }

    /// Moves a manual clock forward; does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(at) = &*self.0 {
            let mut at = at.lock().expect("no panic while held");
            *at = at.saturating_add(by).unwrap_or(Timestamp::MAX);
        }
    }
}
