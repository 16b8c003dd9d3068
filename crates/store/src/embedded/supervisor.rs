//! The thread that owns the postmaster. The kernel signals a child when its parent THREAD ends, so this
//! thread lives exactly as long as the server; and as it alone starts, signals and waits for it, a process
//! id is never used after it was given to somebody else.
//!
//! A server that dies is started again, at once at first and then with growing pauses, until it is told to
//! stop or its handle is dropped. The data directory's lock is held until the last server has ended.

use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::cluster::Cluster;
use super::error::EmbeddedError;
use super::passwords::Passwords;
use super::{postmaster, socket};

/// How often the child is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// The first pause before a restart, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A server that ran this long was healthy: its end starts a new count.
const HEALTHY: Duration = Duration::from_secs(5);

/// What the embedded server does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PgState {
    /// The cluster is being made or checked.
    Preparing,
    /// The postmaster runs; it may still be recovering and refuse connections.
    Up {
        /// Its process id.
        pid: u32,
    },
    /// The postmaster ended by itself, or could not be started, and will be started again.
    Down {
        /// How often in a row.
        ends: u32,
    },
    /// It was stopped, and nothing will start it again.
    Stopped,
}

/// What the handle asks of the thread. Dropping the handle asks the same.
pub(super) struct Stop;

/// What the thread learned while it prepared.
pub(super) struct Prepared {
    pub(super) socket_dir: std::path::PathBuf,
    pub(super) passwords: Passwords,
}

pub(super) struct Supervisor {
    pub(super) cluster: Cluster,
    pub(super) commands: Receiver<Stop>,
    pub(super) state: watch::Sender<PgState>,
}

/// How a server's life ended.
enum End {
    Asked,
    ByItself(ExitStatus),
}

impl Supervisor {
    /// The thread's life: prepare, answer, then keep a server alive until asked to stop. Whoever sees the
    /// last state, or the error, may take the data directory: it is released before.
    pub(super) fn run(self, answer: oneshot::Sender<Result<Prepared, EmbeddedError>>) {
        let state = self.state.clone();
        match self.prepare() {
            Ok(prepared) => self.serve(prepared, answer),
            Err(error) => {
                drop(self);
                // A start that was given up does not ask for the reason.
                drop(answer.send(Err(error)));
            }
        }
        state.send_replace(PgState::Stopped);
    }

    fn serve(self, prepared: Prepared, answer: oneshot::Sender<Result<Prepared, EmbeddedError>>) {
        let socket_dir = prepared.socket_dir.clone();
        if answer.send(Ok(prepared)).is_ok() {
            self.keep_alive(&socket_dir);
        }
        if let Err(error) = socket::clear(&socket_dir) {
            tracing::debug!(%error, "the socket's leftovers stay");
        }
    }

    fn prepare(&self) -> Result<Prepared, EmbeddedError> {
        let passwords = self.cluster.prepare()?;
        Ok(Prepared { socket_dir: socket::prepare(&self.cluster)?, passwords })
    }

    fn keep_alive(&self, socket_dir: &std::path::Path) {
        let mut ends = 0;
        loop {
            let began = Instant::now();
            match postmaster::spawn(&self.cluster, socket_dir) {
                Ok(child) => match self.attend(child) {
                    End::Asked => return,
                    End::ByItself(status) => tracing::error!(%status, "PostgreSQL ended; starting it again"),
                },
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "PostgreSQL could not be started"
                    );
                }
            }
            ends = if began.elapsed() > HEALTHY { 1 } else { ends + 1 };
            self.state.send_replace(PgState::Down { ends });
            if self.is_asked_within(pause(ends)) {
                return;
            }
        }
    }

    /// Waits for the server's end, or ends it when asked.
    fn attend(&self, mut child: Child) -> End {
        self.state.send_replace(PgState::Up { pid: child.id() });
        loop {
            if self.is_asked_within(LOOK) {
                postmaster::stop(&mut child);
                return End::Asked;
            }
            if let Ok(Some(status)) = child.try_wait() {
                return End::ByItself(status);
            }
        }
    }

    fn is_asked_within(&self, time: Duration) -> bool {
        !matches!(self.commands.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }
}

/// The pause before the restart after so many ends in a row.
fn pause(ends: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2u32.saturating_pow(ends.saturating_sub(1))).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_stay_bounded() {
        let check = |ends, millis| assert_eq!(pause(ends), Duration::from_millis(millis), "{ends}");
        check(0, 50);
        check(1, 50);
        check(2, 100);
        check(7, 3200);
        check(8, 5000);
        check(u32::MAX, 5000);
    }
}
