//! Firing what is due, many schedules in one statement. They are taken in the order in which they were due, as far as the
//! project's queue has room: what has none stays due, which is recorded once, and fires when there is room, by then as its
//! `catch_up` says. An agent's contract is read once for all of its schedules of a batch.
//!
//! When a batch fails, each of its schedules is tried alone, so that a bad one keeps no other from firing.

use std::collections::HashMap;

use awooop_core::contract::{CatchUp, ScheduleSpec};
use awooop_core::schedule::{Due, ON_TIME_WITHIN, Timetable};
use awooop_core::{AgentId, ErrorCode, Mode, ProjectId, RunId};
use jiff::Timestamp;
use serde_json::json;

use super::carry::{Carried, FIRE, FIRE_NOW, Firing, What};
use super::{COLUMNS, Schedule, read};
use crate::audit::{AuditEvent, Note};
use crate::enqueue::room_sql;
use crate::error::StoreError;
use crate::pool::Store;
use crate::run::AgentFacts;
use crate::scope::ProjectScope;
use crate::tx::Params;

/// Schedules of one statement.
const BATCH: i64 = 200;
/// Runs after which a batch takes no further schedule.
const MOST_RUNS: usize = 1_000;
/// Batches that one sweep spends on one project: the other projects' turn comes.
const LOOKS: usize = 50;

/// What one sweep did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FireReport {
    /// Runs that began.
    pub fired: usize,
    /// Of them, those that began more than a minute after their time.
    pub late: usize,
    /// Times at which no run could begin.
    pub refused: usize,
    /// Schedules that began to wait for room in the queue.
    pub put_off: usize,
}

impl FireReport {
    fn add(&mut self, other: FireReport) {
        self.fired += other.fired;
        self.late += other.late;
        self.refused += other.refused;
        self.put_off += other.put_off;
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

/// What [`prepare`] found.
enum Prepared {
    /// The contract is not the row's any more: whoever changed it has moved the row too.
    Overtaken,
    Refused(ErrorCode),
    Ready(ScheduleSpec, What),
}

/// An agent's contract in force, or why none of its schedules can run.
type Agent = Result<AgentFacts, ErrorCode>;

impl Store {
    /// Fires what is due, in every project that has something due; not of what is paused or stopped. What fails for one
    /// project, or one schedule, is logged and keeps no other waiting.
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
        let mut report = FireReport::default();
        let (mut after, mut is_full) = ((Timestamp::UNIX_EPOCH, String::new(), String::new()), false);
        let project = scope.project().as_str();
        for _ in 0..LOOKS {
            let of_due: Params<'_> = &[&project, &now, &after.0, &after.1, &after.2, &is_full, &BATCH];
            let sql = due_of();
            let mut rows = self.flight(scope, &[(&sql, of_due), (room_sql!(), &[&project])]).await?;
            let room = rows.pop().unwrap_or_default();
            let room =
                room.first().map_or(usize::MAX, |row| usize::try_from(row.get::<_, i64>(0)).unwrap_or(0));
            let due = rows.pop().unwrap_or_default();
            let mut batch = Batch { room, now, looked_at: 0, agents: HashMap::new(), firings: Vec::new() };
            for row in &due {
                if batch.is_whole() {
                    break;
                }
                batch.looked_at += 1;
                after = (row.get::<_, Option<Timestamp>>(3).unwrap_or(now), row.get(0), row.get(1));
                match self.plan(scope, read(row), &mut batch).await {
                    Ok(()) => {}
                    Err(error @ StoreError::Unavailable(_)) => return Err(error),
                    Err(error) => not_fired(scope, row.get(1), &error),
                }
            }
            // what waits for room already need not be looked at again
            is_full |= batch.room == 0;
            report.add(self.fire_all(scope, &batch.firings, now).await?);
            if batch.looked_at < BATCH.unsigned_abs() as usize && batch.looked_at == due.len() {
                break;
            }
        }
        Ok(report)
    }

    /// Adds to the batch what is to be done about one schedule.
    async fn plan(
        &self,
        scope: &ProjectScope,
        schedule: Result<Schedule, StoreError>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let (schedule, now) = (schedule?, batch.now);
        let Some(seen) = schedule.next_at else { return Ok(()) };
        if !batch.agents.contains_key(&schedule.agent_id) {
            let agent = self.agent_for_schedules(scope, &schedule.agent_id).await?;
            batch.agents.insert(schedule.agent_id.clone(), agent);
        }
        let (spec, prepared) = match prepare(&batch.agents[&schedule.agent_id], &schedule, now) {
            Prepared::Overtaken => return Ok(()),
            Prepared::Refused(code) => (schedule.spec.clone(), Err(code)),
            Prepared::Ready(spec, what) => (spec, Ok(what)),
        };
        let table = Timetable::of(&spec).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let Some(mut due) = table.due(seen, now, spec.catch_up) else { return Ok(()) };
        if prepared.is_ok() && !due.fire.is_empty() && batch.room == 0 {
            batch.firings.extend(self.put_off(scope, schedule, due.fire[0]));
            return Ok(());
        }
        if prepared.is_ok() && due.fire.len() > batch.room {
            // the rest stays due
            due.next_at = due.fire[batch.room];
            due.fire.truncate(batch.room);
        }
        let mut firing = Firing { seen: Some(seen), next_at: Some(due.next_at), ..Firing::of(schedule) };
        if due.is_missed {
            firing.events.push(self.missed(scope, &firing.schedule, &due, seen, spec.catch_up));
        }
        match prepared {
            Err(code) => {
                firing.report.refused = due.fire.len();
                let refusal =
                    due.fire.first().map(|at| self.refusal(scope, &firing.schedule, code, Some(*at)));
                firing.events.extend(refusal);
            }
            Ok(what) => {
                firing.report.fired = due.fire.len();
                firing.report.late =
                    due.fire.iter().filter(|at| now.duration_since(**at) > ON_TIME_WITHIN).count();
                firing.runs = self.inner.clock.new_ids(due.fire.len());
                for (run_id, at) in firing.runs.iter().zip(&due.fire) {
                    firing.events.push(self.creation(scope, &firing.schedule, &what, *run_id, Some(*at)));
                }
                firing.what = Some(what);
                batch.room -= due.fire.len();
            }
        }
        batch.firings.push(firing);
        Ok(())
    }

    /// A schedule that begins to wait for room; none when it is recorded that it does.
    fn put_off(&self, scope: &ProjectScope, schedule: Schedule, at: Timestamp) -> Option<Firing> {
        if schedule.is_put_off {
            return None;
        }
        let said = json!({"error_code": ErrorCode::Limit002, "due_at": at});
        let event = self.audit(scope, schedule.note("schedule.put_off", said));
        let report = FireReport { put_off: 1, ..FireReport::default() };
        let seen = schedule.next_at;
        Some(Firing { seen, is_put_off: true, events: vec![event], report, ..Firing::of(schedule) })
    }

    /// Fires a schedule now, besides its times; one that is switched off too.
    ///
    /// # Errors
    /// The database's.
    pub async fn fire_schedule(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        schedule_id: &str,
    ) -> Result<FiredNow, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM schedule s WHERE s.project_id = $1 AND s.agent_id = $2 AND s.schedule_id = $3"
        );
        let mut is_full = false;
        for _ in 0..3 {
            let rows =
                self.once(scope, &sql, &[&scope.project().as_str(), &agent.as_str(), &schedule_id]).await?;
            let Some(row) = rows.first() else { return Ok(FiredNow::Absent) };
            let (schedule, now) = (read(row)?, self.inner.clock.now());
            let prepared =
                match prepare(&self.agent_for_schedules(scope, agent.as_str()).await?, &schedule, now) {
                    Prepared::Ready(..) if is_full => Prepared::Refused(ErrorCode::Limit002),
                    prepared => prepared,
                };
            let mut firing = Firing::of(schedule);
            let answer = match prepared {
                Prepared::Overtaken => continue,
                Prepared::Refused(code) => {
                    firing.events.push(self.refusal(scope, &firing.schedule, code, None));
                    FiredNow::Refused(code)
                }
                Prepared::Ready(_, what) => {
                    let run_id = self.inner.clock.new_id();
                    firing.events.push(self.creation(scope, &firing.schedule, &what, run_id, None));
                    (firing.runs, firing.what) = (vec![run_id], Some(what));
                    FiredNow::Run(run_id)
                }
            };
            let firings = [firing];
            let answers = self.carry_out(scope, FIRE_NOW, &firings, now).await?;
            match answers.first() {
                Some(Carried::Out) => {
                    self.inner.figures.fired.add(firings[0].runs.len());
                    return Ok(answer);
                }
                Some(Carried::Full) => is_full = true,
                _ => {}
            }
        }
        Err(StoreError::Corrupt("a schedule changed three times while it was fired".into()))
    }

    /// The agent's contract as it is in force.
    async fn agent_for_schedules(&self, scope: &ProjectScope, agent: &str) -> Result<Agent, StoreError> {
        let agent = AgentId::parse(agent).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        match self.find_agent(scope, &agent).await {
            Ok(Some(facts)) => Ok(Ok(facts)),
            Ok(None) => Ok(Err(ErrorCode::Run002)),
            Err(StoreError::Untrusted { .. }) => Ok(Err(ErrorCode::Contract002)),
            Err(error) => Err(error),
        }
    }

    /// Fires a batch; one by one when that fails.
    async fn fire_all(
        &self,
        scope: &ProjectScope,
        firings: &[Firing],
        now: Timestamp,
    ) -> Result<FireReport, StoreError> {
        let mut report = FireReport::default();
        if firings.is_empty() {
            return Ok(report);
        }
        match self.carry_out(scope, FIRE, firings, now).await {
            Ok(answers) => {
                for (firing, answer) in firings.iter().zip(answers) {
                    if answer == Carried::Out {
                        self.inner.figures.fired(firing.report);
                        report.add(firing.report);
                    }
                }
            }
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
            Err(error) if firings.len() == 1 => {
                not_fired(scope, &firings[0].schedule.schedule_id, &error);
            }
            Err(_) => {
                for firing in firings {
                    let alone = std::slice::from_ref(firing);
                    report.add(Box::pin(self.fire_all(scope, alone, now)).await?);
                }
            }
        }
        Ok(report)
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

/// Schedules that are fired together.
struct Batch {
    /// Runs that the queue has room for.
    room: usize,
    now: Timestamp,
    looked_at: usize,
    agents: HashMap<String, Agent>,
    firings: Vec<Firing>,
}

impl Batch {
    fn is_whole(&self) -> bool {
        self.firings.iter().map(|firing| firing.runs.len()).sum::<usize>() >= MOST_RUNS
    }
}

/// What the schedule's runs are made from, by its agent's contract.
fn prepare(agent: &Agent, schedule: &Schedule, now: Timestamp) -> Prepared {
    let facts = match agent {
        Ok(facts) => facts,
        Err(code) => return Prepared::Refused(*code),
    };
    if facts.version_id != schedule.version_id {
        return Prepared::Overtaken;
    }
    let Some(spec) = facts.spec.schedules.iter().find(|s| s.id == schedule.schedule_id) else {
        return Prepared::Refused(ErrorCode::Contract002);
    };
    match what(facts, spec, now) {
        Ok(what) => Prepared::Ready(spec.clone(), what),
        Err(code) => Prepared::Refused(code),
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
    if facts.is_storage_full {
        return Err(ErrorCode::Limit006);
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

/// Due schedules of one project, `$7` after the place that `$3` to `$5` name; with `$6` only such as wait for no room.
fn due_of() -> String {
    format!(
        "SELECT {COLUMNS} FROM schedule s WHERE s.project_id = $1 AND s.next_at <= $2
           AND (s.next_at, s.agent_id, s.schedule_id) > ($3, $4, $5) AND (NOT $6::boolean OR s.put_off_at IS NULL)
           AND NOT EXISTS (SELECT FROM halt h WHERE h.project_id = $1 AND h.target = 'agent' AND h.name = s.agent_id)
         ORDER BY s.next_at, s.agent_id, s.schedule_id LIMIT $7"
    )
}
