//! The protocol: the greeting, the list, calls that cannot be routed, noise, and the end.

use std::io::Write;

use serde_json::{Value, json};

use crate::client::{Client, command, run};

#[test]
fn it_says_who_it_is_and_has_tools_and_nothing_else() {
    let mut client = Client::start();
    let hello = client.initialize("2025-11-25");
    assert_eq!(hello["protocolVersion"], "2025-11-25");
    assert_eq!(hello["serverInfo"]["name"], "ewoooc-shop");
    let capabilities = hello["capabilities"].as_object().expect("capabilities");
    assert_eq!(capabilities.keys().collect::<Vec<_>>(), ["tools"]);
}

#[test]
fn the_four_tools_are_listed_with_closed_schemas_and_read_only_hints() {
    let tools = Client::connect().tools();
    let names: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["sales_summary", "top_customers", "customer_orders", "repeat_rate"]);
    for tool in &tools {
        assert!(tool["title"].is_string() && tool["description"].is_string(), "{tool}");
        assert_eq!(tool["annotations"]["readOnlyHint"], true);
        assert_eq!(tool["annotations"]["idempotentHint"], true);
        assert_eq!(tool["annotations"]["openWorldHint"], false);
        for schema in ["inputSchema", "outputSchema"] {
            assert_eq!(tool[schema]["type"], "object");
            assert_eq!(tool[schema]["additionalProperties"], false);
            jsonschema::validator_for(&tool[schema]).expect("a valid JSON Schema");
        }
    }
}

#[test]
fn the_list_is_the_same_every_time() {
    // The platform pins a definition by its hash, so it must not move.
    assert_eq!(Client::connect().tools(), Client::connect().tools());
}

#[test]
fn figures_are_of_the_output_schema_and_answers_under_twelve_thousand_characters() {
    let mut client = Client::connect();
    for tool in client.tools() {
        let name = tool["name"].as_str().expect("a name");
        let schema = jsonschema::validator_for(&tool["outputSchema"]).expect("a schema");
        for arguments in calls_of(name) {
            let result = client.call(name, &arguments);
            let figures = &result["structuredContent"];
            assert!(schema.is_valid(figures), "{name} {arguments}: {figures}");
            let size = result.to_string().chars().count();
            assert!(size < 12_000, "{name} {arguments}: {size} characters");
        }
    }
}

fn calls_of(tool: &str) -> Vec<Value> {
    match tool {
        "sales_summary" => vec![json!({}), json!({ "group_by": "month" }), json!({ "from": "2030-01-01" })],
        "top_customers" => {
            vec![json!({}), json!({ "limit": 50, "by": "cds" }), json!({ "to": "1990-01-01" })]
        }
        "customer_orders" => vec![
            json!({ "customer_id": "1901", "limit": 100 }),
            json!({ "customer_id": 17, "from": "2030-01-01" }),
        ],
        "repeat_rate" => vec![json!({}), json!({ "cohort": "1997-02" })],
        other => panic!("no calls are written for the tool {other}"),
    }
}

#[test]
fn an_unknown_tool_and_an_unknown_method_are_protocol_errors() {
    let mut client = Client::connect();
    let response = client.ask("tools/call", json!({ "name": "drop_everything", "arguments": {} }));
    assert_eq!(response["error"]["code"], -32602, "{response}");
    let response = client.ask("shop/close", json!({}));
    assert_eq!(response["error"]["code"], -32601, "{response}");
    client.answer("sales_summary", &json!({}));
}

#[test]
fn a_call_without_arguments_is_a_call_with_none() {
    let mut client = Client::connect();
    let response = client.ask("tools/call", json!({ "name": "sales_summary" }));
    assert_eq!(response["result"]["structuredContent"]["orders"], 6919, "{response}");
    let response = client.ask("tools/call", json!({ "name": "customer_orders" }));
    assert_eq!(response["result"]["isError"], true, "{response}");
}

#[test]
fn noise_on_stdin_does_not_stop_the_server() {
    let mut client = Client::connect();
    client.send_line("this is not JSON");
    client.send_line("");
    client.send_line("{\"jsonrpc\":\"2.0\",\"id\":");
    // Text that is no JSON has no id to answer to: the next message is the next call's.
    let (_, figures) = client.answer("repeat_rate", &json!({}));
    assert_eq!(figures["customers"], 2357);
}

#[test]
fn the_end_of_stdin_is_a_clean_end() {
    let (rest, status) = Client::connect().finish();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(status.code(), Some(0));
    let (rest, status) = Client::start().finish();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(status.code(), Some(0), "also before any greeting");
}

#[test]
fn calls_read_before_the_end_of_stdin_are_answered() {
    let mut child = command().spawn().expect("the server starts");
    let call = |id: u64| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "repeat_rate" } });
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "0" } } });
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let script = [hello, ready, call(2), call(3)].map(|message| message.to_string()).join("\n") + "\n";
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("the server reads");
    let output = child.wait_with_output().expect("the server ends");
    assert_eq!(output.status.code(), Some(0));
    let mut ids: Vec<u64> = String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_u64().expect("an id"))
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn help_and_version_are_printed_and_other_arguments_are_refused() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("Usage: ewoooc-shop"), "{out}");
    let (code, out, _) = run(&["--version"]);
    assert_eq!((code, out.as_str()), (Some(0), concat!("ewoooc-shop ", env!("CARGO_PKG_VERSION"), "\n")));
    let (code, out, err) = run(&["--port", "1"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("--port"), "{err}");
}
