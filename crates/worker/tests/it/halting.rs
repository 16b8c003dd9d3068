//! What people stop, as workers meet it: nothing begins, what is under way is cut, and no run is harmed by it.

use awooop_core::halt::{HaltKind, Target};
use awooop_core::run::StateName;
use awooop_core::{AgentId, ErrorCode, Mode, RunId};
use awooop_gateway::{CallError, Called, Gateway, Operator};
use awooop_journeys::db::{TestProject, TestStore, agent_id, manifest};
use awooop_journeys::fixture_mcp::FixtureMcp;
use awooop_journeys::fixture_model::{FixtureModel, Line};
use awooop_store::contract::ApplyOptions;
use awooop_store::{Store, scope};
use awooop_worker::{Running, WorkerConfig, start};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{assert_healthy, create, create_in, me, until};

/// A node: a worker and the watcher beside it.
struct Node {
    worker: Running,
    gateway: Gateway,
    watching: CancellationToken,
}

impl Node {
    fn start(store: Store) -> Node {
        let operator = Operator { private_addresses: vec!["127.0.0.1".to_owned()], ..Operator::default() };
        let gateway = Gateway::new(store.clone(), operator);
        let watching = CancellationToken::new();
        scope::spawn_service(scope::Service::Stops, gateway.clone().watch_stops(watching.clone()));
        let worker = start(store, gateway.clone(), me(), WorkerConfig::default());
        Node { worker, gateway, watching }
    }

    async fn end(self, test: &TestStore) {
        self.worker.drain().await;
        self.watching.cancel();
        self.gateway.shutdown().await;
        assert_healthy(test).await;
    }
}

/// A project whose agent follows a model's script with these tools; `more` goes into its spec.
async fn project(test: &TestStore, model: Value, kit: &FixtureMcp, more: Value) -> TestProject {
    let project = test.project().await;
    let name = model["models"][0]["name"].as_str().unwrap().to_owned();
    let mut spec = json!({"instructions": "Go.", "model": format!("brain/{name}"), "output_schema": {},
        "max_steps": 1000, "grants": [{"tool": "kit__echo"}, {"tool": "kit__slow"}]});
    for (member, value) in more.as_object().unwrap() {
        spec[member] = value.clone();
    }
    let one = |kind: &str, id: &str, spec: Value| {
        manifest(json!({"kind": kind, "project": project.id, "id": id, "spec": spec})).unwrap()
    };
    let manifests = [
        one("provider", "kit", kit.provider_spec()),
        one("provider", "brain", model),
        one("agent", agent_id().as_str(), spec),
    ];
    test.store.apply(&project.caller, &manifests, ApplyOptions::default()).await.unwrap();
    project
}

async fn stop(test: &TestStore, project: &TestProject, target: &Target) {
    let made = test.store.create_halt(&project.scope, HaltKind::Stop, target, "a test").await.unwrap();
    assert!(made.is_some_and(|(_, is_new)| is_new));
}

async fn start_again(test: &TestStore, project: &TestProject, target: &Target) {
    assert!(test.store.lift_halt(&project.scope, HaltKind::Stop, target).await.unwrap());
}

/// Waits until the run stands in the queue or among the timers again, as if it had not been claimed.
async fn given_back(test: &TestStore, project: &TestProject, run_id: RunId) {
    let run = until(test, project, run_id, |run| run.state == StateName::Pending && run.epoch > 0).await;
    assert_eq!(run.attempt, 0, "the claim does not count as an attempt");
}

async fn completed(test: &TestStore, project: &TestProject, run_id: RunId) {
    let run = until(test, project, run_id, |run| run.completed_at.is_some()).await;
    assert_eq!((run.state, run.attempt), (StateName::Completed, 1), "{run:?}");
}

fn echo() -> Line {
    Line::call("kit__echo", json!({"text": "again"}))
}

fn says() -> Line {
    Line::Says("\"done\"".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stop_on_one_node_no_call_begins_on_another_and_each_run_goes_on_where_it_was() {
    const RUNS: usize = 4;
    let test = TestStore::private().await;
    let mut script = vec![echo(); 12];
    script.push(says());
    let (model, kit) = (FixtureModel::start(script).await.unwrap(), FixtureMcp::start().await.unwrap());
    let (mine, other) = (
        project(&test, model.provider_spec(), &kit, json!({})).await,
        project(&test, FixtureModel::start(vec![says()]).await.unwrap().provider_spec(), &kit, json!({}))
            .await,
    );
    let calls = || model.asked() as usize + kit.calls().len();
    let mut made = Vec::new();
    for _ in 0..RUNS {
        made.push(create(&test, &mine).await);
    }
    let node = Node::start(test.through(test.database().urls()).await);
    while calls() < 4 * RUNS {
        tokio::task::yield_now().await;
    }
    stop(&test, &mine, &Target::Project).await;
    let at_stop = calls();
    for run_id in &made {
        given_back(&test, &mine, *run_id).await;
    }
    let after = calls();
    assert!(after - at_stop <= RUNS, "only what was on its way arrived: {at_stop}, then {after}");
    // the node goes on with everything else, and looks at the stops many times meanwhile
    for _ in 0..3 {
        let elsewhere = create(&test, &other).await;
        until(&test, &other, elsewhere, |run| run.completed_at.is_some()).await;
        node.gateway.look_at_stops().await.unwrap();
    }
    assert_eq!(calls(), after, "not one call more");

    start_again(&test, &mine, &Target::Project).await;
    for run_id in made {
        completed(&test, &mine, run_id).await;
        let steps = test.store.list_steps(&mine.scope, run_id, 0, 200).await.unwrap();
        assert_eq!(steps.iter().map(|s| s.n).collect::<Vec<_>>(), (1..=25).collect::<Vec<_>>());
        assert!(steps.iter().all(|step| step.status == "ok"), "no step was lost, doubled or refused");
    }
    node.end(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_is_cut_and_made_again_under_the_same_key_after_the_start() {
    let test = TestStore::private().await;
    let model = FixtureModel::start(vec![Line::call("kit__slow", json!({})), says()]).await.unwrap();
    let kit = FixtureMcp::start().await.unwrap();
    let project = project(&test, model.provider_spec(), &kit, json!({})).await;
    let node = Node::start(test.store.clone());
    kit.hold();
    let run_id = create(&test, &project).await;
    while kit.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    let target = Target::Agent(agent_id());
    stop(&test, &project, &target).await;
    given_back(&test, &project, run_id).await;
    kit.let_go();
    start_again(&test, &project, &target).await;
    completed(&test, &project, run_id).await;
    let keys: Vec<_> = kit.calls().into_iter().map(|call| call.key).collect();
    assert_eq!(keys, vec![Some(format!("{run_id}:2")); 2]);
    node.end(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_call_under_way_is_cut_and_charged_as_held() {
    let test = TestStore::private().await;
    let kit = FixtureMcp::start().await.unwrap();
    let slow =
        json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner", "delay_ms": 30_000}]});
    let project = project(&test, slow, &kit, json!({})).await;
    let node = Node::start(test.store.clone());
    let held = async || test.store.list_budgets(&project.scope).await.unwrap().remove(0);
    for target in [Target::Project, Target::Provider("brain".parse().unwrap())] {
        let before = held().await.settled;
        let run_id = create(&test, &project).await;
        while held().await.held == 0 {
            tokio::task::yield_now().await;
        }
        let amount = held().await.held;
        stop(&test, &project, &target).await;
        given_back(&test, &project, run_id).await;
        let after = held().await;
        assert_eq!((after.held, after.settled - before), (0, amount), "{target}");
        let found = test.store.find_run(&project.scope, run_id).await.unwrap().unwrap();
        let why = test.store.find_halt_of(&project.scope, &found).await.unwrap().unwrap();
        assert_eq!(why.stop.target, target);
        test.store.cancel_run(&project.scope, run_id).await.unwrap();
        start_again(&test, &project, &target).await;
    }
    node.end(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_model_provider_is_stopped_waits_without_a_call_and_without_a_charge() {
    let test = TestStore::private().await;
    let model = FixtureModel::start(vec![says()]).await.unwrap();
    let kit = FixtureMcp::start().await.unwrap();
    let project = project(&test, model.provider_spec(), &kit, json!({})).await;
    let brain = Target::Provider("brain".parse().unwrap());
    stop(&test, &project, &brain).await;
    let node = Node::start(test.store.clone());
    let run_id = create(&test, &project).await;
    given_back(&test, &project, run_id).await;
    let budget = test.store.list_budgets(&project.scope).await.unwrap().remove(0);
    assert_eq!((model.asked(), budget.held, budget.settled), (0, 0, 0));
    start_again(&test, &project, &brain).await;
    completed(&test, &project, run_id).await;
    assert_eq!(model.asked(), 1);
    node.end(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_tool_refuses_its_calls_and_the_run_goes_on() {
    let test = TestStore::private().await;
    let script = vec![echo(), Line::call("kit__slow", json!({})), says()];
    let model = FixtureModel::start(script).await.unwrap();
    let kit = FixtureMcp::start().await.unwrap();
    let project = project(&test, model.provider_spec(), &kit, json!({})).await;
    let node = Node::start(test.store.clone());
    for (target, refused) in [
        (Target::parse("tool", "kit__echo").unwrap(), [true, false]),
        (Target::Provider("kit".parse().unwrap()), [true, true]),
    ] {
        kit.forget();
        stop(&test, &project, &target).await;
        let run_id = create(&test, &project).await;
        completed(&test, &project, run_id).await;
        let steps = test.store.list_steps(&project.scope, run_id, 0, 10).await.unwrap();
        let tools: Vec<_> = steps.iter().filter(|s| s.kind == "tool").map(|s| s.code.as_deref()).collect();
        let wanted = refused.map(|is_refused| is_refused.then_some("E-STOP-001"));
        assert_eq!(tools, wanted, "{target}");
        assert_eq!(kit.calls().len(), refused.iter().filter(|is_refused| !**is_refused).count());

        // an MCP client is told the same
        let call =
            node.gateway.call_for_client(&project.scope, &agent_id(), "kit__echo", args(), None, None).await;
        let Err(CallError::Refused(refusal)) = call else { panic!("{call:?}") };
        assert_eq!((refusal.code, refusal.gate), (ErrorCode::Stop001, 2));
        assert!(refusal.message.ends_with(": a test"), "{}", refusal.message);
        start_again(&test, &project, &target).await;
    }
    let call =
        node.gateway.call_for_client(&project.scope, &agent_id(), "kit__echo", args(), None, None).await;
    assert!(call.is_ok_and(|result| !result.is_error));
    node.end(&test).await;
}

fn args() -> serde_json::Map<String, Value> {
    json!({"text": "hello"}).as_object().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_cut_in_the_middle_by_its_stop_is_refused_when_the_run_comes_back() {
    let test = TestStore::private().await;
    let model = FixtureModel::start(vec![Line::call("kit__slow", json!({})), says()]).await.unwrap();
    let kit = FixtureMcp::start().await.unwrap();
    let project = project(&test, model.provider_spec(), &kit, json!({})).await;
    let node = Node::start(test.store.clone());
    kit.hold();
    let run_id = create(&test, &project).await;
    while kit.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    stop(&test, &project, &Target::parse("tool", "kit__slow").unwrap()).await;
    completed(&test, &project, run_id).await;
    let steps = test.store.list_steps(&project.scope, run_id, 0, 10).await.unwrap();
    let codes: Vec<_> = steps.iter().map(|step| step.code.as_deref()).collect();
    assert_eq!(codes, [None, Some("E-STOP-001"), None]);
    assert_eq!(kit.calls().len(), 1);
    node.end(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_s_run_goes_on_to_its_end_and_the_next_waits() {
    let test = TestStore::private().await;
    let model = FixtureModel::start(vec![Line::call("kit__slow", json!({})), says()]).await.unwrap();
    let kit = FixtureMcp::start().await.unwrap();
    let project = project(&test, model.provider_spec(), &kit, json!({})).await;
    let node = Node::start(test.store.clone());
    for target in [Target::Project, Target::Agent(agent_id())] {
        kit.forget();
        kit.hold();
        let first = create(&test, &project).await;
        while kit.calls().is_empty() {
            tokio::task::yield_now().await;
        }
        test.store.create_halt(&project.scope, HaltKind::Pause, &target, "").await.unwrap().unwrap();
        let second = create(&test, &project).await;
        node.gateway.look_at_stops().await.unwrap();
        kit.let_go();
        completed(&test, &project, first).await;
        let waits = test.store.find_run(&project.scope, second).await.unwrap().unwrap();
        assert_eq!((waits.state, waits.epoch), (StateName::Pending, 0));
        assert!(test.store.lift_halt(&project.scope, HaltKind::Pause, &target).await.unwrap());
        completed(&test, &project, second).await;
    }
    node.end(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_takes_no_longer_than_its_agent_allows() {
    let test = TestStore::private().await;
    let model = FixtureModel::start(vec![Line::call("kit__slow", json!({})), says()]).await.unwrap();
    let kit = FixtureMcp::start().await.unwrap();
    let hasty = project(&test, model.provider_spec(), &kit, json!({"step_timeout_ms": 1500})).await;
    let slow =
        json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner", "delay_ms": 60_000}]});
    let more = json!({"step_timeout_ms": 100, "max_attempts": 2});
    let hopeless = project(&test, slow, &kit, more).await;
    let node = Node::start(test.store.clone());
    kit.hold();
    let (of_tool, of_model) = (create(&test, &hasty).await, create(&test, &hopeless).await);
    completed(&test, &hasty, of_tool).await;
    let steps = test.store.list_steps(&hasty.scope, of_tool, 0, 10).await.unwrap();
    let codes: Vec<_> = steps.iter().map(|step| step.code.as_deref()).collect();
    assert_eq!(codes, [None, Some("E-MCP-UPSTREAM-002"), None], "the model is told and goes on");
    kit.let_go();

    let failed = until(&test, &hopeless, of_model, |run| run.completed_at.is_some()).await;
    assert_eq!((failed.state, failed.attempt), (StateName::Failed, 2), "{failed:?}");
    assert_eq!(failed.error_code.as_deref(), Some("E-RUN-013"));
    assert!(failed.error_message.unwrap().contains("100 ms"));
    let steps = test.store.list_steps(&hopeless.scope, of_model, 0, 10).await.unwrap();
    assert_eq!(steps.len(), 1, "the first try's step was done again under the same number");
    let budget = test.store.list_budgets(&hopeless.scope).await.unwrap().remove(0);
    let usage = test.store.usage_of(&hopeless.scope, of_model).await.unwrap();
    assert_eq!((budget.held, budget.settled), (0, usage.own));
    let admin = test.database().admin().await;
    let sql = "SELECT count(*), count(DISTINCT amount) FROM awooop.budget_ledger WHERE run_id = $1 AND is_estimated";
    let row = admin.query_one(sql, &[&of_model]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 1), "both tries are charged as held");
    node.end(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_the_same_name_in_another_project_is_not_stopped() {
    let test = TestStore::private().await;
    let model = FixtureModel::start(vec![echo(), says()]).await.unwrap();
    let kit = FixtureMcp::start().await.unwrap();
    let (mine, other) = (
        project(&test, model.provider_spec(), &kit, json!({})).await,
        project(&test, model.provider_spec(), &kit, json!({})).await,
    );
    let node = Node::start(test.store.clone());
    let all = [
        Target::Project,
        Target::Agent(AgentId::parse(agent_id().as_str()).unwrap()),
        Target::Provider("brain".parse().unwrap()),
        Target::parse("tool", "kit__echo").unwrap(),
    ];
    for target in &all {
        stop(&test, &mine, target).await;
    }
    node.gateway.look_at_stops().await.unwrap();
    let waits = create(&test, &mine).await;
    let runs = create(&test, &other).await;
    completed(&test, &other, runs).await;
    let steps = test.store.list_steps(&other.scope, runs, 0, 10).await.unwrap();
    assert!(steps.iter().all(|step| step.code.is_none()));
    let found = test.store.find_run(&mine.scope, waits).await.unwrap().unwrap();
    assert_eq!((found.state, found.epoch), (StateName::Pending, 0));
    node.end(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_tool_server_is_sent_nothing_not_even_for_the_list_of_its_tools() {
    let test = TestStore::private().await;
    let model = FixtureModel::start(vec![echo(), says()]).await.unwrap();
    let kit = FixtureMcp::start().await.unwrap();
    let project = project(&test, model.provider_spec(), &kit, json!({})).await;
    let node = Node::start(test.store.clone());
    let of_kit = Target::Provider("kit".parse().unwrap());
    stop(&test, &project, &of_kit).await;
    let run_id = create(&test, &project).await;
    completed(&test, &project, run_id).await;
    assert!(node.gateway.list_tools(&project.scope, &agent_id(), None).await.unwrap().is_empty());
    for agent in [None, Some(&agent_id())] {
        let shown = node.gateway.inspect_tools(&project.scope, agent).await.unwrap();
        assert!(!shown.is_empty());
        for tool in shown {
            assert_eq!(tool.status, "stopped");
            assert!(tool.reason.unwrap().ends_with(": a test"));
        }
    }
    assert_eq!(kit.requests(), 0);
    start_again(&test, &project, &of_kit).await;
    assert_eq!(node.gateway.list_tools(&project.scope, &agent_id(), None).await.unwrap().len(), 2);
    // one of its tools alone
    stop(&test, &project, &Target::parse("tool", "kit__slow").unwrap()).await;
    let listed = node.gateway.list_tools(&project.scope, &agent_id(), None).await.unwrap();
    assert_eq!(listed.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["kit__echo"]);
    node.end(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_time_is_used_up_makes_no_call_and_announces_none() {
    let test = TestStore::private().await;
    let model = FixtureModel::start(vec![says()]).await.unwrap();
    let kit = FixtureMcp::start().await.unwrap();
    let more = json!({"mode": "live", "step_timeout_ms": 1000});
    let project = project(&test, model.provider_spec(), &kit, more).await;
    let mut spec = kit.provider_spec();
    for tool in spec["tools"].as_array_mut().unwrap() {
        tool["risk"] = json!("write");
    }
    let document = json!({"kind": "provider", "project": project.id, "id": "kit", "spec": spec});
    let writes = [manifest(document).unwrap()];
    test.store.apply(&project.caller, &writes, ApplyOptions::default()).await.unwrap();
    let operator = Operator { private_addresses: vec!["127.0.0.1".to_owned()], ..Operator::default() };
    let gateway = Gateway::new(test.store.clone(), operator);
    let run_id = create_in(&test, &project, Mode::Live).await;
    let run = test.store.claim(&project.id, &me(), 1).await.unwrap().remove(0);
    assert_eq!(run.run_id, run_id);
    let first = gateway.call_in_run(&run, 1, "kit__echo", Ok(args())).await.unwrap();
    assert!(matches!(&first, Called::Done(done) if done.code.is_none()), "{first:?}");
    let (admin, requests) = (test.database().admin().await, kit.requests());

    // the gates wait for the database until the step's time is over
    admin.batch_execute("BEGIN; LOCK TABLE awooop.mcp_grant").await.unwrap();
    let let_go = async {
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        admin.batch_execute("COMMIT").await.unwrap();
    };
    let (late, ()) = tokio::join!(gateway.call_in_run(&run, 2, "kit__echo", Ok(args())), let_go);
    let Called::Done(late) = late.unwrap() else { panic!("it is over") };
    assert_eq!(late.code, Some(ErrorCode::Upstream002));
    assert_eq!(kit.requests(), requests, "nothing was sent");
    let announced = "SELECT count(*) FROM awooop.step_journal WHERE phase = 'intent' AND n = 2";
    assert_eq!(admin.query_one(announced, &[]).await.unwrap().get::<_, i64>(0), 0);
    test.store.release(&run).await.unwrap();
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cut_while_its_tokens_are_held_is_charged_nothing() {
    let test = TestStore::private().await;
    let model = FixtureModel::start(vec![says()]).await.unwrap();
    let kit = FixtureMcp::start().await.unwrap();
    let project = project(&test, model.provider_spec(), &kit, json!({})).await;
    let node = Node::start(test.store.clone());
    // first while the hold waits for the budget's row, then while what the call needs is read after it
    for (lock, held) in [("SELECT FROM awooop.budget FOR UPDATE", 0), ("LOCK TABLE awooop.provider", 1)] {
        let admin = test.database().admin().await;
        admin.batch_execute(&format!("BEGIN; {lock}")).await.unwrap();
        let run_id = create(&test, &project).await;
        until(&test, &project, run_id, |run| run.state == StateName::Running).await;
        waits_for_lock(&test).await;
        let holds = "SELECT count(*) FROM awooop.budget_hold";
        assert_eq!(admin.query_one(holds, &[]).await.unwrap().get::<_, i64>(0), held);
        test.store.cancel_run(&project.scope, run_id).await.unwrap();
        admin.batch_execute("COMMIT").await.unwrap();
        until(&test, &project, run_id, |run| run.completed_at.is_some()).await;
    }
    // what was reserved late is released late
    let began = std::time::Instant::now();
    loop {
        let budget = test.store.list_budgets(&project.scope).await.unwrap().remove(0);
        assert_eq!(budget.settled, 0, "no call was made");
        if budget.held == 0 {
            break;
        }
        assert!(began.elapsed().as_secs() < 20, "{budget:?}");
        tokio::task::yield_now().await;
    }
    assert_eq!(model.asked(), 0);
    node.end(&test).await;
}

/// Waits until a session of the server waits for a lock.
async fn waits_for_lock(test: &TestStore) {
    let admin = test.database().admin().await;
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'awooop_app'";
    while admin.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_was_only_told_and_never_was_harms_no_run() {
    let test = TestStore::private().await;
    let kit = FixtureMcp::start().await.unwrap();
    let slow = Line::call("kit__slow", json!({}));
    let model = FixtureModel::start(vec![slow, says()]).await.unwrap();
    let project = project(&test, model.provider_spec(), &kit, json!({})).await;
    kit.hold();
    let run_id = create(&test, &project).await;
    let node = Node::start(test.store.clone());
    while kit.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    // anybody who may connect to the database can ring this bell
    test.store.wake().run_cancelled(run_id);
    while kit.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    kit.let_go();
    completed(&test, &project, run_id).await;
    node.end(&test).await;
}
