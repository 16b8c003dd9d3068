//! Callers. A key, or a person's token, proves a principal of one project; everything the caller then does happens
//! in a [`ProjectScope`] made here. Unknown project, unknown key, wrong secret, revoked and expired keys, and keys of
//! a disabled principal get the same answer after the same work.
//!
//! The rows are read at each request: what is revoked or disabled is refused at once, on every node.

use std::sync::Arc;

use awooop_core::activation::Signer;
use awooop_core::key;
use awooop_core::role::{Role, Roles};
use awooop_core::scopes::Scopes;
use awooop_core::{AgentId, ProjectId};
use jiff::Timestamp;
use subtle::ConstantTimeEq;
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::pool::Store;
use crate::principal::is_granted;
use crate::refusals::Refused;
use crate::scope::ProjectScope;

pub use crate::key::{ApiKey, CreateKeyError, NewKey, RotateKeyError, Rotated};

/// Somebody whose key or token was checked.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(crate) home: ProjectId,
    pub(crate) principal: String,
    pub(crate) roles: Roles,
    pub(crate) person: Option<String>,
    pub(crate) agent: Option<AgentId>,
    pub(crate) credential: Credential,
    pub(crate) scope: ProjectScope,
}

/// What a caller came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// An API key.
    Key {
        /// Its public id.
        key_id: String,
        /// What it is narrowed to; `None` for all that its principal may.
        scopes: Option<Scopes>,
        /// When it stops working.
        expires_at: Option<Timestamp>,
    },
    /// An access token of the issuer that people sign in with.
    Token {
        /// The issuer's name for the person.
        subject: String,
        /// When it stops counting.
        expires_at: Timestamp,
    },
}

impl Caller {
    /// The scope the caller acts in: the principal's own project, or where [`Caller::act_in`] went.
    pub fn scope(&self) -> &ProjectScope {
        &self.scope
    }

    /// The project the principal belongs to.
    pub fn home(&self) -> &ProjectId {
        &self.home
    }

    /// The principal's id in its own project.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// What the principal is.
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// What the caller came with.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// What the key is narrowed to, if it is.
    pub fn scopes(&self) -> Option<&Scopes> {
        match &self.credential {
            Credential::Key { scopes, .. } => scopes.as_ref(),
            Credential::Token { .. } => None,
        }
    }

    /// May the caller call `operation`: by a role, and by the key's scopes?
    pub fn may(&self, operation: &str) -> bool {
        self.roles.may(operation) && self.scopes().is_none_or(|scopes| scopes.allow(operation))
    }

    /// The person behind it; none for a service account.
    pub fn person(&self) -> Option<&str> {
        self.person.as_deref()
    }

    /// Who it is when signatures are counted: a person wherever they act, or this one service account.
    pub fn signer(&self) -> Signer {
        match &self.person {
            Some(person) => Signer { id: person.clone(), is_person: true },
            None => Signer { id: self.scope.actor().to_owned(), is_person: false },
        }
    }

    /// The agent the key is bound to.
    pub fn agent(&self) -> Option<&AgentId> {
        self.agent.as_ref()
    }

    /// An admin of the project it acts in.
    pub fn is_admin(&self) -> bool {
        self.roles.contains(Role::Admin)
    }

    /// An operator of the platform, who may act in any project.
    pub fn is_platform_admin(&self) -> bool {
        self.home.is_platform() && self.is_admin()
    }

    /// The caller acting in `project`: a platform admin anywhere, everybody else only at home.
    /// `None` says nothing about whether that project exists.
    pub fn act_in(&self, project: &ProjectId) -> Option<Caller> {
        if *project == self.home {
            return Some(self.clone());
        }
        if !self.is_platform_admin() {
            return None;
        }
        let actor = self.scope.actor().to_owned();
        Some(Caller { scope: ProjectScope::new(project.clone(), actor), ..self.clone() })
    }
}

const FIND_KEY: &str = "
SELECT k.principal_id, k.agent_id, k.secret_hmac, k.pepper_id, p.person, k.role, k.scopes, k.expires_at, k.revoked_at,
  p.disabled_at, b.role, b.key_id, b.mac
FROM api_key k
JOIN principal p ON p.project_id = $1 AND p.principal_id = k.principal_id
LEFT JOIN role_binding b ON b.project_id = $1 AND b.principal_id = k.principal_id
WHERE k.project_id = $1 AND k.key_id = $2";

/// The row of a key that was presented.
struct KeyRow {
    principal: String,
    agent: Option<String>,
    hmac: Vec<u8>,
    pepper_id: String,
    person: Option<String>,
    /// The role the key was made with.
    role: String,
    scopes: Option<Vec<String>>,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    disabled_at: Option<Timestamp>,
    /// The role the principal has now, with what proves it if it was granted since.
    now: Option<String>,
    granted: Option<(String, Vec<u8>)>,
}

impl KeyRow {
    /// A row that was changed behind the server's back may hold nulls: it is read without a panic.
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let granted = (row.try_get::<_, Option<String>>(11)?, row.try_get::<_, Option<Vec<u8>>>(12)?);
        Ok(Self {
            principal: row.try_get(0)?,
            agent: row.try_get(1)?,
            hmac: row.try_get(2)?,
            pepper_id: row.try_get(3)?,
            person: row.try_get(4)?,
            role: row.try_get(5)?,
            scopes: row.try_get(6)?,
            expires_at: row.try_get(7)?,
            revoked_at: row.try_get(8)?,
            disabled_at: row.try_get(9)?,
            now: row.try_get(10)?,
            granted: granted.0.zip(granted.1),
        })
    }

    /// The text the HMAC is taken of, for this presented key.
    fn bound(&self, presented: &str) -> String {
        let bound = Binding {
            key: presented,
            principal: &self.principal,
            person: self.person.as_deref(),
            role: &self.role,
            agent_id: self.agent.as_deref(),
            scopes: self.scopes.as_deref(),
        };
        bound.text()
    }

    /// Why the key is refused though its secret is right.
    fn refused(&self, now: Timestamp) -> Option<Refused> {
        if self.revoked_at.is_some() {
            return Some(Refused::Revoked);
        }
        if self.expires_at.is_some_and(|at| at <= now) {
            return Some(Refused::Expired);
        }
        self.disabled_at.map(|_| Refused::Disabled)
    }

    fn caller(self, home: ProjectId, key_id: &str, role: Role) -> Result<Caller, StoreError> {
        let agent = self.agent.map(|text| AgentId::parse(&text)).transpose();
        Ok(Caller {
            scope: ProjectScope::new(home.clone(), format!("{home}/{}", self.principal)),
            home,
            principal: self.principal,
            roles: role.into(),
            person: self.person,
            agent: agent.map_err(|e| StoreError::Corrupt(e.to_string()))?,
            credential: Credential::Key {
                key_id: key_id.to_owned(),
                scopes: self.scopes.map(Scopes::of_stored),
                expires_at: self.expires_at,
            },
        })
    }
}

impl Store {
    /// Checks a key. `None` for every key that is not valid, whatever the reason.
    pub async fn authenticate(&self, presented: &str) -> Result<Option<Caller>, StoreError> {
        let parsed = key::parse(presented);
        let project = parsed.as_ref().map_or_else(ProjectId::platform, |k| k.project.clone());
        let key_id = parsed.as_ref().map_or("", |k| k.id);
        let found = self.key_row(&project, key_id).await?;
        let (pepper, bound) = match &found {
            Some(row) => (row.pepper_id.as_str(), row.bound(presented)),
            None => ("", presented.to_owned()),
        };
        let computed = self.inner.keyring.key_hmac(pepper, &bound);
        let stored: &[u8] = found.as_ref().map_or(&[], |row| &row.hmac);
        // an unknown pepper and an empty column must not agree on nothing
        let computed = computed.filter(|hmac| hmac.len() == stored.len());
        let is_same = computed.is_some_and(|hmac| bool::from(hmac.ct_eq(stored)));
        let Some(row) = found else { return Ok(None) };
        if !is_same || parsed.is_none() {
            self.refuse_key(&project, key_id, Refused::WrongSecret);
            return Ok(None);
        }
        let now = self.inner.clock.now();
        let role = self.role_now(&project, &row)?;
        let refused = row.refused(now).or(if role.is_none() { Some(Refused::NoRole) } else { None });
        if let Some(reason) = refused {
            self.refuse_key(&project, key_id, reason);
            return Ok(None);
        }
        let Some(role) = role else { return Ok(None) };
        self.note_use(&project, key_id, now);
        row.caller(project, key_id, role).map(Some)
    }

    /// Does what the caller came with still count? For answers that stay open for long.
    pub async fn still_stands(&self, caller: &Caller) -> Result<bool, StoreError> {
        let now = self.inner.clock.now();
        match &caller.credential {
            Credential::Key { key_id, .. } => {
                let Some(row) = self.key_row(&caller.home, key_id).await? else { return Ok(false) };
                let role = self.role_now(&caller.home, &row)?;
                Ok(row.refused(now).is_none() && role.map(Roles::from) == Some(caller.roles))
            }
            Credential::Token { expires_at, .. } if *expires_at <= now => Ok(false),
            Credential::Token { .. } => self.is_enabled(&caller.home, &caller.principal).await,
        }
    }

    /// A deleted project has no keys, whatever rows are there still.
    async fn key_row(&self, project: &ProjectId, key_id: &str) -> Result<Option<KeyRow>, StoreError> {
        let lookup = ProjectScope::new(project.clone(), "nobody");
        let id = key_id.to_owned();
        let rows = self
            .share(&self.inner.reads.keys, &lookup, key_id, move |store, scope| {
                let id = id.clone();
                async move {
                    let rows = store.once(&scope, FIND_KEY, &[&scope.project().as_str(), &id]).await?;
                    Ok(Arc::new(rows))
                }
            })
            .await;
        let rows = match rows {
            Err(StoreError::Deleted) => return Ok(None),
            found => found?,
        };
        let read = rows.first().map(KeyRow::read).transpose();
        read.map_err(|e| StoreError::Corrupt(e.to_string()))
    }

    /// The principal's role: the one the key was made with, or one that was granted since and says so under a MAC. A
    /// row that was changed behind the server's back gives none.
    fn role_now(&self, project: &ProjectId, row: &KeyRow) -> Result<Option<Role>, StoreError> {
        let Some(now) = &row.now else { return Ok(None) };
        let role = Role::parse(now).ok_or_else(|| StoreError::Corrupt(now.clone()))?;
        let is_proven = *now == row.role
            || row.granted.as_ref().is_some_and(|(key_id, mac)| {
                is_granted(&self.inner.keyring, project, &row.principal, role, key_id, mac)
            });
        Ok(is_proven.then_some(role))
    }
}

/// What is stored of a key is an HMAC of its text together with whom it proves and what it may: a row that is changed
/// to prove somebody else, or more, fits no key any more.
#[derive(serde::Serialize)]
pub(crate) struct Binding<'a> {
    pub(crate) key: &'a str,
    pub(crate) principal: &'a str,
    pub(crate) person: Option<&'a str>,
    pub(crate) role: &'a str,
    pub(crate) agent_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scopes: Option<&'a [String]>,
}

impl Binding<'_> {
    pub(crate) fn text(&self) -> String {
        awooop_core::json::canonical(&awooop_core::json::to_value(self))
    }
}
