//! What keeps vacuum from its work: the queue and lease tables live by it, and one transaction that stays open anywhere
//! in the cluster, a forgotten prepared transaction or a replication slot nobody reads lets them swell.
//!
//! An ordinary role sees of other roles' sessions who they are and how many transactions ago they began, not since when
//! nor what they do; `GRANT pg_read_all_stats` to the dispatch role shows both. The text of a query is never read.

use std::fmt;

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::pool::Store;

/// Since when a transaction has to be open to be told of, in seconds.
const LONG_S: i64 = 300;
/// How many transactions ago it has to have begun, where its time cannot be seen.
const LONG_XIDS: i32 = 100_000;

/// Something that holds vacuum back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdback {
    /// `session`, `prepared` or `slot`.
    pub kind: &'static str,
    /// The process id, the transaction's or the slot's name.
    pub name: String,
    /// Whose it is; empty for a slot.
    pub user: String,
    /// What the session calls itself.
    pub application: String,
    /// What it does, such as `idle in transaction`; none where this role may not see it.
    pub state: Option<String>,
    /// Since when, where this role may see it.
    pub since: Option<Timestamp>,
    /// How many transactions began after it.
    pub age_xids: i32,
}

impl Holdback {
    /// Has it been there for long?
    pub fn is_long(&self, now: Timestamp) -> bool {
        match self.since {
            Some(since) => now.duration_since(since).as_secs() >= LONG_S,
            None => self.age_xids >= LONG_XIDS,
        }
    }

    /// For how long, in seconds, where that can be seen.
    pub fn age_s(&self, now: Timestamp) -> Option<i64> {
        self.since.map(|since| now.duration_since(since).as_secs().max(0))
    }
}

impl fmt::Display for Holdback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            "session" => write!(f, "process {} of role {}", self.name, self.user)?,
            "prepared" => write!(f, "the prepared transaction {} of role {}", self.name, self.user)?,
            _ => write!(f, "the replication slot {}", self.name)?,
        }
        if !self.application.is_empty() {
            write!(f, " (application {})", self.application)?;
        }
        if let Some(state) = &self.state {
            write!(f, ", {state},")?;
        }
        match self.since {
            Some(since) => write!(f, " keeps a transaction open since {since}")?,
            None => f.write_str(" keeps old rows from being vacuumed")?,
        }
        write!(f, "; {} transactions began after it", self.age_xids)
    }
}

impl Store {
    /// Everything that holds vacuum back now, the oldest first; this server's own short transactions among it.
    pub async fn holdbacks(&self) -> Result<Vec<Holdback>, StoreError> {
        Ok(self.system(HOLDBACKS, &[]).await?.iter().map(read).collect())
    }

    /// Of them, those that have been there for long.
    pub async fn long_holdbacks(&self) -> Result<Vec<Holdback>, StoreError> {
        let now = self.inner.clock.now();
        let mut found = self.holdbacks().await?;
        found.retain(|h| h.is_long(now));
        Ok(found)
    }
}

fn read(row: &Row) -> Holdback {
    let kind = match row.get::<_, &str>(0) {
        "session" => "session",
        "prepared" => "prepared",
        _ => "slot",
    };
    Holdback {
        kind,
        name: row.get(1),
        user: row.get(2),
        application: row.get(3),
        state: row.get(4),
        since: row.get(5),
        age_xids: row.get(6),
    }
}

// a session counts in its own database only, unless it holds a snapshot: backend_xmin is cluster-wide for the shared
// tables, and per database for ours, so that others' databases are left out
const HOLDBACKS: &str = "
SELECT kind, name, owner, application, state, since, age FROM (
  SELECT 'session' AS kind, a.pid::text AS name, coalesce(a.usename::text, '') AS owner,
    coalesce(a.application_name, '') AS application, a.state,
    a.xact_start AS since, greatest(age(a.backend_xmin), age(a.backend_xid)) AS age
  FROM pg_stat_activity a
  WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.usename IS NOT NULL
    AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
  UNION ALL
  SELECT 'prepared', x.gid, x.owner::text, '', NULL, x.prepared, age(x.transaction) FROM pg_prepared_xacts x
  WHERE x.database = current_database()
  UNION ALL
  SELECT 'slot', s.slot_name::text, '', coalesce(s.plugin::text, ''), CASE WHEN s.active THEN 'active' ELSE 'inactive' END,
    NULL, greatest(age(s.xmin), age(s.catalog_xmin))
  FROM pg_replication_slots s WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL) h
ORDER BY age DESC LIMIT 100";
