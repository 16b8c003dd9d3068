//! What can go wrong between us and PostgreSQL, in the four kinds callers treat differently.

use awooop_core::ErrorCode;

use crate::keyring::SignatureProblem;

/// A failed statement or connection. `Display` is for the caller and names no statement, value or host;
/// the source goes to the log once, at the boundary.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be had, or it broke: nothing is known about the last statement.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Deadlock or serialisation failure that stayed after the retries.
    #[error("the database was too busy with conflicting changes")]
    Contended(#[source] tokio_postgres::Error),
    /// A named constraint refused the change.
    #[error("the change violates `{name}`")]
    Constraint {
        /// The constraint's name.
        name: String,
        /// The database's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The database refused the statement: a defect on our side or a wrong schema.
    #[error("the database refused a statement")]
    Refused(#[source] tokio_postgres::Error),
    /// A contract, or a person's signature under it, is not what was signed: it does not load.
    #[error("{what} does not load: {problem}")]
    Untrusted {
        /// Which contract and version, or whose signature.
        what: String,
        /// What is wrong with it.
        problem: SignatureProblem,
    },
    /// The project is being deleted, or was: nothing of it is read or written any more.
    #[error("the project was deleted")]
    Deleted,
    /// A row holds what the code does not know, such as a state of a newer version.
    #[error("a stored value cannot be read: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// The code callers get; the inner cause is only logged.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Untrusted { .. } => ErrorCode::Contract002,
            Self::Deleted => ErrorCode::Project001,
            Self::Unavailable(_) | Self::Contended(_) => ErrorCode::Store001,
            Self::Constraint { .. } | Self::Refused(_) | Self::Corrupt(_) => ErrorCode::Store001,
        }
    }

    /// The same for somebody else who shares the statement: its cause goes with the first.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Untrusted { what, problem } => Self::Untrusted { what: what.clone(), problem: *problem },
            Self::Corrupt(what) => Self::Corrupt(what.clone()),
            Self::Deleted => Self::Deleted,
            Self::Constraint { .. } | Self::Refused(_) => Self::Corrupt(self.to_string()),
            Self::Unavailable(_) | Self::Contended(_) => Self::Unavailable(self.to_string().into()),
        }
    }

    /// Did this constraint refuse the change?
    pub fn is_constraint(&self, wanted: &str) -> bool {
        matches!(self, Self::Constraint { name, .. } if name == wanted)
    }

    /// Did the statement take longer than it may, or wait longer for a lock?
    pub(crate) fn is_too_slow(&self) -> bool {
        use tokio_postgres::error::SqlState as S;
        let Self::Unavailable(source) = self else { return false };
        let code = source.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
        code.is_some_and(|code| [S::QUERY_CANCELED, S::LOCK_NOT_AVAILABLE].contains(code))
    }

    /// May the same flight succeed if it is sent again?
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Contended(_))
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        use tokio_postgres::error::SqlState as S;
        let Some(state) = error.code().cloned() else {
            return Self::Unavailable(Box::new(error));
        };
        if state.code() == DELETED {
            return Self::Deleted;
        }
        if state == S::T_R_DEADLOCK_DETECTED || state == S::T_R_SERIALIZATION_FAILURE {
            return Self::Contended(error);
        }
        if is_away(state.code()) {
            return Self::Unavailable(Box::new(error));
        }
        match error.as_db_error().and_then(|e| e.constraint()).map(str::to_owned) {
            Some(name) => Self::Constraint { name, source: error },
            None => Self::Refused(error),
        }
    }
}

/// What `awooop.set_project` says of a project that is being deleted, or was.
const DELETED: &str = "AWP01";

/// States that say nothing against the statement: it may succeed on another connection or a little later.
fn is_away(state: &str) -> bool {
    // connection, resources, operator's intervention (shutdown, cancelled by a time-out), system
    let is_class = ["08", "53", "57", "58"].iter().any(|class| state.starts_with(class));
    // a standby after a failover; a transaction that idled too long; a lock that could not be had
    is_class || ["25006", "25P03", "55P03"].contains(&state)
}

impl From<deadpool_postgres::PoolError> for StoreError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(inner) => match Self::from(inner) {
                // whatever a connect attempt answers, there is no database for us
                Self::Unavailable(source) => Self::Unavailable(source),
                other => Self::Unavailable(Box::new(other)),
            },
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_against_the_statement_counts_as_the_database_being_away() {
        // shutdown, starting up, statement time-out, disk full, too many connections, standby, idle too long
        for state in
            ["57P01", "57P03", "57014", "53100", "53300", "08006", "58030", "25006", "25P03", "55P03"]
        {
            assert!(is_away(state), "{state}");
        }
        // unique, check, syntax, privilege, no such table, in a failed transaction
        for state in ["23505", "23514", "42601", "42501", "42P01", "25P02"] {
            assert!(!is_away(state), "{state}");
        }
    }
}
