//! Comparing what is materialised with what is active, repairing it, and putting signatures under the current
//! key before an old one is retired.

use awooop_core::ProjectId;
use awooop_core::contract::Kind;
use awooop_core::statement::{Act, Statement};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::desk::Desk;
use super::rows::{self, MaterialRow, Owners};
use super::signing::{self, Signature};
use super::version::{self, COLUMNS, VersionState};
use super::{ActiveContract, ContractError, ContractKey};
use crate::audit;
use crate::auth::Caller;
use crate::doctor::Finding;
use crate::error::StoreError;
use crate::keyring::{Keyring, SignatureProblem};
use crate::pool::Store;
use crate::scope::ProjectScope;

/// How many versions are signed again in one go.
const PAGE: i64 = 500;

/// A materialised row that is not what the active contracts say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is about, for people.
    pub what: String,
    /// Is the row missing? Otherwise it is there and should not be, or says something else.
    pub is_missing: bool,
}

impl Store {
    /// Restores every materialised row from the active contracts. Returns what was different.
    ///
    /// # Errors
    /// [`StoreError::Untrusted`] when an active contract does not load: nothing is made from that.
    pub async fn rematerialise(&self, by: &Caller) -> Result<Vec<Difference>, ContractError> {
        let Some(mut desk) = Desk::open(self, by).await? else {
            return Err(ContractError::Absent("project of this name".to_owned()));
        };
        desk.check(&[], &[])?;
        let project = by.scope().project();
        let expected = expected(&desk.active, project)?;
        let actual = rows::read(&mut desk.tx, project).await?;
        let found = differences(&expected, &actual);
        if found.is_empty() {
            desk.abandon().await?;
            return Ok(found);
        }
        let owners = Owners::default().and_of(&expected).and_of(&actual);
        rows::write(&mut desk.tx, project, &owners, &expected, desk.now).await?;
        let said: Vec<&str> = found.iter().map(|d| d.what.as_str()).take(100).collect();
        let said = json!({"different": found.len(), "what": said});
        let event = desk.event("contract.rematerialise", format!("project/{project}"), said);
        audit::insert(&mut desk.tx, by.scope(), &[event]).await?;
        desk.finish().await?;
        Ok(found)
    }

    /// Puts everything that loads under the current key: publications, what is active, and signatures that
    /// still wait. Returns how many were signed again.
    ///
    /// # Errors
    /// Only the database's.
    pub async fn resign_contracts(&self, by: &Caller) -> Result<u64, ContractError> {
        let Some(mut desk) = Desk::open(self, by).await? else {
            return Err(ContractError::Absent("project of this name".to_owned()));
        };
        let mut count = resign_versions(self, &mut desk).await?;
        count += resign_active(self, &mut desk).await?;
        count += resign_endorsements(self, &mut desk).await?;
        if count == 0 {
            desk.abandon().await?;
            return Ok(0);
        }
        let subject = format!("project/{}", by.scope().project());
        let event = desk.event("contract.resign", subject, json!({"signed": count}));
        audit::insert(&mut desk.tx, by.scope(), &[event]).await?;
        desk.finish().await?;
        Ok(count)
    }

    /// What of a project's contracts does not hold: versions that do not load, rows that are not what the
    /// active versions say.
    pub(crate) async fn examine_contracts(&self, scope: &ProjectScope) -> Result<Vec<Finding>, StoreError> {
        let project = scope.project();
        let finding = |message: String| Finding { project: Some(project.to_string()), message };
        let mut tx = self.begin(scope).await?;
        let active = version::active(&mut tx, &self.inner.keyring, project).await?;
        let ended = version::ended(&mut tx, &self.inner.keyring, project).await?;
        let actual = rows::read(&mut tx, project).await?;
        tx.rollback().await?;
        let mut found: Vec<Finding> = active
            .iter()
            .filter_map(|a| Some(finding(format!("{} does not load: {}", a.version.name(), a.problem?))))
            .collect();
        found.extend(
            ended.iter().filter_map(|e| {
                Some(finding(format!("the end of {} is not believed: {}", e.key, e.problem?)))
            }),
        );
        found.extend(self.examine_versions(scope).await?);
        found.extend(self.examine_endorsements(scope).await?);
        if found.is_empty() {
            let differences = differences(&expected(&active, project)?, &actual);
            found.extend(differences.into_iter().map(|d| {
                let how = if d.is_missing { "is missing or different" } else { "is there and should not be" };
                finding(format!(
                    "{} {how}: `awooop contract rematerialise` restores what the active contracts say",
                    d.what
                ))
            }));
        }
        Ok(found)
    }

    /// People's signatures that have not been used and are not what was signed.
    async fn examine_endorsements(&self, scope: &ProjectScope) -> Result<Vec<Finding>, StoreError> {
        let project = scope.project().as_str();
        if self.inner.keyring.is_for_reading() {
            return Ok(Vec::new());
        }
        let rows = self.once(scope, UNUSED_ENDORSEMENTS, &[&project, &""]).await?;
        let forged = rows.iter().filter_map(|row| Endorsement::read(project, row));
        let forged = forged.filter_map(|e| Some((e.judge(&self.inner.keyring).err()?, e)));
        let found = forged.map(|(problem, e)| Finding {
            project: Some(project.to_owned()),
            message: format!(
                "the signature of {} under {}@{} does not count: {problem}",
                e.signer, e.key, e.version
            ),
        });
        Ok(found.collect())
    }

    /// Versions that are not active and do not load.
    async fn examine_versions(&self, scope: &ProjectScope) -> Result<Vec<Finding>, StoreError> {
        let project = scope.project().as_str();
        let sql = format!(
            "SELECT {COLUMNS} FROM contract_version v WHERE v.project_id = $1 AND v.state <> 'active'
               AND (v.kind, v.id, v.version) > ($2, $3, $4) ORDER BY v.kind, v.id, v.version LIMIT $5"
        );
        let (mut found, mut after) = (Vec::new(), (String::new(), String::new(), 0i32));
        loop {
            let rows = self.once(scope, &sql, &[&project, &after.0, &after.1, &after.2, &PAGE]).await?;
            for row in &rows {
                let version = version::read(&self.inner.keyring, project, row)?;
                if let Some(problem) = version.problem {
                    let message = format!("{} does not load: {problem}", version.name());
                    found.push(Finding { project: Some(project.to_owned()), message });
                }
                after = (version.key.kind.as_str().to_owned(), version.key.id, version.version);
            }
            if rows.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                return Ok(found);
            }
        }
    }
}

/// The rows that the active contracts stand for.
fn expected(active: &[ActiveContract], project: &ProjectId) -> Result<Vec<MaterialRow>, StoreError> {
    let mut rows = Vec::new();
    for contract in active {
        rows.extend(rows::of(&contract.version.manifest(project)?, contract.version.version_id));
    }
    rows.sort();
    Ok(rows)
}

fn differences(expected: &[MaterialRow], actual: &[MaterialRow]) -> Vec<Difference> {
    let say = |row: &MaterialRow, is_missing| Difference { what: row.describe(), is_missing };
    let missing = expected.iter().filter(|row| actual.binary_search(row).is_err()).map(|row| say(row, true));
    let extra = actual.iter().filter(|row| expected.binary_search(row).is_err()).map(|row| say(row, false));
    let mut found: Vec<Difference> = missing.collect();
    for one in extra {
        if !found.iter().any(|f| f.what == one.what) {
            found.push(one);
        }
    }
    found
}

async fn resign_versions(store: &Store, desk: &mut Desk<'_>) -> Result<u64, ContractError> {
    let versions = desk.versions("v.state <> 'draft'", &[]).await?;
    let current = current_key(store);
    let mut items = Vec::new();
    for version in versions.iter().filter(|v| v.problem.is_none() && v.state != VersionState::Draft) {
        let Some(published) = version.published.as_ref().filter(|p| p.key_id != current) else { continue };
        let signature = desk.sign_publication(version, published.at, &published.publisher);
        items.push(json!({
            "kind": version.key.kind.as_str(), "id": version.key.id, "version": version.version,
            "key_id": signature.key_id, "signature": signature.hex(),
        }));
    }
    update(desk, RESIGN_VERSIONS, items).await
}

/// What is active, and what has ended.
async fn resign_active(store: &Store, desk: &mut Desk<'_>) -> Result<u64, ContractError> {
    let project = desk.by.scope().project().as_str().to_owned();
    let rows = desk
        .tx
        .rows(
            "SELECT kind, id FROM contract WHERE project_id = $1 AND key_id <> $2",
            &[&project, &current_key(store)],
        )
        .await?;
    let is_old = |key: &ContractKey| {
        let name = (key.kind.as_str(), key.id.as_str());
        rows.iter().any(|row| (row.get::<_, &str>(0), row.get::<_, &str>(1)) == name)
    };
    let active = desk.active.iter().filter(|a| a.problem.is_none()).map(|a| {
        let version = &a.version;
        (
            signing::subject(&project, &version.key, version.version, &version.sha256),
            &version.key,
            a.activated_at,
        )
    });
    let ended = desk.ended.iter().filter(|e| e.problem.is_none());
    let ended = ended.filter_map(|e| Some((signing::subject(&project, &e.key, 0, ""), &e.key, e.at?)));
    let old = active.chain(ended).filter(|(_, key, _)| is_old(key));
    let items = old.map(|(subject, key, at)| {
        let signature =
            signing::sign(&store.inner.keyring, &Statement::Activation { subject, at_us: at.as_microsecond() });
        json!({"kind": key.kind.as_str(), "id": key.id, "key_id": signature.key_id, "signature": signature.hex()})
    });
    let items: Vec<Value> = items.collect();
    update(desk, RESIGN_ACTIVE, items).await
}

async fn resign_endorsements(store: &Store, desk: &mut Desk<'_>) -> Result<u64, ContractError> {
    let project = desk.by.scope().project().as_str().to_owned();
    let rows = desk.tx.rows(UNUSED_ENDORSEMENTS, &[&project, &current_key(store)]).await?;
    let stored = rows.iter().filter_map(|row| Endorsement::read(&project, row));
    let items = stored.filter(|e| e.judge(&store.inner.keyring).is_ok()).map(|e| {
        let signature = signing::sign(&store.inner.keyring, &e.statement());
        json!({
            "kind": e.key.kind.as_str(), "id": e.key.id, "version": e.version, "act": e.act.as_str(),
            "signer": e.signer, "key_id": signature.key_id, "signature": signature.hex(),
        })
    });
    let items: Vec<Value> = items.collect();
    update(desk, RESIGN_ENDORSEMENTS, items).await
}

/// A person's signature as it is stored.
struct Endorsement<'a> {
    project: &'a str,
    key: ContractKey,
    version: i32,
    sha256: &'a str,
    act: Act,
    signer: &'a str,
    is_person: bool,
    base: i32,
    at: Timestamp,
    signature: Option<Signature>,
}

impl<'a> Endorsement<'a> {
    /// Reads a row of [`UNUSED_ENDORSEMENTS`]; `None` for one that can count for nothing.
    fn read(project: &'a str, row: &'a Row) -> Option<Self> {
        Some(Self {
            project,
            key: ContractKey::new(Kind::parse(row.get(0))?, row.get::<_, String>(1)),
            version: row.get(2),
            sha256: row.get(3),
            act: Act::parse(row.get(4))?,
            signer: row.get(5),
            is_person: row.get(6),
            base: row.get(7),
            at: row.get(8),
            signature: Signature::read(Some(row.get(9)), Some(row.get(10))),
        })
    }

    fn statement(&self) -> Statement<'_> {
        Statement::Endorsement {
            subject: signing::subject(self.project, &self.key, self.version, self.sha256),
            act: self.act,
            base: self.base,
            signer: self.signer,
            is_person: self.is_person,
            at_us: self.at.as_microsecond(),
        }
    }

    fn judge(&self, keyring: &Keyring) -> Result<(), SignatureProblem> {
        signing::check(keyring, &self.statement(), self.signature.as_ref())
    }
}

async fn update(desk: &mut Desk<'_>, sql: &str, items: Vec<Value>) -> Result<u64, ContractError> {
    if !items.is_empty() {
        let project = desk.by.scope().project().as_str().to_owned();
        desk.tx.rows(sql, &[&project, &Value::Array(items.clone()).to_string()]).await?;
    }
    Ok(items.len() as u64)
}

fn current_key(store: &Store) -> String {
    store.inner.keyring.current_id(crate::keyring::KeyName::Publish)
}

const RESIGN_VERSIONS: &str = "
UPDATE contract_version v SET key_id = r.key_id, signature = decode(r.signature, 'hex')
FROM jsonb_to_recordset($2::text::jsonb) AS r (kind text, id text, version integer, key_id text, signature text)
WHERE v.project_id = $1 AND v.kind = r.kind AND v.id = r.id AND v.version = r.version";

const RESIGN_ACTIVE: &str = "
UPDATE contract c SET key_id = r.key_id, signature = decode(r.signature, 'hex')
FROM jsonb_to_recordset($2::text::jsonb) AS r (kind text, id text, key_id text, signature text)
WHERE c.project_id = $1 AND c.kind = r.kind AND c.id = r.id";

const UNUSED_ENDORSEMENTS: &str = "
SELECT s.kind, s.id, s.version, v.sha256, s.act, s.signer, s.is_person, s.base_version, s.signed_at, s.key_id, s.signature
FROM contract_signature s JOIN contract_version v
  ON v.project_id = $1 AND v.kind = s.kind AND v.id = s.id AND v.version = s.version
WHERE s.project_id = $1 AND s.used_at IS NULL AND s.key_id <> $2";

const RESIGN_ENDORSEMENTS: &str = "
UPDATE contract_signature s SET key_id = r.key_id, signature = decode(r.signature, 'hex')
FROM jsonb_to_recordset($2::text::jsonb) AS r (kind text, id text, version integer, act text, signer text,
  key_id text, signature text)
WHERE s.project_id = $1 AND s.kind = r.kind AND s.id = r.id AND s.version = r.version AND s.act = r.act
  AND s.signer = r.signer";
