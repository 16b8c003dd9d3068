//! The operator's list: read from a file by `serve`, made on first start by `dev`. It says what projects may
//! name on this host; without it they may name nothing.

use std::path::{Path, PathBuf};

use anyhow::Context;
use awooop_core::ProjectId;
use awooop_gateway::Operator;
use secrecy::ExposeSecret;

use super::setting;

/// The example's tool server: its name in contracts, and the project that may name it.
const EXAMPLE: (&str, &str) = ("ewoooc", "ewoooc-shop");

/// What `dev` writes where there is no list yet.
pub(super) const DEV_LIST: &str = r#"# What projects may name on this host. Read at start; contracts can name nothing that is not listed here.

# Tool servers may run under this user's own uid when the server is not root: a machine of one person.
allow_same_uid_children = true
# Addresses on this machine that every project may reach. A production list names them per project.
private_addresses = ["127.0.0.0/8", "::1", "localhost"]
# Below it one folder of credentials a project, for `file://` references.
# secrets = "/etc/awooop/secrets"

# Where people sign in (docs/access.md); the groups of their tokens are roles in the projects below.
# [sign_in]
# issuer = "https://id.example.com/realms/main"
# client_id = "awooop-cli"
# audience = "awooop"

[projects.ewoooc]
# Its tool servers run under this uid when the server is root.
uid = 200001
# Variables of the server's environment that it may use as credentials.
env = ["OPENAI_API_KEY"]
# Secrets of Kubernetes that it may use as credentials.
# k8s = ["shop/payment-gateway"]
# Programs by the name its contracts use; `ewoooc-shop` is found beside the awooop program.
# commands = { name = "/absolute/path" }
# What people who sign in are here, by their groups.
# groups = { "shop-leads" = "admin", "shop-staff" = "viewer" }
"#;

/// Variables that stand for keys of `sign_in`, for those who configure by environment.
const SIGN_IN: [&str; 4] = [
    "AWOOOP_SIGN_IN_ISSUER",
    "AWOOOP_SIGN_IN_CLIENT_ID",
    "AWOOOP_SIGN_IN_AUDIENCE",
    "AWOOOP_SIGN_IN_GROUPS_CLAIM",
];

/// What holds without a list: nothing but what the environment says.
pub(super) fn none() -> anyhow::Result<Operator> {
    finish(Operator::default()).context("AWOOOP_SIGN_IN_… is not valid")
}

/// Lets the environment have its say, and checks the whole.
fn finish(mut list: Operator) -> Result<Operator, awooop_gateway::operator::OperatorError> {
    let given = SIGN_IN.map(|name| setting(name).map(|value| value.expose_secret().to_owned()));
    if given.iter().any(Option::is_some) {
        let sign_in = list.sign_in.get_or_insert_default();
        let places =
            [&mut sign_in.issuer, &mut sign_in.client_id, &mut sign_in.audience, &mut sign_in.groups_claim];
        for (place, value) in places.into_iter().zip(given) {
            *place = value.unwrap_or_else(|| std::mem::take(place));
        }
    }
    list.validate()?;
    Ok(list)
}

/// Reads and checks a list. What the parser refuses is told with file and line.
pub(super) fn read(path: &Path) -> anyhow::Result<Operator> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let list: Operator = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        anyhow::anyhow!("{}:{line}: {}", path.display(), error.message())
    })?;
    finish(list).with_context(|| format!("{} is not valid", path.display()))
}

/// The list of a data directory, with the example's command where its program lies beside ours.
pub(super) fn for_dev(path: &Path) -> anyhow::Result<Operator> {
    let mut list = read(path)?;
    let project = ProjectId::parse(EXAMPLE.0).expect("a valid name");
    if let (Some(rules), Some(program)) = (list.projects.get_mut(&project), beside_us(EXAMPLE.1)) {
        rules.commands.entry(EXAMPLE.1.to_owned()).or_insert(program);
    }
    Ok(list)
}

fn beside_us(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.canonicalize().ok()?.with_file_name(name);
    path.is_file().then_some(path)
}

/// The list in words, for a person who starts the server.
pub(super) fn describe(list: &Operator) -> Vec<String> {
    let mut lines = Vec::new();
    if !nix::unistd::geteuid().is_root() && list.allow_same_uid_children {
        lines.push("tool servers run under this user's own uid (allow_same_uid_children)".to_owned());
    }
    if !list.private_addresses.is_empty() {
        lines.push(format!("every project may reach {}", list.private_addresses.join(", ")));
    }
    if let Some(sign_in) = &list.sign_in {
        lines.push(format!("people sign in at {}, for {}", sign_in.issuer, sign_in.audience));
    }
    for (project, rules) in &list.projects {
        if !rules.groups.is_empty() {
            let groups: Vec<String> =
                rules.groups.iter().map(|(group, role)| format!("{group} is {}", role.as_str())).collect();
            lines.push(format!("in project {project}, of people who sign in: {}", groups.join(", ")));
        }
        if rules.allow_credential_arguments {
            lines.push(format!("project {project} may show credentials in arguments of its tool servers"));
        }
        for (name, path) in &rules.commands {
            lines.push(format!("project {project} only may start `{name}` = {}", path.display()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_that_dev_writes_is_valid() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("operator.toml");
        std::fs::write(&path, DEV_LIST).unwrap();
        let list = read(&path).unwrap();
        let project = ProjectId::parse("ewoooc").unwrap();
        assert_eq!(list.projects[&project].uid, Some(200_001));
        std::fs::write(&path, "# a list\n\nno_such_setting = 1").unwrap();
        let error = read(&path).expect_err("an unknown key").to_string();
        assert!(error.contains("operator.toml:3: unknown field `no_such_setting`"), "{error}");
    }
}
