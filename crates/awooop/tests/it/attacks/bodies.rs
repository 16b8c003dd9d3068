//! Bodies that are too much, too deep, too odd or never come. Each gets its own refusal, and what is refused starts
//! nothing.

use std::fmt::Write;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Ground, MINE};

const CREATE: &str = "POST /v1/platform/runs";
const JSON: &str = "Content-Type: application/json";
/// More than a body of this path may have.
const TOO_MANY_BYTES: usize = 1024 * 1024 + 1;

fn run(input: &str) -> Vec<u8> {
    format!("{{\"agent_id\":\"odd\",\"input\":{input}}}").into_bytes()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for chunk in body.chunks(60_000) {
        all.extend(format!("{:x}\r\n", chunk.len()).bytes());
        all.extend_from_slice(chunk);
        all.extend_from_slice(b"\r\n");
    }
    all.extend_from_slice(b"0\r\n\r\n");
    all
}

/// What a body is, its type, and the answer. The agent `odd` does not exist, so what is well-formed is 422 E-RUN-002.
fn rows() -> Vec<(&'static str, &'static str, Vec<u8>, &'static str)> {
    let (malformed, invalid, understood) = ("400 E-REQ-001", "422 E-REQ-003", "422 E-RUN-002");
    let utf16: Vec<u8> =
        String::from_utf8(run("\"x\"")).unwrap().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0];
    let bytes = |text: &str| text.as_bytes().to_vec();
    let text = |text: &[u8]| [b"{\"agent_id\":\"odd\",\"input\":\"", text, b"\"}"].concat();
    #[rustfmt::skip]
    let rows = vec![
        ("a run", JSON, run("\"x\""), understood),
        ("white space around it", JSON, [b" \r\n\t".to_vec(), run("1"), b"\n\n".to_vec()].concat(), understood),
        ("nothing", JSON, b"  ".to_vec(), malformed),
        ("no JSON", JSON, bytes("agent_id=odd&input=x"), malformed),
        ("two documents", JSON, [run("1"), run("2")].concat(), malformed),
        ("garbage after it", JSON, [run("1"), b"x".to_vec()].concat(), malformed),
        ("a NUL after it", JSON, [run("1"), b"\0".to_vec()].concat(), malformed),
        ("a byte order mark", JSON, [b"\xef\xbb\xbf".to_vec(), run("1")].concat(), malformed),
        ("UTF-16", JSON, utf16, malformed),
        ("bytes that are no UTF-8", JSON, text(b"\xff\xfe"), malformed),
        ("overlong UTF-8", JSON, text(b"\xc0\xae"), malformed),
        ("half a surrogate pair", JSON, text(b"\\ud800"), malformed),
        ("a raw NUL in a text", JSON, text(b"\0"), malformed),
        ("a raw line end in a text", JSON, text(b"\n"), malformed),
        ("an escaped NUL in a text", JSON, text(b"\\u0000"), understood),
        ("a comment", JSON, [b"/* */".to_vec(), run("1")].concat(), malformed),
        ("a comma too many", JSON, bytes("{\"agent_id\":\"odd\",\"input\":1,}"), malformed),
        ("NaN", JSON, run("NaN"), malformed),
        ("Infinity", JSON, run("Infinity"), malformed),
        ("a number beyond all", JSON, run("1e999"), malformed),
        ("a number of many digits", JSON, run(&"9".repeat(5000)), malformed),
        ("a fraction of many digits", JSON, run(&format!("0.{}", "3".repeat(5000))), understood),
        ("a number written oddly", JSON, run("0x10"), malformed),
        ("a leading zero", JSON, run("01"), malformed),
        ("nested too deep", JSON, run(&"[".repeat(100_000)), malformed),
        ("nested too deep, closed", JSON, run(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))), malformed),
        ("nested objects too deep", JSON, run(&format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000))), malformed),
        ("the last of two members counts", JSON, bytes("{\"agent_id\":\"tester\",\"agent_id\":\"odd\",\"input\":1}"), understood),
        ("a member nobody knows", JSON, bytes("{\"agent_id\":\"odd\",\"input\":1,\"is_admin\":true}"), invalid),
        ("a prototype", JSON, bytes("{\"agent_id\":\"odd\",\"input\":1,\"__proto__\":{}}"), invalid),
        ("a member in another case", JSON, bytes("{\"Agent_id\":\"odd\",\"input\":1}"), invalid),
        ("a list", JSON, bytes("[]"), invalid),
        ("null", JSON, bytes("null"), invalid),
        ("a text", JSON, bytes("\"x\""), invalid),
        ("an agent that is no text", JSON, bytes("{\"agent_id\":[\"odd\"],\"input\":1}"), invalid),
        ("an agent with a NUL", JSON, bytes("{\"agent_id\":\"odd\\u0000\",\"input\":1}"), invalid),
        ("a priority beyond its type", JSON, bytes("{\"agent_id\":\"odd\",\"input\":1,\"priority\":99999999999}"), invalid),
        ("a priority below", JSON, bytes("{\"agent_id\":\"odd\",\"input\":1,\"priority\":-1}"), invalid),
        ("a time beyond all", JSON, bytes("{\"agent_id\":\"odd\",\"input\":1,\"timeout_ms\":1e300}"), invalid),
        ("no type", "X-Nothing: 1", run("1"), malformed),
        ("a type of text", "Content-Type: text/plain", run("1"), malformed),
        ("a form", "Content-Type: application/x-www-form-urlencoded", run("1"), malformed),
        ("a type that ends alike", "Content-Type: text/plain; application/json", run("1"), malformed),
        ("a list of types", "Content-Type: text/plain, application/json", run("1"), malformed),
        ("another charset's name", "Content-Type: application/json; charset=utf-7", run("1"), understood),
        ("compressed, by its type", "Content-Type: application/gzip", gzip.clone(), malformed),
        ("compressed, in disguise", "Content-Type: application/json\r\nContent-Encoding: gzip", gzip, malformed),
    ];
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_every_odd_body_gets_its_own_refusal_and_starts_nothing() {
    let ground = Ground::start().await;
    let key = ground.key(json!({"name": "sender", "role": "admin"})).await;
    let bearer = format!("Authorization: Bearer {key}");
    let before = ground.runs_of("tester").await;
    let told = |replies: Vec<super::wire::Reply>| {
        let each: Vec<String> = replies.iter().map(|r| format!("{} {}", r.status, r.code())).collect();
        each.join(", ")
    };
    for (what, kind, body, expected) in rows() {
        let sent = ground.wire.request(CREATE, &[&bearer, kind], &body);
        assert_eq!(told(ground.wire.exchange(&sent).await), expected, "{what}");
        let mut sent = ground.wire.request(CREATE, &[&bearer, kind, "Transfer-Encoding: chunked"], b"");
        sent.extend(chunked(&body));
        assert_eq!(told(ground.wire.exchange(&sent).await), expected, "{what}, in chunks");
    }
    let large = run(&format!("\"{}\"", "x".repeat(TOO_MANY_BYTES)));
    let mut in_chunks = ground.wire.request(CREATE, &[&bearer, JSON, "Transfer-Encoding: chunked"], b"");
    in_chunks.extend(chunked(&large));
    assert_eq!(told(ground.wire.exchange(&in_chunks).await), "413 E-REQ-002", "too large in chunks");
    for length in ["1048577", "10000000000", "9223372036854775807", "18446744073709551615"] {
        // nothing of it is sent: the length alone is refused
        let header = format!("Content-Length: {length}");
        let declared = ground.wire.request(CREATE, &[&bearer, JSON, &header], b"");
        let told = told(ground.wire.exchange(&declared).await);
        assert!(["413 E-REQ-002", "431 "].contains(&told.as_str()), "a body of {length} bytes: {told}");
    }
    assert_eq!(ground.runs_of("tester").await, before);
    ground.assert_unharmed().await;
}

/// Every text of a body, and every number, once with something odd in its place.
fn each_leaf(body: &Value) -> Vec<Value> {
    let odd = [
        json!("\u{0}"),
        json!("a\u{0}b"),
        json!("x".repeat(70_000)),
        json!(u64::MAX),
        json!(-1.5e300),
        json!(null),
        json!([[]]),
    ];
    leaves(body, "")
        .iter()
        .flat_map(|pointer| odd.iter().map(move |odd| replaced(body, pointer, odd)))
        .collect()
}

fn leaves(value: &Value, at: &str) -> Vec<String> {
    match value {
        Value::Object(members) => {
            members.iter().flat_map(|(name, v)| leaves(v, &format!("{at}/{name}"))).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(n, v)| leaves(v, &format!("{at}/{n}"))).collect()
        }
        _ => vec![at.to_owned()],
    }
}

fn replaced(body: &Value, pointer: &str, by: &Value) -> Value {
    let mut body = body.clone();
    *body.pointer_mut(pointer).expect("a leaf") = by.clone();
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_no_value_in_a_body_is_a_fault_of_the_server() {
    let ground = Ground::start().await;
    let (mut wrong, mut asked) = (String::new(), 0);
    for operation in ground.furnished.operations().iter().filter(|operation| !operation.is_open) {
        let Some(body) = operation.body(MINE) else { continue };
        for odd in each_leaf(&body) {
            let answer = operation.send(&ground.furnished.mine, Some(&odd)).await;
            if answer.status >= 500 {
                let odd: String = odd.to_string().chars().take(200).collect();
                writeln!(wrong, "{} {odd}: {} {}", operation.id, answer.status, answer.text).unwrap();
            }
            asked += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(asked > 150, "{asked} bodies");
    ground.assert_unharmed().await;
}

/// Sends the bytes, hears what comes first, and goes away without sending what was promised.
async fn begin(ground: &Ground, head: &[u8]) -> String {
    let mut tcp = TcpStream::connect(ground.wire.host()).await.unwrap();
    tcp.write_all(head).await.unwrap();
    let mut heard = vec![0; 4096];
    let n = tcp.read(&mut heard).await.unwrap();
    let line = String::from_utf8_lossy(&heard[..n]).lines().next().unwrap_or_default().to_owned();
    line.trim_start_matches("HTTP/1.1 ").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_body_that_was_promised_and_never_comes_starts_nothing() {
    let ground = Ground::start().await;
    let key = ground.key(json!({"name": "sender", "role": "admin"})).await;
    let bearer = format!("Authorization: Bearer {key}");
    let before = ground.runs_of("tester").await;
    let promised = [JSON, "Content-Length: 60", "Expect: 100-continue"];
    let head = |bearer: &str| ground.wire.request(CREATE, &[&[bearer], &promised[..]].concat(), b"");
    for _ in 0..50 {
        assert_eq!(begin(&ground, &head(&bearer)).await, "100 Continue", "who may is asked for the body");
    }
    let refused = begin(&ground, &head("Authorization: Bearer awp_x")).await;
    assert_eq!(refused, "401 Unauthorized", "who may not is not asked for the body");
    // half a document, of which the rest never comes, and one whose last chunk never comes
    let whole = json!({"agent_id": "tester", "input": "half"}).to_string();
    for (framing, sent) in [
        ("Content-Length: 60".to_owned(), whole.clone()),
        ("Transfer-Encoding: chunked".to_owned(), format!("{:x}\r\n{whole}\r\n", whole.len())),
    ] {
        let mut bytes = ground.wire.request(CREATE, &[&bearer, JSON, &framing], b"");
        bytes.extend(sent.bytes());
        let mut tcp = TcpStream::connect(ground.wire.host()).await.unwrap();
        tcp.write_all(&bytes).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut heard = Vec::new();
        let _ = tcp.read_to_end(&mut heard).await;
        assert!(!heard.starts_with(b"HTTP/1.1 2"), "{framing}: {}", String::from_utf8_lossy(&heard));
    }
    assert_eq!(ground.runs_of("tester").await, before);
    ground.assert_unharmed().await;
}
