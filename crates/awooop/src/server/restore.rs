//! `awooop restore`: a backup into an empty database, which is then looked over. No server is started by it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use awooop_store::backup::{self, Checked, Restored, Settled, Target};
use awooop_store::doctor::Finding;
use awooop_store::embedded::{DataDir, EmbeddedPg, Role, find_postgres};
use awooop_store::keyring::Keyring;
use awooop_store::{Clock, DatabaseUrls, Store};
use serde_json::{Value, json};

use super::{backup as taking, checks, dev, logging, migrate, required, setting};
use crate::cli::RestoreArgs;
use crate::failure::{Exit, Failure};
use crate::output::{Reply, finish};
use crate::settings::default_data_dir;

/// A target, how to look it over afterwards, and the server that is ours.
struct Place {
    target: Target,
    embedded: Option<(EmbeddedPg, DataDir)>,
}

/// What a restore came to.
/// Most deletions that are named.
const MOST_TOLD: i64 = 200;

struct Outcome {
    restored: Restored,
    settled: Settled,
    /// Of the doctor.
    findings: Vec<Finding>,
    /// Projects whose deletion was under way when the backup was made: it goes on.
    deletions: Vec<String>,
}

/// Carries out the command.
pub(crate) async fn run(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    logging::start("warn");
    let is_json = args.json;
    let unlock = match taking::unlock(args.identity.as_deref(), args.passphrase_file.as_deref()) {
        Ok(unlock) => unlock,
        Err(failure) => return Ok(finish(Err(failure), is_json)),
    };
    // before a data directory is made for it
    let directory = args.directory.clone();
    let reading = tokio::task::spawn_blocking(move || Checked::read(&directory, unlock));
    let backup = match reading.await.expect("reading does not panic") {
        Ok(backup) => backup,
        Err(error) => return Ok(finish(Err(taking::failure(&error)), is_json)),
    };
    let place = match place(&args).await {
        Ok(place) => place,
        Err(error) => return Ok(finish(Err(Failure::invalid(format!("{error:#}"))), is_json)),
    };
    let restored = backup::restore(backup, &place.target).await;
    let reply = match restored {
        Ok(restored) => look_over(&place, restored).await.map(|outcome| reply(&args.directory, &outcome)),
        Err(error) => Err(taking::failure(&error)),
    };
    if let Some((pg, _data)) = place.embedded {
        pg.stop().await;
    }
    Ok(finish(reply, is_json))
}

/// Where to: the data directory that is named, else what the environment names, else the data directory of `dev`.
async fn place(args: &RestoreArgs) -> anyhow::Result<Place> {
    let programs = taking::programs();
    if args.data_dir.is_some() && args.admin_url.is_some() {
        anyhow::bail!(
            "--admin-url is of a PostgreSQL of yours, --data-dir of one of its own: name one of them"
        );
    }
    if args.data_dir.is_none() && setting("AWOOOP_DATABASE_URL").is_some() {
        let admin = args.admin_url.clone().context("--admin-url names the database as a superuser")?;
        let keys = args.keys.clone().context("--keys names the directory the keyring belongs in")?;
        let owner = required("AWOOOP_OWNER_DATABASE_URL")?;
        let (urls, passwords) = (checks::urls_of_environment()?, migrate::passwords()?);
        let target = Target { admin, owner, urls, passwords, keys, programs };
        return Ok(Place { target, embedded: None });
    }
    let path = args.data_dir.clone().or_else(default_data_dir);
    let path = path.context("no home directory is known: name a --data-dir")?;
    let bin = find_postgres(programs.as_deref())?;
    let data = DataDir::open(&path)?;
    let pg = EmbeddedPg::start(&bin, &data).await?;
    let target = Target {
        admin: pg.connection(Role::Admin),
        owner: pg.connection(Role::Owner),
        urls: DatabaseUrls { app: pg.connection(Role::App), dispatch: pg.connection(Role::Dispatch) },
        passwords: dev::passwords(&pg),
        keys: args.keys.clone().unwrap_or_else(|| data.keys()),
        programs: Some(programs.unwrap_or_else(|| bin.dir.clone())),
    };
    Ok(Place { target, embedded: Some((pg, data)) })
}

/// The doctor's look and the check of every audit.
async fn look_over(place: &Place, restored: Restored) -> Result<Outcome, Failure> {
    let look = async {
        let keyring = Keyring::load(&place.target.keys)?;
        let store = Store::open(&place.target.urls, Clock::system(), keyring).await?;
        let settled = store.settle_restore(&restored.manifest).await?;
        let mut findings = store.examine().await?;
        findings.extend(store.examine_audit().await?);
        let deletions = store.list_deletions("", true, MOST_TOLD).await?;
        store.close();
        anyhow::Ok((settled, findings, deletions.into_iter().map(|d| d.project.to_string()).collect()))
    };
    match look.await {
        Ok((settled, findings, deletions)) => Ok(Outcome { restored, settled, findings, deletions }),
        Err(error) => Err(Failure::InTheWay {
            message: format!("the backup is restored, and could not be looked over: {error:#}"),
            hint: "`awooop doctor` and `awooop audit verify` look again".to_owned(),
        }),
    }
}

fn reply(directory: &Path, outcome: &Outcome) -> Reply {
    let Outcome { restored, settled, findings, deletions } = outcome;
    let is_well = findings.is_empty() && settled.findings.is_empty();
    let (projects, events) = (settled.projects, settled.events);
    let mut text = format!("restored {}\n", taking::described(directory, &restored.manifest));
    if let Some(last) = restored.migrated.last() {
        text.push_str(&format!("brought the schema to version {last}\n"));
    }
    if restored.has_written_keyring {
        text.push_str("wrote the keyring\n");
    }
    let has_compared_keys = !restored.manifest.keys.is_empty();
    if !has_compared_keys {
        text.push_str(
            "keyring: NOT COMPARED: the backup names no keys, so the one that is there may be another's\n",
        );
    }
    text.push_str(&told("doctor: ", findings, "nothing is wrong"));
    text.push_str(&told(
        "audit: ",
        &settled.findings,
        &format!("{events} events of {projects} projects verify"),
    ));
    let document = json!({
        "manifest": restored.manifest, "migrated": restored.migrated, "has_written_keyring": restored.has_written_keyring,
        "has_compared_keys": has_compared_keys, "is_well": is_well, "doctor": items(findings),
        "audit": {"projects": projects, "events": events, "findings": items(&settled.findings)},
        "deletions": deletions,
    });
    let mut reply = Reply::done(document, text);
    if !deletions.is_empty() {
        let projects = deletions.join(", ");
        reply =
            reply.with_note(format!("deletions that were under way go on once a server runs: {projects}"));
    }
    match is_well {
        true => reply.with_note("runs that were under way go on once a worker serves this database"),
        false => {
            Reply { exit: Exit::Failed, ..reply.with_note("restored, and something is wrong: see above") }
        }
    }
}

fn sentence(finding: &Finding) -> String {
    match &finding.project {
        Some(project) => format!("project {project}: {}", finding.message),
        None => finding.message.clone(),
    }
}

fn told(of: &str, findings: &[Finding], well: &str) -> String {
    if findings.is_empty() {
        return format!("{of}{well}\n");
    }
    findings.iter().map(|finding| format!("{of}{}\n", sentence(finding))).collect()
}

fn items(findings: &[Finding]) -> Vec<Value> {
    findings.iter().map(|f| json!({"project": f.project, "message": f.message})).collect()
}
