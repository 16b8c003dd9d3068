//! What waits for people is announced to a real Redis, and nothing depends on it.

use std::time::{Duration, Instant};

use awooop_core::ids::{PersonId, PrincipalId};
use awooop_core::role::Role;
use awooop_core::statement::Act;
use awooop_journeys::db::{self, TestDatabase, TestProject, TestStore};
use awooop_journeys::redis::TestRedis;
use awooop_store::Clock;
use awooop_store::announce::Announcer;
use awooop_store::auth::{Caller, NewKey};
use awooop_store::contract::{ApplyOptions, ContractKey};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

/// A person's key in the project, made by a platform admin.
async fn person(test: &TestStore, project: &TestProject, name: &str) -> Caller {
    let operator = test.store.authenticate(test.platform_key.expose_secret()).await.unwrap().unwrap();
    let new = NewKey {
        person: Some(PersonId::parse(name).unwrap()),
        ..NewKey::of_service(PrincipalId::parse(name).unwrap(), Role::Admin)
    };
    let inside = operator.act_in(&project.id).unwrap();
    let (key, _) = test.store.create_key(inside.scope(), &new).await.unwrap();
    test.store.authenticate(key.expose_secret()).await.unwrap().unwrap()
}

fn two_sign(project: &TestProject) -> Vec<awooop_core::contract::Manifest> {
    let spec = json!({"display_name": "Two sign", "activation": {"signatures": 2, "window_s": 3600}});
    let document = json!({"kind": "project", "project": project.id, "id": project.id, "spec": spec});
    vec![db::manifest(document).unwrap()]
}

fn agent(project: &TestProject) -> Vec<awooop_core::contract::Manifest> {
    let spec = json!({"instructions": "Answer.", "model": "offline/planner", "output_schema": {}});
    let document = json!({"kind": "agent", "project": project.id, "id": "announced", "spec": spec});
    vec![db::manifest(document).unwrap()]
}

async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it did not happen in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_signatures_is_announced_and_a_dead_redis_stops_nothing() {
    let Some(mut redis) = TestRedis::start().unwrap() else {
        eprintln!("no Redis on this machine: not tested");
        return;
    };
    let announcer = Announcer::new(&redis.url().into()).unwrap();
    let database = TestDatabase::shared().await.unwrap();
    let test = TestStore::open_with(database, Clock::system(), announcer).await.unwrap();
    let project = test.project().await;
    let (ana, bob) = (person(&test, &project, "ana").await, person(&test, &project, "bob").await);
    test.store.apply(&ana, &two_sign(&project), ApplyOptions::default()).await.unwrap();

    let client = redis::Client::open(redis.url()).unwrap();
    let mut listener = client.get_async_pubsub().await.unwrap();
    listener.subscribe(format!("awooop:{}:contracts", project.id)).await.unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let pending = format!("awooop:{}:contracts:pending", project.id);
    let (_, applied) = test.store.apply(&ana, &agent(&project), ApplyOptions::default()).await.unwrap();
    assert!(!applied[0].is_done);
    let text: String = eventually(async || {
        redis::cmd("HGET")
            .arg(&pending)
            .arg("agent/announced@1:activate")
            .query_async(&mut connection)
            .await
            .ok()
    })
    .await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["needed"], &document["signers"]), (&json!(2), &json!(["ana"])));
    let message = futures::StreamExt::next(&mut listener.on_message()).await.unwrap();
    assert_eq!(message.get_payload::<String>().unwrap(), text);

    let key = ContractKey::new(awooop_core::contract::Kind::Agent, "announced");
    test.store.sign_version(&bob, &key, 1, Act::Activate, None).await.unwrap();
    test.store.activate_version(&bob, &key, 1, None).await.unwrap();
    let left = eventually(async || {
        let left: i64 = redis::cmd("HLEN").arg(&pending).query_async(&mut connection).await.ok()?;
        (left == 0).then_some(left)
    });
    assert_eq!(left.await, 0);

    redis.kill().unwrap();
    let began = Instant::now();
    let ended = test.store.retire_contract(&ana, &key, None).await.unwrap();
    assert!(!ended.is_done);
    assert!(test.store.retire_contract(&bob, &key, None).await.unwrap().is_done);
    assert!(began.elapsed() < Duration::from_secs(5), "a dead Redis costs nothing: {:?}", began.elapsed());
}

#[test]
fn an_address_that_is_none_is_refused_without_repeating_it() {
    let error = Announcer::new(&"nonsense:secret-word".into()).err().unwrap();
    assert!(error.to_string().contains("AWOOOP_REDIS_URL") && !error.to_string().contains("secret-word"));
}
