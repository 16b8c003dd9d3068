//! The command line against a scripted server: exit codes, one document on stdout, what is sent.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, Request};

const RUN: &str = "01900000-0000-7000-8000-000000000001";
const KEY: &str = "awp_shop_Id0123456789_0123456789012345678901234567890123456789abc";

/// The binary with nothing of this machine around it.
fn awooop(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_awooop"));
    command.args(args).env_clear().env("HOME", "/nonexistent").env("XDG_DATA_HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn against(fake: &Fake, args: &[&str]) -> Output {
    awooop(args).env("AWOOOP_URL", fake.url()).env("AWOOOP_KEY", KEY).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", stderr(output)))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Stdout as exactly one JSON document.
fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {} / {}", stdout(output), stderr(output)))
}

fn run_document(state: &str) -> Value {
    let output = if state == "completed" { json!({"answer": "42 orders"}) } else { Value::Null };
    json!({
        "run": {"run_id": RUN, "project_id": "shop", "agent_id": "clerk", "state": state},
        "mode": "shadow", "attempt": 1, "output": output, "error": null,
    })
}

fn created() -> Answer {
    Answer::Json(202, json!({"run": run_document("pending")["run"]}))
}

fn step(n: u64) -> Value {
    json!({"n": n, "epoch": 1, "kind": "tool", "tool": "shop__count", "status": "ok", "code": null,
           "duration_ms": 7, "gates": [{"gate": "identity", "verdict": "pass", "code": null}]})
}

fn steps() -> Answer {
    Answer::Json(200, json!({"items": [step(1)], "next_cursor": null}))
}

fn problem(status: u16, code: &str) -> Answer {
    let body = json!({"type": format!("/errors/{code}"), "title": "No", "status": status,
                      "detail": "because", "code": code});
    Answer::Problem(status, body)
}

/// Answers creation, one waiting read that ends so, and the steps.
fn ends_as(state: &'static str) -> Fake {
    Fake::start(move |request, _| match request.line().as_str() {
        "POST /v1/platform/runs" => created(),
        line if line == format!("GET /v1/platform/runs/{RUN}") => Answer::Json(200, run_document(state)),
        line if line == format!("GET /v1/platform/runs/{RUN}/steps?limit=200") => steps(),
        _ => Answer::Unexpected,
    })
}

#[test]
fn a_run_prints_one_document_with_its_steps_and_sends_what_was_said() {
    let fake = ends_as("completed");
    let args = ["run", "clerk", "how many?", "--project", "shop", "--mode", "shadow", "--json"];
    let output = against(&fake, &args);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let mut expected = run_document("completed");
    expected["steps"] = json!([step(1)]);
    assert_eq!(document(&output), expected);
    assert_eq!(stderr(&output), "");

    let sent = &fake.requests()[0];
    assert_eq!(sent.body, json!({"agent_id": "clerk", "input": "how many?", "mode": "shadow"}));
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(sent.header("x-awooop-project"), Some("shop"));
    assert!(sent.header("idempotency-key").is_some_and(|k| k.len() > 20));
    assert_eq!(fake.requests()[1].header("prefer"), Some("wait=30"));
}

#[test]
fn a_person_gets_the_answer_first_and_a_line_for_each_step() {
    let fake = ends_as("completed");
    let output = against(&fake, &["run", "clerk", "how many?"]);
    let text = stdout(&output);
    assert!(text.starts_with("42 orders\n\n"), "{text}");
    assert!(text.contains("tool shop__count  ok      1 passed  7"), "{text}");
    assert!(text.trim_end().ends_with("completed  mode shadow  attempt 1"), "{text}");
}

#[test]
fn every_call_has_its_own_idempotency_key_unless_one_is_given() {
    let fake = ends_as("completed");
    for args in [
        &["run", "clerk", "a"][..],
        &["run", "clerk", "a"],
        &["run", "clerk", "a", "--idempotency-key", "mine"],
    ] {
        assert_eq!(code(&against(&fake, args)), 0);
    }
    let requests = fake.requests();
    let keys: Vec<&str> = requests
        .iter()
        .filter(|r| r.method == "POST")
        .map(|r| r.header("idempotency-key").unwrap())
        .collect();
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[2], "mine");
}

#[test]
fn a_run_that_does_not_complete_has_its_exit_code_and_its_document() {
    let cases = [("failed", "E-RUN-013", 1), ("failed", "E-BUDGET-001", 3), ("timeout", "E-RUN-011", 1)];
    for (state, error, exit) in cases {
        let fake = Fake::start(move |request, _| {
            match (request.method.as_str(), request.target.ends_with("?limit=200")) {
                ("POST", _) => created(),
                (_, true) => steps(),
                _ => {
                    let mut document = run_document(state);
                    document["error"] = json!({"code": error, "message": "it broke"});
                    Answer::Json(200, document)
                }
            }
        });
        let output = against(&fake, &["run", "clerk", "a", "--json"]);
        assert_eq!(code(&output), exit, "{error}");
        assert_eq!(document(&output)["error"]["code"], error);
        assert!(stderr(&output).contains(&format!("error: it broke ({error})")), "{}", stderr(&output));
    }
    let cancelled = against(&ends_as("cancelled"), &["run", "clerk", "a"]);
    assert_eq!(code(&cancelled), 1);
}

#[test]
fn a_refusal_has_the_exit_code_of_its_status_and_stays_one_document() {
    for (status, error, exit) in [
        (401, "E-AUTH-001", 3),
        (402, "E-BUDGET-001", 3),
        (403, "E-AUTH-003", 3),
        (429, "E-BUDGET-002", 3),
        (400, "E-REQ-001", 2),
        (413, "E-REQ-002", 2),
        (422, "E-RUN-002", 2),
        (404, "E-REQ-004", 1),
        (409, "E-RUN-001", 1),
        (503, "E-STORE-001", 1),
    ] {
        let fake = Fake::start(move |_, _| problem(status, error));
        let output = against(&fake, &["run", "clerk", "a", "--json"]);
        assert_eq!(code(&output), exit, "{error}");
        assert_eq!(document(&output)["error"]["code"], error);
        let hint = format!("error: because ({error})\nsee {}/errors/{error}\n", fake.url());
        assert_eq!(stderr(&output), hint);
        let output = against(&fake, &["runs", "list"]);
        assert_eq!((code(&output), stdout(&output).as_str()), (exit, ""));
    }
}

#[test]
fn an_answer_that_is_no_problem_document_is_still_an_error() {
    for raw in [
        "HTTP/1.1 500 X\r\ncontent-length: 4\r\nconnection: close\r\n\r\noops",
        "HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\noops",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
    ] {
        let fake = Fake::start(move |_, _| Answer::Raw(raw));
        let output = against(&fake, &["runs", "list", "--json"]);
        assert_eq!(code(&output), 1, "{raw}");
        assert!(document(&output)["error"]["detail"].is_string());
        assert_eq!(fake.requests().len(), 1, "no redirect is followed");
    }
}

#[test]
fn wrong_usage_is_2_and_sends_nothing() {
    let fake = Fake::start(|_, _| Answer::Unexpected);
    for args in [
        &["nonsense"][..],
        &["run", "clerk"],
        &["run", "clerk", "a", "--mode", "loud"],
        &["run", "clerk", "a", "--watch", "--detach"],
        &["run", "clerk", "a", "--timeout-ms", "5"],
        &["run", "clerk", "a", "--input-json", "{}"],
        &["run", "clerk", "--input-json", "{nonsense"],
        &["run", "clerk", "a", "--project", "Not/A/Project"],
        &["run", "clerk", "a", "--idempotency-key", "a\nb"],
        &["runs", "get", "../keys"],
        &["runs", "list", "--limit", "0"],
        &["key", "create", "ci", "--expires-in", "soon"],
        &["key", "create", "ci", "--agent", "a", "--role", "admin"],
        &["key", "revoke", KEY],
        &["mcp", "config", "--client", "cursor", "--agent", "a", "--key", "nonsense"],
        &["apply", "-f", "/nonexistent/file.yaml"],
    ] {
        let output = against(&fake, args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
        assert!(stderr(&output).contains("error: "), "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains(KEY), "{args:?}");
        let output = against(&fake, &[args, &["--json"]].concat());
        assert_eq!(code(&output), 2, "{args:?}");
        assert!(document(&output)["error"]["detail"].is_string(), "{args:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_4_at_once() {
    let url = {
        let fake = Fake::start(|_, _| Answer::Unexpected);
        fake.url()
    };
    for args in [&["run", "clerk", "a", "--json"][..], &["runs", "list", "--json"]] {
        let output = awooop(args).env("AWOOOP_URL", &url).env("AWOOOP_KEY", KEY).output().unwrap();
        assert_eq!(code(&output), 4);
        assert!(stderr(&output).contains("cannot reach"), "{}", stderr(&output));
        assert_eq!(document(&output)["error"]["title"], "The server cannot be reached");
    }
}

#[test]
fn without_a_key_nothing_is_sent_and_the_way_to_one_is_said() {
    let fake = Fake::start(|_, _| Answer::Unexpected);
    let dir = tempfile::tempdir().unwrap();
    let args = ["runs", "list", "--url", &fake.url(), "--data-dir", dir.path().to_str().unwrap()];
    let output = awooop(&args).output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("AWOOOP_KEY"), "{}", stderr(&output));
}

#[test]
fn address_and_key_come_from_dev_env() {
    let fake = Fake::start(|_, _| Answer::Json(200, json!({"items": [], "next_cursor": null})));
    let dir = tempfile::tempdir().unwrap();
    let text = format!("AWOOOP_URL={}\nAWOOOP_KEY={KEY}\n", fake.url());
    std::fs::write(dir.path().join("dev.env"), text).unwrap();
    let output = awooop(&["runs", "list", "--data-dir", dir.path().to_str().unwrap()]).output().unwrap();
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "no runs\n"));
    assert_eq!(fake.requests()[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
}

#[test]
fn input_comes_from_the_command_line_as_json_or_from_stdin() {
    let fake = Fake::start(|_, _| created());
    let from_stdin = |args: &[&str], text: &[u8]| {
        let mut command = awooop(args);
        command.env("AWOOOP_URL", fake.url()).env("AWOOOP_KEY", KEY).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text).unwrap();
        let output = child.wait_with_output().unwrap();
        (code(&output), stdout(&output), fake.requests().last().map(|r| r.body["input"].clone()))
    };
    let id = format!("{RUN}\n");
    let detached = |input: Value| (0, id.clone(), Some(input));
    let run = ["run", "clerk", "--detach"];
    assert_eq!(
        from_stdin(&[&run[..], &["-"]].concat(), "多少?\nzwei\n".as_bytes()),
        detached(json!("多少?\nzwei"))
    );
    assert_eq!(
        from_stdin(&[&run[..], &["--input-json", "-"]].concat(), b"{\"a\": [1]}"),
        detached(json!({"a": [1]}))
    );
    assert_eq!(from_stdin(&[&run[..], &["--input-json", "null"]].concat(), b""), detached(Value::Null));
    assert_eq!(from_stdin(&[&run[..], &["--", "-5 degrees"]].concat(), b""), detached(json!("-5 degrees")));
    assert_eq!(from_stdin(&[&run[..], &["-"]].concat(), b"\xff\xfe").0, 2);
}

#[test]
fn a_creation_whose_answer_was_lost_is_sent_again_under_the_same_key() {
    let fake = Fake::start(|request, before| match (request.method.as_str(), before) {
        ("POST", 0 | 1) => Answer::Nothing,
        ("POST", 2) => problem(503, "E-STORE-001"),
        ("POST", 3) => created(),
        _ => Answer::Unexpected,
    });
    let output = against(&fake, &["run", "clerk", "a", "--detach"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let requests = fake.requests();
    let key = |r: &Request| r.header("idempotency-key").map(str::to_owned);
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|r| key(r) == key(&requests[0]) && r.body == requests[0].body));
}

#[test]
fn a_server_that_goes_away_while_a_run_is_waited_for_is_waited_for_too() {
    let fake = Fake::start(|request, before| match (request.method.as_str(), before) {
        ("POST", 0) => created(),
        (_, 1) => Answer::Json(200, run_document("running")),
        (_, 2) => Answer::Nothing,
        (_, 3) => problem(503, "E-STORE-001"),
        (_, 4) => Answer::Raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"run\":"),
        (_, 5) => Answer::Json(200, run_document("completed")),
        (_, 6) => Answer::Nothing,
        (_, 7) => steps(),
        _ => Answer::Unexpected,
    });
    let output = against(&fake, &["run", "clerk", "a", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(document(&output)["run"]["state"], "completed");
    assert_eq!(stderr(&output).matches("trying again").count(), 2, "{}", stderr(&output));
}

#[test]
fn a_server_that_is_started_anew_on_its_address_is_found_again() {
    let first = Fake::start(|request, before| match (request.method.as_str(), before) {
        ("POST", 0) => created(),
        _ => Answer::Nothing,
    });
    let addr = first.addr;
    let mut command = awooop(&["run", "clerk", "a", "--json"]);
    let child = command.env("AWOOOP_URL", first.url()).env("AWOOOP_KEY", KEY).spawn().unwrap();
    while first.requests().len() < 2 {
        std::thread::yield_now();
    }
    drop(first);
    let second = Fake::start_on(addr, |request, _| match request.target.ends_with("?limit=200") {
        true => steps(),
        false => Answer::Json(200, run_document("completed")),
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(second.requests().len(), 2);
}

#[test]
fn a_refusal_while_waiting_ends_the_waiting() {
    let fake = Fake::start(|request, _| match request.method.as_str() {
        "POST" => created(),
        _ => problem(401, "E-AUTH-001"),
    });
    assert_eq!(code(&against(&fake, &["run", "clerk", "a"])), 3);
    assert_eq!(code(&against(&fake, &["run", "clerk", "a", "--watch"])), 3);
}

fn event(id: &str, name: &str, data: &Value) -> String {
    format!("id: {id}\nevent: {name}\ndata: {data}\n\n")
}

#[test]
fn watching_goes_on_after_the_last_event_when_the_stream_breaks() {
    let fake = Fake::start(|request, before| match before {
        0 => Answer::Events(
            event("1.0", "state", &run_document("running"))
                + ": comment\n\n"
                + &event("1.1", "step", &step(1))
                + "id: 1.2\nevent: step\ndata: {\"cut\":",
        ),
        1 => Answer::Nothing,
        2 if request.header("last-event-id") == Some("1.1") => Answer::Events(
            event("1.1", "step", &step(1))
                + &event("1.2", "step", &step(2))
                + &event("1.3", "later", &json!("what only a newer server says"))
                + &event("1.4", "end", &run_document("completed")),
        ),
        3 => Answer::Json(200, json!({"items": [step(1)], "next_cursor": "more"})),
        4 if request.target.ends_with("/steps?limit=200&cursor=more") => {
            Answer::Json(200, json!({"items": [step(2)], "next_cursor": null}))
        }
        _ => Answer::Unexpected,
    });
    let output = against(&fake, &["runs", "watch", RUN, "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(document(&output)["steps"], json!([step(1), step(2)]));
    let text = stderr(&output);
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("state") || l.starts_with("step")).collect();
    let shown = "tool shop__count  ok  7 ms  gates 1 passed";
    let expected =
        ["state running", &format!("step 1  {shown}"), &format!("step 2  {shown}"), "state completed"];
    assert_eq!(lines, expected, "{text}");
    assert_eq!(fake.requests()[0].header("last-event-id"), None);
    assert_eq!(fake.lines()[0], format!("GET /v1/platform/runs/{RUN}/events"));
}

#[test]
fn an_event_that_is_no_json_is_an_error_and_not_a_loop() {
    let fake = Fake::start(|_, _| Answer::Events("event: end\ndata: {nonsense\n\n".to_owned()));
    assert_eq!(code(&against(&fake, &["runs", "watch", RUN])), 1);
    assert_eq!(fake.requests().len(), 1);
}

#[test]
fn ctrl_c_leaves_the_run_alone_and_says_how_to_go_on() {
    for args in [&["run", "clerk", "a", "--json"][..], &["run", "clerk", "a", "--watch", "--json"]] {
        let fake = Fake::start(|request, _| match request.method.as_str() {
            "POST" => created(),
            _ => Answer::Silence,
        });
        let mut command = awooop(args);
        let child = command.env("AWOOOP_URL", fake.url()).env("AWOOOP_KEY", KEY).spawn().unwrap();
        while fake.requests().len() < 2 {
            std::thread::yield_now();
        }
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 130);
        assert_eq!(document(&output)["error"]["run_id"], RUN);
        assert!(stderr(&output).contains(&format!("awooop runs cancel {RUN}")), "{}", stderr(&output));
        assert!(!fake.lines().iter().any(|l| l.contains("cancel")));
    }
}

#[test]
fn runs_are_listed_looked_at_and_cancelled() {
    let fake = Fake::start(|request, _| match request.line().as_str() {
        "GET /v1/platform/runs?limit=5&state=failed&agent_id=a%26b&cursor=c%2B" => {
            let item = json!({"run": run_document("failed")["run"], "mode": "shadow", "attempt": 2});
            Answer::Json(200, json!({"items": [item], "next_cursor": "next"}))
        }
        line if line == format!("GET /v1/platform/runs/{RUN}") => Answer::Json(200, run_document("failed")),
        line if line.starts_with(&format!("GET /v1/platform/runs/{RUN}/steps")) => steps(),
        line if line == format!("POST /v1/platform/runs/{RUN}/cancel") => {
            Answer::Json(200, run_document("cancelled"))
        }
        _ => Answer::Unexpected,
    });
    let list = ["runs", "list", "--state", "failed", "--agent", "a&b", "--limit", "5", "--cursor", "c+"];
    let output = against(&fake, &list);
    assert!(stdout(&output).contains(&format!("{RUN}  clerk  failed  shadow  2")), "{}", stdout(&output));
    assert_eq!(stderr(&output), "more: --cursor next\n");
    assert_eq!(document(&against(&fake, &[&list[..], &["--json"]].concat()))["next_cursor"], "next");

    let output = against(&fake, &["runs", "get", RUN, "--json"]);
    assert_eq!(code(&output), 0, "looking at a failed run does not fail");
    assert_eq!(document(&output)["steps"], json!([step(1)]));

    let output = against(&fake, &["runs", "cancel", RUN]);
    assert_eq!((code(&output), stdout(&output)), (0, format!("run {RUN} is cancelled\n")));
}

fn made_key(agent: Option<&str>) -> Value {
    json!({"key": KEY, "key_id": "Id0123456789", "project_id": "shop", "name": "ci", "agent_id": agent,
           "role": if agent.is_some() { "agent" } else { "operator" }, "expires_at": null, "revoked_at": null})
}

#[test]
fn a_new_key_stands_alone_on_stdout() {
    let fake = Fake::start(|_, _| Answer::Json(201, made_key(None)));
    let args = ["key", "create", "ci", "--role", "operator", "--expires-in", "30d"];
    let output = against(&fake, &args);
    assert_eq!((code(&output), stdout(&output)), (0, format!("{KEY}\n")));
    assert!(!stderr(&output).contains(KEY));
    assert_eq!(document(&against(&fake, &["key", "create", "ci", "--json"])), made_key(None));
    against(&fake, &["key", "create", "ci", "--agent", "clerk"]);
    let bodies: Vec<Value> = fake.requests().iter().map(|r| r.body.clone()).collect();
    let expected = [
        json!({"name": "ci", "role": "operator", "expires_in_s": 2_592_000}),
        json!({"name": "ci", "role": "viewer"}),
        json!({"name": "ci", "agent_id": "clerk"}),
    ];
    assert_eq!(bodies, expected);
}

#[test]
fn keys_and_tools_are_listed_and_a_key_is_revoked() {
    let fake = Fake::start(|request, _| match request.line().as_str() {
        "GET /v1/platform/keys?limit=200" => Answer::Json(200, json!({"items": [], "next_cursor": null})),
        "POST /v1/platform/keys/Id%2F..%2F01/revoke" => Answer::Json(200, made_key(None)),
        "GET /v1/platform/tools?agent_id=clerk&limit=200" => Answer::Json(
            200,
            json!({"items": [{"name": "shop__x", "risk": "read_only", "status": "drifted",
                "pinned_by": "contract", "reason": "the \u{1b}[31mdefinition changed",
                "granted_to": ["clerk"]}], "next_cursor": null}),
        ),
        _ => Answer::Unexpected,
    });
    assert_eq!(stdout(&against(&fake, &["key", "list"])), "no keys\n");
    assert_eq!(code(&against(&fake, &["key", "revoke", "Id/../01"])), 0);
    let tools = stdout(&against(&fake, &["tools", "list", "--agent", "clerk"]));
    assert!(
        tools.contains("shop__x  read_only  drifted  contract   clerk       the [31mdefinition changed"),
        "{tools}"
    );
}

#[test]
fn mcp_settings_hold_a_new_key_of_the_agent_or_the_one_given() {
    let fake = Fake::start(|request, _| {
        assert_eq!(request.body, json!({"name": "claude-code-clerk", "agent_id": "clerk"}));
        Answer::Json(201, made_key(Some("clerk")))
    });
    let config = ["mcp", "config", "--agent", "clerk", "--client"];
    let output = against(&fake, &[&config[..], &["claude-code"]].concat());
    let expected = format!(
        "claude mcp add --transport http awooop {}/mcp --header \"Authorization: Bearer {KEY}\"\n",
        fake.url()
    );
    assert_eq!((code(&output), stdout(&output)), (0, expected));
    assert_eq!(fake.requests().len(), 1);

    let output = against(&fake, &[&config[..], &["cursor", "--key", KEY]].concat());
    let server = &document(&output)["mcpServers"]["awooop"];
    assert_eq!(server["url"], format!("{}/mcp", fake.url()));
    assert_eq!(server["headers"]["Authorization"], format!("Bearer {KEY}"));
    assert_eq!(fake.requests().len(), 1, "a given key asks no server");
}

#[test]
fn completions_and_help_need_no_server_and_go_to_stdout() {
    for shell in ["bash", "zsh", "fish"] {
        let output = awooop(&["completions", shell]).output().unwrap();
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("awooop"));
    }
    let output = awooop(&["--help"]).output().unwrap();
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    let output = awooop(&["run", "--help"]).env("AWOOOP_KEY", KEY).output().unwrap();
    assert!(!stdout(&output).contains(KEY), "help shows no key");
    assert_eq!(code(&awooop(&[]).output().unwrap()), 2);
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

fn manifest(kind: &str, project: &str, id: &str) -> String {
    format!("kind: {kind}\nproject: {project}\nid: {id}\nspec: {{}}\n")
}

/// Takes every manifest and says that it was created.
fn taker() -> Fake {
    Fake::start(|request, _| {
        assert_eq!(request.line(), "POST /v1/platform/contracts");
        let manifests = request.body["manifests"].as_array().unwrap();
        let items: Vec<Value> = manifests
            .iter()
            .map(|m| json!({"kind": m["kind"], "id": m["id"], "version": 1, "sha256": "0", "change": "created"}))
            .collect();
        let project = request.header("x-awooop-project").unwrap();
        Answer::Json(200, json!({"project_id": project, "items": items, "is_changed": true}))
    })
}

#[test]
fn a_directory_is_applied_project_by_project_and_what_is_no_manifest_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "b.yaml",
        &format!("---\n{}---\n{}---\n", manifest("agent", "shop", "clerk"), manifest("agent", "other", "x")),
    );
    write(dir.path(), "a.yml", &manifest("project", "shop", "shop"));
    write(
        dir.path(),
        "c.json",
        r#"{"kind": "provider", "project": "shop", "id": "offline", "spec": {"n": 1.5}}"#,
    );
    write(dir.path(), "questions.yaml", "- how many?\n- how much?\n");
    write(dir.path(), "notes.txt", "kind: [");
    std::fs::create_dir(dir.path().join("deeper.yaml")).unwrap();
    let fake = taker();
    let output = against(&fake, &["apply", "-f", dir.path().to_str().unwrap(), "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("questions.yaml: it has no `kind`"), "{}", stderr(&output));
    let result = document(&output);
    assert_eq!(result["is_changed"], true);
    assert_eq!(result["items"].as_array().unwrap().len(), 4);
    assert_eq!(result["items"][3]["project_id"], "other");
    let sent: Vec<(Option<String>, usize)> = fake
        .requests()
        .iter()
        .map(|r| {
            (r.header("x-awooop-project").map(str::to_owned), r.body["manifests"].as_array().unwrap().len())
        })
        .collect();
    assert_eq!(sent, [(Some("shop".to_owned()), 3), (Some("other".to_owned()), 1)]);
}

#[test]
fn files_that_cannot_be_meant_are_refused_before_anything_is_sent() {
    let fake = Fake::start(|_, _| Answer::Unexpected);
    let check = |files: &[(&str, &str)], arguments: &[&str], expected: &str| {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            write(dir.path(), name, text);
        }
        let output = against(&fake, &[&["apply", "-f", dir.path().to_str().unwrap()], arguments].concat());
        assert_eq!(code(&output), 2, "{files:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{files:?}: {}", stderr(&output));
    };
    let agent = manifest("agent", "shop", "clerk");
    check(&[], &[], "no manifest in");
    check(&[("a.yaml", "- just a list\n"), ("b.yaml", "# nothing\n")], &[], "no manifest in");
    check(&[("a.yaml", &agent), ("b.yaml", "kind: agent\nkind: agent\n")], &[], "b.yaml:2:");
    check(&[("a.yaml", &agent), ("b.json", "{\"kind\": \"agent\",\n}")], &[], "b.json:2:1: ");
    check(&[("a.yaml", &agent), ("b.yaml", &agent)], &[], "b.yaml:3: /id: agent `clerk` is also in");
    check(&[("a.yaml", &manifest("agent", "../shop", "clerk"))], &[], "a.yaml:2: /project: ");
    check(
        &[("a.yaml", &agent)],
        &["--project", "other"],
        "a.yaml:2: /project: is of project `shop`, not of `other`",
    );
}

#[test]
fn a_violation_names_its_file_and_what_came_before_is_said() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.yaml", &manifest("project", "first", "first"));
    let two = format!("{}---\n{}", manifest("agent", "shop", "good"), manifest("agent", "shop", "bad"));
    write(dir.path(), "b.yaml", &two);
    write(dir.path(), "c.yaml", &manifest("project", "last", "last"));
    let fake = Fake::start(|request, before| match before {
        0 => Answer::Json(
            200,
            json!({"project_id": "first", "is_changed": true, "items":
            [{"kind": "project", "id": "first", "version": 1, "sha256": "0", "change": "created"}]}),
        ),
        1 => {
            assert_eq!(request.header("x-awooop-project"), Some("shop"));
            let errors = json!([
                {"path": "/manifests/1/spec/model", "keyword": "type", "message": "must be a string"},
                {"path": "/manifests/7/spec", "keyword": "x", "message": "not one of ours"}]);
            Answer::Problem(
                422,
                json!({"title": "The manifest is not valid", "detail": "2 violations",
                "status": 422, "code": "E-CONTRACT-001", "errors": errors}),
            )
        }
        _ => Answer::Unexpected,
    });
    let output = against(&fake, &["apply", "-f", dir.path().to_str().unwrap(), "--json"]);
    assert_eq!(code(&output), 2);
    let text = stderr(&output);
    assert!(text.contains("b.yaml:9: /spec/model: must be a string"), "{text}");
    assert!(text.contains("/manifests/7/spec: not one of ours"), "{text}");
    assert!(text.contains("applied before this failed:"), "{text}");
    assert!(text.contains("error: The manifest is not valid (E-CONTRACT-001)"), "{text}");
    let error = &document(&output)["error"]["errors"][0];
    assert_eq!(error["path"], "/spec/model");
    assert!(error["file"].as_str().unwrap().ends_with("b.yaml"), "{error}");
    assert_eq!((&error["line"], &error["document"]), (&json!(9), &json!(2)), "{error}");
}

#[test]
fn manifests_come_from_standard_input_with_the_variables_they_declare() {
    let fake = taker();
    let declared = "kind: agent\nproject: shop\nid: clerk\nenv: {SHOP_URL: null, MORE: m}\nspec: {a: '${SHOP_URL}/${MORE}'}\n";
    let apply = |input: &str, variable: &str, arguments: &[&str]| {
        let mut command = awooop(&[&["apply", "-f", "-", "--json"], arguments].concat());
        command.env("AWOOOP_URL", fake.url()).env("AWOOOP_KEY", KEY).env("SHOP_URL", variable);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = apply(declared, "http://h", &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let sent = fake.requests()[0].body["manifests"][0].clone();
    assert_eq!(sent, json!({"kind": "agent", "project": "shop", "id": "clerk", "spec": {"a": "http://h/m"}}));
    let output = apply("{\"kind\": \"agent\", \"project\": \"shop\", \"id\": \"json\"}", "", &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    let output = apply(declared, "", &[]);
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).contains("stdin:4: /env/SHOP_URL: the variable SHOP_URL is not set"),
        "{}",
        stderr(&output)
    );
    let error = &document(&output)["error"]["errors"][0];
    let expected = json!(["stdin", 4, 1, "/env/SHOP_URL"]);
    assert_eq!(json!([error["file"], error["line"], error["document"], error["path"]]), expected);
    assert!(stderr(&apply("", "", &["-f", "-"])).contains("given twice"));
    assert_eq!(fake.requests().len(), 2, "nothing else was sent");
}
