//! A strict stand-in for the server: it speaks HTTP/1.1 from a script, one request a connection.
//!
//! A script is a closure from a request to an answer. What the script does not expect it answers with
//! [`Answer::Unexpected`], which is remembered and fails the test when the server is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What the script answers.
pub(crate) enum Answer {
    Json(u16, Value),
    Problem(u16, Value),
    Raw(&'static str),
    /// Events, then the connection closes.
    Events(String),
    /// The connection closes without an answer.
    Nothing,
    /// Nothing, and it stays open until the test ends.
    Silence,
    Unexpected,
}

type Script = dyn Fn(&Request, usize) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    requests: Mutex<Vec<Request>>,
    unexpected: Mutex<Vec<String>>,
    silent: Mutex<Vec<TcpStream>>,
    is_over: AtomicBool,
}

/// The running stand-in.
pub(crate) struct Fake {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Fake {
    /// Starts one. The script gets each request and how many came before it.
    pub(crate) fn start(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), script)
    }

    /// The same on a given address.
    pub(crate) fn start_on(
        addr: SocketAddr,
        script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).expect("the port is free");
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: Mutex::default(),
            unexpected: Mutex::default(),
            silent: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let inner = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if inner.is_over.load(Ordering::SeqCst) {
                    return;
                }
                serve(&inner, stream.unwrap());
            }
        });
        Self { addr, shared, acceptor: Some(acceptor) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// `METHOD target` of each request.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees that it is over.
        let _ = TcpStream::connect(self.addr);
        let ended = self.acceptor.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "an assertion of the script failed");
            let unexpected = self.shared.unexpected.lock().unwrap();
            assert!(unexpected.is_empty(), "unexpected requests: {unexpected:?}");
        }
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) {
    let Some(request) = read(&stream) else { return };
    let before = {
        let mut requests = shared.requests.lock().unwrap();
        requests.push(request.clone());
        requests.len() - 1
    };
    let (status, kind, body) = match (shared.script)(&request, before) {
        Answer::Json(status, body) => (status, "application/json", body.to_string()),
        Answer::Problem(status, body) => (status, "application/problem+json", body.to_string()),
        Answer::Raw(text) => {
            let _ = stream.write_all(text.as_bytes());
            return;
        }
        Answer::Events(events) => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(events.as_bytes()));
            return;
        }
        Answer::Nothing => return,
        Answer::Silence => {
            shared.silent.lock().unwrap().push(stream);
            return;
        }
        Answer::Unexpected => {
            shared.unexpected.lock().unwrap().push(request.line());
            (500, "text/plain", "unexpected".to_owned())
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let request = Request { method, target, headers, body: Value::Null };
    let length = request.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).ok()? };
    Some(Request { body, ..request })
}
