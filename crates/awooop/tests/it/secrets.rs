//! Canaries: a credential of every class is planted on every path into the server, and then every place where
//! something can come to lie is searched for each of them: answers, events, logs, rows, PostgreSQL's own files with
//! its log of changes, the data directory and what the command line prints.
//!
//! Each canary is new in every run and on one path only, so a find names the way it took. That the search finds what
//! is there is shown by a harmless marker on the same paths. Credentials lie legitimately in the answer that makes a
//! key and in `dev.env`; both are left out by name.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use awooop_journeys::client::{Answer, Api};
use rand::distr::{Alphanumeric, SampleString};
use serde_json::{Value, json};

use crate::scripted::{Say, Scripted, Stage, agent, calls, given, id_of, manifest, mcp, result, says};

const PROJECT: &str = "planted";

/// A credential on one path.
#[derive(Debug, Clone)]
struct Canary {
    path: &'static str,
    text: String,
    /// The part that must be nowhere.
    core: String,
}

fn noise(len: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), len)
}

/// A credential of the `n`-th class.
fn canary(path: &'static str, n: usize) -> Canary {
    let long = noise(96);
    let core = |len: usize| long[..len].to_owned();
    let (core, text) = match n % 14 {
        0 => (core(36), format!("ghp_{}", core(36))),
        1 => (core(20), format!("glpat-{}", core(20))),
        2 => (core(36), format!("npm_{}", core(36))),
        3 => (core(48), format!("sk-{}", core(48))),
        4 => (core(43), format!("awp_{PROJECT}_{}_{}", noise(12), core(43))),
        5 => (core(35), format!("AIza{}", core(35))),
        6 => (core(24), format!("xoxb-1234567890-{}", core(24))),
        7 => (core(24), format!("sk_live_{}", core(24))),
        8 => (core(33), format!("123456789:AA{}", core(33))),
        9 => (core(24), format!("https://hooks.slack.com/services/T00000000/B00000000/{}", core(24))),
        10 => (core(20), format!("postgres://ann:{}@db.example.com/x", core(20))),
        11 => (core(30), format!("Authorization: Bearer {}", core(30))),
        12 => (core(24), format!("password={}", core(24))),
        _ => {
            let dashes = "-----";
            let begin = format!("{dashes}BEGIN PRIVATE KEY{dashes}");
            (core(64), format!("{begin}\n{}\n{dashes}END PRIVATE KEY{dashes}", core(64)))
        }
    };
    Canary { path, text, core }
}

/// Everything planted, by path.
struct Garden(Vec<Canary>);

impl Garden {
    fn new(paths: &[&'static str]) -> Self {
        Garden(paths.iter().enumerate().map(|(n, path)| canary(path, n)).collect())
    }

    /// What is planted on this path.
    fn at(&self, path: &str) -> String {
        let found = self.0.iter().find(|canary| canary.path == path);
        found.unwrap_or_else(|| panic!("nothing is planted at {path}")).text.clone()
    }

    /// Paths whose canary is in `text`.
    fn found_in(&self, text: &[u8]) -> Vec<&'static str> {
        self.0.iter().filter(|canary| holds(text, canary.core.as_bytes())).map(|canary| canary.path).collect()
    }
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

const PATHS: [&str; 34] = [
    "input text",
    "input nested",
    "input key",
    "input in a string of JSON",
    "triggered_by",
    "idempotency key",
    "user agent",
    "query",
    "path",
    "header",
    "body that is no JSON",
    "member of a body",
    "model answer",
    "model arguments",
    "model reasoning",
    "model error",
    "tool text",
    "tool structured",
    "tool error",
    "tool resource",
    "tool meta",
    "tool description",
    "tool protocol error",
    "child stderr",
    "client arguments",
    "client name",
    "client parameters",
    "contract",
    "contract env",
    "wrong key",
    "agent of a run",
    "operator file",
    "database url",
    "key name",
];

/// A tool server whose every part of an answer holds something.
fn tools_server(message: &Value, garden: &Garden) -> Say {
    let schema = json!({"type": "object"});
    let listed = json!([
        {"name": "leaks", "description": format!("Use {}", garden.at("tool description")), "inputSchema": schema},
        {"name": "fails", "description": "Fails", "inputSchema": schema},
        {"name": "breaks", "description": "Breaks", "inputSchema": schema},
    ]);
    mcp(message, listed, |name, _| match name {
        "leaks" => result(
            message,
            json!({
                "content": [
                    {"type": "text", "text": format!("with {} and marker-tool", garden.at("tool text"))},
                    {"type": "resource", "resource": {"uri": "file:///x", "text": garden.at("tool resource")}},
                ],
                "structuredContent": {"settings": {"value": garden.at("tool structured")}},
                "_meta": {"note": garden.at("tool meta")},
            }),
        ),
        "fails" => result(
            message,
            json!({"content": [{"type": "text", "text": garden.at("tool error")}], "isError": true}),
        ),
        _ => Say::Json(json!({"jsonrpc": "2.0", "id": message["id"], "error":
            {"code": -32000, "message": garden.at("tool protocol error")}})),
    })
}

/// A model that calls every tool with something in its arguments, then answers with something.
fn model(request: &Value, garden: &Garden) -> Say {
    if request["model"] == "broken" {
        return Say::Status(500, json!({"error": {"message": garden.at("model error")}}));
    }
    let arguments = json!({"text": garden.at("model arguments")}).to_string();
    let mut said = match given(request) {
        0 => calls(&[
            ("kit__leaks", &arguments),
            ("kit__fails", "{}"),
            ("kit__breaks", "{}"),
            ("host__say", "{}"),
        ]),
        _ => says(&json!({"answer": format!("done with {}", garden.at("model answer"))}).to_string()),
    };
    said["choices"][0]["message"]["reasoning_content"] = json!(garden.at("model reasoning"));
    Say::Json(said)
}

/// A tool server in shell that writes to stderr what it was given as its first argument's file.
const TALKER: &str = r#"#!/bin/sh
cat "$1" >&2
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9][0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) result='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"t","version":"1"}}' ;;
    *'"tools/list"'*) result='{"tools":[{"name":"say","description":"Says","inputSchema":{"type":"object"}}]}' ;;
    *'"tools/call"'*) result='{"content":[{"type":"text","text":"said"}]}' ;;
    *) result='{}' ;;
  esac
  [ -n "$id" ] && printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

/// What was answered, of every request.
#[derive(Default)]
struct Answers(Mutex<Vec<(String, String)>>);

impl Answers {
    fn keep(&self, of: impl Into<String>, text: impl Into<String>) {
        self.0.lock().unwrap().push((of.into(), text.into()));
    }

    async fn send(
        &self,
        api: &Api,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let answer = api.send(method, path, headers, body).await.unwrap();
        self.keep(format!("{method} {path}"), format!("{:?}\n{}", answer.headers, answer.text));
        answer
    }

    async fn get(&self, api: &Api, path: &str) -> Answer {
        self.send(api, "GET", path, &[], None).await
    }

    async fn post(&self, api: &Api, path: &str, body: &Value) -> Answer {
        self.send(api, "POST", path, &[], Some(body)).await
    }

    async fn mcp(&self, api: &Api, method: &str, params: Value) -> Answer {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let headers = [("Accept", "application/json, text/event-stream")];
        self.send(api, "POST", "/mcp", &headers, Some(&body)).await
    }
}

/// A program that a project may start, and the file it reads.
fn talker(directory: &Path, says: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let program = directory.join("talker.sh");
    std::fs::write(&program, TALKER).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(directory.join("words"), says).unwrap();
    program
}

fn manifests(tools: &Scripted, brain: &Scripted, words: &Path) -> Vec<Value> {
    let kit = tools.tool_spec(&[("leaks", "read_only"), ("fails", "read_only"), ("breaks", "read_only")]);
    let host = json!({"type": "mcp", "transport": "stdio", "command": "talks",
        "args": [words.to_str().unwrap()], "tools": [{"name": "say", "risk": "read_only"}]});
    let granted = ["kit__leaks", "kit__fails", "kit__breaks", "host__say"];
    vec![
        manifest("project", PROJECT, PROJECT, json!({"display_name": "Planted"})),
        manifest("provider", PROJECT, "kit", kit),
        manifest("provider", PROJECT, "host", host),
        manifest("provider", PROJECT, "brain", brain.model_spec(&["works", "broken"])),
        agent(PROJECT, "tester", "brain/works", &granted, json!({})),
        agent(PROJECT, "unlucky", "brain/broken", &[], json!({})),
    ]
}

/// Runs with something in every part of their requests, and everything the API shows of them.
async fn plant_in_runs(garden: &Garden, api: &Api, answers: &Answers) {
    let input = json!({
        "question": format!("what of {} and marker-input?", garden.at("input text")),
        "deep": [{"er": [garden.at("input nested")]}],
        garden.at("input key"): 1,
        "quoted": json!({"inner": garden.at("input in a string of JSON")}).to_string(),
    });
    let body = json!({"agent_id": "tester", "input": input, "triggered_by": garden.at("triggered_by").replace('\n', " ")});
    let key = garden.at("idempotency key").replace([' ', '\n'], "_");
    let agent = garden.at("user agent");
    let headers = [("Idempotency-Key", key.as_str()), ("User-Agent", agent.as_str())];
    let made = answers.send(api, "POST", "/v1/platform/runs", &headers, Some(&body)).await;
    let run_id = made.expect(202).unwrap()["run"]["run_id"].as_str().unwrap().to_owned();
    let ended = api.wait_for_end(&run_id, crate::scripted::PATIENCE).await.unwrap();
    assert_eq!(ended["run"]["state"], "completed", "{ended}");
    for path in ["", "/steps", "/events"] {
        answers.get(api, &format!("/v1/platform/runs/{run_id}{path}")).await;
    }
    answers.get(api, "/v1/platform/runs?limit=200").await;
    let failed = crate::scripted::run(api, "unlucky", &json!("go")).await;
    answers.get(api, &format!("/v1/platform/runs/{}/steps", id_of(&failed))).await;
}

/// Requests that are refused, with something in every part that a refusal might repeat.
async fn plant_in_refusals(garden: &Garden, api: &Api, answers: &Answers) {
    let at = |path: &str| garden.at(path).replace([' ', '\n', '/', '?', '#'], "-");
    answers.get(api, &format!("/v1/platform/runs?state={}", at("query"))).await;
    answers.get(api, &format!("/v1/platform/runs?{}=1", at("query"))).await;
    answers.get(api, &format!("/v1/platform/runs/{}", at("path"))).await;
    answers.get(api, &format!("/{}", at("path"))).await;
    let header = garden.at("header").replace('\n', " ");
    for name in ["X-Awooop-Project", "Prefer", "traceparent", "Last-Event-ID", "Accept"] {
        answers.send(api, "GET", "/v1/platform/runs", &[(name, &header)], None).await;
    }
    answers.post(api, "/v1/platform/runs", &json!(garden.at("body that is no JSON"))).await;
    let member = json!({"agent_id": "tester", "input": 1, garden.at("member of a body"): 1});
    answers.post(api, "/v1/platform/runs", &member).await;
    answers.post(api, "/v1/platform/runs", &json!({"agent_id": at("agent of a run"), "input": 1})).await;
    answers.post(api, "/v1/platform/keys", &json!({"name": garden.at("key name"), "role": "viewer"})).await;
    let spec = json!({"instructions": garden.at("contract"), "output_schema": {}});
    let refused = json!({"manifests": [manifest("agent", PROJECT, "careless", spec)]});
    assert_eq!(answers.post(api, "/v1/platform/contracts", &refused).await.status, 422);
    let spec = json!({"type": "mcp", "transport": "stdio", "command": "talks", "tools": [],
        "env": {"TOKEN": garden.at("contract env")}});
    let refused = json!({"manifests": [manifest("provider", PROJECT, "careless", spec)]});
    assert_eq!(answers.post(api, "/v1/platform/contracts", &refused).await.status, 422);
    let wrong = api.with_key(Some(&garden.at("wrong key")));
    assert_eq!(answers.get(&wrong, "/v1/platform/runs").await.status, 401);
    assert_eq!(answers.mcp(&wrong, "tools/list", json!({})).await.status, 401);
}

/// Calls of an MCP client.
async fn plant_in_calls(garden: &Garden, client: &Api, answers: &Answers) {
    let listed = answers.mcp(client, "tools/list", json!({})).await;
    assert!(listed.text.contains("kit__leaks"), "{}", listed.text);
    for tool in ["kit__leaks", "kit__fails", "kit__breaks", "host__say"] {
        answers.mcp(client, "tools/call", json!({"name": tool})).await;
    }
    let arguments = json!({"text": garden.at("client arguments")});
    answers.mcp(client, "tools/call", json!({"name": "kit__leaks", "arguments": arguments})).await;
    answers.mcp(client, "tools/call", json!({"name": format!("kit__{}", garden.at("client name"))})).await;
    answers.mcp(client, "tools/call", json!({"name": 1, "x": garden.at("client parameters")})).await;
}

/// The command line over what there is, and over settings that are wrong.
async fn plant_in_commands(garden: &Garden, stage: &Stage, run_id: &str, answers: &Answers) {
    for command in [
        vec!["runs", "get", run_id, "--project", PROJECT],
        vec!["runs", "get", run_id, "--project", PROJECT, "--json"],
        vec!["runs", "list", "--project", PROJECT],
        vec!["tools", "list", "--project", PROJECT],
        vec!["doctor"],
    ] {
        let output = stage.home.cli(&command).await.unwrap();
        answers.keep(command.join(" "), String::from_utf8_lossy(&output.stdout));
        answers.keep(command.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    let file = stage.home.path().join("wrong.toml");
    std::fs::write(&file, format!("secrets = {}\n", garden.at("operator file").replace('\n', " "))).unwrap();
    let url = garden.at("database url").replace(['\n', ' '], "-");
    let mut command = stage.home.command(&["config", "check", "--operator", file.to_str().unwrap()]);
    let output = command.env("AWOOOP_DATABASE_URL", url).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    answers.keep("config check", String::from_utf8_lossy(&output.stdout));
    answers.keep("config check", String::from_utf8_lossy(&output.stderr));
}

/// Files below a directory whose bytes hold something planted, and whether the marker was met.
fn search_files(directory: &Path, garden: &Garden, marker: &str, left_out: &[&str]) -> (Vec<String>, bool) {
    let (mut found, mut has_marker) = (Vec::new(), false);
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        if left_out.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        // sockets are no files, and PostgreSQL takes some away meanwhile
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let sought = Garden(vec![Canary { path: "", text: String::new(), core: marker.to_owned() }]);
        has_marker |= !found_quickly(&sought, &bytes).is_empty();
        let planted = found_quickly(garden, &bytes);
        found.extend(planted.into_iter().map(|from| format!("{from} in {}", path.display())));
    }
    (found, has_marker)
}

/// As [`Garden::found_in`], in one pass over large files: a canary's first bytes are looked up in a table.
fn found_quickly(garden: &Garden, bytes: &[u8]) -> Vec<&'static str> {
    let mut table = vec![Vec::new(); 1 << 16];
    for canary in &garden.0 {
        let start = canary.core.as_bytes();
        table[usize::from(u16::from_be_bytes([start[0], start[1]]))].push(canary);
    }
    let mut found = Vec::new();
    for (at, pair) in bytes.windows(2).enumerate() {
        for canary in &table[usize::from(u16::from_be_bytes([pair[0], pair[1]]))] {
            if bytes[at..].starts_with(canary.core.as_bytes()) && !found.contains(&canary.path) {
                found.push(canary.path);
            }
        }
    }
    found
}

/// Every column of every row of every table, as text: bytes are hexadecimal.
async fn all_rows(stage: &Stage) -> Vec<u8> {
    let admin = stage.database.admin().await;
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'awooop'";
    let mut all = Vec::new();
    for table in admin.query(tables, &[]).await.unwrap() {
        let sql = format!("SELECT t::text FROM awooop.{} t", table.get::<_, String>(0));
        for row in admin.query(&sql, &[]).await.unwrap() {
            all.extend_from_slice(row.get::<_, String>(0).as_bytes());
        }
    }
    all
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_credential_planted_on_any_path_lies_nowhere() {
    let garden = Garden::new(&PATHS);
    let shared = std::sync::Arc::new(Garden(garden.0.clone()));
    let (for_tools, for_model) = (shared.clone(), shared);
    let tools = Scripted::start(move |message| tools_server(message, &for_tools)).await;
    let brain = Scripted::start(move |request| model(request, &for_model)).await;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let place = tempfile::Builder::new().prefix("awooop-talker-").permissions(open).tempdir().unwrap();
    let program = talker(place.path(), &format!("begin {} marker-stderr\n", garden.at("child stderr")));
    let list = format!(
        "allow_same_uid_children = true\nprivate_addresses = [\"127.0.0.0/8\"]\n[projects.{PROJECT}]\n\
         uid = 200010\ncommands = {{ talks = \"{}\" }}\n",
        program.display()
    );
    let stage = Stage::start(&[("AWOOOP_LOG", "trace")], Some(&list)).await;
    let api = stage.apply(PROJECT, &manifests(&tools, &brain, &place.path().join("words"))).await;
    let key = api.create_key(&json!({"name": "tester-key", "agent_id": "tester"})).await.unwrap();
    let client = Api::new(api.base(), Some(&key)).unwrap();
    let answers = Answers::default();

    plant_in_runs(&garden, &api, &answers).await;
    plant_in_refusals(&garden, &api, &answers).await;
    plant_in_calls(&garden, &client, &answers).await;
    let runs = answers.get(&api, "/v1/platform/runs?agent_id=tester").await.json();
    let run_id = runs["items"][0]["run"]["run_id"].as_str().unwrap().to_owned();
    plant_in_commands(&garden, &stage, &run_id, &answers).await;
    let admin = stage.database.admin().await;
    let revoke = "UPDATE awooop.api_key SET revoked_at = now() WHERE agent_id = 'tester'";
    assert_eq!(admin.execute(revoke, &[]).await.unwrap(), 1);
    assert_eq!(answers.mcp(&client, "tools/list", json!({})).await.status, 401, "a revoked key");

    // what the canaries are looked for in, and the markers that show that the search finds what is there
    for (of, text) in answers.0.lock().unwrap().iter() {
        assert_eq!(garden.found_in(text.as_bytes()), Vec::<&str>::new(), "in the answer to {of}: {text}");
    }
    let all: String = answers.0.lock().unwrap().iter().map(|(_, text)| text.as_str()).collect();
    assert!(all.contains("marker-tool"), "answers are searched");
    let log = stage.home.log();
    assert_eq!(garden.found_in(log.as_bytes()), Vec::<&str>::new(), "in the log");
    assert!(log.contains("marker-stderr") && log.contains("TRACE"), "the log says everything");
    let rows = all_rows(&stage).await;
    assert_eq!(found_quickly(&garden, &rows), Vec::<&str>::new(), "in rows");
    let as_bytes = garden.0.iter().map(|c| Canary { core: hex(&c.core), ..c.clone() }).collect();
    assert_eq!(found_quickly(&Garden(as_bytes), &rows), Vec::<&str>::new(), "in columns of bytes");
    assert!(holds(&rows, b"marker-input") && holds(&rows, b"marker-tool"), "rows are searched");
    let keys = [("the client's key", &key), ("the platform's key", &stage.server.key().to_owned())];
    for (whose, key) in keys {
        let secret = key.rsplit('_').next().unwrap();
        assert!(!holds(&rows, secret.as_bytes()) && !holds(&rows, hex(secret).as_bytes()), "{whose}");
        assert!(!log.contains(secret) && !all.contains(secret), "{whose}");
    }

    admin.batch_execute("CHECKPOINT").await.unwrap();
    let place = "SELECT current_setting('data_directory'), oid::text FROM pg_database WHERE datname = current_database()";
    let row = admin.query_one(place, &[]).await.unwrap();
    let cluster = PathBuf::from(row.get::<_, String>(0));
    for part in [format!("base/{}", row.get::<_, String>(1)), "global".to_owned(), "pg_wal".to_owned()] {
        let (found, has_marker) = search_files(&cluster.join(&part), &garden, "marker-input", &[]);
        assert_eq!(found, Vec::<String>::new(), "in PostgreSQL's {part}");
        assert!(has_marker || part == "global", "PostgreSQL's {part} is searched");
    }
    let (found, _) = search_files(&stage.home.data_dir(), &garden, "marker", &["dev.env"]);
    assert_eq!(found, Vec::<String>::new(), "in the data directory");
    stage.assert_well().await;
}

/// What stands in a text in place of an order number.
fn is_tagged(text: &str, name: &str) -> bool {
    text.contains(&format!("[{name}:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_personal_data_goes_where_the_contracts_say_and_a_change_counts_at_once() {
    let tools = Scripted::start(|message| {
        let listed = json!([{"name": "echo", "description": "Echoes", "inputSchema": {"type": "object"}}]);
        mcp(message, listed, |_, arguments| {
            let said = json!({"type": "text", "text": format!("{} of EW-20260504", arguments["text"])});
            result(message, json!({"content": [said]}))
        })
    })
    .await;
    let brain = Scripted::start(|request| match given(request) {
        0 => Say::Json(calls(&[("kit__echo", r#"{"text": "EW-20261122 please"}"#)])),
        _ => Say::Json(says(r#"{"answer": "it is LN123456"}"#)),
    })
    .await;
    let list = format!("private_addresses = [\"127.0.0.0/8\"]\n[projects.{PROJECT}]\n");
    let stage = Stage::start(&[("AWOOOP_LOG_FORMAT", "json")], Some(&list)).await;
    let patterns = |order: &str| {
        json!({"redaction": {"patterns": [
            {"name": "ORDER_NO", "pattern": "EW-[0-9]{8}", "action": order, "matches": ["EW-20260504"]},
            {"name": "LEDGER_NO", "pattern": "LN[0-9]{6}", "matches": ["LN123456"]}
        ]}})
    };
    let mail = "ann.chen@example.org";
    let direction = json!({"to_model": {"all": "tag"}, "to_people": {"email": "mask"}});
    let mut documents = vec![
        manifest("project", PROJECT, PROJECT, json!({"display_name": "Planted", "personal_data": direction})),
        manifest("provider", PROJECT, "kit", tools.tool_spec(&[("echo", "read_only")])),
        manifest("provider", PROJECT, "brain", brain.model_spec(&["works"])),
        agent(PROJECT, "tester", "brain/works", &["kit__echo"], json!({})),
        manifest("policy", PROJECT, "house", patterns("tag")),
    ];
    let api = stage.apply(PROJECT, &documents).await;
    let ask = |text: &str| json!(format!("{text}, from {mail}"));
    let first = crate::scripted::run(&api, "tester", &ask("where is EW-20261122")).await;
    assert_eq!(first["output"]["answer"], "it is [LEDGER_NO]", "{first}");
    let told = brain.asked()[0].body.to_string();
    assert!(is_tagged(&told, "ORDER_NO") && !told.contains("EW-2026"), "{told}");
    let called = tools.asked().into_iter().rfind(|asked| asked.body["method"] == "tools/call").unwrap();
    assert!(is_tagged(&called.body.to_string(), "ORDER_NO"), "{}", called.body);
    assert_eq!(stage.tables_with("EW-20261122").await, Vec::<String>::new());
    let log = stage.home.log();
    let lines = log.lines().filter(|line| line.starts_with('{')).map(serde_json::from_str::<Value>);
    let events: Vec<Value> = lines.collect::<Result<_, _>>().unwrap();
    assert!(
        events.iter().any(|event| {
            event["spans"].as_array().is_some_and(|spans| spans.iter().any(|span| span["project"] == PROJECT))
        }),
        "masked lines are JSON still"
    );
    assert!(!log.contains("EW-2026") && !log.contains(mail), "the log");

    // e-mail addresses stay in the journal, and go to the model as tags
    assert!(is_tagged(&told, "EMAIL") && !told.contains(mail), "{told}");
    assert_eq!(stage.tables_with(mail).await, ["run_state"], "the journal is let through, the audit is not");

    // a change is in force for the next request, and a pattern that blocks makes no run
    documents[4] = manifest("policy", PROJECT, "house", patterns("block"));
    api.apply(&documents).await.unwrap();
    let body = json!({"agent_id": "tester", "input": ask("where is EW-20261122")});
    let refused = api.post("/v1/platform/runs", &body).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (422, "E-REDACT-001"), "{}", refused.text);
    assert!(!refused.text.contains("EW-2026"), "{}", refused.text);
    let second = crate::scripted::run(&api, "tester", &ask("where is it")).await;
    assert_eq!(second["run"]["state"], "completed", "{second}");

    // a signature that does not hold lets nothing through
    let admin = stage.database.admin().await;
    let forge = "UPDATE awooop.contract SET signature = '\\x00' WHERE kind = 'policy' AND project_id = $1";
    assert_eq!(admin.execute(forge, &[&PROJECT]).await.unwrap(), 1);
    let asked = brain.asked().len();
    let made = api.create_run("tester", &ask("where is it")).await.unwrap();
    api.wait_for_end(&made, crate::scripted::PATIENCE).await.unwrap();
    let told = brain.asked()[asked].body.to_string();
    assert!(told.contains("[EMAIL]") && !told.contains(mail), "{told}");
    assert!(stage.home.log().contains("all personal data is masked"));
}
