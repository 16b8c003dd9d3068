//! Who may do what: one table of role x operation id. The router asks it, and a test compares it with
//! the OpenAPI document, so an endpoint without a row here cannot ship. Each operation also belongs to one scope,
//! by which a key can be made narrower than its principal ([`crate::scopes`]).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a principal is in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Runs to start and stop; reads.
    Operator,
    /// Decides and signs; reads.
    Approver,
    /// Reads.
    Viewer,
    /// An agent's own tools and runs.
    Agent,
}

impl Role {
    /// All five.
    pub const ALL: [Role; 5] = [Role::Admin, Role::Operator, Role::Approver, Role::Viewer, Role::Agent];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::Approver => "approver",
            Role::Viewer => "viewer",
            Role::Agent => "agent",
        }
    }

    /// Reads a role back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }

    /// May it sign for activations and retirements?
    pub fn may_sign(self) -> bool {
        matches!(self, Role::Admin | Role::Approver)
    }
}

/// What a caller is in a project: one role of a key's principal, or several of a person whose groups give them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Is `role` among them?
    pub fn contains(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// None at all?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// They, in the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }

    /// May one of them call `operation`?
    pub fn may(self, operation: &str) -> bool {
        self.iter().any(|role| is_allowed(role, operation))
    }
}

impl From<Role> for Roles {
    fn from(role: Role) -> Self {
        Self(1 << role as u8)
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |all, role| all | Roles::from(role).0))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = self.iter().map(Role::as_str);
        f.write_str(names.next().unwrap_or("none"))?;
        names.try_for_each(|name| write!(f, ", {name}"))
    }
}

/// The scope of what every key may call, however narrow it is.
pub const ANY_SCOPE: &str = "any";

/// Operation id, the scope it belongs to, and the roles that may call it, besides `admin`, who may call all.
pub const OPERATIONS: &[(&str, &str, &[Role])] = &[
    ("create_run", "runs:write", &[Role::Operator, Role::Agent]),
    ("list_runs", "runs:read", READERS),
    ("get_run", "runs:read", &[Role::Operator, Role::Approver, Role::Viewer, Role::Agent]),
    ("cancel_run", "runs:write", &[Role::Operator]),
    ("bulk_cancel_runs", "runs:write", &[Role::Operator]),
    ("bulk_retry_runs", "runs:write", &[Role::Operator]),
    ("list_steps", "runs:read", READERS),
    ("watch_run", "runs:read", READERS),
    ("list_halts", "runs:read", READERS),
    ("create_halt", "halts:write", &[Role::Operator]),
    ("lift_halt", "halts:write", &[Role::Operator]),
    ("get_activity", "runs:read", READERS),
    ("list_schedules", "runs:read", READERS),
    ("fire_schedule", "runs:write", &[Role::Operator]),
    ("apply_contracts", "contracts:write", &[]),
    ("list_contracts", "contracts:read", READERS),
    ("get_contract", "contracts:read", READERS),
    ("diff_contract", "contracts:read", READERS),
    ("list_versions", "contracts:read", READERS),
    ("get_version", "contracts:read", READERS),
    ("save_draft", "contracts:write", &[]),
    ("publish_version", "contracts:write", &[]),
    ("sign_version", "contracts:sign", &[Role::Approver]),
    ("activate_version", "contracts:sign", &[Role::Approver]),
    ("retire_contract", "contracts:write", &[]),
    ("pin_tools", "contracts:write", &[]),
    ("rematerialise_contracts", "contracts:write", &[]),
    ("resign_contracts", "contracts:write", &[]),
    ("list_projects", "contracts:read", READERS),
    ("delete_project", "projects:write", &[]),
    ("list_deletions", "projects:read", &[]),
    ("export_project", "projects:read", &[]),
    ("list_tools", "tools:read", &[Role::Operator, Role::Approver, Role::Viewer, Role::Agent]),
    ("diff_tool", "tools:read", READERS),
    ("explain_tool_call", "tools:read", &[Role::Operator, Role::Approver, Role::Viewer, Role::Agent]),
    ("create_key", "access:write", &[]),
    ("list_keys", "access:read", &[]),
    ("revoke_key", "access:write", &[]),
    ("rotate_key", "access:write", &[]),
    ("list_principals", "access:read", &[]),
    ("get_principal", "access:read", &[]),
    ("disable_principal", "access:write", &[]),
    ("enable_principal", "access:write", &[]),
    ("grant_role", "access:write", &[]),
    ("revoke_role", "access:write", &[]),
    ("get_whoami", ANY_SCOPE, &[Role::Operator, Role::Approver, Role::Viewer, Role::Agent]),
    ("get_budget", "budgets:read", READERS),
    ("search_audit", "audit:read", READERS),
    ("export_audit", "audit:read", READERS),
    ("get_audit_head", "audit:read", READERS),
    ("verify_audit", "audit:read", READERS),
    ("prove_audit_event", "audit:read", READERS),
    ("list_approvals", "approvals:read", READERS),
    ("get_approval", "approvals:read", READERS),
    ("decide_approval", "approvals:decide", &[Role::Approver]),
    ("deliver_result", "runs:write", &[Role::Operator]),
    ("use_mcp", "tools:use", &[Role::Agent]),
    ("use_mcp_of_provider", "tools:use", &[Role::Agent]),
];

/// Everybody who looks after a project.
const READERS: &[Role] = &[Role::Operator, Role::Approver, Role::Viewer];

/// May `role` call `operation`? An operation without a row is refused to everybody.
pub fn is_allowed(role: Role, operation: &str) -> bool {
    OPERATIONS.iter().any(|(id, _, roles)| *id == operation && (role == Role::Admin || roles.contains(&role)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_reads_and_an_unknown_operation_is_refused() {
        assert!(is_allowed(Role::Viewer, "get_run"));
        assert!(!is_allowed(Role::Viewer, "create_run"));
        assert!(is_allowed(Role::Approver, "sign_version") && !is_allowed(Role::Operator, "sign_version"));
        assert!(is_allowed(Role::Admin, "create_key"));
        assert!(!is_allowed(Role::Admin, "no_such_operation"));
    }
    #[test]
    fn several_roles_may_what_one_of_them_may() {
        let both: Roles = [Role::Approver, Role::Operator].into_iter().collect();
        assert!(both.may("create_run") && both.may("decide_approval") && !both.may("create_key"));
        assert_eq!(both.to_string(), "operator, approver");
        assert!(!Roles::default().may("get_run") && Roles::default().is_empty());
        assert!(Roles::from(Role::Admin).may("create_key"));
    }
}
