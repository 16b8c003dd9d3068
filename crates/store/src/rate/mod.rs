//! Rates: room for a call under the limits that the policies set (`awooop_core::rate`), and its places among those under
//! way.
//!
//! Every process counts what it lets through itself. Where a Redis is configured, all of them count there together as
//! well, and a call needs room in both: so the sum over all processes never passes a limit while Redis answers, and when
//! it is away, slow, or came back empty, none passes the limit by itself. Nothing waits for Redis longer than
//! [`PATIENCE`], and no call fails because of it.
//!
//! Counts are not in PostgreSQL: a limit's row would be one that all of a project's calls wait for, and what is lost with
//! a count is at most one window.

mod local;
mod shared;

use std::future::Future;
use std::time::Duration;

use awooop_core::rate::{Bound, Limit, slice_ms};
use uuid::Uuid;

use crate::announce::Announcer;
use crate::pool::Store;
use crate::scope::{self, ProjectScope};
use local::{Counted, Local};
pub use shared::PATIENCE;
use shared::{Answer, How, Shared};

/// How long a place stays taken when nobody renews it.
const LEASE: Duration = Duration::from_secs(15);
/// How often a call that goes on renews its places.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// What this process counts, and where it counts with others.
pub(crate) struct Rates {
    local: Local,
    shared: Option<Shared>,
}

/// There is no room for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// The rule that leaves none, in words.
    pub rule: String,
    /// After how long there may be room.
    pub wait: Duration,
}

impl Rates {
    pub(crate) fn new(announcer: &Announcer) -> Self {
        Self { local: Local::default(), shared: announcer.client().map(Shared::new) }
    }

    /// What this process counts leaves no room. Redis parts time by a clock of its own, so that there a call may count for
    /// one slice longer: whoever waits as told is let in by both.
    fn full_here(&self, limits: &[Limit], at: usize, wait: Duration) -> Full {
        let longer = match (&self.shared, limits[at].bound) {
            (Some(_), Bound::Calls { window, .. }) => Duration::from_millis(slice_ms(window)),
            _ => Duration::ZERO,
        };
        full(limits, at, wait + longer)
    }
}

impl Store {
    /// Is there room for a call under all of these? Nothing is counted.
    ///
    /// # Errors
    /// [`Full`] by the rule with the longest wait.
    pub async fn look_at_rates(&self, scope: &ProjectScope, limits: &[Limit]) -> Result<(), Full> {
        if limits.is_empty() {
            return Ok(());
        }
        let rates = &self.inner.rates;
        rates.local.look(scope.project(), limits).map_err(|(i, wait)| rates.full_here(limits, i, wait))?;
        let Some(shared) = &rates.shared else { return Ok(()) };
        match shared.ask(scope.project(), limits, How::Look, Uuid::nil()).await {
            Answer::Full { at, wait } => Err(full(limits, at, wait)),
            Answer::Room | Answer::Away => Ok(()),
        }
    }

    /// Counts a call under all of these, or under none. One that `must` be made is counted in any case.
    ///
    /// # Errors
    /// [`Full`] by the rule with the longest wait.
    pub async fn take_place(
        &self,
        scope: &ProjectScope,
        limits: Vec<Limit>,
        must: bool,
    ) -> Result<Place, Full> {
        let mut place = Place { store: self.clone(), scope: scope.clone(), id: Uuid::nil(), held: None };
        if limits.is_empty() {
            return Ok(place);
        }
        let rates = &self.inner.rates;
        let counted = rates.local.take(scope.project(), &limits, must);
        let counted = counted.map_err(|(i, wait)| rates.full_here(&limits, i, wait))?;
        place.id = self.inner.clock.new_id();
        // whoever goes away while Redis is asked may have got its answer: the place is given back there, too
        let is_shared = rates.shared.is_some();
        let held = place.held.insert(Held { limits, counted, is_shared });
        let Some(shared) = &rates.shared else { return Ok(place) };
        let how = if must { How::Must } else { How::Take };
        match shared.ask(scope.project(), &held.limits, how, place.id).await {
            Answer::Room => Ok(place),
            Answer::Away => {
                held.is_shared = false;
                Ok(place)
            }
            Answer::Full { at, wait } => {
                let full = full(&held.limits, at, wait);
                rates.local.take_back(scope.project(), &held.limits, &held.counted);
                place.held = None;
                Err(full)
            }
        }
    }

    /// Are rates counted by this process alone although a Redis is configured? `None` without one.
    pub fn is_redis_away(&self) -> Option<bool> {
        self.inner.rates.shared.as_ref().map(Shared::is_away)
    }
}

fn full(limits: &[Limit], at: usize, wait: Duration) -> Full {
    Full { rule: limits[at].rule.clone(), wait }
}

/// What a call counts as while it is under way. Given back by [`Place::release`] or when it is dropped; of a process that
/// was killed, after 15 seconds.
pub struct Place {
    store: Store,
    scope: ProjectScope,
    id: Uuid,
    held: Option<Held>,
}

struct Held {
    limits: Vec<Limit>,
    counted: Counted,
    /// It is, or may be, counted in Redis as well.
    is_shared: bool,
}

impl Place {
    /// Makes the call, and renews the place as long as it takes.
    pub async fn hold<T>(&self, call: impl Future<Output = T>) -> T {
        let places = self.shared_places();
        if places.is_empty() {
            return call.await;
        }
        let renewals = async {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                let Some(shared) = &self.store.inner.rates.shared else { continue };
                shared.ask(self.scope.project(), &places, How::Must, self.id).await;
            }
        };
        tokio::select! {
            biased;
            done = call => done,
            () = renewals => unreachable!("renewing has no end"),
        }
    }

    /// Gives it back, here and in Redis: whoever asks afterwards finds it free.
    pub async fn release(mut self) {
        let places = self.shared_places();
        self.leave();
        if let (Some(shared), false) = (&self.store.inner.rates.shared, places.is_empty()) {
            shared.release(self.scope.project(), &places, self.id).await;
        }
    }

    /// The limits under which it holds a place in Redis.
    fn shared_places(&self) -> Vec<Limit> {
        let held = self.held.iter().filter(|held| held.is_shared);
        let limits = held.flat_map(|held| &held.limits);
        limits.filter(|limit| matches!(limit.bound, Bound::Places { .. })).cloned().collect()
    }

    /// Gives it back in this process.
    fn leave(&mut self) {
        if let Some(held) = self.held.take() {
            self.store.inner.rates.local.leave(self.scope.project(), &held.limits);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = self.shared_places();
        self.leave();
        if places.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (store, scope, id) = (self.store.clone(), self.scope.clone(), self.id);
        scope::spawn(&self.scope, "rate_release", async move {
            if let Some(shared) = &store.inner.rates.shared {
                shared.release(scope.project(), &places, id).await;
            }
        });
    }
}
