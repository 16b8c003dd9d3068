//! The pool: at most one live connection per spec, opened by whoever comes first and shared by all who
//! wait. A failed opening fails everybody who waited for it, once; the next call tries again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::config::UpstreamConfig;
use super::connection::Connection;
use super::error::{CallFailure, UpstreamError};
use super::open::open;
use super::spec::{Key, UpstreamSpec};
use super::tool::{ToolCallRequest, ToolDefinition, ToolResult};

/// Longest time `shutdown` waits for children to end; what is left then is killed when the runtime ends.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// A request that met an ended HTTP session is sent once more, in a new one.
const SESSIONS_TRIED: usize = 2;

type Opening = Shared<BoxFuture<'static, Result<Arc<Connection>, UpstreamError>>>;

/// The pool of upstream connections. A clone is the same pool; the last one dropped closes it.
#[derive(Clone)]
pub struct Upstreams {
    inner: Arc<Inner>,
}

struct Inner {
    config: UpstreamConfig,
    slots: Mutex<Slots>,
    closing: CancellationToken,
    tasks: TaskTracker,
    _close_on_drop: DropGuard,
}

#[derive(Default)]
struct Slots {
    by_key: HashMap<Key, Slot>,
    next_id: u64,
}

/// A connection, or the opening of one. `id` tells it from the one that takes its place.
struct Slot {
    id: u64,
    opening: Opening,
}

impl Slot {
    fn is_usable(&self) -> bool {
        match self.opening.peek() {
            None => true,
            Some(Ok(connection)) => !connection.is_retired(),
            Some(Err(_)) => false,
        }
    }
}

impl Upstreams {
    /// An empty pool. Needs no runtime yet; its methods do.
    pub fn new(config: UpstreamConfig) -> Self {
        let closing = CancellationToken::new();
        let inner = Inner {
            config,
            slots: Mutex::default(),
            _close_on_drop: closing.clone().drop_guard(),
            closing,
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The tools of a server, in its order. Cached per connection until the configured age or until the
    /// server says that its list changed.
    ///
    /// # Errors
    /// [`UpstreamError`]; a list that cannot be read is [`UpstreamError::Protocol`].
    pub async fn list_tools(&self, spec: &UpstreamSpec) -> Result<Arc<Vec<ToolDefinition>>, UpstreamError> {
        for _ in 0..SESSIONS_TRIED {
            if let Some(tools) = self.connection(spec).await?.tools().await? {
                return Ok(tools);
            }
        }
        Err(sessions_end())
    }

    /// Calls one tool with one upstream request. It is never sent again unless the server refused it unread
    /// because an HTTP session had ended. A JSON-RPC error of the server is a result with `is_error`.
    ///
    /// # Errors
    /// [`CallFailure`], when there is no result: it says whether the tool may have run.
    pub async fn call_tool(
        &self,
        spec: &UpstreamSpec,
        call: ToolCallRequest,
    ) -> Result<ToolResult, CallFailure> {
        for _ in 0..SESSIONS_TRIED {
            let connection = self.connection(spec).await.map_err(CallFailure::unsent)?;
            if let Some(result) = connection.call(call.clone()).await? {
                return Ok(result);
            }
        }
        Err(CallFailure::unsent(sessions_end()))
    }

    /// Closes every connection, ends every child and waits for that, at most ten seconds. Calls in flight
    /// and later ones fail with [`UpstreamError::Unreachable`].
    pub async fn shutdown(&self) {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        let _ = timeout(SHUTDOWN_LIMIT, self.inner.tasks.wait()).await;
    }

    async fn connection(&self, spec: &UpstreamSpec) -> Result<Arc<Connection>, UpstreamError> {
        let key = spec.key();
        let opening = {
            let mut slots = self.inner.slots();
            if self.inner.closing.is_cancelled() {
                return Err(shutting_down());
            }
            match slots.by_key.get(&key).filter(|slot| slot.is_usable()) {
                Some(slot) => slot.opening.clone(),
                None => {
                    slots.next_id += 1;
                    let slot = self.start(key.clone(), slots.next_id, spec.clone());
                    let opening = slot.opening.clone();
                    slots.by_key.insert(key, slot);
                    opening
                }
            }
        };
        opening.await
    }

    /// Starts the task that opens and then keeps a connection, so that a caller who leaves interrupts
    /// nobody else.
    fn start(&self, key: Key, id: u64, spec: UpstreamSpec) -> Slot {
        let (sender, receiver) = oneshot::channel();
        let span = spec.span();
        let serve = serve(
            Arc::downgrade(&self.inner),
            self.inner.config.clone(),
            self.inner.closing.clone(),
            Place { key, id },
            spec,
            sender,
        );
        super::spawn(span, self.inner.tasks.track_future(serve));
        let opening = async { receiver.await.unwrap_or_else(|_| Err(shutting_down())) };
        Slot { id, opening: opening.boxed().shared() }
    }
}

impl Inner {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a connection stands in the pool.
struct Place {
    key: Key,
    id: u64,
}

impl Place {
    fn leave(&self, pool: &Weak<Inner>) {
        let Some(pool) = pool.upgrade() else { return };
        let mut slots = pool.slots();
        if slots.by_key.get(&self.key).is_some_and(|slot| slot.id == self.id) {
            slots.by_key.remove(&self.key);
        }
    }
}

/// The life of one connection.
async fn serve(
    pool: Weak<Inner>,
    config: UpstreamConfig,
    closing: CancellationToken,
    place: Place,
    spec: UpstreamSpec,
    sender: oneshot::Sender<Result<Arc<Connection>, UpstreamError>>,
) {
    let opened = tokio::select! {
        opened = open(&spec, &config) => opened,
        () = closing.cancelled() => Err(shutting_down()),
    };
    match opened {
        Err(error) => {
            tracing::info!(%error, "the tool server could not be connected");
            place.leave(&pool);
            let _ = sender.send(Err(error));
        }
        Ok(opened) => {
            let (connection, keeper) = Connection::new(opened, config);
            let _ = sender.send(Ok(connection));
            keeper.keep(closing, || place.leave(&pool)).await;
        }
    }
}

fn sessions_end() -> UpstreamError {
    UpstreamError::unreachable("it ends every session at once")
}

fn shutting_down() -> UpstreamError {
    UpstreamError::unreachable("this process is shutting down")
}
