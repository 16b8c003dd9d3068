//! The outermost layer: one span and one log line a request, the trace id, the problem documents, and what every answer
//! says of itself. It logs method, path template, status, project, trace and the client's address; never a body, a query
//! or a key.

use std::sync::{Arc, OnceLock};

use awooop_core::ProjectId;
use awooop_redact::Redactor;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, header};
use tracing::Instrument;

use crate::edge::{self, Client, Peer};
use crate::problem::Problem;
use crate::state::AppState;

/// The trace a request belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// 32 hexadecimal digits.
    pub(crate) id: String,
    /// Did the caller name it?
    pub(crate) is_given: bool,
    /// The project the caller acts in, once that is known.
    pub(crate) project: Arc<OnceLock<ProjectId>>,
}

impl Trace {
    /// The caller's trace, where it named one.
    pub(crate) fn given(&self) -> Option<String> {
        self.is_given.then(|| self.id.clone())
    }
}

/// Runs one request in its span and writes what a refusal says.
pub(crate) async fn trace(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let trace = match traceparent(request.headers()) {
        Some(id) => Trace { id, is_given: true, project: Arc::default() },
        None => {
            let id = state.store.clock().new_id().simple().to_string();
            Trace { id, is_given: false, project: Arc::default() }
        }
    };
    let template = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = template,
        trace_id = trace.id,
        project = tracing::field::Empty,
        status = tracing::field::Empty,
        client = tracing::field::Empty,
    );
    let client = Client::of(&request, &state.edge);
    if let Some(address) = client.address {
        span.record("client", tracing::field::display(address));
    }
    let is_tls = request.extensions().get::<Peer>().is_some_and(|peer| peer.is_tls);
    request.extensions_mut().insert(client);
    request.extensions_mut().insert(trace.clone());
    let run = async {
        let mut response = next.run(request).await;
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            problem.log();
            let mut rendered = problem.render(&path, &trace.id, &refusals(&state, &trace));
            for name in [header::ALLOW, header::CONNECTION] {
                if let Some(value) = response.headers_mut().remove(&name) {
                    rendered.headers_mut().insert(name, value);
                }
            }
            response = rendered;
        }
        edge::secure(response.headers_mut(), is_tls);
        tracing::Span::current().record("status", response.status().as_u16());
        tracing::info!("answered");
        response
    };
    run.instrument(span).await
}

/// What a refusal goes through on its way to the caller: what people of its project may see, or who nobody is known to
/// be is told no credential.
fn refusals(state: &AppState, trace: &Trace) -> Redactor {
    match trace.project.get() {
        Some(project) => state.store.known_redactors(project).to_people.redactor().clone(),
        None => state.store.redactor().clone(),
    }
}

/// The trace id of a valid W3C `traceparent`; anything else is ignored, as the standard asks.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all("traceparent").iter();
    let text = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |t: &str, n: usize| {
        t.len() == n && t.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let [version, trace_id, parent, flags, rest @ ..] = parts.as_slice() else { return None };
    let is_form = is_hex(version, 2) && is_hex(trace_id, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    let is_version = *version != "ff" && (*version != "00" || rest.is_empty());
    let is_zero = |t: &str| t.bytes().all(|b| b == b'0');
    (is_form && is_version && !is_zero(trace_id) && !is_zero(parent)).then(|| (*trace_id).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", value.parse().unwrap());
        }
        traceparent(&headers)
    }

    #[test]
    fn only_a_valid_traceparent_names_a_trace() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let good = format!("00-{trace}-b7ad6b7169203331-01");
        assert_eq!(read(&[&good]).as_deref(), Some(trace));
        assert_eq!(read(&[&format!("01-{trace}-b7ad6b7169203331-01-more")]).as_deref(), Some(trace));
        for bad in [
            "",
            "x",
            trace,
            &format!("ff-{trace}-b7ad6b7169203331-01"),
            &format!("00-{trace}-b7ad6b7169203331-01-more"),
            &format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            &format!("00-{trace}-0000000000000000-01"),
            &good.to_uppercase(),
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&[&good, &good]), None);
    }
}
