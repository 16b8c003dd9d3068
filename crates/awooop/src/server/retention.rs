//! Old runs go as their projects' contracts say: hourly on every node that has the role which deletes, and by hand
//! with `awooop runs expire`.

use std::process::ExitCode;
use std::time::Duration;

use awooop_core::ProjectId;
use awooop_store::expire::{ExpiredRuns, RunRetention};
use awooop_store::keyring::Keyring;
use awooop_store::{Clock, Store, scope};
use secrecy::SecretString;
use serde_json::json;
use tokio::task::JoinHandle;

use super::{checks, logging, required, setting};
use crate::cli::RunsExpireArgs;
use crate::output::{note, write_document, write_raw};

/// Between two looks for what has expired.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);

/// Starts the service where there is the role. `own` is the URL of a database of our own.
pub(super) async fn start(
    store: &Store,
    own: Option<SecretString>,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    let Some(url) = setting("AWOOOP_RETENTION_DATABASE_URL").or(own) else { return Ok(None) };
    let retention = RunRetention::open(store.clone(), &url).await?;
    Ok(Some(scope::spawn_service(scope::Service::RunRetention, expire(retention))))
}

async fn expire(retention: RunRetention) {
    loop {
        match retention.run_once(false).await {
            Ok(done) => done.iter().for_each(|(project, expired)| {
                let (project, runs, calls) = (project.as_str(), expired.runs, expired.calls);
                tracing::info!(project, runs, calls, "old runs were deleted");
            }),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "old runs could not be looked for");
            }
        }
        tokio::time::sleep(EXPIRE_EVERY).await;
    }
}

/// `awooop runs expire`.
pub(crate) async fn run_expire(args: RunsExpireArgs) -> anyhow::Result<ExitCode> {
    logging::start("warn");
    let store =
        Store::open(&checks::urls_of_environment()?, Clock::system(), Keyring::load(&args.keys)?).await?;
    let url = required("AWOOOP_RETENTION_DATABASE_URL")?;
    let done = RunRetention::open(store, &url).await?.run_once(args.dry_run).await?;
    if args.json {
        let item = |(project, e): &(ProjectId, ExpiredRuns)| json!({"project": project, "runs": e.runs, "steps": e.steps, "calls": e.calls});
        let items: Vec<_> = done.iter().map(item).collect();
        write_document(&json!({"items": items, "is_dry_run": args.dry_run}));
        return Ok(ExitCode::SUCCESS);
    }
    for (project, expired) in &done {
        write_raw(&format!("{project}: {} runs, {} tool calls\n", expired.runs, expired.calls));
    }
    note(match (done.is_empty(), args.dry_run) {
        (true, _) => "nothing is older than its project keeps it",
        (false, true) => "this would be deleted; nothing was",
        (false, false) => "deleted, and recorded in each project's audit",
    });
    Ok(ExitCode::SUCCESS)
}
