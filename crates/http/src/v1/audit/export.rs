//! The whole audit of a project, a line an event or seal, for a check elsewhere. Export seals before events:
//! then every event that a seal holds is in the file.

use awooop_store::{ProjectScope, Store, StoreError};
use axum::extract::State;
use axum::response::Response;
use futures::Stream;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::caller::Access;
use crate::ndjson;
use crate::problem::Problem;
use crate::query::Params;
use crate::state::AppState;

/// Events of one read.
const EVENTS: i64 = 1000;
/// Seals of one read.
const SEALS: i64 = 16;

/// What is exported.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// `events` or `seals`.
    #[param(pattern = "^(events|seals)$", default = "events")]
    what: Option<String>,
    /// Go on after this event, by its id, or after this seal, by its number.
    after: Option<String>,
}

/// Where an export stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    Events(Uuid),
    Seals(i64),
}

/// Every event by its id, or every seal by its number, one a line. An event's line is what its leaf is made of.
#[utoipa::path(get, path = "/v1/platform/audit/export", operation_id = "export_audit", tag = "audit",
    params(ExportQuery),
    responses((status = 200, description = "The lines", body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn export_audit(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<ExportQuery>,
) -> Result<Response, Problem> {
    let place = place(&query)?;
    // asked before anything goes out, so that a database that is away is a status
    state.store.ping().await?;
    Ok(ndjson::answer(lines(state.store, access.scope().clone(), place)))
}

fn place(query: &ExportQuery) -> Result<Place, Problem> {
    let after = query.after.as_deref();
    let invalid = || Problem::invalid_at("/after", "format", "after is an event's id, or a seal's number");
    match query.what.as_deref() {
        None | Some("events") => {
            let id =
                after.map(|t| t.parse().ok().filter(|_| t.len() == 36).ok_or_else(invalid)).transpose()?;
            Ok(Place::Events(id.unwrap_or(Uuid::nil())))
        }
        Some("seals") => {
            let n = after.map(|t| t.parse().ok().filter(|n| *n >= 0).ok_or_else(invalid)).transpose()?;
            Ok(Place::Seals(n.unwrap_or(0)))
        }
        Some(_) => Err(Problem::invalid_at("/what", "enum", "what is `events` or `seals`")),
    }
}

fn lines(
    store: Store,
    scope: ProjectScope,
    place: Place,
) -> impl Stream<Item = Result<Vec<u8>, StoreError>> + Send {
    futures::stream::unfold(Some(place), move |place| {
        let (store, scope) = (store.clone(), scope.clone());
        async move {
            match page(&store, &scope, place?).await {
                Ok((lines, _)) if lines.is_empty() => None,
                Ok((lines, next)) => Some((Ok(lines), next)),
                Err(error) => Some((Err(error), None)),
            }
        }
    })
}

/// Some lines, and where the next ones are.
async fn page(
    store: &Store,
    scope: &ProjectScope,
    place: Place,
) -> Result<(Vec<u8>, Option<Place>), StoreError> {
    let mut lines = Vec::new();
    let next = match place {
        Place::Events(after) => {
            let events = store.export_events(scope, after, EVENTS).await?;
            for event in &events {
                lines.extend(event.line());
                lines.push(b'\n');
            }
            events.last().map(|event| Place::Events(event.id))
        }
        Place::Seals(after) => {
            let seals = store.export_seals(scope, after, SEALS).await?;
            for seal in &seals {
                lines.extend(seal.line().into_bytes());
                lines.push(b'\n');
            }
            seals.last().map(|seal| Place::Seals(seal.n))
        }
    };
    Ok((lines, next))
}
