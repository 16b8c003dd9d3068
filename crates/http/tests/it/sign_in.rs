//! People who sign in: where they may act and as what, from the token that they bear to the rows that they leave.

use std::collections::BTreeMap;

use awooop_core::ProjectId;
use awooop_core::ids::PersonId;
use awooop_core::role::Role;
use awooop_gateway::{HostRules, Operator};
use awooop_journeys::db::{AGENT, TestProject, test_store};
use awooop_journeys::fixture_issuer::{AUDIENCE, Behaviour, CLIENT, FixtureIssuer};
use serde_json::{Value, json};

use crate::api::{Answer, Api, RUNS, admin, request};

const WHOAMI: &str = "/v1/platform/whoami";
const PRINCIPALS: &str = "/v1/platform/principals";

/// A server on which people sign in, and two projects in which their groups are something.
struct Door {
    api: Api,
    issuer: FixtureIssuer,
    shop: TestProject,
    bar: TestProject,
}

async fn door() -> Door {
    let (test, issuer) = (test_store().await, FixtureIssuer::start().await.unwrap());
    let (shop, bar) = (test.project().await, test.project().await);
    let groups = |pairs: &[(&str, Role)]| HostRules {
        groups: pairs.iter().map(|(group, role)| ((*group).to_owned(), *role)).collect(),
        ..HostRules::default()
    };
    let mut sign_in = issuer.settings();
    sign_in.people = BTreeMap::from([("ana-at-issuer".to_owned(), PersonId::parse("ana").unwrap())]);
    let operator = Operator {
        sign_in: Some(sign_in),
        projects: BTreeMap::from([
            (
                shop.id.clone(),
                groups(&[
                    ("ops", Role::Operator),
                    ("leads", Role::Approver),
                    ("watch", Role::Viewer),
                    ("heads", Role::Admin),
                ]),
            ),
            (bar.id.clone(), groups(&[("watch", Role::Viewer)])),
            (ProjectId::platform(), groups(&[("root", Role::Admin), ("desk", Role::Viewer)])),
            (ProjectId::parse("not-made-yet").unwrap(), groups(&[("early", Role::Admin)])),
        ]),
        ..Operator::default()
    };
    operator.validate().unwrap();
    Door { api: Api::under(test, operator), issuer, shop, bar }
}

impl Door {
    /// GET as somebody in these groups, naming a project or none.
    async fn get(&self, subject: &str, groups: &[&str], project: Option<&str>, path: &str) -> Answer {
        let token = self.issuer.token(subject, groups);
        let headers: Vec<_> = project.iter().map(|p| ("x-awooop-project", *p)).collect();
        self.api.send(request("GET", path, &token, &headers, None)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_acts_where_their_groups_give_them_a_role_and_nowhere_else() {
    let door = door().await;
    let (shop, bar) = (door.shop.id.as_str(), door.bar.id.as_str());
    let who = door.get("p1", &["ops", "leads"], None, WHOAMI).await.json();
    assert_eq!((&who["project_id"], &who["roles"]), (&json!(shop), &json!(["operator", "approver"])));
    assert_eq!((&who["kind"], &who["credential"]["type"]), (&json!("human"), &json!("token")));
    assert_eq!(door.get("p1", &["ops"], None, RUNS).await.status, 200);
    let token = door.issuer.token("p1", &["ops"]);
    let run = json!({"agent_id": AGENT, "input": 1});
    assert_eq!(door.api.post(&token, RUNS, &run).await.status, 202);
    let watching = door.issuer.token("p1", &["watch"]);
    let headers = [("x-awooop-project", shop)];
    let refused = door.api.post_with(&watching, RUNS, &headers, &run).await;
    assert_eq!(refused.problem(), (403, "E-AUTH-002".into()), "with the group the role is gone");

    let mut details = Vec::new();
    for project in [bar, "no-such-project", "not-made-yet", "platform"] {
        let answer = door.get("p1", &["ops"], Some(project), RUNS).await;
        assert_eq!(answer.problem(), (403, "E-AUTH-003".into()), "{project}");
        details.push(answer.json()["detail"].clone());
    }
    // a project that is on the operator's list and does not exist is no other case
    let early = door.get("p2", &["early"], Some("not-made-yet"), RUNS).await;
    assert_eq!(early.problem(), (403, "E-AUTH-003".into()));
    details.push(early.json()["detail"].clone());
    details.dedup();
    assert_eq!(details.len(), 1, "{details:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_several_projects_names_one_and_who_has_none_is_told() {
    let door = door().await;
    let (shop, bar) = (door.shop.id.as_str(), door.bar.id.as_str());
    let unnamed = door.get("p1", &["watch"], None, RUNS).await;
    assert_eq!(unnamed.problem(), (403, "E-AUTH-003".into()));
    assert!(unnamed.json()["detail"].as_str().unwrap().contains("name one"), "{unnamed:?}");
    for project in [shop, bar] {
        assert_eq!(door.get("p1", &["watch"], Some(project), RUNS).await.status, 200);
    }
    let who = door.get("p1", &["watch"], None, WHOAMI).await.json();
    assert_eq!((&who["project_id"], who["projects"].as_array().unwrap().len()), (&json!(null), 2));
    let nobody = door.get("p1", &["cooks"], None, RUNS).await;
    assert_eq!(nobody.problem(), (403, "E-AUTH-003".into()));
    assert_eq!(door.get("p1", &["cooks"], None, WHOAMI).await.json()["projects"], json!([]));
    let twice = [("x-awooop-project", shop), ("x-awooop-project", shop)];
    let token = door.issuer.token("p1", &["watch"]);
    let answer = door.api.send(request("GET", RUNS, &token, &twice, None)).await;
    assert_eq!(answer.problem(), (400, "E-REQ-001".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_of_the_platform_signs_in_and_acts_anywhere_and_a_viewer_of_it_does_not() {
    let door = door().await;
    let shop = door.shop.id.as_str();
    assert_eq!(door.get("r1", &["root"], None, WHOAMI).await.json()["project_id"], "platform");
    let inside = door.get("r1", &["root", "watch"], Some(shop), WHOAMI).await.json();
    assert_eq!((&inside["project_id"], &inside["is_platform_admin"]), (&json!(shop), &json!(true)));
    assert_eq!(door.get("r1", &["desk"], Some(shop), RUNS).await.problem(), (403, "E-AUTH-003".into()));
    let both = door.get("r1", &["desk", "watch"], Some(shop), WHOAMI).await.json();
    assert_eq!((&both["is_platform_admin"], &both["roles"]), (&json!(false), &json!(["viewer"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_made_a_principal_on_first_sight_and_refused_once_disabled() {
    let door = door().await;
    let root = admin(&door.shop);
    for _ in 0..3 {
        assert_eq!(door.get("p1", &["ops"], None, RUNS).await.status, 200);
    }
    let found = door.api.get(&root, PRINCIPALS).await.json();
    let made: Vec<&Value> =
        found["items"].as_array().unwrap().iter().filter(|p| p["subject"] == "p1").collect();
    let [person] = made[..] else { panic!("one principal: {found}") };
    assert_eq!((&person["issuer"], &person["role"]), (&json!(door.issuer.url()), &json!(null)));
    let name = person["name"].as_str().unwrap();
    assert!(name.starts_with("sso-") && person["person"] == name, "{person}");
    let audit = door.api.get(&root, "/v1/platform/audit?action=principal.create").await.json();
    assert_eq!(audit["items"].as_array().unwrap().len(), 1, "{audit}");

    let disable = format!("{PRINCIPALS}/{name}/disable");
    assert_eq!(door.api.post(&root, &disable, &json!({})).await.status, 200);
    assert_eq!(door.get("p1", &["ops"], None, RUNS).await.problem(), (401, "E-AUTH-001".into()));
    assert_eq!(door.get("p1", &["heads"], None, RUNS).await.problem(), (401, "E-AUTH-001".into()));
    assert_eq!(door.get("p2", &["ops"], None, RUNS).await.status, 200);
    let enable = format!("{PRINCIPALS}/{name}/enable");
    assert_eq!(door.api.send(request("POST", &enable, &root, &[], None)).await.status, 200);
    assert_eq!(door.get("p1", &["ops"], None, RUNS).await.status, 200);

    // their roles are their groups', and their name is no service account's
    let role = format!("{PRINCIPALS}/{name}/role");
    let granted = door.api.post(&root, &role, &json!({"role": "admin"})).await;
    assert_eq!(granted.problem(), (409, "E-ACCESS-001".into()));
    let taken = json!({"name": name, "role": "viewer"});
    let refused = door.api.post(&root, "/v1/platform/keys", &taken).await;
    assert_eq!(refused.problem(), (422, "E-REQ-003".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_with_a_name_here_is_one_person_by_key_and_by_token() {
    let door = door().await;
    let who = door.get("ana-at-issuer", &["leads"], None, WHOAMI).await.json();
    assert_eq!((&who["person"], who["name"] == "ana"), (&json!("ana"), false));
    let other = door.get("ana", &["leads"], None, WHOAMI).await.json();
    assert_ne!(other["person"], "ana", "a subject that looks like a name is not that person");
    // an admin who signs in makes keys in their own name and in nobody else's
    let token = door.issuer.token("ana-at-issuer", &["heads"]);
    let key =
        |person: &str| json!({"name": format!("key-of-{person}"), "role": "approver", "person": person});
    assert_eq!(door.api.post(&token, "/v1/platform/keys", &key("ana")).await.status, 201);
    let refused = door.api.post(&token, "/v1/platform/keys", &key("bob")).await;
    assert_eq!(refused.problem(), (403, "E-AUTH-002".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_is_given_a_name_later_is_that_person_in_the_lists_too() {
    let mut door = door().await;
    assert_eq!(door.get("cid-at-issuer", &["ops"], None, RUNS).await.status, 200);
    let mut sign_in = door.issuer.settings();
    sign_in.people = BTreeMap::from([("cid-at-issuer".to_owned(), PersonId::parse("cid").unwrap())]);
    let groups = BTreeMap::from([("ops".to_owned(), Role::Operator)]);
    let rules = HostRules { groups, ..HostRules::default() };
    let projects = BTreeMap::from([(door.shop.id.clone(), rules)]);
    let (shop, issuer) = (door.shop.clone(), door.issuer.url().to_owned());
    let operator = Operator { sign_in: Some(sign_in), projects, ..Operator::default() };
    door.api = Api::under(door.api.test, operator);
    for _ in 0..2 {
        assert_eq!(door.get("cid-at-issuer", &["ops"], None, RUNS).await.status, 200);
    }
    let found = door.api.get(&admin(&shop), &format!("{PRINCIPALS}?person=cid")).await.json();
    assert_eq!((found["items"].as_array().unwrap().len(), &found["items"][0]["issuer"]), (1, &json!(issuer)));
    let audit = door.api.get(&admin(&shop), "/v1/platform/audit?action=principal.name").await.json();
    assert_eq!(audit["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_that_is_not_valid_gets_the_answer_of_every_key_that_is_not() {
    let door = door().await;
    let stranger = FixtureIssuer::start().await.unwrap();
    let now = door.api.test.store.clock().now().as_second();
    let good = door.issuer.token("p1", &["ops"]);
    let mut seen = Vec::new();
    for token in [
        "awp_nonsense".to_owned(),
        "nonsense".to_owned(),
        "a.b.c".to_owned(),
        stranger.token_with(json!({"iss": door.issuer.url(), "groups": ["ops"]})),
        door.issuer.token_with(json!({"aud": CLIENT, "nonce": "n", "groups": ["ops"]})),
        door.issuer.token_with(json!({"exp": now - 60, "groups": ["ops"]})),
        door.issuer.token_with(json!({"iss": "https://id.example", "groups": ["ops"]})),
        format!("{good}x"),
        "x".repeat(20_000),
    ] {
        let answer = door.api.get(&token, RUNS).await;
        assert_eq!(answer.problem(), (401, "E-AUTH-001".into()), "{token}");
        let mut document = answer.json();
        document["trace_id"] = json!(null);
        seen.push(document);
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_on_while_the_issuer_is_away_and_tokens_are_said_to_be_unjudged() {
    let door = door().await;
    door.issuer.behave(Behaviour::Down);
    let answer = door.get("p1", &["ops"], None, RUNS).await;
    assert_eq!(answer.problem(), (503, "E-AUTH-004".into()));
    assert_eq!(door.api.get(&admin(&door.shop), RUNS).await.status, 200);
    assert_eq!(door.api.get("nonsense", RUNS).await.problem(), (401, "E-AUTH-001".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_learns_how_to_sign_in_and_no_secret() {
    let door = door().await;
    let found = door.api.get("", "/v1/platform/sign-in").await.json();
    let expected = json!({"oidc": {"issuer": door.issuer.url(), "client_id": CLIENT, "audience": AUDIENCE,
        "scopes": ["openid", "offline_access"]}});
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_requests_of_a_person_never_seen_make_one_principal() {
    let door = door().await;
    for subject in ["q1", "q2", "q3", "q4"] {
        let ask = || door.get(subject, &["ops"], None, RUNS);
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert!([a, b, c].iter().all(|answer| answer.status == 200));
    }
    let root = admin(&door.shop);
    let audit = door.api.get(&root, "/v1/platform/audit?action=principal.create").await.json();
    assert_eq!(audit["items"].as_array().unwrap().len(), 4, "the losers wrote nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_is_to_people_and_keys_as_one_that_never_was() {
    let door = door().await;
    let shop = door.shop.id.as_str();
    assert_eq!(door.get("p1", &["heads"], Some(shop), RUNS).await.status, 200);
    let root = door.issuer.token("r1", &["root"]);
    let delete = format!("/v1/platform/projects/{shop}/delete");
    let answer = door
        .api
        .send(request("POST", &delete, &root, &[], Some(&json!({"confirm": shop, "reason": "done"}))))
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    for (named, absent) in [(Some(shop), Some("not-made-yet")), (None, None)] {
        let gone = door.get("p1", &["heads"], named, RUNS).await;
        let never = door.get("p1", &["early"], absent, RUNS).await;
        assert_eq!(gone.problem(), (403, "E-AUTH-003".into()));
        assert_eq!(gone.json()["detail"], never.json()["detail"]);
    }
    // somebody who was never there before leaves no row
    assert_eq!(door.get("p2", &["heads"], Some(shop), RUNS).await.problem(), (403, "E-AUTH-003".into()));
    let key = admin(&door.shop);
    assert_eq!(
        door.api.send(request("GET", RUNS, &key, &[], None)).await.problem(),
        (401, "E-AUTH-001".into())
    );
    let inside = door.get("r1", &["root"], Some(shop), RUNS).await;
    assert_eq!(inside.problem(), (410, "E-PROJECT-001".into()));
}
