//! The router with a store under it, and requests to it.

use awooop_gateway::{Gateway, Operator};
use awooop_http::AppState;
use awooop_journeys::db::{AGENT, TestProject, TestStore, test_store};
use awooop_store::claim::{ClaimedRun, Worker};
use awooop_store::journal::{Outcome, StepKind, StepResult, StepStatus};
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// The server without a socket.
pub(crate) struct Api {
    pub(crate) test: TestStore,
    pub(crate) draining: CancellationToken,
    router: Router,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and code of a problem document.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], self.status.as_u16());
        (self.status.as_u16(), document["code"].as_str().unwrap().to_owned())
    }
}

impl Api {
    pub(crate) async fn new() -> Api {
        Self::over(test_store().await).await
    }

    pub(crate) async fn over(test: TestStore) -> Api {
        Self::with(test, |state| state).await
    }

    pub(crate) async fn with(test: TestStore, change: impl FnOnce(AppState) -> AppState) -> Api {
        let operator = Operator { private_addresses: vec!["127.0.0.1".to_owned()], ..Operator::default() };
        Self::made(test, operator, change)
    }

    /// A server with this operator's list.
    pub(crate) fn under(test: TestStore, operator: Operator) -> Api {
        Self::made(test, operator, |state| state)
    }

    fn made(test: TestStore, operator: Operator, change: impl FnOnce(AppState) -> AppState) -> Api {
        let gateway = Gateway::new(test.store.clone(), operator);
        let draining = CancellationToken::new();
        let hosts = vec!["agents.example".to_owned()];
        let state = AppState::new(test.store.clone(), gateway, hosts, draining.clone());
        Api { router: awooop_http::router(change(state)), draining, test }
    }

    /// The server's service, for a listener.
    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    pub(crate) fn platform_key(&self) -> String {
        self.test.platform_key.expose_secret().to_owned()
    }

    /// The response, its body still to be read.
    pub(crate) async fn open(&self, mut request: Request<Body>) -> Response {
        // as every client does
        request.headers_mut().entry("host").or_insert(HeaderValue::from_static("agents.example"));
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.open(request).await.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> Answer {
        self.send(request("GET", path, key, &[], None)).await
    }

    pub(crate) async fn post(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.post_with(key, path, &[], body).await
    }

    pub(crate) async fn post_with(
        &self,
        key: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        self.send(request("POST", path, key, headers, Some(body))).await
    }

    /// A queued run of the test project's agent.
    pub(crate) async fn run(&self, project: &TestProject) -> String {
        let answer = self.post(&admin(project), RUNS, &json!({"agent_id": AGENT, "input": "hi"})).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["run"]["run_id"].as_str().unwrap().to_owned()
    }

    /// A key of another role, or of an agent.
    pub(crate) async fn key(&self, project: &TestProject, body: Value) -> String {
        let answer = self.post(&admin(project), "/v1/platform/keys", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["key"].as_str().unwrap().to_owned()
    }

    /// Claims the project's one due run, as a worker would.
    pub(crate) async fn claim(&self, project: &TestProject) -> ClaimedRun {
        let worker = Worker { id: "hand".to_owned(), incarnation: 1 };
        let mut claimed = self.test.store.claim(&project.id, &worker, 1).await.unwrap();
        claimed.pop().expect("a due run")
    }

    /// Records step `n` of a claimed run.
    pub(crate) async fn step(&self, run: &ClaimedRun, n: i32, kind: StepKind) {
        let gates = json!([{"gate": "identity", "verdict": "pass", "code": null}]);
        let body = json!({"input": {"q": n}, "output": "done", "usage": null, "gates": gates});
        let step = StepResult {
            n,
            kind,
            name: if kind == StepKind::Tool { "shop__sales" } else { "planner" }.to_owned(),
            status: StepStatus::Ok,
            code: None,
            started_at: self.test.store.clock().now(),
            duration_ms: 5,
            body: self.test.store.redactor().clean(body.to_string()),
        };
        self.test.store.record_step(run, &step, None, None).await.unwrap();
    }

    /// Ends a claimed run.
    pub(crate) async fn end(&self, run: &ClaimedRun, outcome: Outcome) {
        self.test.store.end_run(run, &outcome, None, true).await.unwrap();
    }
}

/// Where runs are.
pub(crate) const RUNS: &str = "/v1/platform/runs";

/// The project's admin key.
pub(crate) fn admin(project: &TestProject) -> String {
    project.admin_key.expose_secret().to_owned()
}

/// A request; no key when `key` is empty.
pub(crate) fn request(
    method: &str,
    path: &str,
    key: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:7700");
    if !key.is_empty() {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.map_or_else(Body::empty, |body| Body::from(body.to_string()))).unwrap()
}
