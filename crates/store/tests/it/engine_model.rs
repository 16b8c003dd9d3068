//! The engine against its model: random operations, two at a time, on the real database. Whatever two operations did
//! together must be what `core::run` allows for one after the other, in one of the two orders; every run's state,
//! epoch and attempt must be the model's, and the doctor must find nothing.
//!
//! `PROPTEST_CASES` makes it longer; a failure prints the operations it shrank to.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use awooop_core::approval::{ApprovalKind, Decision, Demand};
use awooop_core::contract::Risk;
use awooop_core::run::{Event, StateName, Wait};
use awooop_core::{ErrorCode, RunId, RunState};
use awooop_journeys::db::{TestProject, TestStore};
use awooop_store::Clock;
use awooop_store::approval::{ApprovalFilter, Decided, Ruling};
use awooop_store::claim::ClaimedRun;
use awooop_store::delivery::{Delivered, Delivery};
use awooop_store::effect::Intent;
use awooop_store::journal::{Outcome, RecordError};
use awooop_store::lease::DeadLeases;
use awooop_store::park::ApprovalRequest;
use awooop_store::run::Cancelled;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::stepping::{create, done, manual, step, worker};

const MAX_ATTEMPTS: u32 = 3;
const APPROVAL_S: u32 = 60;
const RESULT_S: u64 = 30;
const RETRY_S: u64 = 5;

/// One thing somebody does; numbers choose among the claims and runs there are.
#[derive(Debug, Clone, Copy)]
enum Op {
    Create,
    Claim,
    Record(usize),
    Complete(usize),
    Fail(usize),
    Release(usize),
    Retry(usize),
    Ask(usize),
    Defer(usize),
    Reap(usize),
    Cancel(usize),
    Decide(usize, bool),
    Deliver(usize),
    WakeDue,
    TimeOut,
}

/// What somebody saw of it.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Created(RunId, Timestamp),
    Claimed(Option<(RunId, i64, i32)>),
    /// It was written, or somebody else was first.
    Done(bool),
    /// There was nothing to do it to.
    Nothing,
    Reaped(Vec<RunId>),
}

#[derive(Debug, Clone)]
struct Modelled {
    state: RunState,
    timeout_at: Timestamp,
    /// Of a retry, an approval or a result.
    due_at: Option<Timestamp>,
    parked_at: Timestamp,
    /// The step that waits.
    n: i32,
    /// The epoch of the claim that ended it.
    ended_by: Option<i64>,
}

impl Modelled {
    fn apply(&mut self, event: Event) -> Result<(), String> {
        self.state = self.state.apply(event).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn is_queued(&self) -> bool {
        self.state.name() == StateName::Pending && self.due_at.is_none()
    }

    fn is_held_by(&self, claim: &ClaimedRun) -> bool {
        matches!(self.state, RunState::Running { epoch, .. } if i64::try_from(epoch) == Ok(claim.epoch))
    }

    fn resume(&mut self, now: Timestamp, is_clock_stopped: bool) -> Result<(), String> {
        self.due_at = None;
        if is_clock_stopped {
            self.timeout_at += now.duration_since(self.parked_at);
        }
        self.apply(Event::Resumed)
    }
}

#[derive(Debug, Clone, Default)]
struct Model {
    runs: BTreeMap<RunId, Modelled>,
}

/// What an operation was done to, chosen before it was done.
#[derive(Debug, Clone)]
enum Target {
    None,
    Claim(Box<ClaimedRun>),
    Run(RunId, i32),
}

impl Model {
    /// Takes in what was seen of an operation at `now`, if that is possible at this moment.
    fn take(&mut self, op: Op, target: &Target, seen: &Seen, now: Timestamp) -> Result<(), String> {
        if *seen == Seen::Nothing {
            return Ok(());
        }
        match (op, target) {
            (Op::Create, _) => self.created(seen),
            (Op::Claim, _) => self.claimed(seen),
            (Op::WakeDue, _) => self.woken(now),
            (Op::TimeOut, _) => self.timed_out(now),
            (Op::Reap(_), Target::Claim(claim)) => self.reaped(claim, seen, now),
            (_, Target::Claim(claim)) => self.written(op, claim, seen, now),
            (_, Target::Run(run_id, _)) => self.told(op, *run_id, seen, now),
            _ => Err(format!("{op:?} without a target")),
        }
    }

    fn created(&mut self, seen: &Seen) -> Result<(), String> {
        let Seen::Created(run_id, timeout_at) = seen else { return Err("not created".into()) };
        let state = RunState::Pending { attempt: 0, epoch: 0 };
        let run = Modelled {
            state,
            timeout_at: *timeout_at,
            due_at: None,
            parked_at: Timestamp::UNIX_EPOCH,
            n: 0,
            ended_by: None,
        };
        self.runs.insert(*run_id, run);
        Ok(())
    }

    fn claimed(&mut self, seen: &Seen) -> Result<(), String> {
        // a claim that goes past what another is just taking may find nothing
        let Seen::Claimed(Some((run_id, epoch, attempt))) = seen else { return Ok(()) };
        let run = self.runs.get_mut(run_id).ok_or("an unknown run was claimed")?;
        if run.due_at.is_some() {
            return Err("a run was claimed before its time".into());
        }
        run.apply(Event::Claimed)?;
        match run.state {
            RunState::Running { attempt: a, epoch: e }
                if i64::try_from(e) == Ok(*epoch) && i32::try_from(a) == Ok(*attempt) => {}
            other => return Err(format!("claimed as {epoch}/{attempt}, modelled as {other:?}")),
        }
        Ok(())
    }

    fn written(&mut self, op: Op, claim: &ClaimedRun, seen: &Seen, now: Timestamp) -> Result<(), String> {
        let Seen::Done(is_done) = *seen else { return Err("not done".into()) };
        let run = self.runs.get_mut(&claim.run_id).ok_or("no run")?;
        let due = |seconds: u64| now + Duration::from_secs(seconds);
        let could = run.is_held_by(claim);
        if let Op::Retry(_) = op
            && !claim.may_retry_at(due(RETRY_S))
        {
            return if is_done { Err("tried again without leave".into()) } else { Ok(()) };
        }
        if matches!(op, Op::Record(_)) && run.ended_by == Some(claim.epoch) {
            // a last step that comes after the end which the claim itself wrote
            return Ok(());
        }
        if is_done != could {
            return Err(format!("{op:?} {is_done}, while the claim holds the run: {could}"));
        }
        if !is_done {
            return Ok(());
        }
        match op {
            Op::Record(_) => Ok(()),
            Op::Complete(_) | Op::Fail(_) => {
                run.ended_by = Some(claim.epoch);
                let failed = Event::Failed(ErrorCode::Run013);
                run.apply(if matches!(op, Op::Fail(_)) { failed } else { Event::Completed })
            }
            Op::Release(_) => run.apply(Event::Released),
            Op::Retry(_) => {
                run.due_at = Some(due(RETRY_S));
                run.apply(Event::Retried { max_attempts: MAX_ATTEMPTS })
            }
            Op::Ask(_) => {
                (run.due_at, run.parked_at) = (Some(due(u64::from(APPROVAL_S))), now);
                run.n = step_of(claim);
                run.apply(Event::Parked(Wait::Approval))
            }
            Op::Defer(_) => {
                run.due_at = Some(due(RESULT_S).min(claim.timeout_at));
                run.n = step_of(claim);
                run.apply(Event::Parked(Wait::Tool))
            }
            other => Err(format!("{other:?} is none of a claim's")),
        }
    }

    fn reaped(&mut self, claim: &ClaimedRun, seen: &Seen, now: Timestamp) -> Result<(), String> {
        let Seen::Reaped(runs) = seen else { return Err("not reaped".into()) };
        let run = self.runs.get_mut(&claim.run_id).ok_or("no run")?;
        if runs.contains(&claim.run_id) != run.is_held_by(claim) {
            return Err(format!("reaped {runs:?} of a claim that holds it: {}", run.is_held_by(claim)));
        }
        match runs.is_empty() {
            true => Ok(()),
            false if run.timeout_at <= now => run.apply(Event::TimedOut),
            false => run.apply(Event::Reaped { max_attempts: MAX_ATTEMPTS }),
        }
    }

    /// What callers and people do to a run.
    fn told(&mut self, op: Op, run_id: RunId, seen: &Seen, now: Timestamp) -> Result<(), String> {
        let Seen::Done(is_done) = *seen else { return Err("not done".into()) };
        let run = self.runs.get_mut(&run_id).ok_or("no run")?;
        let name = run.state.name();
        let is_due = run.due_at.is_some_and(|at| at <= now);
        let could = match op {
            Op::Cancel(_) => !name.is_terminal() || name == StateName::Cancelled,
            Op::Decide(..) => name == StateName::WaitingApproval && !is_due,
            _ => name == StateName::WaitingTool,
        };
        if is_done != could {
            return Err(format!("{op:?} {is_done} while the run is {}", name.as_str()));
        }
        match op {
            Op::Cancel(_) if is_done && !name.is_terminal() => {
                run.due_at = None;
                run.apply(Event::Cancelled)
            }
            // a decision that comes too late ends the waiting all the same
            Op::Decide(..) if is_done || name == StateName::WaitingApproval => run.resume(now, true),
            Op::Deliver(_) if is_done => run.resume(now, false),
            _ => Ok(()),
        }
    }

    fn woken(&mut self, now: Timestamp) -> Result<(), String> {
        for run in self.runs.values_mut().filter(|run| run.due_at.is_some_and(|at| at <= now)) {
            match run.state.name() {
                StateName::WaitingApproval => run.resume(now, true)?,
                StateName::WaitingTool if run.timeout_at <= now => {
                    run.due_at = None;
                    run.apply(Event::TimedOut)?;
                }
                StateName::WaitingTool => run.resume(now, false)?,
                _ => run.due_at = None,
            }
        }
        Ok(())
    }

    /// Runs that are queued and whose time is over.
    fn timed_out(&mut self, now: Timestamp) -> Result<(), String> {
        let queued = self.runs.values_mut().filter(|run| run.is_queued());
        queued.filter(|run| run.timeout_at <= now).try_for_each(|run| run.apply(Event::TimedOut))
    }
}

/// The step at which a claim waits: one nobody else has.
fn step_of(claim: &ClaimedRun) -> i32 {
    i32::try_from(claim.epoch).unwrap()
}

/// The engine with everything the operations need.
struct Engine<'a> {
    test: &'a TestStore,
    clock: &'a Clock,
    project: TestProject,
    claims: Mutex<Vec<ClaimedRun>>,
}

fn written(result: Result<(), RecordError>) -> Seen {
    match result {
        Ok(()) => Seen::Done(true),
        Err(RecordError::Fenced) => Seen::Done(false),
        Err(RecordError::Store(error)) => panic!("{error}"),
    }
}

impl Engine<'_> {
    fn target(&self, op: Op, model: &Model) -> Target {
        match op {
            Op::Create | Op::Claim | Op::WakeDue | Op::TimeOut => Target::None,
            Op::Cancel(i) | Op::Decide(i, _) | Op::Deliver(i) => {
                let chosen = model.runs.iter().nth(i % model.runs.len().max(1));
                chosen.map_or(Target::None, |(run_id, run)| Target::Run(*run_id, run.n))
            }
            Op::Record(i)
            | Op::Complete(i)
            | Op::Fail(i)
            | Op::Release(i)
            | Op::Retry(i)
            | Op::Ask(i)
            | Op::Defer(i)
            | Op::Reap(i) => {
                // the latest claims are the interesting ones
                let claims = self.claims.lock().unwrap();
                let chosen = claims.iter().rev().nth(i % claims.len().clamp(1, 4));
                chosen.map_or(Target::None, |claim| Target::Claim(Box::new(claim.clone())))
            }
        }
    }

    async fn perform(&self, op: Op, target: &Target) -> Seen {
        let store = &self.test.store;
        match (op, target) {
            (Op::Create, _) => {
                let run_id = create(store, &self.project).await;
                let run = store.find_run(&self.project.scope, run_id).await.unwrap().unwrap();
                Seen::Created(run_id, run.timeout_at)
            }
            (Op::Claim, _) => {
                let claimed = store.claim(&self.project.id, &worker("w"), 1).await.unwrap();
                let seen = claimed.first().map(|run| (run.run_id, run.epoch, run.attempt));
                self.claims.lock().unwrap().extend(claimed);
                Seen::Claimed(seen)
            }
            (Op::WakeDue, _) => store.wake_due().await.map(|_| Seen::Done(true)).unwrap(),
            (Op::TimeOut, _) => store.time_out_queued().await.map(|_| Seen::Done(true)).unwrap(),
            (_, Target::Claim(claim)) => self.perform_for(op, claim).await,
            (_, Target::Run(run_id, n)) => self.perform_on(op, *run_id, *n).await,
            _ => Seen::Nothing,
        }
    }

    async fn perform_for(&self, op: Op, claim: &ClaimedRun) -> Seen {
        let (store, n) = (&self.test.store, step_of(claim));
        match op {
            // a step may be recorded once: another result under its number is refused as well
            Op::Record(_) => {
                let n = 1_000_000 + i32::try_from(rand::random_range(0..1_000_000_u32)).unwrap();
                written(store.record_step(claim, &step(store, n), None, None).await)
            }
            Op::Complete(_) => written(store.end_run(claim, &done(), None, false).await),
            Op::Fail(_) => {
                let failed = Outcome::Failed(ErrorCode::Run013, "it broke".to_owned());
                written(store.end_run(claim, &failed, None, false).await)
            }
            Op::Release(_) => Seen::Done(store.release(claim).await.unwrap()),
            Op::Retry(_) => {
                let due_at = self.clock.after(Duration::from_secs(RETRY_S));
                match store.retry_later(claim, ErrorCode::Run013, "busy", due_at).await {
                    Ok(is_done) => Seen::Done(is_done),
                    Err(error) => written(Err(error)),
                }
            }
            Op::Ask(_) => {
                let request = ApprovalRequest {
                    n,
                    demand: Demand {
                        kind: ApprovalKind::Call,
                        asked_by: "policy model".to_owned(),
                        needed: 1,
                        expires_in_s: APPROVAL_S,
                    },
                    tool: "kit__send".to_owned(),
                    risk: Risk::Write,
                    arguments: serde_json::Map::new(),
                    action_sha256: "00".to_owned(),
                };
                written(store.park_for_approval(claim, &request).await.map(drop))
            }
            Op::Defer(_) => {
                let intent = Intent {
                    n,
                    tool: "kit__later",
                    arguments_sha256: "11",
                    action_sha256: "00",
                    approval: None,
                    is_again: false,
                    is_trusted: false,
                    body: json!({"input": {}, "gates": []}),
                };
                match store.begin_effect(claim, &intent).await {
                    Ok(()) => {
                        let within = Duration::from_secs(RESULT_S);
                        written(store.park_for_result(claim, n, "kit__later", within).await)
                    }
                    Err(error) => written(Err(error)),
                }
            }
            _ => {
                let dead = DeadLeases { project: self.project.id.clone(), lease_ids: vec![claim.lease_id] };
                Seen::Reaped(store.reap(&dead).await.unwrap())
            }
        }
    }

    async fn perform_on(&self, op: Op, run_id: RunId, n: i32) -> Seen {
        let (store, scope) = (&self.test.store, &self.project.scope);
        match op {
            Op::Cancel(_) => {
                let cancelled = store.cancel_run(scope, run_id).await.unwrap();
                Seen::Done(matches!(cancelled, Cancelled::Done(_)))
            }
            Op::Decide(_, is_yes) => {
                let filter = ApprovalFilter { run_id: Some(run_id), limit: 1, ..ApprovalFilter::default() };
                let newest = store.list_approvals(scope, &filter).await.unwrap();
                let Some(approval_id) = newest.first().map(|a| a.approval_id) else { return Seen::Nothing };
                let decision = if is_yes { Decision::Approve } else { Decision::Deny };
                let ruling = Ruling { decision, reason: None, output: None };
                // somebody else each time: saying the same twice would be no refusal
                let person = format!("p{}", rand::random::<u32>());
                let decided =
                    store.decide_approval(&self.project.caller, &person, approval_id, &ruling).await;
                Seen::Done(matches!(decided.unwrap(), Decided::Done(_)))
            }
            _ => {
                let output = json!({"text": "x", "structured": null, "is_error": false});
                let sha256 = rand::random::<u64>().to_string();
                let delivery = Delivery { n, output, chars: 1, sha256 };
                let delivered = store.deliver_result(scope, run_id, &delivery).await.unwrap();
                Seen::Done(delivered == Delivered::Done)
            }
        }
    }
}

/// What happens at one moment: one or two operations together, or time passes.
#[derive(Debug, Clone, Copy)]
enum Moment {
    One(Op),
    Two(Op, Op),
    Passes(u64),
}

fn ops() -> impl Strategy<Value = Op> {
    let i = 0..8_usize;
    prop_oneof![
        3 => Just(Op::Create),
        6 => Just(Op::Claim),
        2 => i.clone().prop_map(Op::Record),
        2 => i.clone().prop_map(Op::Complete),
        1 => i.clone().prop_map(Op::Fail),
        2 => i.clone().prop_map(Op::Release),
        2 => i.clone().prop_map(Op::Retry),
        3 => i.clone().prop_map(Op::Ask),
        2 => i.clone().prop_map(Op::Defer),
        2 => i.clone().prop_map(Op::Reap),
        2 => i.clone().prop_map(Op::Cancel),
        3 => (i.clone(), any::<bool>()).prop_map(|(i, yes)| Op::Decide(i, yes)),
        2 => i.prop_map(Op::Deliver),
        2 => Just(Op::WakeDue),
        1 => Just(Op::TimeOut),
    ]
}

fn moments() -> impl Strategy<Value = Vec<Moment>> {
    let moment = prop_oneof![
        2 => ops().prop_map(Moment::One),
        5 => (ops(), ops()).prop_map(|(a, b)| Moment::Two(a, b)),
        1 => prop::sample::select(vec![1, RETRY_S, RESULT_S, u64::from(APPROVAL_S), 900]).prop_map(Moment::Passes),
    ];
    prop::collection::vec(moment, 1..40)
}

/// Plays one sequence in a project of its own.
async fn play(test: &TestStore, clock: &Clock, sequence: &[Moment]) -> Result<(), String> {
    let project = test.project_with(None, MAX_ATTEMPTS).await;
    let engine = Engine { test, clock, project, claims: Mutex::default() };
    let mut model = Model::default();
    for moment in sequence {
        let now = clock.now();
        match *moment {
            Moment::Passes(seconds) => clock.advance(Duration::from_secs(seconds)),
            Moment::One(op) => {
                let target = engine.target(op, &model);
                let seen = engine.perform(op, &target).await;
                model.take(op, &target, &seen, now).map_err(|why| format!("{op:?} saw {seen:?}: {why}"))?;
            }
            Moment::Two(a, b) => {
                let (to_a, to_b) = (engine.target(a, &model), engine.target(b, &model));
                let (of_a, of_b) = tokio::join!(engine.perform(a, &to_a), engine.perform(b, &to_b));
                let (first, second) = ((a, &to_a, &of_a), (b, &to_b, &of_b));
                model = in_some_order(&engine, &model, first, second, now).await?;
            }
        }
        agree(&engine, &model).await.map_err(|why| format!("after {moment:?}: {why}"))?;
    }
    let queued = model.runs.values().filter(|run| run.is_queued()).count();
    let claimed = test.store.claim(&engine.project.id, &worker("last"), 200).await.unwrap().len();
    if queued != claimed {
        return Err(format!("{queued} runs are due and {claimed} could be claimed"));
    }
    let found = test.store.examine().await.unwrap();
    if found.is_empty() { Ok(()) } else { Err(format!("the doctor finds {found:?}")) }
}

type Did<'a> = (Op, &'a Target, &'a Seen);

/// The model after both, in whichever order explains what was seen and what the rows say now.
async fn in_some_order(
    engine: &Engine<'_>,
    before: &Model,
    a: Did<'_>,
    b: Did<'_>,
    now: Timestamp,
) -> Result<Model, String> {
    let mut why = Vec::new();
    for (first, second) in [(a, b), (b, a)] {
        let mut model = before.clone();
        let both = [first, second];
        let taken = both.iter().try_for_each(|(op, target, seen)| model.take(*op, target, seen, now));
        match taken {
            Ok(()) => match agree(engine, &model).await {
                Ok(()) => return Ok(model),
                Err(reason) => why.push(reason),
            },
            Err(reason) => why.push(reason),
        }
    }
    Err(format!("no order explains {:?} -> {:?} beside {:?} -> {:?}: {why:?}", a.0, a.2, b.0, b.2))
}

/// Do the rows say what the model says?
async fn agree(engine: &Engine<'_>, model: &Model) -> Result<(), String> {
    for (run_id, modelled) in &model.runs {
        let run = engine.test.store.find_run(&engine.project.scope, *run_id).await.unwrap().unwrap();
        let numbers = match modelled.state {
            RunState::Pending { attempt, epoch }
            | RunState::Running { attempt, epoch }
            | RunState::Waiting { attempt, epoch, .. } => Some((attempt, epoch)),
            _ => None,
        };
        let is_same = run.state == modelled.state.name()
            && numbers.is_none_or(|(attempt, epoch)| {
                (i32::try_from(attempt), i64::try_from(epoch)) == (Ok(run.attempt), Ok(run.epoch))
            })
            && (modelled.state.name().is_terminal() || run.timeout_at == modelled.timeout_at);
        if !is_same {
            let row = (run.state, run.attempt, run.epoch, run.timeout_at);
            return Err(format!("a run is {row:?}, modelled as {modelled:?}"));
        }
    }
    Ok(())
}

#[test]
fn whatever_two_do_at_once_is_what_one_after_the_other_could_have_done() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let clock = manual();
    let test = runtime.block_on(TestStore::private_with(clock.clone()));
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 60;
    }
    config.max_shrink_iters = 200;
    config.failure_persistence = None;
    let mut runner = TestRunner::new(config);
    let played = runner.run(&moments(), |sequence| {
        runtime.block_on(play(&test, &clock, &sequence)).map_err(TestCaseError::fail)
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}
