//! A project's redactors: one for each direction its data can take, compiled from the contracts that are active.
//!
//! What is active is asked with every request and every step, as a mark over the signed rows that say so; only when
//! the mark is new are the contracts read, judged and compiled. So a change counts at once and costs no restart.
//! Invariant: only contracts whose signatures hold can let anything through. Where one does not load, is gone or cannot
//! be read, all personal data is masked in every direction until that is mended.
//! Deliberately absent: a redactor that lets a credential pass, and a way to change what logs and audit hold.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use awooop_core::ProjectId;
use awooop_core::contract::{
    DataAction, DataClass, DirectionSpec, Kind, PersonalDataSpec, RedactionPattern, Spec,
};
use awooop_redact::{Action, Class, Clean, CleanJson, Redactor, Rules, TagKey};
use serde_json::Value;
use tokio_postgres::Row;

use crate::contract::{ActiveContract, version};
use crate::error::StoreError;
use crate::keyring::{KeyInfo, KeyName, Keyring};
use crate::pool::Store;
use crate::scope::ProjectScope;

/// The kinds of contracts that say what is redacted.
const KINDS: [Kind; 2] = [Kind::Project, Kind::Policy];

/// What something held that may not go where it was going. `Display` names the class, never the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it holds {0}, which the project's contracts block in this direction")]
pub struct Blocked(pub Class);

/// What may go one way. Credentials never may, and are masked.
#[derive(Clone)]
pub struct Direction(Redactor);

impl Direction {
    /// A direction of this redactor.
    pub fn of(redactor: Redactor) -> Self {
        Self(redactor)
    }

    /// The text as it may go on.
    ///
    /// # Errors
    /// [`Blocked`].
    pub fn text(&self, text: &str) -> Result<Clean, Blocked> {
        self.0.pass(text).map_err(Blocked)
    }

    /// The value as it may go on.
    ///
    /// # Errors
    /// [`Blocked`].
    pub fn json(&self, value: Value) -> Result<CleanJson, Blocked> {
        self.0.pass_json(value).map_err(Blocked)
    }

    /// Its redactor, which masks what [`Direction::text`] and [`Direction::json`] block.
    pub fn redactor(&self) -> &Redactor {
        &self.0
    }
}

/// What a project's data goes through, by direction.
pub struct ProjectRedactors {
    /// Messages to models, tool results and definitions to MCP clients.
    pub to_model: Direction,
    /// Arguments of tool calls.
    pub to_tool: Direction,
    /// Inputs, steps and outputs as they are kept. Nothing is blocked here: what was done is recorded.
    pub to_journal: Direction,
    /// Answers of the API to people.
    pub to_people: Direction,
    /// Logs, spans and the audit: credentials masked, all else tagged, whatever the contracts say.
    pub observed: Redactor,
}

impl fmt::Debug for ProjectRedactors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProjectRedactors")
    }
}

impl ProjectRedactors {
    /// Masks all personal data everywhere: in force where no trusted contract says otherwise.
    fn closed(key: TagKey) -> Self {
        let masked = Direction(Redactor::with(Rules::everything(Action::Mask)));
        Self {
            to_model: masked.clone(),
            to_tool: masked.clone(),
            to_journal: masked.clone(),
            to_people: masked,
            observed: Redactor::with(Rules::everything(Action::Tag).tag_key(key)),
        }
    }

    /// The path and class of a credential in `value`, if there is one, whatever else is in it.
    pub fn credential_in(&self, value: &Value) -> Option<(String, Class)> {
        // without other rules: a find of theirs would come first
        Redactor::new().json_contains_credential(value)
    }

    /// `None` when a pattern does not compile, which no contract that was applied has.
    fn compile(personal_data: &PersonalDataSpec, patterns: &[RedactionPattern], key: TagKey) -> Option<Self> {
        let mut strictest: BTreeMap<&str, DataAction> = BTreeMap::new();
        for pattern in patterns {
            let action = strictest.entry(&pattern.name).or_insert(pattern.action);
            *action = pattern.action.max(*action);
        }
        let mut base = Rules::credentials().tag_key(key);
        for pattern in patterns {
            // a pattern that lets through is none; the schema has no such action
            let action = strictest[pattern.name.as_str()].max(DataAction::Tag);
            base = base.pattern(&pattern.name, &pattern.pattern, action_of(action)).ok()?;
        }
        let direction = |spec: &Option<DirectionSpec>| {
            let spec = spec.clone().unwrap_or_default();
            let rules = DataClass::EACH.into_iter().fold(base.clone(), |rules, class| {
                rules.personal(class_of(class), action_of(spec.action(class)))
            });
            let allowed = personal_data.allow.iter().flatten();
            Direction(Redactor::with(allowed.fold(rules, |rules, value| rules.allow(value))))
        };
        let tagged = base.clone().every_pattern(Action::Tag);
        let observed =
            Class::PERSONAL.into_iter().fold(tagged, |rules, class| rules.personal(class, Action::Tag));
        Some(Self {
            to_model: direction(&personal_data.to_model),
            to_tool: direction(&personal_data.to_tool),
            to_journal: direction(&personal_data.to_journal),
            to_people: direction(&personal_data.to_people),
            observed: Redactor::with(observed),
        })
    }
}

fn action_of(action: DataAction) -> Action {
    match action {
        DataAction::Allow => Action::Allow,
        DataAction::Tag => Action::Tag,
        DataAction::Mask => Action::Mask,
        DataAction::Block => Action::Block,
    }
}

fn class_of(class: DataClass) -> Class {
    match class {
        DataClass::All => unreachable!("it is no class, and stands in none of the lists"),
        DataClass::Email => Class::Email,
        DataClass::Phone => Class::Phone,
        DataClass::NationalId => Class::NationalId,
        DataClass::CompanyNumber => Class::CompanyNumber,
        DataClass::Card => Class::Card,
        DataClass::Iban => Class::Iban,
        DataClass::IpAddress => Class::IpAddress,
    }
}

/// Which rows say what is in force, and which keys judge them. A new one asks for a new look.
#[derive(PartialEq, Eq)]
struct Mark {
    rows: String,
    keys: Vec<KeyInfo>,
}

/// The redactors that were in force when each project was last asked for.
#[derive(Default)]
pub(crate) struct Known(RwLock<HashMap<ProjectId, (Mark, Arc<ProjectRedactors>)>>);

/// Mixed into a project's tag key: random, in the project's row, gone with it.
type Salt = Vec<u8>;

impl Known {
    fn find(&self, project: &ProjectId, mark: Option<&Mark>) -> Option<Arc<ProjectRedactors>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (found, redactors) = known.get(project)?;
        mark.is_none_or(|mark| mark == found).then(|| Arc::clone(redactors))
    }

    /// Lets go of what was kept of a project, and so of its tag key.
    pub(crate) fn forget(&self, project: &ProjectId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(project);
    }

    fn keep(&self, project: &ProjectId, mark: Mark, redactors: &Arc<ProjectRedactors>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(project.clone(), (mark, Arc::clone(redactors)));
    }
}

/// A text that differs whenever another version of what [`KINDS`] say is in force, or none; to be sent with what else
/// a flight asks. `$1` is the project.
pub(crate) const MARK: &str = "
SELECT coalesce((SELECT contract_version_id::text FROM project WHERE project_id = $1), '') || ' ' || coalesce(
  (SELECT string_agg(format('%s/%s@%s %s %s', c.kind, c.id, c.active_version, c.key_id, encode(c.signature, 'hex')),
            ' ' ORDER BY c.kind, c.id)
   FROM contract c WHERE c.project_id = $1 AND c.kind IN ('project', 'policy')), '')";

impl Store {
    /// The project's redactors as its contracts say now.
    ///
    /// # Errors
    /// The database failed. Contracts that do not load are no error: then all personal data is masked.
    pub async fn redactors(&self, scope: &ProjectScope) -> Result<Arc<ProjectRedactors>, StoreError> {
        self.share(&self.inner.reads.redactors, scope, "", async |store: Store, scope: ProjectScope| {
            let rows = store.once(&scope, MARK, &[&scope.project().as_str()]).await?;
            store.redactors_at(&scope, &rows).await
        })
        .await
    }

    /// The same with the answer to [`MARK`] in hand.
    pub(crate) async fn redactors_at(
        &self,
        scope: &ProjectScope,
        mark: &[Row],
    ) -> Result<Arc<ProjectRedactors>, StoreError> {
        let rows = mark.first().ok_or_else(|| StoreError::Corrupt("no mark of the contracts".into()))?.get(0);
        let mark = Mark { rows, keys: self.inner.keyring.keys() };
        if let Some(known) = self.inner.known.find(scope.project(), Some(&mark)) {
            return Ok(known);
        }
        let redactors = Arc::new(self.load_redactors(scope).await?);
        self.inner.known.keep(scope.project(), mark, &redactors);
        Ok(redactors)
    }

    /// The project's redactors as they were last asked for: for what follows within the same request or step, and
    /// where nothing can be awaited. Of a project that was never asked for, those that mask all personal data.
    pub fn known_redactors(&self, project: &ProjectId) -> Arc<ProjectRedactors> {
        let known = self.inner.known.find(project, None);
        known.unwrap_or_else(|| {
            Arc::new(ProjectRedactors::closed(tag_key(&self.inner.keyring, project, None)))
        })
    }

    async fn load_redactors(&self, scope: &ProjectScope) -> Result<ProjectRedactors, StoreError> {
        let (project, keyring) = (scope.project(), &self.inner.keyring);
        let mut tx = self.begin(scope).await?;
        let named = tx
            .rows(
                "SELECT contract_version_id IS NOT NULL, tag_salt FROM project WHERE project_id = $1",
                &[&project.as_str()],
            )
            .await?;
        let active = version::active(&mut tx, keyring, project).await?;
        let ended = version::ended(&mut tx, keyring, project).await?;
        tx.commit().await?;
        let salt: Option<Salt> = named.first().map(|row| row.get(1));
        let key = || tag_key(keyring, project, salt.as_deref());
        let is_ended_by_us =
            ended.iter().filter(|e| KINDS.contains(&e.key.kind)).all(|e| e.problem.is_none());
        let is_whole = named.first().is_none_or(|row| !row.get::<_, bool>(0))
            || active.iter().any(|a| a.version.key.kind == Kind::Project);
        let contracts: Vec<ActiveContract> =
            active.into_iter().filter(|a| KINDS.contains(&a.version.key.kind)).collect();
        let compiled = (is_ended_by_us && is_whole).then(|| read(&contracts)).flatten().and_then(
            |(personal_data, patterns)| ProjectRedactors::compile(&personal_data, &patterns, key()),
        );
        if compiled.is_none() {
            tracing::error!(
                project = project.as_str(),
                "a contract does not load: all personal data is masked"
            );
        }
        Ok(compiled.unwrap_or_else(|| ProjectRedactors::closed(key())))
    }
}

/// What the contracts say; `None` unless all of them can be believed and read.
fn read(contracts: &[ActiveContract]) -> Option<(PersonalDataSpec, Vec<RedactionPattern>)> {
    let (mut personal_data, mut patterns) = (PersonalDataSpec::default(), Vec::new());
    for contract in contracts {
        let version = &contract.version;
        if contract.problem.is_some() {
            return None;
        }
        match Spec::of_document(version.key.kind, &version.document).ok()? {
            Spec::Project(spec) => personal_data = spec.personal_data.unwrap_or_default(),
            Spec::Policy(spec) => patterns.extend(spec.redaction.into_iter().flat_map(|r| r.patterns)),
            Spec::Provider(_) | Spec::Agent(_) | Spec::Channel(_) => {}
        }
    }
    Some((personal_data, patterns))
}

/// The key of a project's tags: whoever lacks the keyring can test no guess, whoever lacks the project's salt cannot
/// either, and no two projects' tags join. Where no salt is known, this process's own stands in, so that no tag is ever
/// made that outlives its project.
fn tag_key(keyring: &Keyring, project: &ProjectId, salt: Option<&[u8]>) -> TagKey {
    static OWN_SALT: LazyLock<[u8; 32]> = LazyLock::new(rand::random);
    let salt = salt.unwrap_or(&*OWN_SALT);
    let message = [b"redaction tags of a project\0", project.as_str().as_bytes(), b"\0", salt].concat();
    let (_, mac) = keyring.sign(KeyName::RedactionTag, &message);
    TagKey::new(mac)
}

impl Keyring {
    /// The key of the tags in this node's log, where no project is known.
    pub fn log_tag_key(&self) -> TagKey {
        let (_, mac) = self.sign(KeyName::RedactionTag, b"redaction tags of the log");
        TagKey::new(mac)
    }
}

#[cfg(test)]
mod tests;
