//! The HTTP client of the command line: one server, one key or sign-in, one project.
//!
//! It turns every answer into a JSON document or a [`Failure`], and knows nothing of what the documents
//! mean. Invariants: it follows no redirect and reads no proxy from the environment, so the key goes to the
//! server it is meant for; the key never prints. A request that gets no answer within a minute failed.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH};
use reqwest::{Method, RequestBuilder, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

use crate::cli::{ClientArgs, ServerArgs};
use crate::failure::{Failure, Problem};
use crate::settings::{Proof, Settings};
use crate::sign_in::{self, Session};
use crate::sse;

/// Longer than the server ever waits on behalf of `Prefer: wait`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longer than a tool may take, which is ten minutes.
const TOOL_TIMEOUT: Duration = Duration::from_secs(630);
/// How many items a page of a list holds at most.
const PAGE: &str = "200";

/// Where a message names the revision it is of, if no handshake agreed on one.
const MCP_REVISION: &str = "io.modelcontextprotocol/protocolVersion";

/// What the headers of a message say of it: its revision, and of one that names it itself (2026-07-28) its method and
/// what it names.
fn mcp_headers(message: &Value, agreed: Option<&str>) -> Vec<(&'static str, String)> {
    const REVISION: &str = "MCP-Protocol-Version";
    let params = &message["params"];
    let Some(own) = params["_meta"][MCP_REVISION].as_str() else {
        return agreed.map(|revision| (REVISION, revision.to_owned())).into_iter().collect();
    };
    let method = message["method"].as_str().unwrap_or_default();
    let name = match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        _ => None,
    };
    let mut headers = vec![(REVISION, own.to_owned()), ("Mcp-Method", method.to_owned())];
    headers.extend(name.map(|name| ("Mcp-Name", header_text(name))));
    headers.retain(|(_, value)| HeaderValue::from_str(value).is_ok());
    headers
}

/// A text as a header may hold it: wrapped in base64 where it holds anything but visible ASCII.
fn header_text(text: &str) -> String {
    let is_plain = text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.trim() == text;
    if is_plain && !text.starts_with("=?base64?") {
        return text.to_owned();
    }
    format!("=?base64?{}?=", STANDARD.encode(text))
}

/// A server with the key and project to use there. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    proof: Option<Proof>,
    project: Option<HeaderValue>,
}

impl Client {
    /// A client for what the arguments, the environment and `dev.env` say.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there is no key or a setting makes no sense.
    pub(crate) fn new(args: &ClientArgs) -> Result<Self, Failure> {
        Self::connect(&args.server, args.key.clone())
    }

    /// The same with a key from elsewhere than the usual arguments.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub(crate) fn connect(server: &ServerArgs, key: Option<SecretString>) -> Result<Self, Failure> {
        let settings = Settings::find(server, key)?;
        if let Some(Proof::Given(key) | Proof::DevEnv(key)) = &settings.proof {
            sign_in::bearer(key)?;
        }
        match settings.proof {
            Some(_) => Self::of(&settings, settings.proof.clone()),
            None => Err(Failure::Invalid {
                message: format!("no key for {}", settings.shown_url()),
                hint: Some(
                    "start a server here with `awooop dev`, whose key is found by itself, set AWOOOP_KEY, or sign in \
                     with `awooop login`"
                        .to_owned(),
                ),
            }),
        }
    }

    /// A client that proves nobody, for what is open to everybody.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when a setting makes no sense.
    pub(crate) fn of_nobody(settings: &Settings) -> Result<Self, Failure> {
        Self::of(settings, None)
    }

    /// A client with this machine's sign-in, whatever keys there are.
    ///
    /// # Errors
    /// As [`Client::of_nobody`].
    pub(crate) fn of_login(settings: &Settings) -> Result<Self, Failure> {
        Self::of(settings, Session::find(&settings.url)?.map(Proof::SignIn))
    }

    fn of(settings: &Settings, proof: Option<Proof>) -> Result<Self, Failure> {
        let project = settings.project.clone().map(project_header).transpose()?;
        let authorities = settings.ca_file.as_deref().map(authorities).transpose()?.unwrap_or_default();
        let http = awooop_gateway::http_client::http_client_trusting(authorities);
        let http = http.map_err(|e| Failure::invalid(e.to_string()))?;
        Ok(Self { http, url: settings.url.clone(), proof, project })
    }

    /// What proves who this is, for a person.
    pub(crate) fn proof(&self) -> &'static str {
        self.proof.as_ref().map_or("nothing", Proof::as_str)
    }

    /// The same server and key, acting in another project.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for a name that fits in no header.
    pub(crate) fn in_project(&self, project: &str) -> Result<Self, Failure> {
        Ok(Self { project: Some(project_header(project.to_owned())?), ..self.clone() })
    }

    /// The same for a project that may be left open: then in the one this client acts in.
    ///
    /// # Errors
    /// As [`Client::in_project`].
    pub(crate) fn in_project_or_own(&self, project: Option<&str>) -> Result<Self, Failure> {
        match project {
            Some(project) => self.in_project(project),
            None => Ok(self.clone()),
        }
    }

    /// The server's address without a trailing slash.
    pub(crate) fn url(&self) -> String {
        shown(&self.url)
    }

    /// Reads one document.
    ///
    /// # Errors
    /// Any [`Failure`] but `Invalid` and `Interrupted`.
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Failure> {
        self.answer(self.request(Method::GET, path, query)).await
    }

    /// Reads one document, and lets the server wait up to 30 s for the run in it to end.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn get_waiting(&self, path: &[&str]) -> Result<Value, Failure> {
        self.answer(self.request(Method::GET, path, &[]).header("Prefer", "wait=30")).await
    }

    /// Reads all pages of a list, oldest page as the server orders them.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn get_all(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", PAGE));
            query.extend(cursor.as_deref().map(|c| ("cursor", c)));
            let mut page = self.get(path, &query).await?;
            match page["items"].take() {
                Value::Array(mut more) => items.append(&mut more),
                _ => return Err(self.protocol("a list has no `items`")),
            }
            let next = page["next_cursor"].as_str().map(str::to_owned);
            if next.is_none() {
                return Ok(items);
            }
            if next == cursor {
                return Err(self.protocol("a list goes round in a circle"));
            }
            cursor = next;
        }
    }

    /// Sends a document.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn post(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.answer(self.request(Method::POST, path, &[]).json(body)).await
    }

    /// Reads one document with its entity tag, for [`Client::post_matching`].
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn get_tagged(&self, path: &[&str]) -> Result<(Value, Option<HeaderValue>), Failure> {
        let response = self.respond(self.request(Method::GET, path, &[])).await?;
        let tag = response.headers().get(ETAG).cloned();
        Ok((self.body(response).await?, tag))
    }

    /// Sends a document that takes effect only on what was read with this entity tag; on anything for `None`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn post_matching(
        &self,
        path: &[&str],
        body: &Value,
        tag: Option<HeaderValue>,
    ) -> Result<Value, Failure> {
        self.answer(matching(self.request(Method::POST, path, &[]).json(body), tag)).await
    }

    /// The same, putting the document in its place.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn put_matching(
        &self,
        path: &[&str],
        body: &Value,
        tag: Option<HeaderValue>,
    ) -> Result<Value, Failure> {
        self.answer(matching(self.request(Method::PUT, path, &[]).json(body), tag)).await
    }

    /// Sends a document that must not take effect twice: the same key with the same body is one request,
    /// however often it is sent.
    ///
    /// # Errors
    /// As [`Client::get`], and [`Failure::Invalid`] for a key that fits in no header.
    pub(crate) async fn post_once(&self, path: &[&str], body: &Value, key: &str) -> Result<Value, Failure> {
        let key = HeaderValue::try_from(key)
            .map_err(|_| Failure::invalid("the idempotency key holds characters that no header may hold"))?;
        self.answer(self.request(Method::POST, path, &[]).json(body).header("Idempotency-Key", key)).await
    }

    /// Sends a message of the Model Context Protocol and gives back the status and the answer; null where it has none.
    /// What the server says before the answer goes to `tell`.
    ///
    /// # Errors
    /// As [`Client::get`], but not for the answer's status; and when a stream ends without an answer.
    pub(crate) async fn post_mcp(
        &self,
        path: &[String],
        message: &Value,
        revision: Option<&str>,
        mut tell: impl FnMut(&Value),
    ) -> Result<(u16, Value), Failure> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let mut request = self.request(Method::POST, &path, &[]).json(message);
        request = request.header(ACCEPT, "application/json, text/event-stream");
        for (name, value) in mcp_headers(message, revision) {
            request = request.header(name, value);
        }
        // only a request may take as long as a tool does
        let timeout = if message.get("id").is_some() { TOOL_TIMEOUT } else { ANSWER_TIMEOUT };
        let sent = self.proven(request).await?.timeout(timeout).send().await;
        let mut response = sent.map_err(|e| self.transport_failure(&e))?;
        let status = response.status().as_u16();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            let body = response.bytes().await.map_err(|e| self.transport_failure(&e))?;
            return Ok((status, serde_json::from_slice(&body).unwrap_or_default()));
        }
        let mut reader = sse::Reader::default();
        while let Some(bytes) = response.chunk().await.map_err(|e| self.transport_failure(&e))? {
            let events =
                reader.feed(&bytes).map_err(|_| Failure::invalid("an answer of the server is too large"))?;
            for event in events {
                let said: Value = serde_json::from_str(&event.data).unwrap_or_default();
                match said["method"].is_string() {
                    true => tell(&said),
                    false => return Ok((status, said)),
                }
            }
        }
        Err(Failure::invalid("the server broke off before its answer"))
    }

    /// Opens an event stream, after the event with the given id.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn events(&self, path: &[&str], last_id: Option<&str>) -> Result<Response, Failure> {
        let mut request = self.request(Method::GET, path, &[]).header(ACCEPT, "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = self.open(request).await?;
        if response.status().is_success() { Ok(response) } else { Err(self.problem(response).await) }
    }

    /// Reads an answer of one JSON document a line, each line as it comes, without its end. `take` says whether
    /// to go on.
    ///
    /// # Errors
    /// As [`Client::get`], and when nothing came for a minute.
    pub(crate) async fn lines(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Failure> {
        let mut response = self.open(self.request(Method::GET, path, query)).await?;
        if !response.status().is_success() {
            return Err(self.problem(response).await);
        }
        let mut rest: Vec<u8> = Vec::new();
        loop {
            let chunk = tokio::time::timeout(ANSWER_TIMEOUT, response.chunk()).await;
            let chunk = chunk.map_err(|_| self.away("nothing came for 60 s"))?;
            let Some(chunk) = chunk.map_err(|e| self.transport_failure(&e))? else { break };
            rest.extend_from_slice(&chunk);
            let mut begin = 0;
            while let Some(length) = rest[begin..].iter().position(|b| *b == b'\n') {
                if !take(&rest[begin..begin + length]) {
                    return Ok(());
                }
                begin += length + 1;
            }
            rest.drain(..begin);
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err(self.away("the answer was cut off within a line")),
        }
    }

    /// The failure of a connection that ended or fell silent too early.
    pub(crate) fn away(&self, reason: &str) -> Failure {
        Failure::Unreachable { url: self.url(), reason: reason.to_owned(), is_refused: false }
    }

    /// The failure of an answer that makes no sense.
    pub(crate) fn protocol(&self, reason: &str) -> Failure {
        Failure::Protocol { url: self.url(), reason: reason.to_owned() }
    }

    /// What the transport's error means.
    pub(crate) fn transport_failure(&self, error: &reqwest::Error) -> Failure {
        if error.is_builder() {
            return Failure::invalid(format!("the request cannot be made: {}", innermost(error)));
        }
        let reason = if error.is_timeout() { "no answer in time".to_owned() } else { innermost(error) };
        Failure::Unreachable { url: self.url(), reason, is_refused: error.is_connect() }
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.url.clone();
        // http and https addresses always have path segments; `parse_url` let nothing else in.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        match &self.project {
            Some(project) => request.header("X-Awooop-Project", project.clone()),
            None => request,
        }
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let response = self.respond(request).await?;
        self.body(response).await
    }

    /// The request with what proves who sends it. A sign-in may have to be refreshed first.
    async fn proven(&self, request: RequestBuilder) -> Result<RequestBuilder, Failure> {
        let header = match &self.proof {
            None => return Ok(request),
            Some(Proof::Given(key) | Proof::DevEnv(key)) => sign_in::bearer(key)?,
            Some(Proof::SignIn(session)) => session.bearer().await?,
        };
        Ok(request.header(AUTHORIZATION, header))
    }

    /// The answer as soon as its head is there; its body may go on for long.
    async fn open(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, self.proven(request).await?.send()).await;
        sent.map_err(|_| self.away("no answer in 60 s"))?.map_err(|e| self.transport_failure(&e))
    }

    async fn respond(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let request = self.proven(request).await?;
        let response =
            request.timeout(ANSWER_TIMEOUT).send().await.map_err(|e| self.transport_failure(&e))?;
        if response.status().is_success() { Ok(response) } else { Err(self.problem(response).await) }
    }

    async fn body(&self, response: Response) -> Result<Value, Failure> {
        let body = response.bytes().await.map_err(|e| self.transport_failure(&e))?;
        serde_json::from_slice(&body).map_err(|_| self.protocol("the body is not JSON"))
    }

    async fn problem(&self, response: Response) -> Failure {
        let status = response.status();
        let body = tokio::time::timeout(ANSWER_TIMEOUT, response.bytes()).await;
        let document = body.ok().and_then(Result::ok).and_then(|b| serde_json::from_slice::<Value>(&b).ok());
        let document = document.filter(|d| d["title"].is_string() || d["detail"].is_string());
        let document = document.unwrap_or_else(|| {
            let detail = format!("the server answered {status} without an explanation");
            json!({"title": status.canonical_reason(), "status": status.as_u16(), "detail": detail})
        });
        Failure::Problem(Box::new(Problem { status: status.as_u16(), document, url: self.url() }))
    }
}

/// The certificates in a file of PEM.
fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let shown = path.display();
    match read {
        Ok(found) if found.is_empty() => {
            Err(Failure::invalid(format!("{shown} holds no certificate in PEM")))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(Failure::invalid(format!("the authorities in {shown} cannot be read: {error}"))),
    }
}

fn matching(request: RequestBuilder, tag: Option<HeaderValue>) -> RequestBuilder {
    match tag {
        Some(tag) => request.header(IF_MATCH, tag),
        None => request,
    }
}

fn shown(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

fn project_header(project: String) -> Result<HeaderValue, Failure> {
    match awooop_core::ProjectId::parse(&project) {
        Ok(id) => Ok(HeaderValue::try_from(id.as_str()).expect("a project id is ASCII")),
        Err(e) => Err(Failure::invalid(format!("`{project}` is no project id: {e}"))),
    }
}

/// The text of the error at the root of the chain: "Connection refused", not "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
