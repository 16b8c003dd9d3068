//! The steps of a version's life, one at a time: draft, publish, sign, activate, retire. Each is one
//! transaction; doing it twice is the same as once.

use awooop_core::contract::Manifest;
use awooop_core::statement::Act;

use super::apply::may_be_signed;
use super::desk::{Desk, Step};
use super::version::{Version, VersionState};
use super::{Applied, Change, ContractError, ContractKey, Effect, Standing};
use crate::auth::Caller;
use crate::error::StoreError;
use crate::keyring::SignatureProblem;
use crate::pool::Store;

/// A saved draft.
#[derive(Debug, Clone)]
pub struct Drafted {
    /// The draft.
    pub version: Version,
    /// Had the contract no draft before?
    pub is_new: bool,
}

/// What came of a signature.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The version.
    pub version: Version,
    /// The signatures with it.
    pub standing: Standing,
    /// What the act changes for whoever relies on the contract.
    pub effect: Effect,
    /// Was anything written? The same signature twice is one.
    pub is_changed: bool,
}

impl Store {
    /// Saves the contract's draft. `replaces` is the hash of the draft that this one takes the place of.
    ///
    /// # Errors
    /// [`ContractError::Precondition`] when there is another draft than that, and as for applying.
    pub async fn save_draft(
        &self,
        by: &Caller,
        manifest: &Manifest,
        replaces: Option<&str>,
    ) -> Result<Drafted, ContractError> {
        let secrets = self.credentials_in(std::slice::from_ref(manifest));
        if !secrets.is_empty() {
            return Err(ContractError::Invalid(secrets));
        }
        let mut desk = self.desk(by).await?;
        let outcome = save(&mut desk, manifest, replaces).await;
        desk.conclude(outcome).await
    }

    /// Fixes and signs a draft. `expected` is the hash the caller has seen.
    ///
    /// # Errors
    /// [`ContractError::Absent`], `Precondition`, and [`StoreError::Untrusted`] when the draft is not what was
    /// saved. What it names is checked against what is active when it is activated.
    pub async fn publish_version(
        &self,
        by: &Caller,
        key: &ContractKey,
        number: i32,
        expected: Option<&str>,
    ) -> Result<Version, ContractError> {
        let mut desk = self.desk(by).await?;
        let outcome = publish(&mut desk, key, number, expected).await;
        desk.conclude(outcome).await
    }

    /// Signs for an act on a version, as the caller.
    ///
    /// # Errors
    /// [`ContractError::MayNotSign`], `State`, `Untrusted`, `Absent`, and `Precondition` when another version
    /// is active than the caller has seen.
    pub async fn sign_version(
        &self,
        by: &Caller,
        key: &ContractKey,
        number: i32,
        act: Act,
        seen: Option<i32>,
    ) -> Result<Signed, ContractError> {
        let mut desk = self.desk(by).await?;
        let outcome = sign(&mut desk, key, number, act, seen).await;
        desk.conclude(outcome).await
    }

    /// Makes a signed version the active one. A version that is active already stays so.
    ///
    /// # Errors
    /// [`ContractError::Missing`], `OutsideWindow`, `LostRace`, `State`, `Untrusted`, `Absent`, `Precondition`,
    /// `Invalid` when it does not fit what is active.
    pub async fn activate_version(
        &self,
        by: &Caller,
        key: &ContractKey,
        number: i32,
        seen: Option<i32>,
    ) -> Result<Applied, ContractError> {
        let mut desk = self.desk(by).await?;
        let outcome = activate(&mut desk, key, number, seen).await;
        desk.conclude(outcome).await
    }

    /// Signs, as the caller, that a contract ends, and ends it once there are enough signatures.
    ///
    /// # Errors
    /// As [`Store::sign_version`] and [`Store::activate_version`]; missing signatures are no error.
    pub async fn retire_contract(
        &self,
        by: &Caller,
        key: &ContractKey,
        seen: Option<i32>,
    ) -> Result<Applied, ContractError> {
        let mut desk = self.desk(by).await?;
        let outcome = retire(&mut desk, key, seen).await;
        desk.conclude(outcome).await
    }

    async fn desk<'a>(&'a self, by: &'a Caller) -> Result<Desk<'a>, ContractError> {
        let found = Desk::open(self, by).await?;
        found.ok_or_else(|| ContractError::Absent("project of this name".to_owned()))
    }
}

// The work of each step; true when something was written.

async fn save(
    desk: &mut Desk<'_>,
    manifest: &Manifest,
    replaces: Option<&str>,
) -> Result<(bool, Drafted), ContractError> {
    let (kind, id) = (manifest.spec.kind().as_str(), manifest.id.as_str());
    let found = desk.versions("v.kind = $2 AND v.id = $3 AND v.state = 'draft'", &[&kind, &id]).await?;
    let former = found.first();
    let mut made = desk.number(&[manifest]).await?.pop().ok_or_else(nothing)?;
    if let Some(former) = former {
        made = Version { version: former.version, version_id: former.version_id, ..made };
    }
    if former.map(|f| f.sha256.as_str()) != replaces && former.is_none_or(|f| f.sha256 != made.sha256) {
        return Err(ContractError::Precondition { what: format!("the draft of {}", made.key) });
    }
    let is_same = former.is_some_and(|f| f.sha256 == made.sha256);
    if !is_same {
        desk.write_draft(&made).await?;
    }
    Ok((!is_same, Drafted { version: made, is_new: found.is_empty() }))
}

async fn publish(
    desk: &mut Desk<'_>,
    key: &ContractKey,
    number: i32,
    expected: Option<&str>,
) -> Result<(bool, Version), ContractError> {
    let version = desk.version(key, number).await?;
    version.trusted()?;
    if expected.is_some_and(|sha256| sha256 != version.sha256) {
        return Err(ContractError::Precondition { what: version.name() });
    }
    if version.state != VersionState::Draft {
        return Ok((false, version));
    }
    let published = desk.publish(vec![version]).await?.pop().ok_or_else(nothing)?;
    let step = Step { act: Act::Activate, base: desk.base(key), version: published };
    let standing = standing(desk, &step).await?;
    let window_s = desk.rule()?.window_s;
    desk.tell(&step, &standing.tally, false, window_s);
    Ok((true, step.version))
}

async fn sign(
    desk: &mut Desk<'_>,
    key: &ContractKey,
    number: i32,
    act: Act,
    seen: Option<i32>,
) -> Result<(bool, Signed), ContractError> {
    let step = step(desk, key, number, act, seen).await?;
    let (rule, signer) = (desk.rule()?, desk.by.signer());
    rule.of(act).may_sign(&signer, step.publisher())?;
    let before = standing(desk, &step).await?;
    let effect = effect_of(desk, &step)?;
    if before.tally.counted.contains(&signer.id) {
        return Ok((false, Signed { version: step.version, standing: before, effect, is_changed: false }));
    }
    desk.endorse(&[&step]).await?;
    let standing = standing(desk, &step).await?;
    desk.tell(&step, &standing.tally, false, rule.window_s);
    Ok((true, Signed { version: step.version, standing, effect, is_changed: true }))
}

async fn activate(
    desk: &mut Desk<'_>,
    key: &ContractKey,
    number: i32,
    seen: Option<i32>,
) -> Result<(bool, Applied), ContractError> {
    if desk.base(key) == number {
        let active = desk.active(key).ok_or_else(nothing)?;
        let version = active.version.clone();
        return match active.problem {
            None => Ok((false, unchanged(version))),
            Some(problem) => Err(StoreError::Untrusted { what: version.name(), problem }.into()),
        };
    }
    let step = step(desk, key, number, Act::Activate, seen).await?;
    let standing = standing(desk, &step).await?;
    enough(&step, &standing)?;
    let manifest = step.version.manifest(desk.by.scope().project())?;
    desk.check(&[&manifest], &[])?;
    let effect = desk.effect(key, Some(&manifest.spec));
    let change = if step.base == 0 { Change::Created } else { Change::Updated };
    Ok((true, done(desk, step, change, standing, effect).await?))
}

async fn retire(
    desk: &mut Desk<'_>,
    key: &ContractKey,
    seen: Option<i32>,
) -> Result<(bool, Applied), ContractError> {
    let number = desk.base(key);
    if number == 0 {
        let (kind, id) = (key.kind.as_str(), key.id.as_str());
        let ended = "v.kind = $2 AND v.id = $3 AND v.state = 'retired' ORDER BY v.version DESC LIMIT 1";
        let found = desk.versions(ended, &[&kind, &id]).await?.pop();
        let absent = || ContractError::Absent(format!("active {key}"));
        return found.map(|version| (false, unchanged(version))).ok_or_else(absent);
    }
    let step = step(desk, key, number, Act::Retire, seen).await?;
    let (rule, signer) = (desk.rule()?, desk.by.signer());
    let before = standing(desk, &step).await?;
    let is_signed = before.tally.counted.contains(&signer.id);
    if !is_signed && !before.tally.is_enough() {
        rule.of(Act::Retire).may_sign(&signer, "")?;
        desk.endorse(&[&step]).await?;
    }
    let standing = standing(desk, &step).await?;
    desk.check(&[], std::slice::from_ref(key))?;
    let effect = desk.effect(key, None);
    if standing.tally.is_enough() {
        return Ok((true, done(desk, step, Change::Retired, standing, effect).await?));
    }
    if !is_signed {
        desk.tell(&step, &standing.tally, false, rule.window_s);
    }
    Ok((!is_signed, applied(step.version, Change::Retired, Some(standing), effect, false)))
}

/// The act on this version, if its state and what the caller has seen allow it.
async fn step(
    desk: &mut Desk<'_>,
    key: &ContractKey,
    number: i32,
    act: Act,
    seen: Option<i32>,
) -> Result<Step, ContractError> {
    let version = desk.version(key, number).await?;
    let base = desk.base(key);
    if seen.is_some_and(|seen| seen != base) {
        return Err(ContractError::Precondition { what: format!("what is active of {key}") });
    }
    may_be_signed(&version, act, base)?;
    if act == Act::Activate {
        version.trusted()?;
    }
    Ok(Step { act, version, base })
}

async fn standing(desk: &mut Desk<'_>, step: &Step) -> Result<Standing, ContractError> {
    let rule = desk.rule()?;
    Ok(desk.standings(&rule, &[step]).await?.pop().ok_or_else(nothing)?)
}

fn effect_of(desk: &Desk<'_>, step: &Step) -> Result<Effect, ContractError> {
    Ok(match step.act {
        Act::Retire => desk.effect(&step.version.key, None),
        Act::Activate => {
            let manifest = step.version.manifest(desk.by.scope().project())?;
            desk.effect(&step.version.key, Some(&manifest.spec))
        }
    })
}

/// Refuses what has too few signatures, with the reason that explains it best.
fn enough(step: &Step, standing: &Standing) -> Result<(), ContractError> {
    let (tally, what) = (&standing.tally, step.version.name());
    if tally.is_enough() {
        return Ok(());
    }
    let would_do = |more: &[String]| {
        let needed = usize::try_from(tally.needed).unwrap_or(usize::MAX);
        !more.is_empty() && tally.counted.len() + more.len() >= needed
    };
    if would_do(&standing.forged) {
        let what = format!("the signature of {} under {what}", standing.forged.join(", "));
        return Err(StoreError::Untrusted { what, problem: SignatureProblem::Mismatch }.into());
    }
    if would_do(&tally.overtaken) {
        return Err(ContractError::LostRace { what });
    }
    if would_do(&tally.expired) {
        return Err(ContractError::OutsideWindow { what, tally: tally.clone() });
    }
    Err(ContractError::Missing { what, tally: tally.clone() })
}

async fn done(
    desk: &mut Desk<'_>,
    step: Step,
    change: Change,
    standing: Standing,
    effect: Effect,
) -> Result<Applied, ContractError> {
    let window_s = desk.rule()?.window_s;
    desk.tell(&step, &standing.tally, true, window_s);
    let version = step.version.clone();
    desk.carry_out(&[(step, effect.clone())]).await?;
    Ok(applied(version, change, Some(standing), effect, true))
}

fn unchanged(version: Version) -> Applied {
    applied(version, Change::Unchanged, None, Effect::default(), true)
}

fn applied(
    version: Version,
    change: Change,
    standing: Option<Standing>,
    effect: Effect,
    is_done: bool,
) -> Applied {
    Applied {
        key: version.key,
        version: version.version,
        sha256: version.sha256,
        change,
        is_done,
        standing,
        may_not_sign: None,
        effect,
        document: (change != Change::Retired).then_some(version.document),
    }
}

fn nothing() -> StoreError {
    StoreError::Corrupt("a statement about contracts gave no row".to_owned())
}
