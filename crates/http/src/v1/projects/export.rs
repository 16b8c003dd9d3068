//! Everything a project holds, a line a row, all of one moment: for its owner to keep. It ends when the client goes.
//!
//! A task of its own reads the rows, ahead of the client by one piece. So a client that stalls, or takes its time, is cut
//! though nobody polls its answer any more, and neither connection nor snapshot is held by it.

use std::time::Duration;

use awooop_core::ErrorCode;
use awooop_store::export::{Export, ExportError};
use awooop_store::{StoreError, scope};
use axum::extract::State;
use axum::response::Response;
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;

use crate::caller::Access;
use crate::ndjson;
use crate::problem::Problem;
use crate::state::AppState;

/// How long a client may take.
#[derive(Clone, Copy)]
struct Patience {
    /// To read one piece.
    piece: Duration,
    /// To read all of them: so long no table is vacuumed for its sake.
    all: Duration,
}

const PATIENCE: Patience = Patience { piece: Duration::from_secs(30), all: Duration::from_mins(10) };

/// A piece of the answer.
type Lines = Result<Vec<u8>, StoreError>;

/// Every row of the project that means something to its owner: contracts, principals, keys without secrets, runs with
/// steps and calls, approvals, schedules, halts, budgets, the audit. A line is `{"kind": …, "row": …}`; the last one, of
/// the kind `end`, says how many there were.
#[utoipa::path(get, path = "/v1/platform/export", operation_id = "export_project", tag = "projects",
    responses(
        (status = 200, description = "The lines", body = String, content_type = "application/x-ndjson"),
        (status = 404, description = "E-REQ-004: the project has no contract yet"),
        (status = 429, description = "E-PROJECT-002: an export of it, or many of others, are under way")))]
pub(crate) async fn export_project(
    State(state): State<AppState>,
    access: Access,
) -> Result<Response, Problem> {
    let export = match state.store.export_project(access.scope()).await {
        Ok(export) => export,
        Err(ExportError::TooMany(detail)) => return Err(Problem::new(ErrorCode::Project002, detail)),
        Err(ExportError::Absent) => return Err(Problem::absent("project")),
        Err(ExportError::Store(error)) => return Err(error.into()),
    };
    let (to, lines) = channel(1);
    scope::spawn(access.scope(), "export", feed(stream::unfold(Some(export), more), to, PATIENCE));
    let received = stream::unfold(lines, async |mut lines| lines.recv().await.map(|some| (some, lines)));
    Ok(ndjson::answer(received))
}

async fn more(export: Option<Export>) -> Option<(Lines, Option<Export>)> {
    let mut export = export?;
    match export.next().await {
        Ok(Some(lines)) => Some((Ok(lines), Some(export))),
        Ok(None) => None,
        Err(error) => Some((Err(error), None)),
    }
}

/// Hands an export on, and lets go of it when the client went, stalls or takes too long: then the answer has no last line.
async fn feed(export: impl Stream<Item = Lines>, to: Sender<Lines>, within: Patience) {
    let all = async {
        let mut export = std::pin::pin!(export);
        while let Some(lines) = export.next().await {
            match timeout(within.piece, to.send(lines)).await {
                Ok(Ok(())) => {}
                Ok(Err(_gone)) => return true,
                Err(_elapsed) => return false,
            }
        }
        true
    };
    if !timeout(within.all, all).await.unwrap_or(false) {
        tracing::warn!("an export was cut: its client reads too slowly");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_hours(1);

    fn endless() -> impl Stream<Item = Lines> {
        stream::repeat_with(|| Ok(b"{}\n".to_vec()))
    }

    #[tokio::test]
    async fn a_client_that_stalls_is_cut() {
        let (to, mut lines) = channel(1);
        feed(endless(), to, Patience { piece: SHORT, all: LONG }).await;
        assert!(lines.recv().await.is_some(), "the piece that was sent");
        assert!(lines.recv().await.is_none(), "the end");
    }

    #[tokio::test]
    async fn a_client_that_reads_on_is_cut_when_its_time_is_over() {
        let (to, mut lines) = channel(1);
        let reading = async {
            while lines.recv().await.is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        futures::join!(reading, feed(endless(), to, Patience { piece: LONG, all: SHORT }));
    }

    #[tokio::test]
    async fn an_export_ends_with_its_last_piece_or_with_its_client() {
        let (to, lines) = channel(1);
        let received = stream::unfold(lines, async |mut lines| lines.recv().await.map(|some| (some, lines)));
        let (read, ()) = futures::join!(received.count(), feed(endless().take(7), to, PATIENCE));
        assert_eq!(read, 7);
        let (to, lines) = channel(1);
        drop(lines);
        feed(endless(), to, PATIENCE).await;
    }
}
