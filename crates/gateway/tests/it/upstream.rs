//! The upstream side against real servers: children that are this binary itself, and an in-process HTTP
//! server. No network beyond 127.0.0.1; whatever is started ends with its test.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, which the lints take for code"
)]

mod fixture;
mod http;
mod stdio;

use std::time::Duration;

use awooop_core::{ProjectId, ProviderId};
use awooop_gateway::upstream::{ToolCallRequest, Transport, UpstreamConfig, UpstreamSpec, Upstreams};
use serde_json::{Value, json};
use uuid::Uuid;

fn spec(transport: Transport) -> UpstreamSpec {
    UpstreamSpec {
        project: ProjectId::parse("shop").unwrap(),
        provider: ProviderId::parse("orders").unwrap(),
        version: Uuid::from_u128(1),
        transport,
    }
}

fn pool() -> Upstreams {
    Upstreams::new(UpstreamConfig::default())
}

fn call(name: &str, arguments: Value) -> ToolCallRequest {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    ToolCallRequest {
        name: name.to_owned(),
        arguments,
        idempotency_key: "run-1/step-2".to_owned(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        timeout: None,
        notices: None,
    }
}

/// Both transports list the same tools, keep what they do not know, and send the call's metadata.
async fn check_list_and_call(pool: &Upstreams, spec: &UpstreamSpec) {
    let tools = pool.list_tools(spec).await.unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["echo", "second"], "both pages, without the tool that has no schema");
    assert_eq!(tools[0].raw, fixture::echo_tool(), "unknown members survive");
    assert_eq!(tools[0].title.as_deref(), Some("Echo"));

    let result = pool.call_tool(spec, call("echo", json!({"n": 5}))).await.unwrap();
    assert!(!result.is_error);
    assert_eq!(result.structured_content, Some(json!({"n": 5})));
    assert_eq!(result.text(), "said");
    assert_eq!(result.content[1], json!({"type": "hologram", "depth": 3}), "unknown content survives");
    let meta = result.meta.unwrap();
    assert_eq!(meta["seen"]["awooop/idempotency-key"], "run-1/step-2");
    assert_eq!(meta["seen"]["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

    let failed = pool.call_tool(spec, call("no-such-tool", json!({}))).await.unwrap();
    assert!(failed.is_error);
    assert_eq!(failed.text(), "the tool's server answered error -32602: unknown tool");
}

/// Waits for a fact of another process, which nothing announces.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}
