//! The answer to a call: JSON, or from the first thing that its tool's server says of it an event stream, which ends with
//! the answer. Progress goes to who gave a token for it, under that token.

use std::convert::Infallible;

use awooop_gateway::upstream::{MESSAGE, Notice, PROGRESS};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

/// Severities of log messages, least first (RFC 5424).
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// What a client wants to hear of its call before the answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Wishes {
    /// The token under which it hears of progress.
    pub(super) progress_token: Option<Value>,
    /// The least severity of log messages; none without it.
    pub(super) log_level: Option<String>,
}

impl Wishes {
    /// Is there anything it wants to hear?
    pub(super) fn are_any(&self) -> bool {
        self.progress_token.is_some() || self.log_level.is_some()
    }

    /// The notice as a message to this client, if it wants it.
    fn message(&self, notice: Notice) -> Option<Value> {
        let mut params = notice.params;
        match notice.method {
            PROGRESS => drop(params.insert("progressToken".to_owned(), self.progress_token.clone()?)),
            MESSAGE => {
                let rank = |level: &str| LEVELS.iter().position(|known| *known == level);
                let said = rank(params.get("level").and_then(Value::as_str)?)?;
                if said < rank(self.log_level.as_deref()?)? {
                    return None;
                }
            }
            _ => return None,
        }
        Some(json!({"jsonrpc": "2.0", "method": notice.method, "params": params}))
    }
}

/// Answers with what the call gives, after what is told of it meanwhile.
pub(super) async fn with_notices(
    wishes: Wishes,
    mut told: Receiver<Notice>,
    answer: impl Future<Output = Value> + Send + 'static,
) -> Response {
    let mut answer = Box::pin(answer);
    let first = loop {
        tokio::select! {
            biased;
            notice = told.recv() => match notice.map(|notice| wishes.message(notice)) {
                Some(Some(first)) => break first,
                Some(None) => {}
                // nothing more will be told
                None => return axum::Json(answer.await).into_response(),
            },
            said = &mut answer => return axum::Json(said).into_response(),
        }
    };
    let notices = futures::stream::unfold((told, wishes), async |(mut told, wishes)| {
        loop {
            if let Some(message) = wishes.message(told.recv().await?) {
                return Some((message, (told, wishes)));
            }
        }
    });
    // the call lets go of its end when it is over: the answer comes last
    let messages = futures::stream::iter([first]).chain(notices).chain(futures::stream::once(answer));
    let events = messages.map(|message| Ok::<_, Infallible>(Event::default().data(message.to_string())));
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(method: &'static str, params: &Value) -> Notice {
        Notice { method, params: params.as_object().cloned().unwrap() }
    }

    #[test]
    fn a_client_hears_what_it_asked_for_and_nothing_else() {
        let progress = notice(PROGRESS, &json!({"progress": 1, "total": 2}));
        let log = notice(MESSAGE, &json!({"level": "info", "data": "x"}));
        let none = Wishes::default();
        assert!(!none.are_any());
        assert_eq!((none.message(progress.clone()), none.message(log.clone())), (None, None));
        let token = Wishes { progress_token: Some(json!("mine")), log_level: None };
        let told = token.message(progress.clone()).unwrap();
        assert_eq!(told["params"], json!({"progress": 1, "total": 2, "progressToken": "mine"}));
        assert_eq!(token.message(log.clone()), None);
        let level = |level: &str| Wishes { progress_token: None, log_level: Some(level.to_owned()) };
        assert!(
            level("debug").message(log.clone()).is_some() && level("info").message(log.clone()).is_some()
        );
        assert_eq!((level("error").message(log.clone()), level("loud").message(log)), (None, None));
        assert_eq!(level("debug").message(notice(MESSAGE, &json!({"level": "loud"}))), None);
    }
}
