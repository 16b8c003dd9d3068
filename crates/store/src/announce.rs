//! Announcements to Redis or Valkey, where one is configured: whose signatures a contract still waits for, so
//! that a bot or a dashboard need not poll. PostgreSQL stays what counts: an announcement is made after the
//! commit, in the background, within two seconds or not at all, and nothing here ever reads or decides. Rates do (`rate`), on a
//! connection of their own.
//!
//! Keys carry their project: the hash `awooop:{project}:contracts:pending` holds one JSON document for each
//! act that waits, under `<kind>/<id>@<version>:<act>`; the same document is published on the channel
//! `awooop:{project}:contracts`. The braces stand for the project's id, not for a cluster's hash tag.

use std::time::Duration;

use jiff::Timestamp;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::scope::{self, ProjectScope};

/// How long one announcement may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How an act's signatures stand.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Announcement {
    /// The contract's kind.
    pub(crate) kind: &'static str,
    /// The contract's id.
    pub(crate) id: String,
    /// The version signed for.
    pub(crate) version: i32,
    /// `activate` or `retire`.
    pub(crate) act: &'static str,
    /// How many signatures are needed.
    pub(crate) needed: u32,
    /// Who has signed.
    pub(crate) signers: Vec<String>,
    /// Is it done? Then it no longer waits.
    pub(crate) is_done: bool,
    /// When.
    pub(crate) at: Timestamp,
    /// How long a signature counts, in seconds; what waits is forgotten after it.
    pub(crate) window_s: u32,
}

/// Why a Redis address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("AWOOOP_REDIS_URL is not an address of Redis: {0}")]
pub struct RedisUrlError(String);

/// Where announcements go; nowhere by default.
#[derive(Clone, Default)]
pub struct Announcer(Option<(ConnectionManager, redis::Client)>);

impl Announcer {
    /// An announcer for this address. Whether anybody is there shows with the first announcement.
    ///
    /// # Errors
    /// [`RedisUrlError`] for what is no address; it does not repeat the address.
    pub fn new(url: &SecretString) -> Result<Self, RedisUrlError> {
        let refuse =
            |e: redis::RedisError| RedisUrlError(e.detail().unwrap_or("it cannot be read").to_owned());
        let client = redis::Client::open(url.expose_secret()).map_err(refuse)?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(refuse)?;
        Ok(Self(Some((manager, client))))
    }

    /// The Redis it speaks to, for those that count in it.
    pub(crate) fn client(&self) -> Option<redis::Client> {
        self.0.as_ref().map(|(_, client)| client.clone())
    }

    /// Tells, in the background. A Redis that is away costs nothing but the announcement.
    pub(crate) fn announce(&self, scope: &ProjectScope, announcements: Vec<Announcement>) {
        let Some((manager, _)) = self.0.clone().filter(|_| !announcements.is_empty()) else { return };
        let project = scope.project().to_string();
        scope::spawn(scope, "announce", async move {
            match tokio::time::timeout(PATIENCE, send(manager, &project, &announcements)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(error = ?error.kind(), "Redis did not take an announcement"),
                Err(_) => tracing::warn!("Redis did not take an announcement in time"),
            }
        });
    }
}

async fn send(
    mut manager: ConnectionManager,
    project: &str,
    announcements: &[Announcement],
) -> redis::RedisResult<()> {
    let (pending, channel) =
        (format!("awooop:{project}:contracts:pending"), format!("awooop:{project}:contracts"));
    let waiting: Vec<String> = redis::cmd("HKEYS").arg(&pending).query_async(&mut manager).await?;
    let mut pipe = redis::pipe();
    for one in announcements {
        let contract = format!("{}/{}@", one.kind, one.id);
        let document = awooop_core::json::to_value(one).to_string();
        if one.is_done {
            // what else was signed for this contract was signed against what is active no more
            for field in waiting.iter().filter(|field| field.starts_with(&contract)) {
                pipe.cmd("HDEL").arg(&pending).arg(field).ignore();
            }
        } else {
            let field = format!("{contract}{}:{}", one.version, one.act);
            pipe.cmd("HSET").arg(&pending).arg(field).arg(&document).ignore();
        }
        pipe.cmd("EXPIRE").arg(&pending).arg(one.window_s).ignore();
        pipe.cmd("PUBLISH").arg(&channel).arg(document).ignore();
    }
    pipe.query_async::<()>(&mut manager).await
}
