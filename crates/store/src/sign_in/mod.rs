//! People who sign in: an access token of the operator's issuer, judged against the issuer's keys, proves a person;
//! the token's groups are their roles. There is no row that gives them any, so what is taken from a group ends with
//! the token.
//!
//! A [`Proven`] is made by [`Token::prove`] alone, and [`Store::admit`] makes a caller of nothing else. On first sight
//! in a project the person becomes a principal of it; once that is disabled, their tokens are refused there.

mod jwks;
mod jws;

use std::collections::BTreeMap;
use std::sync::Arc;

use awooop_core::ProjectId;
use awooop_core::ids::{PersonId, PrincipalId};
use awooop_core::role::{Role, Roles};
use awooop_core::sign_in::{Memberships, SignIn, judge};
use jiff::Timestamp;
use serde_json::json;

pub use jwks::{IssuerKeys, NoKeys};
pub use jws::{MOST_TOKEN_BYTES, Token, TokenFault};

use crate::audit::Note;
use crate::auth::{Caller, Credential};
use crate::error::StoreError;
use crate::pool::Store;
use crate::refusals::Refused;
use crate::scope::ProjectScope;

/// A person whose token was judged.
#[derive(Debug, Clone)]
pub struct Proven {
    issuer: String,
    subject: String,
    principal: PrincipalId,
    person: PersonId,
    projects: BTreeMap<ProjectId, Roles>,
    until: Timestamp,
}

/// What became of a person at a project's door.
#[derive(Debug)]
pub enum Admitted {
    /// They may come in.
    Caller(Box<Caller>),
    /// Their principal there is disabled.
    Disabled,
    /// Their groups give them nothing there, or there is no such project.
    Elsewhere,
}

impl Token {
    /// Judges the token at `now`: genuine under one of `keys`, and its claims as the operator's settings ask.
    ///
    /// # Errors
    /// The first [`TokenFault`]. [`TokenFault::UnknownKey`] may be answered by newer keys of the issuer.
    pub fn prove(
        &self,
        keys: &IssuerKeys,
        settings: &SignIn,
        memberships: &Memberships,
        now: Timestamp,
    ) -> Result<Proven, TokenFault> {
        let claims = self.open(keys)?;
        let claims = judge(settings, &claims, now.as_second()).map_err(TokenFault::Claims)?;
        Ok(Proven {
            issuer: settings.issuer.clone(),
            principal: settings.principal(&claims.subject),
            person: settings.person(&claims.subject),
            projects: memberships.of(&claims.groups),
            until: Timestamp::from_second(claims.until).expect("such a time was refused"),
            subject: claims.subject,
        })
    }
}

impl Proven {
    /// Their id as a principal, the same in every project.
    pub fn principal(&self) -> &PrincipalId {
        &self.principal
    }

    /// Who they are when people are counted.
    pub fn person(&self) -> &PersonId {
        &self.person
    }

    /// What they are, and where.
    pub fn projects(&self) -> &BTreeMap<ProjectId, Roles> {
        &self.projects
    }

    /// The issuer's name for them.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When the token stops counting.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Which of their projects they act from when they name `named`: the platform for its admins, who may act
    /// anywhere, else the one they name; without a name the platform, or their only one. `None` when that is none of
    /// theirs, or there is a choice.
    pub fn home(&self, named: Option<&ProjectId>) -> Option<ProjectId> {
        let platform = self.projects.get_key_value(&ProjectId::platform());
        match (platform, named) {
            (Some((platform, roles)), _) if roles.contains(Role::Admin) => Some(platform.clone()),
            (_, Some(named)) => self.projects.contains_key(named).then(|| named.clone()),
            (Some((platform, _)), None) => Some(platform.clone()),
            (None, None) if self.projects.len() == 1 => self.projects.keys().next().cloned(),
            (None, None) => None,
        }
    }
}

impl Store {
    /// Lets a proven person into one of their projects.
    pub async fn admit(&self, proven: &Proven, home: &ProjectId) -> Result<Admitted, StoreError> {
        let Some(roles) = proven.projects.get(home) else { return Ok(Admitted::Elsewhere) };
        let id = proven.principal.as_str();
        let scope = ProjectScope::new(home.clone(), format!("{home}/{id}"));
        let found = match self.known(&scope, id).await {
            Ok(Some(found)) => found,
            Err(StoreError::Deleted) => return Ok(Admitted::Elsewhere),
            Err(error) => return Err(error),
            Ok(None) => {
                self.first_sight(&scope, proven).await?;
                match self.known(&scope, id).await? {
                    Some(made) => made,
                    None => return Ok(Admitted::Elsewhere),
                }
            }
        };
        // a row that is somebody else's was changed behind the server's back
        let is_theirs = found.issuer.as_deref() == Some(proven.issuer.as_str())
            && found.subject.as_deref() == Some(proven.subject.as_str());
        if !is_theirs || found.is_disabled {
            let reason = if is_theirs { Refused::Disabled } else { Refused::WrongSecret };
            self.refuse_person(home, id, reason);
            return Ok(Admitted::Disabled);
        }
        if found.person.as_deref() != Some(proven.person.as_str()) {
            self.name_person(&scope, proven).await?;
        }
        Ok(Admitted::Caller(Box::new(Caller {
            home: home.clone(),
            principal: id.to_owned(),
            roles: *roles,
            person: Some(proven.person.to_string()),
            agent: None,
            credential: Credential::Token { subject: proven.subject.clone(), expires_at: proven.until },
            scope,
        })))
    }

    /// What is known of a person, in a read that many of their requests share.
    async fn known(&self, scope: &ProjectScope, id: &str) -> Result<Option<Known>, StoreError> {
        let name = id.to_owned();
        // no key has an id like theirs: it is longer and has a dash
        let rows = self
            .share(&self.inner.reads.keys, scope, id, move |store, scope| {
                let name = name.clone();
                async move {
                    let sql = "SELECT issuer, subject, person, disabled_at IS NOT NULL FROM principal
                               WHERE project_id = $1 AND principal_id = $2";
                    let rows = store.once(&scope, sql, &[&scope.project().as_str(), &name]).await?;
                    Ok(Arc::new(rows))
                }
            })
            .await?;
        Ok(rows.first().map(|row| Known {
            issuer: row.get(0),
            subject: row.get(1),
            person: row.get(2),
            is_disabled: row.get(3),
        }))
    }

    /// Writes down the name that the operator gave the subject since. No key hangs on such a row.
    async fn name_person(&self, scope: &ProjectScope, proven: &Proven) -> Result<(), StoreError> {
        let id = proven.principal.as_str();
        let said = json!({"person": proven.person.as_str()});
        // what the audit masks is masked as this project's
        self.redactors(scope).await?;
        let event = self.audit(scope, Note::new("principal.name", format!("principal/{id}"), said));
        self.once(
            scope,
            "WITH g AS (UPDATE principal SET person = $3
               WHERE project_id = $1 AND principal_id = $2 AND issuer IS NOT NULL AND person <> $3
               RETURNING principal_id)
             INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
             SELECT $1, $4, $5, $6, 'principal.name', 'principal/' || principal_id, $7, $8, $9 FROM g",
            &[
                &scope.project().as_str(),
                &id,
                &proven.person.as_str(),
                &event.id,
                &event.at,
                &event.actor,
                &event.body,
                &event.key_id,
                &event.mac,
            ],
        )
        .await?;
        Ok(())
    }

    /// Makes the person a principal of the project, if there is such a project.
    async fn first_sight(&self, scope: &ProjectScope, proven: &Proven) -> Result<(), StoreError> {
        let id = proven.principal.as_str();
        let said = json!({"kind": "human", "issuer": proven.issuer, "subject": proven.subject,
            "person": proven.person.as_str()});
        // what the audit masks is masked as this project's
        self.redactors(scope).await?;
        let event = self.audit(scope, Note::new("principal.create", format!("principal/{id}"), said));
        self.once(
            scope,
            "WITH g AS (   -- the guard: the project exists, and nobody was quicker
               INSERT INTO principal (project_id, principal_id, kind, person, issuer, subject, created_at)
               SELECT $1, $2, 'human', $3, $4, $5, $6 FROM project WHERE project_id = $1
               ON CONFLICT DO NOTHING RETURNING principal_id)
             INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
             SELECT $1, $7, $6, $8, 'principal.create', 'principal/' || principal_id, $9, $10, $11 FROM g",
            &[
                &scope.project().as_str(),
                &id,
                &proven.person.as_str(),
                &proven.issuer,
                &proven.subject,
                &event.at,
                &event.id,
                &event.actor,
                &event.body,
                &event.key_id,
                &event.mac,
            ],
        )
        .await?;
        Ok(())
    }
}

/// What a project knows of a person who signs in.
struct Known {
    issuer: Option<String>,
    subject: Option<String>,
    person: Option<String>,
    is_disabled: bool,
}
