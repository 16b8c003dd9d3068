//! A check of the project's whole audit, by the server, told while it goes on. Whoever does not trust the server
//! checks an export instead.

use std::sync::LazyLock;

use awooop_core::audit::{Anchor, parse_hash};
use awooop_store::audit::VerifyStep;
use awooop_store::{ProjectScope, StoreError, scope};
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, channel};
use utoipa::IntoParams;

use crate::caller::Access;
use crate::ndjson;
use crate::problem::Problem;
use crate::query::Params;
use crate::state::AppState;

/// Checks at the same time in this process: each keeps a core busy. Others wait.
const AT_ONCE: usize = 2;
/// Most heads of one check.
const MOST_HEADS: usize = 50;

/// Against which heads.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VerifyQuery {
    /// Heads that were kept: number and hash of a seal, `<n>:<hash>`, several parted by commas.
    #[param(pattern = "^[0-9]{1,18}:[0-9a-f]{64}(,[0-9]{1,18}:[0-9a-f]{64}){0,49}$")]
    heads: Option<String>,
}

/// Checks every event and every seal. Lines `{"found": …}` and `{"progress": …}`, at the end `{"report": …}`.
#[utoipa::path(get, path = "/v1/platform/audit/verify", operation_id = "verify_audit", tag = "audit",
    params(VerifyQuery),
    responses((status = 200, description = "The lines", body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn verify_audit(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<VerifyQuery>,
) -> Result<Response, Problem> {
    let heads = heads(query.heads.as_deref(), access.scope())?;
    state.store.ping().await?;
    let (to, steps) = channel(64);
    let (store, inside) = (state.store, access.scope().clone());
    let check = scope::spawn(access.scope(), "verify", async move {
        static FREE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(AT_ONCE));
        let _turn = FREE.acquire().await;
        store.verify_audit(&inside, &heads, &to).await
    });
    Ok(ndjson::answer(futures::stream::unfold(Some((steps, check)), next)))
}

type Check = (Receiver<VerifyStep>, tokio::task::JoinHandle<Result<(), StoreError>>);

/// The next line; after the last step, whether the check came to its end.
async fn next(check: Option<Check>) -> Option<(Result<Vec<u8>, StoreError>, Option<Check>)> {
    let (mut steps, check) = check?;
    if let Some(step) = steps.recv().await {
        return Some((Ok(ndjson::line(&document(&step))), Some((steps, check))));
    }
    match check.await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some((Err(error), None)),
        Err(error) => Some((Err(StoreError::Corrupt(error.to_string())), None)),
    }
}

fn document(step: &VerifyStep) -> serde_json::Value {
    match step {
        VerifyStep::Found(found) => json!({"found": found}),
        VerifyStep::Progress(events) => json!({"progress": {"events": events}}),
        VerifyStep::Done(report) => json!({"report": report}),
    }
}

fn heads(text: Option<&str>, scope: &ProjectScope) -> Result<Vec<Anchor>, Problem> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let invalid = || Problem::invalid_at("/heads", "pattern", "heads are <n>:<hash>, parted by commas");
    let head = |part: &str| {
        let (n, hash) = part.split_once(':').ok_or_else(invalid)?;
        let is_plain = !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) && parse_hash(hash).is_some();
        let n = n.parse().ok().filter(|_| is_plain).ok_or_else(invalid)?;
        Ok(Anchor { project: scope.project().to_string(), n, hash: hash.to_owned() })
    };
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > MOST_HEADS {
        return Err(invalid());
    }
    parts.into_iter().map(head).collect()
}
