//! Who signs: M of N people within a window, four eyes, named signers, the rule that was in force before, and
//! which role may do which step.

use std::time::Duration;

use awooop_core::role::Role;
use awooop_journeys::db::{AGENT, TestProject, TestStore};
use awooop_store::Clock;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::api::{Answer, Api, admin};
use crate::contracts_life::{CONTRACTS, agent, clerk};

/// The project's contract with this rule.
fn project_with(project: &TestProject, activation: Value) -> Value {
    let spec = json!({"display_name": "A test's project", "activation": activation});
    json!({"kind": "project", "project": project.id, "id": project.id, "spec": spec})
}

async fn apply(api: &Api, key: &str, manifests: &[Value]) -> Answer {
    api.post(key, CONTRACTS, &json!({ "manifests": manifests })).await
}

/// A project under a rule.
async fn under(api: &Api, activation: Value) -> TestProject {
    let project = api.test.project().await;
    let answer = apply(api, &admin(&project), &[project_with(&project, activation)]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    project
}

async fn person(api: &Api, project: &TestProject, name: &str, role: Role) -> String {
    api.test.key_of(project, name, role).await.expose_secret().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn under_two_of_n_two_people_sign_and_no_service_account_does() {
    let api = Api::new().await;
    let project = under(&api, json!({"signatures": 2})).await;
    let ana = person(&api, &project, "ana", Role::Admin).await;
    let anas_other = person(&api, &project, "ana", Role::Admin).await;
    let bob = person(&api, &project, "bob", Role::Approver).await;
    let two = [agent(&project, "two")];

    let service = apply(&api, &admin(&project), &two).await;
    assert_eq!(service.status, 202, "{service:?}");
    let item = service.json()["items"][0].clone();
    assert!(
        item["is_waiting"] == true && item["note"].as_str().unwrap().contains("service account"),
        "{item}"
    );
    assert_eq!(
        item["signatures"],
        json!({"act": "activate", "needed": 2, "signed": [], "expired": [],
        "overtaken": [], "invalid": []})
    );
    let refused = api.sign(&admin(&project), 2, "activate").await;
    assert_eq!(refused.problem(), (403, "E-CONTRACT-004".into()));

    for key in [&ana, &anas_other] {
        let waiting = apply(&api, key, &two).await;
        assert_eq!((waiting.status.as_u16(), &waiting.json()["items"][0]["version"]), (202, &json!(2)));
        assert_eq!(
            waiting.json()["items"][0]["signatures"]["signed"],
            json!(["ana"]),
            "two keys are one person"
        );
    }
    let early = api.take(&bob, 2, "activate").await;
    assert_eq!(early.problem(), (409, "E-CONTRACT-003".into()));
    assert_eq!(early.json()["detail"], "agent/clerk@2 has 1 of 2 signatures");
    let signed = api.sign(&bob, 2, "activate").await.json();
    assert_eq!(
        (&signed["is_ready"], &signed["signatures"]["signed"]),
        (&json!(true), &json!(["ana", "bob"]))
    );
    assert_eq!(api.take(&bob, 2, "activate").await.status, 200);
    assert_eq!(api.active(&ana).await, 2);

    // an end needs two as well
    let ending = api.ask(&ana, "POST", &clerk("/retire"), "", None).await;
    assert_eq!((ending.status.as_u16(), &ending.json()["signatures"]["signed"]), (202, &json!(["ana"])));
    assert_eq!(api.active(&ana).await, 2);
    assert_eq!(api.sign(&bob, 2, "retire").await.json()["is_ready"], true);
    assert_eq!(api.ask(&ana, "POST", &clerk("/retire"), "", None).await.status, 200);
    assert_eq!(api.active(&ana).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn four_eyes_are_four_also_for_an_end_and_signers_can_be_named() {
    let api = Api::new().await;
    let project = under(&api, json!({"publisher_may_sign": false})).await;
    let ana = person(&api, &project, "ana", Role::Admin).await;
    let bob = person(&api, &project, "bob", Role::Admin).await;
    let version = api.publish(&ana, &agent(&project, "two")).await;
    assert_eq!(api.sign(&ana, version, "activate").await.problem(), (403, "E-CONTRACT-004".into()));
    assert_eq!(api.sign(&bob, version, "activate").await.status, 200);
    assert_eq!(api.take(&ana, version, "activate").await.status, 200);
    assert_eq!(api.ask(&bob, "POST", &clerk("/retire"), "", None).await.status, 202);
    assert_eq!(api.ask(&bob, "POST", &clerk("/retire"), "", None).await.status, 202, "twice is once");
    assert_eq!(api.ask(&ana, "POST", &clerk("/retire"), "", None).await.status, 200);

    let project = under(&api, json!({"signers": ["bob"]})).await;
    let ana = person(&api, &project, "ana", Role::Admin).await;
    let bob = person(&api, &project, "bob", Role::Approver).await;
    let version = api.publish(&ana, &agent(&project, "two")).await;
    for key in [&ana, &admin(&project)] {
        assert_eq!(api.sign(key, version, "activate").await.problem(), (403, "E-CONTRACT-004".into()));
    }
    assert_eq!(api.sign(&bob, version, "activate").await.json()["is_ready"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_rule_needs_the_signatures_of_the_rule_before_it() {
    let api = Api::new().await;
    let project = under(&api, json!({"signatures": 2})).await;
    let ana = person(&api, &project, "ana", Role::Admin).await;
    let bob = person(&api, &project, "bob", Role::Admin).await;
    let easier = [project_with(&project, json!({"signatures": 1})), agent(&project, "two")];
    assert_eq!(apply(&api, &ana, &easier).await.status, 202, "not by the rule it brings along");
    assert_eq!(api.active(&ana).await, 1);
    assert_eq!(apply(&api, &bob, &easier).await.status, 200);
    assert_eq!(api.active(&ana).await, 2);
    assert_eq!(apply(&api, &ana, &[agent(&project, "three")]).await.status, 200, "now one is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_counts_for_as_long_as_the_window_says() {
    let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
    let api = Api::over(TestStore::private_with(clock.clone()).await).await;
    let project = under(&api, json!({"signatures": 2, "window_s": 60})).await;
    let ana = person(&api, &project, "ana", Role::Admin).await;
    let bob = person(&api, &project, "bob", Role::Admin).await;
    let version = api.publish(&ana, &agent(&project, "two")).await;
    assert_eq!(api.sign(&ana, version, "activate").await.status, 200);
    clock.advance(Duration::from_secs(61));
    assert_eq!(api.sign(&bob, version, "activate").await.json()["signatures"]["expired"], json!(["ana"]));
    let late = api.take(&bob, version, "activate").await;
    assert_eq!(late.problem(), (409, "E-CONTRACT-005".into()));
    assert!(late.json()["detail"].as_str().unwrap().contains("ana must sign again"), "{late:?}");
    assert_eq!(api.sign(&ana, version, "activate").await.json()["is_ready"], true);
    assert_eq!(api.take(&bob, version, "activate").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_takes_the_steps_that_are_its_own() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let owner = admin(&project);
    let version = api.publish(&owner, &agent(&project, "two")).await;
    let three = agent(&project, "three");
    for role in ["operator", "viewer", "approver"] {
        let key = api.key(&project, json!({"name": role, "role": role})).await;
        let may_sign = role == "approver";
        for (answer, is_allowed) in [
            (api.get(&key, &clerk("")).await, true),
            (api.get(&key, &clerk("/diff?from=1&to=2")).await, true),
            (api.get(&key, &clerk("/versions")).await, true),
            (api.draft(&key, "", &three).await, false),
            (api.take(&key, version, "publish").await, false),
            (apply(&api, &key, std::slice::from_ref(&three)).await, false),
            (api.ask(&key, "POST", &clerk("/retire"), "", None).await, false),
            (api.ask(&key, "POST", &format!("{CONTRACTS}/rematerialise"), "", None).await, false),
            (api.ask(&key, "POST", &format!("{CONTRACTS}/resign"), "", None).await, false),
            (api.sign(&key, version, "activate").await, may_sign),
            (api.take(&key, version, "activate").await, may_sign),
        ] {
            if is_allowed {
                assert_eq!(answer.status, 200, "{role}: {answer:?}");
            } else {
                assert_eq!(answer.problem(), (403, "E-AUTH-002".into()), "{role}: {answer:?}");
            }
        }
    }
    assert_eq!(api.active(&owner).await, version);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_a_key_in_another_person_s_name() {
    let api = Api::new().await;
    let project = api.test.project().await;
    const KEYS: &str = "/v1/platform/keys";
    let body = |name: &str, person: Value| json!({"name": name, "role": "admin", "person": person});
    let refused = api.post(&admin(&project), KEYS, &body("bob", json!("bob"))).await;
    assert_eq!(refused.problem(), (403, "E-AUTH-002".into()));
    let headers = [("x-awooop-project", project.id.as_str())];
    let made = api.post_with(&api.platform_key(), KEYS, &headers, &body("bob", json!("bob"))).await;
    assert_eq!((made.status.as_u16(), &made.json()["person"]), (201, &json!("bob")));
    let bob = made.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(api.post(&bob, KEYS, &body("bob", json!("bob"))).await.status, 201, "a second key of his own");
    assert_eq!(api.post(&bob, KEYS, &body("ana", json!("ana"))).await.problem(), (403, "E-AUTH-002".into()));
    // the principal is bob's: neither a key without a person nor one of somebody else comes with its name
    for person in [Value::Null, json!("eve")] {
        let by = if person.is_null() { admin(&project) } else { api.platform_key() };
        let refused = api.post_with(&by, KEYS, &headers, &body("bob", person)).await;
        assert_eq!(refused.problem(), (422, "E-REQ-003".into()));
        assert_eq!(refused.json()["errors"][0]["path"], "/name");
    }
    let service = api.post_with(&api.platform_key(), KEYS, &headers, &body("admin", json!("eve"))).await;
    assert_eq!(service.problem(), (422, "E-REQ-003".into()), "nor does a service account become a person");
    let bound = json!({"name": "x", "agent_id": AGENT, "person": "bob"});
    assert_eq!(api.post(&bob, KEYS, &bound).await.problem(), (422, "E-REQ-003".into()));
}
