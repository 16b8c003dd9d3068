//! Halts: making, lifting and reading what people hold back ([`awooop_core::halt`] says what a halt covers).
//!
//! Whoever calls a model or a tool reads the project's halts in the flight it reads its other facts in, the claim
//! reads them in its own statement, and a watcher in every process looks at all of them a few times a second. Making
//! one writes one row and its event and takes no lock of anybody, so it works however busy the database is.
//!
//! A run whose model's provider is stopped leaves its worker for `run_timer`, where it stands until its time is over
//! or the provider is started; the claim itself never has to know which provider a queued run will need.

use awooop_core::halt::{HaltKind, Stop, Target, Work};
use awooop_core::ids::{ProviderId, ToolName};
use awooop_core::{AgentId, ProjectId};
use jiff::Timestamp;
use serde_json::json;
use tokio_postgres::Row;

use crate::audit::{AuditEvent, Note};
use crate::claim::ClaimedRun;
use crate::error::StoreError;
use crate::pool::Store;
use crate::run::Run;
use crate::scope::ProjectScope;
use crate::tx::{Params, storable};

/// Longest reason that is kept, in characters.
const MOST_REASON: usize = 500;

/// Something that is held back.
#[derive(Debug, Clone)]
pub struct Halt {
    /// How much of it.
    pub kind: HaltKind,
    /// Where and what.
    pub stop: Stop,
    /// Why, masked.
    pub reason: String,
    /// Who did it, `<project>/<principal>`.
    pub halted_by: String,
    /// Since when.
    pub halted_at: Timestamp,
}

impl Halt {
    /// Does it hold whole runs back, and not only one of their calls?
    pub fn is_of_runs(&self) -> bool {
        matches!(self.stop.target, Target::All | Target::Project | Target::Agent(_))
    }

    /// The halt in a sentence for the caller.
    pub fn sentence(&self) -> String {
        let done = match self.kind {
            HaltKind::Pause => "paused",
            HaltKind::Stop => "stopped",
        };
        let why = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("{} is {done} since {}{why}", self.stop.target, self.halted_at)
    }
}

impl Store {
    /// Holds `target` back in the scope's project. What was held back before in this way stays as it was, with its
    /// first reason; the answer is what stands, and whether it is new. `None` when there is no such thing there: who
    /// mistypes a name in a hurry has to hear of it.
    ///
    /// # Errors
    /// The database's; also for what [`Target::allows`] does not, and for everything outside the operators' project.
    pub async fn create_halt(
        &self,
        scope: &ProjectScope,
        kind: HaltKind,
        target: &Target,
        reason: &str,
    ) -> Result<Option<(Halt, bool)>, StoreError> {
        let observed = &self.redactors(scope).await?.observed;
        let reason =
            observed.clean(storable(reason).chars().take(MOST_REASON).collect::<String>()).into_inner();
        let event = self.halt_event(scope, "halt.create", kind, target, &reason);
        let (sort, name, project) = (target.sort(), target.name(), scope.project().as_str());
        let params: Params<'_> = &[
            &project,
            &kind.as_str(),
            &sort,
            &name,
            &reason,
            &event.at,
            &event.id,
            &event.actor,
            &event.subject,
            &event.body,
            &event.key_id,
            &event.mac,
        ];
        let create = if *target == Target::All { CREATE_ALL } else { CREATE };
        let one: Params<'_> = &[&project, &kind.as_str(), &sort, &name];
        let mut rows = self.flight(scope, &[(create, params), (ONE, one)]).await?;
        let found = rows.pop().unwrap_or_default();
        let is_new = rows.pop().is_some_and(|rows| !rows.is_empty());
        found.first().map(|row| Ok((halt(row)?, is_new))).transpose()
    }

    /// Lets go of what was held back; false when it was not. Runs that waited for a provider are queued soon after.
    ///
    /// # Errors
    /// The database's.
    pub async fn lift_halt(
        &self,
        scope: &ProjectScope,
        kind: HaltKind,
        target: &Target,
    ) -> Result<bool, StoreError> {
        // what the audit masks is masked as this project's
        self.redactors(scope).await?;
        let event = self.halt_event(scope, "halt.lift", kind, target, "");
        let (sort, name, project) = (target.sort(), target.name(), scope.project().as_str());
        let lift: Params<'_> = &[
            &project,
            &kind.as_str(),
            &sort,
            &name,
            &event.at,
            &event.id,
            &event.actor,
            &event.subject,
            &event.body,
            &event.key_id,
            &event.mac,
        ];
        let wake: Params<'_> = &[&project, &event.at];
        // a statement of its own: it has to see the runs that were parked while the first waited for their locks
        let sql = if *target == Target::All { LIFT_ALL } else { LIFT };
        let mut rows = self.flight(scope, &[(sql, lift), (WAKE_PARKED, wake)]).await?;
        rows.pop();
        let is_lifted = rows.pop().is_some_and(|rows| !rows.is_empty());
        if is_lifted {
            self.inner.wake.work_queued();
        }
        Ok(is_lifted)
    }

    /// What is held back in the scope's project, the operators' halt of everything included, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_halts(&self, scope: &ProjectScope) -> Result<Vec<Halt>, StoreError> {
        self.once(scope, HALTS, &[&scope.project().as_str()]).await?.iter().map(halt).collect()
    }

    /// Everything that is stopped, in every project: where, never why.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_stops(&self) -> Result<Vec<Stop>, StoreError> {
        let sql = "SELECT project_id, target, name FROM halt WHERE kind = 'stop'
                   UNION ALL SELECT 'platform', 'all', '' FROM halt_all ORDER BY 1, 2, 3";
        self.system(sql, &[]).await?.iter().map(|row| stop(row.get(0), row.get(1), row.get(2))).collect()
    }

    /// What keeps a pending run waiting, if people do.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_halt_of(&self, scope: &ProjectScope, run: &Run) -> Result<Option<Halt>, StoreError> {
        let project = scope.project().as_str();
        let (all, parked): (Params<'_>, Params<'_>) = (&[&project], &[&project, &run.run_id]);
        let mut rows = self.flight(scope, &[(HALTS, all), (PARKED, parked)]).await?;
        let provider = rows.pop().unwrap_or_default().first().and_then(|row| row.get::<_, Option<String>>(0));
        let provider = provider.and_then(|id| ProviderId::parse(&id).ok());
        let halts: Vec<Halt> = rows.pop().unwrap_or_default().iter().map(halt).collect::<Result<_, _>>()?;
        let agent = run.agent_id.parse().map_err(|e| StoreError::Corrupt(format!("{e}")))?;
        let work = Work { project: scope.project(), agent: &agent, provider: provider.as_ref(), tool: None };
        Ok(halts.into_iter().find(|halt| halt.stop.covers(work)))
    }

    /// Gives a run back unharmed until `provider` is started again, or its time is over. False when the provider is
    /// not stopped any more, or the run is not this claim's: then nothing happened.
    ///
    /// # Errors
    /// The database's.
    pub async fn park_for_start(&self, run: &ClaimedRun, provider: &ProviderId) -> Result<bool, StoreError> {
        let now = self.inner.clock.now();
        let body = json!({"provider": provider.as_str()}).to_string();
        let params: Params<'_> = &[
            &run.scope().project().as_str(),
            &run.lease_id,
            &run.run_id,
            &run.epoch,
            &now,
            &provider.as_str(),
            &body,
        ];
        let is_parked = !self.once(run.scope(), PARK, params).await?.is_empty();
        if is_parked {
            self.inner.wake.run_changed(run.run_id);
        }
        Ok(is_parked)
    }

    fn halt_event(
        &self,
        scope: &ProjectScope,
        action: &'static str,
        kind: HaltKind,
        target: &Target,
        reason: &str,
    ) -> AuditEvent {
        let name = target.name();
        let subject = match target {
            Target::All => "project/*".to_owned(),
            Target::Project => format!("project/{}", scope.project()),
            named => format!("{}/{name}", named.sort()),
        };
        let said = json!({"kind": kind.as_str(), "target": target.sort(), "name": name, "reason": reason});
        self.audit(scope, Note::new(action, subject, said))
    }
}

/// The first stop among the rows of [`HALTS`] that covers this work.
pub(crate) fn covering(rows: &[Row], work: Work<'_>) -> Result<Option<Halt>, StoreError> {
    for row in rows {
        let halt = halt(row)?;
        if halt.kind == HaltKind::Stop && halt.stop.covers(work) {
            return Ok(Some(halt));
        }
    }
    Ok(None)
}

/// The same for what a list shows of a tool, to an agent or to people.
pub(crate) fn covering_tool(
    rows: &[Row],
    project: &ProjectId,
    agent: Option<&AgentId>,
    tool: &ToolName,
) -> Result<Option<Halt>, StoreError> {
    let Some(agent) = agent else {
        let stops = rows.iter().map(halt).collect::<Result<Vec<_>, _>>()?;
        let covers = |halt: &Halt| halt.kind == HaltKind::Stop && halt.stop.covers_tool(project, tool);
        return Ok(stops.into_iter().find(covers));
    };
    covering(rows, Work { project, agent, provider: Some(tool.provider()), tool: Some(tool) })
}

fn halt(row: &Row) -> Result<Halt, StoreError> {
    let kind: &str = row.get(3);
    Ok(Halt {
        kind: HaltKind::parse(kind).ok_or_else(|| StoreError::Corrupt(kind.to_owned()))?,
        stop: stop(row.get(0), row.get(1), row.get(2))?,
        reason: row.get(4),
        halted_by: row.get(5),
        halted_at: row.get(6),
    })
}

fn stop(project: &str, sort: &str, name: &str) -> Result<Stop, StoreError> {
    let project = ProjectId::parse(project).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    let target = Target::parse(sort, name).ok_or_else(|| StoreError::Corrupt(format!("{sort} {name}")))?;
    Ok(Stop { project, target })
}

macro_rules! create_sql {
    ($insert:literal) => {
        concat!(
            "WITH h AS (   -- the guard: it is there, and not held back yet
  ",
            $insert,
            " ON CONFLICT DO NOTHING RETURNING halted_at),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
  SELECT $1, $7, $6, $8, 'halt.create', $9, $10, $11, $12 FROM h)
SELECT halted_at FROM h"
        )
    };
}
const CREATE: &str = create_sql!(
    "INSERT INTO halt (project_id, kind, target, name, reason, halted_by, halted_at)
  SELECT $1, $2, $3, $4, $5, $8, $6 WHERE CASE $3
    WHEN 'project' THEN EXISTS (SELECT FROM project WHERE project_id = $1)
    WHEN 'tool' THEN EXISTS (SELECT FROM mcp_tool WHERE project_id = $1 AND provider_id || '__' || tool = $4)
    ELSE EXISTS (SELECT FROM contract WHERE project_id = $1 AND kind = $3 AND id = $4) END"
);
const CREATE_ALL: &str = create_sql!(
    "INSERT INTO halt_all (reason, halted_by, halted_at)
  SELECT $5, $8, $6 WHERE ($2::text, $3::text, $4::text) = ('stop', 'all', '')"
);

macro_rules! lift_sql {
    ($delete:literal) => {
        concat!(
            "WITH h AS (   -- the guard: whoever deletes the row let go of it; runs being parked under it come first
  ",
            $delete,
            " RETURNING halted_at),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
  SELECT $1, $6, $5, $7, 'halt.lift', $8, $9, $10, $11 FROM h)
SELECT halted_at FROM h"
        )
    };
}
const LIFT: &str =
    lift_sql!("DELETE FROM halt WHERE project_id = $1 AND kind = $2 AND target = $3 AND name = $4");
const LIFT_ALL: &str =
    lift_sql!("DELETE FROM halt_all WHERE ($2::text, $3::text, $4::text) = ('stop', 'all', '')");

// those of a provider that still is stopped only come back
const WAKE_PARKED: &str =
    "UPDATE run_timer SET due_at = $2 WHERE project_id = $1 AND kind = 'halt' AND due_at > $2";

/// Everything that holds in a project; `$1` names it.
macro_rules! halts_sql {
    () => {
        "SELECT project_id, target, name, kind, reason, halted_by, halted_at FROM halt WHERE project_id = $1
UNION ALL SELECT 'platform', 'all', '', 'stop', reason, halted_by, halted_at FROM halt_all"
    };
}
pub(crate) const HALTS: &str = concat!(halts_sql!(), " ORDER BY halted_at, target, name");
const ONE: &str =
    concat!("SELECT * FROM (", halts_sql!(), ") h WHERE kind = $2 AND target = $3 AND name = $4");

const PARKED: &str = "
SELECT j.body::json ->> 'provider' FROM run_timer t JOIN step_journal j
  ON j.project_id = $1 AND j.run_id = t.run_id AND j.n = -t.epoch::int AND j.phase = 'released'
WHERE t.project_id = $1 AND t.run_id = $2 AND t.kind = 'halt'";

const PARK: &str = "
WITH h AS MATERIALIZED (   -- the guard: it is stopped, and whoever starts it waits for this row
  SELECT name FROM halt WHERE project_id = $1 AND kind = 'stop' AND target = 'provider' AND name = $6 FOR KEY SHARE),
l AS (   -- dirty, so that nothing late of this claim passes
  UPDATE run_lease SET dirty = true WHERE project_id = $1 AND lease_id = $2 AND EXISTS (SELECT FROM h)
  RETURNING lease_id),
u AS (   -- and the run is still this claim's; the claim does not count as an attempt
  UPDATE run_state r SET state = 'pending', lease_id = NULL, worker_id = NULL, lease_epoch = r.lease_epoch + 1,
    attempt = r.attempt - 1
  FROM l WHERE r.project_id = $1 AND r.run_id = $3 AND r.lease_id = l.lease_id AND r.lease_epoch = $4
    AND r.state = 'running'
  RETURNING r.run_id, r.lease_epoch, r.timeout_at),
t AS (INSERT INTO run_timer (project_id, run_id, kind, due_at, epoch)
  SELECT $1, run_id, 'halt', timeout_at, lease_epoch FROM u),
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status,
    started_at, duration_ms, body)
  SELECT $1, run_id, -lease_epoch::int, 'released', lease_epoch, 'state', 'pending', run_id || ':' || -lease_epoch,
    'ok', $5, 0, $7 FROM u)
SELECT run_id FROM u";
