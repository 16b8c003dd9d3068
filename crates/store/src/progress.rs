//! What runs write while they are worked on, many in one transaction: holds, finished steps with their settlements and
//! calls, ends. Those of one project that come up while a commit is under way share the next ([`Lanes`]). The budget's
//! row is locked until its transaction is on disk, so this is also what lets a project have more than one run per two
//! commits.
//!
//! The flight keeps the lock order: budget, leases, then plain reads of the runs, whose takers must lock their lease
//! first. Each item is told its own result. One that runs alone goes the ways of `journal` and `budget`, and so does
//! each item of a batch that failed, and each hold for which a batch found no room: refusals and their words are made
//! there only. After a lost connection nothing is known of any item, and all are told so.

use std::collections::HashSet;

use awooop_core::{ProjectId, RunId};
use futures::future::join_all;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::budget::{self, Ask, Hold, ReserveError, Settlement};
use crate::claim::Ticket;
use crate::error::StoreError;
use crate::journal::{End, JournalRow, RecordError};
use crate::lane::Lanes;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::Params;

/// Most items of one transaction.
const MOST: usize = 256;
/// Items of a batch that failed that are tried again at a time.
const ALONE_AT_A_TIME: usize = 8;

/// The lanes of progress, one a project.
pub(crate) type Progress = Lanes<ProjectId, Write, Wrote>;

/// Lanes with nothing in them.
pub(crate) fn lanes() -> Progress {
    Lanes::new("progress", MOST)
}

/// Something a claim writes.
#[derive(Debug)]
pub(crate) enum Write {
    /// A finished step, with what its model call is charged.
    Step(Ticket, Box<JournalRow>, Option<Settlement>),
    /// The end of the run.
    End(Ticket, Box<End>),
    /// A hold.
    Hold(Ask),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Wrote {
    /// Of a step or an end.
    Recorded(Result<(), RecordError>),
    /// Of a hold.
    Held(Result<Hold, ReserveError>),
}

impl Write {
    fn ticket(&self) -> &Ticket {
        match self {
            Write::Step(run, ..) | Write::End(run, _) => run,
            Write::Hold(ask) => &ask.run,
        }
    }

    /// What it writes once: an end has the place 0, a step its ordinal.
    fn places(&self) -> Vec<(RunId, i32)> {
        match self {
            Write::Step(run, row, _) => vec![(run.run_id, row.step.n)],
            Write::End(run, end) => {
                let steps = end.step.iter().map(|row| (run.run_id, row.step.n));
                std::iter::once((run.run_id, 0)).chain(steps).collect()
            }
            Write::Hold(_) => Vec::new(),
        }
    }

    fn failed(&self, error: StoreError) -> Wrote {
        match self {
            Write::Step(..) | Write::End(..) => Wrote::Recorded(Err(error.into())),
            Write::Hold(_) => Wrote::Held(Err(error.into())),
        }
    }
}

impl Store {
    /// Writes a step or an end.
    pub(crate) async fn write(&self, scope: &ProjectScope, write: Write) -> Result<(), RecordError> {
        match self.next_batch(scope, write).await? {
            Wrote::Recorded(result) => result,
            Wrote::Held(_) => Err(StoreError::Corrupt("a hold answered for a step".into()).into()),
        }
    }

    /// Holds what is asked for.
    pub(crate) async fn hold(&self, scope: &ProjectScope, ask: Ask) -> Result<Hold, ReserveError> {
        match self.next_batch(scope, Write::Hold(ask)).await? {
            Wrote::Held(result) => result,
            Wrote::Recorded(_) => Err(StoreError::Corrupt("a step answered for a hold".into()).into()),
        }
    }

    async fn next_batch(&self, scope: &ProjectScope, write: Write) -> Result<Wrote, StoreError> {
        let (store, of) = (self.clone(), scope.clone());
        let work = move |items: Vec<Write>| {
            let (store, of) = (store.clone(), of.clone());
            async move { store.write_all(&of, items).await }
        };
        let wrote = self.inner.progress.run(scope, scope.project().clone(), write, work).await;
        wrote.map_err(|lost| StoreError::Unavailable(Box::new(lost)))
    }

    /// The answers in the order of the items.
    async fn write_all(&self, scope: &ProjectScope, items: Vec<Write>) -> Vec<Wrote> {
        if items.len() == 1 {
            return vec![self.write_alone(&items[0]).await];
        }
        // of two that write the same, the second comes after: one statement could not tell them apart
        let mut taken = HashSet::new();
        let is_first: Vec<bool> =
            items.iter().map(|item| item.places().into_iter().all(|place| taken.insert(place))).collect();
        let firsts = || items.iter().zip(&is_first).filter(|(_, is_first)| **is_first).map(|(item, _)| item);
        let batch = Batch::of(firsts());
        let found = match self.write_together(scope, &batch).await {
            Ok(found) => found,
            Err(error @ StoreError::Unavailable(_)) => {
                return items.iter().map(|item| item.failed(error.again())).collect();
            }
            Err(_) => Found::default(),
        };
        let mut answers = Vec::with_capacity(items.len());
        let places: Vec<(&Write, bool)> = items.iter().zip(is_first).collect();
        for some in places.chunks(ALONE_AT_A_TIME) {
            answers.extend(
                join_all(some.iter().map(|(item, is_first)| self.answer(&found, item, *is_first))).await,
            );
        }
        answers
    }

    async fn answer(&self, found: &Found, item: &Write, is_first: bool) -> Wrote {
        match found.answer(item).filter(|_| is_first) {
            Some(wrote) => wrote,
            None => self.write_alone(item).await,
        }
    }

    async fn write_alone(&self, item: &Write) -> Wrote {
        match item {
            Write::Step(run, row, settlement) => {
                Wrote::Recorded(self.record_alone(run, row, settlement.as_ref()).await)
            }
            Write::End(run, end) => Wrote::Recorded(self.end_alone(run, end).await),
            Write::Hold(ask) => Wrote::Held(self.reserve_alone(ask).await),
        }
    }

    async fn write_together(&self, scope: &ProjectScope, batch: &Batch<'_>) -> Result<Found, StoreError> {
        let project = scope.project().as_str();
        let now = self.inner.clock.now();
        let of_project: Params<'_> = &[&project];
        let leases: Params<'_> = &[&project, &batch.leases];
        let settlements = batch.settlements.params(&project, &now);
        let (steps, ends) = (batch.steps.params(&project), batch.ends.params(&project));
        let holds = batch.holds.params(&project, &now);
        // budget, leases, runs: the lock order
        let mut flight: Vec<(&str, Params<'_>)> = Vec::with_capacity(6);
        let (has_steps, has_ends) = (!batch.steps.runs.is_empty(), !batch.ends.runs.is_empty());
        let (has_holds, has_settlements) = (!batch.holds.ids.is_empty(), !batch.settlements.ids.is_empty());
        if has_settlements || has_holds {
            flight.push((budget::LOCK, of_project));
        }
        flight.push((LOCK_LEASES, leases));
        if has_settlements {
            flight.push((SETTLE, &settlements));
        }
        let first_answer = flight.len();
        flight.extend(has_steps.then_some((JOURNAL, steps.as_slice())));
        flight.extend(has_ends.then_some((END, ends.as_slice())));
        flight.extend(has_holds.then_some((RESERVE, holds.as_slice())));
        let mut answers = self.flight(scope, &flight).await?.into_iter().skip(first_answer);
        let mut answer = |is_there: bool| is_there.then(|| answers.next()).flatten().unwrap_or_default();
        let mut found = Found { is_whole: true, ..Found::default() };
        found.steps = answer(has_steps).iter().map(|row| (row.get(0), row.get(1))).collect();
        found.ends = answer(has_ends).iter().map(|row| row.get(0)).collect();
        found.holds(&answer(has_holds));
        Ok(found)
    }
}

/// What a flight wrote.
#[derive(Debug, Default)]
struct Found {
    is_whole: bool,
    steps: HashSet<(RunId, i32)>,
    ends: HashSet<RunId>,
    held: HashSet<Uuid>,
    no_room: HashSet<Uuid>,
}

impl Found {
    fn holds(&mut self, rows: &[Row]) {
        for row in rows {
            let is_held: bool = row.get(1);
            let of = if is_held { &mut self.held } else { &mut self.no_room };
            of.insert(row.get(0));
        }
    }

    /// What came of an item; `None` when it has to be asked for alone.
    fn answer(&self, item: &Write) -> Option<Wrote> {
        let fenced = |is_there: bool| if is_there { Ok(()) } else { Err(RecordError::Fenced) };
        if !self.is_whole {
            return None;
        }
        Some(match item {
            Write::Step(run, row, _) => {
                Wrote::Recorded(fenced(self.steps.contains(&(run.run_id, row.step.n))))
            }
            Write::End(run, _) => Wrote::Recorded(fenced(self.ends.contains(&run.run_id))),
            Write::Hold(ask) if self.no_room.contains(&ask.hold_id) => return None,
            Write::Hold(ask) if self.held.contains(&ask.hold_id) => Wrote::Held(Ok(ask.held())),
            Write::Hold(_) => Wrote::Held(Err(ReserveError::Fenced)),
        })
    }
}

/// A batch by column.
struct Batch<'a> {
    leases: Vec<Uuid>,
    settlements: Settlements,
    steps: Steps<'a>,
    ends: Ends<'a>,
    holds: Holds,
}

impl<'a> Batch<'a> {
    fn of(items: impl Iterator<Item = &'a Write>) -> Self {
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

struct Settlements {
    ids: Vec<Uuid>,
    amounts: Vec<i64>,
    estimates: Vec<bool>,
}

impl Settlements {
    fn of(all: &[&Settlement]) -> Self {
        Self {
            ids: column(all, |s| s.hold_id),
            amounts: column(all, |s| s.amount),
            estimates: column(all, |s| s.is_estimated),
        }
    }

    fn params<'b>(&'b self, project: &'b &str, now: &'b jiff::Timestamp) -> [&'b (dyn ToSql + Sync); 5] {
        [project, &self.ids, &self.amounts, &self.estimates, now]
    }
}

struct Holds {
    ids: Vec<Uuid>,
    runs: Vec<RunId>,
    leases: Vec<Uuid>,
    epochs: Vec<i64>,
    ns: Vec<i32>,
    amounts: Vec<i64>,
    expiries: Vec<jiff::Timestamp>,
}

impl Holds {
    fn of(asks: &[&Ask]) -> Self {
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

    fn params<'b>(&'b self, project: &'b &str, now: &'b jiff::Timestamp) -> Vec<&'b (dyn ToSql + Sync)> {
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

struct Steps<'a> {
    runs: Vec<RunId>,
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
}

impl<'a> Steps<'a> {
    fn of(all: Vec<(&'a Ticket, &'a JournalRow)>) -> Self {
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
        }
    }

    fn params<'b>(&'b self, project: &'b &str) -> Vec<&'b (dyn ToSql + Sync)> {
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
        ]
    }
}

struct Ends<'a> {
    runs: Vec<RunId>,
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
    fn of(all: Vec<(&'a Ticket, &'a End)>) -> Self {
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

    fn params<'b>(&'b self, project: &'b &str) -> Vec<&'b (dyn ToSql + Sync)> {
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

const LOCK_LEASES: &str = "SELECT lease_id FROM run_lease WHERE project_id = $1 AND lease_id = ANY ($2)
  ORDER BY lease_id FOR UPDATE";

const SETTLE: &str = "
WITH i AS MATERIALIZED (SELECT * FROM unnest($2::uuid[], $3::bigint[], $4::boolean[])
  AS i (hold_id, charged, is_estimated)),
h AS (   -- the guard: a hold is deleted once
  DELETE FROM budget_hold b USING i WHERE b.project_id = $1 AND b.hold_id = i.hold_id
  RETURNING b.hold_id, b.run_id, b.n, b.amount, i.charged, i.is_estimated),
e AS (INSERT INTO budget_ledger (project_id, entry_id, run_id, n, held, amount, is_estimated, reason, at)
  SELECT $1, hold_id, run_id, n, amount, charged, is_estimated, 'settled', $5 FROM h),
s AS (SELECT sum(amount)::bigint AS held, sum(charged)::bigint AS charged, count(*) AS n FROM h)
UPDATE budget b SET held = b.held - s.held, settled = b.settled + s.charged FROM s
WHERE b.project_id = $1 AND b.scope = 'project' AND b.unit = 'tokens' AND s.n > 0";

const JOURNAL: &str = "
WITH i AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::integer[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::bigint[], $14::text[], $15::boolean[],
    $16::uuid[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::integer[])
  AS i (run_id, lease_id, epoch, trace_id, n, kind, name, idempotency_key, status, code, started_at, duration_ms,
    body, has_call, call_id, agent_id, actor, tool, call_code, arguments_sha256, result_chars)),
f AS MATERIALIZED (   -- the guard: each run is still its claim's
  SELECT i.* FROM i JOIN run_state r ON r.project_id = $1 AND r.run_id = i.run_id AND r.lease_id = i.lease_id
    AND r.lease_epoch = i.epoch AND r.state = 'running'),
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status, code,
    started_at, duration_ms, body)
  SELECT $1, run_id, n, 'result', epoch, kind, name, idempotency_key, status, code, started_at, duration_ms, body
  FROM f ORDER BY run_id, n),
c AS (INSERT INTO mcp_call (project_id, call_id, agent_id, actor, run_id, n, tool, status, code, arguments_sha256,
    result_chars, started_at, duration_ms, trace_id)
  SELECT $1, call_id, agent_id, actor, run_id, n, tool, status, call_code, arguments_sha256, result_chars,
    started_at, duration_ms, trace_id FROM f WHERE has_call)
SELECT run_id, n FROM f";

const END: &str = "
WITH i AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::timestamptz[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::uuid[], $13::text[], $14::text[], $15::text[], $16::bytea[])
  AS i (run_id, lease_id, epoch, trace_id, state, at, output, output_sha256, code, message, event_id, actor, body,
    key_id, mac)),
u AS (   -- the guard: each run is still its claim's
  UPDATE run_state r SET state = i.state, completed_at = i.at, lease_id = NULL, worker_id = NULL, output = i.output,
    output_sha256 = i.output_sha256, error_code = i.code, error_message = i.message
  FROM i WHERE r.project_id = $1 AND r.run_id = i.run_id AND r.lease_id = i.lease_id AND r.lease_epoch = i.epoch
    AND r.state = 'running' RETURNING r.run_id),
l AS (DELETE FROM run_lease WHERE project_id = $1 AND lease_id = ANY ($17)),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, event_id, at, actor, 'run.end', 'run/' || run_id, run_id, trace_id, body, key_id, mac
  FROM i JOIN u USING (run_id))
SELECT run_id FROM u";

// answers held or, false, that there was no room beside the others; a run that was taken is not answered
const RESERVE: &str = "
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
