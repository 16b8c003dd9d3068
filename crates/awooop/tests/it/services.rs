//! Every task that a node runs for itself, beside two projects that do the same: what it does for one it does not do to
//! the other. Both lived in 2023, by a store whose clock stood there, so that retention has something to do as soon as
//! the server is up.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::DirBuilderExt;

use awooop_core::RunId;
use awooop_journeys::client::Api;
use awooop_journeys::db::{TestDatabase, TestProject, TestStore, manifest, new_run};
use awooop_journeys::server::Home;
use awooop_store::Clock;
use awooop_store::contract::ApplyOptions;
use awooop_store::run::Created;
use awooop_store::scope::Service;
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::scripted::{Say, Scripted, agent, calls, given, mcp, result, run, says, until};
use crate::support::home_on;

/// What the test below checks of a service, or where two projects are beside it otherwise.
fn checked(service: Service) -> &'static str {
    match service {
        Service::Heartbeat => "the runs of both keep their leases",
        Service::Claimer => "runs of both end, with their own words",
        Service::Reaper => "what nobody began in time is over, in both",
        Service::Upstream => "a tool server that both use hears of each only from its own connection",
        Service::Sealer => "each has a chain of its own, which is whole",
        Service::AuditHeads => "each has a file of its own, up to the last events, without the other's name",
        Service::AuditRetention => "each says what expired of its own",
        Service::RunRetention => {
            "of the one that keeps runs for a month the old one went, the other has its own"
        }
        Service::Storage => "both are counted, and the one with more has more",
        Service::Stops => "the one that is paused waits, the other goes on",
        Service::ProjectDeletion => "one goes, and the other has every row that it had",
        Service::Connection | Service::Http => "all of it was asked through it",
        Service::Ask | Service::Keyring | Service::Wakes => "started; it has no project's data",
        Service::Clock => "started where no worker is; it has no project's data",
        Service::Certificate => {
            "tls::heavy_a_renewed_certificate_is_taken_over_whole_and_open_connections_go_on"
        }
        Service::Issuer => "sign_in::heavy_groups_make_roles_in_each_project",
        Service::SeparateWorker => {
            "separate::heavy_a_killed_worker_is_started_again_and_takes_its_runs_back_and_none_outlives_its_server"
        }
    }
}

/// A model and a tool server for both: `echo` says the word again, `hang` never answers.
async fn outside() -> Scripted {
    Scripted::start(|body| {
        if body["jsonrpc"] == "2.0" {
            let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}});
            let tool = |name: &str| json!({"name": name, "inputSchema": schema});
            return mcp(body, json!([tool("echo"), tool("hang")]), |name, arguments| match name {
                "hang" => Say::Never,
                _ => result(body, json!({"content": [{"type": "text", "text": arguments["text"]}]})),
            });
        }
        let text = body["messages"].to_string();
        let word: String = text.split("word-of-").nth(1).unwrap_or_default().chars().take(18).collect();
        let word = json!({ "text": format!("word-of-{word}") }).to_string();
        Say::Json(match (given(body), body["model"].as_str()) {
            (0, Some("hangs")) => calls(&[("kit__hang", &word)]),
            (0, _) => calls(&[("kit__echo", &word)]),
            _ => says(&word),
        })
    })
    .await
}

async fn create(test: &TestStore, project: &TestProject) -> RunId {
    let new = new_run(&test.store, project).await;
    match test.store.create_run(&project.scope, &new).await.unwrap() {
        Created::New(run_id) => run_id,
        other => panic!("{other:?}"),
    }
}

/// Two projects of 2023, each with a run that was cancelled then, one that nobody began, and an audit that was sealed;
/// the first keeps runs for a month.
struct Past {
    test: TestStore,
    left: TestProject,
    right: TestProject,
}

impl Past {
    async fn make(outside: &Scripted) -> Past {
        let then = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
        let database = TestDatabase::private().await.unwrap();
        let test = TestStore::open(database, then).await.unwrap();
        let (left, right) = (test.project().await, test.project().await);
        for (project, retention) in [(&left, json!({"runs_days": 30})), (&right, Value::Null)] {
            let id = project.id.as_str();
            let mut spec =
                json!({"display_name": format!("word-of-{id}"), "limits": {"max_storage_bytes": 50_000_000}});
            if !retention.is_null() {
                spec["retention"] = retention;
            }
            let document = |kind: &str, id: &str, spec: Value| json!({"kind": kind, "project": project.id, "id": id, "spec": spec});
            let tools = outside.tool_spec(&[("echo", "read_only"), ("hang", "read_only")]);
            let granted = ["kit__echo", "kit__hang"];
            let documents = [
                document("project", id, spec),
                document("provider", "kit", tools),
                document("provider", "brain", outside.model_spec(&["works", "hangs"])),
                agent(id, "works", "brain/works", &granted, json!({})),
                agent(id, "hangs", "brain/hangs", &granted, json!({"timeout_ms": 2_000, "max_attempts": 1})),
            ];
            let manifests: Vec<_> = documents.into_iter().map(|one| manifest(one).unwrap()).collect();
            test.store.apply(&project.caller, &manifests, ApplyOptions::default()).await.unwrap();
            let (old, queued) = (create(&test, project).await, create(&test, project).await);
            test.store.cancel_run(&project.scope, old).await.unwrap();
            assert_ne!(old, queued);
            let nobody = std::collections::HashSet::new();
            test.store.seal(&project.id, uuid::Uuid::nil(), &nobody).await.unwrap();
        }
        Past { test, left, right }
    }

    /// A server of today on the same database and keyring, with every service that can be had on one machine.
    fn home(&self) -> Home {
        let urls = self.test.database().urls();
        let home = home_on(urls);
        let heads = home.path().join("heads");
        let keys = home.data_dir().join("keys");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&keys).unwrap();
        for entry in std::fs::read_dir(self.test.keys()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), keys.join(entry.file_name())).unwrap();
        }
        home.env("AWOOOP_RETENTION_DATABASE_URL", &urls.retention)
            .env("AWOOOP_AUDIT_RETENTION_DAYS", "365")
            .env("AWOOOP_AUDIT_HEADS_DIR", heads.to_str().unwrap())
            .env("AWOOOP_LOG", "info,awooop=debug,awooop_store::scope=trace")
    }

    /// One number a project.
    async fn numbers(&self, sql: &str) -> BTreeMap<String, i64> {
        let rows = self.test.database().admin().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Every row of a project, as one hash a table; without the audit, which goes on whenever somebody looks.
    async fn rows(&self, project: &str) -> BTreeMap<String, String> {
        let admin = self.test.database().admin().await;
        let tables = "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id'
            WHERE c.relnamespace = 'awooop'::regnamespace AND c.relkind = 'r' AND c.relname NOT LIKE 'audit%'";
        let mut found = BTreeMap::new();
        for row in admin.query(tables, &[]).await.unwrap() {
            let table: String = row.get(0);
            let sql = format!(
                "SELECT md5(coalesce(string_agg(t::text, ';' ORDER BY t::text), '')) FROM awooop.{table} t WHERE project_id = $1"
            );
            found.insert(table, admin.query_one(&sql, &[&project]).await.unwrap().get(0));
        }
        found
    }
}

async fn listed(api: &Api, path: &str) -> Vec<Value> {
    let page = api.get(&format!("/v1/platform/{path}")).await.unwrap().expect(200).unwrap();
    page["items"].as_array().unwrap().clone()
}

/// No line is about both.
fn assert_apart(log: &str, names: [&str; 2]) {
    let both: Vec<&str> = log.lines().filter(|line| names.iter().all(|name| line.contains(name))).collect();
    assert_eq!(both, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_every_service_serves_two_projects_apart() {
    let outside = outside().await;
    let past = Past::make(&outside).await;
    let names = [past.left.id.as_str(), past.right.id.as_str()];
    let home = past.home();
    let server = home.start().await.expect("the server starts");
    let apis = names.map(|name| server.api().in_project(name));

    // retention, as soon as the server is up
    let old_runs =
        "SELECT project_id, count(*) FROM awooop.run_state WHERE created_at < '2024-01-01' GROUP BY 1";
    let kept = BTreeMap::from([(names[0].to_owned(), 1), (names[1].to_owned(), 2)]);
    until("the old run of the left is gone", async || past.numbers(old_runs).await == kept).await;
    let over = "SELECT project_id, count(*) FROM awooop.run_state WHERE created_at < '2024-01-01' AND state = 'timeout'
        GROUP BY 1";
    let timed_out = names.map(|name| (name.to_owned(), 1));
    until("what nobody began is over time", async || {
        past.numbers(over).await == BTreeMap::from(timed_out.clone())
    })
    .await;
    for api in &apis {
        until("what expired is recorded", async || {
            !listed(api, "audit?action=audit.expire").await.is_empty()
        })
        .await;
    }
    let expired =
        "SELECT project_id, count(*) FROM awooop.audit_event WHERE action IN ('audit.expire', 'run.expire')
        AND project_id <> 'platform' GROUP BY 1";
    let wanted = BTreeMap::from([(names[0].to_owned(), 2), (names[1].to_owned(), 1)]);
    assert_eq!(past.numbers(expired).await, wanted, "each says what was its own");

    // work: the same for both at the same time, and one hangs in each
    let work = async |i: usize| {
        let word = json!(format!("word-of-{}", names[i]));
        let (ended, hung) = tokio::join!(run(&apis[i], "works", &word), run(&apis[i], "hangs", &word));
        assert_eq!(
            (&ended["run"]["state"], &ended["output"]["text"]),
            (&json!("completed"), &word),
            "{ended}"
        );
        assert_eq!(hung["run"]["state"], "timeout", "{hung}");
    };
    tokio::join!(work(0), work(1));
    for asked in outside.asked() {
        let about: BTreeSet<&str> =
            names.into_iter().filter(|name| asked.body.to_string().contains(name)).collect();
        assert!(about.len() < 2, "one request is about both: {}", asked.body);
    }

    // a stop of the one
    let pause = json!({"kind": "pause", "target": "project"});
    apis[0].post("/v1/platform/halts", &pause).await.unwrap().expect(201).unwrap();
    let waits = apis[0].create_run("works", &json!(format!("word-of-{}", names[0]))).await.unwrap();
    let goes_on = run(&apis[1], "works", &json!(format!("word-of-{}", names[1]))).await;
    assert_eq!(goes_on["run"]["state"], "completed", "{goes_on}");
    assert_eq!(apis[0].get_run(&waits).await.unwrap()["run"]["state"], "pending");

    run(&apis[1], "works", &json!(format!("word-of-{} {}", names[1], "x".repeat(100_000)))).await;
    assert!(server.stop(Signal::SIGTERM).await.unwrap().success());
    // storage, counted as soon as the next server is up
    let due = "UPDATE awooop.project SET storage_due_at = now()";
    past.test.database().admin().await.batch_execute(due).await.unwrap();
    let server = home.start().await.expect("the server starts again");
    let apis = names.map(|name| server.api().in_project(name));
    let stored = "SELECT project_id, stored_bytes FROM awooop.project WHERE stored_bytes > 0 AND storage_due_at > now()";
    until("both are counted", async || past.numbers(stored).await.len() == 2).await;
    let stored = past.numbers(stored).await;
    assert!(stored[names[1]] > stored[names[0]], "{stored:?}");

    // the audit of each, whole, and its heads outside, up to the stop
    for (name, other) in [(names[0], names[1]), (names[1], names[0])] {
        let heads = home.path().join(format!("heads/{name}.ndjson"));
        let written = std::fs::read_to_string(&heads).unwrap();
        assert!(written.contains(name) && !written.contains(other), "{written}");
        let verify = ["audit", "verify", "--project", name, "--head", heads.to_str().unwrap()];
        let (code, report) = home.cli_json(&verify).await.unwrap();
        assert_eq!(code, 0, "{report}");
    }

    // one goes, nothing of the other does
    let before = past.rows(names[1]).await;
    let delete = format!("/v1/platform/projects/{}/delete", names[0]);
    let asked = server.api().post(&delete, &json!({"confirm": names[0]})).await.unwrap();
    assert_eq!(asked.status, 202, "{}", asked.text);
    until("the left is deleted", async || {
        listed(server.api(), "deletions")
            .await
            .iter()
            .any(|d| d["project_id"] == names[0] && d["state"] == "deleted")
    })
    .await;
    assert_eq!(past.rows(names[1]).await, before, "the right has every row that it had");
    let last = run(&apis[1], "works", &json!(format!("word-of-{}", names[1]))).await;
    assert_eq!(last["run"]["state"], "completed", "{last}");

    let log = home.log();
    assert_apart(&log, names);
    for service in Service::ALL {
        let is_here = !checked(*service).contains("::") && *service != Service::Clock;
        let name = service.name();
        let names = [name.to_owned(), format!("{name:?}")];
        let is_started = names.iter().any(|name| log.contains(&format!("service{{name={name}}}: started")));
        assert!(!is_here || is_started, "the service `{name}` is not in the log");
    }
}
