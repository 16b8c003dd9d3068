//! Waiting for a run to end, through restarts of the server.
//!
//! A run outlives the server's processes, so whoever waits keeps trying for [`PATIENCE`] after the server
//! was last heard of. Quietly by reading the run again and again (at once where the server holds an answer back,
//! as `Prefer: wait` asks it to), or watching by its event stream, resumed by the last event's id.
//! Fails with the server's refusal at once, and with the last thing the network said when patience ends.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::progress::Progress;
use super::report::{is_ended, state, waits_for_people};
use crate::client::Client;
use crate::failure::Failure;
use crate::sse;

/// How long a server may be away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A stream without so much as a comment (one comes every 15 s) is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// The longest time between two questions about a run that goes on.
const LONGEST_POLL: Duration = Duration::from_millis(500);
/// An answer sooner than this was not held back, so the next question waits a little.
const HELD_BACK: Duration = Duration::from_secs(1);

/// How long to go on asking a server that does not answer.
pub(crate) struct Patience {
    heard_at: Instant,
    pause: Duration,
}

impl Patience {
    /// Full patience, from now on.
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard_at: now, pause: FIRST_PAUSE }
    }

    /// How long to pause before the next try, `None` when it is time to give up.
    pub(crate) fn next_pause(&mut self, now: Instant) -> Option<Duration> {
        if now.duration_since(self.heard_at) >= PATIENCE {
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }

    /// Pauses after a failure that may pass.
    ///
    /// # Errors
    /// The failure itself, when it will not pass or has lasted too long.
    pub(crate) async fn bear(&mut self, failure: Failure, progress: &mut Progress) -> Result<(), Failure> {
        if !failure.is_transient() {
            return Err(failure);
        }
        let Some(pause) = self.next_pause(Instant::now()) else { return Err(failure) };
        progress.away(&failure.to_string());
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Waits until the run has ended, or cannot go on without people, and gives its document.
///
/// # Errors
/// See the module.
pub(crate) async fn until_ended(client: &Client, run_id: &str) -> Result<Value, Failure> {
    let mut progress = Progress::quiet();
    let mut patience = Patience::new(Instant::now());
    let mut pause = FIRST_PAUSE;
    loop {
        let asked_at = Instant::now();
        match client.get_waiting(&["v1", "platform", "runs", run_id]).await {
            Ok(document) if is_ended(&document) || waits_for_people(&document) => return Ok(document),
            Ok(document) if state(&document).is_empty() => return Err(client.protocol("a run has no state")),
            Ok(_) => {
                progress.back();
                patience = Patience::new(Instant::now());
                if asked_at.elapsed() < HELD_BACK {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_POLL);
                }
            }
            Err(failure) => patience.bear(failure, &mut progress).await?,
        }
    }
}

/// Shows what happens until the run has ended, or cannot go on without people, and gives its document.
///
/// # Errors
/// See the module.
pub(crate) async fn watched(client: &Client, run_id: &str) -> Result<Value, Failure> {
    let mut progress = Progress::live();
    let mut patience = Patience::new(Instant::now());
    let mut last_id = None;
    loop {
        match follow(client, run_id, &mut last_id, &mut patience, &mut progress).await {
            Ok(document) => return Ok(document),
            Err(failure) => patience.bear(failure, &mut progress).await?,
        }
    }
}

/// The steps of a run that was waited for, with the same patience: the server may go away just then.
///
/// # Errors
/// See the module.
pub(crate) async fn steps(client: &Client, run_id: &str) -> Result<Vec<Value>, Failure> {
    let mut progress = Progress::quiet();
    let mut patience = Patience::new(Instant::now());
    loop {
        match client.get_all(&["v1", "platform", "runs", run_id, "steps"], &[]).await {
            Ok(steps) => return Ok(steps),
            Err(failure) => patience.bear(failure, &mut progress).await?,
        }
    }
}

/// Reads one event stream to its `end`, or to where people are needed.
async fn follow(
    client: &Client,
    run_id: &str,
    last_id: &mut Option<String>,
    patience: &mut Patience,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    let path = ["v1", "platform", "runs", run_id, "events"];
    let mut stream = client.events(&path, last_id.as_deref()).await?;
    let mut reader = sse::Reader::after(last_id.clone());
    loop {
        let chunk = tokio::time::timeout(SILENCE, stream.chunk()).await;
        let chunk = chunk.map_err(|_| client.away("the event stream fell silent"))?;
        let chunk = chunk.map_err(|e| client.transport_failure(&e))?;
        let chunk = chunk.ok_or_else(|| client.away("the event stream ended before the run did"))?;
        progress.back();
        *patience = Patience::new(Instant::now());
        let events = reader.feed(&chunk).map_err(|sse::TooLarge| client.protocol("an event is too large"))?;
        *last_id = reader.last_id().map(str::to_owned);
        for event in events {
            if let Some(document) = take(client, &event, progress)? {
                return Ok(document);
            }
            if event.name == "state" && event.data.contains("waiting_approval") {
                let document = client.get(&["v1", "platform", "runs", run_id], &[]).await?;
                if waits_for_people(&document) {
                    return Ok(document);
                }
            }
        }
    }
}

/// Shows one event; gives the run's document when it is the last one. Unknown names are passed over, so that
/// a newer server can say more.
fn take(client: &Client, event: &sse::Event, progress: &mut Progress) -> Result<Option<Value>, Failure> {
    if !matches!(event.name.as_str(), "state" | "step" | "end") {
        return Ok(None);
    }
    let data: Value =
        serde_json::from_str(&event.data).map_err(|_| client.protocol("an event's data is not JSON"))?;
    match event.name.as_str() {
        "state" => progress.state(state(&data)),
        "step" => progress.step(&data),
        _ => {
            progress.state(state(&data));
            return Ok(Some(data));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_lasts_a_minute_and_pauses_grow_to_a_second() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        let pauses: Vec<u128> =
            (0..6).filter_map(|_| patience.next_pause(start)).map(|p| p.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        assert!(patience.next_pause(start + PATIENCE - Duration::from_millis(1)).is_some());
        assert_eq!(patience.next_pause(start + PATIENCE), None);
    }
}
