//! The edge over real sockets: caps on connections, heads of a bounded size, rates by key and by failures, whose address
//! counts, and what every answer says of itself. Clients have addresses of their own: 127.0.0.2, 127.0.0.3 and so on.

use std::net::SocketAddr;

use awooop_core::ErrorCode;
use awooop_http::{Edge, EdgeConfig};
use awooop_journeys::db::{AGENT, TestStore, test_store};
use awooop_store::scope;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use crate::api::{Answer, Api, RUNS, admin, request};

const WHOAMI: &str = "/v1/platform/whoami";
const PROXY: &str = "127.0.0.9";

/// A server that listens; it stops with this.
struct Server {
    api: Api,
    address: SocketAddr,
    _stop: DropGuard,
}

async fn server(config: EdgeConfig) -> Server {
    let edge = Edge::new(config);
    let api = Api::with(test_store().await, |state| state.behind(edge.clone())).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    scope::spawn_service(
        scope::Service::Http,
        awooop_http::serve(listener, api.router(), edge, stop.clone()),
    );
    Server { api, address, _stop: stop.drop_guard() }
}

/// A raw answer: the status, the head in lower case, the body.
#[derive(Debug)]
struct Raw {
    status: u16,
    head: String,
    body: String,
}

impl Raw {
    /// Nothing when the connection was cut.
    fn of(text: &str) -> Option<Raw> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Raw { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }

    fn code(&self) -> (u16, String) {
        let document: Value = serde_json::from_str(&self.body).unwrap_or_default();
        (self.status, document["code"].as_str().unwrap_or_default().to_owned())
    }

    fn retry_after(&self) -> u64 {
        let line = self.head.lines().find_map(|line| line.strip_prefix("retry-after: "));
        line.unwrap_or_else(|| panic!("no Retry-After: {self:?}")).parse().unwrap()
    }
}

fn code(status: u16, code: ErrorCode) -> (u16, String) {
    (status, code.as_str().to_owned())
}

impl Server {
    async fn connect(&self, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// What is answered to a request line with headers, on a connection of its own.
    async fn ask(&self, from: &str, line: &str, headers: &[(&str, &str)]) -> Raw {
        self.try_to_ask(from, line, headers).await.expect("an answer")
    }

    async fn try_to_ask(&self, from: &str, line: &str, headers: &[(&str, &str)]) -> Option<Raw> {
        let mut tcp = self.connect(from).await;
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        tcp.write_all(text.as_bytes()).await.ok()?;
        Raw::of(&rest(&mut tcp).await)
    }

    /// The same for who the caller is.
    async fn whoami(&self, from: &str, key: &str, headers: &[(&str, &str)]) -> Raw {
        let bearer = format!("Bearer {key}");
        let headers = [&[("Authorization", bearer.as_str())], headers].concat();
        self.ask(from, &format!("GET {WHOAMI}"), &headers).await
    }

    /// A connection that has been answered once and stays open.
    async fn hold(&self, from: &str) -> TcpStream {
        let mut tcp = self.connect(from).await;
        tcp.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            assert!(tcp.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
        }
        tcp
    }

    /// Asks until it is refused for asking or failing too often, and gives that answer.
    async fn until_too_often(&self, mut ask: impl AsyncFnMut(usize) -> Raw) -> Raw {
        for n in 0..1_000 {
            let answer = ask(n).await;
            if answer.status == 429 {
                return answer;
            }
        }
        panic!("it may go on for ever");
    }
}

/// Everything until the server closes the connection.
async fn rest(tcp: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = tcp.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

fn limits(max_connections: usize, max_connections_per_address: usize) -> EdgeConfig {
    EdgeConfig { max_connections, max_connections_per_address, ..EdgeConfig::of_this_machine() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_its_share_of_connections_and_a_full_house_still_says_that_it_lives() {
    let server = server(limits(3, 2)).await;
    let mut held = vec![server.hold("127.0.0.2").await, server.hold("127.0.0.2").await];
    let mine = server.ask("127.0.0.2", "GET /healthz", &[]).await;
    assert_eq!(mine.code(), code(503, ErrorCode::Limit003), "its share is used up");
    assert!(mine.body.contains("of one address") && mine.retry_after() == 1, "{mine:?}");
    held.push(server.hold("127.0.0.3").await);
    for path in ["/healthz", "/readyz", "/metrics"] {
        let probe = server.ask("127.0.0.4", &format!("GET {path}"), &[]).await;
        assert_eq!(probe.status, 200, "a full house answers {path}: {probe:?}");
        assert!(probe.head.contains("connection: close"), "{probe:?}");
    }
    for path in [RUNS, "/mcp", "/openapi.json"] {
        let refused = server.ask("127.0.0.4", &format!("GET {path}"), &[]).await;
        assert_eq!(refused.code(), code(503, ErrorCode::Limit003), "{path}");
    }
    // who says nothing fills no more than its share of the lobby, and beyond it is cut
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(server.connect("127.0.0.2").await);
    }
    assert_eq!(server.ask("127.0.0.4", "GET /healthz", &[]).await.status, 200);
    let told = server.ask("127.0.0.4", "GET /metrics", &[]).await.body;
    let refused = |reason: &str| {
        let series = format!("awooop_http_refused_total{{reason=\"{reason}\"}} ");
        told.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok()).expect("a series")
    };
    assert!(told.contains("awooop_http_connections 3\n") && told.contains("awooop_http_connections_max 3\n"));
    assert!(refused("connections_of_address") >= 1 && refused("connections") >= 6, "{told}");
    assert!(refused("cut") >= 16, "{told}");
    drop((held, silent));
    let again = async || server.try_to_ask("127.0.0.2", "GET /openapi.json", &[]).await;
    while again().await.is_none_or(|answer| answer.status != 200) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused_with_its_code_and_others_are_answered() {
    let server = server(EdgeConfig::default()).await;
    let of = async |line: String, headers: Vec<(String, String)>| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        server.ask("127.0.0.2", &line, &headers).await
    };
    let (health, big) = ("GET /healthz".to_owned(), |n: usize| ("X-Big".to_owned(), "a".repeat(n)));
    let many = |n: usize| (0..n).map(|n| (format!("X-{n}"), "a".to_owned())).collect::<Vec<_>>();
    assert_eq!(of(health.clone(), vec![big(30_000)]).await.status, 200);
    assert_eq!(of(health.clone(), many(90)).await.status, 200);
    assert_eq!(of(health.clone(), vec![big(33_000)]).await.code(), code(431, ErrorCode::Req009));
    assert_eq!(of(health.clone(), vec![big(20_000), big(20_000)]).await.code(), code(431, ErrorCode::Req009));
    assert_eq!(of(health.clone(), many(101)).await.code(), code(431, ErrorCode::Req009));
    assert_eq!(of(format!("GET /healthz?{}", "a".repeat(8_000)), vec![]).await.status, 200);
    let long = format!("GET /healthz?{}", "a".repeat(8_200));
    assert_eq!(of(long, vec![]).await.code(), code(414, ErrorCode::Req010));
    // what is larger still is not read to its end
    for (line, headers) in [
        (health.clone(), vec![big(100_000)]),
        (health.clone(), many(300)),
        (format!("GET /{}", "a".repeat(100_000)), vec![]),
    ] {
        let refused = of(line, headers).await;
        assert!([414, 431].contains(&refused.status) && refused.body.is_empty(), "{refused:?}");
    }
    assert_eq!(of(health, vec![]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asks_too_often_waits_and_another_does_not() {
    let server = server(EdgeConfig { key_rate: 3, ..EdgeConfig::default() }).await;
    let (mine, other) = (server.api.test.project().await, server.api.test.project().await);
    let (mine, key) = (admin(&mine), admin(&other));
    let refused = server.until_too_often(async |_| server.whoami("127.0.0.2", &mine, &[]).await).await;
    assert_eq!(refused.code(), code(429, ErrorCode::Limit004));
    assert_eq!(refused.retry_after(), 1, "whole seconds");
    assert_eq!(server.whoami("127.0.0.2", &key, &[]).await.status, 200, "another key of the same address");
    // the tools of an agent count as well, and are told in their protocol's form
    let agent = server.api.key(&other, json!({"name": "bot", "agent_id": AGENT})).await;
    let accept = [("accept", "application/json, text/event-stream")];
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let mut told = server.api.post_with(&agent, "/mcp", &accept, &list).await;
    assert_eq!(told.status, 200, "{told:?}");
    for _ in 0..1_000 {
        told = server.api.post_with(&agent, "/mcp", &accept, &list).await;
        if told.status == 429 {
            break;
        }
    }
    assert_eq!((told.status.as_u16(), told.header("retry-after")), (429, "1"));
    assert_eq!(told.json()["error"]["data"]["code"], "E-LIMIT-004");
    let figures = server.ask("127.0.0.2", "GET /metrics", &[]).await.body;
    assert!(!figures.contains("awooop_http_refused_total{reason=\"key_rate\"} 0\n"), "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_guesses_is_tried_no_more_and_others_are() {
    let server = server(EdgeConfig { failed_auth_rate: 1, ..EdgeConfig::default() }).await;
    let project = server.api.test.project().await;
    let key = admin(&project);
    let guess = |n: usize| format!("awp_{}_{}_{:043}", project.id, "a".repeat(12), n);
    for n in 0..5 {
        let refused = server.whoami("127.0.0.2", &guess(n), &[]).await;
        assert_eq!(refused.code(), code(401, ErrorCode::Auth001), "a few are tried");
    }
    let refused = server.until_too_often(async |n| server.whoami("127.0.0.2", &guess(n), &[]).await).await;
    assert_eq!(refused.code(), code(429, ErrorCode::Limit005));
    assert!(refused.retry_after() >= 1);
    assert_eq!(server.whoami("127.0.0.3", &key, &[]).await.status, 200, "another address");
    let without = server.ask("127.0.0.2", &format!("GET {WHOAMI}"), &[]).await;
    assert_eq!(without.status, 401, "nothing was tried, so nothing is counted");
    // headers of a stranger give no other address
    let spoofed = server
        .until_too_often(async |n| {
            let other = format!("198.51.100.{}", n % 250);
            let forwarded = format!("for={other}");
            let headers = [("X-Forwarded-For", other.as_str()), ("Forwarded", forwarded.as_str())];
            server.whoami("127.0.0.4", &guess(n), &headers).await
        })
        .await;
    assert_eq!(spoofed.code(), code(429, ErrorCode::Limit005));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_proven_from_an_address_goes_on_while_others_guess_there() {
    let server = server(EdgeConfig { failed_auth_rate: 1, ..EdgeConfig::default() }).await;
    let (mine, other) = (server.api.test.project().await, server.api.test.project().await);
    let (mine, theirs) = (admin(&mine), admin(&other));
    let short_lived = server.api.key(&other, json!({"name": "reader", "role": "viewer"})).await;
    let ask = async |key: &str| server.whoami("127.0.0.2", key, &[]).await;
    assert_eq!((ask(&mine).await.status, ask(&short_lived).await.status), (200, 200));
    let refused = server.until_too_often(async |_| ask("awp_nonsense").await).await;
    assert_eq!(refused.code(), code(429, ErrorCode::Limit005));
    assert_eq!(ask(&mine).await.status, 200, "proven from there before");
    let last = if mine.ends_with('A') { "B" } else { "A" };
    let wrong = format!("{}{last}", &mine[..mine.len() - 1]);
    server.until_too_often(async |_| ask(&wrong).await).await;
    assert_eq!(ask(&mine).await.status, 200, "another secret under its id is another's failure");
    // what is revoked is looked up a few times more, and then no longer
    let id = &short_lived[short_lived.len() - 56..short_lived.len() - 44];
    let revoke = request("POST", &format!("/v1/platform/keys/{id}/revoke"), &theirs, &[], None);
    assert_eq!(server.api.send(revoke).await.status, 200);
    server.until_too_often(async |_| ask(&short_lived).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_each_client_counts_for_itself_and_nobody_else_s_word_does() {
    let trusted_proxies = format!("{PROXY}/32,10.0.0.0/8").parse().unwrap();
    let limits = EdgeConfig { failed_auth_rate: 1, trusted_proxies, ..limits(100, 2) };
    let server = server(limits).await;
    let project = server.api.test.project().await;
    let key = admin(&project);
    let from =
        async |header: &str| server.whoami(PROXY, "awp_nonsense", &[("X-Forwarded-For", header)]).await;
    let refused = server.until_too_often(async |_| from("198.51.100.1").await).await;
    assert_eq!(refused.code(), code(429, ErrorCode::Limit005));
    assert_eq!(from("198.51.100.2").await.status, 401, "another client of the same proxy");
    assert_eq!(from("198.51.100.1, 10.1.2.3").await.status, 429, "past a further proxy of ours");
    // what the client wrote itself stands left of what the proxy wrote
    let spoof = async |n: usize| from(&format!("203.0.113.{}, 198.51.100.3", n % 250)).await;
    server.until_too_often(spoof).await;
    let forwarded = |value: &'static str| [("Forwarded", value)];
    let named = server.whoami(PROXY, "awp_nonsense", &forwarded("for=198.51.100.1;proto=https")).await;
    assert_eq!(named.status, 429);
    // a stranger who says that it is somebody else's proxy is counted as itself
    let stranger = server.whoami("127.0.0.2", &key, &[("X-Forwarded-For", "198.51.100.1")]).await;
    assert_eq!(stranger.status, 200);

    // requests under way count as one client's connections
    let run_id = server.api.run(&project).await;
    let (line, bearer) = (format!("GET {RUNS}/{run_id}/events"), format!("Bearer {key}"));
    let mut watching = Vec::new();
    for _ in 0..2 {
        let mut tcp = server.connect(PROXY).await;
        let head = format!(
            "{line} HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer}\r\nX-Forwarded-For: 198.51.100.5\r\n\r\n"
        );
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut begun = [0; 15];
        tcp.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200 OK");
        watching.push(tcp);
    }
    let ask = async |client: &str| server.whoami(PROXY, &key, &[("X-Forwarded-For", client)]).await;
    assert_eq!(ask("198.51.100.5").await.code(), code(503, ErrorCode::Limit003));
    assert_eq!(ask("198.51.100.6").await.status, 200);
    drop(watching);
    while ask("198.51.100.5").await.status != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_a_trusted_proxy_gives_no_name_share_one_allowance() {
    let trusted_proxies = format!("{PROXY}/32").parse().unwrap();
    let server = server(EdgeConfig { trusted_proxies, ..limits(100, 2) }).await;
    let project = server.api.test.project().await;
    let (key, run_id) = (admin(&project), server.api.run(&project).await);
    let line = format!("GET {RUNS}/{run_id}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n");
    let mut watching = Vec::new();
    // a client's own header, which contradicts the proxy's, and another that nobody can read
    for names in ["X-Forwarded-For: 198.51.100.5\r\nForwarded: for=1.2.3.4", "X-Forwarded-For: unknown"] {
        let mut tcp = server.connect(PROXY).await;
        tcp.write_all(format!("{line}{names}\r\n\r\n").as_bytes()).await.unwrap();
        let mut begun = [0; 15];
        tcp.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200 OK");
        watching.push(tcp);
    }
    for headers in [&[("X-Forwarded-For", "198.51.100.7"), ("Forwarded", "for=1.2.3.5")][..], &[]] {
        let refused = server.whoami(PROXY, &key, headers).await;
        assert_eq!(refused.code(), code(503, ErrorCode::Limit003), "{headers:?}");
    }
    let named = server.whoami(PROXY, &key, &[("X-Forwarded-For", "198.51.100.5")]).await;
    assert_eq!(named.status, 200, "who has a name has its own");
    assert_eq!(server.ask(PROXY, "GET /readyz", &[]).await.status, 200, "the proxy's own probe");
    drop(watching);
    while server.whoami(PROXY, &key, &[]).await.status != 200 {
        tokio::task::yield_now().await;
    }
}

/// Each is said once, and hinders a browser.
fn assert_secure(what: &str, answer: &Answer) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("cache-control", "no-store"),
    ] {
        let said: Vec<_> = answer.headers.get_all(name).iter().collect();
        assert!(said.len() == 1 && said[0] == value, "{what} says {name}: {said:?}");
    }
    assert!(!answer.headers.contains_key("strict-transport-security"), "{what}: only where TLS is spoken");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_every_operation_has_the_headers_that_hinder_a_browser() {
    let api = Api::over(TestStore::private().await).await;
    let document = awooop_core::json::to_value(&awooop_http::openapi());
    let key = api.platform_key();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let filled = path
            .split('/')
            .map(|part| match part {
                "{code}" => "E-AUTH-001",
                part if part.starts_with('{') => "x",
                part => part,
            })
            .collect::<Vec<_>>()
            .join("/");
        for method in item.as_object().unwrap().keys() {
            for key in ["", key.as_str()] {
                let body = (method != "get").then(|| json!({}));
                let answer =
                    api.send(request(&method.to_uppercase(), &filled, key, &[], body.as_ref())).await;
                assert_secure(&format!("{method} {path}"), &answer);
                asked += 1;
            }
        }
    }
    assert!(asked > 60, "{asked}");
    for (method, path) in [("GET", "/nowhere"), ("DELETE", RUNS), ("GET", "/mcp"), ("OPTIONS", "/")] {
        assert_secure(&format!("{method} {path}"), &api.send(request(method, path, "", &[], None)).await);
    }
}
