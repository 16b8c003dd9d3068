//! An answer as a stream of events that a client may leave and come back to: a log that grows, and readers
//! that follow it from any place until its end.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::Value;
use tokio::sync::watch;

/// Milliseconds after which a client that was hung up on may come back.
const RETRY_MS: u64 = 20;

#[derive(Clone)]
enum Entry {
    Message(String),
    /// Who reads is sent away; who comes back later reads on.
    HangUp,
    End,
}

/// The messages of one answer so far.
pub(super) struct Log {
    entries: Mutex<Vec<Entry>>,
    length: watch::Sender<usize>,
}

impl Log {
    pub(super) fn new() -> Arc<Log> {
        Arc::new(Log { entries: Mutex::new(Vec::new()), length: watch::Sender::new(0) })
    }

    /// Appends a message.
    pub(super) fn say(&self, message: &Value) {
        self.push(Entry::Message(message.to_string()));
    }

    /// Sends the readers away.
    pub(super) fn hang_up(&self) {
        self.push(Entry::HangUp);
    }

    /// Says that nothing follows.
    pub(super) fn end(&self) {
        self.push(Entry::End);
    }

    fn push(&self, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
        self.length.send_replace(entries.len());
    }

    fn at(&self, place: usize) -> Option<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).get(place).cloned()
    }

    /// The log as an event stream. With a name, events carry ids `<name>_<place>` and the stream begins with
    /// an event that has only an id, so that a reader can come back. `guard` lives as long as the reader
    /// stays, and learns whether it saw the end.
    pub(super) fn respond(self: Arc<Log>, name: Option<String>, guard: impl Guard) -> Response {
        let length = self.length.subscribe();
        let reader = Reader { log: self, length, name, place: 0, came_back_at: None, guard, is_first: true };
        reader.respond()
    }

    /// The log from `place` on, for a reader who has come back.
    pub(super) fn resume(self: Arc<Log>, name: String, place: usize) -> Response {
        let length = self.length.subscribe();
        let (name, came_back_at) = (Some(name), Some(place));
        let reader = Reader { log: self, length, name, place, came_back_at, guard: (), is_first: true };
        reader.respond()
    }
}

/// What is told when a reader has seen the end; dropped without that, the reader has left.
pub(super) trait Guard: Send + 'static {
    fn saw_the_end(&mut self);
}

impl Guard for () {
    fn saw_the_end(&mut self) {}
}

struct Reader<G> {
    log: Arc<Log>,
    length: watch::Receiver<usize>,
    name: Option<String>,
    place: usize,
    came_back_at: Option<usize>,
    guard: G,
    is_first: bool,
}

impl<G: Guard> Reader<G> {
    fn respond(self) -> Response {
        let events = stream::unfold(Some(self), |reader| async move { reader?.next().await });
        let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
        (headers, Body::from_stream(events)).into_response()
    }

    async fn next(mut self) -> Option<(Result<String, Infallible>, Option<Self>)> {
        if std::mem::take(&mut self.is_first)
            && let Some(name) = &self.name
        {
            let greeting = format!("id: {name}_{}\nretry: {RETRY_MS}\ndata: \n\n", self.place);
            return Some((Ok(greeting), Some(self)));
        }
        loop {
            let place = self.place;
            self.length.wait_for(|length| *length > place).await.ok()?;
            self.place += 1;
            match self.log.at(place)? {
                Entry::Message(message) => {
                    let id = self.name.as_ref().map(|name| format!("id: {name}_{}\n", self.place));
                    let event = format!("event: message\n{}data: {message}\n\n", id.unwrap_or_default());
                    return Some((Ok(event), Some(self)));
                }
                // who has come back from there is not sent away again
                Entry::HangUp if self.came_back_at == Some(place) => {}
                Entry::HangUp | Entry::End => {
                    self.guard.saw_the_end();
                    return None;
                }
            }
        }
    }
}
