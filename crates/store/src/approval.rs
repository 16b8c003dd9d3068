//! Approvals as rows: the inbox, a person's decision, and what becomes of a request that nobody decides in time.
//!
//! A decision locks the approval, inserts its row, and the one that settles it (the first no, or the yes that reaches
//! the number needed) moves approval, timer and run, in one transaction. People are counted, not keys. What a decision
//! allows is executed later, by whoever claims the run, and used up there (`effect`).

use awooop_core::approval::{ApprovalKind, ApprovalState, Decision};
use awooop_core::run::StateName;
use awooop_core::{ErrorCode, ProjectId, RunId};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::audit::{self, AuditEvent, Note};
use crate::auth::Caller;
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::{Params, ProjectTx, storable};

/// Longest reason that is kept, in characters.
pub const MOST_REASON: usize = 1000;

/// A request for people's consent.
#[derive(Debug, Clone)]
pub struct Approval {
    /// Its id, a UUID v7.
    pub approval_id: Uuid,
    /// The run that waits for it.
    pub run_id: RunId,
    /// The step.
    pub n: i32,
    /// What is asked.
    pub kind: ApprovalKind,
    /// Where it stands.
    pub state: ApprovalState,
    /// Whose call it is.
    pub agent_id: String,
    /// The tool's full name.
    pub tool: String,
    /// What the tool does to the world.
    pub risk: String,
    /// What the tool would get, masked as the journal is.
    pub arguments: Value,
    /// The action it is bound to.
    pub action_sha256: String,
    /// What asks.
    pub asked_by: String,
    /// Distinct people who must say yes.
    pub needed: i16,
    /// Since when.
    pub requested_at: Timestamp,
    /// Then it counts as denied.
    pub expires_at: Timestamp,
    /// When it was settled.
    pub decided_at: Option<Timestamp>,
    /// Until when an approved call may be begun.
    pub execute_by: Option<Timestamp>,
    /// What whoever settled it said.
    pub reason: Option<String>,
    /// What people said so far, in the order of their names.
    pub decisions: Vec<PersonsDecision>,
}

/// What one person said.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct PersonsDecision {
    /// Who.
    pub person: String,
    /// `approve`, `deny` or `record`.
    pub decision: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub decided_at: Timestamp,
}

/// Which approvals to list.
#[derive(Debug, Clone, Default)]
pub struct ApprovalFilter {
    /// Only in this state.
    pub state: Option<ApprovalState>,
    /// Only of this run.
    pub run_id: Option<RunId>,
    /// Only older than this one.
    pub before: Option<Uuid>,
    /// How many at most.
    pub limit: i64,
}

/// A decision as a person makes it.
#[derive(Debug, Clone)]
pub struct Ruling {
    /// What.
    pub decision: Decision,
    /// Why; the agent gets the reason of a denial.
    pub reason: Option<String>,
    /// Of [`Decision::Record`]: the journal's output, `{"text", "structured", "is_error"}`.
    pub output: Option<Value>,
}

/// What came of deciding.
#[derive(Debug)]
pub enum Decided {
    /// It counts, now or before.
    Done(Approval),
    /// It was settled before, or this person said something else before.
    Settled(Approval),
    /// Nobody decided in time.
    Expired(Approval),
    /// There is no such approval.
    Absent,
}

const APPROVAL_COLUMNS: &str =
    "a.approval_id, a.run_id, a.n, a.kind, a.state, a.agent_id, a.tool, a.risk, a.arguments,
    a.action_sha256, a.asked_by, a.needed, a.requested_at, a.expires_at, a.decided_at, a.execute_by, a.reason,
    (SELECT jsonb_agg(jsonb_build_object('person', d.person, 'decision', d.decision, 'reason', d.reason,
        'decided_at', d.decided_at) ORDER BY d.person)::text
     FROM approval_decision d WHERE d.project_id = $1 AND d.approval_id = a.approval_id)";

fn approval(row: &Row) -> Result<Approval, StoreError> {
    let corrupt = |e: &dyn std::fmt::Display| StoreError::Corrupt(e.to_string());
    let (kind, state): (&str, &str) = (row.get(3), row.get(4));
    let decisions: Option<&str> = row.get(17);
    Ok(Approval {
        approval_id: row.get(0),
        run_id: row.get(1),
        n: row.get(2),
        kind: ApprovalKind::parse(kind).ok_or_else(|| corrupt(&kind))?,
        state: ApprovalState::parse(state).ok_or_else(|| corrupt(&state))?,
        agent_id: row.get(5),
        tool: row.get(6),
        risk: row.get(7),
        arguments: serde_json::from_str(row.get(8)).map_err(|e| corrupt(&e))?,
        action_sha256: row.get(9),
        asked_by: row.get(10),
        needed: row.get(11),
        requested_at: row.get(12),
        expires_at: row.get(13),
        decided_at: row.get(14),
        execute_by: row.get(15),
        reason: row.get(16),
        decisions: decisions.map_or(Ok(Vec::new()), serde_json::from_str).map_err(|e| corrupt(&e))?,
    })
}

impl Approval {
    fn of(&self, person: &str) -> Option<&PersonsDecision> {
        self.decisions.iter().find(|d| d.person == person)
    }
}

/// How an approval is settled, and what its run does then.
struct Settlement<'a> {
    state: ApprovalState,
    at: Timestamp,
    reason: Option<&'a str>,
    execute_by: Option<Timestamp>,
    failure: Option<(ErrorCode, &'a str)>,
    result: Option<Value>,
}

impl Store {
    /// The project's approvals, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_approvals(
        &self,
        scope: &ProjectScope,
        filter: &ApprovalFilter,
    ) -> Result<Vec<Approval>, StoreError> {
        // what is pending has an index of its own, which a parameter could not use
        let pending =
            if filter.state == Some(ApprovalState::Pending) { "AND a.state = 'pending'" } else { "" };
        let sql = format!(
            "SELECT {APPROVAL_COLUMNS} FROM approval a WHERE a.project_id = $1 AND a.approval_id < $2 {pending}
               AND ($3::text IS NULL OR a.state = $3) AND ($4::uuid IS NULL OR a.run_id = $4)
             ORDER BY a.approval_id DESC LIMIT $5"
        );
        let before = filter.before.unwrap_or(Uuid::max());
        let state = filter.state.map(ApprovalState::as_str);
        let params: Params<'_> = &[&scope.project().as_str(), &before, &state, &filter.run_id, &filter.limit];
        self.once(scope, &sql, params).await?.iter().map(approval).collect()
    }

    /// One approval; `None` also for another project's.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_approval(
        &self,
        scope: &ProjectScope,
        approval_id: Uuid,
    ) -> Result<Option<Approval>, StoreError> {
        let rows = self.once(scope, &find_sql(), &[&scope.project().as_str(), &approval_id]).await?;
        rows.first().map(approval).transpose()
    }

    /// Takes a person's decision. Saying the same twice is the same as once.
    ///
    /// # Errors
    /// The database's.
    pub async fn decide_approval(
        &self,
        by: &Caller,
        person: &str,
        approval_id: Uuid,
        ruling: &Ruling,
    ) -> Result<Decided, StoreError> {
        let mut tx = self.begin(by.scope()).await?;
        let project = by.scope().project().as_str();
        // locked first and read after: whoever held the lock before may have inserted a decision
        tx.rows(LOCK, &[&project, &approval_id]).await?;
        let found = tx.rows(&find_sql(), &[&project, &approval_id]).await?;
        let Some(row) = found.first() else {
            tx.rollback().await?;
            return Ok(Decided::Absent);
        };
        let found = approval(row)?;
        let now = self.inner.clock.now();
        let said = ruling.decision.as_str();
        if found.state != ApprovalState::Pending || found.of(person).is_some() {
            tx.rollback().await?;
            return Ok(match found.of(person) {
                Some(before) if before.decision == said => Decided::Done(found),
                _ if found.state == ApprovalState::Expired => Decided::Expired(found),
                _ => Decided::Settled(found),
            });
        }
        if found.expires_at <= now {
            self.let_expire(tx, by.scope(), found, now).await?;
            return self.settled(by.scope(), approval_id, Decided::Expired).await;
        }
        let redactors = self.known_redactors(by.scope().project());
        let reason = ruling.reason.as_deref().map(|reason| {
            let reason = redactors.to_journal.redactor().clean(storable(reason)).into_inner();
            reason.chars().take(MOST_REASON).collect::<String>()
        });
        let inserted: Params<'_> =
            &[&project, &approval_id, &person, &said, &reason, &by.scope().actor(), &now];
        let yes = tx.rows(DECIDE, inserted).await?;
        let yes: i64 = yes.first().map_or(0, |row| row.get(0));
        let mut events = Vec::with_capacity(2);
        let mut is_ended = false;
        let moved = match self.settlement(&found, ruling, reason.as_deref(), yes, now) {
            Some(settlement) => {
                let moved = self.settle_approval(&mut tx, by.scope(), &found, &settlement).await?;
                is_ended = moved.end.is_some();
                events.extend(moved.end);
                Some(settlement.state)
            }
            None => None,
        };
        let body = json!({"approval_id": approval_id, "decision": said, "person": person, "reason": reason,
            "tool": found.tool, "n": found.n, "action_sha256": found.action_sha256, "approved_by": yes,
            "needed": found.needed, "state": moved.unwrap_or(ApprovalState::Pending)});
        let trace = self.trace_of(&mut tx, project, found.run_id).await?;
        let note = Note::of_run("approval.decide", found.run_id, &trace, body);
        events.push(self.audit_at(by.scope(), now, note));
        audit::insert(&mut tx, by.scope(), &events).await?;
        tx.commit().await?;
        self.inner.figures.ended(StateName::Failed, usize::from(is_ended));
        if moved.is_some() {
            self.inner.wake.run_changed(found.run_id);
            self.inner.wake.work_queued();
        }
        self.settled(by.scope(), approval_id, Decided::Done).await
    }

    /// Ends the waiting of runs whose approval nobody decided in time. Returns how many.
    pub(crate) async fn expire_approval(
        &self,
        scope: &ProjectScope,
        run_id: RunId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin(scope).await?;
        let sql = format!(
            "SELECT {APPROVAL_COLUMNS} FROM approval a WHERE a.project_id = $1 AND a.run_id = $2
               AND a.state = 'pending' AND a.expires_at <= $3 FOR UPDATE OF a"
        );
        let found = tx.rows(&sql, &[&scope.project().as_str(), &run_id, &now]).await?;
        match found.first() {
            Some(row) => self.let_expire(tx, scope, approval(row)?, now).await.map(|()| true),
            None => tx.rollback().await.map(|()| false),
        }
    }

    async fn let_expire(
        &self,
        mut tx: ProjectTx,
        scope: &ProjectScope,
        found: Approval,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let reason = "nobody decided in time";
        let failure = (found.kind == ApprovalKind::Outcome).then_some((
            ErrorCode::Run014,
            "nobody said in time whether the effect of its last step happened",
        ));
        let settlement = Settlement {
            state: ApprovalState::Expired,
            at: now,
            reason: Some(reason),
            execute_by: None,
            failure,
            result: None,
        };
        let moved = self.settle_approval(&mut tx, scope, &found, &settlement).await?;
        let body = json!({"approval_id": found.approval_id, "tool": found.tool, "n": found.n});
        let note = Note::of_run("approval.expire", found.run_id, &moved.trace_id, body);
        let mut events = vec![self.audit_at(scope, now, note)];
        let is_ended = moved.end.is_some();
        events.extend(moved.end);
        audit::insert(&mut tx, scope, &events).await?;
        tx.commit().await?;
        self.inner.figures.ended(StateName::Failed, usize::from(is_ended));
        self.inner.wake.run_changed(found.run_id);
        self.inner.wake.work_queued();
        Ok(())
    }

    /// What a decision settles, given how many said yes with it; `None` when more people are needed.
    fn settlement<'a>(
        &self,
        found: &Approval,
        ruling: &Ruling,
        reason: Option<&'a str>,
        yes: i64,
        now: Timestamp,
    ) -> Option<Settlement<'a>> {
        let settle =
            |state| Settlement { state, at: now, reason, execute_by: None, failure: None, result: None };
        match ruling.decision {
            Decision::Approve if yes < i64::from(found.needed) => None,
            Decision::Approve => {
                // as long again as there was to decide
                let span = found.expires_at.duration_since(found.requested_at);
                let execute_by = now.saturating_add(span).unwrap_or(Timestamp::MAX);
                Some(Settlement { execute_by: Some(execute_by), ..settle(ApprovalState::Approved) })
            }
            Decision::Deny if found.kind == ApprovalKind::Outcome => {
                let said =
                    "a person ended the run: nobody knows whether the effect of its last step happened";
                Some(Settlement { failure: Some((ErrorCode::Run014, said)), ..settle(ApprovalState::Denied) })
            }
            Decision::Deny => Some(settle(ApprovalState::Denied)),
            Decision::Record => {
                let output = ruling.output.clone().unwrap_or_default();
                let body = json!({"input": found.arguments, "output": output, "usage": null, "gates": []});
                Some(Settlement { result: Some(body), ..settle(ApprovalState::Consumed) })
            }
        }
    }

    async fn settle_approval(
        &self,
        tx: &mut ProjectTx,
        scope: &ProjectScope,
        found: &Approval,
        settlement: &Settlement<'_>,
    ) -> Result<Moved, StoreError> {
        let redactors = self.known_redactors(scope.project());
        let is_error = settlement.result.as_ref().is_some_and(|r| r["output"]["is_error"] == json!(true));
        let result = settlement.result.clone();
        let result = result.map(|body| redactors.to_journal.redactor().clean_json(body).to_string());
        let (code, message) = settlement.failure.map(|(c, m)| (c.as_str(), m)).unzip();
        let params: Params<'_> = &[
            &scope.project().as_str(),
            &found.approval_id,
            &settlement.state.as_str(),
            &settlement.at,
            &settlement.reason,
            &settlement.execute_by,
            &code,
            &message,
            &result,
            &if is_error { "error" } else { "ok" },
        ];
        let rows = tx.rows(SETTLE, params).await?;
        let Some(row) = rows.first() else {
            let what = format!("the run of the pending approval {} does not wait for it", found.approval_id);
            return Err(StoreError::Corrupt(what));
        };
        let trace_id: String = row.get(0);
        let end = code.map(|code| {
            let body = json!({"state": "failed", "error_code": code, "output_sha256": null});
            self.audit_at(scope, settlement.at, Note::of_run("run.end", found.run_id, &trace_id, body))
        });
        Ok(Moved { trace_id, end })
    }

    async fn trace_of(&self, tx: &mut ProjectTx, project: &str, run_id: RunId) -> Result<String, StoreError> {
        let sql = "SELECT trace_id FROM run_state WHERE project_id = $1 AND run_id = $2";
        let rows = tx.rows(sql, &[&project, &run_id]).await?;
        rows.first()
            .map(|row| row.get(0))
            .ok_or_else(|| StoreError::Corrupt("an approval without a run".into()))
    }

    async fn settled(
        &self,
        scope: &ProjectScope,
        approval_id: Uuid,
        how: fn(Approval) -> Decided,
    ) -> Result<Decided, StoreError> {
        Ok(self.find_approval(scope, approval_id).await?.map_or(Decided::Absent, how))
    }

    /// Ends the waiting of one project's runs whose time to wait is over, at most `limit` of them.
    pub(crate) async fn expire_waiting_of(
        &self,
        project: &ProjectId,
        now: Timestamp,
        limit: i64,
    ) -> Result<usize, StoreError> {
        let scope = ProjectScope::new(project.clone(), "platform/timer");
        let sql =
            "SELECT run_id, kind FROM run_timer WHERE project_id = $1 AND due_at <= $2 AND kind NOT IN ('retry', 'halt')
                   ORDER BY run_id LIMIT $3";
        let due = self.once(&scope, sql, &[&project.as_str(), &now, &limit]).await?;
        let mut ended = 0;
        for row in due {
            let run_id: RunId = row.get(0);
            let is_moved = match row.get(1) {
                "approval" => self.expire_approval(&scope, run_id, now).await,
                _ => self.expire_result(&scope, run_id, now).await,
            };
            match is_moved {
                Ok(is_moved) => ended += usize::from(is_moved),
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                // one run's trouble is not the others'
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, %run_id, "a run's waiting could not be ended");
                }
            }
        }
        Ok(ended)
    }
}

/// What settling did to the run.
struct Moved {
    trace_id: String,
    end: Option<AuditEvent>,
}

fn find_sql() -> String {
    format!("SELECT {APPROVAL_COLUMNS} FROM approval a WHERE a.project_id = $1 AND a.approval_id = $2")
}

const LOCK: &str = "SELECT approval_id FROM approval WHERE project_id = $1 AND approval_id = $2 FOR UPDATE";

const DECIDE: &str = "
WITH d AS (INSERT INTO approval_decision (project_id, approval_id, person, decision, reason, actor, decided_at)
  VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING decision)
SELECT (SELECT count(*) FROM approval_decision WHERE project_id = $1 AND approval_id = $2 AND decision = 'approve')
  + (SELECT count(*) FROM d WHERE decision = 'approve')";

// a run that was asked for waits no longer than its own time says, plus the time it waited
const SETTLE: &str = "
WITH p AS (
  UPDATE approval SET state = $3, decided_at = $4, reason = $5, execute_by = $6
  WHERE project_id = $1 AND approval_id = $2 AND state = 'pending'
  RETURNING run_id, n, epoch, tool, requested_at),
t AS (   -- the guard: whoever deletes the timer moves the run
  DELETE FROM run_timer k USING p WHERE k.project_id = $1 AND k.run_id = p.run_id AND k.kind = 'approval'
    AND k.epoch = p.epoch RETURNING p.run_id, p.n, p.tool, p.requested_at),
u AS (
  UPDATE run_state r SET state = CASE WHEN $7::text IS NULL THEN 'pending' ELSE 'failed' END,
    completed_at = CASE WHEN $7::text IS NOT NULL THEN $4::timestamptz END, error_code = $7, error_message = $8,
    lease_epoch = r.lease_epoch + 1, timeout_at = r.timeout_at + ($4 - t.requested_at)
  FROM t WHERE r.project_id = $1 AND r.run_id = t.run_id AND r.state = 'waiting_approval'
  RETURNING r.run_id, r.state, r.lease_epoch, r.priority, r.agent_id, r.timeout_at, r.trace_id, t.n, t.tool),
q AS (INSERT INTO run_queue (project_id, priority, run_id, agent_id, timeout_at)
  SELECT $1, priority, run_id, agent_id, timeout_at FROM u WHERE state = 'pending'),
j AS (INSERT INTO step_journal (project_id, run_id, n, phase, epoch, kind, name, idempotency_key, status, started_at,
    duration_ms, body)
  SELECT $1, run_id, -lease_epoch::int, 'resumed', lease_epoch, 'state', state, run_id || ':' || -lease_epoch, 'ok',
    $4, 0, '{}' FROM u
  UNION ALL
  SELECT $1, run_id, n, 'result', lease_epoch, 'tool', tool, run_id || ':' || n, $10, $4, 0, $9 FROM u
  WHERE $9::text IS NOT NULL)
SELECT trace_id FROM u";
