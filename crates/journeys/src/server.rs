//! The real server as a child: `awooop dev --port 0 --data-dir DIR`, started, killed, started again.
//!
//! A start returns when the server has written `dev.env` (its address and an administrator's key, 0600)
//! and says that it is ready. What it prints lies in a log beside the data directory and is shown when a
//! start fails. The child stops with its handle.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::client::Api;
use crate::process::{Process, describe, program};

/// How long a start may take; the first one makes a database.
const START_WITHIN: Duration = Duration::from_secs(90);
/// How long a stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(5);
/// Set, every server is two processes: one that answers HTTP and one that carries runs out.
const SEPARATE_WORKER: &str = "AWOOOP_TEST_SEPARATE_WORKER";

/// Where a server keeps its data over restarts, and with which settings it starts. Removed on drop.
#[derive(Debug)]
pub struct Home {
    directory: TempDir,
    environment: Vec<(String, String)>,
    program: PathBuf,
    uid: Option<u32>,
    has_separate_worker: bool,
}

impl Home {
    /// A new temporary directory that tool servers under another uid can reach.
    pub fn new() -> anyhow::Result<Home> {
        let directory = tempfile::Builder::new()
            .prefix("awooop-")
            .permissions(PermissionsExt::from_mode(0o711))
            .tempdir()
            .context("no temporary directory")?;
        let has_separate_worker = std::env::var_os(SEPARATE_WORKER).is_some();
        let program = program("AWOOOP_BIN", "awooop")?;
        Ok(Home { directory, environment: Vec::new(), program, uid: None, has_separate_worker })
    }

    /// Runs are carried out in a process of their own.
    pub fn with_separate_worker(mut self) -> Home {
        self.has_separate_worker = true;
        self
    }

    /// Everything runs under another uid, to which the directory and all that is in it by now then belong. Only root
    /// may. The program is copied to where that uid can reach it.
    pub fn under(mut self, uid: u32) -> anyhow::Result<Home> {
        let program = self.directory.path().join("awooop");
        std::fs::copy(&self.program, &program).context("the program can be copied")?;
        self.program = program;
        self.uid = Some(uid);
        give(self.directory.path(), uid).context("only root gives files away")?;
        Ok(self)
    }

    /// Adds a variable to the server's environment.
    pub fn env(mut self, name: &str, value: &str) -> Home {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The server's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The directory around it, for a test's own files.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What the server has printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }

    /// A command of the program with this server's environment and no other key or address. The variables
    /// of tests that could lead it elsewhere are taken away.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null());
        for name in ["AWOOOP_URL", "AWOOOP_KEY", "AWOOOP_DATABASE_URL", "AWOOOP_DISPATCH_DATABASE_URL"] {
            command.env_remove(name);
        }
        command.env_remove("AWOOOP_OWNER_DATABASE_URL");
        if let Some(uid) = self.uid {
            command.gid(uid).uid(uid);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the command line against the server of this directory and waits for it.
    pub async fn cli(&self, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
        let mut command = self.command(arguments);
        command.arg("--data-dir").arg(self.data_dir()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        Ok(output)
    }

    /// Like [`Home::cli`] with `--json`: the one document on stdout and the exit code.
    pub async fn cli_json(&self, arguments: &[&str]) -> anyhow::Result<(i32, serde_json::Value)> {
        let with_json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let output = self.cli(&with_json).await?;
        let code = output.status.code().unwrap_or(-1);
        let document = serde_json::from_slice(&output.stdout).with_context(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            format!("`awooop {}` printed no JSON (exit code {code}): {stderr}", arguments.join(" "))
        })?;
        Ok((code, document))
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(&self) -> anyhow::Result<Server> {
        let before = self.written();
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let began = Instant::now();
        let mut command = self.command(&["dev", "--port", "0"]);
        if self.has_separate_worker {
            command.arg("--separate-worker");
        }
        command.arg("--data-dir").arg(self.data_dir()).stdout(log.try_clone()?).stderr(log);
        let mut process = Process::spawn(&mut command)
            .with_context(|| format!("{} does not start", self.program.display()))?;
        loop {
            if let Some(status) = process.ended()? {
                anyhow::bail!("the server ended with {} at its start:\n{}", describe(status), self.log());
            }
            if self.written() != before
                && let Some((url, key)) = self.dev_env()
            {
                let api = Api::new(&url, Some(&key))?;
                if api.get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                    return Ok(Server { process, api, url, key, started_in: began.elapsed() });
                }
            }
            anyhow::ensure!(
                began.elapsed() < START_WITHIN,
                "the server is not ready after {START_WITHIN:?}:\n{}",
                self.log()
            );
            tokio::time::sleep(STEP).await;
        }
    }

    /// Identity and time of `dev.env`, so that a new one is told from that of the life before.
    fn written(&self) -> Option<(u64, i64, i64)> {
        let meta = std::fs::metadata(self.data_dir().join("dev.env")).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
    }

    fn dev_env(&self) -> Option<(String, String)> {
        let text = std::fs::read_to_string(self.data_dir().join("dev.env")).ok()?;
        let value = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.trim_start_matches("export ").strip_prefix(name)?.strip_prefix('='));
            line.map(|value| value.trim_matches(['"', '\'']).to_owned())
        };
        Some((value("AWOOOP_URL")?, value("AWOOOP_KEY")?))
    }
}

/// Gives a directory and all that is in it to a uid and the gid of the same number.
fn give(path: &Path, uid: u32) -> std::io::Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in path.read_dir()? {
            give(&entry?.path(), uid)?;
        }
    }
    Ok(())
}

/// A server that is ready.
#[derive(Debug)]
pub struct Server {
    process: Process,
    api: Api,
    url: String,
    key: String,
    started_in: Duration,
}

impl Server {
    /// Its API with the platform administrator's key.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The platform administrator's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// From the start of the process to ready.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// The number of its process.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// The process, for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The process that carries its runs out, where that is another one. `None` while there is none.
    pub fn worker(&self) -> Option<Pid> {
        let server = self.process.pid().to_string();
        let mut processes = std::fs::read_dir("/proc").ok()?.flatten();
        processes.find_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            // "<pid> (<name>) <state> <parent> …", and a name may hold anything
            let parent = stat.rsplit(") ").next()?.split(' ').nth(1)?;
            let is_worker =
                parent == server && line.split(|b| *b == 0).any(|word| word == b"--end-with-stdin");
            is_worker.then(|| Pid::from_raw(pid))
        })
    }

    /// `kill -9`: nothing of it runs any longer when this returns, a worker of its own included.
    pub fn kill(mut self) -> anyhow::Result<()> {
        let worker = self.worker();
        self.process.kill()?;
        if let Some(worker) = worker {
            // it may have ended with its server by now
            let _ = kill(worker, Signal::SIGKILL);
            while kill(worker, None).is_ok() {
                std::thread::sleep(STEP);
            }
        }
        Ok(())
    }

    /// Sends a signal and waits for the end.
    pub async fn stop(mut self, signal: Signal) -> anyhow::Result<ExitStatus> {
        self.process.signal(signal)?;
        self.process.wait(STOP_WITHIN).await?.with_context(|| format!("still running {STOP_WITHIN:?} later"))
    }
}
