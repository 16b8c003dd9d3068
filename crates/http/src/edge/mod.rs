//! The edge: what is decided about a connection and a request before anybody looks at what is asked.
//!
//! Who the other end is (`address`), whether there is room for it (`seats`), TLS (`tls`), how large a head may be, how
//! often a key may ask and how often an address may fail to prove who it is (`buckets`, `proven`), and what every answer
//! says of itself (`headers`). All of it lives in this process's memory and is bounded; nothing of it is asked of the database.
//! What is refused is counted, and answered with a problem document like any other refusal.

mod address;
mod buckets;
mod guard;
mod headers;
mod proven;
mod seats;
mod tls;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use awooop_core::ErrorCode;
use awooop_store::auth::Credential;

pub use address::{BadRange, TrustedProxies};
pub use tls::{ENDS_SOON, LOOK_EVERY, Tls, TlsError, TlsFiles};

pub(crate) use guard::{Client, Peer, guard};
pub(crate) use headers::secure;
pub(crate) use seats::{Full, Seat};

use crate::problem::Problem;
use address::Block;
use buckets::Buckets;
use proven::Proven;
use seats::Seats;

/// Longest time from the moment a connection can take a request until its head is there.
pub const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// Most connections at a time unless told otherwise.
pub const MAX_CONNECTIONS: usize = 8192;
/// Of them, one address may have one in so many unless told otherwise.
pub const ADDRESS_SHARE: usize = 4;
/// Requests a second that a key may make unless told otherwise.
pub const KEY_RATE: u32 = 200;
/// Failed authentications a second that an address may have unless told otherwise.
pub const FAILED_AUTH_RATE: u32 = 20;
/// A key that was idle may make so many seconds' requests at once.
const KEY_BURST_S: u32 = 2;
/// An address may fail as often at once as in so many seconds.
const FAILED_AUTH_BURST_S: u32 = 10;
/// Between two warnings that all who come through somebody are refused.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// The limits of a listener.
#[derive(Debug)]
pub struct EdgeConfig {
    /// Most connections at a time.
    pub max_connections: usize,
    /// Of them, of one address that is no trusted proxy's.
    pub max_connections_per_address: usize,
    /// Requests a second with one key, or of one person; 0 for no limit.
    pub key_rate: u32,
    /// Failed authentications a second from one address; 0 for no limit.
    pub failed_auth_rate: u32,
    /// Whose word about a client's address counts.
    pub trusted_proxies: TrustedProxies,
    /// TLS, where it is spoken.
    pub tls: Option<Arc<Tls>>,
    /// Longest time until a request's head is there.
    pub head_within: Duration,
}

impl Default for EdgeConfig {
    /// For a listener that others reach.
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            max_connections_per_address: MAX_CONNECTIONS / ADDRESS_SHARE,
            key_rate: KEY_RATE,
            failed_auth_rate: FAILED_AUTH_RATE,
            trusted_proxies: TrustedProxies::default(),
            tls: None,
            head_within: HEAD_WITHIN,
        }
    }
}

impl EdgeConfig {
    /// For a listener of this machine alone, where everybody has the same address: a bound on connections, no rates.
    pub fn of_this_machine() -> Self {
        let max_connections_per_address = MAX_CONNECTIONS;
        Self { max_connections_per_address, key_rate: 0, failed_auth_rate: 0, ..Self::default() }
    }
}

/// The limits of a listener and what is used of them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Edge(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    seats: Arc<Seats>,
    proxies: TrustedProxies,
    by_key: Buckets<String>,
    failures: Buckets<Block>,
    proven: Proven,
    told_of_proxy: Mutex<Option<Instant>>,
    tls: Option<Arc<Tls>>,
    head_within: Duration,
    refused: [AtomicU64; Refused::ALL.len()],
}

/// What the edge refuses, as the label of its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many connections are open as may be.
    House,
    /// As many of the address.
    Address,
    /// A connection that was cut without an answer.
    Cut,
    /// A handshake that failed or took too long.
    Handshake,
    /// A head or an address line that is too large.
    Head,
    /// A key that asks too often.
    Key,
    /// An address that fails too often.
    Failures,
}

impl Refused {
    pub(crate) const ALL: [Self; 7] =
        [Self::House, Self::Address, Self::Cut, Self::Handshake, Self::Head, Self::Key, Self::Failures];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::House => "connections",
            Self::Address => "connections_of_address",
            Self::Cut => "cut",
            Self::Handshake => "tls_handshake",
            Self::Head => "head",
            Self::Key => "key_rate",
            Self::Failures => "failed_auth_rate",
        }
    }
}

impl Edge {
    /// A listener's edge.
    pub fn new(config: EdgeConfig) -> Self {
        let burst = |rate: u32, seconds: u32| rate.saturating_mul(seconds);
        Self(Arc::new(Inner {
            seats: Seats::new(config.max_connections, config.max_connections_per_address),
            proxies: config.trusted_proxies,
            by_key: Buckets::new(config.key_rate, burst(config.key_rate, KEY_BURST_S)),
            failures: Buckets::new(
                config.failed_auth_rate,
                burst(config.failed_auth_rate, FAILED_AUTH_BURST_S),
            ),
            proven: Proven::default(),
            told_of_proxy: Mutex::default(),
            tls: config.tls,
            head_within: config.head_within,
            refused: Default::default(),
        }))
    }

    /// TLS, where it is spoken.
    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.0.tls.as_ref()
    }

    pub(crate) fn head_within(&self) -> Duration {
        self.0.head_within
    }

    /// A seat for a connection from this address; nothing when it is to be cut.
    pub(crate) fn seat(&self, address: IpAddr) -> Option<Seat> {
        let block = (!self.0.proxies.has(address)).then(|| Block::from(address));
        let seat = self.0.seats.connection(block);
        match &seat {
            None => self.count(Refused::Cut),
            Some(seat) => match seat.turned_away() {
                None => {}
                Some(Full::House) => self.count(Refused::House),
                Some(Full::Address) => self.count(Refused::Address),
            },
        }
        seat
    }

    /// Takes a request from the share of whoever came with this.
    ///
    /// # Errors
    /// 429 E-LIMIT-004 when it is used up.
    pub(crate) fn request_with(&self, credential: &Credential) -> Result<(), Problem> {
        let whose = match credential {
            Credential::Key { key_id, .. } => format!("key {key_id}"),
            Credential::Token { subject, .. } => format!("person {subject}"),
        };
        self.request_of(whose)
    }

    /// The same for a person by their issuer's name.
    pub(crate) fn request_of_person(&self, subject: &str) -> Result<(), Problem> {
        self.request_of(format!("person {subject}"))
    }

    fn request_of(&self, whose: String) -> Result<(), Problem> {
        self.0.by_key.take(whose).map_err(|wait| {
            self.count(Refused::Key);
            let detail = "more requests come with this key, or of this person, than this node takes of one";
            Problem::new(ErrorCode::Limit004, detail).after(wait)
        })
    }

    /// May this address try to prove with this credential who it is? One that was valid from there lately may always.
    ///
    /// # Errors
    /// 429 E-LIMIT-005 when the address failed too often.
    pub(crate) fn may_try(&self, client: &Client, credential: &str) -> Result<(), Problem> {
        let Some(address) = client.address else { return Ok(()) };
        self.0.failures.look(address.into()).or_else(|wait| {
            if self.0.proven.has(address.into(), credential) {
                return Ok(());
            }
            self.count(Refused::Failures);
            if client.is_unheard && self.is_time_to_tell(Instant::now()) {
                tracing::warn!(
                    %address,
                    "this address fails too often to prove who it is, and names others whom it speaks for: if it is your \
                     proxy, name it with --trusted-proxies, or all who come through it are refused"
                );
            }
            let detail = "too many keys or tokens that are not valid came from this address";
            Err(Problem::new(ErrorCode::Limit005, detail).after(wait))
        })
    }

    /// It has, or the credential was not valid.
    pub(crate) fn has_tried(&self, client: &Client, credential: &str, is_valid: bool) {
        let Some(address) = client.address else { return };
        if is_valid {
            self.0.proven.remember(address.into(), credential);
        } else {
            self.0.proven.forget(address.into(), credential);
            // of several at a time the last ones may find nothing left to take
            let _ = self.0.failures.take(address.into());
        }
    }

    fn is_time_to_tell(&self, now: Instant) -> bool {
        let mut told = self.0.told_of_proxy.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = told.is_none_or(|at| now.duration_since(at) >= TELL_AGAIN);
        if is_time {
            *told = Some(now);
        }
        is_time
    }

    pub(crate) fn count(&self, refused: Refused) {
        self.0.refused[refused as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each was refused.
    pub(crate) fn refused(&self) -> [(&'static str, u64); Refused::ALL.len()] {
        Refused::ALL
            .map(|refused| (refused.as_str(), self.0.refused[refused as usize].load(Ordering::Relaxed)))
    }

    /// How many connections are open, and how many may be.
    pub(crate) fn connections(&self) -> (usize, usize) {
        (self.0.seats.open(), self.0.seats.most())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_was_not_named_is_told_of_once_a_minute() {
        let (edge, now) = (Edge::new(EdgeConfig::default()), Instant::now());
        let at = |seconds: u64| edge.is_time_to_tell(now + Duration::from_secs(seconds));
        assert_eq!([0, 1, 59, 60, 61, 120].map(at), [true, false, false, true, false, true]);
    }
}
