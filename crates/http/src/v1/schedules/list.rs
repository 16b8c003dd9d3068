//! The project's schedules, by agent and id: when each is due, and what it started last.

use awooop_store::schedule::Schedule;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::caller::Access;
use crate::page::{List, Page};
use crate::problem::Problem;
use crate::query::{PageQuery, Params};
use crate::state::AppState;

/// A schedule as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleItem {
    agent_id: String,
    /// Its name within the agent.
    schedule_id: String,
    /// Minute, hour, day of month, month, day of week.
    cron: String,
    /// IANA name of the zone whose clock the line is read on.
    time_zone: String,
    /// `shadow`, `suggest` or `live`; null for the agent's own.
    mode: Option<&'static str>,
    /// `skip`, `last` or `all`.
    catch_up: &'static str,
    enabled: bool,
    /// When it fires next; null while it is switched off.
    #[schema(format = DateTime)]
    next_at: Option<String>,
    /// When it started its last run; null before the first.
    #[schema(format = DateTime)]
    last_at: Option<String>,
    /// That run.
    last_run_id: Option<Uuid>,
}

/// The project's schedules.
#[utoipa::path(get, path = "/v1/platform/schedules", operation_id = "list_schedules", tag = "schedules",
    params(PageQuery),
    responses((status = 200, description = "A page of schedules, by agent and id", body = Page<ScheduleItem>)))]
pub(crate) async fn list_schedules(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<ScheduleItem>>, Problem> {
    let limit = query.limit()?;
    let list = List { name: "schedules", project: access.scope().project() };
    let parse = |key: &str| key.split_once('/').map(|(agent, id)| (agent.to_owned(), id.to_owned()));
    let (agent, id) = list.read(query.cursor.as_deref(), parse)?.unwrap_or_default();
    let schedules = state.store.list_schedules(access.scope(), (&agent, &id), limit as i64 + 1).await?;
    Ok(Json(list.page(schedules, limit, |s: &Schedule| format!("{}/{}", s.agent_id, s.schedule_id), item)))
}

fn item(schedule: Schedule) -> ScheduleItem {
    ScheduleItem {
        agent_id: schedule.agent_id,
        schedule_id: schedule.schedule_id,
        cron: schedule.spec.cron,
        time_zone: schedule.spec.time_zone,
        mode: schedule.spec.mode.map(awooop_core::Mode::as_str),
        catch_up: schedule.spec.catch_up.as_str(),
        enabled: schedule.spec.enabled,
        next_at: schedule.next_at.map(|at| at.to_string()),
        last_at: schedule.last_at.map(|at| at.to_string()),
        last_run_id: schedule.last_run_id,
    }
}
