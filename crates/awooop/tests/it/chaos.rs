//! Random faults under load: servers killed with -9, PostgreSQL killed with -9, workers stopped past their lease and
//! let go again, connections cut, tables locked until statements time out, every statement timed out at once; while callers start and cancel runs, people
//! decide, and a tool server of the test's own counts every effect by its idempotency key.
//!
//! When the faults are over, every run that was acknowledged has to end; no call that has an effect was made twice
//! without a person's word, no finished step was done again, and the doctor finds nothing. The seed is printed, and
//! `AWOOOP_FAULTS_SEED` plays the same faults again; `AWOOOP_FAULTS_SECONDS` says for how long (`./x faults`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use awooop_journeys::client::Api;
use awooop_journeys::cluster::{Cluster, ClusterUrls};
use awooop_journeys::db::connect;
use awooop_journeys::pg_proxy::PgProxy;
use awooop_journeys::process::Process;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::scripted::{Say, Scripted, agent, calls, given, manifest, says};
use crate::serving::{Site, install};

const PROJECT: &str = "stormy";
/// How long the faults go on where nobody says otherwise.
const SECONDS: u64 = 40;
/// How long everything may take to end when the faults are over.
const CALM: Duration = Duration::from_secs(90);
/// A worker is dead for the others after so many seconds of silence.
const SILENT_AFTER_S: u64 = 4;
/// Statements that wait for a lock time out before the lease does.
const PATIENT: &str = "1s";
/// Hardly a statement is so quick.
const HASTY: &str = "1ms";
/// Callers that start runs one after the other.
const CALLERS: usize = 3;

/// One call of a tool, as the tool server saw it.
#[derive(Debug, Clone)]
struct Effect {
    tool: String,
    key: String,
    at_ms: i64,
}

type Effects = Arc<Mutex<Vec<Effect>>>;

fn now_ms() -> i64 {
    awooop_store::Clock::system().now().as_millisecond()
}

/// The tool server: remembers, takes a moment, answers.
async fn tool_server(effects: Effects) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = Router::new().route("/mcp", post(answer)).with_state(effects);
    #[expect(clippy::disallowed_methods, reason = "test support: the server belongs to no project")]
    let task = tokio::spawn(async move {
        // ends with the task
        let _ = axum::serve(listener, router).await;
    });
    (url, task)
}

async fn answer(
    State(effects): State<Effects>,
    Json(message): Json<Value>,
) -> (axum::http::StatusCode, Json<Value>) {
    let tool = |name: &str| json!({"name": name, "description": "Does something", "inputSchema": {"type": "object", "properties": {}}});
    let result = match message["method"].as_str().unwrap_or_default() {
        _ if message["id"].is_null() => return (axum::http::StatusCode::ACCEPTED, Json(Value::Null)),
        "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "counting", "version": "1"}}),
        "tools/list" => json!({"tools": json!(["look", "put", "charge"].map(tool))}),
        "tools/call" => {
            let params = &message["params"];
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let key = text(&params["_meta"]["awooop/idempotency-key"]);
            effects.lock().unwrap().push(Effect { tool: text(&params["name"]), key, at_ms: now_ms() });
            let pause = rand::random_range(0..60);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            json!({"content": [{"type": "text", "text": "done"}]})
        }
        _ => json!({}),
    };
    (axum::http::StatusCode::OK, Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})))
}

/// A model that calls what its run's input lists, one after the other, and then says that it is done.
fn planner(request: &Value) -> Say {
    let plan: Value = serde_json::from_str(request["messages"][1]["content"].as_str().unwrap_or_default())
        .unwrap_or_default();
    match plan[given(request)].as_str() {
        Some(tool) => Say::Json(calls(&[(&format!("kit__{tool}"), "{}")])),
        None => Say::Json(says(r#"{"answer": "done"}"#)),
    }
}

/// Sets after how long a statement of the servers times out, in sessions that begin from now on.
async fn time_out_after(database: &ClusterUrls, limit: &str) -> anyhow::Result<()> {
    let admin = connect(&database.admin).await?;
    for role in ["awooop_app", "awooop_dispatch"] {
        let set = format!("ALTER ROLE {role} IN DATABASE stormy SET statement_timeout = '{limit}'");
        admin.batch_execute(&set).await?;
    }
    Ok(())
}

/// A server process that is started again whenever it has ended.
struct Node {
    role: &'static str,
    name: String,
    urls: ClusterUrls,
    process: Option<Process>,
    starts: usize,
}

struct World {
    cluster: Cluster,
    database: ClusterUrls,
    site: Site,
    port: u16,
    proxies: Vec<PgProxy>,
    nodes: Vec<Node>,
}

impl World {
    async fn start() -> World {
        let cluster = Cluster::start().await.unwrap();
        let admin = connect(&cluster.urls().in_database("postgres").admin).await.unwrap();
        admin.batch_execute("CREATE DATABASE stormy").await.unwrap();
        let database = cluster.urls().in_database("stormy");
        let site = install(&database).await;
        time_out_after(&database, PATIENT).await.unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut proxies = Vec::new();
        let mut nodes = Vec::new();
        for (role, name) in
            [("api", "api"), ("worker", "worker-1"), ("worker", "worker-2"), ("worker", "worker-3")]
        {
            let proxy = PgProxy::start(&database.app).await.unwrap();
            let urls = proxy.urls(&database);
            proxies.push(proxy);
            nodes.push(Node { role, name: name.to_owned(), urls, process: None, starts: 0 });
        }
        World { cluster, database, site, port, proxies, nodes }
    }

    /// Starts what is not running.
    fn keep_up(&mut self) {
        for i in 0..self.nodes.len() {
            let has_ended = match &mut self.nodes[i].process {
                Some(process) => process.ended().unwrap().is_some(),
                None => true,
            };
            if has_ended {
                let process = self.spawn(i);
                self.nodes[i].process = Some(process);
                self.nodes[i].starts += 1;
            }
        }
    }

    fn spawn(&self, i: usize) -> Process {
        let (node, site) = (&self.nodes[i], &self.site);
        let log = File::options().create(true).append(true).open(self.log_of(&node.name)).unwrap();
        let silent = SILENT_AFTER_S.to_string();
        let mut command = site.home.command(&[
            "serve",
            "--role",
            node.role,
            "--silent-after",
            &silent,
            "--drain-for",
            "2",
            "--slots",
            "8",
            "--key-rate",
            "0",
        ]);
        if node.role == "api" {
            command.arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        }
        command.arg("--keys").arg(&site.keys).arg("--operator").arg(&site.list);
        command.arg("--data-dir").arg(site.home.path().join(&node.name));
        command.env("AWOOOP_DATABASE_URL", &node.urls.app);
        command.env("AWOOOP_DISPATCH_DATABASE_URL", &node.urls.dispatch);
        command.env("AWOOOP_LOG", "warn").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Process::spawn(&mut command).unwrap()
    }

    fn log_of(&self, name: &str) -> std::path::PathBuf {
        self.site.home.path().join(format!("{name}.log"))
    }

    fn pid(&self, i: usize) -> Option<Pid> {
        self.nodes[i].process.as_ref().map(Process::pid)
    }

    fn api(&self, key: &str) -> Api {
        Api::new(&format!("http://127.0.0.1:{}", self.port), Some(key)).unwrap()
    }
}

/// What goes wrong next.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillNode(usize),
    KillPostgres,
    /// For so many milliseconds.
    Freeze(usize, u64),
    Cut(usize),
    /// This table, for so many milliseconds.
    Lock(&'static str, u64),
    /// Every statement, for so many milliseconds.
    TimeOut(u64),
    Nothing,
}

fn next_fault(random: &mut StdRng) -> Fault {
    let tables = ["run_lease", "run_state", "run_queue", "step_journal", "budget", "worker_beat", "approval"];
    match random.random_range(0..100) {
        0..25 => Fault::KillNode(random.random_range(0..4)),
        25..32 => Fault::KillPostgres,
        32..50 => Fault::Freeze(random.random_range(1..4), random.random_range(200..5000)),
        50..70 => Fault::Cut(random.random_range(0..4)),
        70..84 => {
            let table = tables[random.random_range(0..tables.len())];
            Fault::Lock(table, random.random_range(100..2500))
        }
        84..93 => Fault::TimeOut(random.random_range(200..3000)),
        _ => Fault::Nothing,
    }
}

impl World {
    async fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::KillNode(i) => self.signal(i, Signal::SIGKILL),
            Fault::KillPostgres => {
                if let Some(pid) = self.cluster.postmaster_pid().and_then(|pid| pid.try_into().ok()) {
                    // it may just have been killed
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            Fault::Freeze(i, ms) => {
                self.signal(i, Signal::SIGSTOP);
                tokio::time::sleep(Duration::from_millis(ms)).await;
                self.signal(i, Signal::SIGCONT);
            }
            Fault::Cut(i) => self.proxies[i].cut(),
            Fault::Lock(table, ms) => {
                let Ok(admin) = connect(&self.database.admin).await else { return };
                let lock = format!("BEGIN; SET LOCAL lock_timeout = '500ms'; LOCK TABLE awooop.{table}");
                if admin.batch_execute(&lock).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
                // with the connection the lock goes, however this ends
                let _ = admin.batch_execute("ROLLBACK").await;
            }
            Fault::TimeOut(ms) => {
                if self.time_out_after(HASTY).await {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
                self.be_patient().await;
            }
            Fault::Nothing => {}
        }
    }

    /// The servers' statements time out after this, in every connection; false while PostgreSQL is away.
    async fn time_out_after(&self, limit: &str) -> bool {
        let is_set = time_out_after(&self.database, limit).await.is_ok();
        if is_set {
            // a session keeps what it began with
            self.proxies.iter().for_each(PgProxy::cut);
        }
        is_set
    }

    /// Lets statements take their usual time again, as soon as PostgreSQL takes the word.
    async fn be_patient(&self) {
        while !self.time_out_after(PATIENT).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the rows and the servers say, for whoever has to find out.
    async fn told(&self) -> String {
        let admin = connect(&self.database.admin).await.unwrap();
        let mut told = Vec::new();
        for sql in [
            "SELECT 'lease ' || l::text FROM awooop.run_lease l",
            "SELECT 'beat ' || b::text || ' now ' || now() FROM awooop.worker_beat b",
            "SELECT 'timer ' || t::text FROM awooop.run_timer t",
            "SELECT 'run ' || run_id || ' ' || state || ' ' || lease_epoch || ' ' || attempt || ' ' || coalesce(lease_id::text, '-')
             || ' ' || coalesce(worker_id, '-') FROM awooop.run_state
             WHERE state NOT IN ('completed', 'failed', 'cancelled', 'timeout')",
        ] {
            let rows = admin.query(sql, &[]).await.unwrap();
            told.extend(rows.iter().take(20).map(|row| row.get::<_, String>(0)));
        }
        for node in &self.nodes {
            let log = std::fs::read_to_string(self.log_of(&node.name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            told.push(format!("--- {} ({} lines)", node.name, lines.len()));
            let last = lines[lines.len().saturating_sub(12)..].iter();
            told.extend(last.map(|line| line.chars().take(400).collect::<String>()));
        }
        told.join("\n")
    }

    fn signal(&self, i: usize, signal: Signal) {
        if let Some(pid) = self.pid(i) {
            // it may have ended by itself
            let _ = kill(pid, signal);
        }
    }

    /// Faults until the time is over; servers that ended are started again. Returns how many of each kind.
    async fn storm(&mut self, random: &mut StdRng, lasting: Duration) -> BTreeMap<String, usize> {
        let began = Instant::now();
        let mut inflicted = BTreeMap::new();
        while began.elapsed() < lasting {
            let fault = next_fault(random);
            let name = format!("{fault:?}");
            *inflicted.entry(name.split('(').next().unwrap().to_owned()).or_default() += 1;
            self.inflict(fault).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(100..1200))).await;
            self.keep_up();
        }
        inflicted
    }
}

async fn apply(api: &Api, tools_url: &str, model: &Scripted) {
    let tool = |name: &str, risk: &str| json!({"name": name, "risk": risk});
    let mut put = tool("put", "write");
    put["idempotent"] = json!(true);
    let kit = json!({"type": "mcp", "transport": "http", "url": tools_url, "timeout_ms": 5000,
        "tools": [tool("look", "read_only"), put, tool("charge", "write")]});
    let granted = ["kit__look", "kit__put", "kit__charge"];
    let member =
        |mode: &str| json!({"mode": mode, "max_attempts": 100, "max_steps": 40, "timeout_ms": 600_000});
    let manifests = [
        manifest("project", PROJECT, PROJECT, json!({"display_name": "Stormy"})),
        manifest("provider", PROJECT, "kit", kit),
        manifest("provider", PROJECT, "brain", model.model_spec(&["planner"])),
        agent(PROJECT, "bold", "brain/planner", &granted, member("live")),
        agent(PROJECT, "careful", "brain/planner", &granted, member("suggest")),
    ];
    api.apply(&manifests).await.expect("the manifests are valid");
}

/// Starts runs until `stop`, each until it is acknowledged; cancels some. Returns what was acknowledged.
async fn call(api: Api, caller: usize, seed: u64, stop: CancellationToken) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut made = Vec::new();
    for n in 0.. {
        let tools: Vec<&str> = (0..random.random_range(0..4))
            .map(|_| ["look", "put", "charge"][random.random_range(0..3)])
            .collect();
        let agent = if random.random_ratio(1, 4) { "careful" } else { "bold" };
        let body = json!({"agent_id": agent, "input": json!(tools).to_string()});
        let key = format!("storm-{caller}-{n}");
        // the same key until it is known: at most one run, whatever was cut
        let run_id = loop {
            let answer =
                api.send("POST", "/v1/platform/runs", &[("Idempotency-Key", &key)], Some(&body)).await;
            if let Ok(answer) = answer
                && answer.status == 202
            {
                break answer.json()["run"]["run_id"].as_str().unwrap().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        if random.random_ratio(1, 12) {
            // whether it came through is seen of the run's end
            let _ = api.post(&format!("/v1/platform/runs/{run_id}/cancel"), &json!({})).await;
        }
        made.push(run_id);
        if stop.is_cancelled() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(20..150))).await;
    }
    made
}

/// Decides what waits, until `stop`.
async fn decide(api: Api, seed: u64, stop: CancellationToken) {
    let mut random = StdRng::seed_from_u64(seed);
    while !stop.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let Ok(answer) = api.get("/v1/platform/approvals?state=pending").await else { continue };
        for item in answer.json()["items"].as_array().into_iter().flatten() {
            let result = json!({"content": [{"type": "text", "text": "as a person saw it"}]});
            let body = match random.random_range(0..10) {
                0..6 => json!({"decision": "approve"}),
                6..8 => json!({"decision": "deny", "reason": "no"}),
                _ if item["kind"] == "outcome" => json!({"decision": "record", "result": result}),
                _ => json!({"decision": "approve"}),
            };
            let path = format!("/v1/platform/approvals/{}/decide", item["approval_id"].as_str().unwrap());
            // asked again when it did not come through
            let _ = api.post(&path, &body).await;
        }
    }
}

/// Waits until every run has ended. Returns how they did.
async fn ends(world: &mut World, runs: &BTreeSet<String>) -> BTreeMap<String, usize> {
    let began = Instant::now();
    let sql = "SELECT run_id::text, state, coalesce(error_code, '') FROM awooop.run_state";
    loop {
        world.keep_up();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let Ok(admin) = connect(&world.database.admin).await else { continue };
        let Ok(rows) = admin.query(sql, &[]).await else { continue };
        let found: BTreeMap<String, (String, String)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        let is_ended = |(state, _): &(String, String)| {
            ["completed", "failed", "cancelled", "timeout"].contains(&state.as_str())
        };
        if found.values().all(is_ended) {
            let lost: Vec<&String> = runs.iter().filter(|run| !found.contains_key(*run)).collect();
            assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
            let mut ended = BTreeMap::new();
            for (state, code) in found.into_values() {
                *ended.entry(format!("{state} {code}").trim().to_owned()).or_default() += 1;
            }
            return ended;
        }
        if began.elapsed() > CALM {
            let open: Vec<_> = found.iter().filter(|(_, end)| !is_ended(end)).take(5).collect();
            panic!("still not ended: {open:?}\n{}", world.told().await);
        }
    }
}

/// No effect was made twice without a person's word, none without the word it needed, and no finished step was done
/// again; a worker that was frozen with its request in hand may send it late.
async fn check_effects(world: &World, effects: &[Effect], freezes: usize) -> usize {
    let admin = connect(&world.database.admin).await.unwrap();
    let allowed = "SELECT a.run_id || ':' || a.n, a.kind, count(*) FROM awooop.approval_decision d
        JOIN awooop.approval a USING (project_id, approval_id) WHERE d.decision = 'approve' GROUP BY 1, 2";
    let allowed: BTreeMap<(String, String), i64> = admin
        .query(allowed, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| ((row.get(0), row.get(1)), row.get(2)))
        .collect();
    let said = |key: &str, kind: &str| allowed.get(&(key.to_owned(), kind.to_owned())).copied().unwrap_or(0);
    let careful = "SELECT run_id::text FROM awooop.run_state WHERE agent_id = 'careful'";
    let careful: BTreeSet<String> =
        admin.query(careful, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let mut made: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for effect in effects {
        *made.entry((&effect.tool, &effect.key)).or_default() += 1;
    }
    for ((tool, key), times) in &made {
        assert!(!key.is_empty(), "a call without a key");
        if *tool == "charge" {
            let most = 1 + said(key, "outcome");
            assert!(*times <= most, "{key} was charged {times} times, allowed were {most}");
        }
        let run_id = key.split(':').next().unwrap();
        if *tool != "look" && careful.contains(run_id) {
            assert!(said(key, "call") > 0, "{key} was done without anybody's word");
        }
    }
    let finished = "SELECT run_id || ':' || n, (extract(epoch FROM started_at) * 1000)::bigint + duration_ms
        FROM awooop.step_journal WHERE phase = 'result' AND kind = 'tool' AND status = 'ok'";
    let finished: BTreeMap<String, i64> =
        admin.query(finished, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    // the database's clock and ours are one machine's; a rounding is no repetition
    let is_late = |e: &&Effect| finished.get(&e.key).is_some_and(|done| e.at_ms > done + 100);
    let late = effects.iter().filter(is_late).count();
    assert!(late <= freezes, "{late} calls came after their step was finished, with {freezes} freezes");
    made.values().filter(|times| **times > 1).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_whatever_breaks_no_run_is_lost_stuck_or_done_twice() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("AWOOOP_FAULTS_SEED").unwrap_or_else(rand::random);
    let lasting = Duration::from_secs(number("AWOOOP_FAULTS_SECONDS").unwrap_or(SECONDS));
    println!("AWOOOP_FAULTS_SEED={seed} AWOOOP_FAULTS_SECONDS={}", lasting.as_secs());
    let mut random = StdRng::seed_from_u64(seed);
    let effects = Effects::default();
    let (tools_url, tools) = tool_server(effects.clone()).await;
    let model = Scripted::start(planner).await;
    let mut world = World::start().await;
    world.keep_up();
    let root = world.api(&world.site.key.clone()).in_project(PROJECT);
    crate::scripted::until("the API answers", async || {
        root.get("/readyz").await.is_ok_and(|a| a.status == 200)
    })
    .await;
    apply(&root, &tools_url, &model).await;
    let person = root.create_key(&json!({"name": "mei", "role": "approver", "person": "mei"})).await.unwrap();
    let (stop, stop_people) = (CancellationToken::new(), CancellationToken::new());
    #[expect(clippy::disallowed_methods, reason = "callers and people are no part of the server")]
    let spawned = {
        let callers: Vec<_> = (0..CALLERS)
            .map(|i| tokio::spawn(call(root.clone(), i, seed ^ i as u64, stop.clone())))
            .collect();
        let people = tokio::spawn(decide(world.api(&person), seed, stop_people.clone()));
        (callers, people)
    };
    let inflicted = world.storm(&mut random, lasting).await;
    stop.cancel();
    let mut runs = BTreeSet::new();
    for caller in spawned.0 {
        // a caller whose server is down waits for it
        let mut caller = caller;
        let made = loop {
            tokio::select! {
                made = &mut caller => break made.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(300)) => world.keep_up(),
            }
        };
        runs.extend(made);
    }
    let ended = ends(&mut world, &runs).await;
    stop_people.cancel();
    spawned.1.await.unwrap();
    let freezes = inflicted.get("Freeze").copied().unwrap_or(0);
    let seen = effects.lock().unwrap().clone();
    let repeated = check_effects(&world, &seen, freezes).await;
    let doctor = world.site.home.cli_json(&["doctor"]).await.unwrap();
    assert_eq!(doctor.0, 0, "{}", doctor.1);
    let starts: Vec<usize> = world.nodes.iter().map(|node| node.starts).collect();
    println!(
        "{} runs {ended:?}; {} calls, {repeated} keys more than once; faults {inflicted:?}; starts {starts:?}",
        runs.len(),
        seen.len()
    );
    assert!(runs.len() > 10, "there was load");
    tools.abort();
}
