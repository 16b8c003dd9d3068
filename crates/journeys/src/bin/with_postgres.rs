//! Runs a command with a PostgreSQL of its own: `with-postgres -- COMMAND ARGUMENTS…`.
//!
//! The server lies in a temporary directory and is named to the command by `AWOOOP_TEST_CLUSTER`. It ends
//! with the command, whose exit code is passed on; Ctrl-C and SIGTERM are passed on to the command first.
//! A server that is named already is used as it is. Exit code 2 for wrong usage, 3 without PostgreSQL.

use std::process::ExitCode;

use awooop_journeys::cluster::{CLUSTER_VARIABLE, Cluster};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(dashes), Some(program)) = (arguments.next(), arguments.next()) else {
        return usage();
    };
    if dashes != "--" {
        return usage();
    }
    let mut command = tokio::process::Command::new(program);
    command.args(arguments);
    if std::env::var_os(CLUSTER_VARIABLE).is_some() {
        return run(command).await;
    }
    let cluster = match Cluster::start().await {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("with-postgres: {error:#}");
            return ExitCode::from(3);
        }
    };
    match serde_json::to_string(cluster.urls()) {
        Ok(urls) => command.env(CLUSTER_VARIABLE, urls),
        Err(error) => {
            eprintln!("with-postgres: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = run(command).await;
    drop(cluster);
    code
}

fn usage() -> ExitCode {
    eprintln!("usage: with-postgres -- COMMAND [ARGUMENTS]");
    ExitCode::from(2)
}

/// Runs the command to its end; a signal to us goes to it, and we wait for what it makes of that.
async fn run(mut command: tokio::process::Command) -> ExitCode {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        eprintln!("with-postgres: signals cannot be caught");
        return ExitCode::FAILURE;
    };
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("with-postgres: {}: {error}", command.as_std().get_program().display());
            return ExitCode::from(127);
        }
    };
    loop {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let passed_on = tokio::select! {
            status = child.wait() => return code(status),
            _ = interrupt.recv() => Signal::SIGINT,
            _ = terminate.recv() => Signal::SIGTERM,
        };
        if let Some(pid) = pid {
            // it may have ended meanwhile; the next turn sees that
            let _ = kill(pid, passed_on);
        }
    }
}

fn code(status: std::io::Result<std::process::ExitStatus>) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let Ok(status) = status else { return ExitCode::FAILURE };
    let code = status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
