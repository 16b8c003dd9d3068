//! Projects: the tenants themselves.

use awooop_core::ProjectId;
use jiff::Timestamp;
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// A tenant.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its id.
    pub project_id: String,
    /// For people.
    pub display_name: String,
    /// `active`, `paused` or `stopped`, as its own halt and the operators' say.
    pub state: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it has stored, where its contract limits that.
    pub storage: Option<Storage>,
}

/// What a project has stored.
#[derive(Debug, Clone, Copy)]
pub struct Storage {
    /// The most that it may, in bytes.
    pub max_bytes: i64,
    /// What it had when it was counted, and when that was.
    pub counted: Option<(i64, Timestamp)>,
}

impl Store {
    /// The scope's own project; `None` before its project contract was applied.
    pub async fn find_project(&self, scope: &ProjectScope) -> Result<Option<Project>, StoreError> {
        let rows = self
            .once(
                scope,
                "SELECT project_id, display_name, created_at,
                   (SELECT CASE WHEN bool_or(h.kind = 'stop') THEN 'stopped' WHEN count(*) > 0 THEN 'paused'
                      ELSE 'active' END FROM (SELECT kind FROM halt WHERE project_id = $1 AND target = 'project'
                      UNION ALL SELECT 'stop' FROM halt_all) h),
                   max_storage_bytes, stored_bytes, storage_counted_at
                 FROM project WHERE project_id = $1",
                &[&scope.project().as_str()],
            )
            .await?;
        let storage = |row: &Row| {
            let counted = row.get::<_, Option<i64>>(5).zip(row.get(6));
            Some(Storage { max_bytes: row.get::<_, Option<i64>>(4)?, counted })
        };
        Ok(rows.first().map(|row| Project {
            project_id: row.get(0),
            display_name: row.get(1),
            state: row.get(3),
            created_at: row.get(2),
            storage: storage(row),
        }))
    }

    /// Ids of projects after `after` in their order, for the operators' list. Ids only: what a project
    /// says of itself is read in its own scope. Those that are being deleted are not among them.
    pub async fn project_ids(&self, after: &str, limit: i64) -> Result<Vec<ProjectId>, StoreError> {
        let rows = self
            .system(
                "SELECT project_id FROM project p WHERE project_id > $1
                   AND NOT EXISTS (SELECT FROM project_deletion d WHERE d.project_id = p.project_id)
                 ORDER BY project_id LIMIT $2",
                &[&after, &limit],
            )
            .await?;
        rows.iter()
            .map(|row| ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string())))
            .collect()
    }
}
