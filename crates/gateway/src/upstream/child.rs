//! A stdio server's process: how it is started, what it is told, and how it ends.
//!
//! It starts without a shell, in `/`, with `PATH`, `HOME`, `LANG` and the spec's variables and nothing
//! else. Its stderr goes line by line, bounded and redacted, to the log at debug. It ends when its stdin
//! closes; one that stays is told with SIGTERM and then killed, with its whole process group. Dropping
//! [`ServerProcess`] kills the group at once.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use awooop_core::{ProjectId, ProviderId};
use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use secrecy::{ExposeSecret, SecretString};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use super::config::{KnownOf, Redact, UpstreamConfig};
use super::error::UpstreamError;
use super::lines::{Line, Lines};
use super::reach::closed_ancestor;
use super::spawn::{Limits, spawn};
use super::spec::UpstreamSpec;

const GRACE: Duration = Duration::from_secs(2);
const STDERR_LINE_BYTES: usize = 8 * 1024;
const STDERR_LINES_A_MINUTE: u32 = 200;
/// Processes and threads of a uid that belongs to one project.
const PROCESSES_OF_A_PROJECT: u64 = 512;

/// What to start.
pub(super) struct Program<'a> {
    pub(super) path: &'a Path,
    pub(super) args: &'a [SecretString],
    pub(super) uid: Option<u32>,
    pub(super) env: &'a [(String, SecretString)],
}

/// A running server.
pub(super) struct ServerProcess {
    child: Child,
    group: Pid,
    has_ended: bool,
}

/// Both ends of the conversation.
pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
}

/// Starts a server and the reader of its stderr.
pub(super) async fn start(
    program: &Program<'_>,
    spec: &UpstreamSpec,
    config: &UpstreamConfig,
) -> Result<(ServerProcess, Pipes), UpstreamError> {
    if !program.path.is_absolute() {
        return Err(UpstreamError::Refused("the command is not an absolute path".to_owned()));
    }
    let limits = Limits {
        address_space_bytes: config.child_address_space_bytes,
        processes: program.uid.map(|_| PROCESSES_OF_A_PROJECT),
    };
    let mut child = spawn(command(program), limits).await.map_err(|error| explain(program, &error))?;
    let started = child.id().zip(child.stdin.take()).zip(child.stdout.take()).zip(child.stderr.take());
    let Some((((pid, stdin), stdout), stderr)) = started else {
        return Err(UpstreamError::unreachable("its process has no pipes"));
    };
    let log = StderrLog::new(spec, config);
    super::spawn(tracing::Span::current(), log.run(stderr));
    let group = Pid::from_raw(pid.cast_signed());
    Ok((ServerProcess { child, group, has_ended: false }, Pipes { stdin, stdout }))
}

fn command(program: &Program<'_>) -> Command {
    let mut command = Command::new(program.path);
    command
        .args(program.args.iter().map(ExposeSecret::expose_secret))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("LANG", "C.UTF-8")
        .envs(program.env.iter().map(|(name, value)| (name, value.expose_secret())))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(uid) = program.uid {
        // As root the standard library also drops all supplementary groups.
        command.gid(uid).uid(uid);
    }
    command
}

/// Why it did not start, in words that help and hold nothing of the environment.
fn explain(program: &Program<'_>, error: &io::Error) -> UpstreamError {
    let closed = program.uid.and_then(|uid| Some((uid, closed_ancestor(program.path, uid)?)));
    let reason = match (error.raw_os_error(), closed) {
        (Some(libc::EACCES), Some((uid, closed))) => {
            format!("its command cannot start: uid {uid} may not enter the directory {}", closed.display())
        }
        (Some(libc::EACCES), None) => "its command may not be executed".to_owned(),
        (Some(libc::EPERM), _) => {
            "its command cannot start: this process may not switch to the child's uid".to_owned()
        }
        (Some(libc::ENOENT), _) => "its command does not exist".to_owned(),
        (Some(libc::ENOEXEC), _) => "its command is not a program".to_owned(),
        _ => format!("its command cannot start: {}", error.kind()),
    };
    UpstreamError::Unreachable(reason)
}

impl ServerProcess {
    /// Waits until the process has ended by itself, then takes what it left of its group with it, so that
    /// its pipes close. May be dropped and called again.
    pub(super) async fn exited(&mut self) {
        let status = self.child.wait().await;
        if !self.has_ended {
            // Only now: later the group's number may belong to somebody else.
            self.has_ended = true;
            self.signal(Signal::SIGKILL);
            tracing::debug!(?status, "the tool server's process ended");
        }
    }

    /// Ends the process: its stdin is closed by now, so it gets a moment, then SIGTERM, then SIGKILL.
    pub(super) async fn end(mut self) {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if timeout(GRACE, self.exited()).await.is_ok() {
                return;
            }
            self.signal(signal);
        }
        self.exited().await;
    }

    fn signal(&self, signal: Signal) {
        // ESRCH: nobody is left in the group.
        let _ = killpg(self.group, signal);
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if !self.has_ended {
            self.signal(Signal::SIGKILL);
        }
    }
}

/// Writes a child's stderr to the log: at most so many lines a minute, each of a bounded size.
struct StderrLog {
    project: ProjectId,
    provider: ProviderId,
    known: KnownOf,
    redact: Redact,
    minute: Instant,
    lines: u32,
}

impl StderrLog {
    fn new(spec: &UpstreamSpec, config: &UpstreamConfig) -> Self {
        let (project, provider) = (spec.project.clone(), spec.provider.clone());
        let (known, redact) = (Arc::clone(&config.known), Arc::clone(&config.redact));
        Self { project, provider, known, redact, minute: Instant::now(), lines: 0 }
    }

    async fn run(mut self, stderr: ChildStderr) {
        let mut lines = Lines::new(stderr, STDERR_LINE_BYTES);
        while let Ok(Some(line)) = lines.next().await {
            if self.has_room() {
                self.write(line);
            }
        }
    }

    fn has_room(&mut self) -> bool {
        if self.minute.elapsed() >= Duration::from_secs(60) {
            self.minute = Instant::now();
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines == STDERR_LINES_A_MINUTE + 1 {
            tracing::debug!(project = %self.project, provider = %self.provider, "more stderr is dropped this minute");
        }
        self.lines <= STDERR_LINES_A_MINUTE
    }

    fn write(&self, line: Line) {
        let (bytes, is_cut) = match line {
            Line::Whole(bytes) => (bytes, false),
            Line::TooLong { head, .. } => (head, true),
        };
        let (text, known) = (String::from_utf8_lossy(&bytes), (self.known)(&self.project));
        let text = if is_cut { known.mask_cut(&text) } else { known.mask(&text) };
        let text = (self.redact)(&self.project, &text);
        tracing::debug!(project = %self.project, provider = %self.provider, is_cut, stderr = text);
    }
}
