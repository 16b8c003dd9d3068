//! A PostgreSQL for tests: the one that `with-postgres` started for a whole test run, or a private one of
//! this process when there is none.
//!
//! The shared one is named by `AWOOOP_TEST_CLUSTER`: JSON with a connection string a role. A private one
//! is a real embedded server in a temporary directory; it stops with the last handle. Passwords are random
//! and only on this machine's sockets. Fails with what to install when there is no PostgreSQL.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Context;
use awooop_store::embedded::{DataDir, EmbeddedPg, Role, find_postgres};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio_postgres::config::Host;

/// The environment variable that names a running cluster.
pub const CLUSTER_VARIABLE: &str = "AWOOOP_TEST_CLUSTER";

/// How to connect to a cluster, as each role. The strings name no database that matters: see
/// [`ClusterUrls::in_database`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterUrls {
    /// The superuser.
    pub admin: String,
    /// `awooop_owner`.
    pub owner: String,
    /// `awooop_app`.
    pub app: String,
    /// `awooop_dispatch`.
    pub dispatch: String,
    /// `awooop_retention`.
    pub retention: String,
    /// `awooop_backup`.
    pub backup: String,
}

impl ClusterUrls {
    /// The same with another database.
    pub fn in_database(&self, database: &str) -> ClusterUrls {
        let one = |text: &String| {
            let mut config: tokio_postgres::Config = text.parse().expect("connection strings were checked");
            config.dbname(database);
            conninfo(&config)
        };
        ClusterUrls {
            admin: one(&self.admin),
            owner: one(&self.owner),
            app: one(&self.app),
            dispatch: one(&self.dispatch),
            retention: one(&self.retention),
            backup: one(&self.backup),
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        for text in [&self.admin, &self.owner, &self.app, &self.dispatch, &self.retention, &self.backup] {
            text.parse::<tokio_postgres::Config>().context("a connection string does not parse")?;
        }
        Ok(())
    }
}

/// A cluster that runs at least as long as this handle.
#[derive(Debug)]
pub struct Cluster {
    urls: ClusterUrls,
    own: Option<Own>,
}

/// A server of this process. The fields are dropped in order: the server stops, then its files go.
#[derive(Debug)]
struct Own {
    pg: Stopping,
    _directory: TempDir,
}

/// Stops the server on drop and waits for it, so that its directory can be removed.
#[derive(Debug)]
struct Stopping(EmbeddedPg);

impl Drop for Stopping {
    fn drop(&mut self) {
        let pg = &self.0;
        std::thread::scope(|scope| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                // a thread of its own: a drop may happen inside another runtime, which must not block on one
                scope.spawn(move || runtime.block_on(pg.stop()));
            }
        });
    }
}

impl Cluster {
    /// The cluster of this test run; a private one of this process when there is none.
    pub async fn get() -> anyhow::Result<Arc<Cluster>> {
        if let Ok(text) = std::env::var(CLUSTER_VARIABLE) {
            let urls: ClusterUrls = serde_json::from_str(&text)
                .with_context(|| format!("{CLUSTER_VARIABLE} is not what with-postgres writes"))?;
            urls.check()?;
            return Ok(Arc::new(Cluster { urls, own: None }));
        }
        static MINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        static LAST: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let _one_starts = MINE.lock().await;
        let running = LAST.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(running) = running {
            return Ok(running);
        }
        let started = Arc::new(Cluster::start().await?);
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&started);
        Ok(started)
    }

    /// Starts a server in a temporary directory and makes the roles. `AWOOOP_PG_BIN` names its programs, if set.
    pub async fn start() -> anyhow::Result<Cluster> {
        let bin = find_postgres(std::env::var_os("AWOOOP_PG_BIN").map(PathBuf::from).as_deref())?;
        let directory = tempfile::Builder::new()
            .prefix("awooop-pg-")
            .permissions(PermissionsExt::from_mode(0o711))
            .tempdir()
            .context("no temporary directory")?;
        let data_dir = DataDir::open(&directory.path().join("data"))?;
        let pg = Stopping(EmbeddedPg::start(&bin, &data_dir).await?);
        let url = |role| conninfo(&pg.0.url(role));
        let urls = ClusterUrls {
            admin: url(Role::Admin),
            owner: url(Role::Owner),
            app: url(Role::App),
            dispatch: url(Role::Dispatch),
            retention: url(Role::Retention),
            backup: url(Role::Backup),
        };
        make_roles(&pg.0, &urls).await?;
        Ok(Cluster { urls, own: Some(Own { pg, _directory: directory }) })
    }

    /// How to connect, once a role.
    pub fn urls(&self) -> &ClusterUrls {
        &self.urls
    }

    /// The postmaster's process id, when the server is this process's own.
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.own.as_ref().and_then(|own| own.pg.0.postmaster_pid())
    }
}

/// The roles belong to the whole cluster; each database of the tests gets its own schema later.
async fn make_roles(pg: &EmbeddedPg, urls: &ClusterUrls) -> anyhow::Result<()> {
    let passwords: Vec<_> =
        Role::MIGRATED.into_iter().map(|role| (role.name(), pg.passwords().get(role).clone())).collect();
    awooop_store::migrate::create_roles(&urls.admin.clone().into(), &passwords).await?;
    Ok(())
}

/// A keyword/value connection string for a configuration. Holds the password.
pub fn conninfo(config: &tokio_postgres::Config) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, value: &str| {
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        parts.push(format!("{name}='{value}'"));
    };
    match config.get_hosts().first() {
        Some(Host::Tcp(name)) => part("host", name),
        Some(Host::Unix(path)) => part("host", &path.display().to_string()),
        None => {}
    }
    if let Some(port) = config.get_ports().first() {
        part("port", &port.to_string());
    }
    if let Some(user) = config.get_user() {
        part("user", user);
    }
    if let Some(password) = config.get_password() {
        part("password", &String::from_utf8_lossy(password));
    }
    if let Some(database) = config.get_dbname() {
        part("dbname", database);
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_reads_back_whatever_is_in_it() {
        let mut config = tokio_postgres::Config::new();
        config.host_path("/tmp/a b").port(5432).user("u'x").password("p\\w' d").dbname("db");
        let again: tokio_postgres::Config = conninfo(&config).parse().unwrap();
        assert_eq!(again.get_hosts(), config.get_hosts());
        assert_eq!(again.get_user(), Some("u'x"));
        assert_eq!(again.get_password(), Some("p\\w' d".as_bytes()));
        assert_eq!(again.get_dbname(), Some("db"));
        let urls = ClusterUrls {
            admin: conninfo(&config),
            owner: conninfo(&config),
            app: conninfo(&config),
            dispatch: conninfo(&config),
            retention: conninfo(&config),
            backup: conninfo(&config),
        };
        let other: tokio_postgres::Config = urls.in_database("other").app.parse().unwrap();
        assert_eq!((other.get_dbname(), other.get_user()), (Some("other"), Some("u'x")));
    }
}
