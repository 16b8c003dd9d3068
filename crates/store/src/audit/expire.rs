//! Retention: events of whole seals that are old enough are deleted, their seals stay. First an audit event says
//! up to which seal events have expired, under the writer's MAC and later in a seal of its own; only then the
//! role that may delete deletes. A check believes nothing else, so that expiry cannot be feigned, and a deletion
//! that was cut off is finished the next time.
//!
//! The role `awooop_retention` may delete events of one project at a time and see their ids, nothing else. Without
//! its URL nothing expires.

use awooop_core::ProjectId;
use awooop_core::audit::EXPIRE;
use deadpool_postgres::Pool;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use super::{Note, insert};
use crate::error::StoreError;
use crate::pool::{OpenError, Store, pool, refuse_unsafe};
use crate::scope::ProjectScope;

/// Seals whose events are deleted in one statement.
const SEALS: i64 = 8;

/// What expired in one project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// Up to this seal; 0 for nothing.
    pub through_seal: i64,
    /// Events that were deleted, or would be.
    pub events: u64,
}

/// The connection of the role that deletes.
pub struct Retention {
    store: Store,
    pool: Pool,
    keep: SignedDuration,
}

impl Retention {
    /// Opens the connection. Events are kept for `keep` after they were sealed.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open(store: Store, url: &SecretString, keep: SignedDuration) -> Result<Self, OpenError> {
        let variable = "AWOOOP_RETENTION_DATABASE_URL";
        let pool = pool(variable, url, 1)?;
        refuse_unsafe(variable, &pool).await?;
        Ok(Self { store, pool, keep })
    }

    /// Lets the old events of every project expire. What fails for one project is logged.
    ///
    /// # Errors
    /// When discovery fails.
    pub async fn run_once(&self, is_dry: bool) -> Result<Vec<(ProjectId, Expired)>, StoreError> {
        let (mut after, mut all) = (String::new(), Vec::new());
        loop {
            let page = self.store.project_ids(&after, 200).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = last.to_string();
            for project in page {
                match self.expire(&project, is_dry).await {
                    Ok(done) if done.through_seal > 0 => all.push((project, done)),
                    Ok(_) => {}
                    Err(error) => {
                        let (error, project) = (&error as &dyn std::error::Error, project.as_str());
                        tracing::error!(error, project, "old audit events could not be deleted");
                    }
                }
            }
        }
    }

    /// Lets one project's old events expire.
    ///
    /// # Errors
    /// The database's. What was recorded as expired and is not deleted yet is deleted the next time.
    pub async fn expire(&self, project: &ProjectId, is_dry: bool) -> Result<Expired, StoreError> {
        let scope = ProjectScope::new(project.clone(), "platform/retention");
        let before = self.store.inner.clock.now().saturating_sub(self.keep).unwrap_or(Timestamp::MIN);
        let rows = self.store.once(&scope, OLD, &[&project.as_str(), &before]).await?;
        let through: i64 = rows.first().and_then(|row| row.get(0)).unwrap_or(0);
        let recorded: i64 = rows.first().and_then(|row| row.get(1)).unwrap_or(0);
        let present = self.present(&scope, through).await?;
        if through == 0 || present == 0 {
            return Ok(Expired::default());
        }
        let done = Expired { through_seal: through, events: present };
        if is_dry {
            return Ok(done);
        }
        if recorded < through {
            self.record(&scope, &done, before).await?;
        }
        self.delete(&scope, through).await?;
        Ok(done)
    }

    /// Says what expires, unless another node has said it meanwhile.
    async fn record(
        &self,
        scope: &ProjectScope,
        done: &Expired,
        before: Timestamp,
    ) -> Result<(), StoreError> {
        let project = scope.project().as_str();
        let mut tx = self.store.begin(scope).await?;
        tx.rows(LOCK, &[&project]).await?;
        let rows = tx.rows(RECORDED, &[&project]).await?;
        let recorded: Option<i64> = rows.first().and_then(|row| row.get(0));
        if recorded.is_none_or(|recorded| recorded < done.through_seal) {
            let said =
                json!({"through_seal": done.through_seal, "events": done.events, "sealed_before": before});
            let note = Note::new(EXPIRE, format!("audit/{project}"), said);
            insert(&mut tx, scope, &[self.store.audit(scope, note)]).await?;
        }
        tx.commit().await
    }

    /// How many events of the seals up to `through` are still there.
    async fn present(&self, scope: &ProjectScope, through: i64) -> Result<u64, StoreError> {
        let mut events = 0;
        let mut after = 0;
        loop {
            let ids = self.ids(scope, after, through).await?;
            let Some((last, ids)) = ids else { return Ok(events) };
            after = last;
            let sql = "SELECT count(*) FROM audit_event WHERE project_id = $1 AND id = ANY ($2)";
            let rows = self.store.once(scope, sql, &[&scope.project().as_str(), &ids]).await?;
            events += rows.first().map_or(0, |row| row.get::<_, i64>(0)).unsigned_abs();
        }
    }

    async fn delete(&self, scope: &ProjectScope, through: i64) -> Result<(), StoreError> {
        let project = scope.project().as_str();
        let mut after = 0;
        while let Some((last, ids)) = self.ids(scope, after, through).await? {
            after = last;
            let mut connection = self.pool.get().await?;
            let tx = connection.transaction().await?;
            tx.execute("SELECT awooop.set_project($1)", &[&project]).await?;
            tx.execute("DELETE FROM audit_event WHERE project_id = $1 AND id = ANY ($2)", &[&project, &ids])
                .await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// The events of some seals after `after`, up to `through`, and the last of those seals.
    async fn ids(
        &self,
        scope: &ProjectScope,
        after: i64,
        through: i64,
    ) -> Result<Option<(i64, Vec<Uuid>)>, StoreError> {
        let sql = "SELECT n, event_ids FROM audit_seal WHERE project_id = $1 AND n > $2 AND n <= $3
                   AND last_id >= (SELECT id FROM audit_event WHERE project_id = $1 ORDER BY id LIMIT 1)
                   ORDER BY n LIMIT $4";
        let rows =
            self.store.once(scope, sql, &[&scope.project().as_str(), &after, &through, &SEALS]).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let ids = rows.iter().flat_map(|row| awooop_core::audit::ids(row.get(1)).unwrap_or_default());
        Ok(Some((last.get(0), ids.collect())))
    }
}

/// The newest record. It is believed here, since a wrong one would only leave another record out; a check believes none
/// without its MAC or seal.
macro_rules! recorded {
    () => {
        "SELECT max((body::jsonb ->> 'through_seal')::bigint) FROM audit_event
    WHERE project_id = $1 AND action = 'audit.expire'"
    };
}

const RECORDED: &str = recorded!();

const LOCK: &str = "SELECT project_id FROM project WHERE project_id = $1 FOR NO KEY UPDATE";

// a prefix of the chain: the seals before the first one that is too young
const OLD: &str = concat!(
    "
SELECT (SELECT coalesce((SELECT min(n) FROM audit_seal WHERE project_id = $1 AND sealed_at >= $2) - 1,
    (SELECT max(n) FROM audit_seal WHERE project_id = $1))), (",
    recorded!(),
    ")"
);
