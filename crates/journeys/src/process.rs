//! Child processes that do not outlive their handle.
//!
//! A dropped child is asked to stop (SIGTERM), given some seconds, then killed. Signals go to the one
//! process that was started, never to a group or a name.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a dropped child may take to stop.
const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(5);

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a command.
    pub fn spawn(command: &mut Command) -> io::Result<Process> {
        Ok(Process { child: command.spawn()? })
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Sends a signal; a process that has ended gets none.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.child.try_wait()?.is_none() {
            kill(self.pid(), signal)?;
        }
        Ok(())
    }

    /// Kills it (SIGKILL) and collects it.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait()
    }

    /// Has it ended, and how?
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end; `None` when it takes longer than `patience`.
    pub async fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if began.elapsed() > patience {
                return Ok(None);
            }
            tokio::time::sleep(STEP).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let began = Instant::now();
        // errors mean that there is nothing left to stop
        let _ = self.signal(Signal::SIGTERM);
        while began.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(STEP);
        }
        let _ = self.kill();
    }
}

/// An exit status in words, such as `exit code 3` or `signal 9`.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

/// A program of this workspace: the one `variable` names, or the one beside the running program (tests
/// lie one directory deeper). Fails with the command that builds it.
pub fn program(variable: &str, name: &str) -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    let beside = own.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    let found = beside.into_iter().find(|path: &PathBuf| Path::is_file(path));
    found.ok_or_else(|| anyhow::anyhow!("`{name}` is not built: cargo build --workspace --bins"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_is_signalled_waited_for_and_killed() {
        let mut sleeper = Process::spawn(Command::new("sleep").arg("600")).unwrap();
        assert_eq!(sleeper.ended().unwrap(), None);
        assert_eq!(sleeper.wait(Duration::ZERO).await.unwrap(), None);
        sleeper.signal(Signal::SIGTERM).unwrap();
        let status = sleeper.wait(PATIENCE).await.unwrap().unwrap();
        assert_eq!(describe(status), "signal 15");
        sleeper.signal(Signal::SIGTERM).unwrap();

        let mut other = Process::spawn(Command::new("sleep").arg("600")).unwrap();
        assert_eq!(describe(other.kill().unwrap()), "signal 9");

        let dropped = Process::spawn(Command::new("sleep").arg("600")).unwrap();
        let pid = dropped.pid();
        drop(dropped);
        assert!(kill(pid, None).is_err(), "it has ended and was collected");
    }

    #[test]
    fn a_program_that_is_not_built_is_named() {
        let error = program("AWOOOP_TEST_NO_SUCH_VARIABLE", "no-such-program").unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("cargo build"), "{error}");
    }
}
