//! The interface contract `runtime_run_state`: a run as the platform shows it to others. Its schema is fixed;
//! a project never writes such a document, so it cannot be applied.
//!
//! Members that the schema lets be null are always written, with null for nothing; others are left out.
//! Times stay texts: this crate knows no clock.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use uuid::Uuid;

use crate::ids::ProjectId;
use crate::run::StateName;

/// A run as others see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunStateDocument {
    /// The run.
    pub run_id: Uuid,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// The agent that works on it.
    pub agent_id: String,
    /// Where it stands.
    pub state: StateName,
    /// W3C trace id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The run that started it.
    #[serde(default)]
    pub parent_run_id: Option<Uuid>,
    /// What started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<RunTrigger>,
    /// SHA-256 of its input, lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_sha256: Option<String>,
    /// SHA-256 of its output, lower-case hexadecimal; none until it completed.
    #[serde(default)]
    pub output_sha256: Option<String>,
    /// When its first claim began, RFC 3339.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When it ended, however it ended, RFC 3339.
    #[serde(default)]
    pub completed_at: Option<String>,
    /// When it times out, RFC 3339.
    #[serde(default)]
    pub timeout_at: Option<String>,
    /// The `E-…` code of a run that failed or timed out.
    #[serde(default)]
    pub error_code: Option<String>,
    /// What its model calls cost so far, in US dollars.
    #[serde(default)]
    pub cost_usd: Option<Number>,
    /// Steps so far.
    #[serde(default)]
    pub step_count: u64,
}

/// What started a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunTrigger {
    /// Which way it came.
    pub trigger_type: TriggerType,
    /// The message that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_event_id: Option<String>,
    /// The schedule that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_id: Option<String>,
    /// Who started it, such as `ewoooc/key-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggered_by: Option<String>,
}

/// Which way a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerType {
    /// A message on a channel.
    ChannelEvent,
    /// A schedule.
    Schedule,
    /// A request to the API.
    Api,
    /// Another run.
    SubAgent,
    /// A run that is tried again.
    Retry,
}
