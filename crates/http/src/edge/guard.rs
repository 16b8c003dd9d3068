//! What a request passes first: is there room for it, and is its head of a size that we read? Refusals are problem
//! documents like any other. What hyper refuses before (no HTTP at all, a head beyond its own larger bounds in `serve`)
//! has no document.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use awooop_core::ErrorCode;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use hyper::body::{Frame, SizeHint};

use super::address::names_another;
use super::{Edge, Full, Refused, Seat};
use crate::problem::Problem;
use crate::state::AppState;

/// Largest request target (path and query), in bytes.
pub(crate) const MAX_TARGET_BYTES: usize = 8 * 1024;
/// Largest head: target and headers, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Most headers.
pub(crate) const MAX_HEADERS: usize = 100;
/// What a full house still answers: a probe must not take a busy server for a broken one.
const ALWAYS_ANSWERED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The other end of the connection a request came by.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its address, in its canonical form.
    pub(crate) address: IpAddr,
    /// Was it encrypted up to here?
    pub(crate) is_tls: bool,
    /// Its connection's seat.
    pub(crate) seat: Arc<Seat>,
}

/// Whose a request is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Client {
    /// Their address, where the request came by a connection.
    pub(crate) address: Option<IpAddr>,
    /// Did a peer that is no trusted proxy name somebody else?
    pub(crate) is_unheard: bool,
}

impl Client {
    /// Of a request, by its connection and what a trusted proxy says.
    pub(crate) fn of(request: &Request, edge: &Edge) -> Self {
        let Some(peer) = request.extensions().get::<Peer>() else { return Self::default() };
        let (proxies, headers) = (&edge.0.proxies, request.headers());
        Self {
            address: Some(proxies.client(peer.address, headers)),
            is_unheard: !proxies.has(peer.address) && names_another(headers),
        }
    }
}

/// Lets a request in, or turns it away.
pub(crate) async fn guard(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let edge = &state.edge;
    let (parts, body) = request.into_parts();
    let seat = seat(&parts, edge)?;
    size(&parts).inspect_err(|_| edge.count(Refused::Head))?;
    let response = next.run(Request::from_parts(parts, body)).await;
    Ok(match seat {
        None => response,
        Some(seat) => response.map(|inner| Body::new(Seated { inner, _seat: seat })),
    })
}

/// The seat of a request that a trusted proxy brought; any other has its connection's. All whom the proxy does not name,
/// or names in two ways, share the seats of the proxy's own address.
fn seat(parts: &Parts, edge: &Edge) -> Result<Option<Seat>, Problem> {
    let Some(peer) = parts.extensions.get::<Peer>() else { return Ok(None) };
    match peer.seat.turned_away() {
        Some(Full::House) if ALWAYS_ANSWERED.contains(&parts.uri.path()) => return Ok(None),
        Some(Full::House) => return Err(no_room("as many connections as this node takes are open")),
        Some(Full::Address) => {
            return Err(no_room("as many connections as this node takes of one address are open from yours"));
        }
        None => {}
    }
    if !edge.0.proxies.has(peer.address) {
        return Ok(None);
    }
    let client = parts.extensions.get::<Client>().and_then(|client| client.address).unwrap_or(peer.address);
    // the proxy's own probe must not find the share full of those whom it does not name
    if client == peer.address && ALWAYS_ANSWERED.contains(&parts.uri.path()) {
        return Ok(None);
    }
    edge.0.seats.forwarded(client.into()).map(Some).ok_or_else(|| {
        edge.count(Refused::Address);
        no_room("as many requests as this node takes of one address are under way from yours")
    })
}

fn no_room(detail: &str) -> Problem {
    Problem::new(ErrorCode::Limit003, detail)
}

fn size(parts: &Parts) -> Result<(), Problem> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        let detail = format!("path and query have at most {MAX_TARGET_BYTES} bytes");
        return Err(Problem::new(ErrorCode::Req010, detail));
    }
    // as they were sent: name, colon, space, value, end of line
    let headers = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if parts.headers.len() > MAX_HEADERS || target + headers.sum::<usize>() > MAX_HEAD_BYTES {
        let detail =
            format!("a request's head has at most {MAX_HEADERS} headers and {MAX_HEAD_BYTES} bytes in all");
        return Err(Problem::new(ErrorCode::Req009, detail));
    }
    Ok(())
}

/// An answer's body that keeps its request's seat until it is sent or given up.
struct Seated {
    inner: Body,
    _seat: Seat,
}

impl HttpBody for Seated {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
