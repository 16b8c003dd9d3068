//! Taking a deleted project's rows away. A sweep goes from project to project, and in each as far as it can: what services
//! find work by goes as the tenants' role, so that a node without the retention role leaves nothing to be found either;
//! then a checkpoint of the project's audit is recorded in the operators' own, in the transaction that lets the retention
//! role begin; then everything else goes in batches; then the tombstone says so.
//!
//! The checkpoint comes once nobody writes there any more: no transaction of the tenants' role is open that began before
//! this look. A batch is one transaction, and what is gone is not looked for again, so a sweep may be killed anywhere. Two
//! that meet take turns by an advisory lock.

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
use super::{Deletion, DeletionState, count};
use crate::audit::{self, Note};
use crate::error::StoreError;
use crate::pool::{OpenError, Store, pool, refuse_unsafe};
use crate::scope::ProjectScope;
use crate::tx::{Params, ProjectTx};

/// Rows of one transaction.
const BATCH: i64 = 1000;
/// How long counting one table may take before the checkpoint.
const COUNT_WITHIN: &str = "600s";
/// How often a sweep looks for transactions that are still open, and how long it waits between two looks.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// How long after a deletion every process has looked.
const LATELY: SignedDuration = SignedDuration::from_mins(10);
/// Who does it, in the audit.
const ACTOR: &str = "platform/retention";

/// How far a sweep came with one project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Somebody's transaction from before the mark is still open: the next sweep goes on.
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
        Ok(Self { store, pool, batch: BATCH, first_looks: Mutex::default() })
    }

    /// The same with so many rows a transaction.
    #[must_use]
    pub fn with_batch(self, rows: i64) -> Self {
        Self { batch: rows.max(1), ..self }
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
        self.store.check_mark(&scope).await?;
        let mut rows = self.drain(&scope).await?;
        if deletion.state == DeletionState::Marked && !self.close(&scope).await? {
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

    /// Records the checkpoint and lets the retention role begin. False while somebody who began before the mark may still
    /// write there, or seals there.
    async fn close(&self, scope: &ProjectScope) -> Result<bool, StoreError> {
        if !self.is_quiet(scope).await?
            || self.store.seal_in(scope, Uuid::nil(), &HashSet::new()).await?.is_busy
        {
            return Ok(false);
        }
        let platform = ProjectScope::new(ProjectId::platform(), ACTOR);
        let head = self.store.audit_head(scope).await?;
        self.store.redactors(&platform).await?;
        let mut tx = self.store.begin(scope).await?;
        tx.rows("SELECT set_config('statement_timeout', $1, true)", &[&COUNT_WITHIN]).await?;
        let counts = count(&mut tx, scope.project()).await?;
        let events = counts.iter().find(|(table, _)| *table == "audit_event").map_or(0, |(_, n)| *n);
        let mut checkpoint = json!({
            "last_seal": head.as_ref().map_or(0, |head| head.seal.n),
            "head": head.as_ref().map(|head| &head.hash),
            "sealed_events": head.as_ref().map_or(0, |head| head.seal.total),
            "events": events,
            "rows": counts.into_iter().collect::<BTreeMap<_, _>>(),
        });
        let now = self.store.inner.clock.now();
        let params: Params<'_> = &[&scope.project().as_str(), &now, &json::canonical(&checkpoint)];
        let closed = tx.rows(CLOSE, params).await?;
        let Some(row) = closed.first() else { return tx.rollback().await.map(|()| true) };
        checkpoint["requested_by"] = json!(row.get::<_, &str>(0));
        checkpoint["requested_at"] = json!(row.get::<_, Timestamp>(1));
        checkpoint["reason"] = json!(row.get::<_, &str>(2));
        self.record(tx, &platform, scope, "project.checkpoint", checkpoint).await?;
        Ok(true)
    }

    /// Is no transaction open that may have begun before the mark? What begins later is refused.
    async fn is_quiet(&self, scope: &ProjectScope) -> Result<bool, StoreError> {
        let rows = self.store.once(scope, "SELECT clock_timestamp()", &[]).await?;
        let read_at: Timestamp = rows.first().ok_or_else(|| StoreError::Corrupt("no time".into()))?.get(0);
        let since = {
            let mut looks = self.first_looks.lock().unwrap_or_else(PoisonError::into_inner);
            *looks.entry(scope.project().clone()).or_insert(read_at)
        };
        for _ in 0..LOOKS {
            let rows = self.store.once(scope, OPEN, &[&since]).await?;
            if rows.first().is_some_and(|row| row.get(0)) {
                return Ok(true);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Ok(false)
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

const CLOSE: &str = "
UPDATE project_deletion SET state = 'erasing', erasing_at = $2, checkpoint = $3
WHERE project_id = $1 AND state = 'marked' RETURNING requested_by, requested_at, reason";

// the sessions of one's own role are seen whole, whichever node's they are
const OPEN: &str = "
SELECT NOT EXISTS (SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid() AND xact_start < $1)";
