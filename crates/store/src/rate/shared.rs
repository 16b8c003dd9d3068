//! What all processes count together, in Redis: one script (`count.lua`) judges and counts in one step, by Redis's own
//! clock. A project's keys begin with `awooop:{<project>}:rate:`, braces included, so that a cluster keeps them on one
//! node; each expires with what it counts.
//!
//! A Redis that does not answer within [`PATIENCE`] is left alone for [`AWAY`]; then one call asks again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use awooop_core::ProjectId;
use awooop_core::rate::{Bound, Limit, PLACE_WAIT, SLICES, slice_ms};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use uuid::Uuid;

use super::LEASE;

/// How long a call waits for Redis, each time that it asks.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// How long Redis is not asked after it failed.
const AWAY: Duration = Duration::from_secs(1);
const COUNT: &str = include_str!("count.lua");

/// The other processes' counts.
pub(super) struct Shared {
    manager: Option<ConnectionManager>,
    began: Instant,
    /// Milliseconds since the beginning.
    ask_again_at: AtomicU64,
    is_away: AtomicBool,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Is there room?
    Look,
    /// Count it if there is.
    Take,
    /// Count it.
    Must,
}

/// What Redis says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// There is room, and the call was counted where that was asked.
    Room,
    /// The limit at this index leaves none.
    Full { at: usize, wait: Duration },
    /// Nothing is known.
    Away,
}

impl Shared {
    pub(super) fn new(client: redis::Client) -> Self {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let manager = ConnectionManager::new_lazy_with_config(client, config)
            .inspect_err(|error| tracing::warn!(error = ?error.kind(), "Redis cannot be used for rates"));
        Self {
            manager: manager.ok(),
            began: Instant::now(),
            ask_again_at: AtomicU64::new(0),
            is_away: AtomicBool::new(false),
        }
    }

    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    pub(super) async fn ask(&self, project: &ProjectId, limits: &[Limit], how: How, id: Uuid) -> Answer {
        let mut command = redis::cmd("EVAL");
        command.arg(COUNT).arg(limits.len());
        for limit in limits {
            command.arg(key(project, limit));
        }
        let how = match how {
            How::Look => "look",
            How::Take => "take",
            How::Must => "must",
        };
        command.arg(how).arg(id.to_string()).arg(SLICES);
        for limit in limits {
            match limit.bound {
                Bound::Calls { most, window } => command.arg("calls").arg(most).arg(slice_ms(window)),
                Bound::Places { most } => command.arg("places").arg(most).arg(millis(LEASE)),
            };
        }
        match self.query::<(usize, u64)>(&command).await {
            None => Answer::Away,
            Some((0, _)) => Answer::Room,
            Some((at, wait)) => {
                Answer::Full { at: at - 1, wait: Duration::from_millis(wait).min(longest(limits)) }
            }
        }
    }

    /// Frees the places of a call. Where Redis is away they expire.
    pub(super) async fn release(&self, project: &ProjectId, places: &[Limit], id: Uuid) {
        for place in places {
            let mut command = redis::cmd("ZREM");
            command.arg(key(project, place)).arg(id.to_string());
            self.query::<i64>(&command).await;
        }
    }

    /// Asks, unless Redis is away; `None` when it is.
    async fn query<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Option<T> {
        let mut manager = self.manager.clone()?;
        if !self.may_ask() {
            return None;
        }
        let asked = command.query_async::<T>(&mut manager);
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => {
                if self.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!("Redis answers again: rates are counted with the other processes");
                }
                Some(answer)
            }
            Ok(Err(error)) => self.failed(&format!("{:?}", error.kind())),
            Err(_) => self.failed("no answer in time"),
        }
    }

    /// While Redis is away, one call a second.
    fn may_ask(&self) -> bool {
        let now = millis(self.began.elapsed());
        let due = self.ask_again_at.load(Ordering::Relaxed);
        if !self.is_away() {
            return true;
        }
        let next = now + millis(AWAY);
        now >= due
            && self.ask_again_at.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn failed<T>(&self, why: &str) -> Option<T> {
        self.ask_again_at.store(millis(self.began.elapsed() + AWAY), Ordering::Relaxed);
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(why, "Redis does not answer: this process counts rates for itself until it does");
        }
        None
    }
}

fn key(project: &ProjectId, limit: &Limit) -> String {
    format!("awooop:{{{project}}}:rate:{}", limit.key)
}

/// No wait is longer than the longest window, whatever Redis holds.
fn longest(limits: &[Limit]) -> Duration {
    let wait = |limit: &Limit| match limit.bound {
        Bound::Calls { window, .. } => window + 2 * Duration::from_millis(slice_ms(window)),
        Bound::Places { .. } => PLACE_WAIT,
    };
    limits.iter().map(wait).max().unwrap_or(PLACE_WAIT)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
