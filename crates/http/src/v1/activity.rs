//! What goes on now: for each project what is queued, runs and waits, and what the last minute brought; and the
//! workers. A platform admin who names no project sees every project in which something goes on; everybody else their
//! own, and how many workers there are without their names.

use awooop_store::activity::{LastMinute, MOST_PROJECTS, Queued, WorkerBeat};
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// What goes on now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Activity {
    #[schema(format = DateTime)]
    at: String,
    /// By id; of all projects only those in which something is queued, runs, waits or happened within a minute.
    projects: Vec<ProjectActivity>,
    /// Are there more projects than are shown?
    is_cut: bool,
    workers: Vec<WorkerItem>,
}

/// What goes on in one project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectActivity {
    project_id: String,
    /// Due runs that no worker has yet; 1000 means that many or more.
    #[schema(minimum = 0)]
    queued: i64,
    /// When the oldest of them was made.
    #[schema(format = DateTime)]
    oldest_queued_at: Option<String>,
    #[schema(minimum = 0)]
    running: i64,
    /// Runs that wait for a person or a result; 1000 means that many or more.
    #[schema(minimum = 0)]
    waiting: i64,
    /// Runs that wait for their next try; 1000 means that many or more.
    #[schema(minimum = 0)]
    retrying: i64,
    /// Runs that began within the last minute.
    #[schema(minimum = 0)]
    started_last_minute: i64,
    /// Runs that ended within the last minute; 5000 means that many or more.
    #[schema(minimum = 0)]
    ended_last_minute: i64,
    /// From creation to start, of half of those that began within the last minute, in seconds.
    start_p50_s: Option<f64>,
    /// The same of all but one in a hundred.
    start_p99_s: Option<f64>,
}

/// A worker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerItem {
    /// Its name, for a platform admin; else null.
    worker_id: Option<String>,
    /// Seconds since its last beat.
    #[schema(minimum = 0)]
    beat_age_s: f64,
    /// Runs it can hold at the same time.
    #[schema(minimum = 0)]
    slots: i32,
    /// Runs it holds.
    #[schema(minimum = 0)]
    slots_used: i32,
}

/// What goes on now, by project, and the workers.
#[utoipa::path(get, path = "/v1/platform/activity", operation_id = "get_activity", tag = "runs",
    responses((status = 200, description = "What goes on now", body = Activity)))]
pub(crate) async fn get_activity(
    State(state): State<AppState>,
    access: Access,
) -> Result<Json<Activity>, Problem> {
    let is_operator = access.caller.is_platform_admin() && !access.is_project_named;
    let only = (!is_operator).then(|| access.scope().project());
    let queued = state.store.queued(only).await?;
    let is_cut = is_operator && queued.len() as i64 >= MOST_PROJECTS;
    let mut projects = Vec::with_capacity(queued.len());
    for one in queued {
        // what needs a run's row is read in the project's own scope
        let inside =
            if is_operator { access.caller.act_in(&one.project) } else { Some(access.caller.clone()) };
        if let Some(caller) = inside {
            let minute = state.store.last_minute(caller.scope()).await?;
            projects.push(project(one, minute));
        }
    }
    let now = state.store.clock().now();
    let workers = state.store.workers().await?.into_iter().map(|beat| worker(beat, now, is_operator));
    Ok(Json(Activity { at: now.to_string(), projects, is_cut, workers: workers.collect() }))
}

fn project(queued: Queued, minute: LastMinute) -> ProjectActivity {
    ProjectActivity {
        project_id: queued.project.to_string(),
        queued: queued.queued,
        oldest_queued_at: queued.oldest_at.map(|at| at.to_string()),
        running: minute.running,
        waiting: queued.waiting,
        retrying: queued.retrying,
        started_last_minute: minute.started,
        ended_last_minute: minute.ended,
        start_p50_s: minute.start_p50_s,
        start_p99_s: minute.start_p99_s,
    }
}

fn worker(beat: WorkerBeat, now: Timestamp, is_named: bool) -> WorkerItem {
    WorkerItem {
        worker_id: is_named.then_some(beat.worker_id),
        beat_age_s: now.duration_since(beat.beat_at).as_secs_f64().max(0.0),
        slots: beat.slots,
        slots_used: beat.slots_used,
    }
}
