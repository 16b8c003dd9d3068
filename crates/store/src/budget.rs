//! Budgets: money moves only by rows. A model call is held before and settled after; what a crash left
//! held is charged in full, because nothing proves that it was not used. A store that does not answer
//! refuses.

use awooop_core::{ErrorCode, ProjectId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::claim::{ClaimedRun, Ticket};
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::Params;

/// Tokens held for one call. The proof a model client asks for; only [`Store::reserve`] makes one.
#[derive(Debug)]
pub struct Hold {
    id: Uuid,
    amount: i64,
}

impl Hold {
    /// Tokens held.
    pub fn amount(&self) -> i64 {
        self.amount
    }

    /// The whole hold, for a call that was cut off: nothing proves that it was not used.
    pub fn in_full(&self) -> Settlement {
        Settlement { hold_id: self.id, amount: self.amount, is_estimated: true }
    }

    /// What the call used. More than was held is charged too: it was used.
    pub fn settle(self, used: i64, is_estimated: bool) -> Settlement {
        Settlement { hold_id: self.id, amount: used.max(0), is_estimated }
    }
}

/// A hold that is asked for; see [`Store::ask_for`].
#[derive(Debug)]
pub struct Ask {
    pub(crate) run: Ticket,
    pub(crate) hold_id: Uuid,
    pub(crate) n: i32,
    pub(crate) amount: i64,
    pub(crate) expires_at: Timestamp,
}

impl Ask {
    /// The hold, once its row is there.
    pub(crate) fn held(&self) -> Hold {
        Hold { id: self.hold_id, amount: self.amount }
    }

    /// The hold's release, for a call that is never made: right whether or not there came to be a hold.
    pub fn unused(&self) -> Settlement {
        self.held().settle(0, false)
    }
}

/// What is to be charged for a hold.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub(crate) hold_id: Uuid,
    pub(crate) amount: i64,
    pub(crate) is_estimated: bool,
}

/// Why nothing could be held.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// The limit leaves no room for this call, whatever is released.
    #[error(
        "the project's budget is spent: {settled} of {limit} tokens are used and this call may need {asked}"
    )]
    Spent {
        /// Tokens charged so far.
        settled: i64,
        /// The limit.
        limit: i64,
        /// Tokens this call may need.
        asked: i64,
    },
    /// There may be room when other calls settle.
    #[error("the rest of the project's budget is held by other calls: {held} tokens")]
    Held {
        /// Tokens held by others.
        held: i64,
    },
    /// The run was taken from this worker.
    #[error("the run was taken from this worker")]
    Fenced,
    /// The database failed: refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReserveError {
    /// The code callers get.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Spent { .. } => ErrorCode::Budget001,
            Self::Held { .. } => ErrorCode::Budget002,
            Self::Fenced => ErrorCode::Run001,
            Self::Store(e) => e.code(),
        }
    }
}

/// A budget as it stands.
#[derive(Debug, Clone)]
pub struct Budget {
    /// `project`.
    pub scope: String,
    /// `tokens`.
    pub unit: String,
    /// Without one, use is recorded and not limited.
    pub limit: Option<i64>,
    /// Charged so far.
    pub settled: i64,
    /// Held by calls under way.
    pub held: i64,
}

impl Store {
    /// Holds `amount` tokens for step `n` of a run, or says why not.
    pub async fn reserve(
        &self,
        run: &ClaimedRun,
        n: i32,
        amount: i64,
        expires_at: Timestamp,
    ) -> Result<Hold, ReserveError> {
        self.reserve_for(self.ask_for(run, n, amount, expires_at)).await
    }

    /// A hold that [`Store::reserve_for`] makes; until then there is none.
    pub fn ask_for(&self, run: &ClaimedRun, n: i32, amount: i64, expires_at: Timestamp) -> Ask {
        Ask { run: run.ticket(), hold_id: self.inner.clock.new_id(), n, amount, expires_at }
    }

    /// Holds what was asked for, or says why not. When the caller is gone by the time there is a hold, it is released.
    ///
    /// # Errors
    /// [`ReserveError`]
    pub async fn reserve_for(&self, ask: Ask) -> Result<Hold, ReserveError> {
        let scope = ask.run.scope.clone();
        self.hold(&scope, ask).await
    }

    /// [`Store::reserve`] in a transaction of its own.
    pub(crate) async fn reserve_alone(&self, ask: &Ask) -> Result<Hold, ReserveError> {
        let Ask { run, hold_id, n, amount, expires_at } = ask;
        let now = self.inner.clock.now();
        let project = run.scope.project().as_str();
        let lock: Params<'_> = &[&project];
        let reserve: Params<'_> =
            &[&project, &run.lease_id, &run.run_id, &run.epoch, hold_id, n, amount, &now, expires_at];
        let lease: Params<'_> = &[&project, &run.lease_id];
        // budget, lease: the lock order. Who would take the run away must lock its lease first, so that
        // RESERVE, which sees everything committed before the lock was had, may read the run plainly.
        let flight = [(LOCK, lock), (crate::journal::LOCK_SHARED, lease), (RESERVE, reserve)];
        let mut rows = self.flight(&run.scope, &flight).await?;
        let answer = rows.pop().unwrap_or_default();
        rows.pop();
        let budget = rows.pop().unwrap_or_default();
        let row = answer.first().ok_or_else(|| StoreError::Corrupt("no answer to reserve".into()))?;
        match (row.get::<_, i64>(0), row.get::<_, i64>(1)) {
            (_, 1) => Ok(ask.held()),
            (0, _) => Err(ReserveError::Fenced),
            _ => {
                let b = budget
                    .first()
                    .ok_or_else(|| StoreError::Corrupt("the project has no budget row".into()))?;
                let (limit, settled, held): (Option<i64>, i64, i64) = (b.get(0), b.get(1), b.get(2));
                let limit = limit.unwrap_or(i64::MAX);
                if settled.saturating_add(*amount) > limit {
                    Err(ReserveError::Spent { settled, limit, asked: *amount })
                } else {
                    Err(ReserveError::Held { held })
                }
            }
        }
    }

    /// Charges a hold on its own, when no step can be recorded with it. Settling twice changes nothing.
    pub async fn settle(&self, scope: &ProjectScope, settlement: &Settlement) -> Result<(), StoreError> {
        let now = self.inner.clock.now();
        let params: Params<'_> = &[
            &scope.project().as_str(),
            &settlement.hold_id,
            &settlement.amount,
            &settlement.is_estimated,
            &now,
        ];
        self.once(scope, SETTLE, params).await?;
        Ok(())
    }

    /// Charges what nobody will settle any more: expired holds, and holds of runs that were taken from a
    /// dead worker. Each in full, marked estimated. Returns how many.
    pub async fn charge_abandoned(&self, project: &ProjectId) -> Result<i64, StoreError> {
        let scope = ProjectScope::new(project.clone(), "platform/reaper");
        let now = self.inner.clock.now();
        // the budget before its holds, as every settlement locks them
        let flight: [(&str, Params<'_>); 2] =
            [(LOCK, &[&project.as_str()]), (CHARGE_ABANDONED, &[&project.as_str(), &now])];
        let rows = self.flight(&scope, &flight).await?.pop().unwrap_or_default();
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }

    /// Projects with expired holds.
    pub async fn projects_with_expired_holds(&self) -> Result<Vec<ProjectId>, StoreError> {
        let now = self.inner.clock.now();
        let rows = self
            .system("SELECT DISTINCT project_id FROM budget_hold WHERE expires_at <= $1", &[&now])
            .await?;
        rows.iter()
            .map(|row| ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string())))
            .collect()
    }

    /// The project's budgets.
    pub async fn list_budgets(&self, scope: &ProjectScope) -> Result<Vec<Budget>, StoreError> {
        let rows = self
            .once(
                scope,
                "SELECT scope, unit, limit_amount, settled, held FROM budget WHERE project_id = $1 ORDER BY scope, unit",
                &[&scope.project().as_str()],
            )
            .await?;
        let budget = |row: &tokio_postgres::Row| Budget {
            scope: row.get(0),
            unit: row.get(1),
            limit: row.get(2),
            settled: row.get(3),
            held: row.get(4),
        };
        Ok(rows.iter().map(budget).collect())
    }
}

pub(crate) const LOCK: &str = "SELECT limit_amount, settled, held FROM budget
  WHERE project_id = $1 AND scope = 'project' AND unit = 'tokens' FOR NO KEY UPDATE";

const RESERVE: &str = "
WITH f AS MATERIALIZED (   -- the fence: this worker still holds the run
  SELECT r.run_id FROM run_lease l JOIN run_state r ON r.project_id = $1 AND r.run_id = $3
    AND r.lease_id = l.lease_id AND r.lease_epoch = $4
  WHERE l.project_id = $1 AND l.lease_id = $2 AND r.state = 'running'),
b AS (   -- the guard: admission in the statement itself
  UPDATE budget SET held = held + $7 FROM f
  WHERE project_id = $1 AND scope = 'project' AND unit = 'tokens'
    AND (limit_amount IS NULL OR settled + held + $7 <= limit_amount) RETURNING budget.project_id),
h AS (INSERT INTO budget_hold (project_id, hold_id, run_id, n, epoch, amount, created_at, expires_at)
  SELECT $1, $5, $3, $6, $4, $7, $8, $9 FROM b)
SELECT (SELECT count(*) FROM f), (SELECT count(*) FROM b)";

// $1 project, $2 hold, $3 amount, $4 is_estimated, $5 now
pub(crate) const SETTLE: &str = "
WITH h AS (   -- the guard: a hold is deleted once
  DELETE FROM budget_hold WHERE project_id = $1 AND hold_id = $2 RETURNING hold_id, run_id, n, amount),
e AS (INSERT INTO budget_ledger (project_id, entry_id, run_id, n, held, amount, is_estimated, reason, at)
  SELECT $1, hold_id, run_id, n, amount, $3, $4, 'settled', $5 FROM h)
UPDATE budget b SET held = b.held - h.amount, settled = b.settled + $3 FROM h
WHERE b.project_id = $1 AND b.scope = 'project' AND b.unit = 'tokens'";

const CHARGE_ABANDONED: &str = "
WITH h AS (
  DELETE FROM budget_hold h WHERE h.project_id = $1 AND (h.expires_at <= $2 OR EXISTS (
      SELECT FROM run_state r WHERE r.project_id = $1 AND r.run_id = h.run_id
        AND r.lease_epoch <> h.epoch AND r.state <> 'cancelled'))
  RETURNING hold_id, run_id, n, amount),
e AS (INSERT INTO budget_ledger (project_id, entry_id, run_id, n, held, amount, is_estimated, reason, at)
  SELECT $1, hold_id, run_id, n, amount, amount, true, 'abandoned', $2 FROM h),
s AS (SELECT coalesce(sum(amount), 0)::bigint AS amount, count(*) AS n FROM h),
b AS (UPDATE budget b SET held = b.held - s.amount, settled = b.settled + s.amount FROM s
  WHERE b.project_id = $1 AND b.scope = 'project' AND b.unit = 'tokens' AND s.n > 0)
SELECT n FROM s";
