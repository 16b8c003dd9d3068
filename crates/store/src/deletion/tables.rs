//! Every table that has rows of projects, in the order in which a project's rows go: what refers to a row before the row,
//! what shows who did what after what they did, the project itself last. A test compares the list with the catalogue.

/// Tables, each with the columns that, after `project_id`, are its primary key.
pub const TABLES: &[(&str, &[&str])] = &[
    ("run_queue", &["priority", "run_id"]),
    ("run_timer", &["run_id"]),
    ("run_lease", &["lease_id"]),
    ("schedule", &["agent_id", "schedule_id"]),
    ("budget_hold", &["hold_id"]),
    ("run_child", &["run_id"]),
    ("idempotency_key", &["principal", "key"]),
    ("approval_decision", &["approval_id", "person"]),
    ("approval", &["approval_id"]),
    ("mcp_call", &["call_id"]),
    ("step_journal", &["run_id", "n", "phase"]),
    ("run_state", &["run_id"]),
    ("budget_ledger", &["entry_id"]),
    ("budget", &["scope", "unit"]),
    ("mcp_grant", &["agent_id", "provider_id", "tool"]),
    ("mcp_tool", &["provider_id", "tool"]),
    ("mcp_server", &["provider_id"]),
    ("mcp_definition", &["provider_id", "tool", "sha256"]),
    ("mcp_pin", &["provider_id", "tool"]),
    ("agent_cap", &["agent_id"]),
    ("policy", &["policy_id"]),
    ("channel", &["channel_id"]),
    ("provider", &["provider_id"]),
    ("contract_signature", &["kind", "id", "version", "act", "signer"]),
    ("contract_version", &["kind", "id", "version"]),
    ("contract", &["kind", "id"]),
    ("api_key", &["key_id"]),
    ("role_binding", &["principal_id"]),
    ("principal", &["principal_id"]),
    ("halt", &["kind", "target", "name"]),
    ("audit_seal", &["n"]),
    ("audit_event_before", &["id"]),
    ("audit_event", &["id"]),
    ("project", &[]),
];

/// The first tables of [`TABLES`]: what services find work by, and may be deleted as the tenants' role.
pub(super) const DRAINED: usize = 7;

/// Deletes up to `$2` rows of a project and answers with a row for each.
pub(super) fn delete_some(table: &str, keys: &[&str]) -> String {
    if keys.is_empty() {
        return format!("DELETE FROM {table} WHERE project_id = $1 AND $2::bigint > 0 RETURNING 1");
    }
    let same: Vec<String> = keys.iter().map(|key| format!("t.{key} = b.{key}")).collect();
    format!(
        "WITH b AS MATERIALIZED (SELECT {} FROM {table} WHERE project_id = $1 LIMIT $2)
         DELETE FROM {table} t USING b WHERE t.project_id = $1 AND {} RETURNING 1",
        keys.join(", "),
        same.join(" AND "),
    )
}

/// Ends the deletion of a project whose last row is gone; no row while one is left.
pub(super) fn finish() -> String {
    let left: Vec<String> = TABLES
        .iter()
        .map(|(table, _)| format!("NOT EXISTS (SELECT FROM {table} WHERE project_id = $1)"))
        .collect();
    format!(
        "UPDATE project_deletion SET state = 'deleted', deleted_at = $2
         WHERE project_id = $1 AND state = 'erasing' AND {} RETURNING 1",
        left.join(" AND ")
    )
}

/// The tables in which the project has rows, as an array.
pub(super) fn with_rows() -> String {
    let each: Vec<String> = TABLES
        .iter()
        .map(|(table, _)| {
            format!("CASE WHEN EXISTS (SELECT FROM {table} WHERE project_id = $1) THEN '{table}' END")
        })
        .collect();
    format!("SELECT array_remove(ARRAY[{}], NULL)", each.join(", "))
}
