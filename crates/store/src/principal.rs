//! Principals: whom keys and tokens prove in a project. Listed, disabled and enabled; their roles granted and taken
//! back. A person who signs in becomes one on first sight; their roles are their groups', so no row gives them any.
//!
//! The last admin with a key that works stays one unless it is said otherwise, and in the platform whatever is said.
//! Two who would each take the other's power must not both succeed: both changes hold the project's row while they
//! count the admins that are left, in a statement of their own.

use awooop_core::ProjectId;
use awooop_core::role::Role;
use jiff::Timestamp;
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::audit::{AuditEvent, Note};
use crate::error::StoreError;
use crate::key::far_future;
use crate::keyring::{KeyName, Keyring};
use crate::pool::Store;
use crate::scope::ProjectScope;

/// Whom keys and tokens prove in a project.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Its id.
    pub principal: String,
    /// `human`, `service` or `agent`.
    pub kind: String,
    /// The person it is, of a human.
    pub person: Option<String>,
    /// Its role; none when it was taken from it, and of a person who signs in.
    pub role: Option<Role>,
    /// The issuer a person signs in at.
    pub issuer: Option<String>,
    /// The issuer's name for them.
    pub subject: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was disabled, if it is.
    pub disabled_at: Option<Timestamp>,
    /// Who did that.
    pub disabled_by: Option<String>,
    /// How many of its keys work.
    pub working_keys: i64,
    /// When one of its keys was used last, at most a minute behind.
    pub last_used_at: Option<Timestamp>,
}

/// What became of a change.
#[derive(Debug)]
pub enum Changed {
    /// It is as was asked, now or before.
    Done(Box<Principal>),
    /// The project has no such principal.
    Absent,
    /// It is the last admin of the project with a key that works.
    LastAdmin,
    /// Its role is no row's to give.
    NotByRow(&'static str),
}

/// A change of a principal's role or standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Its keys and tokens are refused from now on.
    Disable,
    /// They count again.
    Enable,
    /// This is its role from now on.
    Grant(Role),
    /// It has no role, and its keys are refused.
    Revoke,
}

impl Change {
    fn action(self) -> &'static str {
        match self {
            Change::Disable => "principal.disable",
            Change::Enable => "principal.enable",
            Change::Grant(_) => "role.grant",
            Change::Revoke => "role.revoke",
        }
    }
}

const COLUMNS: &str =
    "p.principal_id, p.kind, p.person, b.role, p.issuer, p.subject, p.created_at, p.disabled_at,
  p.disabled_by,
  (SELECT count(*) FROM api_key k WHERE k.project_id = $1 AND k.principal_id = p.principal_id
     AND p.disabled_at IS NULL AND b.role IS NOT NULL AND k.revoked_at IS NULL
     AND (k.expires_at IS NULL OR k.expires_at > $2)),
  (SELECT max(k.last_used_at) FROM api_key k WHERE k.project_id = $1 AND k.principal_id = p.principal_id)";
const TABLES: &str =
    "principal p LEFT JOIN role_binding b ON b.project_id = $1 AND b.principal_id = p.principal_id";

/// Holds the project while its admins are counted. Runs take weaker locks of this row and do not wait.
const HOLD: &str = "SELECT project_id FROM project WHERE project_id = $1 FOR NO KEY UPDATE";

/// May this principal lose its power: it has none, another admin has a key that works, or it is said that none need
/// be left? Parameters: project, principal, now, even if last.
const MAY_LOSE: &str = "($4::boolean OR NOT EXISTS (
    SELECT FROM role_binding b JOIN api_key k ON k.project_id = $1 AND k.principal_id = b.principal_id
    WHERE b.project_id = $1 AND b.principal_id = $2 AND b.role = 'admin' AND k.revoked_at IS NULL
      AND k.scopes IS NULL AND (k.expires_at IS NULL OR k.expires_at > $3))
  OR EXISTS (
    SELECT FROM role_binding b JOIN principal o ON o.project_id = $1 AND o.principal_id = b.principal_id
      JOIN api_key k ON k.project_id = $1 AND k.principal_id = b.principal_id
    WHERE b.project_id = $1 AND b.principal_id <> $2 AND b.role = 'admin' AND o.disabled_at IS NULL
      AND k.revoked_at IS NULL AND k.scopes IS NULL AND (k.expires_at IS NULL OR k.expires_at > $3)))";

impl Store {
    /// The project's principals, newest first; `before` is the last page's oldest. With `person`, only that person's.
    pub async fn list_principals(
        &self,
        scope: &ProjectScope,
        person: Option<&str>,
        before: Option<(Timestamp, String)>,
        limit: i64,
    ) -> Result<Vec<Principal>, StoreError> {
        let (at, id) = before.map_or((Timestamp::MAX, String::new()), |(at, id)| (at, id));
        let at = at.min(far_future());
        let now = self.inner.clock.now();
        let sql = format!(
            "SELECT {COLUMNS} FROM {TABLES}
             WHERE p.project_id = $1 AND (p.created_at, p.principal_id) < ($3, $4)
               AND ($5::text IS NULL OR p.person = $5)
             ORDER BY p.created_at DESC, p.principal_id DESC LIMIT $6"
        );
        let params: [&(dyn ToSql + Sync); 6] = [&scope.project().as_str(), &now, &at, &id, &person, &limit];
        let rows = self.once(scope, &sql, &params).await?;
        rows.iter().map(principal).collect()
    }

    /// A principal of the project.
    pub async fn find_principal(
        &self,
        scope: &ProjectScope,
        id: &str,
    ) -> Result<Option<Principal>, StoreError> {
        let now = self.inner.clock.now();
        let rows = self.once(scope, &find(), &[&scope.project().as_str(), &now, &id]).await?;
        rows.first().map(principal).transpose()
    }

    /// Changes a principal. What is so already stays as it is, and is no event.
    pub async fn change_principal(
        &self,
        scope: &ProjectScope,
        id: &str,
        change: Change,
        even_if_last: bool,
    ) -> Result<Changed, StoreError> {
        // the platform looks after everybody else: somebody always looks after the platform
        let even_if_last = even_if_last && !scope.project().is_platform();
        let body = match change {
            Change::Grant(role) => json!({"role": role.as_str()}),
            Change::Disable | Change::Revoke if even_if_last => json!({"even_if_last": true}),
            _ => json!({}),
        };
        let event = self.audit(scope, Note::new(change.action(), format!("principal/{id}"), body));
        let rows = match change {
            Change::Disable => self.alter(scope, id, even_if_last, &event, &disable(), &[]).await?,
            Change::Enable => self.alter(scope, id, even_if_last, &event, ENABLE, &[]).await?,
            Change::Revoke => self.alter(scope, id, even_if_last, &event, &revoke(), &[]).await?,
            Change::Grant(role) => {
                let project = scope.project();
                let (key_id, mac) = self.inner.keyring.sign(KeyName::KeyPepper, &granted(project, id, role));
                let more: [&(dyn ToSql + Sync); 3] = [&role.as_str(), &key_id, &mac];
                self.alter(scope, id, even_if_last, &event, &grant(), &more).await?
            }
        };
        let [.., made, found] = rows.as_slice() else {
            return Err(StoreError::Corrupt("no answer to a change of a principal".into()));
        };
        let Some(found) = found.first().map(principal).transpose()? else { return Ok(Changed::Absent) };
        Ok(if !made.is_empty() || is_so(&found, change) {
            Changed::Done(Box::new(found))
        } else if found.subject.is_some() {
            Changed::NotByRow("signs in, and has the roles of their groups")
        } else if found.kind == "agent" {
            Changed::NotByRow("is an agent's, and has the role agent")
        } else {
            Changed::LastAdmin
        })
    }

    /// Holds the project, makes the change with its event, reads what is there then: three statements, one flight.
    async fn alter(
        &self,
        scope: &ProjectScope,
        id: &str,
        even_if_last: bool,
        event: &AuditEvent,
        change: &str,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        let project = scope.project().as_str();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&project, &id, &event.at, &even_if_last];
        params.extend::<[&(dyn ToSql + Sync); 6]>([
            &event.id,
            &event.actor,
            &event.action,
            &event.body,
            &event.key_id,
            &event.mac,
        ]);
        params.extend(more);
        let now = self.inner.clock.now();
        let statements: [(&str, crate::tx::Params<'_>); 3] =
            [(HOLD, &[&project]), (change, &params), (&find(), &[&project, &now, &id])];
        self.flight(scope, &statements).await
    }

    /// Is there a principal of this name that is not disabled?
    pub(crate) async fn is_enabled(&self, project: &ProjectId, id: &str) -> Result<bool, StoreError> {
        let scope = ProjectScope::new(project.clone(), "nobody");
        Ok(self.find_principal(&scope, id).await?.is_some_and(|found| found.disabled_at.is_none()))
    }
}

fn find() -> String {
    format!("SELECT {COLUMNS} FROM {TABLES} WHERE p.project_id = $1 AND p.principal_id = $3")
}

/// Ends a statement whose guard is `g`: the event, and whether the guard found its row.
const RECORD: &str =
    "a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
    SELECT $1, $5, $3, $6, $7, 'principal/' || $2, $8, $9, $10 FROM g)
  SELECT principal_id FROM g";

fn disable() -> String {
    format!(
        "WITH g AS (UPDATE principal p SET disabled_at = $3, disabled_by = $6
           WHERE p.project_id = $1 AND p.principal_id = $2 AND p.disabled_at IS NULL AND {MAY_LOSE}
           RETURNING p.principal_id),
         {RECORD}"
    )
}

const ENABLE: &str = "
  WITH g AS (UPDATE principal p SET disabled_at = NULL, disabled_by = NULL
    WHERE p.project_id = $1 AND p.principal_id = $2 AND p.disabled_at IS NOT NULL AND $4::boolean IS NOT NULL
    RETURNING p.principal_id),
  a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
    SELECT $1, $5, $3, $6, $7, 'principal/' || $2, $8, $9, $10 FROM g)
  SELECT principal_id FROM g";

fn revoke() -> String {
    format!(
        "WITH g AS (DELETE FROM role_binding d USING principal p
           WHERE d.project_id = $1 AND d.principal_id = $2 AND p.project_id = $1 AND p.principal_id = $2
             AND p.kind <> 'agent' AND {MAY_LOSE}
           RETURNING d.principal_id),
         {RECORD}"
    )
}

fn grant() -> String {
    format!(
        "WITH g AS (INSERT INTO role_binding AS t (project_id, principal_id, role, created_at, key_id, mac)
           SELECT $1, p.principal_id, $11::text, $3, $12, $13 FROM principal p
           WHERE p.project_id = $1 AND p.principal_id = $2 AND p.kind <> 'agent' AND p.issuer IS NULL
             AND ($11::text = 'admin' OR {MAY_LOSE})
           ON CONFLICT (project_id, principal_id) DO UPDATE
             SET role = excluded.role, created_at = excluded.created_at, key_id = excluded.key_id, mac = excluded.mac
             WHERE t.role <> excluded.role OR t.mac IS NULL
           RETURNING t.principal_id),
         {RECORD}"
    )
}

/// Is it as the change asks?
fn is_so(found: &Principal, change: Change) -> bool {
    match change {
        Change::Disable => found.disabled_at.is_some(),
        Change::Enable => found.disabled_at.is_none(),
        Change::Grant(role) => found.role == Some(role),
        Change::Revoke => found.role.is_none() && found.subject.is_none(),
    }
}

/// What the MAC of a granted role is taken of.
fn granted(project: &ProjectId, principal: &str, role: Role) -> Vec<u8> {
    let said = json!({"granted": role.as_str(), "principal": principal, "project": project.as_str()});
    awooop_core::json::canonical(&said).into_bytes()
}

/// Was this role granted to this principal by a server with this keyring?
pub(crate) fn is_granted(
    keyring: &Keyring,
    project: &ProjectId,
    principal: &str,
    role: Role,
    key_id: &str,
    mac: &[u8],
) -> bool {
    keyring.verify(KeyName::KeyPepper, key_id, &granted(project, principal, role), mac).is_ok()
}

fn principal(row: &Row) -> Result<Principal, StoreError> {
    let role: Option<String> = row.get(3);
    let role = role.map(|text| Role::parse(&text).ok_or(StoreError::Corrupt(text))).transpose()?;
    Ok(Principal {
        principal: row.get(0),
        kind: row.get(1),
        person: row.get(2),
        role,
        issuer: row.get(4),
        subject: row.get(5),
        created_at: row.get(6),
        disabled_at: row.get(7),
        disabled_by: row.get(8),
        working_keys: row.get(9),
        last_used_at: row.get(10),
    })
}
