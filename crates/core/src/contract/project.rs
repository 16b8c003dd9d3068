//! The project contract: a tenant's name, whose signatures put its contracts into force, what it may spend,
//! how many runs it may have at a time, which model its agents use when they name none, where its personal data may go,
//! and how long runs are kept.

use serde::{Deserialize, Serialize};

use super::personal_data::PersonalDataSpec;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectSpec {
    /// For people.
    pub display_name: String,
    /// For people; empty when none was written.
    #[serde(default)]
    pub description: String,
    /// Whose signatures put a contract version of this project into force.
    #[serde(default)]
    pub activation: ActivationSpec,
    /// Without it nothing is limited, but use is still recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSpec>,
    /// Without it there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// Share of a worker's slots beside other projects with queued runs, 1 to 100; 1 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u8>,
    /// `<provider>/<model>` for agents that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_model: Option<String>,
    /// Without it personal data is let through to models, tools, the journal and people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal_data: Option<PersonalDataSpec>,
    /// Without it runs are kept for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
}

/// How long what has ended is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSpec {
    /// Days after a run's end until it is deleted with its steps and tool calls, 1 to 36500.
    pub runs_days: u16,
}

/// Whose signatures an activation needs. By default one, the publisher's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActivationSpec {
    /// Distinct people who must sign, 1 to 10.
    pub signatures: u8,
    /// Only these may sign; without it anyone with the role admin or approver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signers: Option<Vec<String>>,
    /// Does the publisher's own signature count?
    pub publisher_may_sign: bool,
    /// How long a signature counts, in seconds: 60 to 2592000.
    pub window_s: u32,
}

impl Default for ActivationSpec {
    fn default() -> Self {
        Self { signatures: 1, signers: None, publisher_may_sign: true, window_s: 259_200 }
    }
}

/// Limits on use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSpec {
    /// Input and output tokens together, in total.
    pub tokens: i64,
}

/// How many runs a project may have at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsSpec {
    /// Under way, on all nodes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running_runs: Option<u32>,
    /// Waiting to be started; a further one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queued_runs: Option<u32>,
    /// Bytes of runs, steps, calls, approvals, ledger and audit; above it no run is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_storage_bytes: Option<i64>,
}
