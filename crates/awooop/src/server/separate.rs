//! The worker of `dev --separate-worker`: `awooop serve --role worker` as a child, with the database, keys and list of
//! this process. It is started again when it ends, and ends with this process, however that ends: its standard input is
//! a pipe that closes then.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use awooop_gateway::Operator;
use awooop_store::embedded::DataDir;
use awooop_store::{DatabaseUrls, scope};
use awooop_worker::WorkerConfig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::ExposeSecret;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Where, in the data directory, the worker keeps what is its own.
const DIRECTORY: &str = "worker";
/// Before one that ended is started again.
const AGAIN: Duration = Duration::from_secs(1);

/// The worker's process, kept running.
pub(super) struct SeparateWorker {
    stop: CancellationToken,
    keeping: JoinHandle<()>,
}

impl SeparateWorker {
    /// Starts it, with an operator's list of its own that says what `list` does.
    pub(super) fn start(data: &DataDir, urls: &DatabaseUrls, list: &Operator) -> anyhow::Result<Self> {
        let directory = data.path().join(DIRECTORY);
        let written = toml::to_string(list).context("the operator's list cannot be written")?;
        data.write_private("worker.toml", written.as_bytes())?;
        let program = std::env::current_exe().context("this program's own file is not known")?;
        let log = std::env::var("AWOOOP_LOG").unwrap_or_else(|_| "warn".to_owned());
        let mut command = Command::new(program);
        command
            .args(["serve", "--role", "worker", "--end-with-stdin", "--keys"])
            .arg(data.keys())
            .arg("--operator")
            .arg(data.path().join("worker.toml"))
            .arg("--data-dir")
            .arg(directory)
            .env("AWOOOP_DATABASE_URL", urls.app.expose_secret())
            .env("AWOOOP_DISPATCH_DATABASE_URL", urls.dispatch.expose_secret())
            .env("AWOOOP_LOG", log)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // a terminal's Ctrl-C goes to a whole group: it would be the second signal after ours
            .process_group(0)
            .kill_on_drop(true);
        let stop = CancellationToken::new();
        let keeping = scope::spawn_service(scope::Service::SeparateWorker, keep(command, stop.clone()));
        Ok(Self { stop, keeping })
    }

    /// Lets it drain, as long as its own drain may take.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        // it logs what goes wrong itself
        let _ = self.keeping.await;
    }
}

/// Starts it again whenever it ends, until `stop`.
async fn keep(mut command: Command, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let ended = match command.spawn() {
            Ok(child) => watch(child, &stop).await,
            Err(error) => Err(error),
        };
        if stop.is_cancelled() {
            return;
        }
        match ended {
            Ok(status) => tracing::warn!(%status, "the worker's process ended and is started again"),
            Err(error) => tracing::warn!(%error, "the worker's process cannot be started"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Waits for its end; at `stop` it is asked to end, and killed when it takes longer than a drain can.
async fn watch(mut child: Child, stop: &CancellationToken) -> std::io::Result<ExitStatus> {
    // waiting for a child closes its standard input, which would end it
    let _open = child.stdin.take();
    tokio::select! {
        status = child.wait() => return status,
        () = stop.cancelled() => {}
    }
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // one that has ended is waited for below
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let patience = WorkerConfig::default().drain_for * 5;
    match tokio::time::timeout(patience, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            child.kill().await?;
            child.wait().await
        }
    }
}
