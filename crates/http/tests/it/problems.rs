//! Refusals: one form, whatever went wrong.

use awooop_journeys::db::AGENT;
use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::api::{Api, RUNS, admin, request};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_document_says_all_the_standard_and_the_product_ask() {
    let api = Api::new().await;
    let answer = api.send(request("GET", RUNS, "", &[("traceparent", TRACE)], None)).await;
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    insta::assert_snapshot!(serde_json::to_string_pretty(&answer.json()).unwrap(), @r#"
    {
      "code": "E-AUTH-001",
      "detail": "a valid key is needed: Authorization: Bearer <key>",
      "instance": "/v1/platform/runs",
      "retryable": false,
      "status": 401,
      "title": "No valid key",
      "trace_id": "0af7651916cd43dd8448eb211c80319c",
      "type": "/errors/E-AUTH-001"
    }
    "#);
    let project = api.test.project().await;
    let body = json!({"agent_id": AGENT, "priority": 10, "surprise": 1});
    let answer = api.post_with(&admin(&project), RUNS, &[("traceparent", TRACE)], &body).await;
    insta::assert_snapshot!(serde_json::to_string_pretty(&answer.json()).unwrap(), @r#"
    {
      "code": "E-REQ-003",
      "detail": "/ (required): expected the property \"input\"",
      "errors": [
        {
          "keyword": "required",
          "message": "expected the property \"input\"",
          "path": ""
        },
        {
          "keyword": "maximum",
          "message": "expected a number of at most 9",
          "path": "/priority"
        },
        {
          "keyword": "additionalProperties",
          "message": "`surprise` is not expected; allowed: `agent_id`, `input`, `mode`, `parent_run_id`, `priority`, `timeout_ms`, `triggered_by`",
          "path": ""
        }
      ],
      "instance": "/v1/platform/runs",
      "retryable": false,
      "status": 422,
      "title": "The request is not valid",
      "trace_id": "0af7651916cd43dd8448eb211c80319c",
      "type": "/errors/E-REQ-003"
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_traceparent_is_ignored_and_every_problem_has_a_trace() {
    let api = Api::new().await;
    let answer = api.send(request("GET", RUNS, "", &[("traceparent", "00-zz-1-1")], None)).await;
    let trace = answer.json()["trace_id"].as_str().unwrap().to_owned();
    assert!(trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit()), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods_are_problems_too() {
    let api = Api::new().await;
    assert_eq!(api.get("", "/nowhere").await.problem(), (404, "E-REQ-004".into()));
    for (method, path, allow) in
        [("DELETE", RUNS, "GET,HEAD,POST"), ("PUT", "/healthz", "GET,HEAD"), ("GET", "/mcp", "POST")]
    {
        let answer = api.send(request(method, path, "", &[], None)).await;
        assert_eq!(answer.problem(), (405, "E-REQ-001".into()));
        let mut allowed: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(","), allow);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_taken_are_told_apart() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let send = async |kind: &str, body: Vec<u8>| {
        let request = Request::builder().method("POST").uri(RUNS).header("content-type", kind);
        let request = request.header("authorization", format!("Bearer {key}"));
        api.send(request.body(Body::from(body)).unwrap()).await.problem()
    };
    let large = format!("{{\"agent_id\":\"{AGENT}\",\"input\":\"{}\"}}", "x".repeat(1024 * 1024));
    assert_eq!(send("application/json", large.into()).await, (413, "E-REQ-002".into()));
    for malformed in [&b""[..], b"{", b"{\"a\":1,}", b"\xff\xfe", b"{\"a\":1} x", b"[\"\\ud800\"]", b"1e999"]
    {
        assert_eq!(
            send("application/json", malformed.into()).await,
            (400, "E-REQ-001".into()),
            "{malformed:?}"
        );
    }
    assert_eq!(send("text/plain", b"{}".into()).await, (400, "E-REQ-001".into()));
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(send("application/json", deep.into()).await, (400, "E-REQ-001".into()));
    for invalid in [&b"[]"[..], b"null", b"{}", b"{\"agent_id\":5,\"input\":1}", b"\"x\""] {
        assert_eq!(send("application/json", invalid.into()).await, (422, "E-REQ-003".into()), "{invalid:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_has_a_page_and_the_server_says_that_it_lives() {
    let api = Api::new().await;
    for code in awooop_core::ErrorCode::ALL {
        let answer = api.get("", &format!("/errors/{code}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (200, "text/markdown; charset=utf-8")
        );
        assert!(answer.text.starts_with(&format!("# {code} ")));
    }
    for absent in ["/errors/E-NO-001", "/errors/%00", "/errors/%ff"] {
        assert_eq!(api.get("", absent).await.problem(), (404, "E-REQ-004".into()), "{absent}");
    }
    assert_eq!(api.get("", "/healthz").await.text, "ok");
    assert_eq!(api.get("", "/readyz").await.text, "ok");
}
