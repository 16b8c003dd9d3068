//! What a tool's server says of a call while it makes it, on its way to whoever asked: redacted like a result, bounded in
//! number and length, and dropped where they do not keep up.

use std::pin::pin;

use awooop_redact::CleanJson;
use awooop_store::redaction::Direction;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::upstream::{Notice, Notices};

/// Notices of one call that are told, and one.
const MOST: u32 = 1_001;
/// Characters of one notice's params.
const MOST_CHARS: usize = 4_096;
/// Notices that may lie between the server's talk and who listens.
const ROOM: usize = 64;

/// A channel for one call's notices.
pub fn notices() -> (Notices, mpsc::Receiver<Notice>) {
    mpsc::channel(ROOM)
}

/// Makes the call, and tells what is heard of it meanwhile.
pub(crate) async fn while_telling<T>(
    call: impl Future<Output = T>,
    heard: &mut mpsc::Receiver<Notice>,
    listener: &Notices,
    way: &Direction,
) -> T {
    let mut call = pin!(call);
    let mut left = MOST;
    let mut tell = |notice| {
        left = left.saturating_sub(1);
        if left > 0
            && let Some(notice) = shown(way, notice)
        {
            let _ = listener.try_send(notice);
        }
    };
    loop {
        tokio::select! {
            biased;
            Some(notice) = heard.recv() => tell(notice),
            answer = &mut call => {
                // what was said before the answer is told before it
                while let Ok(notice) = heard.try_recv() {
                    tell(notice);
                }
                return answer;
            }
        }
    }
}

/// As it may be shown; none that is too long, or holds what may not go this way.
fn shown(way: &Direction, notice: Notice) -> Option<Notice> {
    let params = way.json(Value::Object(notice.params)).map(CleanJson::into_inner).ok()?;
    if params.to_string().chars().count() > MOST_CHARS {
        return None;
    }
    match params {
        Value::Object(params) => Some(Notice { params, ..notice }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::PROGRESS;
    use awooop_redact::{Action, Redactor, Rules};
    use serde_json::json;

    fn notice(message: &str) -> Notice {
        let params = json!({"progress": 1, "message": message}).as_object().cloned().unwrap();
        Notice { method: PROGRESS, params }
    }

    async fn told(said: Vec<Notice>) -> Vec<String> {
        let rules = Rules::credentials().pattern("ORDER_NO", "EW-[0-9]{8}", Action::Block).unwrap();
        let way = Direction::of(Redactor::with(rules));
        let (listener, mut told) = mpsc::channel(2_000);
        let (sender, mut heard) = mpsc::channel(2_000);
        for notice in said {
            sender.try_send(notice).unwrap();
        }
        assert_eq!(while_telling(async { 7 }, &mut heard, &listener, &way).await, 7);
        drop(listener);
        let mut messages = Vec::new();
        while let Some(notice) = told.recv().await {
            messages.push(notice.params["message"].as_str().unwrap().to_owned());
        }
        messages
    }

    #[tokio::test]
    async fn what_is_told_is_redacted_and_bounded() {
        let key = format!("AKIA{}", "ABCDEFGHIJKLMNOP");
        let long = "x".repeat(MOST_CHARS);
        let heard =
            told(vec![notice("one"), notice(&key), notice("EW-20260504"), notice(&long), notice("two")]);
        let heard = heard.await;
        assert_eq!((heard.len(), heard[0].as_str(), heard[2].as_str()), (3, "one", "two"), "{heard:?}");
        assert!(!heard[1].contains("AKIA"));
        assert_eq!(told(vec![notice("again"); 1_500]).await.len(), 1_000);
    }
}
