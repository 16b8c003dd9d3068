//! A Redis or Valkey for tests: a real server on a free port of 127.0.0.1, without a file, stopped with its
//! handle. `./x test` sees to it that one is installed; where that was impossible it says so and sets
//! `AWOOOP_TEST_REDIS=absent`, and only then there is none.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::Signal;

use crate::process::Process;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server.
#[derive(Debug)]
pub struct TestRedis {
    process: Process,
    port: u16,
}

impl TestRedis {
    /// Starts one; `None` where the test run said that there is none on this machine.
    ///
    /// # Errors
    /// No program found, or it does not start.
    pub fn start() -> anyhow::Result<Option<TestRedis>> {
        if std::env::var_os("AWOOOP_TEST_REDIS").is_some_and(|found| found == "absent") {
            return Ok(None);
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let started = ["redis-server", "valkey-server"].iter().find_map(|program| {
            let mut command = Command::new(program);
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
            command.arg(port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
            Process::spawn(&mut command).ok()
        });
        let process = started.context("neither redis-server nor valkey-server is installed: run ./x test")?;
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            anyhow::ensure!(began.elapsed() < PATIENCE, "Redis does not answer on port {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(TestRedis { process, port }))
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Stops it in the middle of what it does: it takes connections and answers nobody.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn freeze(&mut self) -> anyhow::Result<()> {
        Ok(self.process.signal(Signal::SIGSTOP)?)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn thaw(&mut self) -> anyhow::Result<()> {
        Ok(self.process.signal(Signal::SIGCONT)?)
    }

    /// Kills it: from now on nobody answers.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        Ok(())
    }
}
