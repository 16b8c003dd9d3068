//! Roles and schema. Roles are made once by an administrator; migrations are run by `awooop_owner`,
//! forward only, under an advisory lock, and never by a serving node.
//!
//! Servers go on working meanwhile. A migration that cannot have a lock at once gives up and tries again, so that
//! nobody queues behind it; one that servers of the version before it cannot work with says so by replacing
//! `awooop.compatible_from()`.

mod plan;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

pub use self::plan::{Effect, PlannedMigration};
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

/// How long a migration waits for a lock while servers work, and how often it tries again. Less than the second after which
/// PostgreSQL looks for deadlocks: what waits for each other is ended by the migration's giving up, not by a server's error.
const LOCK_WITHIN: &str = "800ms";
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_millis(500);

/// Every migration that this binary knows, in order.
pub(crate) fn all() -> Vec<PlannedMigration> {
    let runner = embedded_migrations::migrations::runner();
    let mut found: Vec<PlannedMigration> = runner
        .get_migrations()
        .iter()
        .map(|m| plan::planned(i64::from(m.version()), m.name(), m.sql().unwrap_or_default()))
        .collect();
    found.sort_by_key(|migration| migration.version);
    // servers of before the function do not ask for it
    let is_asked = found.iter().position(|migration| !migration.keeps_older_servers).unwrap_or(found.len());
    found[..is_asked].iter_mut().for_each(|migration| migration.keeps_older_servers = false);
    found
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

/// How often the roles are tried to be made.
const ROLE_TRIES: u32 = 10;

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
    let mut tries = 1;
    // roles belong to all databases of a server: another one may be having its own made
    while let Err(error) = make_roles(&client, passwords).await {
        if tries == ROLE_TRIES || !is_concurrent_update(&error) {
            return Err(error.into());
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..200))).await;
    }
    Ok(())
}

async fn make_roles(client: &Client, passwords: &[RolePassword]) -> Result<(), tokio_postgres::Error> {
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

/// Two changed one row of a catalogue, which PostgreSQL tells as an internal error.
fn is_concurrent_update(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|e| e.message().ends_with("concurrently updated"))
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

/// What [`migrate`] would run, in order, and the version the schema is at now; 0 where there is none. Changes nothing.
///
/// # Errors
/// As [`migrate`].
pub async fn plan(owner_url: &SecretString) -> Result<(i64, Vec<PlannedMigration>), MigrateError> {
    let client = connect("AWOOOP_OWNER_DATABASE_URL", owner_url).await?;
    let found = found_version(&client).await?;
    Ok((found, all().into_iter().filter(|migration| migration.version > found).collect()))
}

/// The schema's version, which must not be newer than this binary's.
async fn found_version(client: &Client) -> Result<i64, MigrateError> {
    let there =
        client.query_one("SELECT to_regprocedure('awooop.schema_version()') IS NOT NULL", &[]).await?;
    if !there.get::<_, bool>(0) {
        return Ok(0);
    }
    let (found, known) =
        (client.query_one("SELECT awooop.schema_version()", &[]).await?.get(0), latest_version());
    if found > known { Err(MigrateError::Newer { found, known }) } else { Ok(found) }
}

async fn run(client: &mut Client) -> Result<Vec<i64>, MigrateError> {
    client
        .batch_execute(&format!(
            "SET search_path = awooop; SET client_min_messages = warning; SET lock_timeout = '{LOCK_WITHIN}'"
        ))
        .await?;
    found_version(client).await?;
    let (mut applied, mut tries) = (Vec::new(), 1);
    loop {
        let run = embedded_migrations::migrations::runner().run_async(client).await;
        let (report, failed) = match &run {
            Ok(report) => (Some(report), None),
            Err(error) => (error.report(), Some(error)),
        };
        // each is a transaction of its own
        applied.extend(report.iter().flat_map(|r| r.applied_migrations()).map(|m| i64::from(m.version())));
        match failed {
            None => break,
            Some(error) if lacks_a_lock(error) && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Some(error) => return Err(MigrateError::Failed(explain(error))),
        }
    }
    // a role may have been made after the migration that knew of it
    patiently(client, "CALL awooop.admit_retention()").await?;
    patiently(client, "CALL awooop.admit_backup()").await?;
    Ok(applied)
}

/// Runs a statement, again while it has not its locks.
async fn patiently(client: &Client, sql: &str) -> Result<(), MigrateError> {
    let mut tries = 1;
    while let Err(error) = client.batch_execute(sql).await {
        if tries == TRIES || !is_about_a_lock(&error) {
            return Err(error.into());
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn is_about_a_lock(error: &tokio_postgres::Error) -> bool {
    let about = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| about.contains(code))
}

/// Did it fail only because somebody works with the table?
fn lacks_a_lock(error: &refinery::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(theirs) = error.downcast_ref::<tokio_postgres::Error>() {
            return is_about_a_lock(theirs);
        }
        source = error.source();
    }
    false
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
