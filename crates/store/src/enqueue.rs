//! Creating runs, many in one transaction: requests of one project that arrive while a commit is under way share the
//! next ([`Lanes`]). Each keeps its own audit event and gets its own answer. The statement is headed by three guards: the
//! room that the project's queue has, the parents, of which none may have ended, and the idempotency keys, of which the
//! first comer's counts.
//!
//! When a batch fails, its items are tried one by one, so that a bad one spoils no other. After a lost connection
//! nothing is known of any, and all are told so.

use awooop_core::RunId;
use jiff::Timestamp;
use serde_json::json;
use tokio_postgres::types::ToSql;

use crate::audit::{AuditEvent, Note};
use crate::error::StoreError;
use crate::lane::Lanes;
use crate::pool::Store;
use crate::run::{Created, Idempotency, MAX_DEPTH, NewRun};
use crate::scope::ProjectScope;
use crate::tx::Params;

/// Most runs of one transaction.
const MOST: usize = 256;

/// The lanes of creating, one a project.
pub(crate) type Enqueues = Lanes<awooop_core::ProjectId, NewRow, Result<Answer, StoreError>>;

/// Lanes with nothing in them.
pub(crate) fn lanes() -> Enqueues {
    Lanes::new("enqueue", MOST)
}

/// What came of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The run is there.
    Created,
    /// Its key was taken.
    KeyTaken,
    /// The project's queue has no room.
    Full,
    /// Its parent has ended, or is not there.
    ParentEnded,
    /// Its parent is as deep in its family as runs may be.
    TooDeep,
}

/// A run's rows, masked and with its audit event.
#[derive(Debug, Clone)]
pub(crate) struct NewRow {
    run_id: RunId,
    agent: String,
    agent_version_id: uuid::Uuid,
    mode: &'static str,
    priority: i16,
    trace_id: String,
    parent_run_id: Option<RunId>,
    trigger_type: &'static str,
    triggered_by: String,
    max_attempts: i32,
    timeout_at: Timestamp,
    input: String,
    input_sha256: String,
    key: Option<Idempotency>,
    event: AuditEvent,
}

impl Store {
    /// Creates a run and queues it, together with others of the project that are asked for at this time. What it keeps
    /// went through the redactors that [`Store::find_agent`] last found.
    ///
    /// # Errors
    /// The database's. A queue without room is no error: [`Created::QueueFull`].
    pub async fn create_run(&self, scope: &ProjectScope, new: &NewRun) -> Result<Created, StoreError> {
        let row = self.new_row(scope, new);
        let run_id = row.run_id;
        for _ in 0..3 {
            let (store, of) = (self.clone(), scope.clone());
            let work = move |rows: Vec<NewRow>| {
                let (store, of) = (store.clone(), of.clone());
                async move { store.create_all(&of, rows).await }
            };
            let lane = scope.project().clone();
            let answer = self.inner.enqueues.run(scope, lane, row.clone(), work).await;
            let answer = answer.map_err(|lost| StoreError::Unavailable(Box::new(lost)))??;
            if answer == Answer::Created {
                self.inner.figures.created.add(1);
                self.inner.wake.work_queued();
                return Ok(Created::New(run_id));
            }
            // a replay needs no room
            let found = match &new.idempotency {
                Some(key) => self.replay(scope, key).await?,
                None => None,
            };
            match (found, answer) {
                (Some(found), _) => return Ok(found),
                (None, Answer::Full) => return Ok(Created::QueueFull),
                (None, Answer::ParentEnded) => return Ok(Created::ParentEnded),
                (None, Answer::TooDeep) => return Ok(Created::TooDeep),
                (None, _) => {}
            }
        }
        Err(StoreError::Corrupt("an idempotency key is neither free nor taken".into()))
    }

    fn new_row(&self, scope: &ProjectScope, new: &NewRun) -> NewRow {
        let run_id = self.inner.clock.new_id();
        let trace_id = new.trace_id.clone().unwrap_or_else(|| run_id.simple().to_string());
        let input_sha256 = awooop_core::json::sha256_hex(&new.input);
        let redactors = self.known_redactors(scope.project());
        let to_journal = redactors.to_journal.redactor();
        let mut body =
            json!({"agent_id": new.agent.as_str(), "mode": new.mode, "input_sha256": input_sha256});
        if let Some(ended) = new.retry_of {
            body["retry_of"] = json!(ended);
        }
        let trigger_type = match (new.parent_run_id, new.retry_of) {
            (Some(_), _) => "sub_agent",
            (None, Some(_)) => "retry",
            (None, None) => "api",
        };
        let event = self.audit(scope, Note::of_run("run.create", run_id, &trace_id, body));
        NewRow {
            run_id,
            agent: new.agent.to_string(),
            agent_version_id: new.agent_version_id,
            mode: new.mode.as_str(),
            priority: new.priority,
            trace_id,
            parent_run_id: new.parent_run_id,
            trigger_type,
            triggered_by: to_journal.clean(new.triggered_by.clone()).into_inner(),
            max_attempts: i32::try_from(new.max_attempts).unwrap_or(i32::MAX),
            timeout_at: event.at.saturating_add(new.timeout).unwrap_or(Timestamp::MAX),
            input: to_journal.clean_json(new.input.clone()).to_string(),
            input_sha256,
            key: new.idempotency.clone(),
            event,
        }
    }

    /// One transaction for all, or one each when that fails.
    async fn create_all(&self, scope: &ProjectScope, rows: Vec<NewRow>) -> Vec<Result<Answer, StoreError>> {
        match self.create_together(scope, &rows).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) if rows.len() == 1 => vec![Err(error)],
            Err(error @ StoreError::Unavailable(_)) => rows.iter().map(|_| Err(error.again())).collect(),
            Err(_) => {
                let mut answers = Vec::with_capacity(rows.len());
                for row in rows {
                    let alone = self.create_together(scope, std::slice::from_ref(&row)).await;
                    answers.push(alone.map(|answers| answers[0]));
                }
                answers
            }
        }
    }

    /// The answers in the order of the rows.
    async fn create_together(
        &self,
        scope: &ProjectScope,
        rows: &[NewRow],
    ) -> Result<Vec<Answer>, StoreError> {
        let columns = Columns::of(rows);
        let project = scope.project().as_str();
        let flight: [(&str, Params<'_>); 2] =
            [(LOCK_QUEUE, &[&project]), (CREATE, &columns.params(&project))];
        let found = self.flight(scope, &flight).await?.pop().unwrap_or_default();
        let mut answers = vec![Answer::KeyTaken; rows.len()];
        for row in found {
            let place = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
            if let Some(answer) = answers.get_mut(place) {
                *answer = match row.get(1) {
                    "created" => Answer::Created,
                    "full" => Answer::Full,
                    "parent_ended" => Answer::ParentEnded,
                    _ => Answer::TooDeep,
                };
            }
        }
        Ok(answers)
    }
}

/// The rows by column.
struct Columns<'a> {
    run_ids: Vec<RunId>,
    agents: Vec<&'a str>,
    versions: Vec<uuid::Uuid>,
    modes: Vec<&'a str>,
    priorities: Vec<i16>,
    traces: Vec<&'a str>,
    parents: Vec<Option<RunId>>,
    triggers: Vec<&'a str>,
    triggered_by: Vec<&'a str>,
    attempts: Vec<i32>,
    created_at: Vec<Timestamp>,
    timeouts: Vec<Timestamp>,
    inputs: Vec<&'a str>,
    sha256s: Vec<&'a str>,
    principals: Vec<Option<&'a str>>,
    keys: Vec<Option<&'a str>>,
    requests: Vec<Option<&'a str>>,
    event_ids: Vec<uuid::Uuid>,
    actors: Vec<&'a str>,
    bodies: Vec<&'a str>,
    key_ids: Vec<&'a str>,
    macs: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(rows: &'a [NewRow]) -> Self {
        let key = |of: fn(&'a Idempotency) -> &'a str| rows.iter().map(|r| r.key.as_ref().map(of)).collect();
        Self {
            run_ids: rows.iter().map(|r| r.run_id).collect(),
            agents: rows.iter().map(|r| r.agent.as_str()).collect(),
            versions: rows.iter().map(|r| r.agent_version_id).collect(),
            modes: rows.iter().map(|r| r.mode).collect(),
            priorities: rows.iter().map(|r| r.priority).collect(),
            traces: rows.iter().map(|r| r.trace_id.as_str()).collect(),
            parents: rows.iter().map(|r| r.parent_run_id).collect(),
            triggers: rows.iter().map(|r| r.trigger_type).collect(),
            triggered_by: rows.iter().map(|r| r.triggered_by.as_str()).collect(),
            attempts: rows.iter().map(|r| r.max_attempts).collect(),
            created_at: rows.iter().map(|r| r.event.at).collect(),
            timeouts: rows.iter().map(|r| r.timeout_at).collect(),
            inputs: rows.iter().map(|r| r.input.as_str()).collect(),
            sha256s: rows.iter().map(|r| r.input_sha256.as_str()).collect(),
            principals: key(|k| &k.principal),
            keys: key(|k| &k.key),
            requests: key(|k| &k.request_sha256),
            event_ids: rows.iter().map(|r| r.event.id).collect(),
            actors: rows.iter().map(|r| r.event.actor.as_str()).collect(),
            bodies: rows.iter().map(|r| r.event.body.as_str()).collect(),
            key_ids: rows.iter().map(|r| r.event.key_id.as_str()).collect(),
            macs: rows.iter().map(|r| r.event.mac.as_slice()).collect(),
        }
    }

    fn params<'b>(&'b self, project: &'b &str) -> [&'b (dyn ToSql + Sync); 24] {
        [
            project,
            &self.run_ids,
            &self.agents,
            &self.versions,
            &self.modes,
            &self.priorities,
            &self.traces,
            &self.parents,
            &self.triggers,
            &self.triggered_by,
            &self.attempts,
            &self.created_at,
            &self.timeouts,
            &self.inputs,
            &self.sha256s,
            &self.principals,
            &self.keys,
            &self.requests,
            &self.event_ids,
            &self.actors,
            &self.bodies,
            &self.key_ids,
            &self.macs,
            &MAX_DEPTH,
        ]
    }
}

/// Who fills a queue with a limit goes one after the other, over all nodes: the next counts what this one put there, in
/// a statement of its own. Nothing is locked where there is no limit.
pub(crate) const LOCK_QUEUE: &str = "
SELECT pg_advisory_xact_lock(hashtextextended('awooop.queue/' || $1, 0)) FROM project
WHERE project_id = $1 AND max_queued_runs IS NOT NULL";

/// How many runs a queue with a limit has room for, as `n`; no further than the limit is counted. No row: no limit.
macro_rules! room_sql {
    () => {
        "SELECT p.max_queued_runs - (SELECT count(*) FROM
      (SELECT FROM run_queue WHERE project_id = $1 LIMIT p.max_queued_runs) q) AS n
  FROM project p WHERE p.project_id = $1 AND p.max_queued_runs IS NOT NULL"
    };
}
pub(crate) use room_sql;

// an item that is not answered lost its key to another
const CREATE: &str = concat!(
    "
WITH i AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::smallint[], $7::text[], $8::uuid[],
    $9::text[], $10::text[], $11::integer[], $12::timestamptz[], $13::timestamptz[], $14::text[], $15::text[],
    $16::text[], $17::text[], $18::text[], $19::uuid[], $20::text[], $21::text[], $22::text[], $23::bytea[])
  WITH ORDINALITY AS i (run_id, agent_id, version_id, mode, priority, trace_id, parent_run_id, trigger_type,
    triggered_by, max_attempts, created_at, timeout_at, input, input_sha256, principal, key, request_sha256,
    event_id, actor, body, key_id, mac, o)),
room AS MATERIALIZED (",
    room_sql!(),
    "),
t AS MATERIALIZED (   -- the first guard: there is room
  SELECT * FROM i WHERE NOT EXISTS (SELECT FROM room WHERE i.o > room.n)),
p AS MATERIALIZED (   -- the second: the parent has not ended, and whoever ends it comes after this. One look-up each:
  -- a plan that was made when there were few runs and is kept would else read all that the project ever had
  SELECT r.run_id, r.depth FROM (SELECT DISTINCT parent_run_id FROM t WHERE parent_run_id IS NOT NULL
    ORDER BY parent_run_id) c
  CROSS JOIN LATERAL (SELECT run_id, depth FROM run_state WHERE project_id = $1 AND run_id = c.parent_run_id
    AND state NOT IN ('completed', 'failed', 'cancelled', 'timeout') LIMIT 1 FOR SHARE) r),
f AS MATERIALIZED (
  SELECT t.*, coalesce(p.depth + 1, 0) AS depth FROM t LEFT JOIN p ON p.run_id = t.parent_run_id
  WHERE t.parent_run_id IS NULL OR p.depth < $24),
k AS (   -- the third: its key, if it has one, is new
  INSERT INTO idempotency_key (project_id, principal, key, request_sha256, run_id, created_at)
  SELECT $1, principal, key, request_sha256, run_id, created_at FROM f WHERE key IS NOT NULL
  ORDER BY principal, key, o ON CONFLICT DO NOTHING RETURNING run_id),
g AS MATERIALIZED (SELECT * FROM f WHERE key IS NULL OR run_id IN (SELECT run_id FROM k)),
r AS (
  INSERT INTO run_state (project_id, run_id, state, agent_id, agent_version_id, mode, priority, trace_id,
    parent_run_id, trigger_type, triggered_by, max_attempts, created_at, timeout_at, input, input_sha256, depth)
  SELECT $1, run_id, 'pending', agent_id, version_id, mode, priority, trace_id, parent_run_id, trigger_type,
    triggered_by, max_attempts, created_at, timeout_at, input, input_sha256, depth FROM g ORDER BY run_id),
c AS (INSERT INTO run_child (project_id, run_id, parent_run_id)
  SELECT $1, run_id, parent_run_id FROM g WHERE parent_run_id IS NOT NULL ORDER BY run_id),
q AS (INSERT INTO run_queue (project_id, priority, run_id, agent_id, timeout_at)
  SELECT $1, priority, run_id, agent_id, timeout_at FROM g ORDER BY run_id),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
  SELECT $1, event_id, created_at, actor, 'run.create', 'run/' || run_id, run_id, trace_id, body, key_id, mac FROM g)
SELECT o, 'created' FROM g UNION ALL SELECT o, 'full' FROM i WHERE o NOT IN (SELECT o FROM t)
UNION ALL SELECT t.o, CASE WHEN p.run_id IS NULL THEN 'parent_ended' ELSE 'too_deep' END
  FROM t LEFT JOIN p ON p.run_id = t.parent_run_id WHERE t.o NOT IN (SELECT o FROM f)"
);
