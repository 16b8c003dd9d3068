//! A small client for the server's HTTP API: it sends, and gives back status, headers and JSON as they came.
//!
//! It asserts nothing and retries nothing; tests decide what an answer has to be.

use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// Longest a single request may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A server's API as somebody with a key sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
    project: Option<String>,
}

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON, `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The problem's code, empty when there is none.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The JSON, or an error that shows what came instead of this status.
    pub fn expect(&self, status: u16) -> anyhow::Result<Value> {
        anyhow::ensure!(self.status == status, "expected {status}, got {}: {}", self.status, self.text);
        Ok(self.json())
    }
}

impl Api {
    /// A client of the server at `base`, such as `http://127.0.0.1:7700`.
    pub fn new(base: &str, key: Option<&str>) -> anyhow::Result<Api> {
        // a second installation fails, and then one is there already
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        let base = base.trim_end_matches('/').to_owned();
        Ok(Api { http, base, key: key.map(str::to_owned), project: None })
    }

    /// The same server with another key, or none.
    pub fn with_key(&self, key: Option<&str>) -> Api {
        Api { key: key.map(str::to_owned), ..self.clone() }
    }

    /// The same key acting in `project`.
    pub fn in_project(&self, project: &str) -> Api {
        Api { project: Some(project.to_owned()), ..self.clone() }
    }

    /// The server's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request with further headers.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let method = Method::from_bytes(method.as_bytes())?;
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(project) = &self.project {
            request = request.header("X-Awooop-Project", project);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, &[], None).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send("POST", path, &[], Some(body)).await
    }

    /// Applies manifests.
    pub async fn apply(&self, manifests: &[Value]) -> anyhow::Result<Value> {
        let body = json!({ "manifests": manifests });
        self.post("/v1/platform/contracts", &body).await?.expect(200)
    }

    /// Makes a key and returns it.
    pub async fn create_key(&self, body: &Value) -> anyhow::Result<String> {
        let made = self.post("/v1/platform/keys", body).await?.expect(201)?;
        Ok(made["key"].as_str().context("a new key is shown")?.to_owned())
    }

    /// Creates a run and returns its id.
    pub async fn create_run(&self, agent: &str, input: &Value) -> anyhow::Result<String> {
        let body = json!({ "agent_id": agent, "input": input });
        let made = self.post("/v1/platform/runs", &body).await?.expect(202)?;
        Ok(made["run"]["run_id"].as_str().context("a new run has an id")?.to_owned())
    }

    /// The run as it is.
    pub async fn get_run(&self, run_id: &str) -> anyhow::Result<Value> {
        self.get(&format!("/v1/platform/runs/{run_id}")).await?.expect(200)
    }

    /// The run's steps.
    pub async fn steps(&self, run_id: &str) -> anyhow::Result<Vec<Value>> {
        let page = self.get(&format!("/v1/platform/runs/{run_id}/steps?limit=200")).await?.expect(200)?;
        Ok(page["items"].as_array().context("steps are a list")?.clone())
    }

    /// Waits until the run has ended, by asking again and again.
    pub async fn wait_for_end(&self, run_id: &str, patience: Duration) -> anyhow::Result<Value> {
        let began = std::time::Instant::now();
        loop {
            let found = self.get_run(run_id).await?;
            let state = found["run"]["state"].as_str().unwrap_or_default();
            if ["completed", "failed", "cancelled", "timeout"].contains(&state) {
                return Ok(found);
            }
            anyhow::ensure!(began.elapsed() < patience, "the run is still {state} after {patience:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
