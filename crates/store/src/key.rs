//! A project's API keys: made, listed, revoked. A key's text is returned once, when it is made; what is stored of it
//! is an HMAC that also covers whom the key proves and what it may ([`crate::auth`] checks it).
//!
//! Rotating a key lies in `rotate`, the platform's first key in `bootstrap`.

mod bootstrap;
mod rotate;

use awooop_core::ids::{PersonId, PrincipalId};
use awooop_core::key::{self, KEY_ID_LEN, KEY_SECRET_LEN};
use awooop_core::role::Role;
use awooop_core::scopes::Scopes;
use awooop_core::{AgentId, ProjectId};
use jiff::Timestamp;
use rand::distr::{Alphanumeric, SampleString};
use secrecy::SecretString;
use serde_json::json;
use tokio_postgres::Row;

pub use rotate::{RotateKeyError, Rotated};

use crate::audit::{AuditEvent, Note};
use crate::auth::Binding;
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// A key's row, without its secret.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// The public id.
    pub key_id: String,
    /// The principal it proves.
    pub principal: String,
    /// The principal's role now; none when it was taken from it.
    pub role: Option<Role>,
    /// The person it belongs to.
    pub person: Option<String>,
    /// The agent it is bound to.
    pub agent_id: Option<String>,
    /// What it is narrowed to; none for all that its principal may.
    pub scopes: Option<Vec<String>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When its principal was disabled, if it is.
    pub disabled_at: Option<Timestamp>,
    /// When it was used last, at most a minute behind.
    pub last_used_at: Option<Timestamp>,
    /// The key it was rotated to.
    pub replaced_by: Option<String>,
}

/// What a new key is to be.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The principal; made when it does not exist.
    pub principal: PrincipalId,
    /// Its role.
    pub role: Role,
    /// The person it belongs to; who may say so is the caller's question.
    pub person: Option<PersonId>,
    /// The agent to bind it to; the role is then [`Role::Agent`].
    pub agent: Option<AgentId>,
    /// What to narrow it to; how far is the caller's question.
    pub scopes: Option<Scopes>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

impl NewKey {
    /// A key of a service account that may all that the role may, until it is revoked.
    pub fn of_service(principal: PrincipalId, role: Role) -> Self {
        Self { principal, role, person: None, agent: None, scopes: None, expires_at: None }
    }
}

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateKeyError {
    /// The principal exists with another role.
    #[error("`{principal}` already has the role {role}; use another name, or grant it the other role")]
    OtherRole {
        /// The principal.
        principal: String,
        /// The role it has.
        role: String,
    },
    /// The principal exists and belongs to another person, or to none.
    #[error("`{0}` exists already and belongs to somebody else; use another name")]
    OtherPerson(String),
    /// The principal is disabled.
    #[error("`{0}` is disabled and gets no key")]
    Disabled(String),
    /// The principal's role was taken back.
    #[error("`{0}` has no role any more and gets no key; grant it one first")]
    NoRole(String),
    /// The project has no such agent.
    #[error("the project has no active agent `{0}`")]
    NoAgent(AgentId),
    /// The project does not exist.
    #[error("there is no such project")]
    NoProject,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

const KEY_COLUMNS: &str =
    "k.key_id, k.principal_id, b.role, p.person, k.agent_id, k.scopes, k.created_at, k.expires_at,
  k.revoked_at, p.disabled_at, k.last_used_at, k.replaced_by";
const KEY_TABLES: &str = "api_key k
  JOIN principal p ON p.project_id = $1 AND p.principal_id = k.principal_id
  LEFT JOIN role_binding b ON b.project_id = $1 AND b.principal_id = k.principal_id";

const CREATE: &str = "
WITH p AS (   -- the guard: the project exists, and so does the agent, if one is named
  SELECT project_id FROM project WHERE project_id = $1 AND ($4::text IS NULL OR EXISTS
    (SELECT FROM contract c WHERE c.project_id = $1 AND c.kind = 'agent' AND c.id = $4
      AND c.active_version IS NOT NULL))),
i AS (INSERT INTO principal (project_id, principal_id, kind, person, created_at)
  SELECT $1, $2, $5, $14, $9 FROM p ON CONFLICT DO NOTHING RETURNING principal_id),
n AS (        -- and a principal belongs to one person, or to none, for good; a disabled one gets no key
  SELECT principal_id FROM i UNION ALL SELECT o.principal_id FROM principal o, p
  WHERE o.project_id = $1 AND o.principal_id = $2 AND o.person IS NOT DISTINCT FROM $14::text
    AND o.disabled_at IS NULL AND o.issuer IS NULL),
r AS (INSERT INTO role_binding (project_id, principal_id, role, created_at)
  SELECT $1, $2, $6, $9 FROM i RETURNING role),
h AS (        -- who was there keeps the role they have: another's key is refused, and one whose role was taken back gets none
  SELECT role FROM r UNION ALL SELECT b.role FROM role_binding b, n
  WHERE b.project_id = $1 AND b.principal_id = n.principal_id AND b.role = $6),
k AS (INSERT INTO api_key (project_id, key_id, principal_id, agent_id, pepper_id, secret_hmac,
        created_at, created_by, expires_at, role, scopes)
  SELECT $1, $3, $2, $4, $7, $8, $9, $11, $12, $6, $17 FROM h RETURNING key_id),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
  SELECT $1, $10, $9, $11, 'key.create', 'key/' || key_id, $13, $15, $16 FROM k)
SELECT (SELECT count(*) FROM p), (SELECT count(*) FROM n), (SELECT count(*) FROM k)";

impl Store {
    /// Makes a key in the scope's project and returns it whole, once.
    pub async fn create_key(
        &self,
        scope: &ProjectScope,
        new: &NewKey,
    ) -> Result<(SecretString, ApiKey), CreateKeyError> {
        let agent = new.agent.as_ref().map(AgentId::as_str);
        let person = new.person.as_ref().map(PersonId::as_str);
        let scopes = new.scopes.as_ref().map(Scopes::to_vec);
        let kind = match (agent, person) {
            (Some(_), _) => "agent",
            (None, Some(_)) => "human",
            (None, None) => "service",
        };
        let proves = Proven {
            principal: new.principal.as_str(),
            person,
            role: new.role.as_str(),
            agent_id: agent,
            scopes: scopes.as_deref(),
        };
        let minted = self.mint(scope.project(), &proves);
        let event = self.key_made(scope, &minted.key_id, &proves, new.expires_at, None);
        let rows = self
            .once(
                scope,
                CREATE,
                &[
                    &scope.project().as_str(),
                    &new.principal.as_str(),
                    &minted.key_id,
                    &agent,
                    &kind,
                    &new.role.as_str(),
                    &minted.pepper_id,
                    &minted.hmac,
                    &event.at,
                    &event.id,
                    &event.actor,
                    &new.expires_at,
                    &event.body,
                    &person,
                    &event.key_id,
                    &event.mac,
                    &scopes,
                ],
            )
            .await?;
        let row = rows.first().ok_or_else(|| StoreError::Corrupt("no answer to create_key".into()))?;
        match (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)) {
            (0, _, _) => return Err(self.why_no_key(scope, new).await?),
            (_, 0, _) | (_, _, 0) => return Err(self.why_not_theirs(scope, new).await?),
            _ => {}
        }
        let made = ApiKey {
            key_id: minted.key_id,
            principal: new.principal.to_string(),
            role: Some(new.role),
            person: person.map(str::to_owned),
            agent_id: agent.map(str::to_owned),
            scopes,
            created_at: event.at,
            expires_at: new.expires_at,
            revoked_at: None,
            disabled_at: None,
            last_used_at: None,
            replaced_by: None,
        };
        Ok((minted.text, made))
    }

    /// A new key's text and what is stored of it.
    fn mint(&self, project: &ProjectId, proves: &Proven<'_>) -> Minted {
        let (key_id, secret) = random_key();
        let text = key::format(project, &key_id, &secret);
        let pepper_id = self.inner.keyring.pepper_id();
        let bound = Binding {
            key: &text,
            principal: proves.principal,
            person: proves.person,
            role: proves.role,
            agent_id: proves.agent_id,
            scopes: proves.scopes,
        };
        let hmac = self.inner.keyring.key_hmac(&pepper_id, &bound.text());
        let hmac = hmac.expect("the current pepper is there");
        Minted { key_id, text: text.into(), pepper_id, hmac }
    }

    /// The audit's event about a new key.
    fn key_made(
        &self,
        scope: &ProjectScope,
        key_id: &str,
        proves: &Proven<'_>,
        expires_at: Option<Timestamp>,
        rotated_from: Option<&str>,
    ) -> AuditEvent {
        let mut body = json!({
            "principal": proves.principal, "role": proves.role, "agent_id": proves.agent_id,
            "person": proves.person, "scopes": proves.scopes, "expires_at": expires_at,
        });
        if let Some(former) = rotated_from {
            body["rotated_from"] = former.into();
        }
        self.audit(scope, Note::new("key.create", format!("key/{key_id}"), body))
    }

    async fn why_no_key(&self, scope: &ProjectScope, new: &NewKey) -> Result<CreateKeyError, StoreError> {
        let project = self.find_project(scope).await?;
        Ok(match (&new.agent, project) {
            (Some(agent), Some(_)) => CreateKeyError::NoAgent(agent.clone()),
            _ => CreateKeyError::NoProject,
        })
    }

    async fn why_not_theirs(&self, scope: &ProjectScope, new: &NewKey) -> Result<CreateKeyError, StoreError> {
        let principal = new.principal.to_string();
        let person = new.person.as_ref().map(PersonId::as_str);
        Ok(match self.find_principal(scope, new.principal.as_str()).await? {
            Some(found) if found.person.as_deref() != person || found.subject.is_some() => {
                CreateKeyError::OtherPerson(principal)
            }
            Some(found) if found.disabled_at.is_some() => CreateKeyError::Disabled(principal),
            Some(found) => match found.role {
                Some(role) => CreateKeyError::OtherRole { principal, role: role.as_str().to_owned() },
                None => CreateKeyError::NoRole(principal),
            },
            None => CreateKeyError::OtherPerson(principal),
        })
    }

    /// The project's keys, newest first; `before` is the last page's oldest.
    pub async fn list_keys(
        &self,
        scope: &ProjectScope,
        before: Option<(Timestamp, String)>,
        limit: i64,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let (at, id) = before.map_or((Timestamp::MAX, String::new()), |(at, id)| (at, id));
        let at = at.min(far_future());
        let sql = format!(
            "SELECT {KEY_COLUMNS} FROM {KEY_TABLES}
             WHERE k.project_id = $1 AND (k.created_at, k.key_id) < ($2, $3)
             ORDER BY k.created_at DESC, k.key_id DESC LIMIT $4"
        );
        let rows = self.once(scope, &sql, &[&scope.project().as_str(), &at, &id, &limit]).await?;
        rows.iter().map(api_key).collect()
    }

    /// A key of the project.
    pub async fn find_key(&self, scope: &ProjectScope, key_id: &str) -> Result<Option<ApiKey>, StoreError> {
        let sql = format!("SELECT {KEY_COLUMNS} FROM {KEY_TABLES} WHERE k.project_id = $1 AND k.key_id = $2");
        let rows = self.once(scope, &sql, &[&scope.project().as_str(), &key_id]).await?;
        rows.first().map(api_key).transpose()
    }

    /// Revokes a key; `None` when the project has none of this id. Revoking twice keeps the first time.
    pub async fn revoke_key(&self, scope: &ProjectScope, key_id: &str) -> Result<Option<ApiKey>, StoreError> {
        let event = self.audit(scope, Note::new("key.revoke", format!("key/{key_id}"), json!({})));
        let sql = format!(
            "WITH u AS (UPDATE api_key SET revoked_at = $3
                        WHERE project_id = $1 AND key_id = $2 AND revoked_at IS NULL RETURNING key_id),
             a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
                   SELECT $1, $4, $3, $5, 'key.revoke', 'key/' || key_id, $6, $7, $8 FROM u)
             SELECT {KEY_COLUMNS}, (SELECT count(*) FROM u) FROM {KEY_TABLES}
             WHERE k.project_id = $1 AND k.key_id = $2"
        );
        let rows = self
            .once(
                scope,
                &sql,
                &[
                    &scope.project().as_str(),
                    &key_id,
                    &event.at,
                    &event.id,
                    &event.actor,
                    &event.body,
                    &event.key_id,
                    &event.mac,
                ],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let mut found = api_key(row)?;
        if row.get::<_, i64>(12) == 1 {
            found.revoked_at = Some(event.at);
        }
        Ok(Some(found))
    }
}

/// Whom a key proves and what it may.
struct Proven<'a> {
    principal: &'a str,
    person: Option<&'a str>,
    role: &'a str,
    agent_id: Option<&'a str>,
    scopes: Option<&'a [String]>,
}

/// A new key, and what is stored of it.
struct Minted {
    key_id: String,
    text: SecretString,
    pepper_id: String,
    hmac: Vec<u8>,
}

/// A key's public id and its secret. The generator is bound to its thread and stays in here.
fn random_key() -> (String, String) {
    let mut rng = rand::rng();
    (Alphanumeric.sample_string(&mut rng, KEY_ID_LEN), Alphanumeric.sample_string(&mut rng, KEY_SECRET_LEN))
}

/// Later than any row, and still a time PostgreSQL can hold.
pub(crate) fn far_future() -> Timestamp {
    Timestamp::from_second(32_503_680_000).expect("the year 3000")
}

fn api_key(row: &Row) -> Result<ApiKey, StoreError> {
    let role: Option<String> = row.get(2);
    let role = role.map(|text| Role::parse(&text).ok_or(StoreError::Corrupt(text))).transpose()?;
    Ok(ApiKey {
        key_id: row.get(0),
        principal: row.get(1),
        role,
        person: row.get(3),
        agent_id: row.get(4),
        scopes: row.get(5),
        created_at: row.get(6),
        expires_at: row.get(7),
        revoked_at: row.get(8),
        disabled_at: row.get(9),
        last_used_at: row.get(10),
        replaced_by: row.get(11),
    })
}
