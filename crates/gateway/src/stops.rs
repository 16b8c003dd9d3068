//! What is stopped, as this process last saw it, and cutting what a new stop covers.
//!
//! Before each call the database itself is asked, so nothing begins once a stop is committed. This is for what had
//! begun by then: a watcher in every process reads all stops a few times a second ([`WATCH_EVERY`]), and whatever is
//! under way listens for what is new.
//!
//! Invariant: an [`Ear`] is opened before the database is asked, and hears only changes. So what the watcher saw too
//! early is in the answer, what it sees too late is heard, and a stop that was lifted a moment ago holds nothing back.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use awooop_core::halt::{Stop, Work};
use awooop_store::StoreError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;

/// Between two looks of the watcher.
pub const WATCH_EVERY: Duration = Duration::from_millis(250);

/// The stops last seen.
#[derive(Debug)]
pub(crate) struct Stops(watch::Sender<Arc<[Stop]>>);

impl Default for Stops {
    fn default() -> Self {
        Self(watch::Sender::new(Arc::new([])))
    }
}

/// A call that a stop ended, or kept from beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// May it have reached the other side?
    pub(crate) has_begun: bool,
}

impl Stops {
    fn replace(&self, seen: Vec<Stop>) {
        self.0.send_if_modified(|known| {
            let is_new = **known != *seen;
            if is_new {
                *known = seen.into();
            }
            is_new
        });
    }

    pub(crate) fn listen(&self) -> Ear {
        Ear(self.0.subscribe())
    }
}

/// Hears what is stopped from its making on.
#[derive(Debug)]
pub struct Ear(watch::Receiver<Arc<[Stop]>>);

impl Ear {
    /// Waits until a stop that covers this work is heard of.
    pub async fn until_stopped(&mut self, work: Work<'_>) {
        while self.0.changed().await.is_ok() {
            if self.0.borrow_and_update().iter().any(|stop| stop.covers(work)) {
                return;
            }
        }
        // the gateway is gone, and nobody stops anything any more
        std::future::pending().await
    }

    /// Makes the call unless a stop was heard of meanwhile, and drops it when one is.
    pub(crate) async fn unless<T>(
        &mut self,
        work: Work<'_>,
        call: impl Future<Output = T>,
    ) -> Result<T, Cut> {
        let mut has_begun = false;
        let begun = async {
            has_begun = true;
            call.await
        };
        let done = tokio::select! {
            biased;
            () = self.until_stopped(work) => None,
            answer = begun => Some(answer),
        };
        done.ok_or(Cut { has_begun })
    }
}

impl Gateway {
    /// Listens for what is stopped from now on.
    pub fn listen_for_stops(&self) -> Ear {
        self.inner.stops.listen()
    }

    /// One look at what is stopped.
    ///
    /// # Errors
    /// The database's; what was seen before stays.
    pub async fn look_at_stops(&self) -> Result<(), StoreError> {
        self.inner.stops.replace(self.inner.store.list_stops().await?);
        Ok(())
    }

    /// Looks until `stop`. Every process that makes calls runs one of these.
    pub async fn watch_stops(self, stop: CancellationToken) {
        let mut is_away = false;
        loop {
            match self.look_at_stops().await {
                Ok(()) => is_away = false,
                Err(error) if !is_away => {
                    is_away = true;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "what is stopped cannot be read"
                    );
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WATCH_EVERY) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use awooop_core::halt::Target;
    use awooop_core::{AgentId, ProjectId};

    fn stop(project: &ProjectId) -> Stop {
        Stop { project: project.clone(), target: Target::Project }
    }

    #[tokio::test]
    async fn a_call_is_kept_from_beginning_cut_or_left_alone() {
        let (mine, theirs) = (ProjectId::parse("mine").unwrap(), ProjectId::parse("theirs").unwrap());
        let agent = AgentId::parse("clerk").unwrap();
        let work = Work { project: &mine, agent: &agent, provider: None, tool: None };
        let stops = Stops::default();
        let mut ear = stops.listen();
        stops.replace(vec![stop(&theirs)]);
        assert_eq!(ear.unless(work, async { 1 }).await, Ok(1));
        let cut = async {
            stops.replace(vec![stop(&theirs), stop(&mine)]);
            std::future::pending::<()>().await;
        };
        assert_eq!(ear.unless(work, cut).await, Err(Cut { has_begun: true }));
        // the database said that it was started again, and the watcher is late
        assert_eq!(stops.listen().unless(work, async { 2 }).await, Ok(2));
        let mut ear = stops.listen();
        stops.replace(Vec::new());
        stops.replace(vec![stop(&mine)]);
        let never = async { panic!("a call that is stopped does not begin") };
        assert_eq!(ear.unless::<()>(work, never).await, Err(Cut { has_begun: false }));
        assert_eq!(stops.listen().unless(work, async { 3 }).await, Ok(3));
    }
}
