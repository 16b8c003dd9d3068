//! `awooop dev`: everything in one process on 127.0.0.1, with a real PostgreSQL as its child, or one that the
//! environment names. Writes `dev.env`, which the command line reads.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use awooop_core::{ProjectId, key};
use awooop_store::claim::Worker;
use awooop_store::embedded::{DataDir, EmbeddedPg, Role, find_postgres};
use awooop_store::keyring::Keyring;
use awooop_store::{Clock, DatabaseUrls, Store, migrate};
use awooop_worker::WorkerConfig;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;

use super::node::{Answers, Node};
use super::separate::SeparateWorker;
use super::{announcer, logging, operator, required, seconds, setting};
use crate::cli::DevArgs;
use crate::output::write_raw;
use crate::settings::default_data_dir;

/// The database: ours, or one that the environment names.
struct Database {
    urls: DatabaseUrls,
    owner: SecretString,
    embedded: Option<EmbeddedPg>,
}

/// Starts everything and serves until a signal.
pub(crate) async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    logging::start("warn");
    let path =
        args.data_dir.or_else(default_data_dir).context("no home directory is known: name a --data-dir")?;
    let external = setting("AWOOOP_DATABASE_URL").is_some();
    let bin = match external {
        true => None,
        false => match find_postgres(std::env::var_os("AWOOOP_PG_BIN").map(PathBuf::from).as_deref()) {
            Ok(bin) => Some(bin),
            Err(missing) => {
                crate::output::note(&format!("error: {missing}"));
                return Ok(ExitCode::from(3));
            }
        },
    };
    let data = DataDir::open(&path)?;
    let listener = TcpListener::bind(("127.0.0.1", args.port)).await.with_context(|| {
        format!("port {} on 127.0.0.1 cannot be had; name another with --port", args.port)
    })?;
    let database = match bin {
        Some(bin) => embedded(&data, EmbeddedPg::start(&bin, &data).await?).await?,
        None => external_database()?,
    };
    migrate::migrate(&database.owner).await?;
    let clock = Clock::system();
    let keyring = Keyring::load_or_create(&data.keys(), clock.now())?;
    logging::tag_with(keyring.log_tag_key());
    let store = Store::open_with(&database.urls, clock, keyring, announcer()?).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let admin = admin_key(&store, data.path()).await?;
    let env = format!("AWOOOP_URL={url}\nAWOOOP_KEY={}\n", admin.expose_secret());
    let list = data.path().join("operator.toml");
    if !list.exists() {
        data.write_private("operator.toml", operator::DEV_LIST.as_bytes())?;
    }
    let operator = operator::for_dev(&list)?;
    let identity = data.next_incarnation()?;
    let banner = banner(&url, data.path(), &database, &operator, began);
    let (worker, separate) = match args.separate_worker {
        false => (Some(Worker { id: identity.id, incarnation: identity.incarnation }), None),
        true => (None, Some(SeparateWorker::start(&data, &database.urls, &operator)?)),
    };
    let retention = database.embedded.as_ref().map(|pg| pg.connection(Role::Retention));
    let node = Node {
        store,
        operator,
        worker,
        separate,
        config: WorkerConfig::default(),
        retention,
        listener: Some(listener),
        answers: Answers::Everything,
        edge: super::edge::of_this_machine(),
        public_hosts: Vec::new(),
    };
    data.write_private("dev.env", env.as_bytes())?;
    data.announce_url(&url)?;
    let code = node.serve(|| write_raw(&banner)).await;
    if let Some(pg) = database.embedded {
        pg.stop().await;
    }
    code
}

/// The passwords of every role that the migrations know.
pub(super) fn passwords(pg: &EmbeddedPg) -> Vec<migrate::RolePassword> {
    Role::MIGRATED.iter().map(|role| (role.name(), pg.passwords().get(*role).clone())).collect()
}

/// Makes the roles and writes down, for `doctor` and `backup`, how to connect.
async fn embedded(data: &DataDir, pg: EmbeddedPg) -> anyhow::Result<Database> {
    migrate::create_roles(&pg.connection(Role::Admin), &passwords(&pg)).await?;
    let urls = DatabaseUrls { app: pg.connection(Role::App), dispatch: pg.connection(Role::Dispatch) };
    let (app, dispatch) = (urls.app.expose_secret(), urls.dispatch.expose_secret());
    let backup = pg.connection(Role::Backup);
    let known = serde_json::json!({"app": app, "dispatch": dispatch, "backup": backup.expose_secret()});
    data.write_private("keys/database.json", known.to_string().as_bytes())?;
    Ok(Database { urls, owner: pg.connection(Role::Owner), embedded: Some(pg) })
}

fn external_database() -> anyhow::Result<Database> {
    let urls = DatabaseUrls {
        app: required("AWOOOP_DATABASE_URL")?,
        dispatch: required("AWOOOP_DISPATCH_DATABASE_URL")?,
    };
    Ok(Database { urls, owner: required("AWOOOP_OWNER_DATABASE_URL")?, embedded: None })
}

/// The platform admin's key: the one of the last start while it works, else a new one.
async fn admin_key(store: &Store, data_dir: &Path) -> anyhow::Result<SecretString> {
    if let Some(first) = store.bootstrap().await? {
        return Ok(first);
    }
    let text = std::fs::read_to_string(data_dir.join("dev.env")).unwrap_or_default();
    let former = text.lines().find_map(|line| line.strip_prefix("AWOOOP_KEY="));
    if let Some(former) = former
        && key::parse(former).is_some_and(|k| k.project == ProjectId::platform())
        && store.authenticate(former).await?.is_some_and(|caller| caller.is_platform_admin())
    {
        return Ok(former.into());
    }
    Ok(store.bootstrap_again().await?)
}

fn banner(
    url: &str,
    data_dir: &Path,
    database: &Database,
    list: &awooop_gateway::Operator,
    began: Instant,
) -> String {
    let database = match &database.embedded {
        Some(pg) => format!("its own PostgreSQL ({})", pg.conninfo(Role::App)),
        None => "the PostgreSQL of AWOOOP_DATABASE_URL".to_owned(),
    };
    let allowed: String = operator::describe(list).iter().map(|line| format!("  - {line}\n")).collect();
    let dir = data_dir.display();
    let flag = match default_data_dir().as_deref() == Some(data_dir) {
        true => String::new(),
        false => format!(" --data-dir {dir}"),
    };
    format!(
        "AwoooP {} is ready after {}\n\
         \n\
         API        {url}/v1/platform/runs\n\
         MCP        {url}/mcp\n\
         OpenAPI    {url}/openapi.json\n\
         database   {database}\n\
         data       {dir} (address and admin key in dev.env)\n\
         settings   set -a; . {dir}/dev.env; set +a\n\
         \n\
         This host allows (operator.toml):\n{allowed}\
         \n\
         Try, in another terminal:\n\
         \x20 awooop apply -f examples/ewoooc{flag}\n\
         \x20 awooop run shop-analyst \"Who were the top 3 customers in 1997?\" --project ewoooc{flag}\n\
         \x20 awooop mcp config --client claude-code --agent shop-analyst --project ewoooc{flag}\n\
         \n\
         Ctrl-C stops: runs end or are given back first.\n",
        env!("CARGO_PKG_VERSION"),
        seconds(began),
    )
}
