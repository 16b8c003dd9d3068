//! Rows of deleted projects go: on every node what services find work by, on a node with the role that deletes everything
//! else. At once for a deletion that this node was asked for, within a minute for another node's.

use std::time::Duration;

use awooop_store::deletion::{Eraser, Progress};
use awooop_store::{Store, scope};
use secrecy::SecretString;
use tokio::task::JoinHandle;

use super::setting;

/// Between two looks at deletions that other nodes were asked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Between two looks while somebody's transaction from before a deletion is open.
const BUSY_EVERY: Duration = Duration::from_secs(5);

/// Starts the service. `own` is the URL of the role that deletes in a database of our own.
pub(super) async fn start(store: &Store, own: Option<SecretString>) -> anyhow::Result<JoinHandle<()>> {
    let url = setting("AWOOOP_RETENTION_DATABASE_URL").or(own);
    let eraser = Eraser::open(store.clone(), url.as_ref()).await?;
    Ok(scope::spawn_service(scope::Service::ProjectDeletion, erase(store.clone(), eraser)))
}

async fn erase(store: Store, eraser: Eraser) {
    loop {
        let mut pause = LOOK_EVERY;
        match eraser.run_once().await {
            Ok(done) => {
                for (project, progress) in &done {
                    let project = project.as_str();
                    match progress {
                        Progress::Deleted { rows } => tracing::info!(project, rows, "a project was deleted"),
                        Progress::Waits => tracing::debug!(
                            project,
                            "a deleted project's rows wait for the role that deletes"
                        ),
                        Progress::Busy => pause = BUSY_EVERY,
                    }
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "deleted projects could not be looked for"
                );
            }
        }
        tokio::select! {
            () = store.deletion_asked() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
