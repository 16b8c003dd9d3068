//! A migrated database for a test, and projects in it.
//!
//! A project is an isolation unit: most tests share one database and take a fresh project each, so that
//! every test is an isolation test. Tests that look across projects (claimer, reaper, doctor) take a
//! private database, cloned from a migrated template. Private databases are dropped with their handle.
//! Making the template is serialised by an advisory lock, because every test is a process of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use awooop_core::contract::{self, Manifest};
use awooop_core::ids::{PersonId, PrincipalId};
use awooop_core::role::Role;
use awooop_core::{AgentId, Mode, ProjectId};
use awooop_store::announce::Announcer;
use awooop_store::auth::{Caller, NewKey};
use awooop_store::contract::ApplyOptions;
use awooop_store::keyring::Keyring;
use awooop_store::run::NewRun;
use awooop_store::{Clock, DatabaseUrls, ProjectScope, Store};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::cluster::{Cluster, ClusterUrls};

/// The agent every test project has.
pub const AGENT: &str = "clerk";
const SHARED: &str = "awooop_test";
const LOCK: &str = "SELECT pg_advisory_lock(7166104)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(7166104)";

/// A database with the schema in it, and nothing else.
#[derive(Debug)]
pub struct TestDatabase {
    cluster: Arc<Cluster>,
    urls: ClusterUrls,
    name: String,
    is_private: bool,
}

impl TestDatabase {
    /// The database all tests share.
    pub async fn shared() -> anyhow::Result<TestDatabase> {
        Self::open(SHARED.to_owned(), false).await
    }

    /// A database of this test alone, dropped with the handle.
    pub async fn private() -> anyhow::Result<TestDatabase> {
        Self::open(format!("awooop_private_{:016x}", rand::random::<u64>()), true).await
    }

    async fn open(name: String, is_private: bool) -> anyhow::Result<TestDatabase> {
        let cluster = Cluster::get().await?;
        let admin = connect(&cluster.urls().in_database("postgres").admin).await?;
        admin.batch_execute(LOCK).await?;
        let made = async {
            let template = make_template(&admin, cluster.urls()).await?;
            if !exists(&admin, &name).await? {
                admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await?;
                // a copy has no privileges of the whole database
                admin.batch_execute(&format!("REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")).await?;
            }
            anyhow::Ok(())
        };
        let made = made.await;
        admin.batch_execute(UNLOCK).await?;
        made.context("the test database could not be made")?;
        let urls = cluster.urls().in_database(&name);
        Ok(TestDatabase { cluster, urls, name, is_private })
    }

    /// How to connect to it, once a role.
    pub fn urls(&self) -> &ClusterUrls {
        &self.urls
    }

    /// A raw connection as the superuser, who sees everything.
    pub async fn admin(&self) -> Client {
        connect(&self.urls.admin).await.expect("the superuser may connect")
    }

    /// A raw connection as the server's tenant role.
    pub async fn app(&self) -> Client {
        connect(&self.urls.app).await.expect("the app role may connect")
    }

    /// A raw connection as the server's discovery role.
    pub async fn dispatch(&self) -> Client {
        connect(&self.urls.dispatch).await.expect("the dispatch role may connect")
    }

    /// A raw connection as the tables' owner.
    pub async fn owner(&self) -> Client {
        connect(&self.urls.owner).await.expect("the owner may connect")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if !self.is_private {
            return;
        }
        let url = self.cluster.urls().in_database("postgres").admin;
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        std::thread::scope(|scope| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                scope.spawn(move || {
                    runtime.block_on(async {
                        if let Ok(admin) = connect(&url).await {
                            // what cannot be dropped goes with the cluster
                            let _ = admin.batch_execute(&sql).await;
                        }
                    });
                });
            }
        });
    }
}

async fn exists(admin: &Client, name: &str) -> anyhow::Result<bool> {
    let found = admin.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&name]).await?;
    Ok(found.is_some())
}

/// The template of this schema version; a half-made one of a killed test is thrown away.
async fn make_template(admin: &Client, urls: &ClusterUrls) -> anyhow::Result<String> {
    let template = format!("awooop_template_{}", awooop_store::migrate::latest_version());
    if exists(admin, &template).await? {
        return Ok(template);
    }
    let fresh = "awooop_template_new";
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {fresh} WITH (FORCE)")).await?;
    admin.batch_execute(&format!("CREATE DATABASE {fresh}")).await?;
    let inside = urls.in_database(fresh);
    awooop_store::migrate::create_roles(&inside.admin.into(), &[]).await?;
    awooop_store::migrate::migrate(&inside.owner.into()).await?;
    end_connections(admin, fresh).await?;
    admin.batch_execute(&format!("ALTER DATABASE {fresh} RENAME TO {template}")).await?;
    Ok(template)
}

/// A database in use can be neither renamed nor copied; those who made it may not have left yet.
async fn end_connections(admin: &Client, database: &str) -> anyhow::Result<()> {
    let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1";
    admin.query(end, &[&database]).await?;
    Ok(())
}

/// Connects and drives the connection until the client is dropped.
#[expect(clippy::disallowed_methods, reason = "test support: the driver's task belongs to no project")]
pub async fn connect(url: &str) -> anyhow::Result<Client> {
    let mut config: tokio_postgres::Config = url.parse().context("a connection string does not parse")?;
    config.options("-c search_path=awooop");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A store on a migrated database, with its keyring.
pub struct TestStore {
    /// The store as the server opens it.
    pub store: Store,
    /// The platform's admin key.
    pub platform_key: SecretString,
    database: TestDatabase,
    keys: TempDir,
}

/// A project made for a test, with the agent [`AGENT`] in it.
#[derive(Debug, Clone)]
pub struct TestProject {
    /// Its id.
    pub id: ProjectId,
    /// A key of its administrator.
    pub admin_key: SecretString,
    /// The administrator's scope.
    pub scope: ProjectScope,
    /// The administrator.
    pub caller: Caller,
}

/// A store on the shared database. Panics with the reason when there is none.
pub async fn test_store() -> TestStore {
    let database = TestDatabase::shared().await.expect("a shared test database");
    TestStore::open(database, Clock::system()).await.expect("the store opens")
}

impl TestStore {
    /// A store on a database of its own.
    pub async fn private() -> TestStore {
        Self::private_with(Clock::system()).await
    }

    /// A store on a database of its own, under this clock.
    pub async fn private_with(clock: Clock) -> TestStore {
        let database = TestDatabase::private().await.expect("a private test database");
        Self::open(database, clock).await.expect("the store opens")
    }

    /// Opens a store on `database` with a new keyring.
    pub async fn open(database: TestDatabase, clock: Clock) -> anyhow::Result<TestStore> {
        Self::open_with(database, clock, Announcer::default()).await
    }

    /// The same, with somewhere to announce what waits for people.
    pub async fn open_with(
        database: TestDatabase,
        clock: Clock,
        announcer: Announcer,
    ) -> anyhow::Result<TestStore> {
        let keys = tempfile::tempdir()?;
        let keyring = Keyring::load_or_create(keys.path(), clock.now())?;
        let urls = DatabaseUrls {
            app: database.urls().app.clone().into(),
            dispatch: database.urls().dispatch.clone().into(),
        };
        let store = Store::open_with(&urls, clock, keyring, announcer).await?;
        // the first call makes the platform; keys of other keyrings are of no use to this one
        let first = store.bootstrap().await?;
        let platform_key = match first {
            Some(key) => key,
            None => store.bootstrap_again().await?,
        };
        Ok(TestStore { store, platform_key, database, keys })
    }

    /// The database below, for raw SQL.
    pub fn database(&self) -> &TestDatabase {
        &self.database
    }

    /// Where the store's keyring lies.
    pub fn keys(&self) -> &Path {
        self.keys.path()
    }

    /// A further store on the same database and keyring, with connections of its own, such as through a proxy.
    pub async fn through(&self, urls: &ClusterUrls) -> Store {
        self.through_at(urls, self.store.clock().clone()).await
    }

    /// The same, with a clock of its own, as another machine has.
    pub async fn through_at(&self, urls: &ClusterUrls, clock: Clock) -> Store {
        let urls = DatabaseUrls { app: urls.app.clone().into(), dispatch: urls.dispatch.clone().into() };
        let keyring = Keyring::load(self.keys()).expect("the keyring was made");
        Store::open(&urls, clock, keyring).await.expect("the store opens")
    }

    /// A key of a person in a project; the principal bears the person's name.
    pub async fn key_of(&self, project: &TestProject, name: &str, role: Role) -> SecretString {
        let principal = PrincipalId::parse(name).expect("a principal's name");
        let person = Some(PersonId::parse(name).expect("a person's name"));
        let new = NewKey { person, ..NewKey::of_service(principal, role) };
        self.store.create_key(&project.scope, &new).await.expect("a key for a person").0
    }

    /// A person with a key in a project.
    pub async fn person(&self, project: &TestProject, name: &str, role: Role) -> Caller {
        let key = self.key_of(project, name, role).await;
        let found = self.store.authenticate(key.expose_secret()).await.expect("the database answers");
        found.expect("a new key works")
    }

    /// A fresh project without a token limit.
    pub async fn project(&self) -> TestProject {
        self.project_with(None, 3).await
    }

    /// A fresh project whose runs may use this many tokens together, and be claimed this often.
    pub async fn project_with(&self, tokens: Option<i64>, max_attempts: u32) -> TestProject {
        let id = ProjectId::parse(&format!("t-{:016x}", rand::random::<u64>())).expect("a project id");
        self.make(&id, tokens, max_attempts).await.expect("a project for a test")
    }

    async fn make(
        &self,
        id: &ProjectId,
        tokens: Option<i64>,
        max_attempts: u32,
    ) -> anyhow::Result<TestProject> {
        let operator = self.store.authenticate(self.platform_key.expose_secret()).await?;
        let operator = operator.context("the platform's key works")?;
        let inside = operator.act_in(id).context("a platform admin acts anywhere")?;
        let manifests = manifests(id, tokens, max_attempts)?;
        self.store.apply(&inside, &manifests, ApplyOptions::default()).await?;
        let principal = PrincipalId::parse("admin")?;
        let new = NewKey::of_service(principal, Role::Admin);
        let (admin_key, _) = self.store.create_key(inside.scope(), &new).await?;
        let admin = self.store.authenticate(admin_key.expose_secret()).await?;
        let caller = admin.context("a new key works")?;
        Ok(TestProject { id: id.clone(), admin_key, scope: caller.scope().clone(), caller })
    }
}

/// The agent of test projects.
pub fn agent_id() -> AgentId {
    AgentId::parse(AGENT).expect("a valid name")
}

/// A run of a test project's agent, as a request that asks for nothing special makes one.
pub async fn new_run(store: &Store, project: &TestProject) -> NewRun {
    let agent = store.find_agent(&project.scope, &agent_id()).await.expect("the database answers");
    let agent = agent.expect("the project's agent");
    NewRun {
        agent: agent_id(),
        agent_version_id: agent.version_id,
        mode: Mode::Shadow,
        priority: 5,
        trace_id: None,
        parent_run_id: None,
        retry_of: None,
        triggered_by: "a test".to_owned(),
        max_attempts: agent.spec.max_attempts,
        timeout: Duration::from_millis(agent.spec.timeout_ms),
        input: json!("a question"),
        idempotency: None,
    }
}

/// The manifests of a test project: itself, the offline planner, an agent without tools.
pub fn manifests(id: &ProjectId, tokens: Option<i64>, max_attempts: u32) -> anyhow::Result<Vec<Manifest>> {
    let mut project = json!({"display_name": "A test's project"});
    if let Some(tokens) = tokens {
        project["budget"] = json!({"tokens": tokens});
    }
    let agent = json!({
        "instructions": "Answer.", "model": "offline/planner", "output_schema": {"type": "object"},
        "max_attempts": max_attempts,
    });
    let provider = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    [("project", id.as_str(), project), ("provider", "offline", provider), ("agent", AGENT, agent)]
        .into_iter()
        .map(|(kind, name, spec)| manifest(json!({"kind": kind, "project": id, "id": name, "spec": spec})))
        .collect()
}

/// Reads a manifest that has to be valid.
pub fn manifest(document: Value) -> anyhow::Result<Manifest> {
    contract::parse(document).map_err(|found| anyhow::anyhow!("the manifest is not valid: {found:?}"))
}
