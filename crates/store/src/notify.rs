//! Wake-ups between processes, by PostgreSQL's NOTIFY on a connection of its own: never in a transaction that writes
//! (a NOTIFY makes commits wait for each other), only after it. The first one goes out at once, what follows within
//! 50 ms goes together.
//!
//! A message holds ids of runs and nothing else, and does nothing but make somebody look: whoever may connect may read
//! and send them. Behind a pooler that hands connections around by transaction nothing arrives, and polling stays.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use awooop_core::RunId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls};

use crate::pool::{Store, tls, wants_tls};
use crate::wake::{News, Wake};

/// The channel, and what it is subscribed with.
const CHANNEL: &str = "awooop";
/// Least time between two rounds of messages.
const APART: Duration = Duration::from_millis(50);
/// Runs of one message: PostgreSQL takes less than 8,000 bytes.
const RUNS_EACH: usize = 180;
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_secs(2);

/// A message that is lost in a crash woke nobody who would still be there: this statement alone waits for no disk.
const TELL: &str = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";

/// One message.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Message {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    work: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cancelled: Vec<RunId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    runs: Vec<RunId>,
}

impl Store {
    /// Tells other processes what rings here, and rings here what they tell, for as long as it is polled. A connection
    /// that breaks is made again; what was told meanwhile is found by looking.
    pub async fn share_wakes(self) {
        let mut is_away = false;
        loop {
            let began = tokio::time::Instant::now();
            if let Err(error) = self.converse().await
                && (!is_away || began.elapsed() > AGAIN)
            {
                is_away = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no wake-ups come from other processes until PostgreSQL is back; work is found by looking"
                );
            }
            tokio::time::sleep(AGAIN.mul_f64(rand::random_range(0.8..1.2))).await;
        }
    }

    async fn converse(&self) -> Result<(), Error> {
        let (config, wake) = (&self.inner.app_config, &self.inner.wake);
        if wants_tls(config) {
            let (client, connection) = config.connect(tls()).await?;
            talk(wake, client, connection).await
        } else {
            let (client, connection) = config.connect(NoTls).await?;
            talk(wake, client, connection).await
        }
    }
}

/// Listens and tells until the connection breaks.
async fn talk<S, T>(wake: &Wake, client: Client, mut connection: Connection<S, T>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    // what comes before the backend's number is known is one more look
    let own = AtomicI32::new(0);
    let listening = async {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(told) = message?
                && told.process_id() != own.load(Ordering::Relaxed)
            {
                hear(wake, told.payload());
            }
        }
        Ok(())
    };
    let telling = async {
        client.batch_execute("LISTEN awooop").await?;
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await?;
        own.store(row.get(0), Ordering::Relaxed);
        wake.ring(&News { work: true, ..News::default() });
        loop {
            wake.until_news().await;
            for message in messages(&wake.take_news()) {
                client.execute(TELL, &[&CHANNEL, &message]).await?;
            }
            tokio::time::sleep(APART).await;
        }
    };
    tokio::select! {
        ended = listening => ended,
        ended = telling => ended,
    }
}

/// Rings for a message. One that cannot be read is somebody else's, or of another version: it is one more look.
fn hear(wake: &Wake, payload: &str) {
    let Message { work, cancelled, runs } =
        serde_json::from_str(payload).unwrap_or(Message { work: true, ..Message::default() });
    wake.ring(&News { work, runs: BTreeSet::from_iter(runs), cancelled: BTreeSet::from_iter(cancelled) });
}

/// The messages that tell all of it, cancelled runs first.
fn messages(news: &News) -> Vec<String> {
    let cancelled = parts(&news.cancelled).map(|cancelled| Message { cancelled, ..Message::default() });
    let runs = parts(&news.runs).map(|runs| Message { runs, ..Message::default() });
    let mut all: Vec<Message> = cancelled.chain(runs).collect();
    match all.first_mut() {
        Some(first) => first.work = news.work,
        None if news.work => all.push(Message { work: true, ..Message::default() }),
        None => {}
    }
    all.iter().map(|message| awooop_core::json::to_value(message).to_string()).collect()
}

fn parts(runs: &BTreeSet<RunId>) -> impl Iterator<Item = Vec<RunId>> {
    let mut rest = runs.iter().copied();
    std::iter::from_fn(move || {
        Some(rest.by_ref().take(RUNS_EACH).collect()).filter(|part: &Vec<_>| !part.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_ids(count: u128) -> BTreeSet<RunId> {
        (0..count).map(|n| RunId::from(uuid::Uuid::from_u128(n))).collect()
    }

    #[test]
    fn whatever_is_told_is_heard_and_fits_a_message() {
        for (work, runs, cancelled) in [(true, 0, 0), (false, 1, 0), (true, 2000, 2000), (false, 0, 181)] {
            let news = News { work, runs: run_ids(runs), cancelled: run_ids(cancelled) };
            let (mut heard, messages) = (News::default(), messages(&news));
            for message in &messages {
                assert!(message.len() < 8000, "{} bytes", message.len());
                let one: Message = serde_json::from_str(message).unwrap();
                heard.work |= one.work;
                heard.runs.extend(one.runs);
                heard.cancelled.extend(one.cancelled);
            }
            assert_eq!(heard, news);
        }
        assert!(messages(&News::default()).is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_one_more_look() {
        let wake = Wake::default();
        hear(&wake, "something else");
        wake.until_work().await;
        assert_eq!(wake.take_news(), News::default(), "what others told is not told on");
    }
}
