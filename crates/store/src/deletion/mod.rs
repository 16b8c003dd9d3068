//! Deleting a project. One statement marks it (`Store::delete_project`); from its commit on the database itself lets
//! nobody begin a transaction in it (`awooop.set_project`), on no node and whatever was cached there. Then its rows go
//! (`Eraser`): first what services look for, then, once a checkpoint of its audit lies in the operators' own, everything
//! else, as the role `awooop_retention`, which row security lets delete nothing before that.
//!
//! The mark carries a MAC under a key outside the database, without which no row goes: who can write to the database as a
//! server does can keep a project from working, and not have it erased. Nor does a row go whose project has no checkpoint
//! that a server recorded, whatever the state says.
//!
//! The mark stays as a tombstone: audit and backups name the id, so nobody gets it again. Every step may be cut off
//! anywhere and is finished by the next sweep of any node.
//! Deliberately absent: a way back. What is marked goes.

mod erase;
mod mark;
mod tables;

use std::sync::atomic::Ordering;

pub use erase::{Eraser, Progress};
pub use tables::TABLES;

use awooop_core::ProjectId;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio_postgres::Row;

use self::mark::Mark;
use self::tables::with_rows;
use crate::audit::{self, Note};
use crate::auth::Caller;
use crate::doctor::Finding;
use crate::error::StoreError;
use crate::keyring::KeyName;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::{Params, storable};

/// Longest reason that is kept, in characters.
const MOST_REASON: usize = 500;

/// How long a deletion may take before the doctor names it.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// How far a deletion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionState {
    /// Nothing of the project is served; its rows are there.
    Marked,
    /// The checkpoint is recorded, and rows go.
    Erasing,
    /// No row is left but the tombstone.
    Deleted,
}

impl DeletionState {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            DeletionState::Marked => "marked",
            DeletionState::Erasing => "erasing",
            DeletionState::Deleted => "deleted",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Marked, Self::Erasing, Self::Deleted]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| StoreError::Corrupt(text.to_owned()))
    }
}

/// A project that is being deleted, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The project's id, which nobody gets again.
    pub project: ProjectId,
    /// How far it is.
    pub state: DeletionState,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// Since when rows go.
    pub erasing_at: Option<Timestamp>,
    /// When the last row was gone.
    pub deleted_at: Option<Timestamp>,
}

/// Rows of a project, by table; tables without any are left out, and those with more than [`MOST_COUNTED`] have one more.
pub type Counts = Vec<(&'static str, i64)>;

/// How many rows of a table are counted for somebody who waits.
pub const MOST_COUNTED: i64 = 1_000_000;

impl Store {
    /// Marks a project as being deleted, on behalf of a platform admin, and wakes whoever erases. The answer says how the
    /// deletion stands and whether it is new; `None` when there is no such project. Doing it twice keeps the first time,
    /// person and reason, and signs anew a mark that could not be believed any more.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_project(
        &self,
        by: &Caller,
        project: &ProjectId,
        reason: &str,
    ) -> Result<Option<(Deletion, bool)>, StoreError> {
        let scope = ProjectScope::new(project.clone(), by.scope().actor());
        let mut tx = match self.begin(&scope).await {
            Err(StoreError::Deleted) => {
                self.confirm_mark(by, project, reason).await?;
                return Ok(self.find_deletion(project).await?.map(|d| (d, false)));
            }
            begun => begun?,
        };
        let platform = ProjectScope::new(ProjectId::platform(), by.scope().actor());
        let reason = self.clean_reason(&platform, reason).await?;
        let now = self.inner.clock.now();
        let said = || Note::new("project.delete", format!("project/{project}"), json!({"reason": reason}));
        let inside = self.audit_at(&scope, now, said());
        let mark = Mark { project, at: now, by: scope.actor(), reason: &reason };
        let (key_id, mac) = self.inner.keyring.sign(KeyName::KeyPepper, &mark.text());
        let params: Params<'_> = &[
            &project.as_str(),
            &now,
            &scope.actor(),
            &reason,
            &inside.id,
            &inside.subject,
            &inside.body,
            &inside.key_id,
            &inside.mac,
            &key_id,
            &mac,
        ];
        if tx.rows(MARK, params).await?.is_empty() {
            tx.rollback().await?;
            return Ok(self.find_deletion(project).await?.map(|d| (d, false)));
        }
        tx.go_on_in(&platform).await?;
        audit::insert(&mut tx, &platform, &[self.audit_at(&platform, now, said())]).await?;
        tx.commit().await?;
        self.inner.deletion_asked.notify_one();
        Ok(self.find_deletion(project).await?.map(|d| (d, true)))
    }

    /// How a project's deletion stands; `None` where nobody asked for one.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_deletion(&self, project: &ProjectId) -> Result<Option<Deletion>, StoreError> {
        let sql = "SELECT project_id, state, requested_at, erasing_at, deleted_at FROM project_deletion
                   WHERE project_id = $1";
        self.system(sql, &[&project.as_str()]).await?.first().map(deletion).transpose()
    }

    /// Deletions of projects after `after`, by id; with `is_open`, those that are not done.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_deletions(
        &self,
        after: &str,
        is_open: bool,
        limit: i64,
    ) -> Result<Vec<Deletion>, StoreError> {
        let sql = "SELECT project_id, state, requested_at, erasing_at, deleted_at FROM project_deletion
                   WHERE project_id > $1 AND (state <> 'deleted' OR NOT $2) ORDER BY project_id LIMIT $3";
        self.system(sql, &[&after, &is_open, &limit]).await?.iter().map(deletion).collect()
    }

    /// What a deletion would take away, counted now: for somebody who looks before they ask. `None` when there is no such
    /// project.
    ///
    /// # Errors
    /// The database's; [`StoreError::Deleted`] once it was asked for.
    pub async fn count_project(
        &self,
        by: &Caller,
        project: &ProjectId,
    ) -> Result<Option<Counts>, StoreError> {
        let scope = ProjectScope::new(project.clone(), by.scope().actor());
        let mut tx = self.begin_snapshot(&scope).await?;
        let mut counts = Vec::new();
        for (table, _) in TABLES {
            let sql = format!("SELECT count(*) FROM (SELECT FROM {table} WHERE project_id = $1 LIMIT $2) r");
            let rows = tx.rows(&sql, &[&project.as_str(), &(MOST_COUNTED + 1)]).await?;
            let n: i64 = rows.first().map_or(0, |row| row.get(0));
            if n > 0 {
                counts.push((*table, n));
            }
        }
        tx.rollback().await?;
        Ok(counts.iter().any(|(table, _)| *table == "project").then_some(counts))
    }

    /// Deletions that wait or are stuck, and rows of projects whose deletion says that it is done, each as a sentence.
    ///
    /// # Errors
    /// The database's.
    pub async fn examine_deletions(&self) -> Result<Vec<Finding>, StoreError> {
        let now = self.inner.clock.now();
        let waits = |d: &Deletion| now.duration_since(d.requested_at) > PATIENCE;
        let open = self.list_deletions("", true, 200).await?;
        let mut found = Vec::new();
        for deletion in open.iter().filter(|_| !self.inner.keyring.is_for_reading()) {
            let scope = ProjectScope::of_deleted(deletion.project.clone(), "platform/doctor");
            if let Err(error @ StoreError::Untrusted { .. }) = self.check_mark(&scope).await {
                found.push(Finding {
                    project: Some(deletion.project.to_string()),
                    message: format!("{error}: nothing of it is served, and nothing of it is deleted"),
                });
            }
        }
        let finding = |d: &Deletion| {
            let why = match d.state {
                DeletionState::Marked => {
                    "nothing of it is served, and its rows are there: does a server run, or has a transaction been open since?"
                }
                _ => {
                    "nothing of it is served, and rows of it are there: does a server run that has AWOOOP_RETENTION_DATABASE_URL?"
                }
            };
            let message = format!("its deletion was asked for at {}; {why}", d.requested_at);
            Finding { project: Some(d.project.to_string()), message }
        };
        found.extend(open.iter().filter(|d| waits(d)).map(finding));
        self.examine_deleted(&mut found).await?;
        Ok(found)
    }

    /// Is a project that is said to be gone gone?
    async fn examine_deleted(&self, found: &mut Vec<Finding>) -> Result<(), StoreError> {
        let mut after = String::new();
        loop {
            let page = self.list_deletions(&after, false, 200).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.project.to_string();
            for Deletion { project, .. } in page.iter().filter(|d| d.state == DeletionState::Deleted) {
                let scope = ProjectScope::of_deleted(project.clone(), "platform/doctor");
                let rows = self.once(&scope, &with_rows(), &[&project.as_str()]).await?;
                let tables: Vec<String> = rows.first().map(|row| row.get(0)).unwrap_or_default();
                if !tables.is_empty() {
                    let message = format!(
                        "its deletion says that no row is left, and there are some in {}: somebody wrote to the database",
                        tables.join(", ")
                    );
                    found.push(Finding { project: Some(project.to_string()), message });
                }
            }
        }
    }

    async fn clean_reason(&self, scope: &ProjectScope, reason: &str) -> Result<String, StoreError> {
        let reason = storable(reason).chars().take(MOST_REASON).collect::<String>();
        Ok(self.redactors(scope).await?.observed.clean(reason).into_inner())
    }

    /// Does this process delete rows of deleted projects?
    pub fn is_erasing(&self) -> bool {
        self.inner.is_erasing.load(Ordering::Relaxed)
    }

    /// Waits until a deletion is asked for in this process.
    pub async fn deletion_asked(&self) {
        self.inner.deletion_asked.notified().await;
    }
}

fn deletion(row: &Row) -> Result<Deletion, StoreError> {
    Ok(Deletion {
        project: ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?,
        state: DeletionState::parse(row.get(1))?,
        requested_at: row.get(2),
        erasing_at: row.get(3),
        deleted_at: row.get(4),
    })
}

// calls under way are cut by the stop, which every process watches for; all else ends with its next transaction
const MARK: &str = "
WITH d AS (   -- the guard: there is such a project, and nobody was quicker
  INSERT INTO project_deletion (project_id, state, requested_at, requested_by, reason, key_id, mac)
  SELECT $1, 'marked', $2, $3, $4, $10, $11 FROM project WHERE project_id = $1
  ON CONFLICT DO NOTHING RETURNING project_id),
h AS (INSERT INTO halt (project_id, kind, target, name, reason, halted_by, halted_at)
  SELECT project_id, 'stop', 'project', '', 'the project was deleted', $3, $2 FROM d ON CONFLICT DO NOTHING),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
  SELECT project_id, $5, $2, $3, 'project.delete', $6, $7, $8, $9 FROM d)
SELECT project_id FROM d";
