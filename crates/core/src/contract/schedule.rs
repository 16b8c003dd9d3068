//! Schedules of an agent contract: runs that begin by themselves, at the times of a cron line in a time zone.
//! When that is, is `crate::schedule`'s to say.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::run::Mode;

/// One schedule of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Its name within the agent.
    pub id: String,
    /// Five fields: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// IANA name of the zone whose clock the fields are read on.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// What the agent is asked each time.
    pub input: Value,
    /// At most the agent's own, which counts without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What becomes of times that passed while nothing ran.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Off, it stays in the contract and never fires.
    #[serde(default = "enabled")]
    pub enabled: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}
fn enabled() -> bool {
    true
}

/// What becomes of the times that were missed while no server ran, or while the project was paused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// They are left out; the next time counts.
    #[default]
    Skip,
    /// One run stands for all of them.
    Last,
    /// A run for each of the last [`crate::schedule::MOST_CAUGHT_UP`], oldest first.
    All,
}

impl CatchUp {
    /// As a manifest spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            CatchUp::Skip => "skip",
            CatchUp::Last => "last",
            CatchUp::All => "all",
        }
    }
}
