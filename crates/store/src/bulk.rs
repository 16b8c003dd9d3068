//! Many runs at once: which of a project's runs a filter means, and what is needed to do an ended one again.
//!
//! No index knows a run's state, which changes while it is worked on. So a page looks at a bounded number of runs, newest
//! first, and says where the next begins, whether it found any or not.
//!
//! The doing is one run at a time, through `cancel_run` and `create_run`, so each guard there holds here too and one
//! run that cannot be helped keeps no other from it.

use awooop_core::audit::first_id_at;
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

/// Runs that one page looks at.
pub const MOST_LOOKED_AT: i64 = 5_000;

/// Which runs are meant: those that fit everything given. When a run was made is what its id says.
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

impl BulkFilter {
    /// The ids that are meant, among those before `before`: from the first, and up to the second, which is not.
    fn between(&self, before: RunId) -> (RunId, RunId) {
        let first_at = |at: Option<Timestamp>| at.map(|at| first_id_at(at.as_microsecond()));
        let mut from = first_at(self.made_after).unwrap_or(RunId::nil());
        let mut until = before.min(first_at(self.made_before).unwrap_or(RunId::max()));
        if let Some(run_id) = self.run_id {
            from = from.max(run_id);
            until = until.min(RunId::from_u128(run_id.as_u128().saturating_add(1)));
        }
        (from, until)
    }
}

/// A page of what a filter means.
#[derive(Debug, Clone)]
pub struct BulkPage {
    /// Runs with the states they are in, newest first.
    pub runs: Vec<(RunId, StateName)>,
    /// How many runs were looked at.
    pub looked_at: i64,
    /// The next page is what lies before this one; none after the last.
    pub next_before: Option<RunId>,
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
    /// The newest `limit` runs that the filter means, of the next [`MOST_LOOKED_AT`] made before `before`.
    ///
    /// # Errors
    /// The database's.
    pub async fn page_of(
        &self,
        scope: &ProjectScope,
        filter: &BulkFilter,
        before: RunId,
        limit: i64,
    ) -> Result<BulkPage, StoreError> {
        let (from, until) = filter.between(before);
        let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        let of_parent = if filter.parent.is_some() { "AND parent_run_id = $8" } else { "" };
        let sql = format!(
            "WITH look AS MATERIALIZED (SELECT run_id, state, agent_id, error_code FROM run_state
               WHERE project_id = $1 AND run_id >= $2 AND run_id < $3 {of_parent}
               ORDER BY run_id DESC LIMIT {MOST_LOOKED_AT})
             SELECT * FROM (SELECT run_id, state, NULL::bigint FROM look WHERE state = ANY ($4)
               AND ($5::text IS NULL OR agent_id = $5) AND ($6::text IS NULL OR error_code = $6)
               ORDER BY run_id DESC LIMIT $7) meant
             UNION ALL SELECT run_id, NULL, (SELECT count(*) FROM look) FROM
               (SELECT run_id FROM look ORDER BY run_id LIMIT 1) last"
        );
        let project = scope.project().as_str();
        let mut params: Vec<&(dyn ToSql + Sync)> =
            vec![&project, &from, &until, &states, &filter.agent_id, &filter.error_code, &limit];
        params.extend(filter.parent.as_ref().map(|parent| parent as &(dyn ToSql + Sync)));
        let mut rows = self.once(scope, &sql, &params).await?;
        let Some(last) = rows.pop() else {
            return Ok(BulkPage { runs: Vec::new(), looked_at: 0, next_before: None });
        };
        let (last_looked_at, looked_at): (RunId, i64) = (last.get(0), last.get(2));
        let runs = rows
            .iter()
            .map(|row| {
                let state: &str = row.get(1);
                let state = StateName::parse(state).ok_or_else(|| StoreError::Corrupt(state.to_owned()))?;
                Ok((row.get(0), state))
            })
            .collect::<Result<Vec<(RunId, StateName)>, StoreError>>()?;
        let is_full = runs.len() as i64 == limit;
        let next_before = match runs.last() {
            Some((run_id, _)) if is_full && *run_id != last_looked_at => Some(*run_id),
            _ => (looked_at == MOST_LOOKED_AT).then_some(last_looked_at),
        };
        Ok(BulkPage { runs, looked_at, next_before })
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
