//! Many runs at once: which of a project's runs a filter means, and what is needed to do an ended one again.
//!
//! The doing is one run at a time, through `cancel_run` and `create_run`, so each guard there holds here too and one
//! run that cannot be helped keeps no other from it.

use awooop_core::run::StateName;
use awooop_core::{AgentId, Mode, RunId};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;
use crate::run::{Created, Idempotency};
use crate::scope::ProjectScope;

/// Which runs are meant: those that fit everything given.
#[derive(Debug, Clone)]
pub struct BulkFilter {
    /// In one of these states.
    pub states: Vec<StateName>,
    /// This very run.
    pub run_id: Option<RunId>,
    /// Of this agent.
    pub agent_id: Option<String>,
    /// Children of this run.
    pub parent: Option<RunId>,
    /// Ended with this code.
    pub error_code: Option<String>,
    /// Made before this.
    pub made_before: Option<Timestamp>,
    /// Made at or after this.
    pub made_after: Option<Timestamp>,
}

/// What a run was asked, to ask it again.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The agent.
    pub agent: AgentId,
    /// How far its effects might go.
    pub mode: Mode,
    /// 0 first, 9 last.
    pub priority: i16,
    /// How long it had.
    pub timeout: std::time::Duration,
    /// What it was asked, as it is kept: masked.
    pub input: Value,
    /// Is that not what the caller had sent?
    pub is_masked: bool,
}

impl Store {
    /// The oldest `limit` runs that the filter means, with the states they are in.
    ///
    /// # Errors
    /// The database's.
    pub async fn oldest_of(
        &self,
        scope: &ProjectScope,
        filter: &BulkFilter,
        limit: i64,
    ) -> Result<Vec<(RunId, StateName)>, StoreError> {
        self.some_of(scope, filter, Uuid::max(), limit, "").await
    }

    /// The newest `limit` runs that the filter means and that were made before `before`.
    ///
    /// # Errors
    /// The database's.
    pub async fn newest_of(
        &self,
        scope: &ProjectScope,
        filter: &BulkFilter,
        before: RunId,
        limit: i64,
    ) -> Result<Vec<(RunId, StateName)>, StoreError> {
        self.some_of(scope, filter, before, limit, "DESC").await
    }

    /// How many runs the filter means.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_of(&self, scope: &ProjectScope, filter: &BulkFilter) -> Result<i64, StoreError> {
        let sql = format!("SELECT count(*) FROM run_state r WHERE {MEANT}");
        let rows = self.meant(scope, filter, Uuid::max(), None, &sql).await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }

    async fn some_of(
        &self,
        scope: &ProjectScope,
        filter: &BulkFilter,
        before: RunId,
        limit: i64,
        order: &str,
    ) -> Result<Vec<(RunId, StateName)>, StoreError> {
        let sql =
            format!("SELECT run_id, state FROM run_state r WHERE {MEANT} ORDER BY run_id {order} LIMIT $10");
        let rows = self.meant(scope, filter, before, Some(limit), &sql).await?;
        rows.iter()
            .map(|row| {
                let state: &str = row.get(1);
                let state = StateName::parse(state).ok_or_else(|| StoreError::Corrupt(state.to_owned()))?;
                Ok((row.get(0), state))
            })
            .collect()
    }

    async fn meant(
        &self,
        scope: &ProjectScope,
        filter: &BulkFilter,
        before: RunId,
        limit: Option<i64>,
        sql: &str,
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        let project = scope.project().as_str();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![
            &project,
            &states,
            &before,
            &filter.run_id,
            &filter.agent_id,
            &filter.parent,
            &filter.error_code,
            &filter.made_before,
            &filter.made_after,
        ];
        params.extend(limit.as_ref().map(|limit| limit as &(dyn ToSql + Sync)));
        self.once(scope, sql, &params).await
    }

    /// What a run was asked; `None` also for a run of another project.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_asked(&self, scope: &ProjectScope, run_id: RunId) -> Result<Option<Asked>, StoreError> {
        let sql = "SELECT agent_id, mode, priority, created_at, timeout_at, input, input_sha256
                   FROM run_state WHERE project_id = $1 AND run_id = $2";
        let rows = self.once(scope, sql, &[&scope.project().as_str(), &run_id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let corrupt = |e: &dyn std::fmt::Display| StoreError::Corrupt(e.to_string());
        let (mode, input): (&str, &str) = (row.get(1), row.get(5));
        let input: Value = serde_json::from_str(input).map_err(|e| corrupt(&e))?;
        let (made, over): (Timestamp, Timestamp) = (row.get(3), row.get(4));
        let timeout: SignedDuration = over.duration_since(made);
        Ok(Some(Asked {
            agent: AgentId::parse(row.get(0)).map_err(|e| corrupt(&e))?,
            mode: Mode::parse(mode).ok_or_else(|| corrupt(&mode))?,
            priority: row.get(2),
            timeout: timeout.try_into().unwrap_or_default(),
            is_masked: awooop_core::json::sha256_hex(&input) != row.get::<_, &str>(6),
            input,
        }))
    }

    /// Takes an idempotency key for a request over many runs, and gives the id that stands for it: runs made by the
    /// request are newer than it. The same key again gives the same id; `None` when it stands for another request.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin_bulk(
        &self,
        scope: &ProjectScope,
        key: &Idempotency,
    ) -> Result<Option<Uuid>, StoreError> {
        let (fresh, now) = (self.inner.clock.new_id(), self.inner.clock.now());
        for _ in 0..3 {
            match self.replay(scope, key).await? {
                Some(Created::Replayed(id)) => return Ok(Some(id)),
                Some(_) => return Ok(None),
                None => {}
            }
            let sql =
                "INSERT INTO idempotency_key (project_id, principal, key, request_sha256, run_id, created_at)
                       VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING run_id";
            let project = scope.project().as_str();
            let taken: &[&(dyn ToSql + Sync)] =
                &[&project, &key.principal, &key.key, &key.request_sha256, &fresh, &now];
            if !self.once(scope, sql, taken).await?.is_empty() {
                return Ok(Some(fresh));
            }
        }
        Err(StoreError::Corrupt("an idempotency key is neither free nor taken".into()))
    }
}

const MEANT: &str = "r.project_id = $1 AND r.state = ANY ($2) AND r.run_id < $3
  AND ($4::uuid IS NULL OR r.run_id = $4) AND ($5::text IS NULL OR r.agent_id = $5)
  AND ($6::uuid IS NULL OR r.parent_run_id = $6) AND ($7::text IS NULL OR r.error_code = $7)
  AND ($8::timestamptz IS NULL OR r.created_at < $8) AND ($9::timestamptz IS NULL OR r.created_at >= $9)";
