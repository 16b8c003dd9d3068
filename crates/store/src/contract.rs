//! Applying contracts: everything is checked first, then one transaction retires, activates, materialises
//! and audits. Applying the same manifests again changes nothing.

use std::collections::BTreeMap;

use awooop_core::contract::{AgentSpec, Kind, LlmSpec, Manifest, ProjectSpec, ProviderSpec, Spec};
use awooop_core::error::Violation;
use awooop_core::ids::ToolName;
use awooop_core::json;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::ProjectTx;

/// What applying did to one manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// A new version is active.
    Updated,
    /// The active version says the same.
    Unchanged,
}

impl Change {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Created => "created",
            Change::Updated => "updated",
            Change::Unchanged => "unchanged",
        }
    }
}

/// One manifest after applying.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// The active version, from 1.
    pub version: i32,
    /// Hash of its canonical form.
    pub sha256: String,
    /// What happened.
    pub change: Change,
}

/// Why nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The manifests do not fit each other or what is active. Paths begin with `/manifests/<index>`.
    #[error("the manifests are not valid")]
    Invalid(Vec<Violation>),
    /// The database failed; nothing changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An active contract.
#[derive(Debug, Clone)]
pub struct ActiveContract {
    /// Its kind.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// The version.
    pub version: i32,
    /// Hash of its canonical form.
    pub sha256: String,
    /// When it was applied.
    pub applied_at: Timestamp,
    /// Who applied it.
    pub applied_by: String,
    /// The whole manifest.
    pub document: Value,
}

impl Store {
    /// Applies manifests of one project, all or none.
    pub async fn apply(
        &self,
        scope: &ProjectScope,
        manifests: &[Manifest],
    ) -> Result<Vec<Applied>, ApplyError> {
        let mut tx = self.begin(scope).await?;
        let now = self.inner.clock.now();
        match self.apply_in(&mut tx, scope, manifests, now).await {
            Ok(applied) => {
                tx.commit().await?;
                Ok(applied)
            }
            Err(e) => {
                // the first error is the one to tell; a lost connection rolls back anyway
                let _ = tx.rollback().await;
                Err(e)
            }
        }
    }

    async fn apply_in(
        &self,
        tx: &mut ProjectTx,
        scope: &ProjectScope,
        manifests: &[Manifest],
        now: Timestamp,
    ) -> Result<Vec<Applied>, ApplyError> {
        let secrets = self.credentials_in(manifests);
        if !secrets.is_empty() {
            return Err(ApplyError::Invalid(secrets));
        }
        lock_project(tx, scope, manifests, now).await?;
        let active = active_contracts(tx, scope).await?;
        let found = cross_check(manifests, &active);
        if !found.is_empty() {
            return Err(ApplyError::Invalid(found));
        }
        let mut applied = Vec::with_capacity(manifests.len());
        for manifest in in_order(manifests) {
            let kind = manifest.spec.kind();
            let sha256 = json::sha256_hex(&manifest.document);
            let current = active.iter().find(|a| a.kind == kind.as_str() && a.id == manifest.id);
            let (version, change) = match current {
                Some(a) if a.sha256 == sha256 => (a.version, Change::Unchanged),
                Some(a) => (a.version + 1, Change::Updated),
                None => (1, Change::Created),
            };
            if change != Change::Unchanged {
                self.activate(tx, scope, manifest, version, &sha256, now).await?;
            }
            applied.push(Applied { kind, id: manifest.id.clone(), version, sha256, change });
        }
        Ok(applied)
    }

    /// A contract is kept as its bytes were hashed, so a credential in it could never be masked again.
    fn credentials_in(&self, manifests: &[Manifest]) -> Vec<Violation> {
        let found = |(i, manifest): (usize, &Manifest)| {
            let (path, class) = self.inner.redactor.json_contains_credential(&manifest.document)?;
            let message = format!("a contract must not hold a credential ({})", class.as_str());
            Some(Violation::new(format!("/manifests/{i}{path}"), "credential", message))
        };
        manifests.iter().enumerate().filter_map(found).collect()
    }

    async fn activate(
        &self,
        tx: &mut ProjectTx,
        scope: &ProjectScope,
        manifest: &Manifest,
        version: i32,
        sha256: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let kind = manifest.spec.kind();
        let version_id = self.inner.clock.new_id();
        let body = serde_json::json!({"kind": kind.as_str(), "id": manifest.id, "version": version, "sha256": sha256});
        let event = self.audit(scope, body);
        tx.rows(
            ACTIVATE,
            &[
                &scope.project().as_str(),
                &kind.as_str(),
                &manifest.id,
                &version,
                &version_id,
                &sha256,
                &json::canonical(&manifest.document),
                &now,
                &event.actor,
                &event.id,
                &event.body,
            ],
        )
        .await?;
        materialise(tx, scope, manifest, version_id).await
    }

    /// The project's active contracts by kind and id.
    pub async fn list_contracts(&self, scope: &ProjectScope) -> Result<Vec<ActiveContract>, StoreError> {
        let mut tx = self.begin(scope).await?;
        let active = active_contracts(&mut tx, scope).await?;
        tx.commit().await?;
        Ok(active)
    }
}

/// Takes the project's row, so that two applies follow each other; a project contract makes it.
async fn lock_project(
    tx: &mut ProjectTx,
    scope: &ProjectScope,
    manifests: &[Manifest],
    now: Timestamp,
) -> Result<(), ApplyError> {
    let project = scope.project().as_str();
    for manifest in manifests {
        if let Spec::Project(spec) = &manifest.spec {
            tx.rows(
                "INSERT INTO project (project_id, display_name, state, created_at)
                 VALUES ($1, $2, 'active', $3) ON CONFLICT DO NOTHING",
                &[&project, &spec.display_name, &now],
            )
            .await?;
        }
    }
    let found =
        tx.rows("SELECT project_id FROM project WHERE project_id = $1 FOR UPDATE", &[&project]).await?;
    if found.is_empty() {
        let message =
            format!("the project `{project}` does not exist: apply its project contract first or with these");
        return Err(ApplyError::Invalid(vec![Violation::new("", "project", message)]));
    }
    Ok(())
}

async fn active_contracts(
    tx: &mut ProjectTx,
    scope: &ProjectScope,
) -> Result<Vec<ActiveContract>, StoreError> {
    let rows = tx
        .rows(
            "SELECT v.kind, v.id, v.version, v.sha256, v.applied_at, v.applied_by, v.body
             FROM contract c JOIN contract_version v
               ON v.project_id = $1 AND v.kind = c.kind AND v.id = c.id AND v.version = c.active_version
             WHERE c.project_id = $1 ORDER BY v.kind, v.id",
            &[&scope.project().as_str()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let body: &str = row.get(6);
            Ok(ActiveContract {
                kind: row.get(0),
                id: row.get(1),
                version: row.get(2),
                sha256: row.get(3),
                applied_at: row.get(4),
                applied_by: row.get(5),
                document: serde_json::from_str(body).map_err(|e| StoreError::Corrupt(e.to_string()))?,
            })
        })
        .collect()
}

/// Projects before providers before agents: what others refer to comes first.
fn in_order(manifests: &[Manifest]) -> Vec<&Manifest> {
    let mut ordered: Vec<&Manifest> = manifests.iter().collect();
    ordered.sort_by_key(|m| (m.spec.kind(), m.id.clone()));
    ordered
}

/// What one manifest alone cannot tell: twice the same, models and tools that nobody serves.
fn cross_check(manifests: &[Manifest], active: &[ActiveContract]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut providers: BTreeMap<String, ProviderSpec> = BTreeMap::new();
    for contract in active.iter().filter(|a| a.kind == Kind::Provider.as_str()) {
        if let Ok(spec) = serde::Deserialize::deserialize(&contract.document["spec"]) {
            providers.insert(contract.id.clone(), spec);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for (i, manifest) in manifests.iter().enumerate() {
        if !seen.insert((manifest.spec.kind(), manifest.id.as_str())) {
            let message = "this contract is in the request twice";
            found.push(Violation::new(format!("/manifests/{i}/id"), "unique", message));
        }
        if let Spec::Provider(spec) = &manifest.spec {
            providers.insert(manifest.id.clone(), spec.clone());
        }
    }
    for (i, manifest) in manifests.iter().enumerate() {
        if let Spec::Agent(agent) = &manifest.spec {
            check_agent(i, agent, &providers, &mut found);
        }
    }
    let new: std::collections::BTreeSet<&str> =
        manifests.iter().filter(|m| m.spec.kind() == Kind::Agent).map(|m| m.id.as_str()).collect();
    for contract in active.iter().filter(|a| a.kind == Kind::Agent.as_str() && !new.contains(a.id.as_str())) {
        check_active_agent(contract, &providers, &mut found);
    }
    found
}

fn check_agent(
    i: usize,
    agent: &AgentSpec,
    providers: &BTreeMap<String, ProviderSpec>,
    found: &mut Vec<Violation>,
) {
    if let Err(message) = serves_model(agent, providers) {
        found.push(Violation::new(format!("/manifests/{i}/spec/model"), "reference", message));
    }
    for (g, grant) in agent.grants.iter().enumerate() {
        if let Err(message) = serves_tool(&grant.tool, providers) {
            found.push(Violation::new(format!("/manifests/{i}/spec/grants/{g}/tool"), "reference", message));
        }
    }
}

/// A changed provider must not take a model or tool away from an agent that stays as it is.
fn check_active_agent(
    contract: &ActiveContract,
    providers: &BTreeMap<String, ProviderSpec>,
    found: &mut Vec<Violation>,
) {
    let Ok(agent) = <AgentSpec as serde::Deserialize>::deserialize(&contract.document["spec"]) else {
        return;
    };
    let tools = agent.grants.iter().map(|g| serves_tool(&g.tool, providers));
    for message in std::iter::once(serves_model(&agent, providers)).chain(tools).filter_map(Result::err) {
        let message = format!("the active agent `{}` needs it: {message}", contract.id);
        found.push(Violation::new("", "reference", message));
    }
}

fn serves_model(agent: &AgentSpec, providers: &BTreeMap<String, ProviderSpec>) -> Result<(), String> {
    let Some((provider, model)) = agent.provider_and_model() else {
        return Err("model is <provider>/<model>".into());
    };
    let models: Vec<&str> = match providers.get(provider.as_str()) {
        None => return Err(format!("there is no provider `{provider}`")),
        Some(ProviderSpec::Mcp(_)) => return Err(format!("`{provider}` serves tools, not models")),
        Some(ProviderSpec::Llm(LlmSpec::Offline { models })) => {
            models.iter().map(|m| m.name.as_str()).collect()
        }
        Some(ProviderSpec::Llm(LlmSpec::Openai { models, .. })) => {
            models.iter().map(|m| m.name.as_str()).collect()
        }
    };
    if models.contains(&model) { Ok(()) } else { Err(format!("`{provider}` lists no model `{model}`")) }
}

fn serves_tool(full: &str, providers: &BTreeMap<String, ProviderSpec>) -> Result<(), String> {
    let Some(name) = ToolName::parse(full) else {
        return Err("a tool's full name is <provider>__<tool>".into());
    };
    match providers.get(name.provider().as_str()) {
        Some(ProviderSpec::Mcp(mcp)) if mcp.tools.iter().any(|t| t.name == name.tool()) => Ok(()),
        Some(ProviderSpec::Mcp(_)) => Err(format!("`{}` lists no tool `{}`", name.provider(), name.tool())),
        Some(ProviderSpec::Llm(_)) => Err(format!("`{}` serves models, not tools", name.provider())),
        None => Err(format!("there is no provider `{}`", name.provider())),
    }
}

/// Writes the rows the engine and the gates read. Operational state lies in other rows and survives.
async fn materialise(
    tx: &mut ProjectTx,
    scope: &ProjectScope,
    manifest: &Manifest,
    version_id: Uuid,
) -> Result<(), StoreError> {
    match &manifest.spec {
        Spec::Project(spec) => materialise_project(tx, scope, spec, version_id).await,
        Spec::Provider(spec) => materialise_provider(tx, scope, &manifest.id, spec, version_id).await,
        Spec::Agent(spec) => materialise_agent(tx, scope, &manifest.id, spec, version_id).await,
        // read from the active version itself
        Spec::Policy(_) | Spec::Channel(_) => Ok(()),
    }
}

async fn materialise_project(
    tx: &mut ProjectTx,
    scope: &ProjectScope,
    spec: &ProjectSpec,
    version_id: Uuid,
) -> Result<(), StoreError> {
    let project = scope.project().as_str();
    tx.rows(
        "UPDATE project SET display_name = $2, contract_version_id = $3 WHERE project_id = $1",
        &[&project, &spec.display_name, &version_id],
    )
    .await?;
    let limit = spec.budget.as_ref().map(|b| b.tokens);
    tx.rows(
        "INSERT INTO budget (project_id, scope, unit, limit_amount, contract_version_id)
         VALUES ($1, 'project', 'tokens', $2, $3)
         ON CONFLICT (project_id, scope, unit) DO UPDATE SET limit_amount = $2, contract_version_id = $3",
        &[&project, &limit, &version_id],
    )
    .await?;
    Ok(())
}

async fn materialise_provider(
    tx: &mut ProjectTx,
    scope: &ProjectScope,
    id: &str,
    spec: &ProviderSpec,
    version_id: Uuid,
) -> Result<(), StoreError> {
    let project = scope.project().as_str();
    let text = json::to_value(spec).to_string();
    let (table, other) = match spec {
        ProviderSpec::Llm(_) => ("provider", "mcp_server"),
        ProviderSpec::Mcp(_) => ("mcp_server", "provider"),
    };
    tx.rows(&format!("DELETE FROM {other} WHERE project_id = $1 AND provider_id = $2"), &[&project, &id])
        .await?;
    tx.rows(
        &format!(
            "INSERT INTO {table} (project_id, provider_id, contract_version_id, spec) VALUES ($1, $2, $3, $4)
             ON CONFLICT (project_id, provider_id) DO UPDATE SET contract_version_id = $3, spec = $4"
        ),
        &[&project, &id, &version_id, &text],
    )
    .await?;
    let ProviderSpec::Mcp(mcp) = spec else { return Ok(()) };
    tx.rows("DELETE FROM mcp_tool WHERE project_id = $1 AND provider_id = $2", &[&project, &id]).await?;
    let names: Vec<&str> = mcp.tools.iter().map(|t| t.name.as_str()).collect();
    let risks: Vec<&str> = mcp.tools.iter().map(|t| t.risk.as_str()).collect();
    let pins: Vec<Option<&str>> = mcp.tools.iter().map(|t| t.definition_sha256.as_deref()).collect();
    tx.rows(
        "INSERT INTO mcp_tool (project_id, provider_id, tool, contract_version_id, risk, definition_sha256)
         SELECT $1, $2, t.tool, $3, t.risk, t.pin FROM unnest($4::text[], $5::text[], $6::text[]) AS t (tool, risk, pin)",
        &[&project, &id, &version_id, &names, &risks, &pins],
    )
    .await?;
    Ok(())
}

async fn materialise_agent(
    tx: &mut ProjectTx,
    scope: &ProjectScope,
    id: &str,
    spec: &AgentSpec,
    version_id: Uuid,
) -> Result<(), StoreError> {
    let project = scope.project().as_str();
    tx.rows("DELETE FROM mcp_grant WHERE project_id = $1 AND agent_id = $2", &[&project, &id]).await?;
    let names: Vec<ToolName> = spec.grants.iter().filter_map(|g| ToolName::parse(&g.tool)).collect();
    let providers: Vec<&str> = names.iter().map(|n| n.provider().as_str()).collect();
    let tools: Vec<&str> = names.iter().map(ToolName::tool).collect();
    let constraints: Vec<Option<String>> =
        spec.grants.iter().map(|g| g.constraints.as_ref().map(Value::to_string)).collect();
    tx.rows(
        "INSERT INTO mcp_grant (project_id, agent_id, provider_id, tool, contract_version_id, constraints)
         SELECT $1, $2, g.provider, g.tool, $3, g.limits
         FROM unnest($4::text[], $5::text[], $6::text[]) AS g (provider, tool, limits)",
        &[&project, &id, &version_id, &providers, &tools, &constraints],
    )
    .await?;
    Ok(())
}

const ACTIVATE: &str = "
WITH c AS (INSERT INTO contract (project_id, kind, id, active_version) VALUES ($1, $2, $3, $4)
  ON CONFLICT (project_id, kind, id) DO UPDATE SET active_version = $4),
r AS (UPDATE contract_version SET state = 'retired'
  WHERE project_id = $1 AND kind = $2 AND id = $3 AND state = 'active'),
v AS (INSERT INTO contract_version (project_id, kind, id, version, version_id, sha256, body, state, applied_at, applied_by)
  VALUES ($1, $2, $3, $4, $5, $6, $7, 'active', $8, $9))
INSERT INTO audit_event (project_id, id, at, actor, action, subject, body)
VALUES ($1, $10, $8, $9, 'contract.apply', $2 || '/' || $3, $11)";
