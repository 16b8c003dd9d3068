//! Events of the audit, newest first.

use awooop_core::audit::Event;
use awooop_store::audit::AuditFilter;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::caller::Access;
use crate::page::{List, Page};
use crate::problem::Problem;
use crate::query::{self, Params};
use crate::state::AppState;

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Only by this actor, `<project>/<principal>`.
    #[param(pattern = "^[^\\x00]{1,200}$")]
    actor: Option<String>,
    /// Only this action, such as `run.create`.
    #[param(pattern = "^[a-z._]{1,64}$")]
    action: Option<String>,
    /// Only this subject, such as `agent/clerk`.
    #[param(pattern = "^[^\\x00]{1,500}$")]
    subject: Option<String>,
    /// Only about this run.
    #[param(value_type = Option<Uuid>)]
    run_id: Option<String>,
    /// Not before this time (RFC 3339).
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before this time (RFC 3339).
    #[param(format = DateTime)]
    until: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// An event of the audit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditItem {
    #[schema(format = Uuid)]
    id: String,
    project_id: String,
    #[schema(format = DateTime)]
    at: String,
    /// Who did it: `<project>/<principal>`.
    actor: String,
    /// What was done.
    action: String,
    /// What it was done to.
    subject: String,
    #[schema(format = Uuid)]
    run_id: Option<String>,
    trace_id: Option<String>,
    /// More about it.
    body: Value,
}

/// The project's audit events, newest first.
#[utoipa::path(get, path = "/v1/platform/audit", operation_id = "search_audit", tag = "audit", params(AuditQuery),
    responses((status = 200, description = "A page of events", body = Page<AuditItem>)))]
pub(crate) async fn search_audit(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<AuditQuery>,
) -> Result<Json<Page<AuditItem>>, Problem> {
    let limit = query::limit(query.limit.as_deref())?;
    let list = List { name: "audit", project: access.scope().project() };
    let filter = AuditFilter {
        actor: text(query.actor, "/actor", 200)?,
        action: text(query.action, "/action", 64)?,
        subject: text(query.subject, "/subject", 500)?,
        run_id: query.run_id.as_deref().map(run_id).transpose()?,
        since: query.since.as_deref().map(|t| time(t, "/since")).transpose()?,
        until: query.until.as_deref().map(|t| time(t, "/until")).transpose()?,
        before: list.read(query.cursor.as_deref(), |key| key.parse().ok())?,
        limit: limit as i64 + 1,
    };
    let events = state.store.search_audit(access.scope(), &filter).await?;
    Ok(Json(list.page(events, limit, |event: &Event<'_>| event.id.to_string(), item)))
}

fn text(value: Option<String>, path: &str, most: usize) -> Result<Option<String>, Problem> {
    let is_fine = |text: &String| (1..=most).contains(&text.chars().count()) && !text.contains('\0');
    match value {
        Some(text) if !is_fine(&text) => {
            Err(Problem::invalid_at(path, "length", format!("expected 1 to {most} characters")))
        }
        other => Ok(other),
    }
}

fn run_id(text: &str) -> Result<Uuid, Problem> {
    let invalid = || Problem::invalid_at("/run_id", "format", "run_id is a UUID");
    text.parse().ok().filter(|_| text.len() == 36).ok_or_else(invalid)
}

fn time(text: &str, path: &str) -> Result<Timestamp, Problem> {
    let invalid = |_| Problem::invalid_at(path, "format", "expected a time such as 2026-01-31T12:00:00Z");
    let at: Timestamp = text.parse().map_err(invalid)?;
    // PostgreSQL and jiff end at different times; nothing of ours was written before 1970 or after 3000
    let bounds = (Timestamp::UNIX_EPOCH, Timestamp::from_second(32_503_680_000).unwrap_or(Timestamp::MAX));
    Ok(at.clamp(bounds.0, bounds.1))
}

fn item(event: Event<'static>) -> AuditItem {
    let at = Timestamp::from_microsecond(event.at_us).unwrap_or(Timestamp::MAX);
    let body = serde_json::from_str(&event.body);
    AuditItem {
        id: event.id.to_string(),
        project_id: event.project.into_owned(),
        at: at.to_string(),
        actor: event.actor.into_owned(),
        action: event.action.into_owned(),
        subject: event.subject.into_owned(),
        run_id: event.run_id.map(|id| id.to_string()),
        trace_id: event.trace_id.map(std::borrow::Cow::into_owned),
        // what is no JSON was written by nobody of ours, and is shown as it is
        body: body.unwrap_or_else(|_| Value::String(event.body.into_owned())),
    }
}
