//! How much a project has stored, counted for those whose contract limits it. A count reads every row that grows with
//! use, page by page in short transactions of the project's own, so it is of no one moment; it is taken again after ten
//! minutes, or after a hundred times as long as it took, whichever is more: counting costs at most a hundredth of one
//! session. Whoever takes a count that is due puts the next one off first, so that one node counts.

use std::time::{Duration, Instant};

use awooop_core::ProjectId;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// Between two looks for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The least time between two counts of a project.
const COUNT_EVERY: SignedDuration = SignedDuration::from_mins(10);
/// A count may take this share of the time.
const SHARE: i32 = 100;
/// Rows, or runs with their steps, that one statement reads.
const PAGE: i64 = 1_000;
/// Projects that one look counts.
const PROJECTS: i64 = 100;

/// One page of a table's rows after a key: the last key, and the bytes of the rows, as they lie in the database.
macro_rules! rows_of {
    ($table:literal, $key:literal) => {
        concat!(
            "WITH p AS MATERIALIZED (SELECT t.",
            $key,
            " AS k, pg_column_size(t.*) AS n FROM ",
            $table,
            " t WHERE t.project_id = $1 AND t.",
            $key,
            " > $2 ORDER BY t.",
            $key,
            " LIMIT $3) SELECT (SELECT k FROM p ORDER BY k DESC LIMIT 1), (SELECT coalesce(sum(n), 0)::bigint FROM p)"
        )
    };
}

/// What grows with use. Contracts, keys and the like are bounded by what people write.
const PAGES: [&str; 6] = [
    rows_of!("run_state", "run_id"),
    rows_of!("mcp_call", "call_id"),
    rows_of!("approval", "approval_id"),
    rows_of!("budget_ledger", "entry_id"),
    rows_of!("audit_event", "id"),
    "WITH p AS MATERIALIZED (SELECT run_id FROM run_state WHERE project_id = $1 AND run_id > $2 ORDER BY run_id LIMIT $3)
SELECT (SELECT run_id FROM p ORDER BY run_id DESC LIMIT 1),
  (SELECT coalesce(sum(pg_column_size(s.*)), 0)::bigint FROM step_journal s
   WHERE s.project_id = $1 AND s.run_id IN (SELECT run_id FROM p))",
];

const DUE: &str =
    "SELECT project_id FROM project WHERE storage_due_at <= $1 ORDER BY storage_due_at LIMIT $2";

const TAKE: &str = "UPDATE project SET storage_due_at = $2 WHERE project_id = $1 AND storage_due_at <= $3 RETURNING project_id";

const KEEP: &str = "UPDATE project SET stored_bytes = $2, storage_counted_at = $3, storage_due_at = $4
WHERE project_id = $1 AND max_storage_bytes IS NOT NULL";

impl Store {
    /// Counts what is due, for as long as this is polled.
    pub async fn keep_counting_storage(self) {
        loop {
            if let Err(error) = self.count_storage().await {
                tracing::debug!(%error, "nobody could be asked whose storage is to be counted");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Counts the storage of every project whose count is due. Returns how many were counted. What fails for one
    /// project is logged, and tried again when its next count is due.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn count_storage(&self) -> Result<usize, StoreError> {
        let mut counted = 0;
        for row in self.system(DUE, &[&self.inner.clock.now(), &PROJECTS]).await? {
            let project = ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            let scope = ProjectScope::new(project, "platform/storage");
            match self.count_storage_of(&scope).await {
                Ok(is_ours) => counted += usize::from(is_ours),
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => {
                    let (error, project) = (&error as &dyn std::error::Error, scope.project().as_str());
                    tracing::error!(error, project, "a project's storage could not be counted");
                }
            }
        }
        Ok(counted)
    }

    /// Whether the count was ours to take.
    async fn count_storage_of(&self, scope: &ProjectScope) -> Result<bool, StoreError> {
        let (project, began, now) = (scope.project().as_str(), Instant::now(), self.inner.clock.now());
        let soonest = now.saturating_add(COUNT_EVERY).unwrap_or(Timestamp::MAX);
        if self.once(scope, TAKE, &[&project, &soonest, &now]).await?.is_empty() {
            return Ok(false);
        }
        let mut bytes = 0;
        for page in PAGES {
            bytes += self.bytes_of(scope, page).await?;
        }
        let took = SignedDuration::try_from(began.elapsed()).unwrap_or(SignedDuration::MAX);
        let wait = took.checked_mul(SHARE).unwrap_or(SignedDuration::MAX).max(COUNT_EVERY);
        let (done_at, stored) = (self.inner.clock.now(), bytes);
        let next_at = done_at.saturating_add(wait).unwrap_or(Timestamp::MAX);
        self.once(scope, KEEP, &[&project, &stored, &done_at, &next_at]).await?;
        Ok(true)
    }

    async fn bytes_of(&self, scope: &ProjectScope, page: &'static str) -> Result<i64, StoreError> {
        let (project, mut after, mut bytes) = (scope.project().as_str(), Uuid::nil(), 0_i64);
        loop {
            let rows = self.once(scope, page, &[&project, &after, &PAGE]).await?;
            let Some(row) = rows.first() else { return Ok(bytes) };
            bytes = bytes.saturating_add(row.get(1));
            match row.get(0) {
                Some(last) => after = last,
                None => return Ok(bytes),
            }
        }
    }
}
