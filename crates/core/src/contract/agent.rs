//! The agent contract: what an agent is told, what it may use, the shape of its input and its answer, how many runs of
//! it there may be at a time and how long they may take, and when it runs by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::provider::Risk;
use super::schedule::ScheduleSpec;
use crate::ids::ProviderId;
use crate::run::Mode;

/// What an agent is told, what it may use and how long it may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The system message.
    pub instructions: String,
    /// `<provider>/<model>`, both of this project; without it the project's default counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Schema of the run's input; anything is accepted without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// Schema the final answer must fit.
    pub output_schema: Value,
    /// Tools the agent may call.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// The highest mode of its runs.
    #[serde(default)]
    pub mode: Mode,
    /// Model calls and tool calls together.
    #[serde(default = "default_max_steps")]
    pub max_steps: u32,
    /// Claims of one run before it fails.
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    /// Runs under way at a time, on all nodes together; without it only the project's limit counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Longest time from creation to end, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Longest time of one model call or tool call, in milliseconds; without it the provider's own limit counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_timeout_ms: Option<u64>,
    /// Ceiling of one model answer, in tokens.
    #[serde(default = "default_max_output_tokens")]
    pub max_output_tokens: u32,
    /// Runs that begin by themselves.
    #[serde(default)]
    pub schedules: Vec<ScheduleSpec>,
}

fn default_max_steps() -> u32 {
    20
}
fn default_max_attempts() -> u32 {
    3
}
fn default_timeout_ms() -> u64 {
    900_000
}
fn default_max_output_tokens() -> u32 {
    1024
}

impl AgentSpec {
    /// The same agent, with the project's default model where it names none.
    #[must_use]
    pub fn with_default_model(mut self, default: Option<&str>) -> Self {
        if self.model.is_none() {
            self.model = default.map(str::to_owned);
        }
        self
    }

    /// `<provider>/<model>`; empty when the agent names none.
    pub fn model(&self) -> &str {
        self.model.as_deref().unwrap_or_default()
    }

    /// Longest time of one step, where there is a limit besides the provider's.
    pub fn step_timeout(&self) -> Option<Duration> {
        self.step_timeout_ms.map(Duration::from_millis)
    }

    /// Provider and model of [`Self::model`]; `None` when there is none.
    pub fn provider_and_model(&self) -> Option<(ProviderId, &str)> {
        let (provider, model) = self.model().split_once('/')?;
        Some((ProviderId::parse(provider).ok()?, model))
    }
}

/// One tool an agent may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Full name, `<provider>__<tool>`.
    pub tool: String,
    /// Schema the arguments must fit besides the tool's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Value>,
    /// For this agent the tool counts as this; never below the tool's own risk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
}

impl Grant {
    /// The risk the tool has for this agent, given the tool's own.
    pub fn effective_risk(&self, own: Risk) -> Risk {
        self.risk.map_or(own, |risk| risk.max(own))
    }
}
