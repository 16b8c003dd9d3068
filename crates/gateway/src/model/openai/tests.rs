//! The client against a strict server of the test's own: what it sends, what it makes of answers, retries,
//! reshaped requests, bounds, and that a key appears in no error.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::{Message, ModelError, ModelRequest, ToolCall, ToolSpec};
use super::{MAX_RESPONSE_BYTES, OpenAiClient};

const SECRET: &str = "sk-canary-0123456789";

/// What the fake server does with its next connection.
enum Act {
    Answer {
        status: u16,
        headers: &'static str,
        body: String,
    },
    /// Promises more than it sends, then closes.
    CutOff,
    /// Sends this many bytes without a length.
    Flood(usize),
    /// Reads the request and closes without a word.
    HangUp,
    /// Reads the request and says nothing until the server ends.
    Silence,
}

#[derive(Debug, Clone)]
struct Seen {
    head: String,
    body: Value,
}

/// A server that follows a script, one act a connection, and refuses anything that is not a well-formed
/// call of chat/completions.
struct Fake {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    fn new(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen_there, stop_there) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut silent = Vec::new();
            for act in script {
                let (stream, _) = listener.accept().unwrap();
                if stop_there.load(Ordering::SeqCst) {
                    return;
                }
                seen_there.lock().unwrap().push(read_request(&stream));
                silent.extend(play(stream, act));
            }
            while !silent.is_empty() && !stop_there.load(Ordering::SeqCst) {
                drop(listener.accept());
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    fn client(&self) -> OpenAiClient {
        let url = format!("http://{}/v1/", self.address).parse().unwrap();
        let mut client =
            OpenAiClient::new(url, Some(SECRET.into()), crate::http_client::http_client().unwrap()).unwrap();
        client.first_backoff = Duration::from_millis(1);
        client
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the fake server refused a request");
    }
}

fn read_request(stream: &TcpStream) -> Seen {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the head is cut off");
    }
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/chat/completions http/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let known = ["model", "messages", "tools", "response_format", "max_tokens", "max_completion_tokens"];
    for field in body.as_object().unwrap().keys() {
        assert!(known.contains(&field.as_str()), "unknown field {field}");
    }
    Seen { head, body }
}

/// Plays the act; gives the stream back when it must stay open.
fn play(mut stream: TcpStream, act: Act) -> Option<TcpStream> {
    match act {
        Act::Answer { status, headers, body } => {
            let length = body.len();
            // The client may have hung up already (it gave up on a long body).
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
            );
        }
        Act::CutOff => {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{{\"choices\"").unwrap();
        }
        Act::Flood(bytes) => {
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap();
            let _ = stream.write_all(&vec![b' '; bytes]);
        }
        Act::HangUp => {}
        Act::Silence => return Some(stream),
    }
    None
}

fn answer(status: u16, body: Value) -> Act {
    Act::Answer { status, headers: "", body: body.to_string() }
}

fn said(text: &str) -> Act {
    answer(
        200,
        json!({
            "model": "m-2026",
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
        }),
    )
}

fn request() -> ModelRequest {
    ModelRequest {
        model: "m".into(),
        messages: vec![Message::System("be brief".into()), Message::User("how many?".into())],
        tools: vec![ToolSpec {
            name: "count".into(),
            description: "Counts".into(),
            input_schema: json!({"type": "object"}),
        }],
        output_schema: Some(json!({"type": "object", "required": ["n"]})),
        max_output_tokens: 64,
        idempotency_key: "run:1".into(),
    }
}

#[tokio::test]
async fn a_request_carries_conversation_tools_schema_ceiling_key_and_credential() {
    let fake = Fake::new(vec![said("three")]);
    let mut request = request();
    let call = ToolCall { id: "c1".into(), name: "count".into(), arguments: "{\"of\": ".into() };
    request.messages.extend([
        Message::Assistant { content: None, tool_calls: vec![call] },
        Message::Tool {
            call_id: "c1".into(),
            name: "count".into(),
            text: "There are 3.".into(),
            structured: Some(json!({"n": 3})),
            is_error: false,
        },
        Message::Tool {
            call_id: "c2".into(),
            name: "count".into(),
            text: "{ \"n\": 4 }".into(),
            structured: Some(json!({"n": 4})),
            is_error: false,
        },
    ]);
    let reply = fake.client().complete(&request).await.unwrap();
    assert_eq!(reply.content.as_deref(), Some("three"));
    assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (12, 3));
    assert!(!reply.usage.is_estimated);
    assert_eq!(reply.model, "m-2026");

    let seen = fake.seen().remove(0);
    assert!(seen.head.contains("idempotency-key: run:1\r\n"), "{}", seen.head);
    assert!(seen.head.contains(&format!("authorization: bearer {SECRET}\r\n")), "{}", seen.head);
    assert_eq!(seen.body["max_tokens"], 64);
    assert_eq!(seen.body["response_format"]["json_schema"]["schema"]["required"], json!(["n"]));
    assert_eq!(seen.body["tools"][0]["function"]["name"], "count");
    let messages = seen.body["messages"].as_array().unwrap();
    assert_eq!(messages[0], json!({"role": "system", "content": "be brief"}));
    assert_eq!(messages[2]["tool_calls"][0]["function"]["arguments"], "{\"of\": ");
    assert_eq!(messages[3]["content"], "There are 3.\n{\"n\":3}");
    assert_eq!(messages[4]["content"], "{ \"n\": 4 }", "structured content that the text already is");
}

#[tokio::test]
async fn tool_calls_come_back_even_when_their_arguments_are_not_json() {
    let calls = json!([
        {"id": "a", "type": "function", "function": {"name": "count", "arguments": "{\"of\": \"x\"}"}},
        {"type": "function", "function": {"name": "count", "arguments": "{oops"}},
        {"id": "", "function": {"name": "count", "arguments": {"of": "y"}}},
        {"id": "d", "function": {"name": "count"}},
    ]);
    let fake = Fake::new(vec![answer(
        200,
        json!({"choices": [{"message": {"content": null, "tool_calls": calls}}]}),
    )]);
    let reply = fake.client().complete(&request()).await.unwrap();
    assert_eq!(reply.content, None);
    let ids: Vec<&str> = reply.tool_calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["a", "call_2", "call_3", "d"]);
    assert_eq!(reply.tool_calls[0].parse_arguments().unwrap()["of"], "x");
    assert_eq!(reply.tool_calls[1].arguments, "{oops");
    assert!(reply.tool_calls[1].parse_arguments().is_err());
    assert_eq!(reply.tool_calls[2].parse_arguments().unwrap()["of"], "y");
    assert!(reply.tool_calls[3].parse_arguments().unwrap().is_empty());
    assert!(reply.usage.is_estimated, "the server stated no usage");
    assert!(reply.usage.input_tokens > 0 && reply.usage.output_tokens > 0);
    assert_eq!(reply.model, "m");
}

#[tokio::test]
async fn busy_and_failing_servers_are_tried_again_with_the_same_key() {
    let busy = Act::Answer { status: 429, headers: "retry-after: 0\r\n", body: "{}".into() };
    let fake = Fake::new(vec![busy, answer(503, json!({})), said("ok")]);
    let reply = fake.client().complete(&request()).await.unwrap();
    assert_eq!(reply.content.as_deref(), Some("ok"));
    let seen = fake.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|one| one.head.contains("idempotency-key: run:1\r\n")));

    let hung_up = Fake::new(vec![Act::HangUp, said("ok")]);
    assert!(hung_up.client().complete(&request()).await.is_ok());
}

#[tokio::test]
async fn three_tries_are_all_and_a_long_retry_after_is_handed_up_at_once() {
    let fake = Fake::new((0..3).map(|_| answer(500, json!({}))).collect());
    assert_eq!(fake.client().complete(&request()).await, Err(ModelError::Server { status: 500 }));
    assert_eq!(fake.seen().len(), 3);

    let busy = Act::Answer { status: 429, headers: "retry-after: 11\r\n", body: "{}".into() };
    let fake = Fake::new(vec![busy]);
    let error = fake.client().complete(&request()).await.unwrap_err();
    assert_eq!(error, ModelError::RateLimited { retry_after_ms: Some(11_000) });
    assert!(error.is_retryable());
}

#[tokio::test]
async fn refusals_that_no_retry_mends_are_final_and_show_at_most_the_providers_short_code() {
    async fn check(status: u16, body: Value, expected: ModelError) {
        let fake = Fake::new(vec![answer(status, body)]);
        let error = fake.client().complete(&request()).await.unwrap_err();
        assert_eq!(error, expected);
        assert!(!error.is_retryable());
    }
    let leaky = |code: &str| json!({"error": {"message": format!("bad key {SECRET}"), "code": code}});
    check(401, leaky("invalid_api_key"), ModelError::Unauthorized { status: 401 }).await;
    check(
        404,
        leaky("model_not_found"),
        ModelError::Rejected { status: 404, reason: Some("model_not_found".into()) },
    )
    .await;
    check(400, leaky(SECRET), ModelError::Rejected { status: 400, reason: None }).await;
    check(
        429,
        leaky("insufficient_quota"),
        ModelError::Rejected { status: 429, reason: Some("insufficient_quota".into()) },
    )
    .await;
    check(302, json!({}), ModelError::Rejected { status: 302, reason: None }).await;
}

#[tokio::test]
async fn a_server_that_refuses_response_format_gets_the_schema_in_the_system_message_from_then_on() {
    let no = json!({"error": {"message": "'response_format' is not supported together with tools"}});
    let fake = Fake::new(vec![answer(400, no), said("{}"), said("{}")]);
    let client = fake.client();
    client.complete(&request()).await.unwrap();
    client.complete(&request()).await.unwrap();
    let seen = fake.seen();
    assert!(seen[0].body.get("response_format").is_some());
    for one in &seen[1..] {
        assert!(one.body.get("response_format").is_none());
        let system = one.body["messages"][0]["content"].as_str().unwrap();
        assert!(system.starts_with("be brief\n\n") && system.contains("\"required\":[\"n\"]"), "{system}");
    }
}

#[tokio::test]
async fn a_server_that_insists_on_max_completion_tokens_gets_it_and_one_that_refuses_both_forms_ends() {
    let insist = json!({"error": {"message": "Unsupported parameter: use 'max_completion_tokens' instead."}});
    let fake = Fake::new(vec![answer(400, insist), said("ok")]);
    fake.client().complete(&request()).await.unwrap();
    let seen = fake.seen();
    assert_eq!(seen[1].body["max_completion_tokens"], 64);
    assert!(seen[1].body.get("max_tokens").is_none());

    let both = || answer(400, json!({"error": {"message": "max_completion_tokens response_format"}}));
    let fake = Fake::new(vec![both(), both(), both()]);
    let error = fake.client().complete(&request()).await.unwrap_err();
    assert_eq!(error, ModelError::Rejected { status: 400, reason: None });
}

#[tokio::test]
async fn silence_ends_at_the_total_time() {
    let fake = Fake::new(vec![Act::Silence]);
    let client = fake.client().with_total_timeout(Duration::from_millis(80));
    let start = Instant::now();
    assert_eq!(client.complete(&request()).await, Err(ModelError::Timeout { after_ms: 80 }));
    assert!(start.elapsed() < Duration::from_secs(5));
}

// Another thread closes the connection while this one waits for the fake to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_no_answer_are_malformed_cut_off_or_too_large() {
    async fn check(act: Act, expected: fn(&ModelError) -> bool) {
        let fake = Fake::new(vec![act]);
        let error = fake.client().complete(&request()).await.unwrap_err();
        assert!(expected(&error), "{error:?}");
        assert!(error.to_string().len() < 200);
    }
    let malformed = |error: &ModelError| matches!(error, ModelError::Malformed { .. });
    check(Act::Answer { status: 200, headers: "", body: "<html>".into() }, malformed).await;
    check(Act::Answer { status: 200, headers: "", body: String::new() }, malformed).await;
    check(answer(200, json!({"choices": []})), malformed).await;
    check(answer(200, json!({"choices": [{"message": {"content": 7}}]})), malformed).await;
    check(answer(200, json!({"choices": [{"message": "hi"}]})), malformed).await;
    check(Act::CutOff, |error| *error == ModelError::Interrupted).await;
    let too_large = |error: &ModelError| matches!(error, ModelError::TooLarge { .. });
    check(Act::Flood(MAX_RESPONSE_BYTES as usize + 1), too_large).await;
    let long = " ".repeat(MAX_RESPONSE_BYTES as usize + 1);
    check(Act::Answer { status: 200, headers: "", body: long }, too_large).await;
}

#[tokio::test]
async fn the_credential_is_in_no_error_and_no_debug_output() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://user:{SECRET}@{refused}/v1").parse().unwrap();
    let http = crate::http_client::http_client().unwrap();
    let mut client = OpenAiClient::new(url, Some(SECRET.into()), http.clone()).unwrap();
    client.first_backoff = Duration::from_millis(1);
    let error = client.complete(&request()).await.unwrap_err();
    assert_eq!(error, ModelError::Connect);
    for shown in [error.to_string(), format!("{error:?}"), format!("{client:?}")] {
        assert!(!shown.contains("canary"), "{shown}");
    }
    let bad_key = format!("{SECRET}\n");
    let error = OpenAiClient::new("http://h/".parse().unwrap(), Some(bad_key.into()), http.clone());
    let error = error.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"));
    assert!(OpenAiClient::new("data:x".parse().unwrap(), None, http).is_err());
}
