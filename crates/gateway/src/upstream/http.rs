//! rmcp's HTTP backend for Streamable HTTP upstreams.
//!
//! The client dials only the pinned addresses, follows no redirect, uses no proxy of the environment,
//! repeats nothing by itself, and trusts the host's own roots (rustls with ring). POSTs are read here, so
//! that results stay whole and one answer never takes more than the limit; streams opened with GET and
//! the end of a session are left to rmcp.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use http::{HeaderName, HeaderValue, StatusCode};
use reqwest::Response;
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, RequestId};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    StreamableHttpResponseLimits,
};
use secrecy::{ExposeSecret, SecretString};
use sse_stream::{Sse, SseStream};

use super::address::Pinned;
use super::error::UpstreamError;
use super::wire::{self, Reading};

const SESSION_HEADER: &str = "mcp-session-id";
/// Room for an error body; larger ones are not read.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;

/// Why one HTTP exchange failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum HttpFault {
    #[error("no connection: {0}")]
    Connect(io::ErrorKind),
    #[error("timed out")]
    Timeout,
    #[error("the exchange broke off")]
    Broken,
    #[error("HTTP {0}")]
    Status(StatusCode),
    #[error("the answer is neither JSON nor an event stream")]
    NotMcp,
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl From<HttpFault> for UpstreamError {
    fn from(fault: HttpFault) -> Self {
        match fault {
            HttpFault::Connect(kind) => Self::Unreachable(format!("no connection ({kind})")),
            HttpFault::Timeout => Self::unreachable("no connection in time"),
            HttpFault::Broken => Self::unreachable("the connection broke off"),
            HttpFault::Status(status) if status.is_redirection() => Self::Refused(format!(
                "it answers with a redirect (HTTP {}), which is not followed",
                status.as_u16()
            )),
            HttpFault::Status(status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => {
                Self::CredentialRefused(status.as_u16())
            }
            HttpFault::Status(status) => {
                Self::Unreachable(format!("it answers with HTTP {}", status.as_u16()))
            }
            HttpFault::NotMcp => Self::protocol("its answer is neither JSON-RPC nor an event stream"),
            HttpFault::TooLarge(max_bytes) => Self::too_large(max_bytes),
        }
    }
}

impl From<reqwest::Error> for HttpFault {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        if error.is_connect() {
            return Self::Connect(io_kind(&error));
        }
        error.status().map_or(Self::Broken, Self::Status)
    }
}

fn io_kind(error: &reqwest::Error) -> io::ErrorKind {
    let mut source = std::error::Error::source(error);
    while let Some(current) = source {
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return io.kind();
        }
        source = current.source();
    }
    io::ErrorKind::Other
}

/// Our half of rmcp's Streamable HTTP client. A clone shares its pool of connections.
#[derive(Clone)]
pub(super) struct HttpClient {
    client: reqwest::Client,
    reading: Reading,
}

impl HttpClient {
    /// A client that dials `pinned` only.
    pub(super) fn new(
        pinned: &Pinned,
        header: Option<&(HeaderName, SecretString)>,
        connect_timeout: Duration,
        reading: Reading,
    ) -> Result<Self, UpstreamError> {
        let mut headers = HeaderMap::new();
        if let Some((name, secret)) = header {
            let mut value = HeaderValue::from_str(secret.expose_secret()).map_err(|_| {
                UpstreamError::Refused("the credential cannot be sent in a header".to_owned())
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls()?)
            .resolve_to_addrs(&pinned.host, &pinned.addresses)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .default_headers(headers)
            .user_agent(concat!("awooop/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| UpstreamError::unreachable("the HTTP client cannot be made"))?;
        Ok(Self { client, reading })
    }

    async fn post(
        &self,
        uri: &str,
        message: &ClientJsonRpcMessage,
        session: Option<&str>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<HttpFault>> {
        let mut request = self.client.post(uri).header(ACCEPT, "application/json, text/event-stream");
        if let Some(session) = session {
            request = request.header(SESSION_HEADER, session);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request.json(message).send().await.map_err(|e| client_error(e.into()))?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND && session.is_some() {
            return Err(StreamableHttpError::SessionExpired);
        }
        if !status.is_success() {
            return self.failed(response).await;
        }
        let is_request = wire::request_id(message).is_some();
        if !is_request || matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        self.answer(response, message).await
    }

    /// A failed status: the JSON-RPC error in its body when there is one, else the status.
    async fn failed(
        &self,
        response: Response,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<HttpFault>> {
        let status = response.status();
        let is_final = status.is_redirection()
            || matches!(
                status,
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
            );
        if !is_final
            && media_type(&response) == "application/json"
            && let Ok(body) = bounded_body(response, MAX_ERROR_BODY_BYTES).await
            && let Ok(error @ JsonRpcMessage::Error(_)) = wire::read(&body, None, &(self.reading.known)())
        {
            return Ok(StreamableHttpPostResponse::Json(error, None));
        }
        Err(client_error(HttpFault::Status(status)))
    }

    /// Reads the answer to a request.
    async fn answer(
        &self,
        response: Response,
        message: &ClientJsonRpcMessage,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<HttpFault>> {
        let session = response.headers().get(SESSION_HEADER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let id = wire::request_id(message);
        let handshake = id.clone().filter(|_| wire::is_initialize(message));
        match media_type(&response).as_str() {
            "application/json" => {
                let body = bounded_body(response, self.reading.max_bytes).await.map_err(client_error)?;
                let answer = wire::read(&body, handshake.as_ref(), &(self.reading.known)())
                    .map_err(|_| client_error(HttpFault::NotMcp))?;
                Ok(StreamableHttpPostResponse::Json(answer, session))
            }
            "text/event-stream" => {
                let keep = handshake.is_none();
                Ok(StreamableHttpPostResponse::Sse(
                    bounded_events(response, keep, id, self.reading.clone()),
                    session,
                ))
            }
            _ => Err(client_error(HttpFault::NotMcp)),
        }
    }
}

fn client_error(fault: HttpFault) -> StreamableHttpError<HttpFault> {
    StreamableHttpError::Client(fault)
}

fn media_type(response: &Response) -> String {
    let value =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

async fn bounded_body(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, HttpFault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > max_bytes {
            return Err(HttpFault::TooLarge(max_bytes));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The events of one answer. All of them together stay under the limit; past it the answer's place is
/// taken by an error for the same id, and the stream ends.
fn bounded_events(
    response: Response,
    keep: bool,
    id: Option<RequestId>,
    reading: Reading,
) -> BoxStream<'static, Result<Sse, SseError>> {
    let max_bytes = reading.max_bytes;
    let is_over = Arc::new(OnceLock::new());
    let seen_over = Arc::clone(&is_over);
    let mut seen = 0;
    let bytes = response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(|error| io::Error::other(HttpFault::from(error)))?;
        seen += chunk.len();
        if seen > max_bytes {
            let _ = is_over.set(());
            return Err(io::Error::other(HttpFault::TooLarge(max_bytes)));
        }
        Ok(chunk)
    });
    let mut has_ended = false;
    SseStream::from_bytes_stream(bytes)
        .map(move |event| (event, seen_over.get().is_some()))
        .scan((), move |(), (event, is_over)| {
            if has_ended {
                return std::future::ready(None);
            }
            has_ended = is_over;
            std::future::ready(Some(match (event, id.clone()) {
                (Err(_), Some(id)) if is_over => Ok(stand_in(id)),
                (Ok(event), id) => {
                    let event = kept(event, keep, &reading);
                    reading.hear(id.as_ref(), event.data.as_deref().unwrap_or_default());
                    Ok(event)
                }
                (event, _) => event,
            }))
        })
        .boxed()
}

fn stand_in(id: RequestId) -> Sse {
    let text = serde_json::to_string(&wire::too_large_answer(id)).unwrap_or_default();
    Sse::default().data(text)
}

fn kept(mut event: Sse, is_kept: bool, reading: &Reading) -> Sse {
    event.data = event.data.map(|data| wire::keep_in_event(data, is_kept, &(reading.known)()));
    event
}

/// The configuration of TLS, made once: the roots are read from the host's store.
fn tls() -> Result<rustls::ClientConfig, UpstreamError> {
    static TLS: OnceLock<Option<rustls::ClientConfig>> = OnceLock::new();
    let make = || {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Some(config)
    };
    TLS.get_or_init(make).clone().ok_or_else(|| UpstreamError::unreachable("TLS cannot be set up"))
}

/// rmcp's own backend's error as ours. Its variants that matter to rmcp's reconnection stay.
fn recode(error: StreamableHttpError<reqwest::Error>) -> StreamableHttpError<HttpFault> {
    match error {
        StreamableHttpError::Client(error) => client_error(error.into()),
        StreamableHttpError::ServerDoesNotSupportSse => StreamableHttpError::ServerDoesNotSupportSse,
        StreamableHttpError::SessionExpired => StreamableHttpError::SessionExpired,
        StreamableHttpError::AuthRequired(error) => StreamableHttpError::AuthRequired(error),
        StreamableHttpError::InsufficientScope(error) => StreamableHttpError::InsufficientScope(error),
        _ => client_error(HttpFault::Broken),
    }
}

impl StreamableHttpClient for HttpClient {
    type Error = HttpFault;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<HttpFault>> {
        self.post(&uri, &message, session_id.as_deref(), custom_headers).await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        _limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<HttpFault>> {
        self.post(&uri, &message, session_id.as_deref(), custom_headers).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), StreamableHttpError<HttpFault>> {
        self.client.delete_session(uri, session_id, auth_header, custom_headers).await.map_err(recode)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, StreamableHttpError<HttpFault>> {
        let stream = self
            .client
            .get_stream_with_max_sse_event_size(
                uri,
                session_id,
                last_event_id,
                auth_header,
                custom_headers,
                self.reading.max_bytes,
            )
            .await
            .map_err(recode)?;
        // A resumed answer arrives here, so its result is kept too; the handshake never is resumed.
        let reading = self.reading.clone();
        let heard = move |event: Sse| {
            let event = kept(event, true, &reading);
            reading.hear(None, event.data.as_deref().unwrap_or_default());
            event
        };
        Ok(stream.map(move |event| event.map(&heard)).boxed())
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        _max_sse_event_size: usize,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, StreamableHttpError<HttpFault>> {
        self.get_stream(uri, session_id, last_event_id, auth_header, custom_headers).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener};

    /// Two listeners on one port: where the machine's resolver finds `localhost`, and where a pin says it is.
    fn listeners() -> (TcpListener, TcpListener, u16) {
        loop {
            let resolved = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = resolved.local_addr().unwrap().port();
            if let Ok(pinned) = TcpListener::bind(("127.0.0.2", port)) {
                resolved.set_nonblocking(true).unwrap();
                pinned.set_nonblocking(true).unwrap();
                return (resolved, pinned, port);
            }
        }
    }

    fn connections(listener: &TcpListener) -> usize {
        std::iter::from_fn(|| listener.accept().ok()).count()
    }

    #[tokio::test]
    async fn a_name_that_resolves_elsewhere_by_now_is_dialled_where_it_was_judged() {
        let soon = Duration::from_millis(500);
        for host in ["localhost", "localhost."] {
            let (resolved, pinned, port) = listeners();
            let addresses = vec![SocketAddr::from(([127, 0, 0, 2], port))];
            let pin = Pinned { host: host.to_owned(), addresses };
            let tools = HttpClient::new(&pin, None, soon, Reading::of_test(1000)).unwrap().client;
            let models = crate::http_client::http_client_pinned(Some(&pin)).unwrap();
            for client in [tools, models] {
                let url = format!("http://{host}:{port}/");
                // nobody answers: it is the connection that counts
                assert!(client.get(url).timeout(soon).send().await.is_err());
                assert_eq!((connections(&resolved), connections(&pinned)), (0, 1), "{host}");
            }
        }
    }
}
