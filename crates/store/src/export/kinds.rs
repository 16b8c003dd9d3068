//! What an export holds: for each kind its table, the columns that are shown and those that are not. Each table of a
//! project is here or in [`LEFT_OUT`]; a test compares both with the catalogue, column by column.

/// Rows of one kind.
pub struct Kind {
    /// Its name in the lines.
    pub name: &'static str,
    /// Where its rows lie.
    pub table: &'static str,
    /// What is shown; `::json` marks text that is JSON and is shown as such.
    pub columns: &'static [&'static str],
    /// What is not, but for `project_id`, which the first line says.
    pub hidden: &'static [&'static str],
    pub(super) order: &'static str,
    pub(super) form: Form,
    pub(super) rows_at_once: u32,
}

/// How a row becomes text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An object of the columns.
    Json,
    /// An audit event, as its leaf has it.
    Event,
    /// A seal, as an export of the audit has it.
    Seal,
}

impl Kind {
    /// The statement that gives the rows. A project's id is made of characters that need no quoting.
    pub(super) fn select(&self, project: &str) -> String {
        let columns = match self.form {
            Form::Event => crate::audit::EVENT_COLUMNS.to_owned(),
            Form::Seal => crate::audit::SEAL_COLUMNS.to_owned(),
            Form::Json => {
                let shown = |column: &&str| match column.strip_suffix("::json") {
                    Some(name) => format!("{column} AS {name}"),
                    None => (*column).to_owned(),
                };
                self.columns.iter().map(shown).collect::<Vec<_>>().join(", ")
            }
        };
        let rows = format!(
            "SELECT {columns} FROM {} WHERE project_id = '{project}' ORDER BY {}",
            self.table, self.order
        );
        match self.form {
            Form::Json => format!("SELECT row_to_json(r)::text FROM ({rows}) r"),
            Form::Event | Form::Seal => rows,
        }
    }
}

/// Short rows.
const MANY: u32 = 64;
/// Rows that may have 8 MiB each: an export holds these few, the text made of them, and what waits to be sent.
const FEW: u32 = 2;

macro_rules! kind {
    ($name:literal, $table:literal, $rows:ident by $order:literal, $columns:expr, without $hidden:expr) => {
        Kind {
            name: $name,
            table: $table,
            columns: &$columns,
            hidden: &$hidden,
            order: $order,
            form: Form::Json,
            rows_at_once: $rows,
        }
    };
}

/// Every kind, in the order in which an export has them. What can be long is read few at a time.
pub const KINDS: &[Kind] = &[
    kind!("project", "project", MANY by "project_id",
        ["project_id", "display_name", "created_at", "contract_version_id", "default_model", "weight",
         "max_running_runs", "max_queued_runs", "max_storage_bytes", "stored_bytes", "storage_counted_at"],
        without ["tag_salt", "storage_due_at"]),
    kind!("contracts", "contract", MANY by "kind, id",
        ["kind", "id", "active_version", "activated_at", "activated_by", "key_id"], without ["signature"]),
    kind!("contract_versions", "contract_version", FEW by "kind, id, version",
        ["kind", "id", "version", "version_id", "sha256", "body", "state", "created_at", "created_by", "published_at",
         "published_by", "publisher", "key_id"], without ["signature"]),
    kind!("contract_signatures", "contract_signature", MANY by "kind, id, version, act, signer",
        ["kind", "id", "version", "act", "signer", "is_person", "base_version", "signed_at", "used_at", "key_id"],
        without ["signature"]),
    kind!("principals", "principal", MANY by "principal_id",
        ["principal_id", "kind", "person", "issuer", "subject", "created_at", "disabled_at", "disabled_by"], without []),
    kind!("roles", "role_binding", MANY by "principal_id", ["principal_id", "role", "created_at"], without ["key_id", "mac"]),
    kind!("keys", "api_key", MANY by "key_id",
        ["key_id", "principal_id", "agent_id", "role", "scopes", "created_at", "created_by", "expires_at", "revoked_at",
         "replaced_by", "last_used_at"], without ["pepper_id", "secret_hmac"]),
    kind!("pins", "mcp_pin", MANY by "provider_id, tool", ["provider_id", "tool", "definition_sha256", "pinned_at"], without []),
    kind!("definitions", "mcp_definition", FEW by "provider_id, tool, sha256",
        ["provider_id", "tool", "sha256", "plain_sha256", "standing", "definition::json", "finds::json", "first_seen_at",
         "last_seen_at"], without []),
    kind!("schedules", "schedule", MANY by "agent_id, schedule_id",
        ["agent_id", "schedule_id", "spec::json", "contract_version_id", "next_at", "last_at", "last_run_id", "put_off_at"],
        without []),
    kind!("halts", "halt", MANY by "kind, target, name", ["kind", "target", "name", "reason", "halted_by", "halted_at"], without []),
    kind!("runs", "run_state", FEW by "run_id",
        ["run_id", "state", "agent_id", "agent_version_id", "mode", "priority", "trace_id", "parent_run_id", "depth",
         "trigger_type", "triggered_by", "schedule_id", "attempt", "max_attempts", "created_at", "started_at",
         "completed_at", "timeout_at", "error_code", "error_message", "input::json", "input_sha256", "output::json",
         "output_sha256"], without ["lease_epoch", "lease_id", "worker_id"]),
    kind!("steps", "step_journal", FEW by "run_id, n, phase",
        ["run_id", "n", "phase", "kind", "name", "idempotency_key", "status", "code", "started_at", "duration_ms",
         "is_trusted", "body::json"], without ["epoch"]),
    kind!("calls", "mcp_call", MANY by "call_id",
        ["call_id", "agent_id", "actor", "run_id", "n", "tool", "status", "code", "arguments_sha256", "result_chars",
         "started_at", "duration_ms", "trace_id"], without []),
    kind!("approvals", "approval", FEW by "approval_id",
        ["approval_id", "run_id", "n", "kind", "state", "agent_id", "tool", "risk", "arguments::json", "action_sha256",
         "asked_by", "needed", "requested_at", "expires_at", "decided_at", "execute_by", "reason"], without ["epoch"]),
    kind!("decisions", "approval_decision", MANY by "approval_id, person",
        ["approval_id", "person", "decision", "reason", "actor", "decided_at"], without []),
    kind!("budgets", "budget", MANY by "scope, unit",
        ["scope", "unit", "limit_amount", "settled", "held", "contract_version_id"], without []),
    kind!("holds", "budget_hold", MANY by "hold_id", ["hold_id", "run_id", "n", "amount", "created_at", "expires_at"], without ["epoch"]),
    kind!("ledger", "budget_ledger", MANY by "entry_id",
        ["entry_id", "run_id", "n", "held", "amount", "is_estimated", "reason", "at"], without []),
    kind!("audit_events_before", "audit_event_before", MANY by "id",
        ["id", "at", "actor", "action", "subject", "run_id", "trace_id", "body::json"], without []),
    Kind {
        name: "audit_seals",
        table: "audit_seal",
        columns: &[
            "n",
            "event_ids",
            "leaves",
            "event_count",
            "total",
            "root",
            "prev_hash",
            "hash",
            "sealed_at",
            "is_late",
            "key_id",
            "signature",
        ],
        hidden: &["first_id", "last_id"],
        order: "n",
        form: Form::Seal,
        rows_at_once: 4,
    },
    Kind {
        name: "audit_events",
        table: "audit_event",
        columns: &["id", "at", "actor", "action", "subject", "run_id", "trace_id", "body", "key_id", "mac"],
        hidden: &[],
        order: "id",
        form: Form::Event,
        rows_at_once: 500,
    },
];

/// Tables that are in no export, each with the reason.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("provider", "made of the active contracts"),
    ("mcp_server", "made of the active contracts"),
    ("mcp_tool", "made of the active contracts"),
    ("mcp_grant", "made of the active contracts"),
    ("policy", "made of the active contracts"),
    ("channel", "made of the active contracts"),
    ("agent_cap", "made of the active contracts"),
    ("run_queue", "which runs wait: their state says so"),
    ("run_timer", "which runs wait for a time: their state says so"),
    ("run_lease", "which worker has which runs"),
    ("run_child", "which children are looked after: the runs say whose they are"),
    ("idempotency_key", "keys of requests, forgotten after a day"),
    ("project_deletion", "a living project has none"),
];
