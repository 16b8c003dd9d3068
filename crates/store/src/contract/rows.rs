//! What active contracts become: the rows that the engine and the gates read. Expected rows are computed from
//! contracts by one pure function, written by one, read back by one; what activation writes, what the doctor
//! compares and what repair restores can therefore not come to differ.
//!
//! Every row names the contract version it came from. Operational state (pins, what is settled of a budget)
//! lies in other rows or columns and survives.

use std::collections::BTreeSet;

use awooop_core::ProjectId;
use awooop_core::contract::{Kind, Manifest, McpSpec, ProviderSpec, Spec};
use awooop_core::ids::ToolName;
use awooop_core::json;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::schedule_rows;
use crate::error::StoreError;
use crate::tx::ProjectTx;

/// One row of any materialised table. The order of members is that of the table's columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "table", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum MaterialRow {
    Project {
        display_name: String,
        default_model: Option<String>,
        weight: u8,
        max_running_runs: Option<u32>,
        max_queued_runs: Option<u32>,
        max_storage_bytes: Option<i64>,
        contract_version_id: Uuid,
    },
    Budget {
        limit_amount: Option<i64>,
        contract_version_id: Uuid,
    },
    Provider {
        provider_id: String,
        spec: String,
        contract_version_id: Uuid,
    },
    McpServer {
        provider_id: String,
        spec: String,
        contract_version_id: Uuid,
    },
    McpTool {
        provider_id: String,
        tool: String,
        risk: String,
        definition_sha256: Option<String>,
        contract_version_id: Uuid,
    },
    McpGrant {
        agent_id: String,
        provider_id: String,
        tool: String,
        constraints: Option<String>,
        risk: Option<String>,
        contract_version_id: Uuid,
    },
    AgentCap {
        agent_id: String,
        max_running_runs: u32,
        contract_version_id: Uuid,
    },
    Schedule {
        agent_id: String,
        schedule_id: String,
        spec: String,
        contract_version_id: Uuid,
    },
    Policy {
        policy_id: String,
        spec: String,
        contract_version_id: Uuid,
    },
    Channel {
        channel_id: String,
        spec: String,
        contract_version_id: Uuid,
    },
}

impl MaterialRow {
    /// Which contract it comes from, for people.
    pub(super) fn describe(&self) -> String {
        match self {
            MaterialRow::Project { .. } => "the project's own row".to_owned(),
            MaterialRow::Budget { .. } => "the project's budget limit".to_owned(),
            MaterialRow::Provider { provider_id, .. } => format!("model provider {provider_id}"),
            MaterialRow::McpServer { provider_id, .. } => format!("tool server {provider_id}"),
            MaterialRow::McpTool { provider_id, tool, .. } => format!("tool {provider_id}__{tool}"),
            MaterialRow::McpGrant { agent_id, provider_id, tool, .. } => {
                format!("grant of {provider_id}__{tool} to agent {agent_id}")
            }
            MaterialRow::AgentCap { agent_id, .. } => format!("the concurrency of agent {agent_id}"),
            MaterialRow::Schedule { agent_id, schedule_id, .. } => {
                format!("schedule {schedule_id} of agent {agent_id}")
            }
            MaterialRow::Policy { policy_id, .. } => format!("policy {policy_id}"),
            MaterialRow::Channel { channel_id, .. } => format!("channel {channel_id}"),
        }
    }
}

/// The rows of one contract.
pub(super) fn of(manifest: &Manifest, contract_version_id: Uuid) -> Vec<MaterialRow> {
    let id = manifest.id.clone();
    match &manifest.spec {
        Spec::Project(spec) => vec![
            MaterialRow::Project {
                display_name: spec.display_name.clone(),
                default_model: spec.default_model.clone(),
                weight: spec.weight.unwrap_or(1),
                max_running_runs: spec.limits.as_ref().and_then(|l| l.max_running_runs),
                max_queued_runs: spec.limits.as_ref().and_then(|l| l.max_queued_runs),
                max_storage_bytes: spec.limits.as_ref().and_then(|l| l.max_storage_bytes),
                contract_version_id,
            },
            MaterialRow::Budget { limit_amount: spec.budget.as_ref().map(|b| b.tokens), contract_version_id },
        ],
        Spec::Provider(spec) => of_provider(id, spec, contract_version_id),
        Spec::Agent(spec) => {
            let grants = spec.grants.iter().filter_map(|grant| {
                let name = ToolName::parse(&grant.tool)?;
                Some(MaterialRow::McpGrant {
                    agent_id: id.clone(),
                    provider_id: name.provider().to_string(),
                    tool: name.tool().to_owned(),
                    constraints: grant.constraints.as_ref().map(json::canonical),
                    risk: grant.risk.map(|risk| risk.as_str().to_owned()),
                    contract_version_id,
                })
            });
            let cap = spec.concurrency.map(|max_running_runs| MaterialRow::AgentCap {
                agent_id: id.clone(),
                max_running_runs,
                contract_version_id,
            });
            let schedules = spec.schedules.iter().map(|schedule| MaterialRow::Schedule {
                agent_id: id.clone(),
                schedule_id: schedule.id.clone(),
                spec: json::canonical(&json::to_value(schedule)),
                contract_version_id,
            });
            grants.chain(cap).chain(schedules).collect()
        }
        Spec::Policy(spec) => {
            let spec = json::canonical(&json::to_value(spec));
            vec![MaterialRow::Policy { policy_id: id, spec, contract_version_id }]
        }
        Spec::Channel(spec) => {
            let spec = json::canonical(&json::to_value(spec));
            vec![MaterialRow::Channel { channel_id: id, spec, contract_version_id }]
        }
    }
}

fn of_provider(provider_id: String, spec: &ProviderSpec, contract_version_id: Uuid) -> Vec<MaterialRow> {
    let text = json::canonical(&json::to_value(spec));
    let ProviderSpec::Mcp(McpSpec { tools, .. }) = spec else {
        return vec![MaterialRow::Provider { provider_id, spec: text, contract_version_id }];
    };
    let mut rows =
        vec![MaterialRow::McpServer { provider_id: provider_id.clone(), spec: text, contract_version_id }];
    rows.extend(tools.iter().map(|tool| MaterialRow::McpTool {
        provider_id: provider_id.clone(),
        tool: tool.name.clone(),
        risk: tool.risk.as_str().to_owned(),
        definition_sha256: tool.definition_sha256.clone(),
        contract_version_id,
    }));
    rows
}

/// Whose rows are replaced.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeSet<(Kind, String)>);

impl Owners {
    /// The rows of these contracts.
    pub(super) fn of<'a>(keys: impl IntoIterator<Item = (Kind, &'a str)>) -> Self {
        Self(keys.into_iter().map(|(kind, id)| (kind, id.to_owned())).collect())
    }

    /// Those whose rows these are, too: for a repair, which removes what nobody owns.
    pub(super) fn and_of(mut self, rows: &[MaterialRow]) -> Self {
        for row in rows {
            let owner = match row {
                MaterialRow::Project { .. } | MaterialRow::Budget { .. } => continue,
                MaterialRow::Provider { provider_id, .. }
                | MaterialRow::McpServer { provider_id, .. }
                | MaterialRow::McpTool { provider_id, .. } => (Kind::Provider, provider_id),
                MaterialRow::McpGrant { agent_id, .. }
                | MaterialRow::AgentCap { agent_id, .. }
                | MaterialRow::Schedule { agent_id, .. } => (Kind::Agent, agent_id),
                MaterialRow::Policy { policy_id, .. } => (Kind::Policy, policy_id),
                MaterialRow::Channel { channel_id, .. } => (Kind::Channel, channel_id),
            };
            self.0.insert((owner.0, owner.1.clone()));
        }
        self
    }

    fn ids(&self, kind: Kind) -> Vec<&str> {
        self.0.iter().filter(|(k, _)| *k == kind).map(|(_, id)| id.as_str()).collect()
    }
}

/// Replaces the owners' rows by these. A project's row and its budget are changed, never removed; a schedule that
/// stays keeps when it is due.
pub(super) async fn write(
    tx: &mut ProjectTx,
    project: &ProjectId,
    owners: &Owners,
    rows: &[MaterialRow],
    now: Timestamp,
) -> Result<(), StoreError> {
    let id = project.as_str();
    for (kind, tables) in [
        (Kind::Agent, &[("mcp_grant", "agent_id"), ("agent_cap", "agent_id")][..]),
        (
            Kind::Provider,
            &[("mcp_tool", "provider_id"), ("mcp_server", "provider_id"), ("provider", "provider_id")],
        ),
        (Kind::Policy, &[("policy", "policy_id")]),
        (Kind::Channel, &[("channel", "channel_id")]),
    ] {
        let owned = owners.ids(kind);
        if owned.is_empty() {
            continue;
        }
        for (table, column) in tables {
            let sql = format!("DELETE FROM {table} WHERE project_id = $1 AND {column} = ANY ($2)");
            tx.rows(&sql, &[&id, &owned]).await?;
        }
    }
    let of_table = |table: &str| -> Vec<serde_json::Value> {
        rows.iter().map(json::to_value).filter(|row| row["table"] == table).collect()
    };
    schedule_rows::write(tx, project, &owners.ids(Kind::Agent), of_table("schedule"), now).await?;
    for (table, sql) in INSERTS {
        let of_table = of_table(table);
        if !of_table.is_empty() {
            tx.rows(sql, &[&id, &serde_json::Value::Array(of_table).to_string()]).await?;
        }
    }
    Ok(())
}

/// The project's materialised rows as they are, in order.
pub(super) async fn read(tx: &mut ProjectTx, project: &ProjectId) -> Result<Vec<MaterialRow>, StoreError> {
    let mut found = Vec::new();
    for sql in SELECTS {
        for row in tx.rows(sql, &[&project.as_str()]).await? {
            let text: &str = row.get(0);
            found.push(serde_json::from_str(text).map_err(|e| StoreError::Corrupt(e.to_string()))?);
        }
    }
    found.sort();
    Ok(found)
}

/// One INSERT a table, in the order in which they refer to one another; $2 is a JSON array of rows.
const INSERTS: &[(&str, &str)] = &[
    (
        "project",
        "UPDATE project p SET display_name = r.display_name, default_model = r.default_model,
           weight = r.weight, max_running_runs = r.max_running_runs, max_queued_runs = r.max_queued_runs,
           max_storage_bytes = r.max_storage_bytes,
           stored_bytes = CASE WHEN r.max_storage_bytes IS NOT NULL THEN p.stored_bytes END,
           storage_counted_at = CASE WHEN r.max_storage_bytes IS NOT NULL THEN p.storage_counted_at END,
           storage_due_at = CASE WHEN r.max_storage_bytes IS NOT NULL THEN coalesce(p.storage_due_at, p.created_at) END,
           contract_version_id = r.contract_version_id
         FROM jsonb_to_recordset($2::text::jsonb) AS r (display_name text, default_model text, weight smallint,
           max_running_runs integer, max_queued_runs integer, max_storage_bytes bigint, contract_version_id uuid)
         WHERE p.project_id = $1",
    ),
    (
        "budget",
        "INSERT INTO budget (project_id, scope, unit, limit_amount, contract_version_id)
         SELECT $1, 'project', 'tokens', r.limit_amount, r.contract_version_id
         FROM jsonb_to_recordset($2::text::jsonb) AS r (limit_amount bigint, contract_version_id uuid)
         ON CONFLICT (project_id, scope, unit) DO UPDATE
           SET limit_amount = excluded.limit_amount, contract_version_id = excluded.contract_version_id",
    ),
    (
        "provider",
        "INSERT INTO provider (project_id, provider_id, contract_version_id, spec)
         SELECT $1, r.provider_id, r.contract_version_id, r.spec
         FROM jsonb_to_recordset($2::text::jsonb) AS r (provider_id text, contract_version_id uuid, spec text)",
    ),
    (
        "mcp_server",
        "INSERT INTO mcp_server (project_id, provider_id, contract_version_id, spec)
         SELECT $1, r.provider_id, r.contract_version_id, r.spec
         FROM jsonb_to_recordset($2::text::jsonb) AS r (provider_id text, contract_version_id uuid, spec text)",
    ),
    (
        "mcp_tool",
        "INSERT INTO mcp_tool (project_id, provider_id, tool, contract_version_id, risk, definition_sha256)
         SELECT $1, r.provider_id, r.tool, r.contract_version_id, r.risk, r.definition_sha256
         FROM jsonb_to_recordset($2::text::jsonb)
           AS r (provider_id text, tool text, contract_version_id uuid, risk text, definition_sha256 text)",
    ),
    (
        "mcp_grant",
        "INSERT INTO mcp_grant (project_id, agent_id, provider_id, tool, contract_version_id, constraints, risk)
         SELECT $1, r.agent_id, r.provider_id, r.tool, r.contract_version_id, r.constraints, r.risk
         FROM jsonb_to_recordset($2::text::jsonb) AS r (agent_id text, provider_id text, tool text,
           contract_version_id uuid, constraints text, risk text)",
    ),
    (
        "agent_cap",
        "INSERT INTO agent_cap (project_id, agent_id, max_running_runs, contract_version_id)
         SELECT $1, r.agent_id, r.max_running_runs, r.contract_version_id
         FROM jsonb_to_recordset($2::text::jsonb)
           AS r (agent_id text, max_running_runs integer, contract_version_id uuid)",
    ),
    (
        "policy",
        "INSERT INTO policy (project_id, policy_id, contract_version_id, spec)
         SELECT $1, r.policy_id, r.contract_version_id, r.spec
         FROM jsonb_to_recordset($2::text::jsonb) AS r (policy_id text, contract_version_id uuid, spec text)",
    ),
    (
        "channel",
        "INSERT INTO channel (project_id, channel_id, contract_version_id, spec)
         SELECT $1, r.channel_id, r.contract_version_id, r.spec
         FROM jsonb_to_recordset($2::text::jsonb) AS r (channel_id text, contract_version_id uuid, spec text)",
    ),
];

/// One SELECT a table; each row as the JSON that [`MaterialRow`] reads. A project's row and budget that no
/// contract made are not listed.
const SELECTS: &[&str] = &[
    "SELECT jsonb_build_object('table', 'project', 'display_name', display_name, 'default_model', default_model,
       'weight', weight, 'max_running_runs', max_running_runs, 'max_queued_runs', max_queued_runs,
       'max_storage_bytes', max_storage_bytes,
       'contract_version_id', contract_version_id)::text
     FROM project WHERE project_id = $1 AND contract_version_id IS NOT NULL",
    "SELECT jsonb_build_object('table', 'budget', 'limit_amount', limit_amount,
       'contract_version_id', contract_version_id)::text
     FROM budget WHERE project_id = $1 AND scope = 'project' AND contract_version_id IS NOT NULL",
    "SELECT jsonb_build_object('table', 'provider', 'provider_id', provider_id, 'spec', spec,
       'contract_version_id', contract_version_id)::text FROM provider WHERE project_id = $1",
    "SELECT jsonb_build_object('table', 'mcp_server', 'provider_id', provider_id, 'spec', spec,
       'contract_version_id', contract_version_id)::text FROM mcp_server WHERE project_id = $1",
    "SELECT jsonb_build_object('table', 'mcp_tool', 'provider_id', provider_id, 'tool', tool, 'risk', risk,
       'definition_sha256', definition_sha256, 'contract_version_id', contract_version_id)::text
     FROM mcp_tool WHERE project_id = $1",
    "SELECT jsonb_build_object('table', 'mcp_grant', 'agent_id', agent_id, 'provider_id', provider_id, 'tool', tool,
       'constraints', constraints, 'risk', risk, 'contract_version_id', contract_version_id)::text
     FROM mcp_grant WHERE project_id = $1",
    "SELECT jsonb_build_object('table', 'agent_cap', 'agent_id', agent_id, 'max_running_runs', max_running_runs,
       'contract_version_id', contract_version_id)::text FROM agent_cap WHERE project_id = $1",
    "SELECT jsonb_build_object('table', 'schedule', 'agent_id', agent_id, 'schedule_id', schedule_id, 'spec', spec,
       'contract_version_id', contract_version_id)::text FROM schedule WHERE project_id = $1",
    "SELECT jsonb_build_object('table', 'policy', 'policy_id', policy_id, 'spec', spec,
       'contract_version_id', contract_version_id)::text FROM policy WHERE project_id = $1",
    "SELECT jsonb_build_object('table', 'channel', 'channel_id', channel_id, 'spec', spec,
       'contract_version_id', contract_version_id)::text FROM channel WHERE project_id = $1",
];
