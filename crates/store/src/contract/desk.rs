//! One open transaction on a project's contracts: the project's row is held, so that whoever comes next waits
//! and then sees everything done here. Knows what is active and which rule is in force; publishes, takes
//! signatures, counts them, activates and retires, each for many contracts in a few statements.
//!
//! Nothing lasts until [`Desk::finish`]; a desk that is dropped has changed nothing.

use std::collections::{HashMap, HashSet};

use awooop_core::activation::{Given, Rule, Signer, Tally};

use awooop_core::contract::{Active, Kind, Manifest, Spec, breaking, breaking_first, check_references};
use awooop_core::error::Violation;
use awooop_core::json;
use awooop_core::statement::{Act, Statement};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::signing::{self, EndorsementFacts, PublicationFacts, Signature};
use super::sql::{ACTIVATE_VERSIONS, ENDORSE, MOVE, PUBLISH, RETIRE_FORMER, SIGNATURES, WRITE_DRAFT};
use super::version::{self, COLUMNS, Ended, Published, Version, VersionState};
use super::{ActiveContract, ContractError, ContractKey, Effect, Standing, rows};
use crate::announce::Announcement;
use crate::audit::{AuditEvent, Note};
use crate::auth::Caller;
use crate::error::StoreError;
use crate::pool::Store;
use crate::tx::ProjectTx;

/// See the module.
pub(super) struct Desk<'a> {
    store: &'a Store,
    pub(super) tx: ProjectTx,
    pub(super) by: &'a Caller,
    pub(super) now: Timestamp,
    pub(super) active: Vec<ActiveContract>,
    pub(super) ended: Vec<Ended>,
    manifests: HashMap<ContractKey, Manifest>,
    places: HashMap<ContractKey, usize>,
    announcements: Vec<Announcement>,
}

/// A version with what is to be done with it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) act: Act,
    pub(super) version: Version,
    /// The version that is active before, 0 for none.
    pub(super) base: i32,
}

impl Step {
    /// Who published what is to be activated; a retirement has no publisher.
    pub(super) fn publisher(&self) -> &str {
        match self.act {
            Act::Activate => self.version.published.as_ref().map_or("", |p| &p.publisher),
            Act::Retire => "",
        }
    }
}

impl<'a> Desk<'a> {
    /// Opens a transaction and takes the project's row. `None` when there is no such project.
    pub(super) async fn open(store: &'a Store, by: &'a Caller) -> Result<Option<Desk<'a>>, StoreError> {
        let mut tx = store.begin(by.scope()).await?;
        // weaker than FOR UPDATE, so that rows which merely refer to the project need not wait
        let lock = "SELECT project_id FROM project WHERE project_id = $1 FOR NO KEY UPDATE";
        if tx.rows(lock, &[&by.scope().project().as_str()]).await?.is_empty() {
            tx.rollback().await?;
            return Ok(None);
        }
        Self::over(store, by, tx).await.map(Some)
    }

    /// The same without taking the row, for somebody who only reads: nobody waits for a reader.
    pub(super) async fn read(store: &'a Store, by: &'a Caller) -> Result<Desk<'a>, StoreError> {
        let tx = store.begin(by.scope()).await?;
        Self::over(store, by, tx).await
    }

    /// The same for somebody who brings the project's own contract, which makes the project.
    pub(super) async fn open_or_make(
        store: &'a Store,
        by: &'a Caller,
        display_name: &str,
    ) -> Result<Desk<'a>, StoreError> {
        let mut tx = store.begin(by.scope()).await?;
        let project = by.scope().project().as_str();
        tx.rows(
            "INSERT INTO project (project_id, display_name, created_at)
             VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            &[&project, &display_name, &store.clock().now()],
        )
        .await?;
        tx.rows("SELECT project_id FROM project WHERE project_id = $1 FOR NO KEY UPDATE", &[&project])
            .await?;
        Self::over(store, by, tx).await
    }

    async fn over(store: &'a Store, by: &'a Caller, mut tx: ProjectTx) -> Result<Desk<'a>, StoreError> {
        let project = by.scope().project();
        let active = version::active(&mut tx, &store.inner.keyring, project).await?;
        let loaded = active.iter().filter(|a| a.problem.is_none());
        let manifests = loaded
            .map(|a| Ok((a.version.key.clone(), a.version.manifest(project)?)))
            .collect::<Result<_, StoreError>>()?;
        let places = active.iter().enumerate().map(|(i, a)| (a.version.key.clone(), i)).collect();
        let ended = version::ended(&mut tx, &store.inner.keyring, project).await?;
        // read once the row is held: whoever held it before may have taken long
        let now = after_all(store.clock().now(), &active, &ended);
        Ok(Self { store, tx, by, now, active, ended, manifests, places, announcements: Vec::new() })
    }

    /// Makes everything durable, and tells who listens.
    pub(super) async fn finish(self) -> Result<(), StoreError> {
        self.tx.commit().await?;
        self.store.inner.announcer.announce(self.by.scope(), self.announcements);
        Ok(())
    }

    /// Finishes after work that wrote something, and undoes everything otherwise. Either way the connection
    /// goes back whole: refusals are common, and connections dear.
    pub(super) async fn conclude<T>(
        self,
        outcome: Result<(bool, T), ContractError>,
    ) -> Result<T, ContractError> {
        match outcome {
            Ok((true, made)) => self.finish().await.map(|()| made).map_err(ContractError::from),
            Ok((false, made)) => self.abandon().await.map(|()| made).map_err(ContractError::from),
            Err(error) => {
                // the first error is the one to tell; a lost connection rolls back anyway
                let _ = self.abandon().await;
                Err(error)
            }
        }
    }

    /// Undoes everything.
    pub(super) async fn abandon(self) -> Result<(), StoreError> {
        self.tx.rollback().await
    }

    /// The active contract of this name.
    pub(super) fn active(&self, key: &ContractKey) -> Option<&ActiveContract> {
        self.places.get(key).map(|&i| &self.active[i])
    }

    /// The number of the active version, 0 for none.
    pub(super) fn base(&self, key: &ContractKey) -> i32 {
        self.active(key).map_or(0, |a| a.version.version)
    }

    /// Since when the contract is as it is, in microseconds since 1970: active, or at its end. The least
    /// number where it never was active.
    fn since_us(&self, key: &ContractKey) -> i64 {
        let active = self.active(key).map(|a| a.activated_at);
        let ended = || self.ended.iter().find(|e| e.key == *key).and_then(|e| e.at);
        active.or_else(ended).map_or(i64::MIN, |at| at.as_microsecond())
    }

    /// The rule in force: that of the project contract that is active. When that one does not load, or is
    /// gone, which no caller can bring about, nobody but an operator of the platform can go on.
    pub(super) fn rule(&self) -> Result<Rule, ContractError> {
        let active = self.active.iter().filter(|a| a.version.key.kind == Kind::Project);
        let ended = self.ended.iter().filter(|e| e.key.kind == Kind::Project);
        let found = active.map(|a| (a.version.name(), a.problem));
        let gone = ended.map(|e| (e.key.to_string(), e.problem));
        let Some((what, problem)) = found.chain(gone).next() else { return Ok(Rule::default()) };
        match (problem, self.by.is_platform_admin()) {
            (Some(problem), false) => return Err(StoreError::Untrusted { what, problem }.into()),
            (Some(_), true) => return Ok(Rule::default()),
            (None, _) => {}
        }
        let spec = self.manifests.values().find_map(|m| match &m.spec {
            Spec::Project(spec) => Some(spec),
            _ => None,
        });
        Ok(spec.map(|s| Rule::from(&s.activation)).unwrap_or_default())
    }

    /// What does not fit together once the steps are done. Paths name `order`'s places.
    pub(super) fn check(&self, new: &[&Manifest], retired: &[ContractKey]) -> Result<(), ContractError> {
        let named: HashSet<(Kind, &str)> = new
            .iter()
            .map(|m| (m.spec.kind(), m.id.as_str()))
            .chain(retired.iter().map(|k| (k.kind, k.id.as_str())))
            .collect();
        let is_replaced = |key: &ContractKey| named.contains(&(key.kind, key.id.as_str()));
        let broken = self.active.iter().find(|a| a.problem.is_some() && !is_replaced(&a.version.key));
        if let Some((broken, problem)) = broken.and_then(|a| Some((a, a.problem?))) {
            return Err(StoreError::Untrusted { what: broken.version.name(), problem }.into());
        }
        let active = self.active.iter().filter_map(|a| self.manifests.get(&a.version.key));
        let active: Vec<Active> = active.map(|m| Active { id: m.id.clone(), spec: m.spec.clone() }).collect();
        let retired: Vec<(Kind, String)> = retired.iter().map(|k| (k.kind, k.id.clone())).collect();
        let found: Vec<Violation> = check_references(new, &active, &retired);
        if found.is_empty() { Ok(()) } else { Err(ContractError::Invalid(found)) }
    }

    /// What activating `to`, or retiring for `None`, changes for whoever relies on the contract.
    pub(super) fn effect(&self, key: &ContractKey, to: Option<&Spec>) -> Effect {
        let before = self.manifests.get(key);
        let breaking = match (before, to) {
            (Some(from), _) => breaking(&from.spec, to),
            (None, Some(to)) => breaking_first(to),
            (None, None) => Vec::new(),
        };
        Effect { breaking, before: before.map(|m| m.document.clone()) }
    }

    /// Versions by name and number, or those published and not active with this hash.
    pub(super) async fn versions(
        &mut self,
        condition: &str,
        params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Version>, StoreError> {
        let project = self.by.scope().project().as_str();
        let sql = format!("SELECT {COLUMNS} FROM contract_version v WHERE v.project_id = $1 AND {condition}");
        let mut all: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![&project];
        all.extend_from_slice(params);
        let rows = self.tx.rows(&sql, &all).await?;
        rows.iter().map(|row| version::read(&self.store.inner.keyring, project, row)).collect()
    }

    /// One version of a contract.
    pub(super) async fn version(&mut self, key: &ContractKey, number: i32) -> Result<Version, ContractError> {
        let (kind, id) = (key.kind.as_str(), key.id.as_str());
        let mut found =
            self.versions("v.kind = $2 AND v.id = $3 AND v.version = $4", &[&kind, &id, &number]).await?;
        found.pop().ok_or_else(|| ContractError::Absent(format!("{key}@{number}")))
    }

    /// The next number of each contract.
    async fn next_numbers(&mut self, keys: &[ContractKey]) -> Result<Vec<i32>, StoreError> {
        let kinds: Vec<&str> = keys.iter().map(|k| k.kind.as_str()).collect();
        let ids: Vec<&str> = keys.iter().map(|k| k.id.as_str()).collect();
        let rows = self
            .tx
            .rows(
                "SELECT coalesce((SELECT max(v.version) FROM contract_version v
                   WHERE v.project_id = $1 AND v.kind = k.kind AND v.id = k.id), 0) + 1
                 FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS k (kind, id, n) ORDER BY k.n",
                &[&self.by.scope().project().as_str(), &kinds, &ids],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Makes a version of this document: a new number, not signed, not written.
    pub(super) async fn number(&mut self, manifests: &[&Manifest]) -> Result<Vec<Version>, StoreError> {
        let key = |m: &&Manifest| ContractKey::new(m.spec.kind(), m.id.clone());
        let keys: Vec<ContractKey> = manifests.iter().map(key).collect();
        let numbers = self.next_numbers(&keys).await?;
        let made = keys.into_iter().zip(numbers).zip(manifests).map(|((key, number), manifest)| Version {
            key,
            version: number,
            version_id: self.store.clock().new_id(),
            sha256: json::sha256_hex(&manifest.document),
            state: VersionState::Draft,
            created_at: self.now,
            created_by: self.by.scope().actor().to_owned(),
            published: None,
            document: manifest.document.clone(),
            problem: None,
        });
        Ok(made.collect())
    }

    /// Writes a draft, new or in place of the former.
    pub(super) async fn write_draft(&mut self, draft: &Version) -> Result<(), StoreError> {
        let said = json!({"version": draft.version, "sha256": draft.sha256});
        let event = self.event("contract.draft", draft.key.to_string(), said);
        let body = json::canonical(&draft.document);
        self.tx
            .rows(
                WRITE_DRAFT,
                &[
                    &self.by.scope().project().as_str(),
                    &draft.key.kind.as_str(),
                    &draft.key.id,
                    &draft.version,
                    &draft.version_id,
                    &draft.sha256,
                    &body,
                    &self.now,
                    &event.actor,
                    &event.id,
                    &event.body,
                    &event.key_id,
                    &event.mac,
                ],
            )
            .await?;
        Ok(())
    }

    /// Signs and writes versions: new ones, and drafts that end by it. Returns them as published.
    pub(super) async fn publish(&mut self, versions: Vec<Version>) -> Result<Vec<Version>, StoreError> {
        if versions.is_empty() {
            return Ok(versions);
        }
        let (publisher, by) = (self.by.signer().id, self.by.scope().actor().to_owned());
        let mut published = Vec::with_capacity(versions.len());
        let mut items = Vec::with_capacity(versions.len());
        for mut version in versions {
            let signature = self.sign_publication(&version, self.now, &publisher);
            version.state = VersionState::Published;
            version.published = Some(Published {
                at: self.now,
                by: by.clone(),
                publisher: publisher.clone(),
                key_id: signature.key_id.clone(),
            });
            let said =
                json!({"version": version.version, "sha256": version.sha256, "key_id": signature.key_id});
            items.push(self.item(
                &version,
                &signature,
                "contract.publish",
                said,
                json!({
                    "version_id": version.version_id, "sha256": version.sha256,
                    "body": json::canonical(&version.document),
                }),
            ));
            published.push(version);
        }
        let params: crate::tx::Params<'_> = &[
            &self.by.scope().project().as_str(),
            &Value::Array(items).to_string(),
            &self.now,
            &by,
            &publisher,
        ];
        self.tx.rows(PUBLISH, params).await?;
        Ok(published)
    }

    /// The publication's HMAC, for a version as it is.
    pub(super) fn sign_publication(&self, version: &Version, at: Timestamp, publisher: &str) -> Signature {
        let facts = PublicationFacts { version_id: version.version_id, at, publisher };
        let project = self.by.scope().project().as_str();
        let subject = signing::subject(project, &version.key, version.version, &version.sha256);
        signing::sign(&self.store.inner.keyring, &facts.statement(subject))
    }

    /// The HMAC of one person's signature.
    fn sign_endorsement(&self, step: &Step, signer: &Signer, at: Timestamp) -> Signature {
        let facts = EndorsementFacts {
            act: step.act,
            base: step.base,
            signer: &signer.id,
            is_person: signer.is_person,
            at,
        };
        let project = self.by.scope().project().as_str();
        let subject =
            signing::subject(project, &step.version.key, step.version.version, &step.version.sha256);
        signing::sign(&self.store.inner.keyring, &facts.statement(subject))
    }

    /// Signs steps as the caller.
    pub(super) async fn endorse(&mut self, steps: &[&Step]) -> Result<(), StoreError> {
        if steps.is_empty() {
            return Ok(());
        }
        let signer = self.by.signer();
        let items = steps.iter().map(|step| {
            let signature = self.sign_endorsement(step, &signer, self.now);
            let said = json!({
                "version": step.version.version, "sha256": step.version.sha256, "act": step.act.as_str(),
                "base": step.base, "signer": signer.id,
            });
            let more = json!({"act": step.act.as_str(), "base": step.base});
            self.item(&step.version, &signature, "contract.sign", said, more)
        });
        let items: Vec<Value> = items.collect();
        let actor = self.by.scope().actor();
        let params: crate::tx::Params<'_> = &[
            &self.by.scope().project().as_str(),
            &Value::Array(items).to_string(),
            &self.now,
            &actor,
            &signer.id,
            &signer.is_person,
        ];
        self.tx.rows(ENDORSE, params).await?;
        Ok(())
    }

    /// Counts the signatures for each step.
    pub(super) async fn standings(
        &mut self,
        rule: &Rule,
        steps: &[&Step],
    ) -> Result<Vec<Standing>, StoreError> {
        let project = self.by.scope().project().as_str().to_owned();
        let kinds: Vec<&str> = steps.iter().map(|s| s.version.key.kind.as_str()).collect();
        let ids: Vec<&str> = steps.iter().map(|s| s.version.key.id.as_str()).collect();
        let numbers: Vec<i32> = steps.iter().map(|s| s.version.version).collect();
        let acts: Vec<&str> = steps.iter().map(|s| s.act.as_str()).collect();
        let now_us = self.now.as_microsecond();
        let found = self.tx.rows(SIGNATURES, &[&project, &kinds, &ids, &numbers, &acts]).await?;
        let mut standings = Vec::with_capacity(steps.len());
        // rows come in the order of the steps
        let mut rest = found.as_slice();
        for (n, step) in steps.iter().enumerate() {
            let place = i64::try_from(n + 1).unwrap_or(i64::MAX);
            let (of_step, after) = rest.split_at(rest.partition_point(|row| row.get::<_, i64>(0) <= place));
            rest = after;
            let (mut given, mut forged) = (Vec::new(), Vec::new());
            for row in of_step {
                let signer = Signer { id: row.get(1), is_person: row.get(2) };
                let at: Timestamp = row.get(4);
                let base: i32 = row.get(3);
                let facts = EndorsementFacts {
                    act: step.act,
                    base,
                    signer: &signer.id,
                    is_person: signer.is_person,
                    at,
                };
                let subject =
                    signing::subject(&project, &step.version.key, step.version.version, &step.version.sha256);
                let signature = Signature::read(Some(row.get(5)), Some(row.get(6)));
                match signing::check(&self.store.inner.keyring, &facts.statement(subject), signature.as_ref())
                {
                    Ok(()) => given.push(Given { signer, at_us: at.as_microsecond(), base }),
                    Err(_) => forged.push(signer.id),
                }
            }
            let against = (step.base, self.since_us(&step.version.key));
            let tally = rule.of(step.act).tally(&given, step.publisher(), against, now_us);
            standings.push(Standing { act: step.act, tally, forged });
        }
        Ok(standings)
    }

    /// Does the steps: versions become active or retired, rows follow, the audit names what could break. All
    /// signatures were counted before.
    pub(super) async fn carry_out(&mut self, steps: &[(Step, Effect)]) -> Result<(), ContractError> {
        if steps.is_empty() {
            return Ok(());
        }
        let project = self.by.scope().project().clone();
        let mut items = Vec::with_capacity(steps.len());
        let mut made = Vec::new();
        for (step, effect) in steps {
            let version = &step.version;
            let (number, sha256) = match step.act {
                Act::Activate => (version.version, version.sha256.as_str()),
                Act::Retire => (0, ""),
            };
            let subject = signing::subject(project.as_str(), &version.key, number, sha256);
            let statement = Statement::Activation { subject, at_us: self.now.as_microsecond() };
            let signature = signing::sign(&self.store.inner.keyring, &statement);
            let said = json!({
                "version": version.version, "sha256": version.sha256, "before": step.base,
                "breaking": effect.breaking,
            });
            let action = match step.act {
                Act::Activate => "contract.activate",
                Act::Retire => "contract.retire",
            };
            items.push(self.item(
                version,
                &signature,
                action,
                said,
                json!({"act": step.act.as_str(), "base": step.base, "to": number, "action": action}),
            ));
            if step.act == Act::Activate {
                made.extend(rows::of(&version.manifest(&project)?, version.version_id));
            }
        }
        let items = Value::Array(items).to_string();
        let params: crate::tx::Params<'_> = &[&project.as_str(), &items];
        self.tx.rows(RETIRE_FORMER, params).await?;
        self.tx.rows(ACTIVATE_VERSIONS, params).await?;
        let actor = self.by.scope().actor();
        let done = self.tx.rows(MOVE, &[&project.as_str(), &items, &self.now, &actor]).await?;
        if done.first().map_or(0, |row| row.get::<_, i64>(0)) != i64::try_from(steps.len()).unwrap_or(-1) {
            let what = steps.first().map_or_else(String::new, |(step, _)| step.version.name());
            return Err(ContractError::LostRace { what });
        }
        let owners =
            rows::Owners::of(steps.iter().map(|(s, _)| (s.version.key.kind, s.version.key.id.as_str())));
        rows::write(&mut self.tx, &project, &owners, &made, self.now).await?;
        Ok(())
    }

    /// Tells, once everything is durable, how an act's signatures stand.
    pub(super) fn tell(&mut self, step: &Step, tally: &Tally, is_done: bool, window_s: u32) {
        self.announcements.push(Announcement {
            kind: step.version.key.kind.as_str(),
            id: step.version.key.id.clone(),
            version: step.version.version,
            act: step.act.as_str(),
            needed: tally.needed,
            signers: tally.counted.clone(),
            is_done,
            at: self.now,
            window_s,
        });
    }

    /// One element of a statement's JSON parameter: name, number, HMAC and the audit event that belongs to it.
    fn item(
        &self,
        version: &Version,
        signature: &Signature,
        action: &'static str,
        said: Value,
        more: Value,
    ) -> Value {
        let event = self.event(action, version.key.to_string(), said);
        let mut item = json!({
            "kind": version.key.kind.as_str(), "id": version.key.id, "version": version.version,
            "key_id": signature.key_id, "signature": signature.hex(),
            "event_id": event.id, "event_body": event.body, "event_key": event.key_id,
            "event_mac": json::hex(&event.mac),
        });
        if let (Some(item), Value::Object(more)) = (item.as_object_mut(), more) {
            item.extend(more);
        }
        item
    }

    /// The audit event of something that is done at this desk, at its time.
    pub(super) fn event(&self, action: &'static str, subject: String, said: Value) -> AuditEvent {
        self.store.audit_at(self.by.scope(), self.now, Note::new(action, subject, said))
    }
}

/// The time of a desk: later than every change it can see, whatever this server's clock says, so that a
/// signature's time tells whether it was given before a change or after it.
fn after_all(now: Timestamp, active: &[ActiveContract], ended: &[Ended]) -> Timestamp {
    let active = active.iter().filter(|a| a.problem.is_none()).map(|a| a.activated_at);
    let ended = ended.iter().filter(|e| e.problem.is_none()).filter_map(|e| e.at);
    let last = active.chain(ended).max().unwrap_or(Timestamp::MIN);
    now.max(last.saturating_add(SignedDuration::from_micros(1)).unwrap_or(now))
}
