//! `awooop doctor`: says what is wrong with this installation, if anything, and what to do. Looks at the keyring, the
//! database server, the walls between projects, every project's invariants, the audit and the operator's list. Changes
//! nothing. Exit 0 when all is well.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use awooop_store::doctor::Finding;
use awooop_store::keyring::{KeyState, Keyring, KeyringError};
use awooop_store::{Clock, DatabaseUrls, Store};
use serde_json::{Value, json};

use super::edge::Certificate;
use super::{checks, edge, logging, operator, setting};
use crate::cli::{DoctorArgs, TlsArgs};
use crate::output::{note, write_document, write_raw};
use crate::settings::default_data_dir;

/// One thing that was looked at.
struct Check {
    name: &'static str,
    problems: Vec<String>,
    detail: String,
}

impl Check {
    fn well(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, problems: Vec::new(), detail: detail.into() }
    }

    fn wrong(name: &'static str, problem: impl Into<String>) -> Self {
        Self { name, problems: vec![problem.into()], detail: String::new() }
    }
}

/// Looks at everything and reports.
pub(crate) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    logging::start("error");
    let data_dir = args.data_dir.or_else(default_data_dir).unwrap_or_default();
    let (keys, list) = (args.keys, args.operator);
    let keys = keys.unwrap_or_else(|| data_dir.join("keys"));
    let mut checks = vec![postgres(), data_directory(&data_dir)];
    let (keyring, about_keys) = keyring(&keys);
    checks.push(about_keys);
    checks.extend(database(&data_dir, keyring).await);
    checks.push(operators_list(&data_dir, list));
    checks.extend(certificate(&args.tls));
    let is_well = checks.iter().all(|check| check.problems.is_empty());
    if args.json {
        let items: Vec<Value> = checks
            .iter()
            .map(|c| json!({"check": c.name, "is_well": c.problems.is_empty(), "problems": c.problems, "detail": c.detail}))
            .collect();
        write_document(&json!({"is_well": is_well, "checks": items}));
    } else {
        for check in &checks {
            let mark = if check.problems.is_empty() { "ok   " } else { "WRONG" };
            write_raw(&format!("{mark} {:<16} {}\n", check.name, check.detail));
            check.problems.iter().for_each(|problem| write_raw(&format!("      - {problem}\n")));
        }
        note(if is_well { "nothing is wrong" } else { "something is wrong: see above" });
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn postgres() -> Check {
    if setting("AWOOOP_DATABASE_URL").is_some() {
        return Check::well("postgresql", "named by AWOOOP_DATABASE_URL");
    }
    match checks::own_postgres() {
        Ok(detail) => Check::well("postgresql", detail),
        Err(problem) => Check::wrong("postgresql", problem),
    }
}

fn data_directory(path: &Path) -> Check {
    let mut check = Check::well("data directory", path.display().to_string());
    check.problems = checks::open_to_others(path, &checks::SECRET_FILES);
    check
}

/// The keyring, or one that knows no key: then what is signed is not checked, and the report says so.
fn keyring(directory: &Path) -> (Keyring, Check) {
    let keyring = match Keyring::load(directory) {
        Ok(keyring) => keyring,
        Err(KeyringError::Missing(_)) => {
            let told = "none here, so that signatures and the audit are NOT checked: name it with --keys";
            return (Keyring::for_reading(), Check::well("keyring", told));
        }
        Err(error) => return (Keyring::for_reading(), Check::wrong("keyring", error.to_string())),
    };
    let keys = keyring.keys();
    let of = |state: KeyState| keys.iter().filter(|key| key.state == state).count();
    let (current, accepted, retired) = (of(KeyState::Current), of(KeyState::Accepted), of(KeyState::Retired));
    let detail =
        format!("{current} current, {accepted} accepted, {retired} retired in {}", directory.display());
    let mut check = Check::well("keyring", detail);
    check.problems = checks::open_to_others(directory, &["keyring.json"]);
    (keyring, check)
}

async fn database(data_dir: &Path, keyring: Keyring) -> Vec<Check> {
    let urls = match urls(data_dir) {
        Ok(urls) => urls,
        Err(error) => return vec![Check::wrong("database", error.to_string())],
    };
    let store = match Store::open(&urls, Clock::system(), keyring).await {
        Ok(store) => store,
        Err(error) => return vec![Check::wrong("database", error.to_string())],
    };
    let mut checks = vec![Check::well("database", "answers; its roles cannot step over row security")];
    checks.push(installation(&store).await);
    checks.push(match store.examine_walls().await {
        Ok(findings) => {
            let detail =
                "privileges, policies, functions and roles are this version's; row security is forced";
            Check { name: "walls", problems: told(&findings), detail: detail.to_owned() }
        }
        Err(error) => Check::wrong("walls", error.to_string()),
    });
    checks.push(match store.examine_projects().await {
        Ok(findings) => {
            let detail = "runs, queue, leases, budgets and contracts of every project agree".to_owned();
            Check { name: "invariants", problems: told(&findings), detail }
        }
        Err(error) => Check::wrong("invariants", error.to_string()),
    });
    checks.push(audit(&store).await);
    checks.push(vacuum(&store).await);
    checks
}

/// The database server: versions, settings, clock, connections.
async fn installation(store: &Store) -> Check {
    let found = match store.installation().await {
        Ok(found) => found,
        Err(error) => return Check::wrong("installation", error.to_string()),
    };
    let detail = format!(
        "AwoooP {}, schema {}, PostgreSQL {}; clocks {} ms apart; {} of {} connections open; workers alive: {}",
        env!("CARGO_PKG_VERSION"),
        found.schema,
        found.postgresql,
        found.clock_offset_ms,
        found.connections_open,
        found.connections,
        found.workers,
    );
    Check { name: "installation", problems: told(&found.findings), detail }
}

fn told(findings: &[Finding]) -> Vec<String> {
    let tell = |finding: &Finding| match &finding.project {
        Some(project) => format!("project {project}: {}", finding.message),
        None => finding.message.clone(),
    };
    findings.iter().map(tell).collect()
}

/// A short look at the audit; `awooop audit verify` looks at all of it.
async fn audit(store: &Store) -> Check {
    let found = match store.examine_audit().await {
        Ok(found) => found,
        Err(error) => return Check::wrong("audit", error.to_string()),
    };
    let kept = match (setting("AWOOOP_AUDIT_RETENTION_DAYS"), setting("AWOOOP_RETENTION_DATABASE_URL")) {
        (Some(_), Some(_)) => "old ones expire",
        _ => "none expire",
    };
    let mut check = Check::well("audit", format!("the last day's events are genuine and sealed; {kept}"));
    check.problems = told(&found);
    check
}

/// What keeps the queue's tables from being vacuumed.
async fn vacuum(store: &Store) -> Check {
    let mut check = Check::well("vacuum", "no transaction has been open for long");
    match store.long_holdbacks().await {
        Ok(found) => check.problems = found.iter().map(ToString::to_string).collect(),
        Err(error) => return Check::wrong("vacuum", error.to_string()),
    }
    check
}

/// From the environment, else what `dev` wrote down.
fn urls(data_dir: &Path) -> anyhow::Result<DatabaseUrls> {
    if setting("AWOOOP_DATABASE_URL").is_some() {
        return checks::urls_of_environment();
    }
    let text = std::fs::read(data_dir.join("keys/database.json")).map_err(|_| {
        anyhow::anyhow!(
            "no database is known: set AWOOOP_DATABASE_URL, or start `awooop dev` with this data directory"
        )
    })?;
    let known: Value = serde_json::from_slice(&text)?;
    let text = |name: &str| known[name].as_str().unwrap_or_default().to_owned().into();
    Ok(DatabaseUrls { app: text("app"), dispatch: text("dispatch") })
}

/// The listener's certificate, where one is named.
fn certificate(args: &TlsArgs) -> Option<Check> {
    let name = "certificate";
    let files = match edge::tls_files(args) {
        Ok(files) => files?,
        Err(error) => return Some(Check::wrong(name, error.to_string())),
    };
    Some(match edge::examine(&files, Clock::system().now()) {
        Certificate::Well(detail) => Check::well(name, detail),
        Certificate::Ends(problem) | Certificate::Unusable(problem) => Check::wrong(name, problem),
    })
}

fn operators_list(data_dir: &Path, named: Option<PathBuf>) -> Check {
    let path = named.unwrap_or_else(|| data_dir.join("operator.toml"));
    if !path.exists() {
        let told = format!("none at {}: projects may name nothing on this host", path.display());
        return Check::well("operator's list", told);
    }
    let list = match operator::for_dev(&path) {
        Ok(list) => list,
        Err(error) => return Check::wrong("operator's list", format!("{error:#}")),
    };
    let mut check = Check::well("operator's list", operator::describe(&list).join("; "));
    check.problems = checks::commands(&list);
    check
}
