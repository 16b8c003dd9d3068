//! What is resolved for whom, and what is refused.

use std::os::unix::fs::symlink;

use secrecy::ExposeSecret;

use super::*;
use crate::operator::HostRules;

fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

#[tokio::test]
async fn a_file_is_read_only_below_the_projects_own_folder() {
    let secrets = tempfile::tempdir().unwrap();
    for (project, value) in [("mine", "mine-secret\n"), ("other", "other-secret")] {
        std::fs::create_dir(secrets.path().join(project)).unwrap();
        std::fs::write(secrets.path().join(project).join("token"), value).unwrap();
    }
    symlink(secrets.path().join("other/token"), secrets.path().join("mine/link")).unwrap();
    std::fs::write(secrets.path().join("mine/empty"), "\n").unwrap();
    let operator = Operator { secrets: Some(secrets.path().to_owned()), ..Operator::default() };
    let credentials = Credentials::new(operator);
    let mine = project("mine");
    let read = async |path: &str| {
        let read = credentials.resolve(&mine, &CredentialRef::File(path.to_owned())).await;
        read.map(|value| value.expose_secret().to_owned())
    };
    assert_eq!(read("token").await.as_deref(), Ok("mine-secret"));
    // what is not there is refused as what is: nobody learns which files the host has
    for outside in ["../other/token", "../other/nothing", "link", "/etc/passwd", "/etc/nothing"] {
        assert!(matches!(read(outside).await, Err(CredentialError::NotAllowed(_))), "{outside}");
    }
    for absent in ["nothing", "empty", "."] {
        assert!(matches!(read(absent).await, Err(CredentialError::Absent(_))), "{absent}");
    }
    std::fs::write(secrets.path().join("mine/token"), "rotated-secret").unwrap();
    assert_eq!(read("token").await.as_deref(), Ok("rotated-secret"), "a file is read for every call");
    let known = credentials.known(&mine);
    assert_eq!(known.mask("mine-secret, rotated-secret"), "[SECRET], [SECRET]");
    assert!(credentials.known(&project("other")).is_empty());
}

#[tokio::test]
async fn a_variable_or_a_secret_is_read_only_when_it_is_listed() {
    let rules = HostRules { k8s: vec!["shop/listed".to_owned()], ..HostRules::default() };
    let projects = std::collections::BTreeMap::from([(project("mine"), rules)]);
    let credentials = Credentials::new(Operator { projects, ..Operator::default() });
    for reference in
        ["env://PATH", "env://NO_SUCH_VARIABLE", "k8s://shop/other/key", "k8s://other/listed/key"]
    {
        let found = credentials.resolve(&project("mine"), &reference.to_owned().try_into().unwrap()).await;
        assert_eq!(found.err(), Some(CredentialError::NotAllowed(reference.to_owned())));
    }
    let reference = "k8s://shop/listed/key".to_owned();
    let listed: CredentialRef = reference.clone().try_into().unwrap();
    let found = credentials.resolve(&project("other"), &listed).await;
    assert_eq!(found.err(), Some(CredentialError::NotAllowed(reference.clone())));
    let found = credentials.resolve(&project("mine"), &listed).await;
    assert_eq!(found.err(), Some(CredentialError::NoCluster(reference)));
}

#[test]
fn a_variable_may_name_a_file_whose_value_can_change() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("token");
    let given = |name: &str| match name {
        "SET" => Some("set".to_owned()),
        "TOKEN_FILE" | "SET_FILE" => Some(file.display().to_string()),
        _ => None,
    };
    for value in ["first", "second"] {
        std::fs::write(&file, value).unwrap();
        assert_eq!(variable("TOKEN", given).as_deref(), Some(value));
        assert_eq!(variable("SET", given).as_deref(), Some("set"));
    }
    assert_eq!(variable("OTHER", given), None);
}
