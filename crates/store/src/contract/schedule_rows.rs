//! The materialised rows of schedules. Unlike other rows they carry operational state, when a schedule is due and what
//! it started last: an activation keeps that, and a schedule whose times changed is due anew from then on.

use awooop_core::ProjectId;
use awooop_core::contract::ScheduleSpec;
use awooop_core::schedule::Timetable;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::StoreError;
use crate::tx::ProjectTx;

/// Replaces what these agents' rows say by `rows`, each as the JSON of a `MaterialRow::Schedule`.
pub(super) async fn write(
    tx: &mut ProjectTx,
    project: &ProjectId,
    agents: &[&str],
    rows: Vec<Value>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if agents.is_empty() {
        return Ok(());
    }
    let rows = rows.into_iter().map(|row| with_next_time(row, now)).collect::<Result<Value, StoreError>>()?;
    let (project, rows) = (project.as_str(), rows.to_string());
    tx.rows(DELETE, &[&project, &agents, &rows]).await?;
    tx.rows(UPSERT, &[&project, &rows]).await?;
    Ok(())
}

/// The row with the first time after `now`; with none when it is switched off.
fn with_next_time(mut row: Value, now: Timestamp) -> Result<Value, StoreError> {
    let corrupt = |e: String| StoreError::Corrupt(e);
    let text = row["spec"].as_str().unwrap_or_default();
    let spec: ScheduleSpec = serde_json::from_str(text).map_err(|e| corrupt(e.to_string()))?;
    let table = Timetable::of(&spec).map_err(|e| corrupt(e.to_string()))?;
    row["next_at"] = json!(table.next_after(now).filter(|_| spec.enabled));
    Ok(row)
}

const DELETE: &str = "
DELETE FROM schedule s WHERE s.project_id = $1 AND s.agent_id = ANY ($2) AND NOT EXISTS (
  SELECT FROM jsonb_to_recordset($3::text::jsonb) AS r (agent_id text, schedule_id text)
  WHERE r.agent_id = s.agent_id AND r.schedule_id = s.schedule_id)";

// a time that is due and has not fired yet stays due, unless the times are others
const UPSERT: &str = "
INSERT INTO schedule AS s (project_id, agent_id, schedule_id, contract_version_id, spec, next_at)
SELECT $1, r.agent_id, r.schedule_id, r.contract_version_id, r.spec, r.next_at
FROM jsonb_to_recordset($2::text::jsonb)
  AS r (agent_id text, schedule_id text, contract_version_id uuid, spec text, next_at timestamptz)
ON CONFLICT (project_id, agent_id, schedule_id) DO UPDATE
  SET contract_version_id = excluded.contract_version_id, spec = excluded.spec, put_off_at = NULL,
    next_at = CASE WHEN s.next_at IS NOT NULL AND excluded.next_at IS NOT NULL
        AND s.spec::jsonb -> 'cron' = excluded.spec::jsonb -> 'cron'
        AND s.spec::jsonb -> 'time_zone' = excluded.spec::jsonb -> 'time_zone'
      THEN s.next_at ELSE excluded.next_at END";
