//! One postmaster: how it is started and how it is stopped. Its settings are arguments, so they come with
//! the program and not with the cluster, and a hand-edited file cannot open the server to the network.
//!
//! fsync is on: what was committed survives `kill -9` and power loss, as in production. Statements and row
//! values stay out of the log (they may hold credentials and personal data).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::Cluster;
use super::error::EmbeddedError;
use super::{log, previous, socket};

/// Settings that do not depend on the place.
const SETTINGS: [&str; 16] = [
    "listen_addresses=",
    "port=5432",
    "password_encryption=scram-sha-256",
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    "wal_level=replica",
    "shared_buffers=128MB",
    "max_connections=200",
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    "logging_collector=off",
    "log_destination=stderr",
    "log_min_error_statement=panic",
    "log_error_verbosity=terse",
];
const LOG_LINE_PREFIX: &str = "log_line_prefix=%m [%p] %q%u@%d ";

/// How long a fast shutdown may take before an immediate one.
const FAST_STOP: Duration = Duration::from_secs(10);
/// How long an immediate shutdown may take before the process is killed.
const IMMEDIATE_STOP: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(10);

/// Starts a server after clearing what a former one left. Must be called on a thread that outlives it.
pub(super) fn spawn(cluster: &Cluster, socket_dir: &Path) -> Result<Child, EmbeddedError> {
    previous::clear(&cluster.data())?;
    socket::clear(socket_dir).map_err(EmbeddedError::io("clear", socket_dir))?;
    let path = cluster.log();
    let log = log::open(&path).map_err(EmbeddedError::io("open", &path))?;
    let again = log.try_clone().map_err(EmbeddedError::io("open", path))?;
    let mut command = cluster.command("postgres");
    command.arg("-D").arg(cluster.data()).stdout(again).stderr(log);
    for setting in SETTINGS.into_iter().chain([LOG_LINE_PREFIX]) {
        command.args(["-c", setting]);
    }
    for (name, value) in [("unix_socket_directories", socket_dir.to_owned()), ("hba_file", cluster.hba())] {
        command.arg("-c").arg(setting(name, value));
    }
    command.spawn().map_err(EmbeddedError::io("run", cluster.bin.dir.join("postgres")))
}

fn setting(name: &str, value: PathBuf) -> OsString {
    let mut text = OsString::from(name);
    text.push("=");
    text.push(value);
    text
}

/// Fast shutdown (sessions are rolled back, a checkpoint is written), then immediate, then kill. Waits.
pub(super) fn stop(child: &mut Child) {
    for (signal, patience) in [(Signal::SIGINT, FAST_STOP), (Signal::SIGQUIT, IMMEDIATE_STOP)] {
        send(child, signal);
        if wait(child, patience).is_some() {
            return;
        }
        tracing::warn!(pid = child.id(), %signal, "PostgreSQL did not stop in time");
    }
    send(child, Signal::SIGKILL);
    wait(child, IMMEDIATE_STOP);
}

/// The child is not waited for yet, so its process id is still its own.
fn send(child: &Child, signal: Signal) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    if let Err(error) = kill(Pid::from_raw(pid), signal) {
        tracing::warn!(pid, %signal, %error, "PostgreSQL could not be signalled");
    }
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < patience {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(STEP),
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
    None
}
