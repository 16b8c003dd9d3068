//! What a server says of a call while it makes it: progress and log messages, for those who want to hear it. They are
//! taken where messages are read, so that they keep their order and their members, and so that each belongs to a call:
//! in the answer's own stream by that stream, elsewhere by the call's progress token. What belongs to no call is nobody's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::RoleClient;
use rmcp::model::{ProgressToken, RequestId};
use rmcp::service::RequestHandle;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

/// Progress, as a notification's method.
pub const PROGRESS: &str = "notifications/progress";
/// A log message, as a notification's method.
pub const MESSAGE: &str = "notifications/message";

/// What a server says of a call before it answers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// [`PROGRESS`] or [`MESSAGE`].
    pub method: &'static str,
    /// Its params as they came, but for the progress token, which was ours.
    pub params: Map<String, Value>,
}

/// Where a call's notices go. One that has no room is dropped: nobody waits for who listens slowly.
pub type Notices = mpsc::Sender<Notice>;

/// Who listens, by request and by progress token.
#[derive(Debug, Clone, Default)]
pub(super) struct Hearers {
    listening: Arc<Mutex<Listening>>,
}

#[derive(Debug, Default)]
struct Listening {
    by_request: HashMap<RequestId, Notices>,
    by_token: HashMap<String, RequestId>,
}

impl Hearers {
    /// Listens for one request until the guard is dropped.
    pub(super) fn listen(&self, handle: &RequestHandle<RoleClient>, notices: Notices) -> Hearing {
        let token = text(&handle.progress_token);
        let mut listening = self.lock();
        listening.by_token.insert(token.clone(), handle.id.clone());
        listening.by_request.insert(handle.id.clone(), notices);
        Hearing { hearers: self.clone(), request: handle.id.clone(), token }
    }

    /// Does anybody listen?
    pub(super) fn are_any(&self) -> bool {
        !self.lock().by_request.is_empty()
    }

    /// Tells whom it concerns; `request` is the one in whose answer the message came.
    pub(super) fn hear(&self, request: Option<&RequestId>, message: Value) {
        let Value::Object(mut message) = message else { return };
        let method = match message.get("method").and_then(Value::as_str) {
            Some(PROGRESS) => PROGRESS,
            Some(MESSAGE) => MESSAGE,
            _ => return,
        };
        let Some(Value::Object(mut params)) = message.remove("params") else { return };
        let token = params.remove("progressToken").map(|token| token.to_string());
        let listening = self.lock();
        let request = request.or_else(|| listening.by_token.get(&token?));
        if let Some(notices) = request.and_then(|request| listening.by_request.get(request)) {
            // no room: whoever listens is slower than the server talks
            let _ = notices.try_send(Notice { method, params });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Listening> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(token: &ProgressToken) -> String {
    awooop_core::json::to_value(token).to_string()
}

/// Listens for as long as it lives.
#[derive(Debug)]
pub(super) struct Hearing {
    hearers: Hearers,
    request: RequestId,
    token: String,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        let mut listening = self.hearers.lock();
        listening.by_request.remove(&self.request);
        listening.by_token.remove(&self.token);
    }
}
