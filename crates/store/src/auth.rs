//! Keys and callers. A key proves a principal of one project; everything the caller then does happens in
//! a [`ProjectScope`] made here. Unknown project, unknown key, wrong secret, revoked and expired keys get
//! the same answer after the same work.

use std::sync::Arc;

use awooop_core::activation::Signer;
use awooop_core::ids::{PersonId, PrincipalId};
use awooop_core::key::{self, KEY_ID_LEN, KEY_SECRET_LEN};
use awooop_core::role::Role;
use awooop_core::{AgentId, ProjectId};
use jiff::Timestamp;
use rand::distr::{Alphanumeric, SampleString};
use secrecy::SecretString;
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio_postgres::Row;

use crate::audit::Note;
use crate::error::StoreError;
use crate::pool::Store;
use crate::refusals::Refused;
use crate::scope::ProjectScope;

/// Somebody whose key was checked.
#[derive(Debug, Clone)]
pub struct Caller {
    home: ProjectId,
    principal: String,
    role: Role,
    person: Option<String>,
    agent: Option<AgentId>,
    scope: ProjectScope,
}

impl Caller {
    /// The scope the caller acts in: the key's own project, or where [`Caller::act_in`] went.
    pub fn scope(&self) -> &ProjectScope {
        &self.scope
    }

    /// The principal's id in the key's own project.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// What the principal may do.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The person behind the key; none for a service account.
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

    /// An operator of the platform, who may act in any project.
    pub fn is_platform_admin(&self) -> bool {
        self.home.is_platform() && self.role == Role::Admin
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

/// A key's row, without its secret.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// The public id.
    pub key_id: String,
    /// The principal it proves.
    pub principal: String,
    /// The principal's role.
    pub role: Role,
    /// The person it belongs to.
    pub person: Option<String>,
    /// The agent it is bound to.
    pub agent_id: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
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
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateKeyError {
    /// The principal exists with another role.
    #[error("`{principal}` already has the role {role}; use another name")]
    OtherRole {
        /// The principal.
        principal: String,
        /// The role it has.
        role: String,
    },
    /// The principal exists and belongs to another person, or to none.
    #[error("`{0}` exists already and belongs to somebody else; use another name")]
    OtherPerson(String),
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
    "k.key_id, k.principal_id, b.role, k.agent_id, k.created_at, k.expires_at, k.revoked_at,
  (SELECT p.person FROM principal p WHERE p.project_id = $1 AND p.principal_id = k.principal_id)";

const FIND_KEY: &str = "
SELECT k.principal_id, k.agent_id, k.secret_hmac, k.expires_at, k.revoked_at, b.role, k.pepper_id, p.person
FROM api_key k
JOIN principal p ON p.project_id = $1 AND p.principal_id = k.principal_id
JOIN role_binding b ON b.project_id = $1 AND b.principal_id = k.principal_id
WHERE k.project_id = $1 AND k.key_id = $2";

impl Store {
    /// Checks a key. `None` for every key that is not valid, whatever the reason.
    pub async fn authenticate(&self, presented: &str) -> Result<Option<Caller>, StoreError> {
        let parsed = key::parse(presented);
        let project = parsed.as_ref().map_or_else(ProjectId::platform, |k| k.project.clone());
        let key_id = parsed.as_ref().map_or("", |k| k.id);
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
            .await?;
        let (pepper, bound) = match rows.first() {
            Some(row) => (row.get(6), bound_key(row, presented)?),
            None => ("", presented.to_owned()),
        };
        let computed = self.inner.keyring.key_hmac(pepper, &bound);
        let stored: &[u8] = rows.first().map_or(&[], |row| row.get(2));
        // an unknown pepper and an empty column must not agree on nothing
        let computed = computed.filter(|hmac| hmac.len() == stored.len());
        let is_same = computed.is_some_and(|hmac| bool::from(hmac.ct_eq(stored)));
        let Some(row) = rows.first().filter(|_| is_same && parsed.is_some()) else {
            if !rows.is_empty() {
                self.refuse_key(&project, key_id, Refused::WrongSecret);
            }
            return Ok(None);
        };
        let is_expired = row.get::<_, Option<Timestamp>>(3).is_some_and(|at| at <= self.inner.clock.now());
        let is_revoked = row.get::<_, Option<Timestamp>>(4).is_some();
        if is_expired || is_revoked {
            self.refuse_key(&project, key_id, if is_revoked { Refused::Revoked } else { Refused::Expired });
            return Ok(None);
        }
        caller(project, row).map(Some)
    }

    /// Makes a key in the scope's project and returns it whole, once.
    pub async fn create_key(
        &self,
        scope: &ProjectScope,
        new: &NewKey,
    ) -> Result<(SecretString, ApiKey), CreateKeyError> {
        let (key_id, secret) = random_key();
        let text = key::format(scope.project(), &key_id, &secret);
        let pepper_id = self.inner.keyring.pepper_id();
        let agent = new.agent.as_ref().map(AgentId::as_str);
        let person = new.person.as_ref().map(PersonId::as_str);
        let kind = match (agent, person) {
            (Some(_), _) => "agent",
            (None, Some(_)) => "human",
            (None, None) => "service",
        };
        let body = json!({
            "role": new.role.as_str(), "agent_id": agent, "person": person, "expires_at": new.expires_at,
        });
        let bound = Binding {
            key: &text,
            principal: new.principal.as_str(),
            person,
            role: new.role.as_str(),
            agent_id: agent,
        };
        let hmac = self.inner.keyring.key_hmac(&pepper_id, &bound.text());
        let hmac = hmac.expect("the current pepper is there");
        let event = self.audit(scope, Note::new("key.create", format!("key/{key_id}"), body));
        let rows = self
            .once(
                scope,
                "WITH p AS (   -- the guard: the project exists, and so does the agent, if one is named
                   SELECT project_id FROM project WHERE project_id = $1 AND ($4::text IS NULL OR EXISTS
                     (SELECT FROM contract c WHERE c.project_id = $1 AND c.kind = 'agent' AND c.id = $4
                       AND c.active_version IS NOT NULL))),
                 i AS (INSERT INTO principal (project_id, principal_id, kind, person, created_at)
                   SELECT $1, $2, $5, $14, $9 FROM p ON CONFLICT DO NOTHING RETURNING principal_id),
                 n AS (        -- and a principal belongs to one person, or to none, for good
                   SELECT principal_id FROM i UNION ALL SELECT o.principal_id FROM principal o, p
                   WHERE o.project_id = $1 AND o.principal_id = $2 AND o.person IS NOT DISTINCT FROM $14::text),
                 r AS (        -- a principal keeps its role: a key of another role is refused
                   INSERT INTO role_binding AS b (project_id, principal_id, role, created_at)
                   SELECT $1, $2, $6, $9 FROM n
                   ON CONFLICT (project_id, principal_id) DO UPDATE SET role = b.role WHERE b.role = $6
                   RETURNING b.role),
                 k AS (INSERT INTO api_key (project_id, key_id, principal_id, agent_id, pepper_id, secret_hmac,
                         created_at, created_by, expires_at)
                   SELECT $1, $3, $2, $4, $7, $8, $9, $11, $12 FROM r RETURNING key_id),
                 a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
                   SELECT $1, $10, $9, $11, 'key.create', 'key/' || key_id, $13, $15, $16 FROM k)
                 SELECT (SELECT count(*) FROM p), (SELECT count(*) FROM n), (SELECT count(*) FROM k)",
                &[
                    &scope.project().as_str(),
                    &new.principal.as_str(),
                    &key_id,
                    &agent,
                    &kind,
                    &new.role.as_str(),
                    &pepper_id,
                    &hmac,
                    &event.at,
                    &event.id,
                    &event.actor,
                    &new.expires_at,
                    &event.body,
                    &person,
                    &event.key_id,
                    &event.mac,
                ],
            )
            .await?;
        let row = rows.first().ok_or_else(|| StoreError::Corrupt("no answer to create_key".into()))?;
        match (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)) {
            (0, _, _) => return Err(self.why_no_key(scope, new).await?),
            (_, 0, _) => return Err(CreateKeyError::OtherPerson(new.principal.to_string())),
            (_, _, 0) => return Err(self.other_role(scope, new).await?),
            _ => {}
        }
        let made = ApiKey {
            key_id,
            principal: new.principal.to_string(),
            role: new.role,
            person: person.map(str::to_owned),
            agent_id: agent.map(str::to_owned),
            created_at: event.at,
            expires_at: new.expires_at,
            revoked_at: None,
        };
        Ok((text.into(), made))
    }

    async fn why_no_key(&self, scope: &ProjectScope, new: &NewKey) -> Result<CreateKeyError, StoreError> {
        let project = self.find_project(scope).await?;
        Ok(match (&new.agent, project) {
            (Some(agent), Some(_)) => CreateKeyError::NoAgent(agent.clone()),
            _ => CreateKeyError::NoProject,
        })
    }

    async fn other_role(&self, scope: &ProjectScope, new: &NewKey) -> Result<CreateKeyError, StoreError> {
        let rows = self
            .once(
                scope,
                "SELECT role FROM role_binding WHERE project_id = $1 AND principal_id = $2",
                &[&scope.project().as_str(), &new.principal.as_str()],
            )
            .await?;
        let role = rows.first().map_or_else(String::new, |row| row.get(0));
        Ok(CreateKeyError::OtherRole { principal: new.principal.to_string(), role })
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
            "SELECT {KEY_COLUMNS} FROM api_key k
             JOIN role_binding b ON b.project_id = $1 AND b.principal_id = k.principal_id
             WHERE k.project_id = $1 AND (k.created_at, k.key_id) < ($2, $3)
             ORDER BY k.created_at DESC, k.key_id DESC LIMIT $4"
        );
        let rows = self.once(scope, &sql, &[&scope.project().as_str(), &at, &id, &limit]).await?;
        rows.iter().map(api_key).collect()
    }

    /// Revokes a key; `None` when the project has none of this id. Revoking twice keeps the first time.
    pub async fn revoke_key(&self, scope: &ProjectScope, key_id: &str) -> Result<Option<ApiKey>, StoreError> {
        let event = self.audit(scope, Note::new("key.revoke", format!("key/{key_id}"), json!({})));
        let sql = format!(
            "WITH u AS (UPDATE api_key SET revoked_at = $3
                        WHERE project_id = $1 AND key_id = $2 AND revoked_at IS NULL RETURNING key_id),
             a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
                   SELECT $1, $4, $3, $5, 'key.revoke', 'key/' || key_id, $6, $7, $8 FROM u)
             SELECT {KEY_COLUMNS}, (SELECT count(*) FROM u) FROM api_key k
             JOIN role_binding b ON b.project_id = $1 AND b.principal_id = k.principal_id
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
        if row.get::<_, i64>(8) == 1 {
            found.revoked_at = Some(event.at);
        }
        Ok(Some(found))
    }

    /// The first admin key of the platform, when it has none that works; `dev` and `migrate` call this.
    pub async fn bootstrap(&self) -> Result<Option<SecretString>, CreateKeyError> {
        let scope = ProjectScope::new(ProjectId::platform(), "platform/bootstrap");
        let now = self.inner.clock.now();
        self.once(
            &scope,
            "INSERT INTO project (project_id, display_name, created_at)
             VALUES ($1, 'Platform operators', $2) ON CONFLICT DO NOTHING",
            &[&scope.project().as_str(), &now],
        )
        .await?;
        self.once(
            &scope,
            "INSERT INTO budget (project_id, scope, unit) VALUES ($1, 'project', 'tokens') ON CONFLICT DO NOTHING",
            &[&scope.project().as_str()],
        )
        .await?;
        let keys = self.list_keys(&scope, None, 200).await?;
        let works = |k: &ApiKey| k.revoked_at.is_none() && k.expires_at.is_none_or(|at| at > now);
        if keys.iter().any(|k| k.role == Role::Admin && works(k)) {
            return Ok(None);
        }
        self.create_admin_key(&scope).await.map(Some)
    }

    /// A further admin key of the platform: who holds the database and the keyring is an operator anyway.
    pub async fn bootstrap_again(&self) -> Result<SecretString, CreateKeyError> {
        let scope = ProjectScope::new(ProjectId::platform(), "platform/bootstrap");
        self.create_admin_key(&scope).await
    }

    async fn create_admin_key(&self, scope: &ProjectScope) -> Result<SecretString, CreateKeyError> {
        let principal = PrincipalId::parse("admin").expect("a valid name");
        let new = NewKey { principal, role: Role::Admin, person: None, agent: None, expires_at: None };
        Ok(self.create_key(scope, &new).await?.0)
    }
}

/// What is stored of a key is an HMAC of its text together with whom it proves: a row that is changed to prove
/// somebody else, or another role, fits no key any more.
#[derive(serde::Serialize)]
struct Binding<'a> {
    key: &'a str,
    principal: &'a str,
    person: Option<&'a str>,
    role: &'a str,
    agent_id: Option<&'a str>,
}

impl Binding<'_> {
    fn text(&self) -> String {
        awooop_core::json::canonical(&awooop_core::json::to_value(self))
    }
}

/// The text a presented key's HMAC is taken of, for the row that was found.
fn bound_key(row: &Row, presented: &str) -> Result<String, StoreError> {
    let corrupt = |e: tokio_postgres::Error| StoreError::Corrupt(e.to_string());
    let bound = Binding {
        key: presented,
        principal: row.try_get(0).map_err(corrupt)?,
        person: row.try_get(7).map_err(corrupt)?,
        role: row.try_get(5).map_err(corrupt)?,
        agent_id: row.try_get(1).map_err(corrupt)?,
    };
    Ok(bound.text())
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

fn caller(home: ProjectId, row: &Row) -> Result<Caller, StoreError> {
    let principal: String = row.get(0);
    let agent = row.get::<_, Option<String>>(1).map(|text| AgentId::parse(&text)).transpose();
    let role: String = row.get(5);
    Ok(Caller {
        scope: ProjectScope::new(home.clone(), format!("{home}/{principal}")),
        home,
        principal,
        role: Role::parse(&role).ok_or(StoreError::Corrupt(role))?,
        person: row.get(7),
        agent: agent.map_err(|e| StoreError::Corrupt(e.to_string()))?,
    })
}

fn api_key(row: &Row) -> Result<ApiKey, StoreError> {
    let role: String = row.get(2);
    Ok(ApiKey {
        key_id: row.get(0),
        principal: row.get(1),
        role: Role::parse(&role).ok_or(StoreError::Corrupt(role))?,
        person: row.get(7),
        agent_id: row.get(3),
        created_at: row.get(4),
        expires_at: row.get(5),
        revoked_at: row.get(6),
    })
}
