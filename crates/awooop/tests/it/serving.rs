//! Production-shaped serving: a database that somebody else runs, migrated by the program, an API and
//! workers as processes of their own, and what `serve` refuses to start with.
//!
//! Nothing here is made by `dev`: roles, schema, keyring and the first key come from `awooop migrate`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Instant;

use awooop_journeys::client::Api;
use awooop_journeys::cluster::{Cluster, ClusterUrls};
use awooop_journeys::db::connect;
use awooop_journeys::fixture_mcp::FixtureMcp;
use awooop_journeys::fixture_model::{FixtureModel, Line};
use awooop_journeys::process::{Process, describe};
use awooop_journeys::server::Home;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::scripted::{PATIENCE, end, until};
use crate::support::{home_on, kit};

const PROJECT: &str = "served";

/// A database with nothing in it, dropped at the end.
pub(crate) struct Empty {
    cluster: Arc<Cluster>,
    name: String,
}

impl Empty {
    pub(crate) async fn new() -> Empty {
        let cluster = Cluster::get().await.expect("a cluster");
        let name = format!("awooop_empty_{:016x}", rand::random::<u64>());
        let admin = connect(&cluster.urls().in_database("postgres").admin).await.unwrap();
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Empty { cluster, name }
    }

    pub(crate) fn urls(&self) -> ClusterUrls {
        self.cluster.urls().in_database(&self.name)
    }

    pub(crate) async fn drop(self) {
        let admin = connect(&self.cluster.urls().in_database("postgres").admin).await.unwrap();
        admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await.unwrap();
    }
}

pub(crate) async fn output(mut command: Command) -> (i32, String, String) {
    command.stdin(Stdio::null());
    let made = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let Output { status, stdout, stderr } = made.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code().unwrap_or(-1), text(&stdout), text(&stderr))
}

/// An installation: settings, keyring, the operator's list, the admin's key.
pub(crate) struct Site {
    pub(crate) home: Home,
    pub(crate) keys: PathBuf,
    pub(crate) list: PathBuf,
    pub(crate) key: String,
}

/// `awooop migrate` as the administrator of an empty database; its first key.
pub(crate) async fn install(urls: &ClusterUrls) -> Site {
    let home = home_on(urls);
    let (keys, list) = (home.path().join("keys"), home.path().join("operator.toml"));
    std::fs::write(&list, "private_addresses = [\"127.0.0.1\"]\n").unwrap();
    let made = output(home.command(&["migrate", "--admin-url", &urls.admin, "--keys", shown(&keys)])).await;
    assert_eq!(made.0, 0, "{made:?}");
    let key = made.1.trim().to_owned();
    assert!(key.starts_with("awp_platform_") && key.lines().count() == 1, "stdout is the key: {made:?}");
    assert!(made.2.contains("shown this once"), "{}", made.2);
    for secret in [&urls.admin, &urls.owner, &key] {
        assert!(!made.2.contains(secret.as_str()), "{}", made.2);
    }
    Site { home, keys, list, key }
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A process of `awooop serve`.
pub(crate) struct Node {
    process: Process,
    log: PathBuf,
    data: PathBuf,
}

impl Node {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where it says that it serves.
    pub(crate) fn url(&self) -> String {
        let log = self.log();
        let rest = log.split("AwoooP serves ").nth(1).unwrap_or_else(|| panic!("no address: {log}"));
        rest.split_whitespace().next().unwrap().to_owned()
    }

    pub(crate) async fn stop(mut self) -> std::process::ExitStatus {
        self.process.signal(Signal::SIGTERM).unwrap();
        self.process.wait(PATIENCE).await.unwrap().expect("it ends")
    }
}

impl Site {
    /// Starts a node and waits until it says that it serves.
    pub(crate) async fn serve(&self, role: &str, name: &str) -> Node {
        self.serve_with(role, name, &[]).await
    }

    /// The same with further options.
    pub(crate) async fn serve_with(&self, role: &str, name: &str, options: &[&str]) -> Node {
        let (data, log) = (self.home.path().join(name), self.home.path().join(format!("{name}.log")));
        let mut command = self.command(role);
        command.args(options).arg("--data-dir").arg(&data).env("AWOOOP_LOG", "info");
        let file = File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let mut node = Node { process: Process::spawn(&mut command).unwrap(), log, data };
        let began = Instant::now();
        while !node.log().contains("AwoooP serves") {
            assert!(node.process.ended().unwrap().is_none(), "{}", node.log());
            assert!(began.elapsed() < PATIENCE, "{}", node.log());
            tokio::task::yield_now().await;
        }
        node
    }

    pub(crate) fn command(&self, role: &str) -> Command {
        let (keys, list) = (shown(&self.keys), shown(&self.list));
        let listen = ["--listen", "127.0.0.1:0"];
        self.home
            .command(&[&["serve", "--role", role, "--keys", keys, "--operator", list][..], &listen].concat())
    }

    /// The doctor with keys and list: content, then not, for something that was changed behind the server's back.
    async fn assert_the_doctor_sees(&self, database: &Empty) {
        let doctor = async |json: bool| {
            let (keys, list) = (shown(&self.keys), shown(&self.list));
            let mut command = self.home.command(&["doctor", "--keys", keys, "--operator", list]);
            command.args(json.then_some("--json"));
            output(command).await
        };
        let well = doctor(false).await;
        assert_eq!(well.0, 0, "{well:?}");
        for told in ["ok    keyring", "5 current, 0 accepted, 0 retired", "ok    walls", "workers alive: 1"] {
            assert!(well.1.contains(told), "{told}: {}", well.1);
        }
        let admin = connect(&database.urls().admin).await.unwrap();
        admin.batch_execute("GRANT DELETE ON awooop.audit_seal TO awooop_app").await.unwrap();
        let wrong = doctor(true).await;
        let found: Value = serde_json::from_str(&wrong.1).unwrap();
        let problems: Vec<&Value> =
            found["checks"].as_array().unwrap().iter().filter(|check| check["is_well"] == false).collect();
        assert_eq!((wrong.0, problems.len()), (1, 1), "{found}");
        assert_eq!(problems[0]["check"], "walls");
        assert!(problems[0]["problems"].to_string().contains("audit_seal: awooop_app DELETE"), "{found}");
        admin.batch_execute("REVOKE DELETE ON awooop.audit_seal FROM awooop_app").await.unwrap();
    }

    /// The API of a node that answers HTTP.
    fn api(&self, node: &Node) -> Api {
        Api::new(&node.url(), Some(&self.key)).unwrap().in_project(PROJECT)
    }
}

/// What a run needs outside: a tool, a slow tool, then the answer.
async fn outside(api: &Api) -> (FixtureMcp, FixtureModel) {
    let lines = vec![
        Line::call("kit__echo", json!({"text": "one"})),
        Line::call("kit__slow", json!({})),
        Line::Says(json!({"answer": "done"}).to_string()),
    ];
    let tools = FixtureMcp::start().await.unwrap();
    let model = FixtureModel::start(lines).await.unwrap();
    let granted = ["echo", "slow"];
    let manifests = kit(PROJECT, tools.provider_spec(), model.provider_spec(), "script", &granted);
    api.apply(&manifests).await.unwrap();
    (tools, model)
}

fn calls_of(tools: &FixtureMcp, name: &str) -> usize {
    tools.calls().iter().filter(|call| call.tool == name).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_an_empty_database_is_migrated_once_and_unsafe_settings_are_refused() {
    let (empty, other) = (Empty::new().await, Empty::new().await);
    let urls = empty.urls();
    let planned = output(home_on(&urls).command(&["migrate", "--plan", "--json"])).await;
    let plan: Value = serde_json::from_str(&planned.1).unwrap();
    assert!(planned.0 == 0 && plan["schema_version"] == 0 && plan["items"][0]["version"] == 1, "{planned:?}");
    let site = install(&urls).await;
    let planned = output(site.home.command(&["migrate", "--plan"])).await;
    assert!(planned.0 == 0 && planned.1.is_empty() && planned.2.contains("nothing would run"), "{planned:?}");
    let again = output(site.home.command(&["migrate", "--keys", shown(&site.keys)])).await;
    assert_eq!((again.0, again.1.as_str()), (0, ""), "no second key: {again:?}");
    assert!(again.2.contains("up to date") && again.2.contains("has an admin key"), "{}", again.2);
    let printed = output(site.home.command(&["migrate", "--print-roles"])).await;
    assert!(printed.0 == 0 && printed.2.is_empty(), "{printed:?}");
    for role in ["awooop_owner", "awooop_app", "awooop_dispatch", "awooop_retention", "awooop_backup"] {
        assert!(printed.1.contains(role), "{}", printed.1);
    }
    assert!(printed.1.contains("CREATE ROLE") && !printed.1.contains("PASSWORD '"), "{}", printed.1);

    let admin = connect(&urls.admin).await.unwrap();
    let superuser: String = admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    let unsafe_role = |role: &str, variable: &str, reason: &str| {
        format!(
            "refusing to start: the role `{role}` of {variable} {reason}; use the roles made by `awooop migrate`"
        )
    };
    const APP: &str = "AWOOOP_DATABASE_URL";
    const DISPATCH: &str = "AWOOOP_DISPATCH_DATABASE_URL";
    let empty_schema = "the schema is at version 0, this binary needs 18: run `awooop migrate`".to_owned();
    for (variable, url, said) in [
        (APP, urls.admin.as_str(), unsafe_role(&superuser, APP, "is a superuser")),
        (DISPATCH, &urls.admin, unsafe_role(&superuser, DISPATCH, "is a superuser")),
        (APP, &urls.owner, unsafe_role("awooop_owner", APP, "owns the tables")),
        (DISPATCH, &urls.owner, unsafe_role("awooop_owner", DISPATCH, "owns the tables")),
        (APP, &other.urls().app, empty_schema),
        (APP, "nonsense", "AWOOOP_DATABASE_URL is not a PostgreSQL URL".to_owned()),
        (APP, "", "AWOOOP_DATABASE_URL is not set".to_owned()),
    ] {
        let mut command = site.command("all");
        command.arg("--data-dir").arg(site.home.path().join("refused")).env(variable, url);
        let refused = output(command).await;
        assert_eq!(refused.0, 1, "{variable}: {refused:?}");
        assert!(refused.2.contains(&said), "expected `{said}`, got {}", refused.2);
        assert!(!refused.2.contains("password="), "{}", refused.2);
        assert_eq!(refused.1, "");
    }
    let without = output(site.home.command(&["serve"])).await;
    assert!(without.0 == 1 && without.2.contains("awooop migrate --keys"), "{without:?}");
    let missing = site.home.path().join("no-keys");
    let without = output(site.home.command(&["serve", "--keys", shown(&missing)])).await;
    assert!(without.0 == 1 && without.2.contains("there is no keyring at"), "{without:?}");
    assert!(!missing.exists(), "serve makes no keyring");
    empty.drop().await;
    other.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_an_api_and_a_worker_do_a_run_together_and_a_stopped_worker_gives_it_back() {
    let empty = Empty::new().await;
    let site = install(&empty.urls()).await;
    let api_node = site.serve("api", "api").await;
    let api = site.api(&api_node);
    let (tools, model) = outside(&api).await;
    tools.hold();

    // nobody works yet: runs wait, and one of them is cancelled
    let run_id = api.create_run("tester", &json!("go")).await.unwrap();
    let cancelled = api.create_run("tester", &json!("never")).await.unwrap();
    for _ in 0..2 {
        let answer = api.post(&format!("/v1/platform/runs/{cancelled}/cancel"), &json!({})).await.unwrap();
        assert_eq!((answer.status, end(&answer.json())), (200, ("cancelled", "")), "{}", answer.text);
    }
    let waiting = api.get_run(&run_id).await.unwrap();
    assert_eq!((end(&waiting).0, &waiting["attempt"]), ("pending", &json!(0)), "{waiting}");

    let worker = site.serve("worker", "first").await;
    until("the slow tool is called", async || calls_of(&tools, "slow") == 1).await;
    let status = worker.stop().await;
    assert!(status.success(), "{}", describe(status));
    let given_back = api.get_run(&run_id).await.unwrap();
    assert_eq!((end(&given_back).0, &given_back["attempt"]), ("pending", &json!(0)), "{given_back}");

    tools.let_go();
    let worker = site.serve("worker", "second").await;
    for (path, status) in
        [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/v1/platform/runs", 404), ("/mcp", 404)]
    {
        assert_eq!(site.api(&worker).get(path).await.unwrap().status, status, "a worker's {path}");
    }
    let found = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    assert_eq!((end(&found), &found["attempt"]), (("completed", ""), &json!(1)), "{found}");
    assert_eq!((calls_of(&tools, "echo"), model.asked()), (1, 3), "no finished step was done again");
    let keys: Vec<_> = tools.calls().into_iter().filter(|c| c.tool == "slow").map(|c| c.key).collect();
    assert!(keys.len() == 2 && keys[0] == keys[1], "the cut call has its key: {keys:?}");
    assert_eq!(end(&api.get_run(&cancelled).await.unwrap()), ("cancelled", ""));
    assert_eq!(api.steps(&cancelled).await.unwrap(), Vec::<Value>::new());

    // cancelled at one process while another is in its tool
    tools.hold();
    let run_id = api.create_run("tester", &json!("go")).await.unwrap();
    until("the slow tool is called", async || calls_of(&tools, "slow") == 3).await;
    let answer = api.post(&format!("/v1/platform/runs/{run_id}/cancel"), &json!({})).await.unwrap();
    assert_eq!((answer.status, end(&answer.json())), (200, ("cancelled", "")), "{}", answer.text);
    tools.let_go();
    let other = api.create_run("tester", &json!("go")).await.unwrap();
    let other = api.wait_for_end(&other, PATIENCE).await.unwrap();
    assert_eq!(end(&other), ("completed", ""), "{other}");
    assert_eq!(api.steps(&run_id).await.unwrap().len(), 3, "what came after the end is not recorded");
    assert_eq!(model.asked(), 3 + 2 + 3, "and nothing more was done for it");
    site.assert_the_doctor_sees(&empty).await;
    assert!(worker.stop().await.success());
    assert!(api_node.stop().await.success());
    empty.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_killed_worker_s_run_is_finished_by_the_other_without_repeating_a_step() {
    let empty = Empty::new().await;
    let site = install(&empty.urls()).await;
    let mut nodes = vec![site.serve("worker", "one").await, site.serve("worker", "two").await];
    let api_node = site.serve("api", "api").await;
    let api = site.api(&api_node);
    let (tools, model) = outside(&api).await;
    tools.hold();
    let run_id = api.create_run("tester", &json!("go")).await.unwrap();
    until("the slow tool is called", async || calls_of(&tools, "slow") == 1).await;
    let admin = connect(&empty.urls().admin).await.unwrap();
    let row = admin.query_one("SELECT worker_id FROM run_state WHERE state = 'running'", &[]).await.unwrap();
    let who: String = row.get(0);
    let is_it = |node: &Node| std::fs::read_to_string(node.data.join("node.json")).unwrap().contains(&who);
    let at = nodes.iter().position(is_it).expect("one of the two has it");
    nodes.remove(at).process.kill().unwrap();
    tools.let_go();
    let began = Instant::now();
    let found = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    println!("finished {:?} after the kill", began.elapsed());
    assert!(began.elapsed().as_secs() < 28, "{:?}", began.elapsed());
    assert_eq!((end(&found), &found["attempt"]), (("completed", ""), &json!(2)), "{found}");
    let steps = api.steps(&run_id).await.unwrap();
    let epochs: Vec<i64> = steps.iter().map(|step| step["epoch"].as_i64().unwrap()).collect();
    assert_eq!(epochs, [1, 1, 1, 3, 3], "what was finished stays; the reap is an epoch of its own");
    assert_eq!((calls_of(&tools, "echo"), model.asked()), (1, 3), "no finished step was done again");
    let doctor = output(site.home.command(&["doctor", "--json"])).await;
    assert_eq!(doctor.0, 0, "{doctor:?}");
    for node in nodes {
        assert!(node.stop().await.success());
    }
    assert!(api_node.stop().await.success());
    empty.drop().await;
}
