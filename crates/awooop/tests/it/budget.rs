//! Token budgets through the API: what is refused when they are spent, that no number of runs at the same
//! time exceeds one, and that what a killed server held is charged.
//!
//! The models are the tests' own and say what they cost, so every figure here can be computed.

use std::sync::atomic::{AtomicBool, Ordering};

use awooop_journeys::client::Api;
use serde_json::{Value, json};

use crate::scripted::{
    PATIENCE, Say, Scripted, Stage, agent, budget, calls_for, end, given, id_of, manifest, run, says_for,
    steps, until,
};

const PROJECT: &str = "spender";
/// What a call of `cheap` costs, in and out; less than is held for it.
const CHEAP: (u64, u64) = (500, 10);

/// `cheap` answers, `dear` calls a tool for 6,000 tokens, `once` for 4,500, and both then answer.
fn models(request: &Value) -> Say {
    let done = |tokens| Say::Json(says_for(r#"{"answer": "done"}"#, tokens));
    let first = |tokens| Say::Json(calls_for(&[("kit__nothing", "{}")], tokens));
    match (request["model"].as_str().unwrap_or_default(), given(request)) {
        ("dear", 0) => first((5_990, 10)),
        ("once", 0) => first((4_490, 10)),
        ("slow", _) => Say::WhenLetGo(says_for(r#"{"answer": "at last"}"#, (10, 5))),
        ("free", _) => done((0, 0)),
        _ => done(CHEAP),
    }
}

fn manifests(model: &Scripted, tokens: Option<i64>) -> Vec<Value> {
    let mut project = json!({"display_name": "Spender"});
    if let Some(tokens) = tokens {
        project["budget"] = json!({ "tokens": tokens });
    }
    let names = ["cheap", "dear", "once", "slow", "free"];
    let mut all = vec![
        manifest("project", PROJECT, PROJECT, project),
        manifest("provider", PROJECT, "brain", model.model_spec(&names)),
    ];
    for name in names {
        all.push(agent(PROJECT, name, &format!("brain/{name}"), &[], json!({"max_output_tokens": 20})));
    }
    all
}

async fn set_limit(api: &Api, model: &Scripted, tokens: Option<i64>) {
    api.apply(&manifests(model, tokens)).await.unwrap();
}

/// A budget's figures: limit, settled, held, free.
async fn figures(api: &Api) -> [Value; 4] {
    let found = budget(api).await;
    assert_eq!((&found["scope"], &found["unit"]), (&json!("project"), &json!("tokens")), "{found}");
    ["limit", "settled", "held", "free"].map(|name| found[name].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_spent_budget_refuses_and_a_raised_one_goes_on() {
    let model = Scripted::start(models).await;
    let stage = Stage::start(&[], None).await;
    let api = stage.apply(PROJECT, &manifests(&model, None)).await;
    assert_eq!(figures(&api).await, [json!(null), json!(0), json!(0), json!(null)], "no limit");
    let go = json!("go");
    assert_eq!(end(&run(&api, "free", &go).await), ("completed", ""));
    assert_eq!(budget(&api).await["settled"], 0, "a provider's explicit zero is honoured");

    // some is left, but not enough for the second question
    set_limit(&api, &model, Some(5_000)).await;
    let found = run(&api, "once", &go).await;
    assert_eq!(end(&found), ("failed", "E-BUDGET-001"), "{found}");
    let made = steps(&api, &found).await;
    assert_eq!(made.len(), 3, "{made:?}");
    assert_eq!((&made[2]["status"], &made[2]["code"]), (&json!("error"), &json!("E-BUDGET-001")));
    assert_eq!(figures(&api).await, [json!(5_000), json!(4_500), json!(0), json!(500)]);
    assert_eq!(model.asked_of("once").len(), 1, "what cannot be paid is not asked");

    // the provider bills more than is left: nothing more is carried out, and no run begins
    set_limit(&api, &model, Some(10_000)).await;
    let found = run(&api, "dear", &go).await;
    assert_eq!(end(&found), ("failed", "E-BUDGET-001"), "{found}");
    assert_eq!(budget(&api).await["settled"], 10_500, "what was used is charged, also above the limit");
    assert_eq!(budget(&api).await["free"], 0);
    let body = json!({"agent_id": "cheap", "input": "go"});
    let refused = api.post("/v1/platform/runs", &body).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (402, "E-BUDGET-001"), "{}", refused.text);
    let (code, said) = stage.home.cli_json(&["run", "cheap", "go", "--project", PROJECT]).await.unwrap();
    assert_eq!((code, &said["error"]["code"]), (3, &json!("E-BUDGET-001")), "{said}");
    let before = model.asked().len();
    let runs = api.get("/v1/platform/runs").await.unwrap().json()["items"].as_array().unwrap().len();
    assert_eq!((runs, model.asked().len()), (3, before), "what is refused leaves no run and asks nothing");

    set_limit(&api, &model, Some(20_000)).await;
    assert_eq!(end(&run(&api, "cheap", &go).await), ("completed", ""), "a raised budget goes on");
    assert_eq!(budget(&api).await["settled"], 11_010);
    set_limit(&api, &model, Some(0)).await;
    let refused = api.post("/v1/platform/runs", &body).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (402, "E-BUDGET-001"), "{}", refused.text);
    set_limit(&api, &model, None).await;
    assert_eq!(end(&run(&api, "cheap", &go).await), ("completed", ""));
    stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_thirty_runs_at_once_never_exceed_the_limit_and_use_it_up() {
    const LIMIT: i64 = 6_000;
    let model = Scripted::start(models).await;
    let stage = Stage::start(&[], None).await;
    let api = stage.apply(PROJECT, &manifests(&model, Some(LIMIT))).await;
    let is_over = AtomicBool::new(false);
    let watch = async {
        let (mut looks, mut most_held) = (0, 0);
        while !is_over.load(Ordering::SeqCst) {
            let found = budget(&api).await;
            let (settled, held) = (found["settled"].as_i64().unwrap(), found["held"].as_i64().unwrap());
            assert!(settled + held <= LIMIT, "{found}");
            most_held = most_held.max(held);
            looks += 1;
        }
        (looks, most_held)
    };
    let body = json!({"agent_id": "cheap", "input": "go"});
    let runs = async {
        let one = || async {
            let made = api.post("/v1/platform/runs", &body).await.unwrap();
            match made.status {
                402 => None,
                _ => Some(api.wait_for_end(id_of(&made.expect(202).unwrap()), PATIENCE).await.unwrap()),
            }
        };
        let all = futures::future::join_all((0..30).map(|_| one())).await;
        is_over.store(true, Ordering::SeqCst);
        all
    };
    let ((looks, most_held), all) = tokio::join!(watch, runs);
    assert!(looks > 3 && most_held > 0, "{looks} looks, {most_held} held at most");
    let ended: Vec<&Value> = all.iter().flatten().collect();
    let completed = ended.iter().filter(|found| end(found) == ("completed", "")).count();
    let refused = ended.iter().filter(|found| end(found) == ("failed", "E-BUDGET-001")).count();
    assert_eq!(completed + refused, ended.len(), "{ended:?}");
    assert!(refused > 0, "the limit was felt");
    let found = budget(&api).await;
    let settled = found["settled"].as_i64().unwrap();
    let cost = i64::try_from(CHEAP.0 + CHEAP.1).unwrap();
    assert_eq!(settled, i64::try_from(completed).unwrap() * cost, "{found}");
    assert!(settled <= LIMIT && found["held"] == 0, "{found}");
    let message = ended.iter().find_map(|found| found["error"]["message"].as_str()).unwrap();
    let asked: i64 = message.rsplit("need ").next().unwrap().parse().unwrap_or_else(|_| panic!("{message}"));
    assert!(settled + asked > LIMIT, "no run was refused that had room: {found}, {message}");
    assert_eq!(model.asked().len(), completed, "who has no room asks nothing");
    stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_a_killed_server_held_is_charged_and_the_run_goes_on() {
    let model = Scripted::start(models).await;
    let Stage { server, home, database } = Stage::start(&[], None).await;
    let api = server.api().in_project(PROJECT);
    set_limit(&api, &model, Some(100_000)).await;
    let run_id = api.create_run("slow", &json!("go")).await.unwrap();
    until("the model is asked", async || model.asked().len() == 1).await;
    let held = budget(&api).await["held"].as_i64().unwrap();
    assert!(held > 500, "input and the ceiling of the answer: {held}");
    server.kill().unwrap();

    let server = home.start().await.expect("it starts again");
    let api = server.api().in_project(PROJECT);
    until("the cut call is charged", async || budget(&api).await["settled"] == held).await;
    let admin = database.admin().await;
    let sql = "SELECT amount, held, is_estimated, reason FROM budget_ledger";
    let rows = admin.query(sql, &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    let found: (i64, i64, bool, &str) = (row.get(0), row.get(1), row.get(2), row.get(3));
    assert_eq!(found, (held, held, true, "abandoned"));

    model.let_go();
    let found = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    assert_eq!((end(&found), &found["attempt"]), (("completed", ""), &json!(2)), "{found}");
    assert_eq!(figures(&api).await, [json!(100_000), json!(held + 15), json!(0), json!(100_000 - held - 15)]);
    let (code, doctor) = home.cli_json(&["doctor"]).await.unwrap();
    assert_eq!(code, 0, "the budget is its ledger's sum: {doctor}");
    let changed = "UPDATE budget SET settled = settled + 1";
    admin.execute(changed, &[]).await.unwrap();
    let (code, doctor) = home.cli_json(&["doctor"]).await.unwrap();
    assert!(code == 1 && doctor.to_string().contains("settled, its ledger says"), "{doctor}");
}
