//! What goes on now, by what the rows say: per project what is queued, leased and waits, and the workers with their
//! beats. Discovery's role counts ids across projects; what needs a run's row is read in the project's own scope.
//!
//! Every count stops at [`MOST_COUNTED`] rows of a project and [`MOST_PROJECTS`] projects, so that a look costs the
//! same with 10^5 queued runs and with 10^7: at most a hundred thousand index entries, and a handful as a rule.

use std::time::Duration;

use awooop_core::ProjectId;
use awooop_core::audit::{first_id_at, id_time_us};
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// Rows of one project that are counted; a figure of this much means "or more".
pub const MOST_COUNTED: i64 = 1_000;
/// Runs that ended within the last minute which are looked at.
const MOST_ENDED: i64 = 5_000;
/// Projects that one look counts.
pub const MOST_PROJECTS: i64 = 100;
/// How far back "just now" goes.
const BACK: Duration = Duration::from_secs(60);

/// What is queued, leased and waits in one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The project.
    pub project: ProjectId,
    /// Due runs, at most [`MOST_COUNTED`].
    pub queued: i64,
    /// When the oldest of them was made.
    pub oldest_at: Option<Timestamp>,
    /// Leases.
    pub leases: i64,
    /// When the oldest of them was taken.
    pub oldest_lease_at: Option<Timestamp>,
    /// Runs that wait for their next try, at most [`MOST_COUNTED`] with the next.
    pub retrying: i64,
    /// Runs that wait for a person or a result.
    pub waiting: i64,
    /// Times that have come and were not seen to yet.
    pub timers_due: i64,
}

/// What happened in one project within the last minute.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LastMinute {
    /// Runs that a worker holds now.
    pub running: i64,
    /// Runs that began.
    pub started: i64,
    /// Runs that ended, at most 5,000.
    pub ended: i64,
    /// From creation to first start, of half of those that began, in seconds.
    pub start_p50_s: Option<f64>,
    /// The same of all but one in a hundred.
    pub start_p99_s: Option<f64>,
}

/// A worker by its beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerBeat {
    /// Its id.
    pub worker_id: String,
    /// Which of its lives this is.
    pub incarnation: i64,
    /// Its last beat.
    pub beat_at: Timestamp,
    /// Runs it can hold at the same time.
    pub slots: i32,
    /// Runs it holds.
    pub slots_used: i32,
}

impl Store {
    /// Projects in which something is queued, leased or waits, or happened within a minute, by their id; with
    /// `only`, that project, whatever goes on there.
    pub async fn queued(&self, only: Option<&ProjectId>) -> Result<Vec<Queued>, StoreError> {
        let (now, since) = (self.inner.clock.now(), self.a_minute_ago());
        let only = only.map(ProjectId::as_str);
        let rows = self.system(QUEUED, &[&only, &since, &MOST_PROJECTS, &MOST_COUNTED, &now]).await?;
        rows.iter().map(queued).collect()
    }

    /// How many runs are queued in all, as PostgreSQL's statistics have it: cheap, and a little behind.
    pub async fn queued_estimate(&self) -> Result<i64, StoreError> {
        let sql = "SELECT pg_stat_get_live_tuples('awooop.run_queue'::regclass)";
        Ok(self.system(sql, &[]).await?.first().map_or(0, |row| row.get(0)))
    }

    /// What happened in the project just now: a look at its leases, and at the runs whose end the audit has within the
    /// last minute.
    pub async fn last_minute(&self, scope: &ProjectScope) -> Result<LastMinute, StoreError> {
        let since_id = self.a_minute_ago();
        let since = Timestamp::from_microsecond(id_time_us(since_id)).unwrap_or(Timestamp::MIN);
        let project = scope.project().as_str();
        let rows = self.once(scope, LAST_MINUTE, &[&project, &since_id, &since, &MOST_ENDED]).await?;
        Ok(rows.first().map_or_else(LastMinute::default, |row| LastMinute {
            running: row.get(0),
            ended: row.get(1),
            started: row.get(2),
            start_p50_s: row.get(3),
            start_p99_s: row.get(4),
        }))
    }

    /// The workers that have beats, by their id.
    pub async fn workers(&self) -> Result<Vec<WorkerBeat>, StoreError> {
        let sql = "SELECT worker_id, incarnation, beat_at, slots, slots_used FROM worker_beat ORDER BY worker_id LIMIT 1000";
        let read = |row: &Row| WorkerBeat {
            worker_id: row.get(0),
            incarnation: row.get(1),
            beat_at: row.get(2),
            slots: row.get(3),
            slots_used: row.get(4),
        };
        Ok(self.system(sql, &[]).await?.iter().map(read).collect())
    }

    /// The least id that was made within the last minute.
    fn a_minute_ago(&self) -> Uuid {
        let back = i64::try_from(BACK.as_micros()).unwrap_or(i64::MAX);
        first_id_at(self.inner.clock.now().as_microsecond().saturating_sub(back))
    }
}

fn queued(row: &Row) -> Result<Queued, StoreError> {
    let made_at = |column: usize| {
        let id: Option<Uuid> = row.get(column);
        id.and_then(|id| Timestamp::from_microsecond(id_time_us(id)).ok())
    };
    Ok(Queued {
        project: ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?,
        queued: row.get(1),
        oldest_at: made_at(2),
        leases: row.get(3),
        oldest_lease_at: made_at(4),
        retrying: row.get(5),
        waiting: row.get(6),
        timers_due: row.get(7),
    })
}

// four probes a project, then for those that count: the queue's index up to a bound, the least id of each priority,
// its leases, its timers up to a bound
const QUEUED: &str = "
SELECT p.project_id,
  (SELECT count(*) FROM (SELECT FROM run_queue q WHERE q.project_id = p.project_id LIMIT $4) x),
  (SELECT o.run_id FROM generate_series(0, 9) AS g (priority), LATERAL (SELECT q.run_id FROM run_queue q
     WHERE q.project_id = p.project_id AND q.priority = g.priority::smallint ORDER BY q.run_id LIMIT 1) o
   ORDER BY o.run_id LIMIT 1),
  l.leases, l.oldest, t.retrying, t.waiting, t.due
FROM (SELECT project_id FROM project p
  WHERE ($1::text IS NULL AND (EXISTS (SELECT FROM run_queue q WHERE q.project_id = p.project_id)
      OR EXISTS (SELECT FROM run_lease l WHERE l.project_id = p.project_id)
      OR EXISTS (SELECT FROM run_timer t WHERE t.project_id = p.project_id)
      OR EXISTS (SELECT FROM audit_event a WHERE a.project_id = p.project_id AND a.id >= $2)))
    OR p.project_id = $1::text
  ORDER BY project_id LIMIT $3) p,
LATERAL (SELECT count(*) AS leases, (array_agg(lease_id ORDER BY lease_id))[1] AS oldest
  FROM run_lease l WHERE l.project_id = p.project_id) l,
LATERAL (SELECT count(*) FILTER (WHERE kind = 'retry') AS retrying, count(*) FILTER (WHERE kind <> 'retry') AS waiting,
    count(*) FILTER (WHERE due_at <= $5) AS due
  FROM (SELECT kind, due_at FROM run_timer t WHERE t.project_id = p.project_id ORDER BY due_at LIMIT $4) x) t
ORDER BY p.project_id";

const LAST_MINUTE: &str = "
WITH r AS (   -- running: membership is lease_id
  SELECT r.created_at, r.started_at FROM run_lease l, unnest(l.run_ids) AS u (run_id), run_state r
  WHERE l.project_id = $1 AND r.project_id = $1 AND r.run_id = u.run_id AND r.state = 'running'
    AND r.lease_id = l.lease_id),
e AS (   -- ended: their events have an index by action, and ids in the order of time
  SELECT r.created_at, r.started_at FROM (
    (SELECT run_id FROM audit_event WHERE project_id = $1 AND action = 'run.end' AND id >= $2 ORDER BY id DESC LIMIT $4)
    UNION ALL
    (SELECT run_id FROM audit_event WHERE project_id = $1 AND action = 'run.cancel' AND id >= $2 ORDER BY id DESC LIMIT $4)
  ) a JOIN run_state r ON r.project_id = $1 AND r.run_id = a.run_id),
s AS (SELECT extract(epoch FROM started_at - created_at)::float8 AS waited
  FROM (SELECT * FROM r UNION ALL SELECT * FROM e) x WHERE started_at >= $3)
SELECT (SELECT count(*) FROM r), (SELECT count(*) FROM e), (SELECT count(*) FROM s),
  (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY waited) FROM s),
  (SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY waited) FROM s)";
