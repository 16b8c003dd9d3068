//! What a node does for the audit besides sealing it: newest seals go to a directory and to a webhook, where
//! nobody who can write to the database reaches them, and old events expire. All of it is optional, and none of it
//! is ever waited for.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use awooop_core::audit::Head;
use awooop_store::audit::Retention;
use awooop_store::keyring::Keyring;
use awooop_store::{Clock, Store, scope};
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{checks, logging, required, setting};
use crate::cli::AuditExpireArgs;
use crate::output::{note, write_document, write_raw};

/// Between two writings of heads: a head tells of everything before it, so that one a minute is enough.
const HEADS_EVERY: Duration = Duration::from_secs(60);
/// Between two looks for what has expired.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);
/// Tries of a webhook, with 1, 2, 4 and 8 seconds between them.
const TRIES: u32 = 5;
/// How long one try may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The longest that events can be kept.
const MOST_DAYS: i64 = 36_500;

/// Where heads go.
struct Heads {
    store: Store,
    directory: Option<PathBuf>,
    url: Option<SecretString>,
}

/// What the environment asks for, started.
#[derive(Default)]
pub(super) struct Services {
    /// Ends by itself once it is told to, with the last heads.
    pub(super) heads: Option<JoinHandle<()>>,
    pub(super) retention: Option<JoinHandle<()>>,
}

/// Starts what the environment asks for. `retention` is the URL of a database of our own; after `sealed` there will be
/// no further heads.
pub(super) async fn start(
    store: &Store,
    retention: Option<SecretString>,
    sealed: CancellationToken,
) -> anyhow::Result<Services> {
    let mut services = Services::default();
    let directory = setting("AWOOOP_AUDIT_HEADS_DIR").map(|dir| PathBuf::from(dir.expose_secret()));
    let url = setting("AWOOOP_AUDIT_HEADS_URL");
    if let Some(directory) = &directory {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    if directory.is_some() || url.is_some() {
        let heads = Heads { store: store.clone(), directory, url };
        services.heads = Some(scope::spawn_service(scope::Service::AuditHeads, heads.run(sealed)));
    }
    let url = setting("AWOOOP_RETENTION_DATABASE_URL").or(retention);
    if let (Some(keep), Some(url)) = (keep()?, url) {
        let retention = Retention::open(store.clone(), &url, keep).await?;
        services.retention = Some(scope::spawn_service(scope::Service::AuditRetention, expire(retention)));
    }
    Ok(services)
}

/// How long events are kept: `AWOOOP_AUDIT_RETENTION_DAYS`, or for good.
fn keep() -> anyhow::Result<Option<SignedDuration>> {
    let Some(text) = setting("AWOOOP_AUDIT_RETENTION_DAYS") else { return Ok(None) };
    let days = text.expose_secret().parse().ok().filter(|days| (1..=MOST_DAYS).contains(days));
    let days: i64 = days.context("AWOOOP_AUDIT_RETENTION_DAYS is a number of days from 1 to 36500")?;
    Ok(Some(SignedDuration::from_hours(24 * days)))
}

async fn expire(retention: Retention) {
    loop {
        match retention.run_once(false).await {
            Ok(done) => done.iter().for_each(|(project, expired)| {
                let (project, events) = (project.as_str(), expired.events);
                tracing::info!(project, events, "old audit events have expired");
            }),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "old audit events could not be looked for"
                );
            }
        }
        tokio::time::sleep(EXPIRE_EVERY).await;
    }
}

impl Heads {
    async fn run(self, sealed: CancellationToken) {
        while !sealed.is_cancelled() {
            tokio::select! {
                heads = self.store.new_heads() => self.put(&heads).await,
                () = sealed.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(HEADS_EVERY) => {}
                () = sealed.cancelled() => {}
            }
        }
        // of the last events nobody else would tell until there are further ones
        if let Ok(last) = tokio::time::timeout(Duration::ZERO, self.store.new_heads()).await {
            self.put(&last).await;
        }
    }

    async fn put(&self, heads: &[Head]) {
        for head in heads {
            if let Some(directory) = &self.directory
                && let Err(error) = append(directory, head)
            {
                tracing::error!(%error, project = head.seal.project, "an audit head could not be written");
            }
        }
        if let Some(url) = &self.url
            && let Err(reason) = post(url, heads).await
        {
            // the next one tells of everything before it
            tracing::warn!(reason, "audit heads could not be sent");
        }
    }
}

/// Adds a line to the project's file.
fn append(directory: &Path, head: &Head) -> std::io::Result<()> {
    let path = directory.join(format!("{}.ndjson", head.seal.project));
    let mut file = std::fs::File::options().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(format!("{}\n", json!(head)).as_bytes())?;
    file.sync_data()
}

/// Sends heads as one JSON document. The reason names no address, which may hold a secret.
async fn post(url: &SecretString, heads: &[Head]) -> Result<(), String> {
    let client = awooop_gateway::http_client::http_client().map_err(|e| e.to_string())?;
    let mut reason = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_secs(1 << (attempt - 1))).await;
        }
        let request = client.post(url.expose_secret()).timeout(ANSWER_WITHIN).json(&json!({"heads": heads}));
        match request.send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => reason = format!("the answer was {}", answer.status()),
            Err(error) => reason = error.without_url().to_string(),
        }
    }
    Err(reason)
}

/// `awooop audit expire`.
pub(crate) async fn run_expire(args: AuditExpireArgs) -> anyhow::Result<ExitCode> {
    logging::start("warn");
    let store =
        Store::open(&checks::urls_of_environment()?, Clock::system(), Keyring::load(&args.keys)?).await?;
    let url = required("AWOOOP_RETENTION_DATABASE_URL")?;
    let keep = SignedDuration::from_hours(24 * i64::from(args.days));
    let done = Retention::open(store, &url, keep).await?.run_once(args.dry_run).await?;
    if args.json {
        let item = |(project, e): &(awooop_core::ProjectId, awooop_store::audit::Expired)| json!({"project": project, "through_seal": e.through_seal, "events": e.events});
        let items: Vec<_> = done.iter().map(item).collect();
        write_document(&json!({"items": items, "is_dry_run": args.dry_run}));
        return Ok(ExitCode::SUCCESS);
    }
    for (project, expired) in &done {
        write_raw(&format!("{project}: {} events, through seal {}\n", expired.events, expired.through_seal));
    }
    note(match (done.is_empty(), args.dry_run) {
        (true, _) => "nothing is old enough",
        (false, true) => "this would expire; nothing was deleted",
        (false, false) => "expired: the seals stay, and a check tells expiry from deletion",
    });
    Ok(ExitCode::SUCCESS)
}
