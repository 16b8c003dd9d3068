//! Definitions of tools as they were seen: which one was pinned at first sight, and the few that came beside it.
//!
//! One flight records what one look at a server's list found. The first sight of a tool is pinned by whoever comes first;
//! everybody is told the hash that is in force then. A definition has one row however often it is seen, and its event in
//! the audit is written by the statement that makes the row or changes how it stands.
//!
//! A server that shows a new definition each time fills nothing: of each tool at most [`MOST_KEPT`] rows that no pin
//! names, and at most [`MOST_NEW`] new ones an hour, are kept and audited; the rest is refused all the same.

use awooop_core::ids::ToolName;
use awooop_core::json::to_value;
use awooop_core::scan::Find;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::Row;

use crate::audit::{AuditEvent, Columns, Note};
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::{Params, storable};

/// Rows kept of one tool besides those that a pin names; the one that was seen longest ago goes first.
pub const MOST_KEPT: i64 = 8;
/// New definitions of one tool that are kept within an hour.
pub const MOST_NEW: i64 = 8;
/// Longest definition kept, in bytes of its JSON text.
pub const LONGEST_KEPT: usize = 32 * 1024;

/// A definition that a server showed.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The tool's full name.
    pub name: ToolName,
    /// Hash over all of its members.
    pub sha256: String,
    /// Hash over those that older pins cover.
    pub plain_sha256: String,
    /// How it stands.
    pub found: Found,
    /// The definition, masked as people see it: JSON of at most [`LONGEST_KEPT`] bytes.
    pub definition: String,
    /// What a look at it found.
    pub finds: Vec<Find>,
}

/// How a definition stands when it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is the pinned one.
    Pinned,
    /// None is pinned: it is pinned now, if nobody was faster.
    First,
    /// Another one is pinned: that hash.
    Drifted(String),
    /// A person has to look at it, for this reason.
    Quarantined(&'static str),
}

impl Found {
    fn standing(&self) -> &'static str {
        match self {
            Found::Pinned | Found::First => "pinned",
            Found::Drifted(_) => "drifted",
            Found::Quarantined(_) => "quarantined",
        }
    }
}

/// A definition that was seen.
#[derive(Debug, Clone)]
pub struct SeenDefinition {
    /// Hash over all of its members.
    pub sha256: String,
    /// Hash over those that older pins cover.
    pub plain_sha256: String,
    /// `pinned`, `drifted` or `quarantined`, as it stood when that last changed.
    pub standing: String,
    /// Masked as people see it, and cut where it was too long.
    pub definition: Value,
    /// What a look at it found.
    pub finds: Vec<Find>,
    /// The first time.
    pub first_seen_at: Timestamp,
    /// The last time, to within ten minutes.
    pub last_seen_at: Timestamp,
}

impl Store {
    /// Records what a look found, and pins what is seen for the first time. Returns, for each that was
    /// [`Found::First`], the hash that is pinned from now on: another node's, where that was faster.
    pub async fn record_sightings(
        &self,
        scope: &ProjectScope,
        mut seen: Vec<Sighting>,
    ) -> Result<Vec<(ToolName, String)>, StoreError> {
        // in one order, so that two looks do not wait for each other
        seen.sort_by(|a, b| (&a.name, &a.sha256).cmp(&(&b.name, &b.sha256)));
        let now = self.inner.clock.now();
        let since = now.saturating_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN);
        let project = scope.project().as_str();
        let rows = to_value(&seen.iter().map(SightingRow::of).collect::<Vec<_>>()).to_string();
        let (first, other): (Vec<_>, Vec<_>) =
            self.audited(scope, &seen).into_iter().partition(|(n, _)| seen[*n].found == Found::First);
        let (first, other) = (Told::of(first), Told::of(other));
        let (of_first, of_other) = (Columns::of(&first.events), Columns::of(&other.events));
        let (of_first, of_other) = (of_first.params(&project), of_other.params(&project));
        let pin: Vec<Param<'_>> = [&of_first[..], &[&rows, &now, &first.of]].concat();
        let record: Vec<Param<'_>> = [&of_other[..], &[&rows, &now, &other.of, &since, &MOST_NEW]].concat();
        let (touch, prune, pins): (Params<'_>, Params<'_>, Params<'_>) =
            (&[&project, &rows, &now], &[&project, &rows, &MOST_KEPT], &[&project, &rows]);
        let mut flight: Vec<(&str, Params<'_>)> = Vec::with_capacity(5);
        if !first.of.is_empty() {
            flight.push((PIN, &pin));
        }
        flight.extend([(RECORD, record.as_slice()), (TOUCH, touch), (PRUNE, prune), (PINS, pins)]);
        let mut answers = self.flight(scope, &flight).await?;
        let pins = answers.pop().unwrap_or_default();
        let pin_of = |row: &Row| {
            let n = usize::try_from(row.get::<_, i32>(0)).unwrap_or(usize::MAX);
            seen.get(n).map(|sighting| (sighting.name.clone(), row.get(1)))
        };
        Ok(pins.iter().filter_map(pin_of).collect())
    }

    /// The definitions seen of a tool, the newest first.
    pub async fn seen_definitions(
        &self,
        scope: &ProjectScope,
        name: &ToolName,
    ) -> Result<Vec<SeenDefinition>, StoreError> {
        let sql = "SELECT sha256, plain_sha256, standing, definition, finds, first_seen_at, last_seen_at
            FROM mcp_definition WHERE project_id = $1 AND provider_id = $2 AND tool = $3
            ORDER BY first_seen_at DESC, sha256";
        let params: Params<'_> = &[&scope.project().as_str(), &name.provider().as_str(), &name.tool()];
        self.once(scope, sql, params).await?.iter().map(seen_definition).collect()
    }

    /// When a tool was pinned at its first sight; `None` when it never was.
    pub async fn first_pinned_at(
        &self,
        scope: &ProjectScope,
        name: &ToolName,
    ) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT pinned_at FROM mcp_pin WHERE project_id = $1 AND provider_id = $2 AND tool = $3";
        let params: Params<'_> = &[&scope.project().as_str(), &name.provider().as_str(), &name.tool()];
        Ok(self.once(scope, sql, params).await?.first().map(|row| row.get(0)))
    }

    /// The event of each sighting that people should know of, with the sighting's place.
    fn audited(&self, scope: &ProjectScope, seen: &[Sighting]) -> Vec<(usize, AuditEvent)> {
        let event = |(n, sighting): (usize, &Sighting)| {
            let finds: Vec<&str> = sighting.finds.iter().map(|find| find.kind.as_str()).collect();
            let (action, body) = match &sighting.found {
                Found::Pinned => return None,
                Found::First => ("tool.pin", json!({"sha256": sighting.sha256, "by": "first_sight"})),
                Found::Drifted(pinned) => {
                    ("tool.drift", json!({"pinned": pinned, "seen": sighting.sha256, "finds": finds}))
                }
                Found::Quarantined(why) => {
                    ("tool.quarantine", json!({"seen": sighting.sha256, "why": why, "finds": finds}))
                }
            };
            let subject = format!("tool/{}", sighting.name);
            Some((n, self.audit(scope, Note::new(action, storable(&subject), body))))
        };
        seen.iter().enumerate().filter_map(event).collect()
    }
}

fn seen_definition(row: &Row) -> Result<SeenDefinition, StoreError> {
    let corrupt = |e: serde_json::Error| StoreError::Corrupt(e.to_string());
    Ok(SeenDefinition {
        sha256: row.get(0),
        plain_sha256: row.get(1),
        standing: row.get(2),
        definition: serde_json::from_str(row.get(3)).map_err(corrupt)?,
        finds: serde_json::from_str(row.get(4)).map_err(corrupt)?,
        first_seen_at: row.get(5),
        last_seen_at: row.get(6),
    })
}

type Param<'a> = &'a (dyn tokio_postgres::types::ToSql + Sync);

/// A sighting as the statements read it.
#[derive(Serialize)]
struct SightingRow<'a> {
    provider_id: &'a str,
    tool: &'a str,
    sha256: &'a str,
    plain_sha256: &'a str,
    standing: &'static str,
    definition: &'a str,
    finds: String,
    is_first: bool,
}

impl<'a> SightingRow<'a> {
    fn of(sighting: &'a Sighting) -> Self {
        Self {
            provider_id: sighting.name.provider().as_str(),
            tool: sighting.name.tool(),
            sha256: &sighting.sha256,
            plain_sha256: &sighting.plain_sha256,
            standing: sighting.found.standing(),
            definition: &sighting.definition,
            finds: to_value(&sighting.finds).to_string(),
            is_first: sighting.found == Found::First,
        }
    }
}

/// Events, and the places of the sightings they are of.
struct Told {
    of: Vec<i32>,
    events: Vec<AuditEvent>,
}

impl Told {
    fn of(told: Vec<(usize, AuditEvent)>) -> Self {
        let (of, events): (Vec<usize>, Vec<AuditEvent>) = told.into_iter().unzip();
        Self { of: of.into_iter().map(|n| i32::try_from(n).unwrap_or(i32::MAX)).collect(), events }
    }
}

/// The sightings of parameter `$n`, a JSON array, each with its place from 0.
macro_rules! sightings {
    ($n:literal) => {
        concat!(
            "SELECT r.*, r.at - 1 AS n FROM ROWS FROM (jsonb_to_recordset($",
            $n,
            "::text::jsonb) AS (provider_id text, tool text, sha256 text, plain_sha256 text, standing text,
  definition text, finds text, is_first boolean)) WITH ORDINALITY AS r (provider_id, tool, sha256, plain_sha256, standing,
  definition, finds, is_first, at)"
        )
    };
}

/// The events $2 to $11 of the sightings at $14 whose rows `told` holds.
macro_rules! tell {
    () => {
        "INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
SELECT $1, e.id, e.at, e.actor, e.action, e.subject, e.run_id, e.trace_id, e.body, e.key_id, e.mac
FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::uuid[], $8::text[], $9::text[],
  $10::text[], $11::bytea[], $14::integer[])
  AS e (id, at, actor, action, subject, run_id, trace_id, body, key_id, mac, n)
JOIN s ON s.n = e.n
JOIN told t ON t.provider_id = s.provider_id AND t.tool = s.tool AND t.sha256 = s.sha256"
    };
}

// $1 project, $2 to $11 events, $12 sightings, $13 now, $14 whose events
const PIN: &str = concat!(
    "WITH s AS MATERIALIZED (",
    sightings!(12),
    "),
told AS (   -- the guard: whoever comes first
  INSERT INTO mcp_pin (project_id, provider_id, tool, definition_sha256, pinned_at)
  SELECT $1, provider_id, tool, sha256, $13::timestamptz FROM s WHERE is_first ORDER BY n
  ON CONFLICT DO NOTHING RETURNING provider_id, tool, definition_sha256 AS sha256)
",
    tell!()
);

// $15 since when new ones are counted, $16 how many there may be
const RECORD: &str = concat!(
    "WITH s AS MATERIALIZED (",
    sightings!(12),
    "),
held AS MATERIALIZED (   -- what was not pinned after all drifted: its next look says so
  SELECT s.* FROM s WHERE NOT s.is_first OR EXISTS (SELECT FROM mcp_pin p WHERE p.project_id = $1
    AND p.provider_id = s.provider_id AND p.tool = s.tool AND p.definition_sha256 = s.sha256)),
changed AS (   -- known, and it stands otherwise than before
  UPDATE mcp_definition d SET standing = h.standing, finds = h.finds FROM held h
  WHERE d.project_id = $1 AND d.provider_id = h.provider_id AND d.tool = h.tool AND d.sha256 = h.sha256
    AND d.standing <> h.standing
  RETURNING d.provider_id, d.tool, d.sha256),
new AS (
  INSERT INTO mcp_definition (project_id, provider_id, tool, sha256, plain_sha256, standing, definition, finds,
    first_seen_at, last_seen_at)
  SELECT $1, h.provider_id, h.tool, h.sha256, h.plain_sha256, h.standing, h.definition, h.finds, $13::timestamptz,
    $13::timestamptz FROM held h
  WHERE h.standing = 'pinned' OR (SELECT count(*) FROM mcp_definition d WHERE d.project_id = $1
    AND d.provider_id = h.provider_id AND d.tool = h.tool AND d.first_seen_at > $15) < $16
  ORDER BY h.n
  ON CONFLICT DO NOTHING RETURNING provider_id, tool, sha256),
told AS (SELECT * FROM changed UNION ALL SELECT * FROM new)
",
    tell!()
);

// $2 sightings, $3 now
const TOUCH: &str = concat!(
    "WITH s AS MATERIALIZED (",
    sightings!(2),
    ")
UPDATE mcp_definition d SET last_seen_at = $3 FROM s
WHERE d.project_id = $1 AND d.provider_id = s.provider_id AND d.tool = s.tool AND d.sha256 = s.sha256
  AND d.last_seen_at < $3"
);

// $2 sightings, $3 how many stay
const PRUNE: &str = concat!(
    "WITH s AS MATERIALIZED (",
    sightings!(2),
    "),
r AS MATERIALIZED (
  SELECT d.provider_id, d.tool, d.sha256, row_number() OVER (PARTITION BY d.provider_id, d.tool
    ORDER BY d.last_seen_at DESC, d.first_seen_at DESC, d.sha256) AS place
  FROM mcp_definition d
  WHERE d.project_id = $1 AND EXISTS (SELECT FROM s WHERE s.provider_id = d.provider_id AND s.tool = d.tool)
    AND NOT EXISTS (SELECT FROM mcp_pin p WHERE p.project_id = $1 AND p.provider_id = d.provider_id
      AND p.tool = d.tool AND p.definition_sha256 IN (d.sha256, d.plain_sha256))
    AND NOT EXISTS (SELECT FROM mcp_tool t WHERE t.project_id = $1 AND t.provider_id = d.provider_id
      AND t.tool = d.tool AND t.definition_sha256 IN (d.sha256, d.plain_sha256)))
DELETE FROM mcp_definition d USING r
WHERE d.project_id = $1 AND d.provider_id = r.provider_id AND d.tool = r.tool AND d.sha256 = r.sha256 AND r.place > $3"
);

// $2 sightings: of those that were first, what is pinned
const PINS: &str = concat!(
    "WITH s AS MATERIALIZED (",
    sightings!(2),
    ")
SELECT s.n::integer, p.definition_sha256 FROM s
JOIN mcp_pin p ON p.project_id = $1 AND p.provider_id = s.provider_id AND p.tool = s.tool WHERE s.is_first"
);
