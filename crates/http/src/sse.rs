//! A run's events: `state` when its state changes, `step` for each finished step, `end` with the final
//! document, then the stream closes. Rows are read, never a queue of events, so a stream can begin, break
//! and go on anywhere: wake-ups only make it prompt, and polling is the floor beneath them.
//!
//! Invariant: an id is sent only when everything before it was sent: a `state` of a new epoch carries
//! `<epoch>.0` only after the steps of older epochs, so going on after an id neither loses nor repeats a
//! step. It ends without `end` when the database fails or the server drains, and within a second of the caller's key
//! being revoked or their token's end; the client comes back.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use awooop_core::RunId;
use awooop_store::auth::Caller;
use awooop_store::journal::Step;
use awooop_store::run::Run;
use awooop_store::{ProjectScope, Store, StoreError};
use axum::response::sse::Event;
use futures::Stream;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;
use crate::run_view::Shown;

/// Longest time between two reads of the run.
const POLL: Duration = Duration::from_millis(500);
/// Longest time for which a caller is taken to be let in still.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Steps read at once.
const BATCH: i64 = 100;

/// A place in a run's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct EventId {
    /// The claim.
    pub(crate) epoch: i64,
    /// The step, or 0 for the claim's state.
    pub(crate) n: i32,
}

impl EventId {
    /// Reads `<epoch>.<n>`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (epoch, n) = text.split_once('.')?;
        let is_plain = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if !is_plain(epoch) || !is_plain(n) {
            return None;
        }
        Some(Self { epoch: epoch.parse().ok()?, n: n.parse().ok()? })
    }

    /// Was this step sent before this place? Ordinals go on over epochs, so a step's own decides; after a
    /// state, everything of older epochs was sent.
    fn has(self, step: &Step) -> bool {
        if self.n > 0 { step.n <= self.n } else { step.epoch < self.epoch }
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch, self.n)
    }
}

/// A reader of one run's events.
pub(crate) struct Watch {
    store: Store,
    caller: Caller,
    asked: Instant,
    scope: ProjectScope,
    run_id: RunId,
    wakes: Receiver<RunId>,
    draining: CancellationToken,
    place: EventId,
    shown: Option<(&'static str, i32)>,
    ready: VecDeque<Event>,
    is_over: bool,
}

impl Watch {
    /// Watches `run_id`, going on after `place`.
    pub(crate) fn new(
        store: Store,
        caller: Caller,
        run_id: RunId,
        draining: CancellationToken,
        place: Option<EventId>,
    ) -> Self {
        let wakes = store.wake().runs();
        let place = place.unwrap_or_default();
        let (scope, asked) = (caller.scope().clone(), Instant::now());
        let ready = VecDeque::new();
        Self {
            store,
            caller,
            asked,
            scope,
            run_id,
            wakes,
            draining,
            place,
            shown: None,
            ready,
            is_over: false,
        }
    }

    /// The events, until the end.
    pub(crate) fn events(self) -> impl Stream<Item = Result<Event, Infallible>> + Send {
        futures::stream::unfold(self, async |mut watch| {
            let event = watch.next().await?;
            Some((Ok(event), watch))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            match self.read().await {
                Ok(true) => {}
                Ok(false) => self.pause().await?,
                Err(error) => {
                    Problem::from(error).log();
                    return None;
                }
            }
        }
    }

    /// Reads what is new. The run is read before its steps, so a run seen ended has all of them.
    async fn read(&mut self) -> Result<bool, StoreError> {
        if !self.is_let_in().await? {
            self.is_over = true;
            return Ok(true);
        }
        let Some(run) = self.store.find_run(&self.scope, self.run_id).await? else {
            self.is_over = true;
            return Ok(true);
        };
        // a stream may be open for long: what people may see is asked with each read
        let shown = Shown::under(self.store.redactors(&self.scope).await?);
        if self.shown.is_none() {
            let has_older = self.has_unsent_before(run.epoch).await?;
            self.show_state(&shown, &run, has_older);
        }
        let is_complete = self.read_steps(&shown, &run).await?;
        if is_complete && self.shown != Some((run.state.as_str(), run.attempt)) {
            self.show_state(&shown, &run, false);
        }
        if is_complete && run.state.is_terminal() {
            let usage = self.store.usage_of(&self.scope, self.run_id).await?;
            self.ready.push_back(event("end", &shown.document(&run, usage, None)?));
            self.is_over = true;
        }
        Ok(!self.ready.is_empty())
    }

    /// Is the caller still let in? A stream may be open for longer than a key or a token lasts.
    async fn is_let_in(&mut self) -> Result<bool, StoreError> {
        if self.asked.elapsed() < ASK_AGAIN {
            return Ok(true);
        }
        self.asked = Instant::now();
        self.store.still_stands(&self.caller).await
    }

    /// May there be steps of older claims that were not sent? Epochs never fall along a run's steps, so the
    /// first one that was not sent tells; a full batch without one leaves it open.
    async fn has_unsent_before(&self, epoch: i64) -> Result<bool, StoreError> {
        let steps = self.store.list_steps(&self.scope, self.run_id, self.place.n, BATCH).await?;
        let is_full = i64::try_from(steps.len()).unwrap_or(BATCH) >= BATCH;
        Ok(steps.iter().find(|step| !self.place.has(step)).map_or(is_full, |step| step.epoch < epoch))
    }

    /// Queues one batch of new steps; true when there are no more up to the run's epoch. A step of a newer
    /// claim than the run that was read waits until that claim's state was shown.
    async fn read_steps(&mut self, shown: &Shown, run: &Run) -> Result<bool, StoreError> {
        let mut after = self.place.n;
        loop {
            let steps = self.store.list_steps(&self.scope, self.run_id, after, BATCH).await?;
            let is_last = i64::try_from(steps.len()).unwrap_or(BATCH) < BATCH;
            for step in steps {
                after = step.n;
                if step.epoch > run.epoch {
                    return Ok(true);
                }
                if !self.place.has(&step) {
                    self.place = EventId { epoch: step.epoch, n: step.n };
                    let id = self.place.to_string();
                    self.ready.push_back(event("step", &shown.step(step)).id(id));
                }
            }
            if is_last || !self.ready.is_empty() {
                return Ok(is_last);
            }
        }
    }

    fn show_state(&mut self, shown: &Shown, run: &Run, has_older: bool) {
        self.shown = Some((run.state.as_str(), run.attempt));
        let here = EventId { epoch: run.epoch, n: 0 };
        let mut state = event("state", &shown.item(run));
        if !has_older && here >= self.place {
            self.place = here;
            state = state.id(here.to_string());
        }
        self.ready.push_back(state);
    }

    /// Waits for a change of this run, at most [`POLL`]; `None` when the server drains.
    async fn pause(&mut self) -> Option<()> {
        tokio::select! {
            () = self.draining.cancelled() => None,
            () = changed(&mut self.wakes, self.run_id, POLL) => Some(()),
        }
    }
}

/// Waits until `run_id` may have changed, at most `limit`. A reader that fell behind looks at once.
pub(crate) async fn changed(wakes: &mut Receiver<RunId>, run_id: RunId, limit: Duration) {
    let heard = async {
        while let Ok(id) = wakes.recv().await {
            if id == run_id {
                break;
            }
        }
    };
    // not heard: look anyway
    let _ = tokio::time::timeout(limit, heard).await;
}

fn event<T: serde::Serialize>(name: &str, data: &T) -> Event {
    Event::default().event(name).data(awooop_core::json::to_value(data).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_two_plain_numbers() {
        assert_eq!(EventId::parse("3.14"), Some(EventId { epoch: 3, n: 14 }));
        assert_eq!(EventId::parse("0.0").map(|id| id.to_string()).as_deref(), Some("0.0"));
        for bad in ["", ".", "1", "1.", ".1", "-1.0", "1.2.3", "a.b", "1.99999999999", " 1.2"] {
            assert_eq!(EventId::parse(bad), None, "{bad}");
        }
    }
}
