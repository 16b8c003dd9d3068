//! The one problem type (RFC 9457). A handler returns a [`Problem`]; the outermost layer, which knows the
//! request's path and trace, writes the document and logs the inner cause once. `detail` is for the caller
//! and never holds an inner error's text.

use std::sync::Arc;
use std::time::Duration;

use awooop_core::ErrorCode;
use awooop_core::error::Violation;
use awooop_redact::Redactor;
use awooop_store::StoreError;
use awooop_store::audit::ProveError;
use awooop_store::auth::{CreateKeyError, RotateKeyError};
use awooop_store::contract::ContractError;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

/// Media type of every refusal outside `/mcp`.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// A refusal on its way to the caller.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: ErrorCode,
    status: StatusCode,
    detail: String,
    errors: Vec<Violation>,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
    retry_after_s: u64,
}

impl Problem {
    /// A refusal with the code's own status.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(code.status()).expect("the table holds HTTP statuses");
        Self { code, status, detail: detail.into(), errors: Vec::new(), cause: None, retry_after_s: 1 }
    }

    /// The same, that may succeed after this time: whole seconds, at least one.
    pub(crate) fn after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self { retry_after_s: seconds.max(1), ..self }
    }

    /// 422 E-REQ-003 with what is wrong and where.
    pub(crate) fn invalid(errors: Vec<Violation>) -> Self {
        Self::of_violations(ErrorCode::Req003, errors)
    }

    /// 422 E-REQ-003 about one place.
    pub(crate) fn invalid_at(path: &str, keyword: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![Violation::new(path, keyword, message)])
    }

    /// A refusal that lists violations; `detail` tells the first.
    pub(crate) fn of_violations(code: ErrorCode, errors: Vec<Violation>) -> Self {
        let detail = awooop_core::gate::describe(&errors[..errors.len().min(1)]);
        Self { errors, ..Self::new(code, detail) }
    }

    /// 404 for what is absent and for what belongs to somebody else.
    pub(crate) fn absent(what: &str) -> Self {
        Self::new(ErrorCode::Req004, format!("there is no such {what} here"))
    }

    /// A method the path does not have.
    pub(crate) fn method_not_allowed() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self { status, ..Self::new(ErrorCode::Req001, "this path does not have this method; see Allow") }
    }

    /// Its code.
    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What the caller is told.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The response with its document, for the request at `instance` in trace `trace_id`. A refusal may repeat a part
    /// of the request: it goes through `redactor`.
    pub(crate) fn render(&self, instance: &str, trace_id: &str, redactor: &Redactor) -> Response {
        let shown = |text: &str| redactor.clean(text).into_inner();
        let item = |found: &Violation| ProblemItem {
            path: shown(&found.path),
            keyword: found.keyword.clone(),
            message: shown(&found.message),
        };
        let document = ProblemDocument {
            r#type: format!("/errors/{}", self.code),
            title: self.code.title().to_owned(),
            status: self.status.as_u16(),
            detail: shown(&self.detail),
            instance: shown(instance),
            code: self.code.as_str().to_owned(),
            trace_id: trace_id.to_owned(),
            retryable: self.code.is_retryable(),
            errors: self.errors.iter().map(item).collect(),
        };
        let mut response = (self.status, axum::Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        self.mark(headers);
        response
    }

    /// The headers that belong to the status, whatever the body is.
    pub(crate) fn mark(&self, headers: &mut http::HeaderMap) {
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, self.retry_after_s.into());
            }
            _ => {}
        }
    }

    /// Logs the inner cause, once, at the boundary.
    pub(crate) fn log(&self) {
        if let Some(cause) = &self.cause {
            let mut chain = cause.to_string();
            let mut inner = cause.source();
            while let Some(source) = inner {
                chain = format!("{chain}: {source}");
                inner = source.source();
            }
            tracing::error!(code = self.code.as_str(), error = chain, "a request failed");
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = error.code();
        let detail = match &error {
            StoreError::Untrusted { .. } => error.to_string(),
            _ => "the database cannot answer now".to_owned(),
        };
        Self { cause: Some(Arc::new(error)), ..Self::new(code, detail) }
    }
}

impl From<ContractError> for Problem {
    fn from(error: ContractError) -> Self {
        let detail = error.to_string();
        match error {
            ContractError::Invalid(found) => Self::of_violations(ErrorCode::Contract001, found),
            ContractError::Missing { .. } => Self::new(ErrorCode::Contract003, detail),
            ContractError::MayNotSign(_) => Self::new(ErrorCode::Contract004, detail),
            ContractError::OutsideWindow { .. } => Self::new(ErrorCode::Contract005, detail),
            ContractError::LostRace { .. } => Self::new(ErrorCode::Contract006, detail),
            ContractError::State { .. } => Self::new(ErrorCode::Contract007, detail),
            ContractError::Precondition { .. } => Self::new(ErrorCode::Req005, detail),
            ContractError::Absent(what) => Self::absent(&what),
            ContractError::Store(inner) => inner.into(),
        }
    }
}

impl From<ProveError> for Problem {
    fn from(error: ProveError) -> Self {
        match error {
            ProveError::Absent => Self::absent("event"),
            ProveError::Unsealed => Self::new(ErrorCode::Audit001, error.to_string()),
            ProveError::NoWay { .. } => Self::invalid_at("/to", "range", error.to_string()),
            ProveError::Store(inner) => inner.into(),
        }
    }
}

impl From<CreateKeyError> for Problem {
    fn from(error: CreateKeyError) -> Self {
        match error {
            CreateKeyError::OtherRole { .. } => Self::invalid_at("/name", "role", error.to_string()),
            CreateKeyError::OtherPerson(_) => Self::invalid_at("/name", "person", error.to_string()),
            CreateKeyError::Disabled(_) | CreateKeyError::NoRole(_) => {
                Self::new(ErrorCode::Access001, error.to_string())
            }
            CreateKeyError::NoAgent(_) => Self::new(ErrorCode::Run002, error.to_string()),
            CreateKeyError::NoProject => Self::absent("project"),
            CreateKeyError::Store(inner) => inner.into(),
        }
    }
}

impl From<RotateKeyError> for Problem {
    fn from(error: RotateKeyError) -> Self {
        match error {
            RotateKeyError::Absent => Self::absent("key"),
            RotateKeyError::State(_) => Self::new(ErrorCode::Access001, error.to_string()),
            RotateKeyError::Store(inner) => inner.into(),
        }
    }
}

/// A refusal as the caller reads it (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument {
    /// `/errors/<CODE>`: the page that says what to do.
    r#type: String,
    /// What the code means, in a few words.
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What was wrong with this request.
    detail: String,
    /// The request's path.
    instance: String,
    /// The stable code.
    #[schema(pattern = "^E-[A-Z-]+-[0-9]{3}$")]
    code: String,
    /// W3C trace id: 32 hexadecimal digits.
    trace_id: String,
    /// May the same request succeed later?
    retryable: bool,
    /// What is wrong and where, when there is more to say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<ProblemItem>,
}

/// One thing wrong with a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemItem {
    /// JSON Pointer into the body, or `/` and the name of a query value.
    path: String,
    /// The rule that was broken.
    keyword: String,
    /// What was expected.
    message: String,
}
