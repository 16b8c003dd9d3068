//! Rates and places: what is let through is never more than a rule allows, in one process or in several that share a
//! Redis, and nothing waits for a Redis that is away.

use std::time::{Duration, Instant};

use awooop_core::AgentId;
use awooop_core::contract::PolicySpec;
use awooop_core::rate::{Limit, limits};
use awooop_journeys::db::{TestDatabase, TestProject, TestStore, test_store};
use awooop_journeys::redis::TestRedis;
use awooop_store::announce::Announcer;
use awooop_store::rate::{Full, Place};
use awooop_store::{Clock, ProjectScope, Store};
use futures::future::join_all;
use serde_json::{Value, json};

/// Longer than a place stays taken that nobody renews.
const PATIENCE: Duration = Duration::from_secs(40);

fn under(rule: Value) -> Vec<Limit> {
    let policy: PolicySpec = serde_json::from_value(json!({"rates": [rule]})).unwrap();
    limits([("house", &policy)], &AgentId::parse("clerk").unwrap(), "shop__refund")
}

fn calls(calls: u32, window_s: u32) -> Vec<Limit> {
    under(json!({"per": "project", "calls": calls, "window_s": window_s}))
}

fn places(concurrent: u32) -> Vec<Limit> {
    under(json!({"per": "project", "concurrent": concurrent}))
}

/// So many at once; those that got in.
async fn at_once(store: &Store, scope: &ProjectScope, limits: &[Limit], n: usize) -> Vec<Place> {
    let tried = join_all((0..n).map(|_| store.take_place(scope, limits.to_vec(), false))).await;
    tried.into_iter().flatten().collect()
}

/// Two processes' stores on one database and one Redis.
struct Nodes {
    redis: TestRedis,
    a: TestStore,
    b: TestStore,
    project: TestProject,
    scope_b: ProjectScope,
}

impl Nodes {
    /// `None` where there is no Redis.
    async fn start() -> Option<Nodes> {
        let Some(redis) = TestRedis::start().unwrap() else {
            eprintln!("no Redis on this machine: not tested");
            return None;
        };
        let announcer = || Announcer::new(&redis.url().into()).unwrap();
        let database = async || TestDatabase::shared().await.unwrap();
        let a = TestStore::open_with(database().await, Clock::system(), announcer()).await.unwrap();
        let b = TestStore::open_with(database().await, Clock::system(), announcer()).await.unwrap();
        let project = a.project().await;
        let scope_b = project.scope.clone();
        Some(Nodes { redis, a, b, project, scope_b })
    }

    async fn both_at_once(&self, limits: &[Limit], n: usize) -> (Vec<Place>, Vec<Place>) {
        tokio::join!(
            at_once(&self.a.store, &self.project.scope, limits, n),
            at_once(&self.b.store, &self.scope_b, limits, n)
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_calls_at_once_as_many_get_in_as_are_allowed_and_another_projects_do_not_count() {
    let test = test_store().await;
    let (project, other) = (test.project().await, test.project().await);
    let limits = calls(10, 3600);
    assert_eq!(at_once(&test.store, &project.scope, &limits, 64).await.len(), 10);
    let Err(full) = test.store.take_place(&project.scope, limits.clone(), false).await else {
        panic!("the eleventh got in");
    };
    assert_eq!(full.rule, "the policy `house` allows the project 10 calls in 3600 s");
    assert!(full.wait > Duration::from_secs(3500), "{full:?}");
    assert_eq!(test.store.look_at_rates(&project.scope, &limits).await.map_err(|f| f.rule), Err(full.rule));
    assert_eq!(at_once(&test.store, &other.scope, &limits, 64).await.len(), 10);
    let limits = places(3);
    let held = at_once(&test.store, &project.scope, &limits, 64).await;
    assert_eq!(held.len(), 3);
    drop(held);
    assert_eq!(at_once(&test.store, &project.scope, &limits, 64).await.len(), 3, "dropped places are free");
    assert_eq!(test.store.is_redis_away(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_as_told_gets_in_and_what_must_be_made_is_counted() {
    let test = test_store().await;
    let (project, limits) = (test.project().await, calls(2, 1));
    assert_eq!(at_once(&test.store, &project.scope, &limits, 5).await.len(), 2);
    let Err(Full { wait, .. }) = test.store.look_at_rates(&project.scope, &limits).await else {
        panic!("there is room");
    };
    tokio::time::sleep(wait).await;
    assert!(test.store.take_place(&project.scope, limits.clone(), true).await.is_ok());
    assert!(test.store.take_place(&project.scope, limits.clone(), true).await.is_ok());
    assert!(test.store.take_place(&project.scope, limits.clone(), true).await.is_ok(), "in any case");
    assert!(test.store.take_place(&project.scope, limits, false).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_with_one_redis_share_exact_counts_and_places() {
    let Some(nodes) = Nodes::start().await else { return };
    let limits = calls(10, 3600);
    let (in_a, in_b) = nodes.both_at_once(&limits, 64).await;
    assert_eq!(in_a.len() + in_b.len(), 10);
    assert!(nodes.b.store.look_at_rates(&nodes.scope_b, &limits).await.is_err(), "b knows of a's calls");
    let limits = places(7);
    for _ in 0..3 {
        let (mut in_a, in_b) = nodes.both_at_once(&limits, 32).await;
        assert_eq!(in_a.len() + in_b.len(), 7);
        let released = in_b.into_iter().chain(in_a.drain(..)).map(Place::release);
        join_all(released).await;
    }
    // refused in Redis, a call is taken back where it was counted before
    let limits = calls(1, 1);
    let (in_a, in_b) = nodes.both_at_once(&limits, 2).await;
    assert_eq!(in_a.len() + in_b.len(), 1);
    let wait = nodes.a.store.look_at_rates(&nodes.project.scope, &limits).await.unwrap_err().wait;
    tokio::time::sleep(wait).await;
    let (in_a, in_b) = nodes.both_at_once(&limits, 2).await;
    assert_eq!(in_a.len() + in_b.len(), 1);
    assert_eq!(nodes.a.store.is_redis_away(), Some(false));
    let names = redis_keys(&nodes.redis).await;
    let mine = format!("awooop:{{{}}}:rate:house:", nodes.project.id);
    assert!(
        !names.is_empty() && names.iter().all(|(name, ttl)| name.starts_with(&mine) && *ttl > 0),
        "{names:?}"
    );
}

/// Every key with how long it lives, in milliseconds.
async fn redis_keys(redis: &TestRedis) -> Vec<(String, i64)> {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let mut found = Vec::new();
    for name in names {
        let ttl = redis::cmd("PTTL").arg(&name).query_async(&mut connection).await.unwrap();
        found.push((name, ttl));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_free_when_their_call_is_cut_and_when_their_process_is_gone() {
    let Some(nodes) = Nodes::start().await else { return };
    let limits = places(1);
    let freed = async || {
        let began = Instant::now();
        while nodes.b.store.look_at_rates(&nodes.scope_b, &limits).await.is_err() {
            assert!(began.elapsed() < PATIENCE, "the place is not free");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let place = nodes.a.store.take_place(&nodes.project.scope, limits.clone(), false).await.unwrap();
    assert!(nodes.b.store.look_at_rates(&nodes.scope_b, &limits).await.is_err());
    let call = scope_task(place);
    call.abort();
    freed().await;
    let gone = nodes.a.store.take_place(&nodes.project.scope, limits.clone(), false).await.unwrap();
    // nothing of it runs any more, as after a kill
    std::mem::forget(gone);
    assert!(nodes.b.store.look_at_rates(&nodes.scope_b, &limits).await.is_err());
    freed().await;
}

/// A call that never ends, in a task of its own.
fn scope_task(place: Place) -> tokio::task::JoinHandle<()> {
    #[expect(clippy::disallowed_methods, reason = "the test aborts it")]
    tokio::spawn(async move { place.hold(std::future::pending::<()>()).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_or_frozen_leaves_each_process_its_own_limit() {
    let Some(mut nodes) = Nodes::start().await else { return };
    let limits = calls(6, 3600);
    let (in_a, in_b) = nodes.both_at_once(&limits, 2).await;
    assert_eq!(in_a.len() + in_b.len(), 4);
    nodes.redis.freeze().unwrap();
    // it would answer nobody for ever
    let (more_a, more_b) = nodes.both_at_once(&limits, 32).await;
    assert_eq!(
        (in_a.len() + more_a.len(), in_b.len() + more_b.len()),
        (6, 6),
        "each its own, those before counted"
    );
    assert_eq!(nodes.a.store.is_redis_away(), Some(true));
    nodes.redis.thaw().unwrap();
    let began = Instant::now();
    let probe = places(1000);
    while nodes.a.store.is_redis_away() == Some(true) {
        assert!(began.elapsed() < PATIENCE, "Redis is not asked again");
        let _ = nodes.a.store.look_at_rates(&nodes.project.scope, &probe).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    nodes.redis.kill().unwrap();
    let limits = calls(5, 1800);
    let (in_a, in_b) = nodes.both_at_once(&limits, 32).await;
    assert_eq!((in_a.len(), in_b.len()), (5, 5));
    let limits = places(2);
    let (in_a, in_b) = nodes.both_at_once(&limits, 32).await;
    assert_eq!((in_a.len(), in_b.len()), (2, 2));
    join_all(in_a.into_iter().chain(in_b).map(Place::release)).await;
    assert_eq!(at_once(&nodes.a.store, &nodes.project.scope, &limits, 32).await.len(), 2);
}
