//! A forwarder in front of a server that adds an `Authorization` header to every request, for clients that
//! cannot be told one.
//!
//! It changes nothing else: path, method, headers (`Host` too) and bodies pass as they come, answers stream,
//! and who leaves is left by the forwarder as well.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, serve};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running forwarder. Dropping it closes its port.
pub struct Forwarder {
    base: String,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Target {
    address: SocketAddr,
    authorization: HeaderValue,
}

impl Forwarder {
    /// Listens on a free port of 127.0.0.1 and forwards to `base`, such as `http://127.0.0.1:7700`, with this
    /// bearer key. Fails when the base is no address or the key is no header.
    #[expect(clippy::disallowed_methods, reason = "test support: the forwarder belongs to no project")]
    pub async fn start(base: &str, key: &str) -> anyhow::Result<Forwarder> {
        let address = base.trim_start_matches("http://").trim_end_matches('/').parse()?;
        let target = Target { address, authorization: HeaderValue::from_str(&format!("Bearer {key}"))? };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(forward).with_state(target);
        let task = tokio::spawn(async move {
            // ends with the task
            let _ = serve(listener, router).await;
        });
        Ok(Forwarder { base: own, task })
    }

    /// Its address, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(State(target): State<Target>, request: Request) -> Response {
    match pass(&target, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// One request on a connection of its own.
#[expect(clippy::disallowed_methods, reason = "test support: the forwarder belongs to no project")]
async fn pass(target: &Target, mut request: Request) -> anyhow::Result<Response> {
    let stream = TcpStream::connect(target.address).await?;
    // an answer that streams in small pieces is not kept back
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    request.headers_mut().insert(header::AUTHORIZATION, target.authorization.clone());
    *request.uri_mut() = request.uri().path_and_query().map_or_else(Uri::default, only_path);
    Ok(sender.send_request(request).await?.map(Body::new))
}

fn only_path(path: &PathAndQuery) -> Uri {
    Uri::from(path.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::Api;
    use crate::fixture_everything::{FixtureEverything, Speaks};

    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_key_is_added_and_a_stream_passes() {
        let fixture = FixtureEverything::start(Speaks::Only2026).await.unwrap();
        let base = fixture.url().trim_end_matches("/mcp");
        let forwarder = Forwarder::start(base, "secret").await.unwrap();
        let api = Api::new(forwarder.base(), None).unwrap();
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover"});
        let headers = [("x-mine", "kept"), ("host", "localhost:1")];
        let answer = api.send("POST", "/mcp", &headers, Some(&message)).await.unwrap();
        assert_eq!(answer.status, 400, "the fixture's own refusal: {}", answer.text);
        let seen = fixture.seen().remove(0);
        assert_eq!(seen.header("authorization"), Some("Bearer secret"));
        assert_eq!((seen.header("x-mine"), seen.header("host")), (Some("kept"), Some("localhost:1")));
        assert_eq!(seen.message, message);
    }
}
