//! One project, and servers that give its credentials away in every place of an answer.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::forms::{FORMS, folded};
use super::{assert_nowhere, base, program};
use crate::gates::agent_client;
use crate::guarded::{Guarded, bearer, said, serve};
use crate::scripted::{Say, Scripted, Stage, agent, ask_mcp, calls, given, manifest, says};

const PROJECT: &str = "leaking";
const SECRET: &str = "harvest+moon&over=7731/quiet-river";
const OF_CHILD: &str = "winter sun=under&the 4411 bridge";
const IN_ARGUMENT: &str = "autumn-rain-on-9902-roofs";
const CLIENT_SECRET: &str = "spring-wind-in-3355-sails";

/// Tools of the other servers.
const OTHERS: [&str; 3] = ["child__tells", "child__dies", "oauth__text_plain"];

/// Calls of one run, which has 20 steps.
const IN_ONE_RUN: usize = 15;

type Leak = fn(&Value, &str) -> Response;

fn text(message: &Value, text: impl Into<String>) -> Response {
    said(message, json!({"content": [{"type": "text", "text": text.into()}]}))
}

fn error(message: &Value, error: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": message["id"], "error": error})
}

/// An event stream whose last event is a result, after these messages.
fn stream(message: &Value, before: &[String]) -> Response {
    let result = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}).to_string();
    let events: Vec<String> =
        before.iter().chain([&result]).map(|data| format!("event: message\ndata: {data}\n\n")).collect();
    ([("content-type", "text/event-stream")], events.concat()).into_response()
}

fn notice(method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
}

/// Places of an answer besides a text part.
const PLACES: [(&str, Leak); 26] = [
    ("two_parts", |m, t| {
        let (head, tail) = t.split_at(11);
        said(m, json!({"content": [{"type": "text", "text": head}, {"type": "text", "text": tail}]}))
    }),
    ("three_parts", |m, t| {
        let parts: Vec<Value> =
            [&t[..7], &t[7..20], &t[20..]].map(|text| json!({"type": "text", "text": text})).into();
        said(m, json!({ "content": parts }))
    }),
    ("structured_value", |m, t| said(m, json!({"content": [], "structuredContent": {"deep": [{"er": t}]}}))),
    ("structured_name", |m, t| said(m, json!({"content": [], "structuredContent": {t: 1}}))),
    ("structured_halves", |m, t| {
        said(m, json!({"content": [], "structuredContent": {"a": &t[..9], "b": &t[9..]}}))
    }),
    ("structured_list", |m, t| {
        let letters: Vec<String> = t.chars().map(String::from).collect();
        said(m, json!({"content": [], "structuredContent": {"letters": letters}}))
    }),
    ("failed_result", |m, t| {
        said(m, json!({"content": [{"type": "text", "text": format!("bad key {t}")}], "isError": true}))
    }),
    ("error_message", |m, t| axum::Json(error(m, json!({"code": -32000, "message": t}))).into_response()),
    ("error_data", |m, t| {
        axum::Json(error(m, json!({"code": -32000, "message": "no", "data": {"header": t}}))).into_response()
    }),
    ("error_of_status_500", |m, t| {
        let body = axum::Json(error(m, json!({"code": -32603, "message": format!("with {t}")})));
        (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
    }),
    ("page_of_status_500", |_, t| {
        (StatusCode::INTERNAL_SERVER_ERROR, [("x-key", t.to_owned())], format!("<p>{t}</p>")).into_response()
    }),
    ("header_of_a_result", |m, t| {
        let mut answer = text(m, "done");
        answer.headers_mut().insert(HeaderName::from_static("x-key"), HeaderValue::from_str(t).unwrap());
        answer
    }),
    ("redirect", |_, t| {
        (StatusCode::FOUND, [("location", format!("http://127.0.0.1:9/?key={t}"))]).into_response()
    }),
    ("refusal_401", |_, t| {
        (StatusCode::UNAUTHORIZED, [("www-authenticate", format!("Bearer error=\"{t}\""))], t.to_owned())
            .into_response()
    }),
    ("refusal_403", |_, t| (StatusCode::FORBIDDEN, format!("{{\"not\": \"{t}\"}}")).into_response()),
    ("resource_text", |m, t| {
        said(
            m,
            json!({"content": [{"type": "resource", "resource": {"uri": format!("mem://{t}"), "text": t}}]}),
        )
    }),
    ("resource_link", |m, t| {
        said(
            m,
            json!({"content": [{"type": "resource_link", "uri": "mem://a", "name": t, "description": t}]}),
        )
    }),
    ("resource_blob", |m, t| {
        let blob = STANDARD.encode(format!("\u{1}\u{2}{t}\u{3}"));
        said(m, json!({"content": [{"type": "resource", "resource": {"uri": "mem://a", "blob": blob}}]}))
    }),
    ("image", |m, t| {
        let data = STANDARD.encode([b"\x89PNG\r\n\x1a\n".as_slice(), t.as_bytes(), b"tail"].concat());
        said(m, json!({"content": [{"type": "image", "mimeType": "image/png", "data": data}]}))
    }),
    ("unknown_part", |m, t| said(m, json!({"content": [{"type": "hologram", "beam": {"of": t}}]}))),
    ("meta", |m, t| said(m, json!({"content": [], "_meta": {"example.com/key": t}}))),
    ("unknown_member", |m, t| said(m, json!({"content": [], "debug": {"headers": [t]}}))),
    ("where_a_result_is_cut", |m, t| text(m, format!("{}{}", "word ".repeat(3266), t.repeat(40)))),
    ("progress", |m, t| {
        stream(
            m,
            &[notice("notifications/progress", json!({"progressToken": 1, "progress": 1, "message": t}))],
        )
    }),
    ("log_message", |m, t| {
        stream(m, &[notice("notifications/message", json!({"level": "error", "data": {"key": t}}))])
    }),
    ("event_that_is_no_message", |m, t| stream(m, &[format!("{t} is no JSON")])),
];

fn case_names() -> Vec<String> {
    let places = PLACES.iter().map(|(name, _)| (*name).to_owned());
    FORMS.iter().map(|(name, _)| format!("text_{name}")).chain(places).collect()
}

fn leak(message: &Value, case: &str, token: &str) -> Response {
    if let Some((_, form)) = FORMS.iter().find(|(name, _)| case.strip_prefix("text_") == Some(name)) {
        return text(message, format!("The key is {} as you know.", form(token)));
    }
    let (_, leak) = PLACES.iter().find(|(name, _)| *name == case).unwrap();
    leak(message, token)
}

/// A server that gives away what it is shown, in its introduction and its list as well.
async fn leaking() -> Guarded {
    Guarded::start(|message, token| {
        let tools: Vec<Value> = case_names()
            .iter()
            .map(|name| {
                json!({"name": name, "title": format!("Leaks {token}"), "description": folded(token, 5, " "),
                    "inputSchema": {"type": "object", "properties": {"k": {"type": "string", "default": token}}},
                    "annotations": {"title": STANDARD.encode(token)}})
            })
            .collect();
        if message["method"] == "initialize" {
            return said(message, json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": token, "version": token}, "instructions": format!("Say {token}")}));
        }
        serve(message, &Value::Array(tools), |name| leak(message, name, token))
    })
    .await
}

/// A server in shell that gives away its environment and its arguments, on stdout and stderr, and then dies.
const CHILD: &str = r#"#!/bin/sh
long=$(printf '%8170s' x)
echo "started with $1 and $KEY" >&2
echo "$long$KEY$KEY" >&2
echo "no message: $KEY"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9][0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) result='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"'"$KEY"'","version":"1"}}' ;;
    *'"tools/list"'*) result='{"tools":[{"name":"tells","description":"'"$1"'","inputSchema":{"type":"object"}},{"name":"dies","inputSchema":{"type":"object"}}]}' ;;
    *'"tells"'*) result='{"content":[{"type":"text","text":"'"$1 $KEY"'"}]}' ;;
    *'"dies"'*) echo "panicked with $KEY $1" >&2; exit 101 ;;
    *) result='{}' ;;
  esac
  [ -n "$id" ] && printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

struct Site {
    stage: Stage,
    api: awooop_journeys::client::Api,
    client: awooop_journeys::client::Api,
    _upstream: Guarded,
    _brain: Scripted,
    _place: tempfile::TempDir,
}

async fn site() -> Site {
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let place = tempfile::Builder::new().prefix("awooop-leaks-").permissions(open).tempdir().unwrap();
    let root = place.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("secrets").join(PROJECT)).unwrap();
    let files =
        [("token", SECRET), ("child", OF_CHILD), ("argument", IN_ARGUMENT), ("client", CLIENT_SECRET)];
    for (name, value) in files {
        std::fs::write(root.join("secrets").join(PROJECT).join(name), value).unwrap();
    }
    let child = program(&root, "child.sh", CHILD);
    let upstream = leaking().await;
    upstream.issue_for(CLIENT_SECRET);
    let names = case_names();
    let mut granted: Vec<String> = names.iter().map(|name| format!("leaks__{name}")).collect();
    granted.extend(OTHERS.map(str::to_owned));
    let asked = granted.clone();
    let brain = Scripted::start(move |request| {
        let part = (0..).find(|n| request["messages"].to_string().contains(&format!("part {n}!"))).unwrap();
        let names: Vec<(&str, &str)> =
            asked.chunks(IN_ONE_RUN).nth(part).unwrap().iter().map(|name| (name.as_str(), "{}")).collect();
        Say::Json(if given(request) == 0 { calls(&names) } else { says(r#"{"answer": "done"}"#) })
    })
    .await;
    let list = format!(
        "secrets = \"{}/secrets\"\nallow_same_uid_children = true\nprivate_addresses = [\"127.0.0.1\"]\n\
         [projects.{PROJECT}]\nuid = 200031\nallow_credential_arguments = true\ncommands = {{ tells = \"{child}\" }}\n",
        root.display()
    );
    let noise = "trace,rmcp::service=trace,rmcp::transport=trace,hyper::proto=trace,reqwest::connect=trace";
    let stage = Stage::start(&[("AWOOOP_LOG", noise)], Some(&list)).await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stdio = json!({"type": "mcp", "transport": "stdio", "command": "tells",
        "args": ["--token={credential.token}"], "credentials": {"token": "file://argument"},
        "env": {"KEY": "file://child"},
        "tools": [{"name": "tells", "risk": "read_only"}, {"name": "dies", "risk": "read_only"}]});
    let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
    let mut manifests = base(PROJECT);
    manifests.extend([
        manifest("provider", PROJECT, "leaks", upstream.spec(&names, &bearer("file://token"))),
        manifest(
            "provider",
            PROJECT,
            "oauth",
            upstream.spec(&["text_plain"], &upstream.oauth("file://client")),
        ),
        manifest("provider", PROJECT, "child", stdio),
        manifest("provider", PROJECT, "brain", brain.model_spec(&["m"])),
        agent(PROJECT, "tester", "brain/m", &granted, json!({})),
    ]);
    let api = stage.apply(PROJECT, &manifests).await;
    let client = agent_client(&api, "tester").await;
    Site { stage, api, client, _upstream: upstream, _brain: brain, _place: place }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_no_answer_of_a_tool_server_shows_its_credential_in_any_place_or_form() {
    let site = site().await;
    let mut answers: Vec<(String, String)> = Vec::new();
    let listed = ask_mcp(&site.client, "tools/list", json!({})).await.text;
    assert!(listed.contains("leaks__text_plain") && listed.contains("[SECRET]"), "{listed}");
    answers.push(("tools/list".to_owned(), listed));
    for case in case_names() {
        let answer = ask_mcp(&site.client, "tools/call", json!({"name": format!("leaks__{case}")})).await;
        if case.starts_with("text_") {
            let text = answer.json()["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned();
            assert!(
                text.starts_with("The key is ") && text.ends_with(" as you know."),
                "{case}: {}",
                answer.text
            );
            assert!(text.contains("[SECRET]"), "{case}: {text}");
        }
        answers.push((case, answer.text));
    }
    for case in ["progress", "log_message", "text_plain"] {
        let listening = json!({"name": format!("leaks__{case}"), "_meta": {"progressToken": "heard"}});
        let answer = ask_mcp(&site.client, "tools/call", listening).await;
        answers.push((format!("{case}, listened to"), answer.text));
    }
    for name in ["child__tells", "oauth__text_plain", "child__dies", "child__tells"] {
        let answer = ask_mcp(&site.client, "tools/call", json!({ "name": name })).await;
        let is_masked = name == "child__dies" || answer.text.contains("[SECRET]");
        assert!(is_masked, "{name}: {}", answer.text);
        answers.push((name.to_owned(), answer.text));
    }

    // the same in a run, and everything that shows a run or a tool to people
    let mut run_id = String::new();
    let mut paths = Vec::new();
    for part in 0..(case_names().len() + OTHERS.len()).div_ceil(IN_ONE_RUN) {
        run_id = site.api.create_run("tester", &json!(format!("part {part}!"))).await.unwrap();
        let ended = site.api.wait_for_end(&run_id, crate::scripted::PATIENCE).await.unwrap();
        assert_eq!(ended["run"]["state"], "completed", "{ended}");
        paths.extend(["", "/steps", "/events"].map(|of| format!("/v1/platform/runs/{run_id}{of}")));
    }
    paths.extend([
        "/v1/platform/tools?agent=tester".to_owned(),
        "/v1/platform/tools".to_owned(),
        "/v1/platform/approvals".to_owned(),
        "/v1/platform/contracts".to_owned(),
        "/v1/platform/audit?limit=200".to_owned(),
        "/metrics".to_owned(),
    ]);
    for path in paths {
        let answer = site.api.get(&path).await.unwrap();
        answers.push((path, answer.text));
    }
    let export = site.stage.home.path().join("export");
    let export = export.to_str().unwrap().to_owned();
    for command in [
        vec!["tools", "list", "--project", PROJECT],
        vec!["tools", "why", "tester", "child__tells", "--project", PROJECT],
        vec!["tools", "why", "tester", "leaks__redirect", "--project", PROJECT],
        vec!["runs", "get", &run_id, "--project", PROJECT, "--json"],
        vec!["project", "export", PROJECT, "--to", &export],
        vec!["doctor"],
    ] {
        let output = site.stage.home.cli(&command).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        answers.push((command.join(" "), String::from_utf8_lossy(&said).into_owned()));
    }
    for file in crate::tidy::files(std::path::Path::new(&export), "") {
        let text = std::fs::read(&file).unwrap();
        answers.push((file.display().to_string(), String::from_utf8_lossy(&text).into_owned()));
    }
    let log = site.stage.home.log();
    assert!(
        log.contains("started with [SECRET]") || log.contains("started with --token=[SECRET]"),
        "stderr is logged"
    );
    assert!(log.contains("panicked with"), "what a child says when it dies is logged");
    let secrets = [SECRET, OF_CHILD, IN_ARGUMENT, CLIENT_SECRET, "issued-0-"];
    assert_nowhere(&site.stage, &secrets, &answers).await;
    site.stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_credentials_in_arguments_are_the_operators_to_allow() {
    let list = format!(
        "allow_same_uid_children = true\n[projects.{PROJECT}]\nuid = 200032\nenv = [\"PATH\"]\n\
        commands = {{ tells = \"/bin/true\" }}\n"
    );
    let stage = Stage::start(&[], Some(&list)).await;
    let api = stage.apply(PROJECT, &base(PROJECT)).await;
    let spec = json!({"type": "mcp", "transport": "stdio", "command": "tells", "tools": [],
        "args": ["--token={credential.token}"], "credentials": {"token": "env://PATH"}});
    let body = json!({"manifests": [manifest("provider", PROJECT, "child", spec)]});
    let refused = api.post("/v1/platform/contracts", &body).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (422, "E-CONTRACT-001"));
    assert!(refused.text.contains("allows no credentials in arguments"), "{}", refused.text);
}
