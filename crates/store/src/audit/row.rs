//! Reading events and seals back. Whatever somebody put into the columns, reading does not fail: a row that
//! makes no sense has to be named, not to stop who looks for it.

use std::borrow::Cow;
use std::error::Error;

use awooop_core::audit::{EVENT_FORMAT, Event, NO_SEAL, Seal, hashes, ids};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

/// Columns of an event, for [`event`].
pub(crate) const EVENT: &str =
    "id, at, actor, action, subject, run_id, trace_id, body, key_id, mac, project_id";
/// Columns of a seal, for [`seal`].
pub(crate) const SEAL: &str =
    "n, event_ids, leaves, first_id, last_id, event_count, total, root, prev_hash, hash,
  sealed_at, is_late, key_id, signature, project_id";

/// From 1970 to 2000, where PostgreSQL's times begin, in microseconds.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A `timestamptz` in microseconds since 1970. Infinity is the greatest and the least there is, and no error.
pub(super) struct Micros(pub(super) i64);

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let since_2000 = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(since_2000.saturating_add(EPOCH_US)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// An event of a row with the columns [`EVENT`].
pub(super) fn event(row: &Row) -> Event<'_> {
    let text = |at: usize| Cow::Borrowed(row.get::<_, &str>(at));
    Event {
        id: row.get(0),
        at_us: row.get::<_, Micros>(1).0,
        actor: text(2),
        action: text(3),
        subject: text(4),
        run_id: row.get(5),
        trace_id: row.get::<_, Option<&str>>(6).map(Cow::Borrowed),
        body: text(7),
        key_id: text(8),
        mac: row.get(9),
        project: text(10),
        format: EVENT_FORMAT.into(),
    }
}

/// A seal of a row with the columns [`SEAL`]. What has not the length of a hash, or of whole ids, becomes
/// nothing, and then fits no signature.
pub(super) fn seal(row: &Row) -> Seal {
    let hash = |at: usize| row.get::<_, &[u8]>(at).try_into().unwrap_or(NO_SEAL);
    let event_ids = ids(row.get(1)).unwrap_or_default();
    let mut signature: Vec<u8> = row.get(13);
    // two columns only help to find the seal; changed ones are as bad as any
    let is_placed =
        event_ids.first().copied() == Some(row.get(3)) && event_ids.last().copied() == Some(row.get(4));
    if !is_placed {
        signature.clear();
    }
    Seal {
        n: row.get(0),
        event_ids,
        leaves: hashes(row.get(2)).unwrap_or_default(),
        count: row.get(5),
        total: row.get(6),
        root: hash(7),
        prev_hash: hash(8),
        hash: hash(9),
        sealed_at_us: row.get::<_, Micros>(10).0,
        is_late: row.get(11),
        key_id: row.get(12),
        signature,
        project: row.get(14),
    }
}
