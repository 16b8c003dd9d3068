//! The embedded server as the rest of the program sees it: started, connected to, watched, stopped.
//!
//! A start returns only when the server answers and the database exists. Afterwards the server is kept
//! alive by its own thread; a connection that breaks meanwhile is the pool's to replace. The handle's drop
//! asks for a stop without waiting for it; [`EmbeddedPg::stop`] waits.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{oneshot, watch};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use super::bin::PgBin;
use super::cluster::Cluster;
use super::data_dir::DataDir;
use super::error::EmbeddedError;
use super::passwords::{Passwords, Role};
use super::supervisor::{PgState, Prepared, Stop, Supervisor};
use super::{log, socket};

/// The database everything lies in.
const DATABASE: &str = "awooop";
/// How long the server may take until it answers; recovery after a crash is within it.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Between attempts while nobody listens; and while the server recovers, where each attempt costs it a
/// process and a line in its log.
const TRY_EVERY: Duration = Duration::from_millis(15);
const TRY_RECOVERING_EVERY: Duration = Duration::from_millis(50);
/// A start is given up when the server ended this often in a row.
const ENDS_TO_GIVE_UP: u32 = 4;

/// A running PostgreSQL of our own.
#[derive(Debug)]
pub struct EmbeddedPg {
    socket_dir: PathBuf,
    log: PathBuf,
    passwords: Passwords,
    commands: mpsc::Sender<Stop>,
    state: watch::Receiver<PgState>,
}

impl EmbeddedPg {
    /// Makes the cluster if there is none (some seconds), starts the server, waits until it answers and
    /// makes the database `awooop` if it is absent. A warm start takes a fraction of a second.
    /// The roles other than the superuser are made by the migrations, with [`Self::passwords`].
    pub async fn start(bin: &PgBin, dir: &DataDir) -> Result<EmbeddedPg, EmbeddedError> {
        let cluster = Cluster { bin: bin.clone(), dir: dir.clone() };
        let log = cluster.log();
        let log_from = std::fs::metadata(&log).map_or(0, |meta| meta.len());
        let (commands, asked) = mpsc::channel();
        let (state_tx, state) = watch::channel(PgState::Preparing);
        let (answer, prepared) = oneshot::channel();
        let supervisor = Supervisor { cluster, commands: asked, state: state_tx };
        std::thread::Builder::new()
            .name("embedded-pg".to_owned())
            .spawn(move || supervisor.run(answer))
            .map_err(EmbeddedError::io("start a thread for", dir.path()))?;
        let Prepared { socket_dir, passwords } = prepared.await.map_err(|_| EmbeddedError::Stopped)??;
        let server = EmbeddedPg { socket_dir, log, passwords, commands, state };
        match server.open(log_from).await {
            Ok(()) => Ok(server),
            Err(error) => {
                server.stop().await;
                Err(error)
            }
        }
    }

    /// How to connect to the database `awooop` as `role`. Contains the password; `Debug` does not show it.
    pub fn url(&self, role: Role) -> Config {
        self.config(role, DATABASE)
    }

    /// How to connect as `role`, as a keyword/value string. Contains the password.
    pub fn connection(&self, role: Role) -> SecretString {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let dir = quote(&self.socket_dir.display().to_string());
        let password = quote(self.passwords.get(role).expose_secret());
        let (port, name) = (socket::PORT, role.name());
        format!("host='{dir}' port={port} dbname={DATABASE} user={name} password='{password}'").into()
    }

    /// A connection string for a person, such as for `psql`, WITHOUT the password.
    pub fn conninfo(&self, role: Role) -> String {
        let (dir, port) = (self.socket_dir.display(), socket::PORT);
        format!("host={dir} port={port} dbname={DATABASE} user={}", role.name())
    }

    /// The roles' passwords, for the migration that makes the roles.
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// The directory of the server's socket; private to the database's account.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// What the server does, as it changes.
    pub fn watch(&self) -> watch::Receiver<PgState> {
        self.state.clone()
    }

    /// The postmaster's process id while it runs.
    pub fn postmaster_pid(&self) -> Option<u32> {
        match *self.state.borrow() {
            PgState::Up { pid } => Some(pid),
            PgState::Preparing | PgState::Down { .. } | PgState::Stopped => None,
        }
    }

    /// Waits until the server answers, as after a restart: within 60 s, or the error says why not.
    pub async fn wait_ready(&self) -> Result<(), EmbeddedError> {
        let from = std::fs::metadata(&self.log).map_or(0, |meta| meta.len());
        self.answering(from, &self.config(Role::Admin, "postgres"), async |_| Ok(())).await
    }

    /// Stops the server (fast: sessions are rolled back, a checkpoint is written; immediate after 10 s)
    /// and waits until it has ended. Harmless when it already has.
    pub async fn stop(&self) {
        // A thread that has ended took its receiver along; there is nothing left to ask then.
        let _ = self.commands.send(Stop);
        let mut state = self.state.clone();
        // Fails only when the thread is gone, and with it the server.
        let _ = state.wait_for(|state| *state == PgState::Stopped).await;
    }

    fn config(&self, role: Role, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.socket_dir)
            .port(socket::PORT)
            .user(role.name())
            .password(self.passwords.get(role).expose_secret())
            .dbname(database)
            .connect_timeout(Duration::from_secs(5));
        config
    }

    async fn open(&self, log_from: u64) -> Result<(), EmbeddedError> {
        let config = self.config(Role::Admin, "postgres");
        self.answering(log_from, &config, make_database).await
    }

    /// Connects as soon as the server accepts it and does `work`.
    async fn answering<F>(&self, log_from: u64, config: &Config, work: F) -> Result<(), EmbeddedError>
    where
        F: AsyncFn(&Client) -> Result<(), tokio_postgres::Error>,
    {
        let began = Instant::now();
        let tail = || log::tail(&self.log, log_from);
        loop {
            let pause = match connected(config, &work).await {
                Ok(()) => return Ok(()),
                Err(source) => match pause_after(&source) {
                    Some(pause) => pause,
                    None => return Err(EmbeddedError::Refused { what: "the superuser", source }),
                },
            };
            match *self.state.borrow() {
                PgState::Stopped => return Err(EmbeddedError::Stopped),
                PgState::Down { ends } if ends >= ENDS_TO_GIVE_UP => {
                    return Err(EmbeddedError::EndsAtOnce { log: self.log.clone(), tail: tail() });
                }
                PgState::Preparing | PgState::Up { .. } | PgState::Down { .. } => {}
            }
            if began.elapsed() > ANSWER_WITHIN {
                let seconds = ANSWER_WITHIN.as_secs();
                return Err(EmbeddedError::NoAnswer { seconds, log: self.log.clone(), tail: tail() });
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Drives one connection beside the work that uses it; no task outlives the call.
async fn connected<F>(config: &Config, work: &F) -> Result<(), tokio_postgres::Error>
where
    F: AsyncFn(&Client) -> Result<(), tokio_postgres::Error>,
{
    let (client, connection) = config.connect(NoTls).await?;
    let work = async move {
        let done = work(&client).await;
        drop(client); // ends the connection's own future
        done
    };
    beside(work, connection).await
}

/// The work's result; the connection's own error only repeats it.
async fn beside<T>(work: impl Future<Output = T>, connection: impl Future) -> T {
    tokio::join!(work, connection).0
}

async fn make_database(client: &Client) -> Result<(), tokio_postgres::Error> {
    let there = client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&DATABASE]).await?;
    if there.is_none() {
        client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    }
    Ok(())
}

/// How long to wait when the error only means "not yet": no socket, a connection cut by a restart, or a
/// server that starts or recovers. `None` when another attempt would end the same.
fn pause_after(error: &tokio_postgres::Error) -> Option<Duration> {
    let Some(code) = error.code() else { return Some(TRY_EVERY) };
    let early = [SqlState::CANNOT_CONNECT_NOW, SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
    early.contains(code).then_some(TRY_RECOVERING_EVERY)
}
