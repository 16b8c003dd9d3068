//! Faults: the server killed with -9 after each COMMIT of a run, PostgreSQL killed under it, stops by
//! signal. Nothing that happened is done again, and nothing is lost.
//!
//! The COMMITs are counted by a proxy in front of PostgreSQL, and what tools were called by a server of the
//! test's own; there is nothing in the binary that knows of either.

use std::time::{Duration, Instant};

use awooop_journeys::client::Api;
use awooop_journeys::db::TestDatabase;
use awooop_journeys::fixture_mcp::{Call, FixtureMcp};
use awooop_journeys::fixture_model::{FixtureModel, Line};
use awooop_journeys::pg_proxy::{PgProxy, Point};
use awooop_journeys::process::describe;
use awooop_journeys::server::{Home, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{home_on, kit};

const PROJECT: &str = "faulty";
const PATIENCE: Duration = Duration::from_secs(60);
/// A restarted server has to have the run going again within this time.
const RESUME_WITHIN: Duration = Duration::from_secs(2);
/// No run of these tests commits more often.
const MOST_COMMITS: u64 = 40;

/// The script: two tools, then the answer.
fn script() -> Vec<Line> {
    vec![
        Line::call("kit__echo", json!({"text": "one"})),
        Line::call("kit__echo", json!({"text": "two"})),
        Line::Says(json!({"answer": "one and two"}).to_string()),
    ]
}

/// What the run needs around it, all of it outside the server.
struct Stage {
    kit: FixtureMcp,
    model: FixtureModel,
}

impl Stage {
    async fn new(lines: Vec<Line>) -> Stage {
        Stage { kit: FixtureMcp::start().await.unwrap(), model: FixtureModel::start(lines).await.unwrap() }
    }

    /// Applies the project to a server.
    async fn apply(&self, server: &Server) -> Api {
        let granted = ["echo", "slow"];
        let manifests =
            kit(PROJECT, self.kit.provider_spec(), self.model.provider_spec(), "script", &granted);
        let api = server.api().in_project(PROJECT);
        api.apply(&manifests).await.expect("the manifests are valid");
        api
    }
}

/// One kill: at which COMMIT, on which side of it.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: u64,
    point: Point,
}

/// What one cut run showed.
struct Outcome {
    output: Value,
    was_cut: bool,
    resumed_in: Option<Duration>,
}

/// Starts a run, kills the server at the cut, starts it again, waits for the end and checks everything.
async fn cut_run(database: &TestDatabase, stage: &Stage, cut: Cut) -> Outcome {
    let proxy = PgProxy::start(&database.urls().app).await.unwrap();
    let home = home_on(&proxy.urls(database.urls()));
    let mut server = home.start().await.expect("the server starts");
    let api = stage.apply(&server).await;
    stage.kit.forget();
    let pid = server.process().pid();
    let (told, killed) = tokio::sync::oneshot::channel::<()>();
    proxy.stop_at(cut.at, cut.point, move || {
        kill(pid, Signal::SIGKILL).expect("the server is there to be killed");
        // nobody listens when the run has ended already
        let _ = told.send(());
    });
    let key = [("Idempotency-Key", "the-run")];
    let body = json!({"agent_id": "tester", "input": "go"});
    let created = api.send("POST", "/v1/platform/runs", &key, Some(&body)).await;
    let ended = async {
        let run_id = run_id_of(created.as_ref().ok()?)?;
        api.wait_for_end(&run_id, PATIENCE).await.ok()
    };
    let survived = tokio::select! {
        ended = ended => ended.is_some() && proxy.disarm(),
        _ = killed => false,
    };
    let mut before = None;
    if !survived {
        server.kill().expect("it is dead already");
        before = Some(epoch(database).await);
        server = home.start().await.expect("the server starts again");
    }
    let api = server.api().in_project(PROJECT);
    let ready = Instant::now();
    // the same request again: the run that was made, or a first one if its COMMIT never happened
    let created = api.send("POST", "/v1/platform/runs", &key, Some(&body)).await.unwrap();
    let run_id = run_id_of(&created).unwrap_or_else(|| panic!("{}", created.text));
    let resumed_in = match &before {
        Some(before) => Some(resumed(database, before, ready).await),
        None => None,
    };
    let found = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    assert_eq!(found["run"]["state"], "completed", "{cut:?}: {found}");
    check_calls(&api.steps(&run_id).await.unwrap(), &stage.kit.calls(), &run_id, cut);
    let (code, doctor) = home.cli_json(&["doctor"]).await.unwrap();
    assert_eq!(code, 0, "{cut:?}: {doctor}");
    let status = server.stop(Signal::SIGTERM).await.unwrap();
    assert!(status.success(), "{cut:?}: {}\n{}", describe(status), home.log());
    Outcome { output: found["output"].clone(), was_cut: !survived, resumed_in }
}

fn run_id_of(answer: &awooop_journeys::client::Answer) -> Option<String> {
    answer.json()["run"]["run_id"].as_str().map(str::to_owned)
}

/// Epoch and state of the only run, `(0, "")` when it was never made.
async fn epoch(database: &TestDatabase) -> (i64, String) {
    let admin = database.admin().await;
    let row = admin.query_opt("SELECT lease_epoch, state FROM run_state", &[]).await.unwrap();
    row.map_or((0, String::new()), |row| (row.get(0), row.get(1)))
}

/// From `ready` until the run has left its dead worker's epoch, or has ended.
async fn resumed(database: &TestDatabase, before: &(i64, String), ready: Instant) -> Duration {
    loop {
        let (now, state) = epoch(database).await;
        if now > before.0 || ["completed", "failed"].contains(&state.as_str()) || ready.elapsed() > PATIENCE {
            return ready.elapsed();
        }
        tokio::task::yield_now().await;
    }
}

/// Steps are whole and in order; each tool step was called once, or twice when it was cut in flight, and
/// then with the same key.
fn check_calls(steps: &[Value], calls: &[Call], run_id: &str, cut: Cut) {
    let shape: Vec<(i64, &str)> =
        steps.iter().map(|s| (s["n"].as_i64().unwrap(), s["kind"].as_str().unwrap())).collect();
    assert_eq!(shape, [(1, "llm"), (2, "tool"), (3, "llm"), (4, "tool"), (5, "llm")], "{cut:?}");
    let epochs: Vec<i64> = steps.iter().map(|step| step["epoch"].as_i64().unwrap()).collect();
    assert!(epochs.is_sorted(), "{cut:?}: {epochs:?}");
    let mut repeated = 0;
    for (n, text) in [(2, "one"), (4, "two")] {
        let made: Vec<&Call> = calls.iter().filter(|call| call.arguments["text"] == text).collect();
        assert!((1..=2).contains(&made.len()), "{cut:?}: {text} was called {} times", made.len());
        let key = format!("{run_id}:{n}");
        assert!(made.iter().all(|call| call.key.as_deref() == Some(key.as_str())), "{cut:?}: {made:?}");
        repeated += made.len() - 1;
    }
    assert!(repeated <= 1, "{cut:?}: one kill cuts one call at most");
}

/// Returns how often it killed, and the longest time until a run went on after the server was ready.
async fn kill_at_every_commit(point: Point) -> (u64, Duration) {
    let stage = Stage::new(script()).await;
    let mut slowest = Duration::ZERO;
    for at in 1..=MOST_COMMITS {
        let database = TestDatabase::private().await.unwrap();
        let outcome = cut_run(&database, &stage, Cut { at, point }).await;
        assert_eq!(outcome.output, json!({"answer": "one and two"}), "COMMIT {at}, {point:?}");
        if !outcome.was_cut {
            assert!(at > 5, "a run with five steps commits at least five times");
            assert!(slowest < RESUME_WITHIN, "{slowest:?}");
            return (at - 1, slowest);
        }
        slowest = slowest.max(outcome.resumed_in.unwrap_or_default());
    }
    panic!("the run still had not ended after {MOST_COMMITS} COMMITs");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_killed_before_each_commit_a_run_ends_the_same() {
    let (kills, slowest) = kill_at_every_commit(Point::BeforeForwarding).await;
    println!("{kills} kills; runs went on at most {slowest:?} after ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_killed_after_each_commit_a_run_ends_the_same() {
    let (kills, slowest) = kill_at_every_commit(Point::AfterAnswer).await;
    println!("{kills} kills; runs went on at most {slowest:?} after ready");
}

/// A run that waits in its second tool, held there by the fixture.
async fn run_held_in_a_tool(home: &Home) -> (Server, Stage, Api, String) {
    let lines = vec![
        Line::call("kit__echo", json!({"text": "one"})),
        Line::call("kit__slow", json!({})),
        Line::Says(json!({"answer": "done"}).to_string()),
    ];
    let stage = Stage::new(lines).await;
    let server = home.start().await.expect("the server starts");
    let api = stage.apply(&server).await;
    stage.kit.hold();
    let run_id = api.create_run("tester", &json!("go")).await.unwrap();
    wait_for_call(&stage.kit, "slow").await;
    (server, stage, api, run_id)
}

async fn wait_for_call(kit: &FixtureMcp, tool: &str) {
    let began = Instant::now();
    while !kit.calls().iter().any(|call| call.tool == tool) {
        assert!(began.elapsed() < PATIENCE, "{tool} is not called");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_killed_postmaster_loses_no_run() {
    let home = Home::new().unwrap();
    let (server, stage, api, run_id) = run_held_in_a_tool(&home).await;
    let pid_file = home.data_dir().join("pg/data/postmaster.pid");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let postmaster = Pid::from_raw(pid.lines().next().unwrap().parse().unwrap());
    kill(postmaster, Signal::SIGKILL).unwrap();
    let began = Instant::now();
    // what the killed one's children still answer is not the new one's readiness, and that is in its file's last line
    let is_new = || std::fs::read_to_string(&pid_file).is_ok_and(|now| now != pid && now.contains("\nready"));
    while !is_new() || !api.get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
        assert!(began.elapsed() < PATIENCE, "PostgreSQL does not come back:\n{}", home.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("PostgreSQL was back after {:?}", began.elapsed());
    stage.kit.let_go();
    let found = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    assert_eq!(
        (&found["run"]["state"], &found["output"]["answer"]),
        (&json!("completed"), &json!("done")),
        "{found}"
    );
    let echoes = stage.kit.calls().iter().filter(|call| call.tool == "echo").count();
    assert_eq!(echoes, 1, "what was recorded is not done again");
    let (code, doctor) = home.cli_json(&["doctor"]).await.unwrap();
    assert_eq!(code, 0, "{doctor}");
    assert!(server.stop(Signal::SIGTERM).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_signal_drains_and_the_next_start_goes_on() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let home = Home::new().unwrap();
        let (server, stage, _, run_id) = run_held_in_a_tool(&home).await;
        let status = server.stop(signal).await.unwrap();
        assert_eq!(status.code(), Some(0), "{signal}: {}\n{}", describe(status), home.log());
        stage.kit.let_go();
        let server = home.start().await.expect("it starts again");
        let api = server.api().in_project(PROJECT);
        let found = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
        assert_eq!(found["run"]["state"], "completed", "{signal}: {found}");
        let calls = stage.kit.calls();
        assert_eq!(calls.iter().filter(|call| call.tool == "echo").count(), 1, "{signal}");
        let keys: Vec<_> = calls.iter().filter(|call| call.tool == "slow").map(|call| &call.key).collect();
        assert!(
            (1..=2).contains(&keys.len()) && keys.iter().all(|key| *key == keys[0]),
            "{signal}: {keys:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_second_server_on_the_same_directory_names_the_owner() {
    let home = Home::new().unwrap();
    let mut server = home.start().await.unwrap();
    let pid = server.process().pid().to_string();
    let output = home.cli(&["dev", "--port", "0"]).await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains(&pid) && stderr.contains("in use"), "{stderr}");
    assert_eq!(server.api().get("/readyz").await.unwrap().status, 200, "the first one goes on");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(home.data_dir().join("dev.env")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_killed_server_is_back_with_all_its_data_in_a_moment() {
    let home = Home::new().unwrap();
    let (server, stage, _, run_id) = run_held_in_a_tool(&home).await;
    server.kill().unwrap();
    stage.kit.let_go();
    let server = home.start().await.expect("it starts after kill -9");
    println!("ready {:?} after the start of the process", server.started_in());
    let api = server.api().in_project(PROJECT);
    let found = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    assert_eq!(found["run"]["state"], "completed", "{found}");
    let steps = api.steps(&run_id).await.unwrap();
    let epochs: Vec<i64> = steps.iter().map(|step| step["epoch"].as_i64().unwrap()).collect();
    assert_eq!(epochs[..3], [1, 1, 1], "finished steps stay as they are");
    assert!(epochs[3] > 1, "the cut step was done in a later epoch: {epochs:?}");
    assert_eq!(found["attempt"], 2);
    assert_eq!(stage.model.asked(), 3, "no model answer was asked for twice");
}
