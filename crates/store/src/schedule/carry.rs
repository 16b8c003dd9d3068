//! Carrying out firings: the one statement that moves schedules on and makes their runs, and what it takes.

use awooop_core::{Mode, RunId};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Schedule;
use super::fire::FireReport;
use crate::audit::{AuditEvent, Columns};
use crate::enqueue::{LOCK_QUEUE, room_sql};
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// Priority of a scheduled run: that of a request which names none.
const PRIORITY: i16 = 5;

/// What becomes of one schedule.
pub(super) struct Firing {
    pub(super) schedule: Schedule,
    /// When it was due as it was seen; none when it fires besides its times.
    pub(super) seen: Option<Timestamp>,
    /// When it is due next; none when that stays.
    pub(super) next_at: Option<Timestamp>,
    pub(super) is_put_off: bool,
    pub(super) runs: Vec<RunId>,
    pub(super) events: Vec<AuditEvent>,
    /// What the runs are made from; none where there are none.
    pub(super) what: Option<What>,
    pub(super) report: FireReport,
}

#[derive(Clone)]
pub(super) struct What {
    pub(super) mode: Mode,
    pub(super) max_attempts: i32,
    pub(super) timeout_at: Timestamp,
    pub(super) input: String,
    pub(super) input_sha256: String,
}

/// What came of one firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    Out,
    /// Its runs have no room.
    Full,
    /// Its schedule is not as it was seen.
    Overtaken,
}

impl Store {
    /// Everything of each firing, or nothing of one whose schedule is not as it was seen, or whose runs have no room.
    pub(super) async fn carry_out(
        &self,
        scope: &ProjectScope,
        sql: &str,
        firings: &[Firing],
        now: Timestamp,
    ) -> Result<Vec<Carried>, StoreError> {
        let project = scope.project().as_str();
        let rows = Rows::of(firings, now);
        let events = Columns::of(&rows.events);
        let mut params: Vec<&(dyn ToSql + Sync)> = events.params(&project).to_vec();
        let actor = scope.actor();
        params.extend(rows.params());
        params.extend_from_slice(&[&now, &actor, &PRIORITY]);
        let mut answers = self.flight(scope, &[(LOCK_QUEUE, &[&project]), (sql, &params)]).await?;
        let mut carried = vec![Carried::Overtaken; firings.len()];
        for row in answers.pop().unwrap_or_default() {
            let place = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
            if let Some(answer) = carried.get_mut(place) {
                *answer = if row.get(1) { Carried::Out } else { Carried::Full };
            }
        }
        let is_new =
            |(firing, answer): (&Firing, &Carried)| *answer == Carried::Out && !firing.runs.is_empty();
        if firings.iter().zip(&carried).any(is_new) {
            self.inner.wake.work_queued();
        }
        Ok(carried)
    }
}

impl Firing {
    /// One that does nothing yet.
    pub(super) fn of(schedule: Schedule) -> Self {
        Self {
            schedule,
            seen: None,
            next_at: None,
            is_put_off: false,
            runs: Vec::new(),
            events: Vec::new(),
            what: None,
            report: FireReport::default(),
        }
    }
}

/// The firings by column; those of runs and events carry the place of their firing.
#[derive(Default)]
struct Rows<'a> {
    agents: Vec<&'a str>,
    schedules: Vec<&'a str>,
    versions: Vec<Uuid>,
    seen: Vec<Option<Timestamp>>,
    next_at: Vec<Option<Timestamp>>,
    put_off_at: Vec<Option<Timestamp>>,
    last_runs: Vec<Option<RunId>>,
    counts: Vec<i64>,
    run_of: Vec<i64>,
    runs: Vec<RunId>,
    traces: Vec<String>,
    modes: Vec<&'a str>,
    attempts: Vec<i32>,
    timeouts: Vec<Timestamp>,
    inputs: Vec<&'a str>,
    sha256s: Vec<&'a str>,
    event_of: Vec<i64>,
    events: Vec<AuditEvent>,
}

impl<'a> Rows<'a> {
    fn of(firings: &'a [Firing], now: Timestamp) -> Self {
        let mut rows = Self::default();
        for (place, firing) in (1_i64..).zip(firings) {
            rows.agents.push(&firing.schedule.agent_id);
            rows.schedules.push(&firing.schedule.schedule_id);
            rows.versions.push(firing.schedule.version_id);
            rows.seen.push(firing.seen);
            rows.next_at.push(firing.next_at);
            rows.put_off_at.push(firing.is_put_off.then_some(now));
            rows.last_runs.push(firing.runs.last().copied());
            rows.counts.push(i64::try_from(firing.runs.len()).unwrap_or(i64::MAX));
            for (run_id, what) in firing.runs.iter().zip(firing.what.iter().cycle()) {
                rows.run_of.push(place);
                rows.runs.push(*run_id);
                rows.traces.push(run_id.simple().to_string());
                rows.modes.push(what.mode.as_str());
                rows.attempts.push(what.max_attempts);
                rows.timeouts.push(what.timeout_at);
                rows.inputs.push(&what.input);
                rows.sha256s.push(&what.input_sha256);
            }
            rows.event_of.extend(firing.events.iter().map(|_| place));
            rows.events.extend(firing.events.iter().cloned());
        }
        rows
    }

    /// `$12` to `$28` of [`FIRE`].
    fn params(&self) -> [&(dyn ToSql + Sync); 17] {
        [
            &self.agents,
            &self.schedules,
            &self.versions,
            &self.seen,
            &self.next_at,
            &self.put_off_at,
            &self.last_runs,
            &self.counts,
            &self.run_of,
            &self.runs,
            &self.traces,
            &self.modes,
            &self.attempts,
            &self.timeouts,
            &self.inputs,
            &self.sha256s,
            &self.event_of,
        ]
    }
}

// $1 to $11 are the events, as `audit::INSERT` takes them; $29 now, $30 actor, $31 priority
macro_rules! fire_sql {
    ($locked:literal) => {
        concat!(
            "
WITH i AS MATERIALIZED (
  SELECT x.*, sum(x.runs) OVER (ORDER BY x.o) AS total FROM unnest($12::text[], $13::text[], $14::uuid[],
    $15::timestamptz[], $16::timestamptz[], $17::timestamptz[], $18::uuid[], $19::bigint[])
  WITH ORDINALITY AS x (agent_id, schedule_id, version_id, seen, next_at, put_off_at, last_run_id, runs, o)),
room AS MATERIALIZED (",
            room_sql!(),
            "),
f AS MATERIALIZED (   -- the first guard: the queue has room
  SELECT i.o FROM i, room WHERE i.runs > 0 AND i.total > room.n),
l AS MATERIALIZED (   -- the second: the schedule is due as it was seen to be, under the same contract
  SELECT s.agent_id, s.schedule_id, i.o, i.seen, i.next_at, i.put_off_at, i.last_run_id FROM schedule s JOIN i
    ON i.agent_id = s.agent_id AND i.schedule_id = s.schedule_id AND i.version_id = s.contract_version_id
  WHERE s.project_id = $1 AND i.o NOT IN (SELECT o FROM f)
    AND (i.seen IS NULL OR (s.next_at = i.seen   -- and not while it is paused or stopped
      AND NOT EXISTS (SELECT FROM halt_all)
      AND NOT EXISTS (SELECT FROM halt h WHERE h.project_id = $1
        AND (h.target = 'project' OR h.target = 'agent' AND h.name = s.agent_id))))
  ORDER BY s.agent_id, s.schedule_id ",
            $locked,
            "),
g AS (   -- whoever moves it fires it
  UPDATE schedule s SET next_at = coalesce(l.next_at, s.next_at),
    put_off_at = CASE WHEN l.seen IS NULL THEN s.put_off_at ELSE l.put_off_at END,
    last_at = CASE WHEN l.last_run_id IS NULL THEN s.last_at ELSE $29::timestamptz END,
    last_run_id = coalesce(l.last_run_id, s.last_run_id)
  FROM l WHERE s.project_id = $1 AND s.agent_id = l.agent_id AND s.schedule_id = l.schedule_id
  RETURNING l.o, s.agent_id, s.schedule_id, s.contract_version_id),
r AS (INSERT INTO run_state (project_id, run_id, state, agent_id, agent_version_id, mode, priority, trace_id,
    trigger_type, triggered_by, schedule_id, max_attempts, created_at, timeout_at, input, input_sha256)
  SELECT $1, n.run_id, 'pending', g.agent_id, g.contract_version_id, n.mode, $31, n.trace_id, 'schedule', $30,
    g.schedule_id, n.max_attempts, $29, n.timeout_at, n.input, n.input_sha256
  FROM g JOIN unnest($20::bigint[], $21::uuid[], $22::text[], $23::text[], $24::integer[], $25::timestamptz[],
    $26::text[], $27::text[]) AS n (o, run_id, trace_id, mode, max_attempts, timeout_at, input, input_sha256) ON n.o = g.o
  ORDER BY n.run_id RETURNING run_id, agent_id, timeout_at),
q AS (INSERT INTO run_queue (project_id, priority, run_id, agent_id, timeout_at)
  SELECT $1, $31, run_id, agent_id, timeout_at FROM r),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, e.id, e.at, e.actor, e.action, e.subject, e.run_id, e.trace_id, e.body, e.key_id, e.mac
  FROM g JOIN unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::uuid[], $8::text[],
    $9::text[], $10::text[], $11::bytea[], $28::bigint[])
    AS e (id, at, actor, action, subject, run_id, trace_id, body, key_id, mac, o) ON e.o = g.o)
SELECT o, true FROM g UNION ALL SELECT o, false FROM f"
        )
    };
}

// what another node fires just now is left to it
pub(super) const FIRE: &str = fire_sql!("FOR UPDATE OF s SKIP LOCKED");
pub(super) const FIRE_NOW: &str = fire_sql!("FOR UPDATE OF s");
