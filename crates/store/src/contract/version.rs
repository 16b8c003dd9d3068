//! Contract versions as rows, and what makes one believable: its body has the hash it names, and hash,
//! project, kind, id, version, time and publisher fit the publication's HMAC. A draft is not signed yet.

use awooop_core::contract::{AgentSpec, Kind, Manifest, Spec};
use awooop_core::statement::Statement;
use awooop_core::{ProjectId, json};
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::signing::{self, PublicationFacts, Signature};
use super::{ActiveContract, ContractKey};
use crate::error::StoreError;
use crate::keyring::{Keyring, SignatureProblem};
use crate::tx::ProjectTx;

/// Where a version is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// It may still change.
    Draft,
    /// It is fixed and signed, and waits to be activated.
    Published,
    /// It is in force.
    Active,
    /// It was in force; activating it again goes back to it.
    Retired,
}

impl VersionState {
    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            VersionState::Draft => "draft",
            VersionState::Published => "published",
            VersionState::Active => "active",
            VersionState::Retired => "retired",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Draft, Self::Published, Self::Active, Self::Retired].into_iter().find(|s| s.as_str() == text)
    }
}

/// When and by whom a version was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// When.
    pub at: Timestamp,
    /// By which principal, `<project>/<principal>`.
    pub by: String,
    /// By whom, when signatures are counted.
    pub publisher: String,
    /// The key that signed it.
    pub key_id: String,
}

/// One version of a contract.
#[derive(Debug, Clone)]
pub struct Version {
    /// Whose version.
    pub key: ContractKey,
    /// Counts from 1.
    pub version: i32,
    /// Its own id, which the rows made from it carry.
    pub version_id: Uuid,
    /// SHA-256 of its canonical document.
    pub sha256: String,
    /// Where it is in its life.
    pub state: VersionState,
    /// When it was drafted, or published without a draft.
    pub created_at: Timestamp,
    /// By which principal.
    pub created_by: String,
    /// Its publication; none for a draft.
    pub published: Option<Published>,
    /// The whole manifest.
    pub document: Value,
    /// Why it does not load, if it does not.
    pub problem: Option<SignatureProblem>,
}

/// The columns that [`read`] takes, of a `contract_version v`.
pub(crate) const COLUMNS: &str =
    "v.kind, v.id, v.version, v.version_id, v.sha256, v.state, v.created_at, v.created_by,
  v.published_at, v.published_by, v.publisher, v.key_id, v.signature, v.body";
/// How many they are.
pub(crate) const COLUMN_COUNT: usize = 14;

impl Version {
    /// Its name with its number, `agent/shop-analyst@3`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.key, self.version)
    }

    /// Itself, if it loads.
    ///
    /// # Errors
    /// [`StoreError::Untrusted`].
    pub fn trusted(&self) -> Result<&Self, StoreError> {
        match self.problem {
            None => Ok(self),
            Some(problem) => Err(StoreError::Untrusted { what: self.name(), problem }),
        }
    }

    /// Why it must not be in force. A draft never is: whoever calls a version one to escape its signature
    /// gains nothing.
    pub(crate) fn not_in_force(&self) -> Option<SignatureProblem> {
        self.problem.or((self.state == VersionState::Draft).then_some(SignatureProblem::Absent))
    }

    /// The typed manifest.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a newer version wrote what this one cannot read.
    pub fn manifest(&self, project: &ProjectId) -> Result<Manifest, StoreError> {
        let spec = Spec::of_document(self.key.kind, &self.document).map_err(|found| {
            StoreError::Corrupt(format!("{}: {}", self.name(), awooop_core::gate::describe(&found)))
        })?;
        Ok(Manifest {
            project: project.clone(),
            id: self.key.id.clone(),
            spec,
            document: self.document.clone(),
        })
    }
}

/// Reads a row and judges it.
pub(crate) fn read(keyring: &Keyring, project: &str, row: &Row) -> Result<Version, StoreError> {
    read_from(keyring, project, row, 0)
}

/// The same of a row whose first columns are something else.
pub(crate) fn read_from(
    keyring: &Keyring,
    project: &str,
    row: &Row,
    first: usize,
) -> Result<Version, StoreError> {
    let (kind, state): (&str, &str) = (row.get(first), row.get(first + 5));
    let kind = Kind::parse(kind).ok_or_else(|| StoreError::Corrupt(kind.to_owned()))?;
    let state = VersionState::parse(state).ok_or_else(|| StoreError::Corrupt(state.to_owned()))?;
    let body: &str = row.get(first + 13);
    let mut version = Version {
        key: ContractKey::new(kind, row.get::<_, String>(first + 1)),
        version: row.get(first + 2),
        version_id: row.get(first + 3),
        sha256: row.get(first + 4),
        state,
        created_at: row.get(first + 6),
        created_by: row.get(first + 7),
        published: published(row, first),
        document: serde_json::from_str(body).unwrap_or(Value::Null),
        problem: None,
    };
    let signature = Signature::read(row.get(first + 11), row.get(first + 12));
    version.problem = judge(keyring, project, &version, body, signature.as_ref()).err();
    Ok(version)
}

fn published(row: &Row, first: usize) -> Option<Published> {
    Some(Published {
        at: row.get::<_, Option<_>>(first + 8)?,
        by: row.get::<_, Option<_>>(first + 9)?,
        publisher: row.get::<_, Option<_>>(first + 10)?,
        key_id: row.get::<_, Option<_>>(first + 11)?,
    })
}

fn judge(
    keyring: &Keyring,
    project: &str,
    version: &Version,
    body: &str,
    signature: Option<&Signature>,
) -> Result<(), SignatureProblem> {
    if json::hex(&json::sha256(body.as_bytes())) != version.sha256 {
        return Err(SignatureProblem::Mismatch);
    }
    if version.state == VersionState::Draft || keyring.is_for_reading() {
        return Ok(());
    }
    let published = version.published.as_ref().ok_or(SignatureProblem::Absent)?;
    let facts = PublicationFacts {
        version_id: version.version_id,
        at: published.at,
        publisher: &published.publisher,
    };
    let subject = signing::subject(project, &version.key, version.version, &version.sha256);
    signing::check(keyring, &facts.statement(subject), signature)
}

/// The agent of a version row, with the model of the project where it names none; for claims and new runs.
pub(crate) fn agent(version: &Version, default_model: Option<&str>) -> Result<AgentSpec, StoreError> {
    match Spec::of_document(version.key.kind, &version.document) {
        Ok(Spec::Agent(agent)) => Ok(agent.with_default_model(default_model)),
        _ => Err(StoreError::Corrupt(format!("{} is no agent this version can read", version.name()))),
    }
}

/// The project's active contracts, in the order of kind and id, each with why it does not load.
pub(crate) async fn active(
    tx: &mut ProjectTx,
    keyring: &Keyring,
    project: &ProjectId,
) -> Result<Vec<ActiveContract>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, c.activated_at, c.activated_by, c.key_id, c.signature
         FROM contract c JOIN contract_version v
           ON v.project_id = $1 AND v.kind = c.kind AND v.id = c.id AND v.version = c.active_version
         WHERE c.project_id = $1 ORDER BY v.kind, v.id"
    );
    let rows = tx.rows(&sql, &[&project.as_str()]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        found.push(active_contract(keyring, project, row)?);
    }
    found.sort_by(|a, b| a.version.key.cmp(&b.version.key));
    Ok(found)
}

pub(crate) fn active_contract(
    keyring: &Keyring,
    project: &ProjectId,
    row: &Row,
) -> Result<ActiveContract, StoreError> {
    let version = read(keyring, project.as_str(), row)?;
    let activated_at = row.get::<_, Option<Timestamp>>(COLUMN_COUNT).unwrap_or(version.created_at);
    let signature = Signature::read(row.get(COLUMN_COUNT + 2), row.get(COLUMN_COUNT + 3));
    let subject = signing::subject(project.as_str(), &version.key, version.version, &version.sha256);
    let statement = Statement::Activation { subject, at_us: activated_at.as_microsecond() };
    let activation = match keyring.is_for_reading() {
        true => None,
        false => signing::check(keyring, &statement, signature.as_ref()).err(),
    };
    Ok(ActiveContract {
        problem: version.not_in_force().or(activation),
        activated_at,
        activated_by: row.get::<_, Option<String>>(COLUMN_COUNT + 1).unwrap_or_default(),
        version,
    })
}

/// A contract that was in force and is no more.
pub(crate) struct Ended {
    pub(crate) key: ContractKey,
    /// Since when.
    pub(crate) at: Option<Timestamp>,
    /// Why that is not believed.
    pub(crate) problem: Option<SignatureProblem>,
}

/// The project's contracts that ended. One whose versions say it was in force, and that has no signature over
/// its end, was ended behind the server's back.
pub(crate) async fn ended(
    tx: &mut ProjectTx,
    keyring: &Keyring,
    project: &ProjectId,
) -> Result<Vec<Ended>, StoreError> {
    let sql = "SELECT c.kind, c.id, c.activated_at, c.key_id, c.signature FROM contract c
         WHERE c.project_id = $1 AND c.active_version IS NULL AND (c.activated_at IS NOT NULL
           OR EXISTS (SELECT FROM contract_version v WHERE v.project_id = $1 AND v.kind = c.kind AND v.id = c.id
             AND v.state IN ('active', 'retired')))
         ORDER BY c.kind, c.id";
    let rows = tx.rows(sql, &[&project.as_str()]).await?;
    let read = |row: &Row| {
        let kind: &str = row.get(0);
        let kind = Kind::parse(kind).ok_or_else(|| StoreError::Corrupt(kind.to_owned()))?;
        let key = ContractKey::new(kind, row.get::<_, String>(1));
        let at: Option<Timestamp> = row.get(2);
        let signature = Signature::read(row.get(3), row.get(4));
        let subject = signing::subject(project.as_str(), &key, 0, "");
        let at_us = at.map_or(0, |at| at.as_microsecond());
        let judged = signing::check(keyring, &Statement::Activation { subject, at_us }, signature.as_ref());
        let problem = judged.err().filter(|_| !keyring.is_for_reading());
        Ok(Ended { key, at, problem })
    };
    rows.iter().map(read).collect()
}
