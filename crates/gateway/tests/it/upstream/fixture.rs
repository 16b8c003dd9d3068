//! A scripted MCP server, shared by both transports. Over stdio it is this test binary, started again
//! with the name of the test below and `AWOOOP_FIXTURE` in its environment; the harness's own words on
//! stdout are the junk that a server's banner would be.

use std::io::{BufRead, Write};
use std::time::Duration;

use serde_json::{Value, json};

/// The test that becomes the server.
pub(super) const TEST_NAME: &str = "upstream::fixture::this_binary_is_also_the_server";

#[test]
fn this_binary_is_also_the_server() {
    match std::env::var("AWOOOP_FIXTURE").as_deref() {
        Ok("stdio") => serve(false),
        Ok("deaf") => serve(true),
        Ok("exit") => std::process::exit(3),
        // Ends by the broken pipe.
        Ok("junk") => loop {
            println!("no JSON here");
        },
        Ok("hold") => super::stdio::hold_a_child(),
        _ => {}
    }
}

pub(super) fn echo_tool() -> Value {
    json!({
        "name": "echo", "title": "Echo", "description": "Says it again",
        "inputSchema": {"type": "object", "x-vendor": [1, null]},
        "annotations": {"readOnlyHint": true, "vendorHint": 1},
        "execution": {"taskSupport": "optional"}, "vendor": {"deep": true}
    })
}

/// The answer to a request; `None` for notifications and for what the stdio server does by itself.
pub(super) fn answer(message: &Value) -> Option<Value> {
    let id = message.get("id")?.clone();
    let result = match message["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {"listChanged": true}},
            "serverInfo": {"name": "fixture", "version": "1"}
        }),
        "ping" => json!({}),
        "tools/list" if message["params"]["cursor"].is_null() => {
            json!({"tools": [echo_tool(), {"name": "no-schema"}], "nextCursor": "2"})
        }
        "tools/list" => json!({"tools": [{"name": "second", "inputSchema": {"type": "object"}}]}),
        "tools/call" => match call_result(&message["params"]) {
            Some(result) => result,
            None => {
                let error = json!({"code": -32602, "message": "unknown tool"});
                return Some(json!({"jsonrpc": "2.0", "id": id, "error": error}));
            }
        },
        _ => return None,
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

fn call_result(params: &Value) -> Option<Value> {
    let arguments = &params["arguments"];
    match params["name"].as_str()? {
        "echo" => Some(json!({
            "content": [{"type": "text", "text": "said"}, {"type": "hologram", "depth": 3}],
            "structuredContent": arguments, "_meta": {"seen": params["_meta"]}
        })),
        "big" => {
            let text = "x".repeat(arguments["bytes"].as_u64()? as usize);
            Some(json!({"content": [{"type": "text", "text": text}]}))
        }
        "about" => Some(json!({"content": [], "structuredContent": about_this_process()})),
        "nonsense" => Some(json!({"content": "not a list"})),
        _ => None,
    }
}

fn about_this_process() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let descriptors: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let target = std::fs::read_link(entry.path()).ok()?.display().to_string();
            // The directory that is being read.
            (!target.starts_with("/proc/")).then(|| entry.file_name().to_str().unwrap().parse().unwrap())
        })
        .collect();
    let environment: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "pid": std::process::id(), "environment": environment, "descriptors": descriptors,
        "status": read("/proc/self/status"), "limits": read("/proc/self/limits"), "stat": read("/proc/self/stat"),
        "directory": std::env::current_dir().unwrap(), "arguments": std::env::args().collect::<Vec<_>>()
    })
}

fn serve(ignores_end: bool) {
    eprintln!("fixture speaks on stderr");
    for line in std::io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line.unwrap()) else { continue };
        match message["params"]["name"].as_str() {
            Some("die") => std::process::exit(9),
            Some("hang") => {}
            // Answers leave in another order than the calls came.
            Some("echo") => drop(std::thread::spawn(move || {
                let n = message["params"]["arguments"]["n"].as_u64().unwrap_or(0);
                std::thread::sleep(Duration::from_millis(n * 7 % 40));
                write(&answer(&message));
            })),
            Some("change-list") => {
                write(&Some(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})));
                let result = json!({"content": []});
                write(&Some(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})));
            }
            _ => write(&answer(&message)),
        }
    }
    if ignores_end {
        loop {
            std::thread::park();
        }
    }
    std::process::exit(0);
}

fn write(message: &Option<Value>) {
    let Some(message) = message else { return };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{message}");
    let _ = out.flush();
}
