//! One node: store, gateway, and, as its role says, the worker and the HTTP server. Ends by SIGTERM or
//! Ctrl-C with a drain: no new work, runs end or are given back, answers are finished, exit 0. A second
//! signal ends at once with 130.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use awooop_gateway::{Gateway, Operator};
use awooop_http::{AppState, Edge, EdgeConfig};
use awooop_store::Store;
use awooop_store::audit::{Sealer, SealerConfig};
use awooop_store::claim::Worker;
use awooop_worker::WorkerConfig;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::separate::SeparateWorker;

/// How long open answers may take at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What a node is made of.
pub(super) struct Node {
    pub(super) store: Store,
    pub(super) operator: Operator,
    /// Who carries out runs, if this node does.
    pub(super) worker: Option<Worker>,
    /// Who does so instead, in a process beside this one.
    pub(super) separate: Option<SeparateWorker>,
    /// The worker's numbers.
    pub(super) config: WorkerConfig,
    /// Who deletes what has expired in a database of our own.
    pub(super) retention: Option<SecretString>,
    /// Where HTTP is answered, if this node does.
    pub(super) listener: Option<TcpListener>,
    /// What is answered there.
    pub(super) answers: Answers,
    /// What is let in there.
    pub(super) edge: EdgeConfig,
    /// Names by which others reach it.
    pub(super) public_hosts: Vec<String>,
}

/// What a node answers by HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// The whole interface.
    Everything,
    /// Whether it lives, whether it can work, and its figures.
    Health,
}

impl Node {
    /// Serves until a signal; `ready` is called once everything is started.
    pub(super) async fn serve(self, ready: impl FnOnce()) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::listen()?;
        // before anything is written by it: this machine's may be off by minutes
        self.store.set_clock().await?;
        let followed = self.store.clone();
        let following =
            awooop_store::scope::spawn_service(awooop_store::scope::Service::Keyring, async move {
                followed.follow_keys().await
            });
        let sharing = awooop_store::scope::spawn_service(
            awooop_store::scope::Service::Wakes,
            self.store.clone().share_wakes(),
        );
        // a worker's beats set it
        let keeping = self.worker.is_none().then(|| {
            awooop_store::scope::spawn_service(
                awooop_store::scope::Service::Clock,
                self.store.clone().keep_clock(),
            )
        });
        let counting = awooop_store::scope::spawn_service(
            awooop_store::scope::Service::Storage,
            self.store.clone().keep_counting_storage(),
        );
        let sealing = CancellationToken::new();
        let sealer = Sealer::new(self.store.clone(), SealerConfig::default());
        let sealer = awooop_store::scope::spawn_service(
            awooop_store::scope::Service::Sealer,
            sealer.run(sealing.clone()),
        );
        let sealed = CancellationToken::new();
        let for_audit = super::audit::start(&self.store, self.retention.clone(), sealed.clone()).await?;
        let for_runs = super::retention::start(&self.store, self.retention.clone()).await?;
        let erasing = super::deletion::start(&self.store, self.retention).await?;
        let gateway = Gateway::new(self.store.clone(), self.operator);
        let draining = CancellationToken::new();
        let watching = gateway.clone().watch_stops(sealing.clone());
        let watching = awooop_store::scope::spawn_service(awooop_store::scope::Service::Stops, watching);
        let worker =
            self.worker.map(|me| awooop_worker::start(self.store.clone(), gateway.clone(), me, self.config));
        let certificate = self.edge.tls.clone();
        let certificate = certificate.map(|tls| {
            awooop_store::scope::spawn_service(awooop_store::scope::Service::Certificate, tls.follow())
        });
        let server = match self.listener {
            None => None,
            Some(listener) => {
                let mut hosts = self.public_hosts;
                hosts.push(listener.local_addr()?.to_string());
                let edge = Edge::new(self.edge);
                let state = AppState::new(self.store.clone(), gateway.clone(), hosts, draining.clone());
                let state = state.behind(edge.clone());
                let router = match self.answers {
                    Answers::Everything => awooop_http::router(state),
                    Answers::Health => awooop_http::health_router(state),
                };
                let serve = awooop_http::serve(listener, router, edge, draining.clone());
                Some(awooop_store::scope::spawn_service(awooop_store::scope::Service::Http, serve))
            }
        };
        ready();
        signals.wait().await;
        tracing::info!("stopping: no new work, runs end or are given back");
        draining.cancel();
        following.abort();
        erasing.abort();
        counting.abort();
        for_audit
            .retention
            .iter()
            .chain(&for_runs)
            .chain(&keeping)
            .chain(&certificate)
            .for_each(tokio::task::JoinHandle::abort);
        let drain = async {
            if let Some(worker) = worker {
                worker.drain().await;
            }
            if let Some(worker) = self.separate {
                worker.stop().await;
            }
            if let Some(server) = server {
                // what is still open after a while is cut: the process ends
                let _ = tokio::time::timeout(CLOSE_WITHIN, server).await;
            }
            gateway.shutdown().await;
            watching.abort();
            sharing.abort();
            // last of all, so that what was written until now is sealed
            sealing.cancel();
            let _ = tokio::time::timeout(CLOSE_WITHIN, sealer).await;
            sealed.cancel();
            if let Some(heads) = for_audit.heads {
                let _ = tokio::time::timeout(CLOSE_WITHIN, heads).await;
            }
            self.store.close();
        };
        tokio::select! {
            () = drain => Ok(ExitCode::SUCCESS),
            () = signals.wait() => Ok(ExitCode::from(130)),
        }
    }
}

/// SIGTERM and Ctrl-C.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
