//! How a project's audit stands, cheaply: what the newest seal says, and what of the last day has none.

use std::time::Duration;

use awooop_core::audit::{first_id_at, id_time_us};
use serde::Serialize;
use uuid::Uuid;

use super::row;
use crate::doctor::Finding;
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// How far back is looked for events without a seal.
const BACK: Duration = Duration::from_secs(26 * 3600);
/// An event that waits longer than this for its seal waits in vain: no sealer runs.
const PATIENCE_US: i64 = 60_000_000;
/// Rows whose MAC is judged in one look.
const MOST_JUDGED: usize = 10_000;

/// How a project's audit stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditStatus {
    /// Seals so far.
    pub seals: i64,
    /// Events in them.
    pub sealed_events: i64,
    /// When the newest was made, in microseconds since 1970.
    pub last_sealed_at_us: Option<i64>,
    /// Events of the last day that wait for a seal.
    pub unsealed: usize,
    /// The time of the oldest of them, in microseconds since 1970.
    pub oldest_unsealed_at_us: Option<i64>,
    /// Rows of the last day that nobody with the key wrote.
    pub forged: Vec<Uuid>,
}

impl Store {
    /// How the project's audit stands.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit_status(&self, scope: &ProjectScope) -> Result<AuditStatus, StoreError> {
        let head = self.audit_head(scope).await?;
        let back = i64::try_from(BACK.as_micros()).unwrap_or(i64::MAX);
        let mut from = first_id_at(self.inner.clock.now().as_microsecond().saturating_sub(back));
        let mut waiting = Vec::new();
        loop {
            let page = self.unsealed_ids(scope, from).await?;
            waiting.extend(page.unsealed);
            match page.next {
                Some(next) if waiting.len() < MOST_JUDGED => from = next,
                _ => break,
            }
        }
        let forged = self.forged_of(scope, &waiting).await?;
        let genuine = || waiting.iter().filter(|id| !forged.contains(id));
        Ok(AuditStatus {
            seals: head.as_ref().map_or(0, |head| head.seal.n),
            sealed_events: head.as_ref().map_or(0, |head| head.seal.total),
            last_sealed_at_us: head.as_ref().map(|head| head.seal.sealed_at_us),
            unsealed: genuine().count(),
            oldest_unsealed_at_us: genuine().next().map(|id| id_time_us(*id)),
            forged,
        })
    }

    /// Those of the events whose MAC is not their writer's. Without a keyring nothing is judged.
    async fn forged_of(&self, scope: &ProjectScope, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        if ids.is_empty() || self.inner.keyring.is_for_reading() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {} FROM audit_event WHERE project_id = $1 AND id = ANY ($2) ORDER BY id",
            row::EVENT
        );
        let ids = &ids[..ids.len().min(MOST_JUDGED)];
        let rows = self.once(scope, &sql, &[&scope.project().as_str(), &ids]).await?;
        let forged = rows.iter().map(row::event).filter(|event| self.judge(event).is_err());
        Ok(forged.map(|event| event.id).collect())
    }

    /// The oldest event beyond its project's newest seal, over all projects: its time in microseconds since
    /// 1970.
    ///
    /// # Errors
    /// The database's.
    pub async fn oldest_unsealed(&self) -> Result<Option<i64>, StoreError> {
        let (mut after, mut oldest) = (String::new(), None);
        loop {
            let page = self.projects_to_seal(&after, None).await?;
            let Some((last, _)) = page.last() else { return Ok(oldest) };
            after = last.to_string();
            let first = page.iter().map(|(_, id)| id_time_us(*id)).min();
            oldest = [oldest, first].into_iter().flatten().min();
        }
    }

    /// What of the audit does not hold in any project, as far as a short look shows it: rows that nobody with the
    /// key wrote, and events that wait for a seal in vain.
    ///
    /// # Errors
    /// The database's.
    pub async fn examine_audit(&self) -> Result<Vec<Finding>, StoreError> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.project_ids(&after, 200).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = last.to_string();
            for project in page {
                found.extend(self.examine_audit_of(&ProjectScope::new(project, "platform/doctor")).await?);
            }
        }
    }

    async fn examine_audit_of(&self, scope: &ProjectScope) -> Result<Vec<Finding>, StoreError> {
        let status = self.audit_status(scope).await?;
        let finding = |message: String| Finding { project: Some(scope.project().to_string()), message };
        let mut found: Vec<Finding> = status
            .forged
            .iter()
            .map(|id| finding(format!("the audit event {id} was not written by a server with this keyring")))
            .collect();
        let now = self.inner.clock.now().as_microsecond();
        if let Some(oldest) = status.oldest_unsealed_at_us.filter(|at| now.saturating_sub(*at) > PATIENCE_US)
        {
            let seconds = now.saturating_sub(oldest) / 1_000_000;
            found.push(finding(format!(
                "{} audit events wait for a seal, the oldest for {seconds} s: does a server run?",
                status.unsealed
            )));
        }
        Ok(found)
    }
}
