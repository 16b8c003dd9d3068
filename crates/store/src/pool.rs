//! The two pools, and opening them safely. The server works as `awooop_app` (bound by row security)
//! and `awooop_dispatch` (sees where work lies). A role that could step over row security is refused.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use deadpool::managed::QueueMode;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio_postgres::NoTls;
use tokio_postgres::config::{Host, SslMode};

use crate::announce::Announcer;
use crate::audit::Dirty;
use crate::enqueue::{self, Enqueues};
use crate::error::StoreError;
use crate::export::MOST_EXPORTS;
use crate::family::Sweeps;
use crate::figures::Figures;
use crate::key_use::KeyUses;
use crate::progress::{self, Progress};
use crate::rate::Rates;
use crate::redaction::Known;
use crate::refusals::Refusals;
use crate::shared::Reads;
use crate::wake::Wake;
use crate::{Clock, keyring::Keyring};
use awooop_redact::Redactor;

/// Most connections of a process as `awooop_app`.
pub(crate) const APP_CONNECTIONS: usize = 32;
/// Most connections of a process as `awooop_dispatch`.
pub(crate) const DISPATCH_CONNECTIONS: usize = 4;

/// Where the database is, once for each role the server uses.
#[derive(Clone)]
pub struct DatabaseUrls {
    /// `awooop_app`: `AWOOOP_DATABASE_URL`.
    pub app: SecretString,
    /// `awooop_dispatch`: `AWOOOP_DISPATCH_DATABASE_URL`.
    pub dispatch: SecretString,
}

/// Why the store cannot be opened. `Display` never contains a URL.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A URL does not parse.
    #[error("{variable} is not a PostgreSQL URL: {reason}")]
    Url {
        /// The setting's name.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The role could read across projects.
    #[error(
        "refusing to start: the role `{role}` of {variable} {reason}; use the roles made by `awooop migrate`"
    )]
    UnsafeRole {
        /// The setting's name.
        variable: &'static str,
        /// The role.
        role: String,
        /// What makes it unsafe.
        reason: &'static str,
    },
    /// The schema is older than this binary.
    #[error("the schema is at version {found}, this binary needs {needed}: run `awooop migrate`")]
    Schema {
        /// What the database has.
        found: i64,
        /// What the code needs.
        needed: i64,
    },
    /// The schema is newer than this binary, and not made for it too.
    #[error(
        "the schema is at version {found}, this binary knows {known}: start a server of the newer version"
    )]
    NewerSchema {
        /// What the database has.
        found: i64,
        /// What the code knows.
        known: i64,
    },
    /// The database cannot be reached or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The database as one node sees it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) app: Pool,
    /// How `app` connects.
    pub(crate) app_config: tokio_postgres::Config,
    pub(crate) dispatch: Pool,
    pub(crate) clock: Clock,
    pub(crate) keyring: Keyring,
    pub(crate) redactor: Redactor,
    pub(crate) known: Known,
    pub(crate) wake: Wake,
    pub(crate) announcer: Announcer,
    pub(crate) rates: Rates,
    pub(crate) dirty: Dirty,
    pub(crate) refusals: Refusals,
    pub(crate) key_uses: KeyUses,
    pub(crate) enqueues: Enqueues,
    pub(crate) progress: Progress,
    pub(crate) reads: Reads,
    pub(crate) figures: Figures,
    pub(crate) families: Sweeps,
    pub(crate) deletion_asked: tokio::sync::Notify,
    pub(crate) is_erasing: AtomicBool,
    pub(crate) exports: Arc<Semaphore>,
}

impl Store {
    /// Opens both pools, checks the roles and the schema's version.
    pub async fn open(urls: &DatabaseUrls, clock: Clock, keyring: Keyring) -> Result<Self, OpenError> {
        Self::open_with(urls, clock, keyring, Announcer::default()).await
    }

    /// The same, with a Redis: to announce what waits for people, and to count rates with other processes.
    pub async fn open_with(
        urls: &DatabaseUrls,
        clock: Clock,
        keyring: Keyring,
        announcer: Announcer,
    ) -> Result<Self, OpenError> {
        let app = pool("AWOOOP_DATABASE_URL", &urls.app, APP_CONNECTIONS)?;
        let app_config = parse_url("AWOOOP_DATABASE_URL", &urls.app)?;
        let dispatch = pool("AWOOOP_DISPATCH_DATABASE_URL", &urls.dispatch, DISPATCH_CONNECTIONS)?;
        refuse_unsafe("AWOOOP_DATABASE_URL", &app).await?;
        refuse_unsafe("AWOOOP_DISPATCH_DATABASE_URL", &dispatch).await?;
        check_schema(&app).await?;
        let (redactor, known, wake) = (Redactor::new(), Known::default(), Wake::default());
        let dirty = Dirty::default();
        let (refusals, key_uses) = (Refusals::default(), KeyUses::default());
        let (enqueues, progress) = (enqueue::lanes(), progress::lanes());
        let figures = Figures::default();
        let inner = Inner {
            app,
            app_config,
            dispatch,
            clock,
            keyring,
            redactor,
            known,
            wake,
            rates: Rates::new(&announcer),
            announcer,
            dirty,
            refusals,
            key_uses,
            enqueues,
            progress,
            reads: Reads::default(),
            figures,
            families: Sweeps::default(),
            deletion_asked: tokio::sync::Notify::new(),
            is_erasing: AtomicBool::new(false),
            exports: Arc::new(Semaphore::new(MOST_EXPORTS)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Time and ids.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The server's own keys.
    pub fn keyring(&self) -> &Keyring {
        &self.inner.keyring
    }

    /// What this process did since it began.
    pub fn figures(&self) -> &Figures {
        &self.inner.figures
    }

    /// Wake-ups.
    pub fn wake(&self) -> &Wake {
        &self.inner.wake
    }

    /// The redactor of credentials, for what belongs to no project.
    pub fn redactor(&self) -> &Redactor {
        &self.inner.redactor
    }

    /// Is the database answering?
    pub async fn ping(&self) -> Result<(), StoreError> {
        let connection = self.inner.app.get().await?;
        connection.simple_query("SELECT 1").await?;
        Ok(())
    }

    pub(crate) async fn app(&self) -> Result<Object, StoreError> {
        Ok(self.inner.app.get().await?)
    }

    pub(crate) async fn dispatch(&self) -> Result<Object, StoreError> {
        Ok(self.inner.dispatch.get().await?)
    }

    /// Closes both pools; connections that are in use end with their work.
    pub fn close(&self) {
        self.inner.app.close();
        self.inner.dispatch.close();
    }
}

/// Reads a URL or keyword/value string without repeating it in the error.
pub(crate) fn parse_url(
    variable: &'static str,
    url: &SecretString,
) -> Result<tokio_postgres::Config, OpenError> {
    let mut config: tokio_postgres::Config = url
        .expose_secret()
        .parse()
        .map_err(|e: tokio_postgres::Error| OpenError::Url { variable, reason: describe(&e) })?;
    config.application_name("awooop");
    config.connect_timeout(Duration::from_secs(5));
    notice_dead_peers(&mut config);
    let theirs = config.get_options().unwrap_or_default().to_owned();
    // of two settings of one name the later counts: times are the URL's to choose, the schema is not
    config.options(format!(
        "-c idle_in_transaction_session_timeout=30s -c statement_timeout=30s {theirs} -c search_path=awooop,pg_temp"
    ));
    Ok(config)
}

/// A host that vanished answers nothing, not even that a connection is closed. Within half a minute such a
/// connection breaks, so that no claim or heartbeat waits for it a quarter of an hour.
fn notice_dead_peers(config: &mut tokio_postgres::Config) {
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(15));
    }
    config.keepalives_idle(Duration::from_secs(10));
    config.keepalives_interval(Duration::from_secs(5));
    config.keepalives_retries(3);
}

fn describe(error: &tokio_postgres::Error) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

pub(crate) fn pool(variable: &'static str, url: &SecretString, size: usize) -> Result<Pool, OpenError> {
    let config = parse_url(variable, url)?;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = if wants_tls(&config) {
        Manager::from_config(config, tls(), recycling)
    } else {
        Manager::from_config(config, NoTls, recycling)
    };
    let built = Pool::builder(manager)
        .max_size(size)
        // the one used last, whose plans and catalogs are in its memory: taken in turn, all of them are cold
        .queue_mode(QueueMode::Lifo)
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .wait_timeout(Some(Duration::from_secs(10)))
        .create_timeout(Some(Duration::from_secs(10)))
        .build();
    Ok(built.expect("a pool with a runtime and timeouts builds"))
}

pub(crate) fn wants_tls(config: &tokio_postgres::Config) -> bool {
    config.get_ssl_mode() == SslMode::Require
        || (config.get_ssl_mode() == SslMode::Prefer
            && config.get_hosts().iter().any(|h| matches!(h, Host::Tcp(name) if !is_local(name))))
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub(crate) fn tls() -> tokio_postgres_rustls::MakeRustlsConnect {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tokio_postgres_rustls::MakeRustlsConnect::new(config)
}

/// A superuser, a role that bypasses row security, and the tables' owner (who could switch it off) could
/// all step over the wall between projects, so none of them may serve.
pub(crate) async fn refuse_unsafe(variable: &'static str, pool: &Pool) -> Result<(), OpenError> {
    let connection = pool.get().await.map_err(StoreError::from)?;
    let row = connection
        .query_one(
            "SELECT current_user::text, r.rolsuper, r.rolbypassrls,
                    EXISTS (SELECT FROM pg_roles o WHERE o.rolname = 'awooop_owner'
                            AND pg_has_role(current_user, o.oid, 'MEMBER'))
                    OR EXISTS (SELECT FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
                               WHERE s.nspname = 'awooop' AND pg_has_role(current_user, c.relowner, 'MEMBER'))
             FROM pg_roles r WHERE r.rolname = current_user",
            &[],
        )
        .await
        .map_err(StoreError::from)?;
    let reason = match (row.get::<_, bool>(1), row.get::<_, bool>(2), row.get::<_, bool>(3)) {
        (true, _, _) => "is a superuser",
        (_, true, _) => "may bypass row security",
        (_, _, true) => "owns the tables",
        _ => return Ok(()),
    };
    Err(OpenError::UnsafeRole { variable, role: row.get(0), reason })
}

async fn check_schema(pool: &Pool) -> Result<(), OpenError> {
    let connection = pool.get().await.map_err(StoreError::from)?;
    let found = match connection.query_one("SELECT awooop.schema_version()", &[]).await {
        Ok(row) => row.get(0),
        Err(e) if e.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_FUNCTION) => 0,
        Err(e) if e.code() == Some(&tokio_postgres::error::SqlState::INVALID_SCHEMA_NAME) => 0,
        Err(e) if e.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE) => 0,
        Err(e) => return Err(StoreError::from(e).into()),
    };
    let needed = crate::migrate::latest_version();
    match found {
        _ if found == needed => Ok(()),
        _ if found < needed => Err(OpenError::Schema { found, needed }),
        // an upgrade is under way: servers of the version before may start again until they are replaced
        _ if found == needed + 1 && compatible_from(&connection).await? <= needed => Ok(()),
        _ => Err(OpenError::NewerSchema { found, known: needed }),
    }
}

/// The oldest schema that a server may be made for to work with this one.
async fn compatible_from(connection: &Object) -> Result<i64, OpenError> {
    let row = connection.query_one("SELECT awooop.compatible_from()", &[]).await;
    Ok(row.map_err(StoreError::from)?.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_options_of_its_own_keeps_ours() {
        let options = |url: &str| {
            let config = parse_url("AWOOOP_DATABASE_URL", &SecretString::from(url)).unwrap();
            config.get_options().unwrap().to_owned()
        };
        assert!(options("postgres://h/d").contains("statement_timeout=30s"));
        let theirs = options("host=h options='-c statement_timeout=5s -c search_path=public'");
        assert!(theirs.find("statement_timeout=30s") < theirs.find("statement_timeout=5s"));
        assert!(theirs.ends_with("-c search_path=awooop,pg_temp"), "{theirs}");
    }
}
