//! Reading contracts: what is active, one contract with what waits for signatures, its versions.

use jiff::Timestamp;

use super::desk::{Desk, Step};
use super::version::{self, COLUMNS, Version, VersionState};
use super::{ActiveContract, ContractError, ContractKey, Standing};
use crate::auth::Caller;
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;
use awooop_core::statement::Act;

/// One contract as it stands.
#[derive(Debug, Clone)]
pub struct Contract {
    /// Its name.
    pub key: ContractKey,
    /// What is in force.
    pub active: Option<ActiveContract>,
    /// Its draft.
    pub draft: Option<Version>,
    /// Published versions newer than the active one, newest first, and a retirement that was signed for.
    pub pending: Vec<Pending>,
}

/// An act that waits for signatures.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The version it is about.
    pub version: Version,
    /// Who has signed, and how many are needed.
    pub standing: Standing,
}

impl Store {
    /// The project's active contracts by kind and id, each with why it does not load.
    pub async fn list_contracts(&self, scope: &ProjectScope) -> Result<Vec<ActiveContract>, StoreError> {
        let mut tx = self.begin(scope).await?;
        let active = version::active(&mut tx, &self.inner.keyring, scope.project()).await?;
        tx.commit().await?;
        Ok(active)
    }

    /// One contract; `None` when the project has none of this name.
    ///
    /// # Errors
    /// [`StoreError::Untrusted`] when the project's own contract, whose rule counts, does not load.
    pub async fn find_contract(
        &self,
        by: &Caller,
        key: &ContractKey,
    ) -> Result<Option<Contract>, ContractError> {
        let mut desk = Desk::read(self, by).await?;
        let (kind, id) = (key.kind.as_str(), key.id.as_str());
        let base = desk.base(key);
        let since = desk.active(key).map_or(Timestamp::UNIX_EPOCH, |a| a.activated_at);
        let newer = desk
            .versions(
                "v.kind = $2 AND v.id = $3 AND (v.state IN ('draft', 'active') OR (v.state = 'published'
                   AND (v.version > $4 OR v.published_at > $5))) ORDER BY v.version DESC",
                &[&kind, &id, &base, &since],
            )
            .await?;
        let active = desk.active(key).cloned();
        if newer.is_empty() && active.is_none() {
            // on the desk's own connection: whoever holds the project's row must not wait for another one
            let any = desk.versions("v.kind = $2 AND v.id = $3 LIMIT 1", &[&kind, &id]).await?;
            if any.is_empty() {
                desk.abandon().await?;
                return Ok(None);
            }
        }
        let draft = newer.iter().find(|v| v.state == VersionState::Draft).cloned();
        let steps: Vec<Step> = newer
            .into_iter()
            .filter_map(|version| match version.state {
                VersionState::Published => Some(Step { act: Act::Activate, version, base }),
                VersionState::Active => Some(Step { act: Act::Retire, version, base }),
                VersionState::Draft | VersionState::Retired => None,
            })
            .collect();
        let rule = desk.rule()?;
        let standings = desk.standings(&rule, &steps.iter().collect::<Vec<_>>()).await?;
        desk.abandon().await?;
        let pending = steps.into_iter().zip(standings);
        let pending = pending.map(|(step, standing)| Pending { version: step.version, standing });
        let pending = pending.filter(|p| p.standing.act == Act::Activate || !p.standing.is_untouched());
        Ok(Some(Contract { key: key.clone(), active, draft, pending: pending.collect() }))
    }

    /// A contract's versions, newest first; `before` is the last page's oldest.
    pub async fn list_versions(
        &self,
        scope: &ProjectScope,
        key: &ContractKey,
        before: Option<i32>,
        limit: i64,
    ) -> Result<Vec<Version>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM contract_version v
             WHERE v.project_id = $1 AND v.kind = $2 AND v.id = $3 AND v.version < $4
             ORDER BY v.version DESC LIMIT $5"
        );
        let (project, before) = (scope.project().as_str(), before.unwrap_or(i32::MAX));
        let (kind, id) = (key.kind.as_str(), key.id.as_str());
        let rows = self.once(scope, &sql, &[&project, &kind, &id, &before, &limit]).await?;
        rows.iter().map(|row| version::read(&self.inner.keyring, project, row)).collect()
    }

    /// One version; `None` when there is none of this number.
    pub async fn find_version(
        &self,
        scope: &ProjectScope,
        key: &ContractKey,
        number: i32,
    ) -> Result<Option<Version>, StoreError> {
        let (project, kind, id) = (scope.project().as_str(), key.kind.as_str(), key.id.as_str());
        let sql = format!(
            "SELECT {COLUMNS} FROM contract_version v
             WHERE v.project_id = $1 AND v.kind = $2 AND v.id = $3 AND v.version = $4"
        );
        let rows = self.once(scope, &sql, &[&project, &kind, &id, &number]).await?;
        rows.first().map(|row| version::read(&self.inner.keyring, project, row)).transpose()
    }
}

impl Standing {
    /// Has nobody signed?
    fn is_untouched(&self) -> bool {
        let tally = &self.tally;
        tally.counted.is_empty() && tally.expired.is_empty() && self.forged.is_empty()
    }
}

impl Version {
    /// When it last changed.
    pub fn changed_at(&self) -> Timestamp {
        self.published.as_ref().map_or(self.created_at, |p| p.at)
    }
}
