//! Applying manifests: everything is checked first; then one transaction publishes what is new, signs as the
//! caller, and, once every change has the signatures the rule asks for, activates all of them together.
//! Applying the same manifests again changes nothing; applying them as another person adds that signature.

use std::collections::{HashMap, HashSet};

use awooop_core::activation::MayNotSign;
use awooop_core::contract::{Kind, Manifest, Spec};
use awooop_core::error::Violation;
use awooop_core::json;
use awooop_core::statement::Act;

use super::desk::{Desk, Step};
use super::version::{Version, VersionState};
use super::{ContractError, ContractKey, Effect, Standing};
use crate::auth::Caller;
use crate::error::StoreError;
use crate::pool::Store;

/// What applying did to one contract, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// Another version becomes active.
    Updated,
    /// The active version says the same.
    Unchanged,
    /// It ends: no manifest names it any more.
    Retired,
}

impl Change {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Created => "created",
            Change::Updated => "updated",
            Change::Unchanged => "unchanged",
            Change::Retired => "retired",
        }
    }
}

/// How to apply.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApplyOptions {
    /// Check everything, say what would change, and change nothing.
    pub is_dry_run: bool,
    /// Retire active contracts that no manifest names; the project's own contract stays.
    pub is_pruning: bool,
}

/// One contract after applying.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Its name.
    pub key: ContractKey,
    /// The version the manifest stands in; the one that ends, for a retired contract.
    pub version: i32,
    /// Hash of its canonical form.
    pub sha256: String,
    /// What happens.
    pub change: Change,
    /// Is it done? Otherwise it waits for signatures.
    pub is_done: bool,
    /// The signatures; none where nothing changes.
    pub standing: Option<Standing>,
    /// Why the caller's own signature does not count.
    pub may_not_sign: Option<MayNotSign>,
    /// What changes for whoever relies on it.
    pub effect: Effect,
    /// The document it changes to; none for a retired contract.
    pub document: Option<serde_json::Value>,
}

/// A change on its way.
struct Planned {
    change: Change,
    step: Step,
    effect: Effect,
    may_not_sign: Option<MayNotSign>,
    is_new: bool,
}

impl Store {
    /// Applies manifests of the caller's project, all or none. Returns whether anything was written, and one
    /// item a manifest in the order in which they refer to one another, then the retired ones.
    ///
    /// # Errors
    /// [`ContractError`]; nothing was changed.
    pub async fn apply(
        &self,
        by: &Caller,
        manifests: &[Manifest],
        options: ApplyOptions,
    ) -> Result<(bool, Vec<Applied>), ContractError> {
        let secrets = self.credentials_in(manifests);
        if !secrets.is_empty() {
            return Err(ContractError::Invalid(secrets));
        }
        let mut desk = self.desk_for(by, manifests).await?;
        let outcome = apply_in(&mut desk, manifests, options).await.map(|(is_written, applied)| {
            let is_lasting = is_written && !options.is_dry_run;
            (is_lasting, (is_lasting, applied))
        });
        desk.conclude(outcome).await
    }

    /// A contract is kept as its bytes were hashed, so a credential in it could never be masked again.
    pub(super) fn credentials_in(&self, manifests: &[Manifest]) -> Vec<Violation> {
        let found = |(i, manifest): (usize, &Manifest)| {
            let (path, class) = self.inner.redactor.json_contains_credential(&manifest.document)?;
            let message = format!("a contract must not hold a credential ({})", class.as_str());
            Some(Violation::new(format!("/manifests/{i}{path}"), "credential", message))
        };
        manifests.iter().enumerate().filter_map(found).collect()
    }

    async fn desk_for<'a>(
        &'a self,
        by: &'a Caller,
        manifests: &[Manifest],
    ) -> Result<Desk<'a>, ContractError> {
        let own = manifests.iter().find_map(|m| match &m.spec {
            Spec::Project(spec) => Some(&spec.display_name),
            _ => None,
        });
        if let Some(display_name) = own {
            return Ok(Desk::open_or_make(self, by, display_name).await?);
        }
        let project = by.scope().project();
        Desk::open(self, by).await?.ok_or_else(|| {
            let message = format!(
                "the project `{project}` does not exist: apply its project contract first or with these"
            );
            ContractError::Invalid(vec![Violation::new("", "project", message)])
        })
    }
}

async fn apply_in(
    desk: &mut Desk<'_>,
    manifests: &[Manifest],
    options: ApplyOptions,
) -> Result<(bool, Vec<Applied>), ContractError> {
    let all: Vec<&Manifest> = manifests.iter().collect();
    let retired = if options.is_pruning { unnamed(desk, manifests) } else { Vec::new() };
    desk.check(&all, &retired)?;
    let (unchanged, changed) = split(desk, manifests);
    let mut planned = plan(desk, &changed).await?;
    planned.extend(plan_retirements(desk, &retired));
    let is_published = planned.iter().any(|p| p.is_new);
    publish(desk, &mut planned).await?;
    let (standings, is_signed) = sign(desk, &mut planned).await?;
    let is_done = standings.iter().all(|s| s.tally.is_enough());
    let mut applied: Vec<Applied> = unchanged;
    let window_s = desk.rule()?.window_s;
    for (plan, standing) in planned.iter().zip(standings) {
        if is_done || is_signed || plan.is_new {
            desk.tell(&plan.step, &standing.tally, is_done, window_s);
        }
        applied.push(item(plan, standing, is_done));
    }
    let is_written = is_published || is_signed || (is_done && !planned.is_empty());
    if is_done {
        let steps: Vec<(Step, Effect)> = planned.into_iter().map(|p| (p.step, p.effect)).collect();
        desk.carry_out(&steps).await?;
    }
    applied.sort_by(|a, b| (a.change == Change::Retired, &a.key).cmp(&(b.change == Change::Retired, &b.key)));
    Ok((is_written, applied))
}

/// Active contracts that no manifest names; the project's own stays.
fn unnamed(desk: &Desk<'_>, manifests: &[Manifest]) -> Vec<ContractKey> {
    let named: HashSet<(Kind, &str)> = manifests.iter().map(|m| (m.spec.kind(), m.id.as_str())).collect();
    let keys = desk.active.iter().map(|a| &a.version.key);
    let is_unnamed =
        |key: &&ContractKey| key.kind != Kind::Project && !named.contains(&(key.kind, key.id.as_str()));
    keys.filter(is_unnamed).cloned().collect()
}

/// Those that say what is active already, and those that do not. What does not load counts as different.
fn split<'m>(desk: &Desk<'_>, manifests: &'m [Manifest]) -> (Vec<Applied>, Vec<&'m Manifest>) {
    let (mut unchanged, mut changed) = (Vec::new(), Vec::new());
    for manifest in manifests {
        let key = ContractKey::new(manifest.spec.kind(), manifest.id.clone());
        let sha256 = json::sha256_hex(&manifest.document);
        match desk.active(&key).filter(|a| a.problem.is_none() && a.version.sha256 == sha256) {
            None => changed.push(manifest),
            Some(active) => unchanged.push(Applied {
                key,
                version: active.version.version,
                sha256,
                change: Change::Unchanged,
                is_done: true,
                standing: None,
                may_not_sign: None,
                effect: Effect::default(),
                document: Some(manifest.document.clone()),
            }),
        }
    }
    (unchanged, changed)
}

/// The version each manifest is to stand in: one that was published and waits, or a new one.
async fn plan(desk: &mut Desk<'_>, changed: &[&Manifest]) -> Result<Vec<Planned>, ContractError> {
    let hashes: Vec<String> = changed.iter().map(|m| json::sha256_hex(&m.document)).collect();
    let waiting = desk.versions("v.state = 'published' AND v.sha256 = ANY ($2)", &[&hashes]).await?;
    let mut newest: HashMap<(ContractKey, String), Version> = HashMap::new();
    for version in waiting.into_iter().filter(|v| v.problem.is_none()) {
        let name = (version.key.clone(), version.sha256.clone());
        match newest.get(&name) {
            Some(known) if known.version > version.version => {}
            _ => drop(newest.insert(name, version)),
        }
    }
    let mut fresh = desk.number(changed).await?;
    let mut planned = Vec::with_capacity(changed.len());
    for (manifest, made) in changed.iter().zip(fresh.drain(..)) {
        let found = newest.remove(&(made.key.clone(), made.sha256.clone()));
        let base = desk.base(&made.key);
        planned.push(Planned {
            change: if base == 0 { Change::Created } else { Change::Updated },
            effect: desk.effect(&made.key, Some(&manifest.spec)),
            is_new: found.is_none(),
            step: Step { act: Act::Activate, version: found.unwrap_or(made), base },
            may_not_sign: None,
        });
    }
    Ok(planned)
}

fn plan_retirements(desk: &Desk<'_>, retired: &[ContractKey]) -> Vec<Planned> {
    let plan = |key: &ContractKey| {
        let version = desk.active(key)?.version.clone();
        Some(Planned {
            change: Change::Retired,
            effect: desk.effect(key, None),
            step: Step { act: Act::Retire, base: version.version, version },
            may_not_sign: None,
            is_new: false,
        })
    };
    retired.iter().filter_map(plan).collect()
}

async fn publish(desk: &mut Desk<'_>, planned: &mut [Planned]) -> Result<(), StoreError> {
    let fresh: Vec<Version> = planned.iter().filter(|p| p.is_new).map(|p| p.step.version.clone()).collect();
    let published = desk.publish(fresh).await?;
    for (plan, version) in planned.iter_mut().filter(|p| p.is_new).zip(published) {
        plan.step.version = version;
    }
    Ok(())
}

/// Signs as the caller where that counts and is not done yet. Returns how the signatures stand now.
async fn sign(desk: &mut Desk<'_>, planned: &mut [Planned]) -> Result<(Vec<Standing>, bool), ContractError> {
    let (rule, signer) = (desk.rule()?, desk.by.signer());
    for plan in planned.iter_mut() {
        plan.may_not_sign = rule.of(plan.step.act).may_sign(&signer, plan.step.publisher()).err();
    }
    let steps: Vec<&Step> = planned.iter().map(|p| &p.step).collect();
    let before = desk.standings(&rule, &steps).await?;
    let missing = planned.iter().zip(&before).filter(|(plan, standing)| {
        plan.may_not_sign.is_none() && !standing.tally.counted.contains(&signer.id)
    });
    let missing: Vec<&Step> = missing.map(|(plan, _)| &plan.step).collect();
    if missing.is_empty() {
        return Ok((before, false));
    }
    desk.endorse(&missing).await?;
    Ok((desk.standings(&rule, &steps).await?, true))
}

fn item(plan: &Planned, standing: Standing, is_done: bool) -> Applied {
    let version = &plan.step.version;
    Applied {
        key: version.key.clone(),
        version: version.version,
        sha256: version.sha256.clone(),
        change: plan.change,
        is_done,
        standing: Some(standing),
        may_not_sign: plan.may_not_sign,
        effect: plan.effect.clone(),
        document: (plan.change != Change::Retired).then(|| version.document.clone()),
    }
}

/// What a version's state says about activating it.
pub(super) fn may_be_signed(version: &Version, act: Act, base: i32) -> Result<(), ContractError> {
    let refuse = |why| Err(ContractError::State { what: version.name(), state: version.state.as_str(), why });
    // which version is active is the contract's to say, not the version's own state, which is not signed
    match (act, version.version == base) {
        (Act::Activate, true) => refuse("there is nothing to sign for"),
        (Act::Activate, false) if version.state == VersionState::Draft => refuse("publish it first"),
        (Act::Activate, false) => Ok(()),
        (Act::Retire, true) if version.key.kind == Kind::Project => {
            refuse("a project's own contract is never retired")
        }
        (Act::Retire, true) => Ok(()),
        (Act::Retire, false) => refuse("only the active version of a contract can be retired"),
    }
}
