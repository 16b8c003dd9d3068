//! Runs: start, look, watch, cancel. What an agent's own key may see of runs is decided here, once: its
//! own agent's, and another's is absent.

pub(crate) mod cancel;
pub(crate) mod create;
pub(crate) mod deliver;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod steps;
mod wait;
pub(crate) mod watch;

use awooop_core::RunId;
use awooop_store::run::Run;

use crate::caller::Access;
use crate::problem::Problem;
use crate::run_view::Shown;
use crate::state::AppState;

/// What the caller is shown of the project's runs, as its contracts say now.
pub(crate) async fn shown(state: &AppState, access: &Access) -> Result<Shown, Problem> {
    Ok(Shown::under(state.store.redactors(access.scope()).await?))
}

/// The run, or 404 when the caller may not know of it.
async fn visible_run(state: &AppState, access: &Access, run_id: RunId) -> Result<Run, Problem> {
    let run = state.store.find_run(access.scope(), run_id).await?;
    let is_own = |run: &Run| access.caller.agent().is_none_or(|agent| agent.as_str() == run.agent_id);
    run.filter(is_own).ok_or_else(|| Problem::absent("run"))
}
