//! Taking a deleted project's rows away. A sweep goes from project to project, and in each as far as it can: what services
//! find work by goes as the tenants' role, so that a node without the retention role leaves nothing to be found either;
//! then a checkpoint of the project's audit is recorded in the operators' own, in the transaction that lets the retention
//! role begin; then everything else goes in batches; then the tombstone says so.
//!
//! The checkpoint comes once nobody writes there any more: no transaction of the tenants' or the retention role is open
//! that began before this look. A batch is one transaction, and what is gone is not looked for again, so a sweep may be
//! killed anywhere. Two that meet take turns by an advisory lock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use awooop_core::ProjectId;
use awooop_core::json;
use deadpool_postgres::Pool;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use super::tables::{DRAINED, TABLES, delete_some, finish};
use super::{Deletion, DeletionState};
use crate::audit::{self, AuditFilter, Note};
use crate::error::StoreError;
use crate::pool::{OpenError, Store, pool, refuse_unsafe};
use crate::scope::ProjectScope;
use crate::tx::{Params, ProjectTx};

/// Rows of one transaction.
const BATCH: i64 = 1000;
/// How long counting one table may take before the checkpoint, which then goes without that number.
const COUNT_WITHIN: Duration = Duration::from_mins(10);
/// How often a sweep looks for transactions that are still open, and how long it waits between two looks.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// How long after a mark its stop is there to be seen: the watchers of every process, which cut calls by it, look a few
/// times a second, and what they did not see in time they never see.
const SEEN_WITHIN: &str = "2s";
/// How far the clocks of two servers may be apart.
const APART: SignedDuration = SignedDuration::from_hours(1);
/// How long after a deletion every process has looked.
const LATELY: SignedDuration = SignedDuration::from_mins(10);
/// Who does it, in the audit.
const ACTOR: &str = "platform/retention";

/// How far a sweep came with one project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Somebody's transaction from before the mark is still open, or another sweep is there: the next one goes on.
    Busy,
    /// Everything but the rows is done, and this process has no role that deletes them.
    Waits,
    /// No row is left.
    Deleted {
        /// Rows that this sweep deleted.
        rows: u64,
    },
}

/// Whoever takes rows of deleted projects away, with or without the role that may.
pub struct Eraser {
    store: Store,
    pool: Option<Pool>,
    batch: i64,
    count_within: Duration,
    /// When this process first looked at a project, by the database's clock: it was marked by then.
    first_looks: Mutex<HashMap<ProjectId, Timestamp>>,
}

impl Eraser {
    /// Opens the connection of the role that deletes, where there is its URL.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open(store: Store, url: Option<&SecretString>) -> Result<Self, OpenError> {
        let pool = match url {
            None => None,
            Some(url) => {
                let variable = "AWOOOP_RETENTION_DATABASE_URL";
                let pool = pool(variable, url, 1)?;
                refuse_unsafe(variable, &pool).await?;
                Some(pool)
            }
        };
        store.inner.is_erasing.store(pool.is_some(), Ordering::Relaxed);
        Ok(Self { store, pool, batch: BATCH, count_within: COUNT_WITHIN, first_looks: Mutex::default() })
    }

    /// The same with so many rows a transaction.
    #[must_use]
    pub fn with_batch(self, rows: i64) -> Self {
        Self { batch: rows.max(1), ..self }
    }

    /// The same with so much time to count a table, in whole milliseconds, at least one.
    #[must_use]
    pub fn with_count_time(self, within: Duration) -> Self {
        Self { count_within: within.max(Duration::from_millis(1)), ..self }
    }

    /// Goes on with every deletion that is not done. What fails for one project is logged.
    ///
    /// # Errors
    /// When discovery fails.
    pub async fn run_once(&self) -> Result<Vec<(ProjectId, Progress)>, StoreError> {
        self.forget_keys().await?;
        let (mut after, mut all) = (String::new(), Vec::new());
        loop {
            let page = self.store.list_deletions(&after, true, 200).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = last.project.to_string();
            for deletion in page {
                match self.go_on(&deletion).await {
                    Ok(progress) => all.push((deletion.project, progress)),
                    Err(error) => {
                        let (error, project) = (&error as &dyn std::error::Error, deletion.project.as_str());
                        tracing::error!(error, project, "a deleted project's rows could not be deleted");
                    }
                }
            }
        }
    }

    /// Lets go of what this process kept of projects that were deleted lately, whoever deletes their rows.
    async fn forget_keys(&self) -> Result<(), StoreError> {
        let since = self.store.inner.clock.now().saturating_sub(LATELY).unwrap_or(Timestamp::MIN);
        let sql = "SELECT project_id FROM project_deletion WHERE state <> 'deleted' OR deleted_at > $1";
        for row in self.store.system(sql, &[&since]).await? {
            let project = ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            self.store.inner.known.forget(&project);
        }
        Ok(())
    }

    /// Goes on with one deletion.
    async fn go_on(&self, deletion: &Deletion) -> Result<Progress, StoreError> {
        let project = &deletion.project;
        let scope = ProjectScope::of_deleted(project.clone(), ACTOR);
        self.store.keep_mark(&scope).await?;
        let mut rows = self.drain(&scope).await?;
        if !self.has_checkpoint(deletion).await? && !self.close(&scope, deletion).await? {
            return Ok(Progress::Busy);
        }
        let Some(pool) = &self.pool else { return Ok(Progress::Waits) };
        for (table, keys) in TABLES {
            let sql = delete_some(table, keys);
            loop {
                let deleted = delete_as_retention(pool, project, &sql, self.batch).await?;
                rows += deleted;
                if deleted == 0 {
                    break;
                }
            }
        }
        self.finish(&scope, rows).await
    }

    /// What services find work by.
    async fn drain(&self, scope: &ProjectScope) -> Result<u64, StoreError> {
        let mut rows = 0;
        for (table, keys) in &TABLES[..DRAINED] {
            let sql = delete_some(table, keys);
            loop {
                let params: Params<'_> = &[&scope.project().as_str(), &self.batch];
                match self.store.once(scope, &sql, params).await?.len() as u64 {
                    0 => break,
                    deleted => rows += deleted,
                }
            }
        }
        Ok(rows)
    }

    /// Is the project's checkpoint in the operators' audit, by a server's word? What the row says of itself, anybody can
    /// have written who writes to the database as a server does.
    async fn has_checkpoint(&self, deletion: &Deletion) -> Result<bool, StoreError> {
        if deletion.state == DeletionState::Marked {
            return Ok(false);
        }
        let platform = ProjectScope::new(ProjectId::platform(), ACTOR);
        let filter = AuditFilter {
            action: Some(CHECKPOINT.to_owned()),
            subject: Some(format!("project/{}", deletion.project)),
            since: Some(deletion.requested_at.saturating_sub(APART).unwrap_or(Timestamp::MIN)),
            limit: 50,
            ..AuditFilter::default()
        };
        let found = self.store.search_audit(&platform, &filter).await?;
        Ok(found.iter().any(|event| self.store.judge(event).is_ok()))
    }

    /// Records the checkpoint and lets the retention role begin. False while somebody who began before the mark may still
    /// write there, or seals there, and when the deletion is not as it was seen any more.
    async fn close(&self, scope: &ProjectScope, deletion: &Deletion) -> Result<bool, StoreError> {
        if !self.is_quiet(scope).await?
            || self.store.seal_in(scope, Uuid::nil(), &HashSet::new()).await?.is_busy
        {
            return Ok(false);
        }
        let platform = ProjectScope::new(ProjectId::platform(), ACTOR);
        let head = self.store.audit_head(scope).await?;
        self.store.redactors(&platform).await?;
        let mut tx = self.store.begin(scope).await?;
        let counts = self.count(&mut tx, scope.project()).await?;
        let mut checkpoint = json!({
            "last_seal": head.as_ref().map_or(0, |head| head.seal.n),
            "head": head.as_ref().map(|head| &head.hash),
            "sealed_events": head.as_ref().map_or(0, |head| head.seal.total),
            "events": counts.get("audit_event").map_or(json!(0), |n| json!(n)),
            "rows": counts,
        });
        let now = self.store.inner.clock.now();
        let params: Params<'_> = &[
            &scope.project().as_str(),
            &now,
            &json::canonical(&checkpoint),
            &deletion.state.as_str(),
            &deletion.erasing_at,
        ];
        let closed = tx.rows(CLOSE, params).await?;
        let Some(row) = closed.first() else { return tx.rollback().await.map(|()| false) };
        checkpoint["requested_by"] = json!(row.get::<_, &str>(0));
        checkpoint["requested_at"] = json!(row.get::<_, Timestamp>(1));
        checkpoint["reason"] = json!(row.get::<_, &str>(2));
        self.record(tx, &platform, scope, CHECKPOINT, checkpoint).await?;
        Ok(true)
    }

    /// Counts the rows of every table that has some; null where that takes too long.
    async fn count(
        &self,
        tx: &mut ProjectTx,
        project: &ProjectId,
    ) -> Result<BTreeMap<&'static str, Option<i64>>, StoreError> {
        let within = format!("{}ms", self.count_within.as_millis());
        tx.rows("SELECT set_config('statement_timeout', $1, true)", &[&within]).await?;
        let mut counts = BTreeMap::new();
        for (table, _) in TABLES {
            tx.batch("SAVEPOINT counting").await?;
            let sql = format!("SELECT count(*) FROM {table} WHERE project_id = $1");
            let n = match tx.rows(&sql, &[&project.as_str()]).await {
                Ok(rows) => Some(rows.first().map_or(0, |row| row.get(0))),
                Err(error) if error.is_too_slow() => {
                    tx.batch("ROLLBACK TO SAVEPOINT counting").await?;
                    None
                }
                Err(error) => return Err(error),
            };
            if n != Some(0) {
                counts.insert(*table, n);
            }
        }
        tx.batch("SET LOCAL statement_timeout TO DEFAULT").await?;
        Ok(counts)
    }

    /// Has every process seen the stop, and is no transaction open that may have begun before the mark? What begins later
    /// is refused.
    async fn is_quiet(&self, scope: &ProjectScope) -> Result<bool, StoreError> {
        let rows = self.store.once(scope, "SELECT clock_timestamp()", &[]).await?;
        let read_at: Timestamp = rows.first().ok_or_else(|| StoreError::Corrupt("no time".into()))?.get(0);
        let since = {
            let mut looks = self.first_looks.lock().unwrap_or_else(PoisonError::into_inner);
            *looks.entry(scope.project().clone()).or_insert(read_at)
        };
        let seen_and_quiet = format!("SELECT {QUIET} AND {SEEN}");
        for _ in 0..LOOKS {
            let params: Params<'_> = &[&since, &scope.project().as_str(), &SEEN_WITHIN];
            let rows = self.store.once(scope, &seen_and_quiet, params).await?;
            if rows.first().is_some_and(|row| row.get(0)) && self.is_retention_quiet(scope, since).await? {
                return Ok(true);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Ok(false)
    }

    /// Has the retention role no such transaction? Without that role nobody sees when its transactions began: then a
    /// process that has the role is left to go on, if there is one.
    async fn is_retention_quiet(&self, scope: &ProjectScope, since: Timestamp) -> Result<bool, StoreError> {
        let rows = match &self.pool {
            Some(pool) => pool.get().await?.query(&format!("SELECT {QUIET}"), &[&since]).await?,
            None => self.store.once(scope, NO_RETENTION, &[]).await?,
        };
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// The end: no row is left, and the tombstone says so.
    async fn finish(&self, scope: &ProjectScope, rows: u64) -> Result<Progress, StoreError> {
        let platform = ProjectScope::new(ProjectId::platform(), ACTOR);
        self.store.redactors(&platform).await?;
        let mut tx = self.store.begin(scope).await?;
        let now = self.store.inner.clock.now();
        if tx.rows(&finish(), &[&scope.project().as_str(), &now]).await?.is_empty() {
            tx.rollback().await?;
            return Ok(Progress::Busy);
        }
        self.record(tx, &platform, scope, "project.erase", json!({})).await?;
        self.first_looks.lock().unwrap_or_else(PoisonError::into_inner).remove(scope.project());
        Ok(Progress::Deleted { rows })
    }

    /// Records what was done to the project in the operators' audit, and makes both durable.
    async fn record(
        &self,
        mut tx: ProjectTx,
        platform: &ProjectScope,
        scope: &ProjectScope,
        action: &'static str,
        said: Value,
    ) -> Result<(), StoreError> {
        tx.go_on_in(platform).await?;
        let note = Note::new(action, format!("project/{}", scope.project()), said);
        audit::insert(&mut tx, platform, &[self.store.audit(platform, note)]).await?;
        tx.commit().await
    }
}

/// One batch, in a transaction of its own.
async fn delete_as_retention(
    pool: &Pool,
    project: &ProjectId,
    sql: &str,
    batch: i64,
) -> Result<u64, StoreError> {
    let mut connection = pool.get().await?;
    let tx = connection.transaction().await?;
    let project = project.as_str();
    tx.execute("SELECT awooop.set_deleted_project($1)", &[&project]).await?;
    tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('awooop.deletion/' || $1, 0))", &[&project])
        .await?;
    let deleted = tx.execute(sql, &[&project, &batch]).await?;
    tx.commit().await?;
    Ok(deleted)
}

/// What the operators' audit calls the checkpoint.
const CHECKPOINT: &str = "project.checkpoint";

const CLOSE: &str = "
UPDATE project_deletion SET state = 'erasing', erasing_at = $2, checkpoint = $3
WHERE project_id = $1 AND state = $4 AND erasing_at IS NOT DISTINCT FROM $5
RETURNING requested_by, requested_at, reason";

// the sessions of one's own role are seen whole, whichever node's they are; one that is not idle and does not say since
// when may be any
const QUIET: &str = "NOT EXISTS (SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
    AND (xact_start < $1 OR xact_start IS NULL AND state IS DISTINCT FROM 'idle'))";

const SEEN: &str = "EXISTS (SELECT FROM project_deletion
  WHERE project_id = $2 AND requested_at + $3::text::interval <= clock_timestamp())";

const NO_RETENTION: &str = "
SELECT NOT EXISTS (SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND usename = 'awooop_retention')";
