//! Two hundred projects at work at the same time on one server. Each has a word of its own in everything it asks, calls
//! and answers, and a price of its own; afterwards every row, event, audit, budget, log line and answer is searched for
//! words, runs and charges of another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use awooop_journeys::client::Api;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::scripted::{
    PATIENCE, Say, Scripted, Stage, agent, calls_for, end, given, manifest, mcp, result, says_for,
};

const PROJECTS: usize = 200;
const RUNS_EACH: usize = 3;
/// Requests of this test under way at a time.
const AT_A_TIME: usize = 48;

fn name_of(i: usize) -> String {
    format!("crowd-{i:03}")
}

/// What one call of a project's model costs; no two projects pay the same.
fn price_of(i: usize) -> u64 {
    10 + i as u64
}

/// Whose words are in a text.
fn owners(text: &str) -> BTreeSet<String> {
    let words = text.split("word-of-").skip(1);
    words.map(|rest| rest.chars().take(name_of(0).len()).collect()).collect()
}

fn only(project: &str) -> BTreeSet<String> {
    BTreeSet::from([project.to_owned()])
}

/// A model and a tool server for everybody, which note whoever is asked with another's words.
async fn outside(strange: Arc<Mutex<Vec<String>>>) -> Scripted {
    Scripted::start(move |body| {
        if body["jsonrpc"] == "2.0" {
            let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}});
            let tools = json!([{"name": "echo", "description": "Says it again", "inputSchema": schema,
                "annotations": {"readOnlyHint": true}}]);
            return mcp(body, tools, |_, arguments| {
                let said =
                    json!({"content": [{"type": "text", "text": format!("heard {}", arguments["text"])}]});
                result(body, said)
            });
        }
        let project = body["model"].as_str().unwrap_or_default();
        if owners(&body["messages"].to_string()) != only(project) {
            strange.lock().unwrap().push(format!("{project} was asked {}", body["messages"]));
        }
        let price = price_of(project.trim_start_matches("crowd-").parse().unwrap());
        let word = format!("word-of-{project}");
        Say::Json(match given(body) {
            0 => calls_for(&[("kit__echo", &json!({ "text": word }).to_string())], (price, 0)),
            _ => says_for(&json!({ "answer": word }).to_string(), (price, 0)),
        })
    })
    .await
}

async fn project(stage: &Stage, outside: &Scripted, i: usize) -> (usize, Api) {
    let name = name_of(i);
    let model = format!("brain/{name}");
    let manifests = [
        manifest(
            "project",
            &name,
            &name,
            json!({"display_name": format!("word-of-{name}"), "budget": {"tokens": 1_000_000}}),
        ),
        manifest("provider", &name, "kit", outside.tool_spec(&[("echo", "read_only")])),
        manifest("provider", &name, "brain", outside.model_spec(&[&name])),
        agent(
            &name,
            "tester",
            &model,
            &["kit__echo"],
            json!({"instructions": format!("Say word-of-{name}.")}),
        ),
    ];
    let api = stage.apply(&name, &manifests).await;
    let key = api.create_key(&json!({"name": "owner", "role": "admin"})).await.unwrap();
    (i, Api::new(api.base(), Some(&key)).unwrap())
}

/// Every page of a list.
async fn all_of(api: &Api, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let mark = if path.contains('?') { '&' } else { '?' };
        let page = api.get(&format!("{path}{mark}limit=200{cursor}")).await.unwrap().expect(200).unwrap();
        // what is no list of items is one item
        items.extend(page["items"].as_array().cloned().unwrap_or_else(|| vec![page.clone()]));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

/// Everything a project can be told, searched for others' words and runs.
async fn assert_its_own(i: usize, api: &Api, runs: &BTreeMap<String, String>) {
    let name = name_of(i);
    let listed = all_of(api, "/v1/platform/runs").await;
    let ids: BTreeSet<&str> = listed.iter().map(|run| run["run"]["run_id"].as_str().unwrap()).collect();
    let own: BTreeSet<&str> = runs.iter().filter(|(_, of)| **of == name).map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, own, "{name} lists its runs");
    let mut told = Vec::new();
    for run_id in &own {
        told.push(api.get_run(run_id).await.unwrap().to_string());
        told.push(Value::from(api.steps(run_id).await.unwrap()).to_string());
        told.push(api.get(&format!("/v1/platform/runs/{run_id}/events")).await.unwrap().text);
    }
    for text in &told {
        assert_eq!(owners(text), only(&name), "{text}");
    }
    let lists =
        ["contracts", "tools", "audit", "keys", "budgets", "approvals", "schedules", "halts", "projects"];
    for list in lists {
        let text = Value::from(all_of(api, &format!("/v1/platform/{list}")).await).to_string();
        assert!(owners(&text).is_subset(&only(&name)), "{list} of {name}: {text}");
        let others = runs.iter().filter(|(_, of)| **of != name).find(|(id, _)| text.contains(id.as_str()));
        assert_eq!(others, None, "{list} of {name} names another's run");
    }
    let budget = crate::scripted::budget(api).await;
    assert_eq!(budget["settled"], json!(price_of(i) * 2 * RUNS_EACH as u64), "{name} pays its own: {budget}");
}

/// No row of a project holds another's word.
async fn assert_rows(stage: &Stage) {
    let admin = stage.database.admin().await;
    let tables = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id'
        WHERE s.nspname = 'awooop' AND c.relkind = 'r'";
    let mut searched = 0;
    for row in admin.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let sql = format!("SELECT project_id, t::text FROM awooop.{table} t WHERE t::text LIKE '%word-of-%'");
        for row in admin.query(&sql, &[]).await.unwrap() {
            let (project, text): (String, String) = (row.get(0), row.get(1));
            assert_eq!(owners(&text), only(&project), "a row of {table}");
            searched += 1;
        }
    }
    assert!(searched > PROJECTS * RUNS_EACH * 4, "{searched} rows were searched");
}

/// No log line speaks of two projects, or of one project and another's run.
fn assert_log(log: &str, runs: &BTreeMap<String, String>) {
    let after = |line: &str, mark: &str| -> BTreeSet<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        line.split(mark)
            .skip(1)
            .map(|rest| rest.trim_start_matches('"').chars().take_while(|c| is_part(*c)).collect())
            .collect()
    };
    let mut told = 0;
    for line in log.lines() {
        let projects = after(line, "project=");
        assert!(projects.len() < 2, "{line}");
        for run in after(line, "run_id=") {
            let (Some(of), Some(project)) = (runs.get(&run), projects.first()) else { continue };
            assert_eq!(of, project, "{line}");
            told += 1;
        }
    }
    println!("{told} log lines name a project and a run");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_two_hundred_projects_at_once_share_nothing() {
    let strange = Arc::new(Mutex::new(Vec::new()));
    let outside = outside(strange.clone()).await;
    let stage = Stage::start(&[("AWOOOP_LOG", "info,awooop=debug")], None).await;
    let making = futures::stream::iter(0..PROJECTS).map(|i| project(&stage, &outside, i));
    let projects: Vec<(usize, Api)> = making.buffer_unordered(8).collect().await;

    let asked: Vec<(usize, &Api)> =
        (0..RUNS_EACH).flat_map(|_| projects.iter().map(|(i, api)| (*i, api))).collect();
    let creating = futures::stream::iter(asked).map(|(i, api)| async move {
        let word = format!("word-of-{}", name_of(i));
        (api.create_run("tester", &json!(word)).await.unwrap(), i)
    });
    let made: Vec<(String, usize)> = creating.buffer_unordered(AT_A_TIME).collect().await;
    let runs: BTreeMap<String, String> = made.iter().map(|(id, i)| (id.clone(), name_of(*i))).collect();
    assert_eq!(runs.len(), PROJECTS * RUNS_EACH);

    // while they run, everybody asks for a run of its neighbour
    let by_place: BTreeMap<usize, &Api> = projects.iter().map(|(i, api)| (*i, api)).collect();
    let prying = futures::stream::iter(&made).map(|(run_id, i)| {
        let neighbour = by_place[&((i + 1) % PROJECTS)];
        async move { neighbour.get(&format!("/v1/platform/runs/{run_id}")).await.unwrap().status }
    });
    let seen: BTreeSet<u16> = prying.buffer_unordered(AT_A_TIME).collect().await;
    assert_eq!(seen, BTreeSet::from([404]));

    let ending = futures::stream::iter(&made).map(|(run_id, i)| {
        let api = by_place[i];
        async move {
            let ended = api.wait_for_end(run_id, PATIENCE * 3).await.unwrap();
            assert_eq!(end(&ended), ("completed", ""), "{ended}");
            assert_eq!(ended["output"]["answer"], format!("word-of-{}", name_of(*i)), "{ended}");
        }
    });
    ending.buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;

    assert_eq!(*strange.lock().unwrap(), Vec::<String>::new(), "a model was asked with another's words");
    let checking = futures::stream::iter(&projects).map(|(i, api)| assert_its_own(*i, api, &runs));
    checking.buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
    assert_rows(&stage).await;
    assert_log(&stage.home.log(), &runs);
    stage.assert_well().await;
}
