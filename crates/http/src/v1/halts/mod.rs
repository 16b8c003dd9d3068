//! Halts: what people pause or stop, and start again.

pub(crate) mod create;
pub(crate) mod lift;
pub(crate) mod list;

use awooop_core::ErrorCode;
use awooop_core::halt::{HaltKind, Target};
use awooop_store::halt::Halt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::caller::Access;
use crate::problem::Problem;

/// Something that is held back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HaltItem {
    /// `pause`: nothing new begins, what is under way ends; `stop`: that is cut too.
    kind: &'static str,
    /// `all`, `project`, `agent`, `provider` or `tool`.
    target: &'static str,
    /// Which agent, provider or tool; else null.
    name: Option<String>,
    /// Whose it is; of `all` the operators' project.
    project_id: String,
    /// Why, masked; may be empty.
    reason: String,
    /// Who did it, `<project>/<principal>`.
    halted_by: String,
    #[schema(format = DateTime)]
    halted_at: String,
}

/// What is to be held back, or let go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HaltRequest {
    /// `pause` or `stop`; providers, tools and everything can only be stopped.
    #[schema(pattern = "^(pause|stop)$")]
    kind: String,
    /// What: everything (for the platform's operators), the project, or one of its agents, providers or tools.
    #[schema(pattern = "^(all|project|agent|provider|tool)$")]
    target: String,
    /// Which agent, provider or tool (by its full name).
    #[schema(max_length = 200)]
    name: Option<String>,
    /// Why, for the people who find it.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl HaltRequest {
    /// Kind and target, if this caller may name them.
    fn read(&self, access: &Access) -> Result<(HaltKind, Target), Problem> {
        let invalid = |at: &str, message: &str| Problem::invalid_at(at, "target", message);
        let kind = HaltKind::parse(&self.kind).ok_or_else(|| invalid("/kind", "a kind is pause or stop"))?;
        let target = Target::parse(&self.target, self.name.as_deref().unwrap_or_default());
        let target = target.ok_or_else(|| {
            invalid("/name", "an agent, provider or tool has its name, and nothing else has one")
        })?;
        if !target.allows(kind) {
            return Err(invalid("/kind", "only a project and an agent can be paused; stop this instead"));
        }
        if target == Target::All && !access.scope().project().is_platform() {
            let detail = "only the platform's operators stop everything, and they name no project";
            return Err(Problem::new(ErrorCode::Auth002, detail));
        }
        Ok((kind, target))
    }
}

impl HaltItem {
    /// As people are shown it.
    pub(crate) fn of(halt: Halt) -> Self {
        let name = halt.stop.target.name();
        Self {
            kind: halt.kind.as_str(),
            target: halt.stop.target.sort(),
            name: Some(name).filter(|name| !name.is_empty()),
            project_id: halt.stop.project.to_string(),
            reason: halt.reason,
            halted_by: halt.halted_by,
            halted_at: halt.halted_at.to_string(),
        }
    }
}
