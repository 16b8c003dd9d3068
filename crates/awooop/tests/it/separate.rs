//! `dev --separate-worker`: runs are carried out by a process beside the one that answers. Each may be killed, and
//! neither outlives what it should not.

use awooop_journeys::fixture_mcp::FixtureMcp;
use awooop_journeys::fixture_model::{FixtureModel, Line};
use awooop_journeys::server::Home;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::scripted::{PATIENCE, end, until};
use crate::support::kit;

async fn gone(pid: Pid) {
    until("the worker is gone", async || kill(pid, None).is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_killed_worker_is_started_again_and_takes_its_runs_back_and_none_outlives_its_server() {
    let home = Home::new().unwrap().with_separate_worker();
    let server = home.start().await.unwrap();
    let tools = FixtureMcp::start().await.unwrap();
    let lines = vec![Line::call("kit__slow", json!({})), Line::Says(json!({"answer": "done"}).to_string())];
    let model = FixtureModel::start(lines).await.unwrap();
    let api = server.api().in_project("apart");
    api.apply(&kit("apart", tools.provider_spec(), model.provider_spec(), "script", &["slow"]))
        .await
        .unwrap();

    tools.hold();
    let run_id = api.create_run("tester", &json!("go")).await.unwrap();
    until("the slow tool is called", async || tools.calls().len() == 1).await;
    let first = server.worker().expect("a worker");
    kill(first, Signal::SIGKILL).unwrap();
    until("another worker calls the tool again", async || tools.calls().len() == 2).await;
    tools.let_go();
    let found = api.wait_for_end(&run_id, PATIENCE).await.unwrap();
    assert_eq!((end(&found), &found["attempt"]), (("completed", ""), &json!(2)), "{found}");
    assert_eq!(model.asked(), 2, "no finished step was done again");
    let calls = tools.calls();
    assert_eq!(calls[0].key, calls[1].key, "the cut call has its key");

    let mut server = server;
    let second = server.worker().expect("another worker");
    assert_ne!(first, second);
    server.process().kill().unwrap();
    gone(second).await;

    let server = home.start().await.unwrap();
    until("there is a worker again", async || server.worker().is_some()).await;
    let third = server.worker().expect("a worker");
    assert!(server.stop(Signal::SIGTERM).await.unwrap().success());
    gone(third).await;
}
