//! Tools: what the project's contracts name and what its servers really offer, and what the gates would say of a call.

use awooop_core::{AgentId, ErrorCode};

use crate::caller::Access;
use crate::problem::Problem;

pub(crate) mod diff;
pub(crate) mod list;
pub(crate) mod view;
pub(crate) mod why;

/// A key bound to an agent sees that agent's tools and no other's.
fn agent(access: &Access, asked: Option<AgentId>) -> Result<Option<AgentId>, Problem> {
    match (access.caller.agent(), asked) {
        (Some(own), Some(asked)) if *own != asked => {
            Err(Problem::new(ErrorCode::Auth002, "a key bound to an agent sees that agent's tools only"))
        }
        (Some(own), _) => Ok(Some(own.clone())),
        (None, asked) => Ok(asked),
    }
}
