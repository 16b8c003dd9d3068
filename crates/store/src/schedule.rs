//! Schedules: runs that begin by themselves. Any node may look for what is due, and as many as like: ONE statement,
//! headed by the guard that the schedule is still due when it was seen to be, moves it on and makes its runs, so that
//! no time fires twice and none is lost by a death in between.
//!
//! What is asked, how and when, is read from the agent's signed contract version, never from the schedule's row. What
//! cannot run (a spent budget, a version that does not load) is recorded as refused, and the schedule goes on.

use awooop_core::contract::{CatchUp, ScheduleSpec};
use awooop_core::schedule::{Due, ON_TIME_WITHIN, Timetable};
use awooop_core::{AgentId, ErrorCode, Mode, ProjectId, RunId};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::audit::{AuditEvent, Columns, Note};
use crate::error::StoreError;
use crate::pool::Store;
use crate::run::AgentFacts;
use crate::scope::ProjectScope;

/// Schedules of one project that one sweep looks at: the other projects' turn comes.
const BATCH: i64 = 100;
/// Priority of a scheduled run: that of a request which names none.
const PRIORITY: i16 = 5;

/// A schedule as it stands.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Whose it is.
    pub agent_id: String,
    /// Its name within the agent.
    pub schedule_id: String,
    /// What the contract says of it.
    pub spec: ScheduleSpec,
    /// When it fires next; none when it is switched off.
    pub next_at: Option<Timestamp>,
    /// When it started its last run.
    pub last_at: Option<Timestamp>,
    /// That run.
    pub last_run_id: Option<RunId>,
    version_id: Uuid,
}

/// What one sweep did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FireReport {
    /// Runs that began.
    pub fired: usize,
    /// Of them, those that began more than a minute after their time.
    pub late: usize,
    /// Times at which no run could begin.
    pub refused: usize,
}

impl FireReport {
    fn add(&mut self, other: FireReport) {
        self.fired += other.fired;
        self.late += other.late;
        self.refused += other.refused;
    }
}

/// What came of firing a schedule by hand.
#[derive(Debug, PartialEq, Eq)]
pub enum FiredNow {
    /// A run began.
    Run(RunId),
    /// None could, for this reason, which is recorded.
    Refused(ErrorCode),
    /// There is no such schedule.
    Absent,
}

/// What a firing makes besides moving the schedule on.
struct Firing<'a> {
    schedule: &'a Schedule,
    /// The time that is due, with the next; none when it fires besides its times.
    step: Option<(Timestamp, Timestamp)>,
    runs: Vec<RunId>,
    events: Vec<AuditEvent>,
    /// What the runs are made from; none where there are none.
    what: Option<What>,
}

struct What {
    mode: Mode,
    max_attempts: i32,
    timeout_at: Timestamp,
    input: String,
    input_sha256: String,
}

impl Store {
    /// The project's schedules, by agent and id, after `after`.
    pub async fn list_schedules(
        &self,
        scope: &ProjectScope,
        after: (&str, &str),
        limit: i64,
    ) -> Result<Vec<Schedule>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM schedule s WHERE s.project_id = $1 AND (s.agent_id, s.schedule_id) > ($2, $3)
             ORDER BY s.agent_id, s.schedule_id LIMIT $4"
        );
        let rows = self.once(scope, &sql, &[&scope.project().as_str(), &after.0, &after.1, &limit]).await?;
        rows.iter().map(read).collect()
    }

    /// Fires what is due, in every project that has something due; not of what is paused or stopped. What fails for one project, or one
    /// schedule, is logged and keeps no other waiting.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn fire_due(&self) -> Result<FireReport, StoreError> {
        let now = self.inner.clock.now();
        let mut report = FireReport::default();
        for row in self.system(DUE, &[&now]).await? {
            let project = ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            let scope = ProjectScope::new(project, "platform/schedule");
            match self.fire_due_of(&scope, now).await {
                Ok(fired) => report.add(fired),
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => not_fired(&scope, "", &error),
            }
        }
        Ok(report)
    }

    async fn fire_due_of(&self, scope: &ProjectScope, now: Timestamp) -> Result<FireReport, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM schedule s WHERE s.project_id = $1 AND s.next_at <= $2
               AND NOT EXISTS (SELECT FROM halt h WHERE h.project_id = $1 AND h.target = 'agent'
                 AND h.name = s.agent_id)
             ORDER BY s.next_at, s.agent_id, s.schedule_id LIMIT $3"
        );
        let mut report = FireReport::default();
        for row in self.once(scope, &sql, &[&scope.project().as_str(), &now, &BATCH]).await? {
            let fired = match read(&row) {
                Ok(schedule) => self.fire_at(scope, &schedule, now).await,
                Err(error) => Err(error),
            };
            match fired {
                Ok(fired) => report.add(fired),
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => not_fired(scope, row.get(1), &error),
            }
        }
        Ok(report)
    }

    /// Fires one schedule whose time has come, if nobody did before.
    async fn fire_at(
        &self,
        scope: &ProjectScope,
        schedule: &Schedule,
        now: Timestamp,
    ) -> Result<FireReport, StoreError> {
        let Some(seen) = schedule.next_at else { return Ok(FireReport::default()) };
        let (spec, prepared) = match self.prepare(scope, schedule, now).await? {
            Prepared::Overtaken => return Ok(FireReport::default()),
            Prepared::Refused(code) => (schedule.spec.clone(), Err(code)),
            Prepared::Ready(spec, what) => (spec, Ok(what)),
        };
        let table = Timetable::of(&spec).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let Some(due) = table.due(seen, now, spec.catch_up) else { return Ok(FireReport::default()) };
        let mut firing = Firing {
            schedule,
            step: Some((seen, due.next_at)),
            runs: Vec::new(),
            events: Vec::new(),
            what: None,
        };
        if due.is_missed {
            firing.events.push(self.missed(scope, schedule, &due, seen, spec.catch_up));
        }
        let mut report = FireReport::default();
        match prepared {
            Err(code) => {
                report.refused = due.fire.len();
                firing
                    .events
                    .extend(due.fire.first().map(|at| self.refusal(scope, schedule, code, Some(*at))));
            }
            Ok(what) => {
                report.fired = due.fire.len();
                report.late = due.fire.iter().filter(|at| now.duration_since(**at) > ON_TIME_WITHIN).count();
                firing.runs = self.inner.clock.new_ids(due.fire.len());
                for (run_id, at) in firing.runs.iter().zip(&due.fire) {
                    firing.events.push(self.creation(scope, schedule, &what, *run_id, Some(*at)));
                }
                firing.what = Some(what);
            }
        }
        if !self.carry_out(scope, &firing, now).await? {
            return Ok(FireReport::default());
        }
        self.inner.figures.fired(report);
        Ok(report)
    }

    /// Fires a schedule now, besides its times; one that is switched off too.
    pub async fn fire_schedule(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        schedule_id: &str,
    ) -> Result<FiredNow, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM schedule s WHERE s.project_id = $1 AND s.agent_id = $2 AND s.schedule_id = $3"
        );
        for _ in 0..3 {
            let rows =
                self.once(scope, &sql, &[&scope.project().as_str(), &agent.as_str(), &schedule_id]).await?;
            let Some(row) = rows.first() else { return Ok(FiredNow::Absent) };
            let (schedule, now) = (read(row)?, self.inner.clock.now());
            let mut firing =
                Firing { schedule: &schedule, step: None, runs: Vec::new(), events: Vec::new(), what: None };
            let answer = match self.prepare(scope, &schedule, now).await? {
                Prepared::Overtaken => continue,
                Prepared::Refused(code) => {
                    firing.events.push(self.refusal(scope, &schedule, code, None));
                    FiredNow::Refused(code)
                }
                Prepared::Ready(_, what) => {
                    let run_id = self.inner.clock.new_id();
                    firing.events.push(self.creation(scope, &schedule, &what, run_id, None));
                    (firing.runs, firing.what) = (vec![run_id], Some(what));
                    FiredNow::Run(run_id)
                }
            };
            if self.carry_out(scope, &firing, now).await? {
                self.inner.figures.fired.add(firing.runs.len());
                return Ok(answer);
            }
        }
        Err(StoreError::Corrupt("a schedule changed three times while it was fired".into()))
    }

    /// What the schedule's runs are made from, by the agent's contract as it is in force.
    async fn prepare(
        &self,
        scope: &ProjectScope,
        schedule: &Schedule,
        now: Timestamp,
    ) -> Result<Prepared, StoreError> {
        let agent = AgentId::parse(&schedule.agent_id).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let facts = match self.find_agent(scope, &agent).await {
            Ok(Some(facts)) => facts,
            Ok(None) => return Ok(Prepared::Refused(ErrorCode::Run002)),
            Err(StoreError::Untrusted { .. }) => return Ok(Prepared::Refused(ErrorCode::Contract002)),
            Err(error) => return Err(error),
        };
        if facts.version_id != schedule.version_id {
            return Ok(Prepared::Overtaken);
        }
        let Some(spec) = facts.spec.schedules.iter().find(|s| s.id == schedule.schedule_id).cloned() else {
            return Ok(Prepared::Refused(ErrorCode::Contract002));
        };
        Ok(match what(&facts, &spec, now) {
            Ok(what) => Prepared::Ready(spec, what),
            Err(code) => Prepared::Refused(code),
        })
    }

    /// Everything of one firing, or nothing when the schedule is not as it was seen.
    async fn carry_out(
        &self,
        scope: &ProjectScope,
        firing: &Firing<'_>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let columns = Columns::of(&firing.events);
        let project = scope.project().as_str();
        let traces: Vec<String> = firing.runs.iter().map(|run_id| run_id.simple().to_string()).collect();
        let (seen, next_at) = firing.step.unzip();
        let what = firing.what.as_ref();
        let mut params: Vec<&(dyn ToSql + Sync)> = columns.params(&project).to_vec();
        let of_runs: (_, _, _, _, _) = (
            what.map(|w| w.mode.as_str()),
            what.map(|w| w.max_attempts),
            what.map(|w| w.timeout_at),
            what.map(|w| w.input.as_str()),
            what.map(|w| w.input_sha256.as_str()),
        );
        let (last_run, actor) = (firing.runs.last(), scope.actor());
        params.extend_from_slice(&[
            &firing.schedule.agent_id,
            &firing.schedule.schedule_id,
            &firing.schedule.version_id,
            &seen,
            &next_at,
            &now,
            &last_run,
            &firing.runs,
            &traces,
            &of_runs.0,
            &of_runs.1,
            &of_runs.2,
            &of_runs.3,
            &of_runs.4,
            &actor,
            &PRIORITY,
        ]);
        let is_done = !self.once(scope, FIRE, &params).await?.is_empty();
        if is_done && !firing.runs.is_empty() {
            self.inner.wake.work_queued();
        }
        Ok(is_done)
    }

    fn creation(
        &self,
        scope: &ProjectScope,
        schedule: &Schedule,
        what: &What,
        run_id: RunId,
        due_at: Option<Timestamp>,
    ) -> AuditEvent {
        let said = json!({
            "agent_id": schedule.agent_id, "mode": what.mode, "input_sha256": what.input_sha256,
            "schedule_id": schedule.schedule_id, "due_at": due_at,
        });
        self.audit(scope, Note::of_run("run.create", run_id, &run_id.simple().to_string(), said))
    }

    fn refusal(
        &self,
        scope: &ProjectScope,
        schedule: &Schedule,
        code: ErrorCode,
        due_at: Option<Timestamp>,
    ) -> AuditEvent {
        self.audit(scope, schedule.note("schedule.refuse", json!({"error_code": code, "due_at": due_at})))
    }

    fn missed(
        &self,
        scope: &ProjectScope,
        schedule: &Schedule,
        due: &Due,
        since: Timestamp,
        catch_up: CatchUp,
    ) -> AuditEvent {
        let said =
            json!({"since": since, "fired": due.fire.len(), "catch_up": catch_up, "next_at": due.next_at});
        self.audit(scope, schedule.note("schedule.miss", said))
    }
}

/// What [`Store::prepare`] found.
enum Prepared {
    /// The contract is not the row's any more: whoever changed it has moved the row too.
    Overtaken,
    Refused(ErrorCode),
    Ready(ScheduleSpec, What),
}

impl Schedule {
    fn note(&self, action: &'static str, said: Value) -> Note {
        Note::new(action, format!("schedule/{}/{}", self.agent_id, self.schedule_id), said)
    }
}

/// The checks of a request that starts a run, for one that nobody sent.
fn what(facts: &AgentFacts, spec: &ScheduleSpec, now: Timestamp) -> Result<What, ErrorCode> {
    let mode = Mode::resolve(spec.mode, facts.spec.mode, None)?;
    let to_journal = &facts.redactors.to_journal;
    let input = to_journal.json(spec.input.clone()).map_err(|_| ErrorCode::Redact001)?;
    if facts.is_budget_spent {
        return Err(ErrorCode::Budget001);
    }
    let timeout = std::time::Duration::from_millis(facts.spec.timeout_ms);
    Ok(What {
        mode,
        max_attempts: i32::try_from(facts.spec.max_attempts).unwrap_or(i32::MAX),
        timeout_at: now.saturating_add(timeout).unwrap_or(Timestamp::MAX),
        input: input.to_string(),
        input_sha256: awooop_core::json::sha256_hex(&spec.input),
    })
}

fn not_fired(scope: &ProjectScope, schedule: &str, error: &StoreError) {
    let (error, project) = (error as &dyn std::error::Error, scope.project().as_str());
    tracing::error!(error, project, schedule, "a schedule that is due could not be fired");
}

const COLUMNS: &str =
    "s.agent_id, s.schedule_id, s.spec, s.next_at, s.last_at, s.last_run_id, s.contract_version_id";

fn read(row: &Row) -> Result<Schedule, StoreError> {
    Ok(Schedule {
        agent_id: row.get(0),
        schedule_id: row.get(1),
        spec: serde_json::from_str(row.get(2)).map_err(|e| StoreError::Corrupt(e.to_string()))?,
        next_at: row.get(3),
        last_at: row.get(4),
        last_run_id: row.get(5),
        version_id: row.get(6),
    })
}

// a loose index scan: its cost grows with the projects and not with their schedules. The least of an index of
// (project_id, next_at) is never NULL while another is not
const DUE: &str = "
WITH RECURSIVE t AS (
  (SELECT project_id, next_at FROM schedule ORDER BY project_id, next_at LIMIT 1)
  UNION ALL
  SELECT n.project_id, n.next_at FROM t, LATERAL (SELECT s.project_id, s.next_at FROM schedule s
    WHERE s.project_id > t.project_id ORDER BY s.project_id, s.next_at LIMIT 1) n)
SELECT t.project_id FROM t WHERE t.next_at <= $1 AND NOT EXISTS (SELECT FROM halt_all)
  AND NOT EXISTS (SELECT FROM halt h WHERE h.project_id = t.project_id AND h.target = 'project')";

// $1 to $11 are the events, as `audit::INSERT` takes them
const FIRE: &str = "
WITH g AS (   -- the guard: the schedule is due as it was seen to be, under the same contract; whoever moves it fires it
  UPDATE schedule s SET next_at = coalesce($16::timestamptz, s.next_at),
    last_at = CASE WHEN $18::uuid IS NULL THEN s.last_at ELSE $17::timestamptz END,
    last_run_id = coalesce($18::uuid, s.last_run_id)
  WHERE s.project_id = $1 AND s.agent_id = $12 AND s.schedule_id = $13 AND s.contract_version_id = $14
    AND ($15::timestamptz IS NULL OR (s.next_at = $15::timestamptz   -- and not while it is paused or stopped
      AND NOT EXISTS (SELECT FROM halt_all)
      AND NOT EXISTS (SELECT FROM halt h WHERE h.project_id = $1
        AND (h.target = 'project' OR h.target = 'agent' AND h.name = s.agent_id))))
  RETURNING s.agent_id, s.schedule_id, s.contract_version_id),
r AS (INSERT INTO run_state (project_id, run_id, state, agent_id, agent_version_id, mode, priority, trace_id,
    trigger_type, triggered_by, schedule_id, max_attempts, created_at, timeout_at, input, input_sha256)
  SELECT $1, n.run_id, 'pending', g.agent_id, g.contract_version_id, $21, $27, n.trace_id, 'schedule', $26,
    g.schedule_id, $22, $17, $23, $24, $25
  FROM g, unnest($19::uuid[], $20::text[]) AS n (run_id, trace_id) RETURNING run_id, agent_id, timeout_at),
q AS (INSERT INTO run_queue (project_id, priority, run_id, agent_id, timeout_at)
  SELECT $1, $27, run_id, agent_id, timeout_at FROM r),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, e.* FROM g, unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::uuid[],
    $8::text[], $9::text[], $10::text[], $11::bytea[]) AS e)
SELECT schedule_id FROM g";
