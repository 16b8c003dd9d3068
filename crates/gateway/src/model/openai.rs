//! A client for any server that speaks OpenAI's chat/completions: OpenAI, Azure, vLLM, Ollama, llama.cpp.
//!
//! One `complete` is one answer: up to three tries with backoff under one total deadline, every try with
//! the same `Idempotency-Key`. Servers differ in two places, and a client learns its server once: some
//! refuse `max_tokens` (then `max_completion_tokens` is sent), some refuse `response_format` (then the
//! schema goes into the system message). What comes back is bounded and checked before it is believed.
//! Invariant: no header, address or body of the provider reaches an error or a log.
//! Absent: streaming, and a JSON-schema action mode for models that cannot call tools.

mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{ModelError, ModelReply, ModelRequest};
use wire::Shape;

/// Most bytes of an answer that are read.
pub(crate) const MAX_RESPONSE_BYTES: u64 = 8 * 1024 * 1024;
/// Most bytes of a refusal that are read; its text is only searched, never shown.
const MAX_ERROR_BYTES: u64 = 64 * 1024;
const TRIES: u32 = 3;
const TOTAL_TIMEOUT: Duration = Duration::from_secs(120);
const MAX_WAIT: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// A client of one server with one credential.
pub(crate) struct OpenAiClient {
    endpoint: Url,
    authorization: Option<HeaderValue>,
    http: reqwest::Client,
    total_timeout: Duration,
    first_backoff: Duration,
    wants_max_completion_tokens: AtomicBool,
    refuses_response_format: AtomicBool,
}

impl std::fmt::Debug for OpenAiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenAiClient").field("host", &self.endpoint.host_str()).finish_non_exhaustive()
    }
}

/// What one try came to.
enum Tried {
    Answered(ModelReply),
    /// The server wants the same request in another shape; does not count as a try.
    Reshape,
    Failed(ModelError),
}

impl OpenAiClient {
    /// A client of the server at `base_url` (the part before `/chat/completions`, such as
    /// `https://api.openai.com/v1`). The total time of an answer is 120 s.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] when the address cannot carry a path, or the key is no header value.
    pub(crate) fn new(
        base_url: Url,
        api_key: Option<SecretString>,
        http: reqwest::Client,
    ) -> Result<Self, ModelError> {
        let mut endpoint = base_url;
        endpoint
            .path_segments_mut()
            .map_err(|()| malformed("the base URL cannot carry a path"))?
            .pop_if_empty()
            .extend(["chat", "completions"]);
        let authorization = api_key.map(|key| bearer(&key)).transpose()?;
        Ok(Self {
            endpoint,
            authorization,
            http,
            total_timeout: TOTAL_TIMEOUT,
            first_backoff: FIRST_BACKOFF,
            wants_max_completion_tokens: AtomicBool::new(false),
            refuses_response_format: AtomicBool::new(false),
        })
    }

    /// The same client with another total time for an answer, all tries and waits included.
    #[must_use]
    pub(crate) fn with_total_timeout(mut self, timeout: Duration) -> Self {
        self.total_timeout = timeout;
        self
    }

    /// Asks the model and waits for its whole answer.
    ///
    /// # Errors
    /// See [`ModelError`]; those that are retryable were tried three times already, except a time-out
    /// and an answer cut off in the middle (which the provider may have billed).
    pub(crate) async fn complete(&self, request: &ModelRequest) -> Result<ModelReply, ModelError> {
        tokio::time::timeout(self.total_timeout, self.complete_with_retries(request)).await.unwrap_or_else(
            |_| {
                let after_ms = u64::try_from(self.total_timeout.as_millis()).unwrap_or(u64::MAX);
                Err(ModelError::Timeout { after_ms })
            },
        )
    }

    async fn complete_with_retries(&self, request: &ModelRequest) -> Result<ModelReply, ModelError> {
        let mut tries = 0;
        loop {
            match self.try_once(request).await {
                Tried::Answered(reply) => return Ok(reply),
                Tried::Reshape => {}
                Tried::Failed(error) => {
                    tries += 1;
                    match self.wait_before_retry(&error, tries) {
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => return Err(error),
                    }
                }
            }
        }
    }

    /// How long to wait before the next try; `None` when there is to be none.
    fn wait_before_retry(&self, error: &ModelError, tries: u32) -> Option<Duration> {
        let asked = match error {
            ModelError::RateLimited { retry_after_ms } => retry_after_ms.map(Duration::from_millis),
            ModelError::Server { .. } | ModelError::Connect => None,
            _ => return None,
        };
        if tries >= TRIES || asked.is_some_and(|wait| wait > MAX_WAIT) {
            return None;
        }
        let backoff = self.first_backoff * 2u32.pow(tries - 1);
        let jittered = backoff.mul_f64(rand::rng().random_range(0.5..1.5));
        Some(asked.map_or(jittered, |wait| wait.max(jittered)).min(MAX_WAIT))
    }

    fn shape(&self, request: &ModelRequest) -> Shape {
        Shape {
            max_completion_tokens: self.wants_max_completion_tokens.load(Ordering::Relaxed),
            schema_in_text: request.output_schema.is_some()
                && self.refuses_response_format.load(Ordering::Relaxed),
        }
    }

    async fn try_once(&self, request: &ModelRequest) -> Tried {
        let shape = self.shape(request);
        let mut call = self.http.post(self.endpoint.clone()).json(&wire::body(request, shape));
        if let Ok(key) = HeaderValue::from_str(&request.idempotency_key) {
            call = call.header("idempotency-key", key);
        }
        if let Some(authorization) = &self.authorization {
            call = call.header(AUTHORIZATION, authorization.clone());
        }
        let response = match call.send().await {
            Ok(response) => response,
            Err(error) => return Tried::Failed(transport_error(&error)),
        };
        let status = response.status();
        if !status.is_success() {
            return self.refused(status, response, request, shape).await;
        }
        match read_bounded(response, MAX_RESPONSE_BYTES).await {
            Ok(bytes) => wire::reply(&bytes, request).map_or_else(Tried::Failed, Tried::Answered),
            Err(error) => Tried::Failed(error),
        }
    }

    /// Reads why the server said no: another shape to try, or an error.
    async fn refused(
        &self,
        status: StatusCode,
        response: reqwest::Response,
        request: &ModelRequest,
        shape: Shape,
    ) -> Tried {
        let retry_after_ms = retry_after_ms(response.headers());
        let body = read_bounded(response, MAX_ERROR_BYTES).await.unwrap_or_default();
        if matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
            && self.learn(&body, request, shape)
        {
            return Tried::Reshape;
        }
        let reason = wire::plain_reason(&body);
        Tried::Failed(match status.as_u16() {
            429 if reason.as_deref() == Some("insufficient_quota") => {
                ModelError::Rejected { status: 429, reason }
            }
            429 => ModelError::RateLimited { retry_after_ms },
            status @ (401 | 403) => ModelError::Unauthorized { status },
            status if status >= 500 || status == 408 => ModelError::Server { status },
            status => ModelError::Rejected { status, reason },
        })
    }

    /// Takes from a refusal what this server does not understand. True when the next request will have
    /// another shape; each flag turns once, so this ends.
    fn learn(&self, body: &[u8], request: &ModelRequest, shape: Shape) -> bool {
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        if !shape.max_completion_tokens && text.contains("max_completion_tokens") {
            self.wants_max_completion_tokens.store(true, Ordering::Relaxed);
            return true;
        }
        let names_schema =
            ["response_format", "json_schema", "strict"].iter().any(|word| text.contains(word));
        if request.output_schema.is_some() && !shape.schema_in_text && names_schema {
            self.refuses_response_format.store(true, Ordering::Relaxed);
            return true;
        }
        false
    }
}

fn malformed(what: &str) -> ModelError {
    ModelError::Malformed { what: what.to_owned() }
}

fn bearer(key: &SecretString) -> Result<HeaderValue, ModelError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
        .map_err(|_| malformed("the credential has characters that no header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn transport_error(error: &reqwest::Error) -> ModelError {
    if error.is_builder() {
        return malformed("the request cannot be built");
    }
    // A time-out of the connection attempt, and a connection closed before any status, are both "no
    // connection": the request was not answered, and its key makes another try safe.
    ModelError::Connect
}

/// Seconds of a `Retry-After`, in milliseconds. Its date form is not honoured: it needs the provider's
/// clock to be ours.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let seconds: f64 = text.trim().parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1000.0).min(86_400_000.0) as u64)
}

async fn read_bounded(mut response: reqwest::Response, limit_bytes: u64) -> Result<Vec<u8>, ModelError> {
    if response.content_length().is_some_and(|length| length > limit_bytes) {
        return Err(ModelError::TooLarge { limit_bytes });
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| ModelError::Interrupted)? {
        if (bytes.len() + chunk.len()) as u64 > limit_bytes {
            return Err(ModelError::TooLarge { limit_bytes });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
