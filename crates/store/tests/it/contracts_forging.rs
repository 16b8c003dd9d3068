//! Somebody who can write to every table, but has no key of the server: what they change does not load, the
//! doctor names it, and applying the same manifests again puts it right.

use awooop_core::ErrorCode;
use awooop_core::role::Role;
use awooop_core::statement::Act;
use awooop_journeys::db::{AGENT, TestProject, TestStore, agent_id};
use awooop_store::auth::Caller;
use awooop_store::contract::{ContractError, VersionState};
use awooop_store::keyring::{KeyName, Keyring, SignatureProblem};
use serde_json::json;

use crate::contracts::{
    activate, active_clerk, agent, apply, audited, clerk, findings, of, publish, rule, signed, tamper,
};
use crate::stepping::{claim_one, create, worker};

const V1: &str = "project_id = '{p}' AND kind = 'agent' AND id = 'clerk' AND version = 1";
const V2: &str = "project_id = '{p}' AND kind = 'agent' AND id = 'clerk' AND version = 2";

/// One way of changing what is active.
struct Forgery {
    name: &'static str,
    sql: String,
    /// What the doctor has to name.
    named: &'static str,
    /// Is a run that was queued before hit, too?
    hits_queued_runs: bool,
}

fn on_version(name: &'static str, set: &str) -> Forgery {
    let sql = format!("UPDATE contract_version SET {set} WHERE {V2}");
    Forgery { name, sql, named: "agent/clerk@2", hits_queued_runs: true }
}

fn on_contract(name: &'static str, sql: &str) -> Forgery {
    Forgery { name, sql: sql.to_owned(), named: "agent/clerk@", hits_queued_runs: false }
}

/// Signature and key of another version row.
fn copied(project: &str, kind: &str, version: i32) -> String {
    format!(
        "(signature, key_id) = (SELECT signature, key_id FROM contract_version WHERE project_id = '{project}'
           AND kind = '{kind}' AND id = 'clerk' AND version = {version})"
    )
}

fn forgeries(other: &str) -> Vec<Forgery> {
    let text = "replace(body, 'second', 'forged')";
    let of_other = "SELECT body, sha256, version_id, published_at, publisher, signature, key_id
                    FROM contract_version WHERE kind = 'agent' AND id = 'clerk' AND version = 2";
    vec![
        on_version("the body", &format!("body = {text}")),
        on_version(
            "the body with a hash that fits",
            &format!("body = {text}, sha256 = encode(sha256(convert_to({text}, 'UTF8')), 'hex')"),
        ),
        on_version("the signature", "signature = set_byte(signature, 0, get_byte(signature, 0) # 1)"),
        on_version("a shorter signature", "signature = substr(signature, 1, 16)"),
        on_version("no signature", "signature = NULL, key_id = NULL"),
        on_version("a signature of another version", &copied("{p}", "agent", 1)),
        on_version("a signature of another project", &copied(other, "agent", 2)),
        on_version("a signature of another kind", &copied("{p}", "policy", 2)),
        on_version("a key that nobody has", "key_id = '00000000'"),
        on_version("the publisher", "publisher = 'bob'"),
        on_version("the time of publication", "published_at = published_at + interval '1 hour'"),
        on_version("a draft, to escape", "state = 'draft'"),
        on_version(
            "all of another project's version",
            &format!(
                "(body, sha256, version_id, published_at, publisher, signature, key_id) =
                 ({of_other} AND project_id = '{other}')"
            ),
        ),
        on_contract(
            "the pointer to an older version",
            &format!(
                "UPDATE contract_version SET state = 'retired' WHERE {V2};
                 UPDATE contract_version SET state = 'active' WHERE {V1};
                 UPDATE contract SET active_version = 1 WHERE project_id = '{{p}}' AND kind = 'agent' AND id = 'clerk'"
            ),
        ),
        on_contract(
            "the activation of another contract",
            "UPDATE contract SET (signature, key_id, activated_at) = (SELECT signature, key_id, activated_at
               FROM contract WHERE project_id = '{p}' AND kind = 'policy')
             WHERE project_id = '{p}' AND kind = 'agent' AND id = 'clerk'",
        ),
        on_contract(
            "the time of activation",
            "UPDATE contract SET activated_at = activated_at - interval '1 hour'
             WHERE project_id = '{p}' AND kind = 'agent' AND id = 'clerk'",
        ),
    ]
}

/// A project whose agent and a policy of the same name are in their second version.
async fn second_versions(test: &TestStore) -> TestProject {
    let project = test.project().await;
    let policy = |tool: &str| of(&project, "policy", AGENT, json!({"deny": [tool]}));
    apply(&test.store, &project.caller, &[policy("shop__a")]).await;
    apply(&test.store, &project.caller, &[agent(&project, AGENT, "second"), policy("shop__b")]).await;
    project
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_forged_does_not_load_is_named_and_is_mended_by_applying_again() {
    let test = TestStore::private().await;
    let other = second_versions(&test).await;
    for forgery in forgeries(other.id.as_str()) {
        let name = forgery.name;
        let project = second_versions(&test).await;
        assert_eq!(findings(&test, &project).await, Vec::<String>::new(), "{name}");
        create(&test.store, &project).await;
        tamper(&test, &project, &forgery.sql).await;

        let found = findings(&test, &project).await;
        assert!(found.iter().any(|f| f.contains(forgery.named)), "{name}: {found:?}");
        let refused = test.store.find_agent(&project.scope, &agent_id()).await;
        let refused = refused.err().unwrap_or_else(|| panic!("{name}: the agent loads"));
        assert_eq!(refused.code(), ErrorCode::Contract002, "{name}: {refused}");
        let queued = claim_one(&test.store, &project, &worker("w")).await;
        assert_eq!(queued.agent.is_err(), forgery.hits_queued_runs, "{name}: {:?}", queued.agent);
        // nothing else goes on over a broken contract, and nothing is made from it
        let apart = apply_apart(&test, &project).await;
        assert!(
            matches!(&apart, Err(ContractError::Store(e)) if e.code() == ErrorCode::Contract002),
            "{name}: {apart:?}"
        );
        assert!(test.store.rematerialise(&project.caller).await.is_err(), "{name}");

        let active = active_clerk(&test.store, &project.caller).await;
        let same = test.store.activate_version(&project.caller, &clerk(), active, None).await;
        assert!(same.is_err(), "{name}: what does not load is not said to be active");

        let (is_written, _) = apply(&test.store, &project.caller, &[agent(&project, AGENT, "second")]).await;
        assert!(is_written, "{name}");
        let facts = test.store.find_agent(&project.scope, &agent_id()).await.unwrap().unwrap();
        assert_eq!(facts.spec.instructions, "second", "{name}");
        let active = test.store.list_contracts(&project.scope).await.unwrap();
        assert!(active.iter().all(|a| a.problem.is_none()), "{name}");
        let (is_written, _) = apply(&test.store, &project.caller, &[agent(&project, AGENT, "second")]).await;
        assert!(!is_written, "{name}: once is enough");
    }
}

async fn apply_apart(test: &TestStore, project: &TestProject) -> Result<bool, ContractError> {
    let manifests = [agent(project, "another", "x")];
    Ok(test.store.apply(&project.caller, &manifests, Default::default()).await?.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_vanishes_is_missed_and_a_rule_that_vanishes_stops_everybody_but_operators() {
    let test = TestStore::private().await;
    let gone = "UPDATE contract_version SET state = 'retired' WHERE project_id = '{p}' AND kind = '{k}' AND state = 'active';
                UPDATE contract SET active_version = NULL, activated_at = NULL, signature = NULL, key_id = NULL
                WHERE project_id = '{p}' AND kind = '{k}'";
    let project = test.project().await;
    tamper(&test, &project, &gone.replace("{k}", "agent")).await;
    let found = findings(&test, &project).await;
    assert!(found.iter().any(|f| f.contains("the end of agent/clerk is not believed")), "{found:?}");

    let project = test.project().await;
    apply(&test.store, &project.caller, &[rule(&project, json!({"signatures": 2}))]).await;
    tamper(&test, &project, &gone.replace("{k}", "project")).await;
    let found = findings(&test, &project).await;
    assert!(found.iter().any(|f| f.contains("the end of project/")), "{found:?}");
    let ana = test.person(&project, "ana", Role::Admin).await;
    let refused = test.store.apply(&ana, &[agent(&project, AGENT, "alone")], Default::default()).await;
    assert!(
        matches!(&refused, Err(ContractError::Store(e)) if e.code() == ErrorCode::Contract002),
        "{refused:?}"
    );
}

/// A project where two people have to sign, with ana and bob in it.
async fn of_two(test: &TestStore) -> (TestProject, Caller, Caller) {
    let project = test.project().await;
    apply(&test.store, &project.caller, &[rule(&project, json!({"signatures": 2}))]).await;
    let ana = test.person(&project, "ana", Role::Admin).await;
    let bob = test.person(&project, "bob", Role::Approver).await;
    (project, ana, bob)
}

/// Bob's signature for activating version 2, made up by `columns`: SQL for base, time, key and signature.
fn bobs(columns: &str, from: &str) -> String {
    format!(
        "INSERT INTO contract_signature (project_id, kind, id, version, act, signer, is_person, base_version,
           signed_at, key_id, signature)
         SELECT '{{p}}', 'agent', 'clerk', 2, 'activate', 'bob', true, {columns} FROM contract_signature s
         WHERE {from}
         ON CONFLICT (project_id, kind, id, version, act, signer) DO UPDATE SET signature = excluded.signature,
           base_version = excluded.base_version, signed_at = excluded.signed_at, key_id = excluded.key_id,
           used_at = NULL"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_s_signature_that_was_made_up_does_not_count() {
    let test = TestStore::private().await;
    let (other, their_ana, their_bob) = of_two(&test).await;
    signed(&test.store, &[&their_ana, &their_bob], &agent(&other, AGENT, "second")).await;
    let same = "s.base_version, s.signed_at, s.key_id, s.signature";
    let elsewhere = format!("s.project_id = '{}' AND s.signer = 'bob'", other.id);
    for (name, sql) in [
        (
            "out of nothing",
            bobs("1, now(), s.key_id, s.signature", "s.project_id = '{p}' AND s.signer = 'ana'"),
        ),
        ("ana's", bobs(same, "s.project_id = '{p}' AND s.signer = 'ana'")),
        ("of another version", bobs(same, "s.project_id = '{p}' AND s.signer = 'bob' AND s.version = 3")),
        ("of another act", bobs(same, "s.project_id = '{p}' AND s.signer = 'bob' AND s.act = 'retire'")),
        ("of another project", bobs(same, &elsewhere)),
    ] {
        let (project, ana, bob) = of_two(&test).await;
        let second = signed(&test.store, &[&ana], &agent(&project, AGENT, "second")).await;
        let third = publish(&test.store, &ana, &agent(&project, AGENT, "third")).await;
        test.store.sign_version(&bob, &third.key, third.version, Act::Activate, None).await.unwrap();
        test.store.sign_version(&bob, &clerk(), 1, Act::Retire, None).await.unwrap();
        assert_eq!(findings(&test, &project).await, Vec::<String>::new(), "{name}");
        tamper(&test, &project, &sql).await;

        let found = findings(&test, &project).await;
        assert!(
            found.iter().any(|f| f.contains("the signature of bob under agent/clerk@2")),
            "{name}: {found:?}"
        );
        let refused = activate(&test.store, &ana, &second).await.expect_err(name);
        assert!(
            refused.to_string().contains("the signature of bob under agent/clerk@2"),
            "{name}: {refused}"
        );
        assert!(matches!(&refused, ContractError::Store(e) if e.code() == ErrorCode::Contract002), "{name}");
        assert_eq!(active_clerk(&test.store, &ana).await, 1, "{name}");
        // bob himself puts it right
        let signed = test.store.sign_version(&bob, &clerk(), 2, Act::Activate, None).await.unwrap();
        assert!(signed.is_changed && signed.standing.tally.is_enough(), "{name}: {:?}", signed.standing);
        activate(&test.store, &ana, &second).await.unwrap();
        assert_eq!(findings(&test, &project).await, Vec::<String>::new(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_cannot_be_moved_to_another_base_or_time() {
    let test = TestStore::private().await;
    let (project, ana, bob) = of_two(&test).await;
    let second = signed(&test.store, &[&ana, &bob], &agent(&project, AGENT, "second")).await;
    let third = signed(&test.store, &[&ana, &bob], &agent(&project, AGENT, "third")).await;
    activate(&test.store, &ana, &third).await.unwrap();
    let refused = activate(&test.store, &ana, &second).await.unwrap_err();
    assert!(matches!(refused, ContractError::LostRace { .. }), "{refused}");
    for set in ["base_version = 3", "base_version = 3, signed_at = now() + interval '1 minute'"] {
        let sql = format!("UPDATE contract_signature SET {set} WHERE {V2}");
        tamper(&test, &project, &sql).await;
        let refused = activate(&test.store, &ana, &second).await.unwrap_err();
        assert!(
            matches!(&refused, ContractError::Store(e) if e.code() == ErrorCode::Contract002),
            "{refused}"
        );
        assert_eq!(findings(&test, &project).await.len(), 2, "ana's and bob's");
    }
}

const UNUSED: &str =
    "UPDATE contract_signature SET used_at = NULL WHERE project_id = '{p}' AND act = 'activate'";

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_was_used_cannot_be_used_again_by_calling_it_unused() {
    let test = TestStore::private().await;
    let (project, ana, bob) = of_two(&test).await;
    // there and back again: the signatures for version 2 were given against version 1, which is active again
    let second = signed(&test.store, &[&ana, &bob], &agent(&project, AGENT, "second")).await;
    activate(&test.store, &ana, &second).await.unwrap();
    tamper(&test, &project, UNUSED).await;
    let found = findings(&test, &project).await;
    assert!(found.iter().any(|f| f.contains("bob under agent/clerk@2 says it was not used")), "{found:?}");
    for person in [&ana, &bob] {
        test.store.sign_version(person, &clerk(), 1, Act::Activate, None).await.unwrap();
    }
    test.store.activate_version(&ana, &clerk(), 1, None).await.unwrap();
    tamper(&test, &project, UNUSED).await;
    let refused = activate(&test.store, &ana, &second).await.unwrap_err();
    assert!(matches!(refused, ContractError::LostRace { .. }), "{refused}");

    // an end: the signatures for version 1 of another agent were given when nothing was active, as now
    let extra = agent(&project, "extra", "x");
    let first = signed(&test.store, &[&ana, &bob], &extra).await;
    activate(&test.store, &ana, &first).await.unwrap();
    for person in [&ana, &bob] {
        let admin = test
            .person(&project, if person.person() == Some("ana") { "ana" } else { "cid" }, Role::Admin)
            .await;
        test.store.retire_contract(&admin, &first.key, None).await.unwrap();
    }
    assert!(
        test.store.list_contracts(&project.scope).await.unwrap().iter().all(|a| a.version.key != first.key)
    );
    tamper(&test, &project, UNUSED).await;
    let refused = activate(&test.store, &ana, &first).await.unwrap_err();
    assert!(matches!(refused, ContractError::LostRace { .. }), "{refused}");
    assert_eq!(active_clerk(&test.store, &ana).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_retired_key_signed_does_not_load_even_when_it_is_put_back() {
    let test = TestStore::private().await;
    let (project, ana, bob) = of_two(&test).await;
    let waiting = signed(&test.store, &[&ana, &bob], &agent(&project, AGENT, "second")).await;
    let ended = signed(&test.store, &[&ana, &bob], &agent(&project, "ended", "x")).await;
    activate(&test.store, &ana, &ended).await.unwrap();
    let cid = test.person(&project, "cid", Role::Admin).await;
    for admin in [&ana, &cid] {
        test.store.retire_contract(admin, &ended.key, None).await.unwrap();
    }
    tamper(
        &test,
        &project,
        "CREATE TABLE public.former AS SELECT * FROM contract_version WHERE project_id = '{p}'",
    )
    .await;

    let now = test.store.clock().now();
    let former = test.store.keyring().keys().into_iter().find(|k| k.name == KeyName::Publish).unwrap();
    Keyring::rotate(test.keys(), KeyName::Publish, now).unwrap();
    assert!(test.store.keyring().refresh().unwrap());
    assert_eq!(findings(&test, &project).await, Vec::<String>::new(), "the former key is accepted");
    assert!(test.store.resign_contracts(&project.caller).await.unwrap() > 0);
    assert_eq!(test.store.resign_contracts(&project.caller).await.unwrap(), 0, "once is enough");
    Keyring::retire(test.keys(), KeyName::Publish, &former.id).unwrap();
    assert!(test.store.keyring().refresh().unwrap());
    assert_eq!(findings(&test, &project).await, Vec::<String>::new(), "all was signed again");
    activate(&test.store, &ana, &waiting).await.unwrap();

    let replay =
        "UPDATE contract_version v SET key_id = f.key_id, signature = f.signature FROM public.former f
                  WHERE v.version_id = f.version_id AND v.id = 'clerk' AND v.version = 2";
    tamper(&test, &project, replay).await;
    let versions = test.store.list_versions(&project.scope, &clerk(), None, 10).await.unwrap();
    assert_eq!(versions[0].problem, Some(SignatureProblem::RetiredKey));
    assert!(test.store.find_agent(&project.scope, &agent_id()).await.is_err());
    assert!(findings(&test, &project).await.iter().any(|f| f.contains("agent/clerk@2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_retired_too_early_takes_everything_with_it_until_an_operator_applies_again() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let former = test.store.keyring().keys().into_iter().find(|k| k.name == KeyName::Publish).unwrap();
    Keyring::rotate(test.keys(), KeyName::Publish, test.store.clock().now()).unwrap();
    Keyring::retire(test.keys(), KeyName::Publish, &former.id).unwrap();
    test.store.keyring().refresh().unwrap();
    assert!(test.store.find_agent(&project.scope, &agent_id()).await.is_err());
    assert!(findings(&test, &project).await.len() >= 3);
    let all = awooop_journeys::db::manifests(&project.id, None, 3).unwrap();
    let refused = test.store.apply(&project.caller, &all, Default::default()).await;
    assert!(
        matches!(&refused, Err(ContractError::Store(e)) if e.code() == ErrorCode::Contract002),
        "{refused:?}"
    );
    let operator = operator(&test, &project).await;
    let (is_written, _) = apply(&test.store, &operator, &all).await;
    assert!(is_written && test.store.find_agent(&project.scope, &agent_id()).await.unwrap().is_some());
}

/// The platform's admin, acting in the project.
async fn operator(test: &TestStore, project: &TestProject) -> Caller {
    use secrecy::ExposeSecret;
    let found = test.store.authenticate(test.platform_key.expose_secret()).await.unwrap();
    found.unwrap().act_in(&project.id).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_what_is_active_are_named_and_restored() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let spec =
        json!({"display_name": "Shop", "default_model": "offline/planner", "budget": {"tokens": 1000}});
    let tools = json!([{"name": "sales", "risk": "read_only"}, {"name": "refund", "risk": "write"}]);
    let shop =
        json!({"type": "mcp", "transport": "http", "url": "https://tools.example.com/mcp", "tools": tools});
    let clerk_spec = json!({"instructions": "x", "output_schema": {}, "grants": [{"tool": "shop__sales"}]});
    let hook = json!({"type": "webhook", "url": "https://hooks.example.com/a", "signing_secret": "file://hook", "agent": AGENT});
    let manifests = [
        of(&project, "project", project.id.as_str(), spec),
        of(&project, "provider", "shop", shop),
        of(&project, "agent", AGENT, clerk_spec),
        of(&project, "policy", "guard", json!({"deny": ["shop__refund"]})),
        of(&project, "channel", "hook", hook),
    ];
    apply(&test.store, &project.caller, &manifests).await;
    assert_eq!(findings(&test, &project).await, Vec::<String>::new());
    for (sql, named) in [
        (
            "INSERT INTO mcp_grant (project_id, agent_id, provider_id, tool, contract_version_id)
             SELECT project_id, agent_id, provider_id, 'refund', contract_version_id FROM mcp_grant WHERE project_id = '{p}'",
            "grant of shop__refund to agent clerk",
        ),
        ("DELETE FROM mcp_grant WHERE project_id = '{p}'", "grant of shop__sales to agent clerk"),
        ("UPDATE mcp_tool SET risk = 'read_only' WHERE project_id = '{p}'", "tool shop__refund"),
        ("UPDATE budget SET limit_amount = 9000000 WHERE project_id = '{p}'", "the project's budget limit"),
        ("UPDATE budget SET contract_version_id = NULL, limit_amount = NULL WHERE project_id = '{p}'", "the project's budget limit"),
        ("UPDATE project SET default_model = 'other/model' WHERE project_id = '{p}'", "the project's own row"),
        ("DELETE FROM policy WHERE project_id = '{p}'", "policy guard"),
        ("UPDATE policy SET spec = '{}' WHERE project_id = '{p}'", "policy guard"),
        ("UPDATE channel SET spec = replace(spec, 'hooks.example.com', 'evil.example') WHERE project_id = '{p}'", "channel hook"),
        ("UPDATE mcp_server SET spec = replace(spec, 'tools.example.com', 'evil.example') WHERE project_id = '{p}'", "tool server shop"),
        ("UPDATE provider SET contract_version_id = gen_random_uuid() WHERE project_id = '{p}'", "model provider offline"),
        (
            "INSERT INTO provider (project_id, provider_id, contract_version_id, spec)
             SELECT project_id, 'evil', contract_version_id, spec FROM provider WHERE project_id = '{p}'",
            "model provider evil",
        ),
    ] {
        tamper(&test, &project, sql).await;
        let found = findings(&test, &project).await;
        assert!(found.iter().any(|f| f.starts_with(named)), "{sql}: {found:?}");
        let restored = test.store.rematerialise(&project.caller).await.unwrap();
        assert!(restored.iter().any(|d| d.what == named), "{sql}: {restored:?}");
        assert_eq!(findings(&test, &project).await, Vec::<String>::new(), "{sql}");
        assert_eq!(test.store.rematerialise(&project.caller).await.unwrap(), vec![], "{sql}: once is enough");
    }
    assert_eq!(audited(&test, &project, "contract.rematerialise").await, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_version_called_a_draft_is_named_and_cannot_be_activated() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let second = signed(&test.store, &[&project.caller], &agent(&project, AGENT, "second")).await;
    tamper(&test, &project, &format!("UPDATE contract_version SET state = 'draft' WHERE {V2}")).await;
    assert!(findings(&test, &project).await.iter().any(|f| f.contains("agent/clerk@2 says it is a draft")));
    let refused = activate(&test.store, &project.caller, &second).await.unwrap_err();
    assert!(matches!(refused, ContractError::State { .. }), "{refused}");
    let again = test.store.publish_version(&project.caller, &clerk(), 2, None).await.unwrap();
    assert_eq!(again.state, VersionState::Published);
    assert_eq!(findings(&test, &project).await, Vec::<String>::new());
}
