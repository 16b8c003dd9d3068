//! Schedules: runs that begin by themselves. Any node may look for what is due, and as many as like: ONE statement,
//! headed by the guard that its schedules are still due when they were seen to be, moves them on and makes their runs, so
//! that no time fires twice and none is lost by a death in between (`fire`).
//!
//! What is asked, how and when, is read from the agent's signed contract version, never from the schedule's row. What
//! cannot run (a spent budget, a version that does not load) is recorded as refused, and the schedule goes on. What finds
//! the project's queue full stays due.

mod carry;
mod fire;

use awooop_core::RunId;
use awooop_core::contract::ScheduleSpec;
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::audit::Note;
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

pub use fire::{FireReport, FiredNow};

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
    /// Is it recorded that it waits for room in the queue?
    is_put_off: bool,
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
}

impl Schedule {
    fn note(&self, action: &'static str, said: Value) -> Note {
        Note::new(action, format!("schedule/{}/{}", self.agent_id, self.schedule_id), said)
    }
}

const COLUMNS: &str =
    "s.agent_id, s.schedule_id, s.spec, s.next_at, s.last_at, s.last_run_id, s.contract_version_id,
    s.put_off_at IS NOT NULL";

fn read(row: &Row) -> Result<Schedule, StoreError> {
    Ok(Schedule {
        agent_id: row.get(0),
        schedule_id: row.get(1),
        spec: serde_json::from_str(row.get(2)).map_err(|e| StoreError::Corrupt(e.to_string()))?,
        next_at: row.get(3),
        last_at: row.get(4),
        last_run_id: row.get(5),
        version_id: row.get(6),
        is_put_off: row.get(7),
    })
}
