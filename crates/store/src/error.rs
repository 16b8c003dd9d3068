//! What can go wrong between us and PostgreSQL, in the four kinds callers treat differently.

use awooop_core::ErrorCode;

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
    /// A row holds what the code does not know, such as a state of a newer version.
    #[error("a stored value cannot be read: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// The code callers get; the inner cause is only logged.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unavailable(_) | Self::Contended(_) => ErrorCode::Store001,
            Self::Constraint { .. } | Self::Refused(_) | Self::Corrupt(_) => ErrorCode::Store001,
        }
    }

    /// Did this constraint refuse the change?
    pub fn is_constraint(&self, wanted: &str) -> bool {
        matches!(self, Self::Constraint { name, .. } if name == wanted)
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
        if state == S::T_R_DEADLOCK_DETECTED || state == S::T_R_SERIALIZATION_FAILURE {
            return Self::Contended(error);
        }
        if state == S::ADMIN_SHUTDOWN || state == S::CRASH_SHUTDOWN || state == S::CANNOT_CONNECT_NOW {
            return Self::Unavailable(Box::new(error));
        }
        match error.as_db_error().and_then(|e| e.constraint()).map(str::to_owned) {
            Some(name) => Self::Constraint { name, source: error },
            None => Self::Refused(error),
        }
    }
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
