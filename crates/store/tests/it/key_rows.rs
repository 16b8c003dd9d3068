//! Keys whose rows were changed behind the server's back: a row proves whom it was made for, or nobody.

use awooop_core::role::Role;
use awooop_journeys::db::{TestStore, test_store};
use secrecy::ExposeSecret;

/// Does the key still open anything after this change of its row?
async fn opens_after(test: &TestStore, change: &str) -> bool {
    let project = test.project().await;
    let key = test.key_of(&project, "eve", Role::Viewer).await;
    assert!(test.store.authenticate(key.expose_secret()).await.unwrap().is_some());
    let admin = test.database().admin().await;
    let change = change.replace("$project", project.id.as_str());
    admin.batch_execute(&change).await.unwrap();
    test.store.authenticate(key.expose_secret()).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_row_was_changed_proves_nobody() {
    let test = test_store().await;
    let of = "WHERE project_id = '$project' AND principal_id = 'eve'";
    for change in [
        // no pepper and no hash must not agree with each other
        format!("UPDATE api_key SET pepper_id = 'x', secret_hmac = '' {of}"),
        format!("UPDATE api_key SET secret_hmac = '' {of}"),
        format!("UPDATE api_key SET pepper_id = 'x' {of}"),
        // somebody else, another role
        format!("UPDATE api_key SET principal_id = 'admin' {of}"),
        format!("UPDATE role_binding SET role = 'admin' {of}"),
        format!("UPDATE principal SET person = 'bob' {of}"),
        "INSERT INTO principal (project_id, principal_id, kind, person, created_at)
           VALUES ('$project', 'bob', 'human', 'bob', now());
         INSERT INTO role_binding (project_id, principal_id, role, created_at)
           VALUES ('$project', 'bob', 'approver', now());
         UPDATE api_key SET principal_id = 'bob' WHERE project_id = '$project' AND principal_id = 'eve'"
            .to_owned(),
        format!("UPDATE api_key SET agent_id = 'clerk' {of}"),
    ] {
        assert!(!opens_after(&test, &change).await, "{change}");
    }
    assert!(opens_after(&test, "SELECT 1").await);
}
