//! Headers that say things twice, nearly, or for somebody else. A request has one key and at most one project, both
//! spelled as the documents spell them; what only a proxy may say counts for nothing.

use serde_json::json;

use super::wire::Reply;
use super::{Ground, MINE, OTHER};

const WHOAMI: &str = "GET /v1/platform/whoami";

/// Whom the server took the caller for, or why not.
fn place(reply: Option<Reply>) -> String {
    let Some(reply) = reply else { return "closed".to_owned() };
    match reply.json()["project_id"].as_str() {
        Some(project) if reply.status == 200 => project.to_owned(),
        _ => format!("{} {}", reply.status, reply.code()).trim_end().to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_request_names_one_project_in_one_way_or_is_refused() {
    let ground = Ground::start().await;
    let admin = format!("Authorization: Bearer {}", ground.stage.server.key());
    let stranger =
        ground.stage.api(OTHER).create_key(&json!({"name": "theirs", "role": "admin"})).await.unwrap();
    let stranger = format!("Authorization: Bearer {stranger}");
    let long = "t".repeat(5000);
    let (mine, malformed) = (MINE, "400 E-REQ-001");
    #[rustfmt::skip]
    let rows: Vec<(&str, Vec<String>, &str)> = vec![
        ("no header", vec![], "platform"),
        ("once", vec![format!("X-Awooop-Project: {mine}")], mine),
        ("its name in another case", vec![format!("x-AWOOOP-pROJECT: {mine}")], mine),
        ("spaces and tabs around it", vec![format!("X-Awooop-Project:  \t{mine} \t")], mine),
        ("twice the same", vec![format!("X-Awooop-Project: {mine}"), format!("X-Awooop-Project: {mine}")], malformed),
        ("twice, another", vec![format!("X-Awooop-Project: {mine}"), format!("X-Awooop-Project: {OTHER}")], malformed),
        ("a list", vec![format!("X-Awooop-Project: {mine}, {OTHER}")], malformed),
        ("a list of one", vec![format!("X-Awooop-Project: {mine},")], malformed),
        ("empty", vec!["X-Awooop-Project:".to_owned()], malformed),
        ("spaces only", vec!["X-Awooop-Project:  \t ".to_owned()], malformed),
        ("capitals", vec!["X-Awooop-Project: Tenant-Mine".to_owned()], malformed),
        ("a Cyrillic letter", vec!["X-Awooop-Project: ten\u{430}nt-mine".to_owned()], malformed),
        ("full width", vec!["X-Awooop-Project: ｔenant-mine".to_owned()], malformed),
        ("a zero-width space", vec![format!("X-Awooop-Project: {mine}\u{200b}")], malformed),
        ("percent form", vec!["X-Awooop-Project: tenant%2dmine".to_owned()], malformed),
        ("quotes", vec![format!("X-Awooop-Project: \"{mine}\"")], malformed),
        ("a path", vec![format!("X-Awooop-Project: ../{mine}")], malformed),
        ("a wildcard", vec!["X-Awooop-Project: tenant-%".to_owned()], malformed),
        ("SQL", vec![format!("X-Awooop-Project: {mine}' OR ''='")], malformed),
        ("too long", vec![format!("X-Awooop-Project: {long}")], malformed),
        ("underscores in the name", vec![format!("X_Awooop_Project: {mine}")], "platform"),
        ("named to be dropped on the way", vec![format!("X-Awooop-Project: {mine}"), "Connection: x-awooop-project".to_owned()], mine),
    ];
    for (what, headers, expected) in &rows {
        let headers = |key: &'_ str| [vec![key.to_owned()], headers.clone()].concat();
        let ask = async |key: &str| {
            let headers = headers(key);
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            place(ground.wire.ask(WHOAMI, &headers, b"").await)
        };
        assert_eq!(ask(&admin).await, *expected, "{what}");
        let as_stranger = match *expected {
            "platform" => OTHER,
            named if named == mine => "403 E-AUTH-003",
            refused => refused,
        };
        assert_eq!(ask(&stranger).await, as_stranger, "{what}, by a stranger");
    }
    let control = [admin.as_str(), "X-Awooop-Project: tenant-mine\0"];
    assert_eq!(place(ground.wire.ask(WHOAMI, &control, b"").await), "400", "a NUL is in no header");
    ground.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_key_counts_in_one_authorization_header_and_nowhere_else() {
    let ground = Ground::start().await;
    let key = ground.key(json!({"name": "first", "role": "viewer"})).await;
    let second = ground.key(json!({"name": "second", "role": "viewer"})).await;
    let basic = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let good = format!("Authorization: Bearer {key}");
    let refused = "401 E-AUTH-001";
    #[rustfmt::skip]
    let rows: Vec<(&str, Vec<String>, &str)> = vec![
        ("as documented", vec![good.clone()], MINE),
        ("scheme in lower case", vec![format!("Authorization: bearer {key}")], MINE),
        ("scheme in capitals", vec![format!("AUTHORIZATION: BEARER {key}")], MINE),
        ("two spaces", vec![format!("Authorization: Bearer  {key}")], MINE),
        ("spaces and tabs around it", vec![format!("Authorization: \t Bearer {key} \t")], MINE),
        ("named to be dropped on the way", vec![good.clone(), "Connection: authorization".to_owned()], MINE),
        ("none", vec![], refused),
        ("empty", vec!["Authorization:".to_owned()], refused),
        ("scheme only", vec!["Authorization: Bearer".to_owned()], refused),
        ("no scheme", vec![format!("Authorization: {key}")], refused),
        ("a tab for the space", vec![format!("Authorization: Bearer\t{key}")], refused),
        ("no space", vec![format!("Authorization: Bearer{key}")], refused),
        ("a colon", vec![format!("Authorization: Bearer: {key}")], refused),
        ("an equals sign", vec![format!("Authorization: Bearer={key}")], refused),
        ("Basic, the key as its name", vec![format!("Authorization: Basic {}", basic(&format!("{key}:")))], refused),
        ("Basic, the key as its word", vec![format!("Authorization: Basic {}", basic(&format!(":{key}")))], refused),
        ("another scheme", vec![format!("Authorization: Token {key}")], refused),
        ("two schemes", vec![format!("Authorization: Basic x, Bearer {key}")], refused),
        ("two keys", vec![format!("Authorization: Bearer {key}, Bearer {second}")], refused),
        ("two keys and one scheme", vec![format!("Authorization: Bearer {key} {second}")], refused),
        ("a comma after it", vec![format!("Authorization: Bearer {key},")], refused),
        ("a semicolon after it", vec![format!("Authorization: Bearer {key};a=b")], refused),
        ("garbage after it", vec![format!("Authorization: Bearer {key} x")], refused),
        ("a letter that is not ASCII after it", vec![format!("Authorization: Bearer {key}\u{e9}")], refused),
        ("a scheme that is not ASCII", vec![format!("Authorization: Ｂearer {key}")], refused),
        ("twice the same", vec![good.clone(), good.clone()], refused),
        ("twice, the first wrong", vec!["Authorization: Bearer x".to_owned(), good.clone()], refused),
        ("twice, the second wrong", vec![good.clone(), "Authorization: Basic x".to_owned()], refused),
        ("for a proxy", vec![format!("Proxy-Authorization: Bearer {key}")], refused),
        ("forwarded", vec![format!("X-Forwarded-Authorization: Bearer {key}")], refused),
        ("as an API key", vec![format!("X-Api-Key: {key}")], refused),
        ("in a cookie", vec![format!("Cookie: authorization={key}; token={key}")], refused),
    ];
    for (what, headers, expected) in &rows {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        assert_eq!(place(ground.wire.ask(WHOAMI, &headers, b"").await), *expected, "{what}");
    }
    for query in ["access_token", "token", "key", "authorization", "Authorization"] {
        let line = format!("{WHOAMI}?{query}={key}");
        assert_eq!(place(ground.wire.ask(&line, &[], b"").await), refused, "?{query}=");
    }
    ground.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_nobody_says_by_a_header_what_the_request_line_does_not() {
    let ground = Ground::start().await;
    let key = ground.key(json!({"name": "reader", "role": "viewer"})).await;
    let bearer = format!("Authorization: Bearer {key}");
    let plain = ground.wire.ask(WHOAMI, &[&bearer], b"").await.expect("an answer");
    for header in [
        "X-HTTP-Method-Override: DELETE",
        "X-HTTP-Method: POST",
        "X-Method-Override: POST",
        "X-Original-URL: /v1/platform/keys",
        "X-Original-URI: /v1/platform/keys",
        "X-Rewrite-URL: /v1/platform/keys",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Prefix: /v1/platform/keys",
        "X-Forwarded-User: admin",
        "X-Remote-User: admin",
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1;host=evil.example;proto=https",
        "X-Real-IP: 127.0.0.1",
        "True-Client-IP: 127.0.0.1",
        "X-Awooop-Principal: admin",
        "X-Awooop-Role: admin",
        "Upgrade: h2c",
        "Connection: authorization, host",
        "Range: bytes=0-1",
        "TE: trailers",
        "Max-Forwards: 0",
    ] {
        let answer = ground.wire.ask(WHOAMI, &[&bearer, header], b"").await.expect("an answer");
        assert_eq!((answer.status, &answer.body), (200, &plain.body), "{header}");
    }
    // a reader's GET with a body and an override starts nothing, and a POST stays refused
    let body = json!({"agent_id": "tester", "input": "overridden"}).to_string();
    let headers = [bearer.as_str(), "Content-Type: application/json", "X-HTTP-Method-Override: POST"];
    let before = ground.runs_of("tester").await;
    for (line, expected) in [("GET /v1/platform/runs", 200), ("POST /v1/platform/runs", 403)] {
        let answer = ground.wire.ask(line, &headers, body.as_bytes()).await.expect("an answer");
        assert_eq!(answer.status, expected, "{line}: {}", answer.body);
    }
    assert_eq!(ground.runs_of("tester").await, before);
    ground.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_request_is_for_one_host_and_tools_are_for_this_one() {
    let ground = Ground::start().await;
    let key = ground.key(json!({"name": "bound", "agent_id": "tester"})).await;
    let host = ground.wire.host().to_owned();
    let rest = format!(
        "Authorization: Bearer {key}\r\nAccept: application/json, text/event-stream\r\n\
        Content-Type: application/json\r\nConnection: close\r\n"
    );
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    #[rustfmt::skip]
    let rows: Vec<(&str, &str, Vec<String>, &[u16])> = vec![
        ("as documented", "/mcp", vec![format!("Host: {host}")], &[200]),
        ("by another name of the machine", "/mcp", vec!["Host: LOCALHOST:1".to_owned()], &[200]),
        ("in absolute form", "http://localhost/mcp", vec!["Host: localhost".to_owned()], &[200]),
        ("another host", "/mcp", vec!["Host: evil.example".to_owned()], &[403]),
        ("a host below", "/mcp", vec!["Host: localhost.evil.example".to_owned()], &[403]),
        ("a host that ends alike", "/mcp", vec!["Host: evil-localhost".to_owned()], &[403]),
        ("a user before it", "/mcp", vec!["Host: evil.example@localhost".to_owned()], &[400, 403]),
        ("a user behind it", "/mcp", vec!["Host: localhost@evil.example".to_owned()], &[400, 403]),
        ("a path behind it", "/mcp", vec!["Host: localhost/evil.example".to_owned()], &[400, 403]),
        ("two ports", "/mcp", vec!["Host: localhost:80:81".to_owned()], &[400, 403]),
        ("an address in another spelling", "/mcp", vec!["Host: 2130706433".to_owned()], &[403]),
        ("a list", "/mcp", vec![format!("Host: {host}, evil.example")], &[400, 403]),
        ("empty", "/mcp", vec!["Host:".to_owned()], &[400, 403]),
        ("none", "/mcp", vec![], &[400]),
        ("two", "/mcp", vec![format!("Host: {host}"), "Host: evil.example".to_owned()], &[400]),
        ("two, the other way round", "/mcp", vec!["Host: evil.example".to_owned(), format!("Host: {host}")], &[400]),
        ("twice the same", "/mcp", vec![format!("Host: {host}"), format!("Host: {host}")], &[400]),
        ("absolute form for another", "http://evil.example/mcp", vec![format!("Host: {host}")], &[400]),
        ("absolute form, another Host", "http://localhost/mcp", vec!["Host: evil.example".to_owned()], &[400]),
        ("a page of another site", "/mcp", vec![format!("Host: {host}"), "Origin: https://evil.example".to_owned()], &[403]),
        ("a page without an origin", "/mcp", vec![format!("Host: {host}"), "Origin: null".to_owned()], &[403]),
        ("two pages", "/mcp", vec![format!("Host: {host}"), "Origin: http://localhost".to_owned(), "Origin: https://evil.example".to_owned()], &[403]),
    ];
    for (what, target, headers, expected) in rows {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let bytes =
            format!("POST {target} HTTP/1.1\r\n{headers}{rest}Content-Length: {}\r\n\r\n{list}", list.len());
        let replies = ground.wire.exchange(bytes.as_bytes()).await;
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        assert!(
            statuses.len() == 1 && expected.contains(&statuses[0]),
            "{what}: {statuses:?}, not {expected:?}"
        );
    }
    ground.assert_unharmed().await;
}
