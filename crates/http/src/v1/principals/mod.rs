//! Principals: whom keys and tokens prove in a project. Listed, disabled and enabled; their roles granted and revoked.
//! They are made with their first key, or when a person signs in for the first time.

pub(crate) mod disable;
pub(crate) mod enable;
pub(crate) mod get;
pub(crate) mod grant;
pub(crate) mod list;
pub(crate) mod revoke;

use awooop_core::ErrorCode;
use awooop_core::ids::PrincipalId;
use awooop_core::role::Role;
use awooop_store::ProjectScope;
use awooop_store::principal::{Change, Changed, Principal};
use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// Whom keys and tokens prove in a project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PrincipalItem {
    /// Its id.
    name: String,
    project_id: String,
    /// `human`, `service` or `agent`.
    kind: String,
    /// `admin`, `operator`, `approver`, `viewer` or `agent`; null without one, and for a person who signs in, whose
    /// roles are their groups'.
    role: Option<&'static str>,
    /// The person it is; null for a service account or an agent.
    person: Option<String>,
    /// The issuer a person signs in at.
    issuer: Option<String>,
    /// The issuer's name for them (`sub`).
    subject: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    /// Since when its keys and tokens are refused, if they are.
    #[schema(format = DateTime)]
    disabled_at: Option<String>,
    /// Who disabled it.
    disabled_by: Option<String>,
    /// How many of its keys work.
    #[schema(minimum = 0)]
    working_keys: i64,
    /// When one of its keys was used last, at most a minute behind.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
}

/// What a change that can take the last admin's power needs to be told.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TakeAway {
    /// Do it even if the project is left without an admin whose key works. Never so in the project `platform`.
    #[serde(default)]
    #[schema(required = false)]
    even_if_last: bool,
}

fn item(scope: &ProjectScope, found: Principal) -> PrincipalItem {
    PrincipalItem {
        name: found.principal,
        project_id: scope.project().to_string(),
        kind: found.kind,
        role: found.role.map(Role::as_str),
        person: found.person,
        issuer: found.issuer,
        subject: found.subject,
        created_at: found.created_at.to_string(),
        disabled_at: found.disabled_at.map(|at| at.to_string()),
        disabled_by: found.disabled_by,
        working_keys: found.working_keys,
        last_used_at: found.last_used_at.map(|at| at.to_string()),
    }
}

/// The id in a path; what can be none is absent.
fn principal_id(text: &str) -> Result<PrincipalId, Problem> {
    PrincipalId::parse(text).map_err(|_| Problem::absent("principal"))
}

/// Makes a change and answers with what is there then.
async fn change(
    state: &AppState,
    access: &Access,
    name: &str,
    change: Change,
    even_if_last: bool,
) -> Result<Json<PrincipalItem>, Problem> {
    let id = principal_id(name)?;
    match state.store.change_principal(access.scope(), id.as_str(), change, even_if_last).await? {
        Changed::Done(found) => Ok(Json(item(access.scope(), *found))),
        Changed::Absent => Err(Problem::absent("principal")),
        Changed::NotByRow(why) => Err(Problem::new(ErrorCode::Access001, format!("the principal {why}"))),
        Changed::LastAdmin => {
            let detail = match access.scope().project().is_platform() {
                true => "it is the platform's last admin with a key that works: make another first",
                false => {
                    "it is the project's last admin with a key that works: make another first, or say even_if_last"
                }
            };
            Err(Problem::new(ErrorCode::Access002, detail))
        }
    }
}
