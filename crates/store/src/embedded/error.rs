//! Why the embedded server could not be started: one variant a cause that a person acts on differently.
//! Sources are kept for the chain and never repeated in the text.

use std::path::PathBuf;

/// A failed start of the embedded PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The cluster was written by another major version; PostgreSQL cannot read it.
    #[error(
        "the database in {} was written by PostgreSQL {data}, and the server found is {server}; set \
         AWOOOP_PG_BIN to the bin directory of a PostgreSQL {data}, or choose another data directory",
        path.display()
    )]
    OtherMajor {
        /// The cluster's directory.
        path: PathBuf,
        /// Major version that wrote it.
        data: String,
        /// Major version of the server found.
        server: u32,
    },
    /// Something lies where the cluster belongs, and it is not one.
    #[error("{} exists but is not a PostgreSQL cluster; move it away or choose another data directory", path.display())]
    NotACluster {
        /// The place.
        path: PathBuf,
    },
    /// A cluster without its passwords cannot be entered.
    #[error("the database in {} exists but its passwords in {} do not; restore that file", cluster.display(), passwords.display())]
    PasswordsLost {
        /// The cluster's directory.
        cluster: PathBuf,
        /// The missing file.
        passwords: PathBuf,
    },
    /// The password file is there and makes no sense.
    #[error("{} does not hold the database's passwords: {why}", path.display())]
    PasswordsUnreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong, without any of its content.
        why: String,
    },
    /// The server's account cannot reach the server's programs.
    #[error("PostgreSQL runs as `{account}` here, which may not pass {}; use an installation elsewhere", ancestor.display())]
    ProgramsOutOfReach {
        /// The closed directory.
        ancestor: PathBuf,
        /// Who may not pass.
        account: String,
    },
    /// The cluster could not be made.
    #[error("initdb failed ({status}):\n{output}")]
    Initdb {
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// The server of a former owner does not end.
    #[error("process {pid} still serves {} and does not end; stop it", path.display())]
    FormerServerStays {
        /// Its process id.
        pid: i32,
        /// The cluster's directory.
        path: PathBuf,
    },
    /// The server ends again and again before it answers.
    #[error("PostgreSQL does not start; the end of {} says:\n{tail}", log.display())]
    EndsAtOnce {
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// The server runs but does not answer in time.
    #[error("PostgreSQL did not answer within {seconds} s; the end of {} says:\n{tail}", log.display())]
    NoAnswer {
        /// How long was waited.
        seconds: u64,
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// The server answers and refuses what is asked.
    #[error("PostgreSQL refused {what}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The server's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The supervisor ended early, which only a stop during the start does.
    #[error("PostgreSQL was stopped while it started")]
    Stopped,
    /// The operating system refused something.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// Of what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}

impl EmbeddedError {
    /// For `map_err`: an input or output error of `what` at `path`.
    pub(super) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> EmbeddedError {
        let path = path.into();
        move |source| EmbeddedError::Io { what, path, source }
    }
}
