//! The policy contract: what a project's agents may never do, and which watch is kept over what they may.
//!
//! `anomalies` and the escalation of `approvals` are checked and kept, so that they can be written and reviewed now, and
//! not in force in this version; [`PolicySpec::not_in_force`] says which of them a contract holds.

use serde::{Deserialize, Serialize};

use super::personal_data::DataAction;
use super::provider::Risk;
use super::tool_pattern::ToolPattern;
use crate::ids::AgentId;

/// Rules over tools, approvals, redaction, anomalies and rates. At least one section is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// For people; empty when none was written.
    #[serde(default)]
    pub description: String,
    /// Tools that no agent of the project may call, whatever it was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny: Option<Vec<ToolPattern>>,
    /// Which definitions of tools are accepted; without it also the first one that is seen of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pins: Option<PinRule>,
    /// Which calls wait for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Vec<ApprovalRule>>,
    /// What is masked besides what the platform finds by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redaction: Option<RedactionSpec>,
    /// What counts as going wrong, and what is done then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anomalies: Option<Vec<AnomalyRule>>,
    /// How often tools may be called, and how many calls there may be at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Vec<RateRule>>,
    /// Which effects wait for people, or do not, once a run has read untrusted output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_untrusted_output: Option<Vec<UntrustedRule>>,
}

impl PolicySpec {
    /// The pattern that forbids a tool, by its full name; `None` when none does.
    pub fn denied_by(&self, tool: &str) -> Option<&ToolPattern> {
        self.deny.iter().flatten().find(|pattern| pattern.matches(tool))
    }

    /// The rules by which a call of this tool waits for people, given what the tool does.
    pub fn approval_rules(&self, tool: &str, risk: Risk) -> impl Iterator<Item = &ApprovalRule> {
        let matches = move |rule: &&ApprovalRule| rule.risk <= risk && names(rule.tools.as_deref(), tool);
        self.approvals.iter().flatten().filter(matches)
    }

    /// The rates that a call of this tool comes under.
    pub fn rate_rules(&self, tool: &str) -> impl Iterator<Item = &RateRule> {
        self.rates.iter().flatten().filter(move |rule| names(rule.tools.as_deref(), tool))
    }

    /// What is said of this agent's calls of this tool after untrusted output: the strictest of all rules that match.
    /// `None` when none does.
    pub fn after_untrusted_output(&self, agent: &AgentId, tool: &str) -> Option<UntrustedAction> {
        let speaks_of = |rule: &&UntrustedRule| {
            names(rule.tools.as_deref(), tool) && rule.agents.as_ref().is_none_or(|ids| ids.contains(agent))
        };
        self.after_untrusted_output.iter().flatten().filter(speaks_of).map(|rule| rule.action).max()
    }

    /// The sections this contract holds that this version does not act on yet.
    pub fn not_in_force(&self) -> Vec<&'static str> {
        let escalates = |rule: &ApprovalRule| rule.escalate_to.is_some();
        [
            ("approvals[].escalate_to", self.approvals.iter().flatten().any(escalates)),
            ("anomalies", self.anomalies.is_some()),
        ]
        .into_iter()
        .filter_map(|(section, is_there)| is_there.then_some(section))
        .collect()
    }
}

/// Which definitions of tools are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinRule {
    /// Those whose hash a provider's contract lists, and no other: nothing is pinned at its first sight.
    Contract,
}

/// Is the tool one of these? Every one is, where none are named.
fn names(patterns: Option<&[ToolPattern]>, tool: &str) -> bool {
    patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(tool)))
}

/// Calls that wait until people have signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRule {
    /// Calls of this risk, and graver ones.
    pub risk: Risk,
    /// Only of these tools; of all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<ToolPattern>>,
    /// Distinct people who must sign, 1 to 10.
    #[serde(default = "one")]
    pub signatures: u8,
    /// How long a request waits before it counts as denied, in seconds: 60 to 2592000.
    #[serde(default = "default_expires_in_s")]
    pub expires_in_s: u32,
    /// People who are asked as well when nobody decided in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_to: Option<Vec<String>>,
    /// When they are asked, in seconds from the request; less than `expires_in_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_after_s: Option<u32>,
}

fn one() -> u8 {
    1
}
fn default_expires_in_s() -> u32 {
    86_400
}

/// The project's own patterns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedactionSpec {
    /// Each with texts that prove what it finds.
    pub patterns: Vec<RedactionPattern>,
}

/// A pattern whose matches are masked, tagged or blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedactionPattern {
    /// Stands in the mask, such as `ORDER_NO`.
    pub name: String,
    /// A regular expression without look-around and back-references.
    pub pattern: String,
    /// What is done with what it finds; nothing is let through.
    #[serde(default = "mask")]
    pub action: DataAction,
    /// Texts in which it finds something.
    pub matches: Vec<String>,
    /// Texts in which it finds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misses: Option<Vec<String>>,
}

fn mask() -> DataAction {
    DataAction::Mask
}

/// So many events within a window, and what is done then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnomalyRule {
    /// What is counted.
    pub kind: AnomalyKind,
    /// The count that is one too many, 1 to 1000000.
    pub count: u32,
    /// The sliding window, in seconds: 10 to 86400.
    pub window_s: u32,
    /// What is done.
    pub action: AnomalyAction,
}

/// What can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// A gate refused a call.
    GateRefusal,
    /// An answer did not fit the agent's schema.
    SchemaFailure,
    /// A run ended because the budget was spent.
    BudgetKill,
    /// Something was masked.
    RedactionHit,
    /// A model or tool server failed.
    ProviderError,
    /// A run was taken back from a worker that fell silent.
    ReapedRun,
}

/// What an anomaly leads to. Ordered: a later one is the stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyAction {
    /// People are told.
    Alert,
    /// People are told, and the agent goes back to shadow.
    LowerMode,
}

/// At most so many calls within a window, or at a time, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateRule {
    /// Calls of these tools; of all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<ToolPattern>>,
    /// Whose calls are counted together.
    pub per: RatePer,
    /// Calls allowed within the window, 1 to 1000000; there with `window_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// The window, in seconds: 1 to 86400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_s: Option<u32>,
    /// Calls allowed at a time, 1 to 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
}

/// Whose calls are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatePer {
    /// Each agent has its own count.
    Agent,
    /// Each tool has its own count, whoever calls it.
    Tool,
    /// All agents and tools of the project share one.
    Project,
}

impl RatePer {
    /// As manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            RatePer::Agent => "agent",
            RatePer::Tool => "tool",
            RatePer::Project => "project",
        }
    }
}

/// What becomes of effects after a run has read untrusted output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UntrustedRule {
    /// What is done.
    pub action: UntrustedAction,
    /// Calls of these tools; of all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<ToolPattern>>,
    /// Calls of these agents; of all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<Vec<AgentId>>,
}

/// What is done with an open-world effect after untrusted output. Ordered: a later one is the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UntrustedAction {
    /// Untrusted output makes no difference.
    Allow,
    /// A person must allow it; so without any rule.
    Approve,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_denied_tool_is_told_with_its_pattern_and_what_is_not_in_force_is_named() {
        let policy: PolicySpec = serde_json::from_value(json!({
            "deny": ["files__read", "*__delete_*"],
            "rates": [{"per": "agent", "calls": 10, "window_s": 60}],
            "approvals": [{"risk": "write"}, {"risk": "write", "escalate_to": ["mei"], "escalate_after_s": 60}],
            "redaction": {"patterns": [{"name": "ORDER_NO", "pattern": "EW-[0-9]", "matches": ["EW-1"]}]},
        }))
        .unwrap();
        assert_eq!(policy.denied_by("shop__delete_order").map(ToolPattern::as_str), Some("*__delete_*"));
        assert_eq!(policy.denied_by("shop__orders"), None);
        assert_eq!(policy.not_in_force(), ["approvals[].escalate_to"]);
        assert!(PolicySpec::default().denied_by("shop__orders").is_none());
    }

    #[test]
    fn of_what_is_said_of_a_call_after_untrusted_output_the_strictest_counts() {
        let policy: PolicySpec = serde_json::from_value(json!({"after_untrusted_output": [
            {"action": "allow", "tools": ["shop__*"]},
            {"action": "approve", "tools": ["shop__refund"], "agents": ["clerk"]},
        ]}))
        .unwrap();
        let said = |agent: &str, tool| policy.after_untrusted_output(&AgentId::parse(agent).unwrap(), tool);
        assert_eq!(said("clerk", "shop__note"), Some(UntrustedAction::Allow));
        assert_eq!(said("clerk", "shop__refund"), Some(UntrustedAction::Approve));
        assert_eq!(said("buyer", "shop__refund"), Some(UntrustedAction::Allow));
        assert_eq!(said("clerk", "mail__send"), None);
    }
}
