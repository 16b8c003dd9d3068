//! Principals, roles and keys as rows: what a change does, what it leaves alone, and each guard in a race.

use std::time::Duration;

use awooop_core::ids::{PersonId, PrincipalId};
use awooop_core::role::Role;
use awooop_core::scopes::Scopes;
use awooop_journeys::db::{TestProject, TestStore, test_store};
use awooop_store::auth::{Caller, CreateKeyError, NewKey, RotateKeyError};
use awooop_store::principal::{Change, Changed};
use secrecy::{ExposeSecret, SecretString};

use crate::counting::count;

async fn opens(test: &TestStore, key: &SecretString) -> Option<Caller> {
    test.store.authenticate(key.expose_secret()).await.unwrap()
}

async fn key(test: &TestStore, project: &TestProject, name: &str, role: Role) -> SecretString {
    let new = NewKey::of_service(PrincipalId::parse(name).unwrap(), role);
    test.store.create_key(&project.scope, &new).await.unwrap().0
}

async fn change(test: &TestStore, project: &TestProject, name: &str, change: Change) -> Changed {
    test.store.change_principal(&project.scope, name, change, false).await.unwrap()
}

async fn events(test: &TestStore, project: &TestProject, action: &str) -> i64 {
    count(test, &format!("audit_event WHERE project_id = '{}' AND action = '{action}'", project.id)).await
}

fn id_of(key: &SecretString) -> String {
    awooop_core::key::parse(key.expose_secret()).unwrap().id.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_principal_is_refused_with_all_its_keys_until_it_is_enabled() {
    let test = test_store().await;
    let (mine, other) = (test.project().await, test.project().await);
    let (first, second) =
        (key(&test, &mine, "ci", Role::Viewer).await, key(&test, &mine, "ci", Role::Viewer).await);
    let elsewhere = key(&test, &other, "ci", Role::Viewer).await;
    let caller = opens(&test, &first).await.unwrap();
    assert!(
        matches!(change(&test, &mine, "ci", Change::Disable).await, Changed::Done(p) if p.disabled_by.is_some())
    );
    assert!(opens(&test, &first).await.is_none() && opens(&test, &second).await.is_none());
    assert!(!test.store.still_stands(&caller).await.unwrap());
    assert!(opens(&test, &elsewhere).await.is_some(), "the same name in another project is somebody else");
    let again = NewKey::of_service(PrincipalId::parse("ci").unwrap(), Role::Viewer);
    let refused = test.store.create_key(&mine.scope, &again).await;
    assert!(matches!(refused, Err(CreateKeyError::Disabled(_))), "{refused:?}");
    change(&test, &mine, "ci", Change::Disable).await;
    assert_eq!(events(&test, &mine, "principal.disable").await, 1, "what is so already is no event");
    change(&test, &mine, "ci", Change::Enable).await;
    assert!(opens(&test, &first).await.is_some() && test.store.still_stands(&caller).await.unwrap());
    assert!(matches!(change(&test, &mine, "nobody", Change::Disable).await, Changed::Absent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_was_taken_back_does_not_come_back_with_a_new_key() {
    let test = test_store().await;
    let project = test.project().await;
    let former = key(&test, &project, "ci", Role::Operator).await;
    let caller = opens(&test, &former).await.unwrap();
    change(&test, &project, "ci", Change::Grant(Role::Viewer)).await;
    assert!(!test.store.still_stands(&caller).await.unwrap(), "it was let in as an operator");
    change(&test, &project, "ci", Change::Revoke).await;
    for role in [Role::Operator, Role::Viewer, Role::Admin] {
        let again = NewKey::of_service(PrincipalId::parse("ci").unwrap(), role);
        let refused = test.store.create_key(&project.scope, &again).await;
        assert!(matches!(refused, Err(CreateKeyError::NoRole(_))), "{role:?}: {refused:?}");
        assert!(opens(&test, &former).await.is_none());
    }
    change(&test, &project, "ci", Change::Grant(Role::Viewer)).await;
    assert!(opens(&test, &former).await.unwrap().roles().contains(Role::Viewer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_role_counts_at_once_and_one_that_nobody_granted_never() {
    let test = test_store().await;
    let project = test.project().await;
    let ci = key(&test, &project, "ci", Role::Viewer).await;
    change(&test, &project, "ci", Change::Grant(Role::Operator)).await;
    assert!(opens(&test, &ci).await.unwrap().roles().contains(Role::Operator));
    let admin = test.database().admin().await;
    let forge = |set: &str| {
        format!("UPDATE role_binding SET {set} WHERE project_id = '{}' AND principal_id = 'ci'", project.id)
    };
    for set in ["role = 'admin'", "role = 'admin', mac = '', key_id = ''", "role = 'operator', mac = NULL"] {
        admin.batch_execute(&forge(set)).await.unwrap();
        assert!(opens(&test, &ci).await.is_none(), "{set}");
    }
    // another principal's proof is none
    key(&test, &project, "boss", Role::Viewer).await;
    change(&test, &project, "boss", Change::Grant(Role::Approver)).await;
    let stolen = format!(
        "UPDATE role_binding b SET role = o.role, key_id = o.key_id, mac = o.mac FROM role_binding o
         WHERE b.project_id = '{0}' AND b.principal_id = 'ci' AND o.project_id = '{0}' AND o.principal_id = 'boss'",
        project.id
    );
    admin.batch_execute(&stolen).await.unwrap();
    assert!(opens(&test, &ci).await.is_none());
    change(&test, &project, "ci", Change::Revoke).await;
    assert!(opens(&test, &ci).await.is_none(), "without a role a key opens nothing");
    change(&test, &project, "ci", Change::Grant(Role::Viewer)).await;
    assert!(opens(&test, &ci).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_stays_one_unless_it_is_said_otherwise_and_in_the_platform_always() {
    let test = TestStore::private().await;
    let project = test.project().await;
    for kind in [Change::Disable, Change::Revoke, Change::Grant(Role::Viewer)] {
        assert!(matches!(change(&test, &project, "admin", kind).await, Changed::LastAdmin), "{kind:?}");
    }
    // a narrowed key, a revoked one and a person's groups make no second admin
    let narrow = NewKey {
        scopes: Some(Scopes::parse(&["runs:read"]).unwrap()),
        ..NewKey::of_service(PrincipalId::parse("narrow").unwrap(), Role::Admin)
    };
    test.store.create_key(&project.scope, &narrow).await.unwrap();
    let gone = key(&test, &project, "gone", Role::Admin).await;
    test.store.revoke_key(&project.scope, &id_of(&gone)).await.unwrap();
    assert!(matches!(change(&test, &project, "admin", Change::Disable).await, Changed::LastAdmin));
    assert!(matches!(change(&test, &project, "gone", Change::Disable).await, Changed::Done(_)));
    let forced = test.store.change_principal(&project.scope, "admin", Change::Disable, true).await.unwrap();
    assert!(matches!(forced, Changed::Done(_)));
    let operator = opens(&test, &test.platform_key).await.unwrap();
    let kept = test.store.change_principal(operator.scope(), "admin", Change::Disable, true).await.unwrap();
    assert!(matches!(kept, Changed::LastAdmin), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_admins_who_disable_each_other_one_is_left() {
    let test = test_store().await;
    for _ in 0..8 {
        let project = test.project().await;
        key(&test, &project, "second", Role::Admin).await;
        let (a, b) = tokio::join!(
            change(&test, &project, "admin", Change::Disable),
            change(&test, &project, "second", Change::Grant(Role::Viewer)),
        );
        let done = [&a, &b].into_iter().filter(|c| matches!(c, Changed::Done(_))).count();
        let refused = [&a, &b].into_iter().filter(|c| matches!(c, Changed::LastAdmin)).count();
        assert_eq!((done, refused), (1, 1), "{a:?} {b:?}");
        let written =
            events(&test, &project, "principal.disable").await + events(&test, &project, "role.grant").await;
        assert_eq!(written, 1, "the loser wrote nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_goes_on_for_the_overlap_and_its_successor_is_the_same() {
    let test = test_store().await;
    let project = test.project().await;
    let scopes = Some(Scopes::parse(&["runs:read", "create_run"]).unwrap());
    let expires_at = test.store.clock().after(Duration::from_secs(3600));
    let new = NewKey {
        person: Some(PersonId::parse("mei").unwrap()),
        scopes: scopes.clone(),
        expires_at: Some(expires_at),
        ..NewKey::of_service(PrincipalId::parse("mei").unwrap(), Role::Operator)
    };
    let (text, former) = test.store.create_key(&project.scope, &new).await.unwrap();
    let rotated = test.store.rotate_key(&project.scope, &former, Duration::from_secs(60)).await.unwrap();
    let (before, after) = (opens(&test, &text).await.unwrap(), opens(&test, &rotated.text).await.unwrap());
    assert_eq!((before.roles(), before.person()), (after.roles(), after.person()));
    assert_eq!((after.scopes(), after.principal()), (scopes.as_ref(), "mei"));
    assert!(rotated.former_expires_at < expires_at && rotated.new.expires_at > Some(expires_at));
    let none = test.store.rotate_key(&project.scope, &rotated.new, Duration::ZERO).await.unwrap();
    assert!(opens(&test, &rotated.text).await.is_none(), "without an overlap it is over at once");
    assert!(opens(&test, &none.text).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_rotate_one_key_one_makes_a_key() {
    let test = test_store().await;
    let project = test.project().await;
    for _ in 0..8 {
        let text = key(&test, &project, "ci", Role::Viewer).await;
        let former = test.store.find_key(&project.scope, &id_of(&text)).await.unwrap().unwrap();
        let (keys, made) = (count(&test, "api_key").await, events(&test, &project, "key.create").await);
        let overlap = Duration::from_secs(60);
        let (a, b) = tokio::join!(
            test.store.rotate_key(&project.scope, &former, overlap),
            test.store.rotate_key(&project.scope, &former, overlap),
        );
        let lost = [a, b].into_iter().filter(|r| matches!(r, Err(RotateKeyError::State(_)))).count();
        assert_eq!(lost, 1);
        let of_project = format!("api_key WHERE project_id = '{}' AND replaced_by IS NOT NULL", project.id);
        assert!(count(&test, &of_project).await > 0 && count(&test, "api_key").await > keys);
        assert_eq!(events(&test, &project, "key.create").await, made + 1, "the loser wrote nothing");
    }
    assert_eq!(events(&test, &project, "key.rotate").await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_rotated_while_it_is_revoked_is_one_or_the_other() {
    let test = test_store().await;
    let project = test.project().await;
    for _ in 0..8 {
        let text = key(&test, &project, "ci", Role::Viewer).await;
        let former = test.store.find_key(&project.scope, &id_of(&text)).await.unwrap().unwrap();
        let (revoked, rotated) = tokio::join!(
            test.store.revoke_key(&project.scope, &former.key_id),
            test.store.rotate_key(&project.scope, &former, Duration::from_secs(60)),
        );
        assert!(revoked.unwrap().unwrap().revoked_at.is_some());
        let successors = format!(
            "api_key WHERE project_id = '{}' AND key_id IN
            (SELECT replaced_by FROM api_key WHERE project_id = '{0}' AND key_id = '{1}')",
            project.id, former.key_id
        );
        assert_eq!(count(&test, &successors).await, i64::from(rotated.is_ok()));
        assert!(opens(&test, &text).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_scopes_were_widened_behind_the_server_s_back_opens_nothing() {
    let test = test_store().await;
    let project = test.project().await;
    let new = NewKey {
        scopes: Some(Scopes::parse(&["runs:read"]).unwrap()),
        ..NewKey::of_service(PrincipalId::parse("ci").unwrap(), Role::Admin)
    };
    let (text, made) = test.store.create_key(&project.scope, &new).await.unwrap();
    let caller = opens(&test, &text).await.unwrap();
    assert!(caller.may("list_runs") && !caller.may("create_run") && !caller.may("create_key"));
    let admin = test.database().admin().await;
    for set in ["scopes = NULL", "scopes = '{runs:read,runs:write}'", "scopes = '{}'", "role = 'operator'"] {
        let forge = format!("UPDATE api_key SET {set} WHERE key_id = '{}'", made.key_id);
        admin.batch_execute(&forge).await.unwrap();
        assert!(opens(&test, &text).await.is_none(), "{set}");
        let back = format!(
            "UPDATE api_key SET scopes = '{{runs:read}}', role = 'admin' WHERE key_id = '{}'",
            made.key_id
        );
        admin.batch_execute(&back).await.unwrap();
    }
    assert!(opens(&test, &text).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_key_is_noted_beside_the_request_and_at_most_once_a_minute() {
    let test = test_store().await;
    let project = test.project().await;
    let text = key(&test, &project, "ci", Role::Viewer).await;
    let used =
        async || test.store.find_key(&project.scope, &id_of(&text)).await.unwrap().unwrap().last_used_at;
    assert_eq!(used().await, None);
    for _ in 0..20 {
        opens(&test, &text).await.unwrap();
    }
    let mut first = used().await;
    while first.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        first = used().await;
    }
    // another node, which remembers nothing, keeps to the minute by the row
    let node = test.through(test.database().urls()).await;
    let version = || async {
        let admin = test.database().admin().await;
        let sql = format!("SELECT xmin::text FROM api_key WHERE key_id = '{}'", id_of(&text));
        admin.query_one(&sql, &[]).await.unwrap().get::<_, String>(0)
    };
    let before = version().await;
    node.authenticate(text.expose_secret()).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((used().await, version().await), (first, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_s_key_is_made_anew_for_another_principal_where_admin_is_disabled() {
    let test = TestStore::private().await;
    let operator = opens(&test, &test.platform_key).await.unwrap();
    let second = NewKey::of_service(PrincipalId::parse("second").unwrap(), Role::Admin);
    test.store.create_key(operator.scope(), &second).await.unwrap();
    test.store.change_principal(operator.scope(), "admin", Change::Disable, false).await.unwrap();
    let further = test.store.bootstrap_again().await.unwrap();
    let found = opens(&test, &further).await.unwrap();
    assert!(found.is_platform_admin() && found.principal().starts_with("admin-"), "{found:?}");
}
