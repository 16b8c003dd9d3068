//! Paths that try to be other paths, and values that no path part or query is made for. The path is matched as it was
//! sent, its parts are decoded once, and what names nothing is absent.

use serde_json::json;

use super::{Ground, MINE};
use crate::operations::Operation;

/// Target and the answer to a GET of it with a good key: status and code.
#[rustfmt::skip]
const TARGETS: &[(&str, &str)] = &[
    ("/v1/platform/whoami", "200"),
    ("/v1/platform/whoami?", "200"),
    ("/v1/platform/runs/../whoami", "404 E-REQ-004"),
    ("/v1/platform/./whoami", "404 E-REQ-004"),
    ("/../v1/platform/whoami", "404 E-REQ-004"),
    ("/v1/platform/runs/%2e%2e/whoami", "404 E-REQ-004"),
    ("/v1/platform/runs/..%2fwhoami", "404 E-REQ-004"),
    ("/v1/platform/runs/%2e%2e%2fwhoami", "404 E-REQ-004"),
    ("/v1/platform/runs/%252e%252e%252fwhoami", "404 E-REQ-004"),
    ("/v1/platform/runs/..%5cwhoami", "404 E-REQ-004"),
    ("/v1/platform%2fwhoami", "404 E-REQ-004"),
    ("//v1/platform/whoami", "404 E-REQ-004"),
    ("/v1//platform/whoami", "404 E-REQ-004"),
    ("/v1/platform/whoami/", "404 E-REQ-004"),
    ("/v1/platform/whoami/.", "404 E-REQ-004"),
    ("/v1/platform/whoami;x=1", "404 E-REQ-004"),
    ("/v1;x/platform/whoami", "404 E-REQ-004"),
    ("/v1/platform/whoami%00", "404 E-REQ-004"),
    ("/v1/platform/whoami%00.json", "404 E-REQ-004"),
    ("/v1/platform/whoami.json", "404 E-REQ-004"),
    ("/v1/platform/whoami%20", "404 E-REQ-004"),
    ("/v1/platform/whoami%09", "404 E-REQ-004"),
    ("/v1/platform/whoami%0d%0aX-Injected:%201", "404 E-REQ-004"),
    ("/v1/platform/WHOAMI", "404 E-REQ-004"),
    ("/V1/platform/whoami", "404 E-REQ-004"),
    ("/%76%31/platform/whoami", "404 E-REQ-004"),
    ("/v1/platform/%c0%ae%c0%ae/whoami", "404 E-REQ-004"),
    ("/v1/platform/%c0%af/whoami", "404 E-REQ-004"),
    ("/v1/platform/%e0%80%af/whoami", "404 E-REQ-004"),
    ("/v1/platform/%u002e%u002e/whoami", "404 E-REQ-004"),
    ("/v1/platform/runs/%ff%fe", "404 E-REQ-004"),
    ("/v1/platform/runs/%", "404 E-REQ-004"),
    ("/v1/platform/runs/%zz", "404 E-REQ-004"),
    ("/errors/..%2f..%2f..%2fetc%2fpasswd", "404 E-REQ-004"),
    ("/errors/%2fetc%2fpasswd", "404 E-REQ-004"),
    ("/errors/E-AUTH-001%00", "404 E-REQ-004"),
    ("/errors/E-AUTH-001.md", "404 E-REQ-004"),
    ("/", "404 E-REQ-004"),
    ("*", "404 E-REQ-004"),
    ("http://evil.example/v1/platform/whoami", "400 E-REQ-001"),
    ("ftp://evil.example/v1/platform/whoami", "400 E-REQ-001"),
    ("http:///v1/platform/whoami", "400"),
    ("whoami", "400 E-REQ-001"),
    ("v1/platform/whoami", "400"),
    ("\\v1\\platform\\whoami", "400"),
    ("/v1/platform/\u{0}whoami", "400"),
    ("/v1/platform/whoami\u{7f}", "400"),
    ("", "400"),
];

/// Values that nothing is named by, as they stand in a path or a query.
const ODD: &[&str] = &[
    "%00",
    "a%00b",
    "%ff",
    "%c0%ae",
    "%ed%a0%80",
    "..",
    "%2e%2e%2fx",
    "-1",
    "0",
    "1e9",
    "99999999999999999999",
    "9223372036854775808",
    "%20",
    "'%20OR%20'1'='1",
    "%27;--",
    "%0d%0aX-Injected:%201",
    "%24%7bx%7d",
    "%f0%9f%92%a9",
    "\u{441}",
    "2147483648",
    "[]",
    "%7b%7d",
    "00000000000000000000000000000000",
    "9999-12-31T23:59:60Z",
    "-009999-01-01T00:00:00Z",
];

/// Status and code, such as `404 E-REQ-004`.
async fn get(ground: &Ground, method: &str, target: &str, bearer: &str) -> String {
    let reply = ground.wire.ask(&format!("{method} {target}"), &[bearer], b"").await;
    reply.map_or("closed".to_owned(), |reply| {
        format!("{} {}", reply.status, reply.code()).trim_end().to_owned()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_path_is_what_was_sent_and_no_other_path() {
    let ground = Ground::start().await;
    let key = ground.key(json!({"name": "pathfinder", "role": "admin"})).await;
    let bearer = format!("Authorization: Bearer {key}");
    let mut wrong = Vec::new();
    for (target, expected) in TARGETS {
        let told = get(&ground, "GET", target, &bearer).await;
        if told != *expected {
            wrong.push(format!("GET {target:?}: {told}, not {expected}"));
        }
    }
    for (method, target, expected) in [
        ("OPTIONS", "*", "404 E-REQ-004"),
        ("CONNECT", "localhost:80", "400 E-REQ-001"),
        ("CONNECT", "/v1/platform/whoami", "405 E-REQ-001"),
        ("TRACE", "/v1/platform/whoami", "405 E-REQ-001"),
        ("OPTIONS", "/v1/platform/whoami", "405 E-REQ-001"),
        ("get", "/v1/platform/whoami", "405 E-REQ-001"),
        ("BREW", "/v1/platform/whoami", "405 E-REQ-001"),
        ("POST", "/v1/platform/whoami", "405 E-REQ-001"),
        ("GET\t/v1/platform/whoami", "", "400"),
        ("G@T(", "/v1/platform/whoami", "400"),
        ("", "/v1/platform/whoami", "400"),
    ] {
        let told = get(&ground, method, target, &bearer).await;
        if told != expected {
            wrong.push(format!("{method:?} {target:?}: {told}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    ground.assert_unharmed().await;
}

/// Asks an operation with an odd value and says what is wrong with the answer, if anything is.
async fn ask(ground: &Ground, operation: &Operation, path: &str, bearer: &str) -> Option<String> {
    let body = operation.body(MINE).map(|body| body.to_string()).unwrap_or_default();
    let mut headers = vec![bearer, "Accept: application/json, text/event-stream"];
    if !body.is_empty() {
        headers.push("Content-Type: application/json");
    }
    let reply = ground.wire.ask(&format!("{} {path}", operation.method), &headers, body.as_bytes()).await;
    let Some(reply) = reply else { return Some(format!("{path}: no answer")) };
    let is_injected = reply.headers.iter().any(|(name, _)| name == "x-injected");
    let is_told = reply.status < 400 || !reply.code().is_empty();
    let is_fine = reply.status < 500 && is_told && !is_injected;
    (!is_fine).then(|| format!("{} {path}: {} {}", operation.id, reply.status, reply.body))
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_no_value_of_a_path_or_a_query_is_a_fault_of_the_server() {
    let ground = Ground::start().await;
    let key = ground.key(json!({"name": "pathfinder", "role": "admin"})).await;
    let bearer = format!("Authorization: Bearer {key}");
    let furnished = &ground.furnished;
    let long = "a".repeat(3000);
    let odd: Vec<&str> = ODD.iter().copied().chain([long.as_str()]).collect();
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for value in &odd {
        for (part, _) in &furnished.ids {
            let mut ids = furnished.ids.clone();
            ids.iter_mut()
                .filter(|(name, _)| name == part)
                .for_each(|(_, known)| *known = (*value).to_owned());
            let both = furnished.operations().into_iter().zip(furnished.operations_with(&ids));
            for (_, odd) in both.filter(|(plain, odd)| plain.path != odd.path) {
                wrong.extend(ask(&ground, &odd, &odd.path, &bearer).await);
                asked += 1;
            }
        }
    }
    for operation in furnished.operations().iter().filter(|operation| operation.id != "watch_run") {
        for name in furnished.query_of(&operation.id).iter().map(String::as_str).chain(["unknown"]) {
            for value in &odd {
                let path = format!("{}?{name}={value}", operation.path);
                if ["GET", "HEAD"].contains(&operation.method.as_str()) {
                    wrong.extend(ask(&ground, operation, &path, &bearer).await);
                    asked += 1;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 1500, "{asked} requests");
    ground.assert_unharmed().await;
}
