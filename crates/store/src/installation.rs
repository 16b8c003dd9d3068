//! What the database server is like, for the doctor: versions, settings that would lose what was committed, its clock
//! beside ours, and how many connections there are for how many processes.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::doctor::Finding;
use crate::error::StoreError;
use crate::pool::{APP_CONNECTIONS, DISPATCH_CONNECTIONS, Store};

/// What a process may open: both pools, and the one for wake-ups.
const CONNECTIONS_EACH: usize = APP_CONNECTIONS + DISPATCH_CONNECTIONS + 1;
/// The oldest PostgreSQL whose SQL this is.
const OLDEST: i32 = 150_000;
/// A machine's clock may be off by this before anybody should care: nodes follow the database's, but keys and tokens
/// made elsewhere do not.
const CLOCK: SignedDuration = SignedDuration::from_secs(1);
/// A worker that beat within this is alive.
const ALIVE: Duration = Duration::from_secs(60);

/// What was found out.
#[derive(Debug, Clone)]
pub struct Installation {
    /// PostgreSQL's own words for its version, such as `15.14`.
    pub postgresql: String,
    /// The schema's version.
    pub schema: i64,
    /// How far the database's clock is from this machine's, in milliseconds; what the question took explains up to
    /// half of it.
    pub clock_offset_ms: i64,
    /// Workers that beat within the last minute.
    pub workers: i64,
    /// Connections that clients may have in all, without those kept back for administrators.
    pub connections: i64,
    /// Those that are open.
    pub connections_open: i64,
    /// What is wrong with any of it.
    pub findings: Vec<Finding>,
}

const FACTS: &str = "
SELECT current_setting('server_version'), current_setting('server_version_num')::int, clock_timestamp(),
  current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint,
  (SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL),
  (SELECT count(*) FROM awooop.worker_beat WHERE beat_at > clock_timestamp() - make_interval(secs => $1)),
  (SELECT awooop.schema_version()),
  array_remove(ARRAY[
    CASE WHEN current_setting('fsync') = 'off' THEN 'fsync' END,
    CASE WHEN current_setting('full_page_writes') = 'off' THEN 'full_page_writes' END,
    CASE WHEN current_setting('synchronous_commit') = 'off' THEN 'synchronous_commit' END], NULL)";

impl Store {
    /// Looks at the database server.
    ///
    /// # Errors
    /// The database's.
    pub async fn installation(&self) -> Result<Installation, StoreError> {
        let (sent_at, before) = (Instant::now(), self.inner.clock.now());
        let rows = self.system(FACTS, &[&ALIVE.as_secs_f64()]).await?;
        let took = SignedDuration::try_from(sent_at.elapsed()).unwrap_or(SignedDuration::MAX);
        let row = rows.first().expect("a query without FROM gives one row");
        let offset = row.get::<_, Timestamp>(2).duration_since(before) - took / 2;
        let (number, unsafe_settings): (i32, Vec<String>) = (row.get(1), row.get(7));
        let found = Installation {
            postgresql: row.get(0),
            schema: row.get(6),
            clock_offset_ms: i64::try_from(offset.as_millis()).unwrap_or(i64::MAX),
            workers: row.get(5),
            connections: row.get(3),
            connections_open: row.get(4),
            findings: Vec::new(),
        };
        let mut problems = Vec::new();
        if number < OLDEST {
            problems.push(format!("PostgreSQL {} is too old: upgrade it to 15 or newer", found.postgresql));
        }
        for setting in unsafe_settings {
            problems.push(format!(
                "{setting} is off: what was committed can be lost in a crash. Set {setting} = on in postgresql.conf and \
                 reload"
            ));
        }
        if offset.abs() > CLOCK + took {
            problems.push(format!(
                "this machine's clock is {} ms from the database's: keep both in time, by NTP for instance",
                found.clock_offset_ms
            ));
        }
        problems.extend(too_few_connections(found.workers, found.connections));
        let findings = problems.into_iter().map(|message| Finding { project: None, message }).collect();
        Ok(Installation { findings, ..found })
    }
}

/// Each process may open all of its connections at once; one that gets none waits, then fails.
fn too_few_connections(workers: i64, connections: i64) -> Option<String> {
    let each = i64::try_from(CONNECTIONS_EACH).unwrap_or(i64::MAX);
    let wanted = workers.saturating_mul(each);
    (wanted > connections).then(|| {
        format!(
            "{workers} workers may open {each} connections each, {wanted} in all, and PostgreSQL allows {connections}: \
             raise max_connections to {} or more, and add {each} for each process that only answers HTTP",
            wanted + 10
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_worker() {
        assert_eq!(too_few_connections(0, 10), None);
        assert_eq!(too_few_connections(2, 97), None);
        let found = too_few_connections(3, 97).unwrap();
        assert!(found.contains("111 in all") && found.contains("max_connections to 121"), "{found}");
    }
}
