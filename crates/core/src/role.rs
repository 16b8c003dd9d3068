//! Who may do what: one table of role x operation id. The router asks it, and a test compares it with
//! the OpenAPI document, so an endpoint without a row here cannot ship.

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
        [Role::Admin, Role::Operator, Role::Approver, Role::Viewer, Role::Agent]
            .into_iter()
            .find(|r| r.as_str() == text)
    }

    /// May it sign for activations and retirements?
    pub fn may_sign(self) -> bool {
        matches!(self, Role::Admin | Role::Approver)
    }
}

/// Operation id and the roles that may call it, besides `admin`, who may call all.
pub const OPERATIONS: &[(&str, &[Role])] = &[
    ("create_run", &[Role::Operator, Role::Agent]),
    ("list_runs", READERS),
    ("get_run", &[Role::Operator, Role::Approver, Role::Viewer, Role::Agent]),
    ("cancel_run", &[Role::Operator]),
    ("bulk_cancel_runs", &[Role::Operator]),
    ("bulk_retry_runs", &[Role::Operator]),
    ("list_steps", READERS),
    ("watch_run", READERS),
    ("list_halts", READERS),
    ("create_halt", &[Role::Operator]),
    ("lift_halt", &[Role::Operator]),
    ("get_activity", READERS),
    ("list_schedules", READERS),
    ("fire_schedule", &[Role::Operator]),
    ("apply_contracts", &[]),
    ("list_contracts", READERS),
    ("get_contract", READERS),
    ("diff_contract", READERS),
    ("list_versions", READERS),
    ("get_version", READERS),
    ("save_draft", &[]),
    ("publish_version", &[]),
    ("sign_version", &[Role::Approver]),
    ("activate_version", &[Role::Approver]),
    ("retire_contract", &[]),
    ("pin_tools", &[]),
    ("rematerialise_contracts", &[]),
    ("resign_contracts", &[]),
    ("list_projects", READERS),
    ("list_tools", &[Role::Operator, Role::Approver, Role::Viewer, Role::Agent]),
    ("create_key", &[]),
    ("list_keys", &[]),
    ("revoke_key", &[]),
    ("get_budget", READERS),
    ("search_audit", READERS),
    ("export_audit", READERS),
    ("get_audit_head", READERS),
    ("verify_audit", READERS),
    ("prove_audit_event", READERS),
    ("list_approvals", READERS),
    ("get_approval", READERS),
    ("decide_approval", &[Role::Approver]),
    ("deliver_result", &[Role::Operator]),
    ("use_mcp", &[Role::Agent]),
];

/// Everybody who looks after a project.
const READERS: &[Role] = &[Role::Operator, Role::Approver, Role::Viewer];

/// May `role` call `operation`? An operation without a row is refused to everybody.
pub fn is_allowed(role: Role, operation: &str) -> bool {
    OPERATIONS.iter().any(|(id, roles)| *id == operation && (role == Role::Admin || roles.contains(&role)))
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
}
