//! A client of the real binary: one child process, one line a message.
//!
//! Every wait has an end: a server that says nothing for ten seconds fails the test, and a client that is
//! dropped kills its child.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

/// The binary under test, with every stream piped.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ewoooc-shop"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running server, spoken to line by line.
pub(crate) struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    last_id: u64,
}

impl Client {
    /// A server that has not been greeted.
    pub(crate) fn start() -> Self {
        let mut child = command().stderr(Stdio::null()).spawn().expect("the server starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { stdin: child.stdin.take(), child, lines, last_id: 0 }
    }

    /// A server that has been initialized.
    pub(crate) fn connect() -> Self {
        let mut client = Self::start();
        client.initialize("2025-11-25");
        client
    }

    /// Initializes with a protocol version; the server's result.
    pub(crate) fn initialize(&mut self, version: &str) -> Value {
        let hello = self.ask(
            "initialize",
            json!({
                "protocolVersion": version,
                "capabilities": {},
                "clientInfo": { "name": "test", "version": "0" },
            }),
        );
        self.send_line(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
        hello["result"].clone()
    }

    /// Writes one line as it is.
    pub(crate) fn send_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{line}").expect("the server reads");
    }

    /// Sends a request; its whole response, which must be the next message and carry its id.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        self.send_line(
            &json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string(),
        );
        let response = self.next_message();
        assert_eq!(response["id"], id, "{response}");
        response
    }

    /// The next line of stdout, which must be a JSON-RPC message.
    pub(crate) fn next_message(&mut self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("the server answers");
        let message: Value = serde_json::from_str(&line).expect("stdout carries only JSON");
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    }

    /// Calls a tool; its result, whether an answer or an error result.
    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let response = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
        assert!(response["error"].is_null(), "{response}");
        response["result"].clone()
    }

    /// Calls a tool that must answer; its text and its figures.
    pub(crate) fn answer(&mut self, tool: &str, arguments: &Value) -> (String, Value) {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], false, "{tool} {arguments}: {result}");
        assert_eq!(result["content"].as_array().map(Vec::len), Some(1));
        assert_eq!(result["content"][0]["type"], "text");
        let text = result["content"][0]["text"].as_str().expect("a text");
        assert!(!text.contains('{'), "a text for people, not JSON: {text}");
        assert!(result["structuredContent"].is_object());
        (text.to_owned(), result["structuredContent"].clone())
    }

    /// Calls a tool that must refuse its arguments; the sentence.
    pub(crate) fn refusal(&mut self, tool: &str, arguments: &Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{tool} {arguments}: {result}");
        assert!(result.get("structuredContent").is_none(), "a refusal has no figures");
        result["content"][0]["text"].as_str().expect("a sentence").to_owned()
    }

    /// The tools as listed.
    pub(crate) fn tools(&mut self) -> Vec<Value> {
        self.ask("tools/list", json!({}))["result"]["tools"].as_array().expect("tools").clone()
    }

    /// Ends stdin; the lines that still came, and how the server ended.
    pub(crate) fn finish(mut self) -> (Vec<String>, ExitStatus) {
        drop(self.stdin.take());
        let mut rest = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            rest.push(line);
        }
        (rest, self.child.wait().expect("the server ends"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Already ended after `finish`; killing it again is refused and harmless.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the binary with arguments and an empty stdin: exit code, stdout, stderr.
pub(crate) fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut child = command().args(arguments).stdin(Stdio::null()).spawn().expect("the server starts");
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    (child.wait().expect("it ends").code(), out, err)
}
