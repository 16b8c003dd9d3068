//! Roles and schema. Roles are made once by an administrator; migrations are run by `awooop_owner`,
//! forward only, under an advisory lock, and never by a serving node.

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::{Client, NoTls};

use crate::error::StoreError;
use crate::pool::{OpenError, parse_url, tls, wants_tls};

mod embedded_migrations {
    #![allow(missing_docs, reason = "made by refinery")]
    refinery::embed_migrations!("migrations");
}

/// The SQL that makes the roles and the schema, for a DBA to read and run.
pub fn roles_sql() -> &'static str {
    include_str!("roles.sql")
}

/// The newest version this binary knows.
pub fn latest_version() -> i64 {
    let newest = embedded_migrations::migrations::runner().get_migrations().iter().map(|m| m.version()).max();
    newest.map_or(0, i64::from)
}

/// Why roles or schema could not be made. `Display` contains no URL.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A URL is wrong, or the database cannot be reached.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A migration failed; its transaction was rolled back.
    #[error("the migration failed: {0}")]
    Failed(String),
    /// The schema was made by a newer binary.
    #[error("the schema is at version {found}, newer than this binary's {known}")]
    Newer {
        /// What the database has.
        found: i64,
        /// What the code knows.
        known: i64,
    },
}

impl From<tokio_postgres::Error> for MigrateError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self::Failed(db.message().to_owned()),
            None => Self::Open(StoreError::from(error).into()),
        }
    }
}

/// A role and the password its URL names.
pub type RolePassword = (&'static str, SecretString);

/// The password in a role's URL, if it names one. The URL must name that role.
pub fn role_password(
    variable: &'static str,
    url: &SecretString,
    role: &'static str,
) -> Result<Option<RolePassword>, MigrateError> {
    let wrong = |reason: String| MigrateError::Open(OpenError::Url { variable, reason });
    let config = parse_url(variable, url)?;
    if config.get_user() != Some(role) {
        return Err(wrong(format!("it must name the role {role}")));
    }
    let Some(password) = config.get_password() else { return Ok(None) };
    let password =
        std::str::from_utf8(password).map_err(|_| wrong("its password is not UTF-8".to_owned()))?;
    Ok(Some((role, password.into())))
}

/// Makes roles and schema as an administrator; sets the passwords that are given, with which their roles may log in.
/// Repeatable.
pub async fn create_roles(admin_url: &SecretString, passwords: &[RolePassword]) -> Result<(), MigrateError> {
    let client = connect("--admin-url", admin_url).await?;
    client.batch_execute(roles_sql()).await?;
    for (role, password) in passwords {
        let statement = client
            .query_one(
                "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)",
                &[role, &password.expose_secret()],
            )
            .await?;
        client.batch_execute(statement.get(0)).await?;
    }
    Ok(())
}

/// Brings the schema to this binary's version as `awooop_owner`. Returns the versions that were applied.
pub async fn migrate(owner_url: &SecretString) -> Result<Vec<i64>, MigrateError> {
    let mut client = connect("AWOOOP_OWNER_DATABASE_URL", owner_url).await?;
    // another migration may take its time
    client.batch_execute("SET statement_timeout = 0").await?;
    client.batch_execute("SELECT pg_advisory_lock(7166004)").await?;
    let result = run(&mut client).await;
    // the lock ends with the connection in any case
    let _ = client.batch_execute("SELECT pg_advisory_unlock(7166004)").await;
    result
}

async fn run(client: &mut Client) -> Result<Vec<i64>, MigrateError> {
    client.batch_execute("SET search_path = awooop").await?;
    let known = latest_version();
    let found =
        client.query_opt("SELECT to_regprocedure('awooop.schema_version()') IS NOT NULL", &[]).await?;
    if found.is_some_and(|row| row.get(0)) {
        let found: i64 = client.query_one("SELECT awooop.schema_version()", &[]).await?.get(0);
        if found > known {
            return Err(MigrateError::Newer { found, known });
        }
    }
    let report = embedded_migrations::migrations::runner()
        .run_async(client)
        .await
        .map_err(|e| MigrateError::Failed(explain(&e)))?;
    // a role may have been made after the migration that knew of it
    client.batch_execute("CALL awooop.admit_retention()").await?;
    client.batch_execute("CALL awooop.admit_backup()").await?;
    Ok(report.applied_migrations().iter().map(|m| i64::from(m.version())).collect())
}

fn explain(error: &refinery::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "the driver's connection task belongs to no project")]
pub(crate) async fn connect(variable: &'static str, url: &SecretString) -> Result<Client, MigrateError> {
    let config = parse_url(variable, url)?;
    if wants_tls(&config) {
        let (client, connection) = config.connect(tls()).await?;
        tokio::spawn(connection);
        Ok(client)
    } else {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}
