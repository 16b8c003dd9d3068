//! `awooop serve`: a node against a PostgreSQL that somebody else runs. Takes nothing for granted: it needs
//! both database roles, a keyring, and for tool servers an operator's list.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use awooop_store::claim::Worker;
use awooop_store::embedded::DataDir;
use awooop_store::keyring::Keyring;
use awooop_store::{Clock, DatabaseUrls, Store};
use awooop_worker::WorkerConfig;
use tokio::net::TcpListener;

use super::node::{Answers, Node};
use super::{announcer, logging, operator, required, seconds};
use crate::cli::{ServeArgs, ServeRole};
use crate::output::note;
use crate::settings::default_data_dir;

/// Where a server answers that is not told where.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7700);

/// Serves until a signal.
pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    logging::start("info");
    let urls = DatabaseUrls {
        app: required("AWOOOP_DATABASE_URL")?,
        dispatch: required("AWOOOP_DISPATCH_DATABASE_URL")?,
    };
    let keys = args
        .keys
        .context("--keys names the directory of the keyring; `awooop migrate --keys DIR` makes it")?;
    let keyring = Keyring::load(&keys)?;
    logging::tag_with(keyring.log_tag_key());
    let operator = match &args.operator {
        Some(path) => operator::read(path)?,
        None => operator::none()?,
    };
    let edge = super::edge::config(&args.edge, &Clock::system())?;
    let store = Store::open_with(&urls, Clock::system(), keyring, announcer()?).await?;
    let has_worker = args.role != ServeRole::Api;
    let (worker, _data) = if has_worker { identity(args.data_dir)? } else { (None, None) };
    let listener = listener(args.role, args.listen).await?;
    let place = match &listener {
        Some(listener) => {
            let scheme = if edge.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", listener.local_addr()?)
        }
        None => "as a worker".to_owned(),
    };
    let config = WorkerConfig {
        slots: usize::from(args.slots),
        drain_for: Duration::from_secs(args.drain_for),
        ..WorkerConfig::default().with_silence(Duration::from_secs(args.silent_after))
    };
    let answers = if args.role == ServeRole::Worker { Answers::Health } else { Answers::Everything };
    let node = Node {
        store,
        operator,
        worker,
        separate: None,
        config,
        retention: None,
        listener,
        answers,
        edge,
        public_hosts: args.edge.public_hosts,
    };
    let serving = node.serve(|| note(&format!("AwoooP serves {place} after {}", seconds(began))));
    if !args.end_with_stdin {
        return serving.await;
    }
    tokio::select! {
        code = serving => code,
        () = end_of_stdin() => Ok(ExitCode::FAILURE),
    }
}

/// Where HTTP is answered; a worker answers only where it is told to.
async fn listener(role: ServeRole, address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let address = match (address, role) {
        (None, ServeRole::Worker) => return Ok(None),
        (given, _) => given.unwrap_or(DEFAULT_ADDRESS),
    };
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("{address} cannot be listened on")).map(Some)
}

/// Waits until whoever holds the other end of standard input is gone.
async fn end_of_stdin() {
    let (ended, end) = tokio::sync::oneshot::channel();
    // a thread of its own: the runtime would wait at its end for one of its own that reads
    std::thread::spawn(move || {
        // whatever it reads, and however that ends
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}

/// Who this worker is. Under a data directory's lock it keeps its id over restarts, and so takes its former
/// runs back at once; without one it is new each time, and they wait until it is known to be silent.
fn identity(data_dir: Option<PathBuf>) -> anyhow::Result<(Option<Worker>, Option<DataDir>)> {
    match data_dir.or_else(default_data_dir) {
        Some(path) => {
            let data = DataDir::open(&path)?;
            let node = data.next_incarnation()?;
            Ok((Some(Worker { id: node.id, incarnation: node.incarnation }), Some(data)))
        }
        None => {
            let id = Clock::system().new_id().to_string();
            Ok((Some(Worker { id, incarnation: 1 }), None))
        }
    }
}
