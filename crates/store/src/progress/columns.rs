//! A batch of progress by column, and the statements that take its columns: one row an item, each fenced on its own.

use awooop_core::RunId;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Write;
use crate::budget::{Ask, Settlement};
use crate::claim::Ticket;
use crate::journal::{End, JournalRow};

/// A batch by column.
pub(super) struct Batch<'a> {
    pub(super) leases: Vec<Uuid>,
    pub(super) settlements: Settlements,
    pub(super) steps: Steps<'a>,
    pub(super) ends: Ends<'a>,
    pub(super) holds: Holds,
}

impl<'a> Batch<'a> {
    pub(super) fn of(items: impl Iterator<Item = &'a Write>) -> Self {
        let mut leases = Vec::new();
        let mut steps = Vec::new();
        let (mut ends, mut asks, mut settled) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            leases.push(item.ticket().lease_id);
            match item {
                Write::Step(run, row, settlement) => {
                    steps.push((run, row.as_ref()));
                    settled.extend(settlement);
                }
                Write::End(run, end) => {
                    steps.extend(end.step.as_ref().map(|row| (run, row)));
                    settled.extend(&end.settlement);
                    ends.push((run, end.as_ref()));
                }
                Write::Hold(ask) => asks.push(ask),
            }
        }
        leases.sort_unstable();
        leases.dedup();
        Self {
            leases,
            settlements: Settlements::of(&settled),
            steps: Steps::of(steps),
            ends: Ends::of(ends),
            holds: Holds::of(&asks),
        }
    }
}

/// One column of a list of rows.
fn column<T, U>(rows: &[T], of: impl Fn(&T) -> U) -> Vec<U> {
    rows.iter().map(of).collect()
}

pub(super) struct Settlements {
    pub(super) ids: Vec<Uuid>,
    amounts: Vec<i64>,
    estimates: Vec<bool>,
}

impl Settlements {
    pub(super) fn of(all: &[&Settlement]) -> Self {
        Self {
            ids: column(all, |s| s.hold_id),
            amounts: column(all, |s| s.amount),
            estimates: column(all, |s| s.is_estimated),
        }
    }

    pub(super) fn params<'b>(
        &'b self,
        project: &'b &str,
        now: &'b jiff::Timestamp,
    ) -> [&'b (dyn ToSql + Sync); 5] {
        [project, &self.ids, &self.amounts, &self.estimates, now]
    }
}

pub(super) struct Holds {
    pub(super) ids: Vec<Uuid>,
    runs: Vec<RunId>,
    leases: Vec<Uuid>,
    epochs: Vec<i64>,
    ns: Vec<i32>,
    amounts: Vec<i64>,
    expiries: Vec<jiff::Timestamp>,
}

impl Holds {
    pub(super) fn of(asks: &[&Ask]) -> Self {
        Self {
            ids: column(asks, |a| a.hold_id),
            runs: column(asks, |a| a.run.run_id),
            leases: column(asks, |a| a.run.lease_id),
            epochs: column(asks, |a| a.run.epoch),
            ns: column(asks, |a| a.n),
            amounts: column(asks, |a| a.amount),
            expiries: column(asks, |a| a.expires_at),
        }
    }

    pub(super) fn params<'b>(
        &'b self,
        project: &'b &str,
        now: &'b jiff::Timestamp,
    ) -> Vec<&'b (dyn ToSql + Sync)> {
        vec![
            project,
            &self.ids,
            &self.runs,
            &self.leases,
            &self.epochs,
            &self.ns,
            &self.amounts,
            &self.expiries,
            now,
        ]
    }
}

pub(super) struct Steps<'a> {
    pub(super) runs: Vec<RunId>,
    leases: Vec<Uuid>,
    epochs: Vec<i64>,
    traces: Vec<&'a str>,
    ns: Vec<i32>,
    kinds: Vec<&'a str>,
    names: Vec<&'a str>,
    keys: Vec<&'a str>,
    statuses: Vec<&'a str>,
    codes: Vec<Option<&'a str>>,
    started: Vec<jiff::Timestamp>,
    durations: Vec<i64>,
    bodies: Vec<&'a str>,
    has_calls: Vec<bool>,
    calls: Vec<Uuid>,
    agents: Vec<&'a str>,
    actors: Vec<&'a str>,
    tools: Vec<&'a str>,
    call_codes: Vec<Option<&'a str>>,
    sha256s: Vec<&'a str>,
    chars: Vec<i32>,
    trusts: Vec<bool>,
}

impl<'a> Steps<'a> {
    pub(super) fn of(all: Vec<(&'a Ticket, &'a JournalRow)>) -> Self {
        Self {
            runs: column(&all, |(run, _)| run.run_id),
            leases: column(&all, |(run, _)| run.lease_id),
            epochs: column(&all, |(run, _)| run.epoch),
            traces: column(&all, |(run, _)| run.trace_id.as_str()),
            ns: column(&all, |(_, row)| row.step.n),
            kinds: column(&all, |(_, row)| row.kind),
            names: column(&all, |(_, row)| row.name.as_str()),
            keys: column(&all, |(_, row)| row.key.as_str()),
            statuses: column(&all, |(_, row)| row.status),
            codes: column(&all, |(_, row)| row.code),
            started: column(&all, |(_, row)| row.step.started_at),
            durations: column(&all, |(_, row)| row.step.duration_ms),
            bodies: column(&all, |(_, row)| row.body.as_str()),
            has_calls: column(&all, |(_, row)| row.has_call),
            calls: column(&all, |(_, row)| row.call_id),
            agents: column(&all, |(_, row)| row.call_agent()),
            actors: column(&all, |(_, row)| row.actor.as_str()),
            tools: column(&all, |(_, row)| row.tool.as_str()),
            call_codes: column(&all, |(_, row)| row.call_code),
            sha256s: column(&all, |(_, row)| row.call_sha256()),
            chars: column(&all, |(_, row)| row.call_chars),
            trusts: column(&all, |(_, row)| row.is_trusted),
        }
    }

    pub(super) fn params<'b>(&'b self, project: &'b &str) -> Vec<&'b (dyn ToSql + Sync)> {
        vec![
            project,
            &self.runs,
            &self.leases,
            &self.epochs,
            &self.traces,
            &self.ns,
            &self.kinds,
            &self.names,
            &self.keys,
            &self.statuses,
            &self.codes,
            &self.started,
            &self.durations,
            &self.bodies,
            &self.has_calls,
            &self.calls,
            &self.agents,
            &self.actors,
            &self.tools,
            &self.call_codes,
            &self.sha256s,
            &self.chars,
            &self.trusts,
        ]
    }
}

pub(super) struct Ends<'a> {
    pub(super) runs: Vec<RunId>,
    leases: Vec<Uuid>,
    epochs: Vec<i64>,
    traces: Vec<&'a str>,
    states: Vec<&'a str>,
    at: Vec<jiff::Timestamp>,
    outputs: Vec<Option<&'a str>>,
    sha256s: Vec<Option<&'a str>>,
    codes: Vec<Option<&'a str>>,
    messages: Vec<Option<&'a str>>,
    event_ids: Vec<Uuid>,
    actors: Vec<&'a str>,
    bodies: Vec<&'a str>,
    key_ids: Vec<&'a str>,
    macs: Vec<&'a [u8]>,
    /// Leases that have no other run.
    last: Vec<Uuid>,
}

impl<'a> Ends<'a> {
    pub(super) fn of(all: Vec<(&'a Ticket, &'a End)>) -> Self {
        Self {
            runs: column(&all, |(run, _)| run.run_id),
            leases: column(&all, |(run, _)| run.lease_id),
            epochs: column(&all, |(run, _)| run.epoch),
            traces: column(&all, |(run, _)| run.trace_id.as_str()),
            states: column(&all, |(_, end)| end.row.state),
            at: column(&all, |(_, end)| end.row.event.at),
            outputs: column(&all, |(_, end)| end.row.output.as_deref()),
            sha256s: column(&all, |(_, end)| end.row.sha256.as_deref()),
            codes: column(&all, |(_, end)| end.row.code),
            messages: column(&all, |(_, end)| end.row.message.as_deref()),
            event_ids: column(&all, |(_, end)| end.row.event.id),
            actors: column(&all, |(_, end)| end.row.event.actor.as_str()),
            bodies: column(&all, |(_, end)| end.row.event.body.as_str()),
            key_ids: column(&all, |(_, end)| end.row.event.key_id.as_str()),
            macs: column(&all, |(_, end)| end.row.event.mac.as_slice()),
            last: all.iter().filter(|(_, end)| end.is_last).map(|(run, _)| run.lease_id).collect(),
        }
    }

    pub(super) fn params<'b>(&'b self, project: &'b &str) -> Vec<&'b (dyn ToSql + Sync)> {
        vec![
            project,
            &self.runs,
            &self.leases,
            &self.epochs,
            &self.traces,
            &self.states,
            &self.at,
            &self.outputs,
            &self.sha256s,
            &self.codes,
            &self.messages,
            &self.event_ids,
            &self.actors,
            &self.bodies,
            &self.key_ids,
            &self.macs,
            &self.last,
        ]
    }
}

// Leases and holds come and go, so what is known of these tables is that they are empty, and a plan made with it reads
// every row of the project, the dead ones too. One look-up an id leaves no such choice.
pub(super) const LOCK_LEASES: &str = "
SELECT l.lease_id FROM (SELECT id FROM unnest($2::uuid[]) AS i (id) ORDER BY id) i
CROSS JOIN LATERAL (SELECT lease_id FROM run_lease WHERE project_id = $1 AND lease_id = i.id LIMIT 1 FOR UPDATE) l";

pub(super) const SETTLE: &str = "
WITH i AS MATERIALIZED (SELECT * FROM unnest($2::uuid[], $3::bigint[], $4::boolean[])
  AS i (hold_id, charged, is_estimated)),
p AS MATERIALIZED (SELECT b.id FROM i CROSS JOIN LATERAL (SELECT ctid AS id FROM budget_hold
  WHERE project_id = $1 AND hold_id = i.hold_id LIMIT 1) b),
d AS (   -- the guard: a hold is deleted once
  DELETE FROM budget_hold b WHERE b.project_id = $1 AND b.ctid = ANY (ARRAY(SELECT id FROM p))
  RETURNING b.hold_id, b.run_id, b.n, b.amount),
h AS (SELECT d.*, i.charged, i.is_estimated FROM d JOIN i USING (hold_id)),
e AS (INSERT INTO budget_ledger (project_id, entry_id, run_id, n, held, amount, is_estimated, reason, at)
  SELECT $1, hold_id, run_id, n, amount, charged, is_estimated, 'settled', $5 FROM h),
s AS (SELECT sum(amount)::bigint AS held, sum(charged)::bigint AS charged, count(*) AS n FROM h)
UPDATE budget b SET held = b.held - s.held, settled = b.settled + s.charged FROM s
WHERE b.project_id = $1 AND b.scope = 'project' AND b.unit = 'tokens' AND s.n > 0";

pub(super) const JOURNAL: &str = "
WITH i AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::integer[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::bigint[], $14::text[], $15::boolean[],
    $16::uuid[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::integer[], $23::boolean[])
  AS i (run_id, lease_id, epoch, trace_id, n, kind, name, idempotency_key, status, code, started_at, duration_ms,
    body, has_call, call_id, agent_id, actor, tool, call_code, arguments_sha256, result_chars, is_trusted)),
f AS MATERIALIZED (   -- the guard: each run is still its claim's
  SELECT i.* FROM i JOIN run_state r ON r.project_id = $1 AND r.run_id = i.run_id AND r.lease_id = i.lease_id
    AND r.lease_epoch = i.epoch AND r.state = 'running'),
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status, code,
    started_at, duration_ms, body, is_trusted)
  SELECT $1, run_id, n, 'result', epoch, kind, name, idempotency_key, status, code, started_at, duration_ms, body,
    is_trusted
  FROM f ORDER BY run_id, n),
c AS (INSERT INTO mcp_call (project_id, call_id, agent_id, actor, run_id, n, tool, status, code, arguments_sha256,
    result_chars, started_at, duration_ms, trace_id)
  SELECT $1, call_id, agent_id, actor, run_id, n, tool, status, call_code, arguments_sha256, result_chars,
    started_at, duration_ms, trace_id FROM f WHERE has_call)
SELECT run_id, n FROM f";

pub(super) const END: &str = "
WITH i AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::timestamptz[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::uuid[], $13::text[], $14::text[], $15::text[], $16::bytea[])
  AS i (run_id, lease_id, epoch, trace_id, state, at, output, output_sha256, code, message, event_id, actor, body,
    key_id, mac)),
u AS (   -- the guard: each run is still its claim's
  UPDATE run_state r SET state = i.state, completed_at = i.at, lease_id = NULL, worker_id = NULL, output = i.output,
    output_sha256 = i.output_sha256, error_code = i.code, error_message = i.message
  FROM i WHERE r.project_id = $1 AND r.run_id = i.run_id AND r.lease_id = i.lease_id AND r.lease_epoch = i.epoch
    AND r.state = 'running'
  RETURNING r.run_id, i.trace_id, i.at, i.event_id, i.actor, i.body, i.key_id, i.mac),
l AS (DELETE FROM run_lease WHERE project_id = $1 AND ctid = ANY (ARRAY(SELECT p.id FROM unnest($17::uuid[]) AS k (id)
  CROSS JOIN LATERAL (SELECT ctid AS id FROM run_lease WHERE project_id = $1 AND lease_id = k.id LIMIT 1) p))),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, event_id, at, actor, 'run.end', 'run/' || run_id, run_id, trace_id, body, key_id, mac FROM u)
SELECT run_id FROM u";

// answers held or, false, that there was no room beside the others; a run that was taken is not answered
pub(super) const RESERVE: &str = "
WITH i AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::integer[], $7::bigint[],
    $8::timestamptz[])
  WITH ORDINALITY AS i (hold_id, run_id, lease_id, epoch, n, amount, expires_at, o)),
f AS MATERIALIZED (   -- the fence: each run is still its claim's
  SELECT i.*, sum(i.amount) OVER (ORDER BY i.o) AS upto
  FROM i JOIN run_state r ON r.project_id = $1 AND r.run_id = i.run_id AND r.lease_id = i.lease_id
    AND r.lease_epoch = i.epoch AND r.state = 'running'),
t AS MATERIALIZED (   -- the guard: as many, in their order, as there is room for
  SELECT f.* FROM f JOIN budget b ON b.project_id = $1 AND b.scope = 'project' AND b.unit = 'tokens'
  WHERE b.limit_amount IS NULL OR b.settled + b.held + f.upto <= b.limit_amount),
h AS (INSERT INTO budget_hold (project_id, hold_id, run_id, n, epoch, amount, created_at, expires_at)
  SELECT $1, hold_id, run_id, n, epoch, amount, $9, expires_at FROM t),
s AS (SELECT sum(amount)::bigint AS amount, count(*) AS n FROM t),
b AS (UPDATE budget b SET held = b.held + s.amount FROM s
  WHERE b.project_id = $1 AND b.scope = 'project' AND b.unit = 'tokens' AND s.n > 0)
SELECT f.hold_id, EXISTS (SELECT FROM t WHERE t.hold_id = f.hold_id) FROM f";
