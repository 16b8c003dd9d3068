//! Bytes on a socket: what is sent is exactly what a row says, and what comes back is taken apart by the book, so that a
//! row can tell how many requests the server saw.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a server may keep a connection open on which it has nothing left to say.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way to a server.
pub(super) struct Wire {
    address: String,
}

/// One answer as it came.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Names in lower case, in order.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The problem's code, in either of the forms there are.
    pub(super) fn code(&self) -> String {
        let body = self.json();
        let code = [&body["code"], &body["error"]["data"]["code"]].into_iter().find_map(Value::as_str);
        code.unwrap_or_default().to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Wire {
    pub(super) fn to(url: &str) -> Wire {
        Wire { address: url.trim_start_matches("http://").to_owned() }
    }

    /// What a well-behaved client puts into `Host`.
    pub(super) fn host(&self) -> &str {
        &self.address
    }

    /// A request with these further header lines, each without its end, that is the last of its connection.
    pub(super) fn request(&self, line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
        let mut bytes =
            format!("{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address).into_bytes();
        if !body.is_empty() {
            bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
        }
        for header in headers {
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        bytes
    }

    /// Asks one such request; `None` when the server closed without a word.
    pub(super) async fn ask(&self, line: &str, headers: &[&str], body: &[u8]) -> Option<Reply> {
        self.exchange(&self.request(line, headers, body)).await.into_iter().next()
    }

    /// Sends the bytes on a connection of their own and gives back every answer until the server closes it.
    pub(super) async fn exchange(&self, bytes: &[u8]) -> Vec<Reply> {
        let tcp = TcpStream::connect(&self.address).await.unwrap();
        let (mut reading, mut writing) = tcp.into_split();
        let send = async {
            // a server that refuses early closes before it has read everything
            let _ = writing.write_all(bytes).await;
        };
        let mut heard = Vec::new();
        let read = async { tokio::time::timeout(PATIENCE, reading.read_to_end(&mut heard)).await };
        let (ended, ()) = tokio::join!(read, send);
        let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned();
        assert!(ended.is_ok(), "the server keeps the connection open after:\n{}", shown());
        replies(&heard)
    }
}

/// Takes the answers apart. What ends in the middle of one, as after a reset, is left out.
fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut found = Vec::new();
    while let Some((reply, rest)) = reply(bytes) {
        bytes = rest;
        // an interim answer is none
        if reply.status >= 200 {
            found.push(reply);
        }
    }
    found
}

fn reply(bytes: &[u8]) -> Option<(Reply, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = (String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let split = |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
    let mut reply = Reply { status, headers: lines.filter_map(split).collect(), body: String::new() };
    let (body, rest) = match (reply.header("transfer-encoding"), reply.header("content-length")) {
        (Some(_), _) => unchunked(rest),
        // of a HEAD: it tells a length and has none
        (None, Some(_)) if rest.starts_with(b"HTTP/1.1 ") => (Vec::new(), rest),
        (None, Some(length)) => rest.split_at_checked(length.parse().ok()?).map(|(b, r)| (b.to_vec(), r))?,
        (None, None) => (Vec::new(), rest),
    };
    reply.body = String::from_utf8_lossy(&body).into_owned();
    Some((reply, rest))
}

fn unchunked(mut bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n");
        let Some(end) = line else { return (body, &[]) };
        let size =
            std::str::from_utf8(&bytes[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let (from, size) = (end + 2, size.expect("a chunk's size"));
        let Some(chunk) = bytes.get(from..from + size) else { return (body, &[]) };
        body.extend_from_slice(chunk);
        bytes = bytes.get(from + size + 2..).unwrap_or_default();
        if size == 0 {
            return (body, bytes);
        }
    }
}
