//! `awooop doctor`: says what is wrong with this installation, if anything. Looks at the database's walls and
//! invariants, the operator's list, and the server's address. Changes nothing. Exit 0 when all is well.

use std::path::Path;
use std::process::ExitCode;

use awooop_store::keyring::Keyring;
use awooop_store::{Clock, DatabaseUrls, Store};
use serde_json::{Value, json};

use super::{checks, logging, operator, setting};
use crate::cli::DoctorArgs;
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
    let mut checks = vec![postgres(), data_directory(&data_dir)];
    checks.extend(database(&data_dir).await);
    checks.push(operators_list(&data_dir));
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

async fn database(data_dir: &Path) -> Vec<Check> {
    let urls = match urls(data_dir) {
        Ok(urls) => urls,
        Err(error) => return vec![Check::wrong("database", error.to_string())],
    };
    let keys = data_dir.join("keys");
    // the doctor checks no API key, so that a keyring elsewhere is no obstacle
    let keyring = match Keyring::load(&keys) {
        Ok(keyring) => keyring,
        Err(_) => Keyring::for_reading(),
    };
    let store = match Store::open(&urls, Clock::system(), keyring).await {
        Ok(store) => store,
        Err(error) => return vec![Check::wrong("database", error.to_string())],
    };
    let mut checks = vec![Check::well("database", "answers; its roles cannot step over row security")];
    match store.examine().await {
        Ok(findings) => {
            let problems = findings
                .iter()
                .map(|f| match &f.project {
                    Some(project) => format!("project {project}: {}", f.message),
                    None => f.message.clone(),
                })
                .collect();
            let detail = "row security on every table; queue, leases and budgets agree".to_owned();
            checks.push(Check { name: "invariants", problems, detail });
        }
        Err(error) => checks.push(Check::wrong("invariants", error.to_string())),
    }
    checks.push(audit(&store).await);
    checks.push(vacuum(&store).await);
    checks
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
    let of = |f: &awooop_store::doctor::Finding| match &f.project {
        Some(project) => format!("project {project}: {}", f.message),
        None => f.message.clone(),
    };
    check.problems = found.iter().map(of).collect();
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

fn operators_list(data_dir: &Path) -> Check {
    let path = data_dir.join("operator.toml");
    if !path.exists() {
        return Check::well(
            "operator's list",
            "none in the data directory: projects may name nothing on this host",
        );
    }
    let list = match operator::for_dev(&path) {
        Ok(list) => list,
        Err(error) => return Check::wrong("operator's list", format!("{error:#}")),
    };
    let mut check = Check::well("operator's list", operator::describe(&list).join("; "));
    check.problems = checks::commands(&list);
    check
}
