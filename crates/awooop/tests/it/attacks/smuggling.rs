//! Requests that two readers could take apart differently: what stands before this server might see one where it sees two.
//! It reads each in one way, by the standard (RFC 9112), or refuses it and closes; what lies hidden in another request is
//! never carried out. The hidden request starts a run of an agent of its own, and such runs are counted.

use serde_json::json;

use super::Ground;

/// The agent only hidden requests ask for. It is there, so a request that is carried out starts a run.
const HIDDEN_AGENT: &str = "hidden";

struct Shapes {
    host: String,
    bearer: String,
}

impl Shapes {
    /// A request that starts a run, with these lines after the usual ones. `\r\n` ends each.
    fn create(&self, lines: &str, body: &str) -> String {
        let Shapes { host, bearer } = self;
        format!(
            "POST /v1/platform/runs HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\nContent-Type: application/json\r\n{lines}\r\n{body}"
        )
    }

    /// What must not be carried out.
    fn hidden(&self) -> String {
        let body = json!({"agent_id": HIDDEN_AGENT, "input": "x"}).to_string();
        self.create(&format!("Content-Length: {}\r\n", body.len()), &body)
    }

    fn get(&self, lines: &str, body: &str) -> String {
        let Shapes { host, bearer } = self;
        format!("GET /v1/platform/whoami HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n{lines}\r\n{body}")
    }

    /// A request that ends the connection, so that a server that went on reading tells it.
    fn last(&self) -> String {
        self.get("Connection: close\r\n", "")
    }
}

/// A body for an agent that does not exist: 422, and nothing started.
const BODY: &str = r#"{"agent_id":"absent","input":1}"#;

fn chunk(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// What is sent, before a last ordinary request; and the statuses of all answers.
fn rows(s: &Shapes) -> Vec<(&'static str, String, &'static [u16])> {
    let hidden = s.hidden();
    let post = |lines: &str, body: &str| s.create(lines, body);
    let length = |n: usize| format!("Content-Length: {n}\r\n");
    let own = length(BODY.len());
    let chunked = chunk(BODY);
    let with_te = |te: &str| post(&format!("{te}\r\n"), &chunked);
    let behind = format!("{chunked}{hidden}");
    let within = chunk(&hidden);
    let line = |line: &str| s.get(&format!("{line}\r\n"), "");
    let start = |first: &str| s.get("", "").replacen("GET /v1/platform/whoami HTTP/1.1", first, 1);
    #[rustfmt::skip]
    let rows: Vec<(&'static str, String, &'static [u16])> = vec![
        ("two ordinary requests", s.get("", "") + &post(&own, BODY), &[200, 422, 200]),
        ("in chunks", with_te("Transfer-Encoding: chunked"), &[422]),
        ("in chunks, spelled in capitals", with_te("Transfer-Encoding: CHUNKED"), &[422]),
        ("a tab before the word", with_te("Transfer-Encoding:\tchunked"), &[422]),

        ("length and chunks, a request behind the chunks", post(&format!("{}Transfer-Encoding: chunked\r\n", length(behind.len())), &behind), &[422]),
        ("chunks and length, a request behind the chunks", post(&format!("Transfer-Encoding: chunked\r\n{}", length(behind.len())), &behind), &[422]),
        ("length and chunks, a request in a chunk", post(&format!("{}Transfer-Encoding: chunked\r\n", length(5)), &within), &[400]),
        ("chunks and length, a request in a chunk", post(&format!("Transfer-Encoding: chunked\r\n{}", length(5)), &within), &[400]),
        ("chunks and no length at all", post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", &within), &[400]),
        ("two lengths, the same", post(&format!("{own}{own}"), BODY), &[422, 200]),
        ("two lengths, the longer first", post(&format!("{}{own}", length(BODY.len() + hidden.len())), &format!("{BODY}{hidden}")), &[400]),
        ("two lengths, the longer last", post(&format!("{own}{}", length(BODY.len() + hidden.len())), &format!("{BODY}{hidden}")), &[400]),
        ("two lengths in one line", post("Content-Length: 31, 31\r\n", BODY), &[400]),
        ("a length with a sign", post("Content-Length: +31\r\n", BODY), &[400]),
        ("a negative length", post("Content-Length: -1\r\n", &hidden), &[400]),
        ("a length in hexadecimal", post("Content-Length: 0x1f\r\n", BODY), &[400]),
        ("a length with a fraction", post("Content-Length: 31.0\r\n", BODY), &[400]),
        ("a length with a space", post("Content-Length: 3 1\r\n", BODY), &[400]),
        ("an empty length", post("Content-Length:\r\n", &hidden), &[400]),
        ("a length beyond all", post("Content-Length: 18446744073709551647\r\n", BODY), &[400]),
        ("a length in other digits", post("Content-Length: ３１\r\n", BODY), &[400]),

        ("xchunked", with_te("Transfer-Encoding: xchunked"), &[400]),
        ("chunkedx", with_te("Transfer-Encoding: chunkedx"), &[400]),
        ("chunked, identity", with_te("Transfer-Encoding: chunked, identity"), &[400]),
        ("identity, chunked", with_te("Transfer-Encoding: identity, chunked"), &[400]),
        ("gzip, chunked", with_te("Transfer-Encoding: gzip, chunked"), &[400]),
        ("chunked, chunked", with_te("Transfer-Encoding: chunked, chunked"), &[400]),
        ("chunked and a comma", with_te("Transfer-Encoding: chunked,"), &[400]),
        ("a comma and chunked", with_te("Transfer-Encoding: , chunked"), &[400]),
        ("identity", post("Transfer-Encoding: identity\r\n", &hidden), &[400]),
        ("an empty encoding", post("Transfer-Encoding:\r\n", &hidden), &[400]),
        ("quoted", with_te("Transfer-Encoding: \"chunked\""), &[400]),
        ("with a parameter", with_te("Transfer-Encoding: chunked;q=1"), &[400]),
        ("a vertical tab before the word", with_te("Transfer-Encoding: \u{b}chunked"), &[400]),
        ("a vertical tab behind the word", with_te("Transfer-Encoding: chunked\u{b}"), &[400]),
        ("a NUL behind the word", with_te("Transfer-Encoding: chunked\0"), &[400]),
        ("a no-break space before the word", with_te("Transfer-Encoding: \u{a0}chunked"), &[400]),
        ("a look-alike in the word", with_te("Transfer-Encoding: сhunked"), &[400]),
        ("two lines, chunked last", with_te("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"), &[400]),
        ("two lines, chunked first", with_te("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"), &[400]),
        ("two lines, both chunked", with_te("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), &[400]),
        ("a space before the colon", with_te("Transfer-Encoding : chunked"), &[400]),
        ("a tab before the colon", with_te("Transfer-Encoding\t: chunked"), &[400]),
        ("folded", with_te("Transfer-Encoding:\r\n chunked"), &[400]),
        ("folded, and a length", post(&format!("{}Transfer-Encoding:\r\n chunked\r\n", length(behind.len())), &behind), &[400]),

        ("an underscore for the hyphen counts for nothing", post(&format!("Transfer_Encoding: chunked\r\n{own}"), BODY), &[422, 200]),
        ("a chunk's size beyond all", post("Transfer-Encoding: chunked\r\n", &format!("ffffffffffffffffff\r\n{BODY}")), &[400]),
        ("a chunk's size with a sign", post("Transfer-Encoding: chunked\r\n", &format!("+1f\r\n{BODY}\r\n0\r\n\r\n")), &[400]),
        ("a chunk's size in the programmer's way", post("Transfer-Encoding: chunked\r\n", &format!("0x1f\r\n{BODY}\r\n0\r\n\r\n")), &[400]),
        ("a chunk's size that is negative", post("Transfer-Encoding: chunked\r\n", &format!("-1\r\n{BODY}\r\n0\r\n\r\n")), &[400]),
        ("a chunk's size that is missing", post("Transfer-Encoding: chunked\r\n", &format!("\r\n{BODY}\r\n0\r\n\r\n")), &[400]),
        ("a chunk with an extension", post("Transfer-Encoding: chunked\r\n", &format!("1f;a=b\r\n{BODY}\r\n0\r\n\r\n")), &[422]),
        ("a line end hidden in an extension", post("Transfer-Encoding: chunked\r\n", &format!("1f;a\n{BODY}\r\n0\r\n\r\n{hidden}")), &[400]),
        ("a bare line end behind a size", post("Transfer-Encoding: chunked\r\n", &format!("1f\n{BODY}\r\n0\r\n\r\n{hidden}")), &[400]),
        ("a bare line end behind a chunk", post("Transfer-Encoding: chunked\r\n", &format!("1f\r\n{BODY}\n0\r\n\r\n{hidden}")), &[400]),
        ("a chunk that is longer than it says", post("Transfer-Encoding: chunked\r\n", &format!("1e\r\n{BODY}\r\n0\r\n\r\n{hidden}")), &[400]),
        ("a length in the trailers", post("Transfer-Encoding: chunked\r\n", &format!("1f\r\n{BODY}\r\n0\r\n{}\r\n{hidden}", length(hidden.len()))), &[422]),
        ("a key in the trailers", post("Transfer-Encoding: chunked\r\n", &format!("1f\r\n{BODY}\r\n0\r\n{}\r\n\r\n", s.bearer)).replacen(&s.bearer, "X-No: key", 1), &[401]),

        ("line ends without a return", s.get("", "").replace("\r\n", "\n"), &[200, 200]),
        ("returns without a line end", s.get("", "").replace("\r\n", "\r"), &[400]),
        ("a return within a value", line("X-A: a\rb"), &[400]),
        ("a return and a header within a value", line("X-A: a\rContent-Length: 5"), &[400]),
        ("a line end within a value begins a header", post("X-A: a\nContent-Length: 31\r\n", BODY), &[422, 200]),
        ("a NUL within a value", line("X-A: a\0b"), &[400]),
        ("a folded header", line("X-A: a\r\n b"), &[400]),
        ("a header folded by a tab", line("X-A: a\r\n\tb"), &[400]),
        ("a header without a colon", line("X-A"), &[400]),
        ("a header without a name", line(": a"), &[400]),
        ("a space within a name", line("X A: a"), &[400]),
        ("a space before the first header", s.get("", "").replacen("\r\nHost", "\r\n Host", 1), &[400]),
        ("empty lines before it", format!("\r\n\r\n{}", s.get("", "")), &[200, 200]),
        ("a space before the line", format!(" {}", s.get("", "")), &[400]),

        ("HTTP/1.0 in chunks", post("Transfer-Encoding: chunked\r\n", &behind).replacen("HTTP/1.1", "HTTP/1.0", 1), &[400]),
        ("HTTP/1.0 ends its connection", start("GET /v1/platform/whoami HTTP/1.0") + &hidden, &[200]),
        ("HTTP/0.9", "GET /v1/platform/whoami\r\n".to_owned(), &[400]),
        ("HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[]),
        ("HTTP/1.2", start("GET /v1/platform/whoami HTTP/1.2"), &[400]),
        ("HTTP/3", start("GET /v1/platform/whoami HTTP/3"), &[400]),
        ("a version in lower case", start("GET /v1/platform/whoami http/1.1"), &[400]),
        ("words after the version", start("GET /v1/platform/whoami HTTP/1.1 x"), &[400]),
        ("a second line in the target", start(&format!("GET /v1/platform/whoami\n{} HTTP/1.1", s.bearer)), &[400]),

        ("a request in the body of a GET", s.get(&length(hidden.len()), &hidden), &[200, 200]),
        ("a request in the chunks of a GET", s.get("Transfer-Encoding: chunked\r\n", &within), &[200]),
        ("a request in the body of a HEAD", s.get(&length(hidden.len()), &hidden).replacen("GET", "HEAD", 1), &[200, 200]),
        ("a request in the body of one that is refused", s.get(&length(hidden.len()), &hidden).replacen(&s.bearer, "X-No: key", 1), &[401, 200]),
        ("a request in the body of a path that is not there", s.get(&length(hidden.len()), &hidden).replacen("whoami", "nowhere", 1), &[404, 200]),
        ("a request behind the last", s.get("Connection: close\r\n", &hidden), &[200]),
        ("a request behind an upgrade to HTTP/2", s.get("Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n", &hidden), &[200]),
        ("a request behind an upgrade to a socket", s.get("Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", &hidden), &[200]),
        ("a request in a body that was to wait", post(&format!("{}Expect: 100-continue\r\n", length(hidden.len())), &hidden), &[400, 200]),
    ];
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_request_is_read_in_one_way_and_what_is_hidden_in_it_is_never_carried_out() {
    let ground = Ground::start().await;
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let provider = json!({"kind": "provider", "project": super::MINE, "id": "brain", "spec": offline});
    let spec = json!({"instructions": "Answer.", "model": "brain/planner", "output_schema": {}});
    let agent = json!({"kind": "agent", "project": super::MINE, "id": HIDDEN_AGENT, "spec": spec});
    ground.furnished.mine.apply(&[provider, agent]).await.unwrap();
    let key = ground.key(json!({"name": "smuggler", "role": "admin"})).await;
    let shapes =
        Shapes { host: ground.wire.host().to_owned(), bearer: format!("Authorization: Bearer {key}") };
    let mut wrong = Vec::new();
    for (what, sent, expected) in rows(&shapes) {
        let replies = ground.wire.exchange(format!("{sent}{}", shapes.last()).as_bytes()).await;
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        if statuses != expected {
            wrong.push(format!("{what}: {statuses:?}, not {expected:?}"));
        }
        assert_eq!(ground.runs_of(HIDDEN_AGENT).await, 0, "{what}: the hidden request was carried out");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // the hidden request would have started a run
    let carried_out = ground.wire.exchange(format!("{}{}", shapes.hidden(), shapes.last()).as_bytes()).await;
    assert_eq!((carried_out[0].status, ground.runs_of(HIDDEN_AGENT).await), (202, 1));
    ground.assert_unharmed().await;
}
