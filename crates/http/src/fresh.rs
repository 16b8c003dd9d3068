//! One answer for all who ask within about a second. What everybody may ask without a key, and the database has to answer,
//! is asked by one at a time: those who come meanwhile wait for that answer, and those who come soon after get the same.
//! So a flood costs the database what one prober a second does, and whoever asks in earnest waits for one answer at most.
//!
//! The question goes on without whoever put it: a caller who goes away makes nobody ask again. An answer that says that
//! it failed is an answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use awooop_store::{StoreError, scope};
use tokio::sync::Mutex;

use crate::problem::Problem;

/// How long an answer is given again.
pub(crate) const FRESH_FOR: Duration = Duration::from_secs(1);

type Answer<V> = Result<V, Problem>;
/// An answer and when it was there.
type Dated<V> = (Instant, Answer<V>);

/// The last answer to one question.
#[derive(Debug)]
pub(crate) struct Fresh<V> {
    fresh_for: Duration,
    last: Arc<Mutex<Option<Dated<V>>>>,
}

impl<V: Clone + Send + 'static> Fresh<V> {
    /// Nothing was asked so far. An answer is given again for `fresh_for` from when it was there.
    pub(crate) fn new(fresh_for: Duration) -> Self {
        Self { fresh_for, last: Arc::default() }
    }

    /// The last answer, or that to asking now.
    pub(crate) async fn get<F>(&self, ask: impl FnOnce() -> F) -> Answer<V>
    where
        F: Future<Output = Answer<V>> + Send + 'static,
    {
        let mut last = self.last.clone().lock_owned().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < self.fresh_for
        {
            return answer.clone();
        }
        let asking = ask();
        let asked = scope::spawn_service(scope::Service::Ask, async move {
            let answer = asking.await;
            *last = Some((Instant::now(), answer.clone()));
            answer
        });
        asked.await.unwrap_or_else(|lost| Err(StoreError::Unavailable(Box::new(lost)).into()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use awooop_core::ErrorCode;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_flood_asks_once_and_everybody_has_the_answer() {
        let (fresh, asked) = (Fresh::new(LONG), Arc::new(AtomicUsize::new(0)));
        let get = || {
            let asked = asked.clone();
            fresh.get(async move || {
                tokio::task::yield_now().await;
                Ok(asked.fetch_add(1, Ordering::Relaxed))
            })
        };
        let answers = futures::future::join_all((0..1_000).map(|_| get())).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(0))), "{answers:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_goes_away_makes_nobody_ask_again_and_a_refusal_is_an_answer() {
        let (fresh, asked) = (Fresh::<()>::new(LONG), Arc::new(AtomicUsize::new(0)));
        let answer = Arc::new(tokio::sync::Notify::new());
        let get = || {
            let (asked, answer) = (asked.clone(), answer.clone());
            fresh.get(async move || {
                asked.fetch_add(1, Ordering::Relaxed);
                answer.notified().await;
                Err(Problem::new(ErrorCode::Store001, "away"))
            })
        };
        for _ in 0..100 {
            // polled once, then dropped
            assert!(futures::FutureExt::now_or_never(get()).is_none());
        }
        answer.notify_one();
        for _ in 0..2 {
            assert_eq!(get().await.unwrap_err().code(), ErrorCode::Store001);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_is_no_longer_fresh_is_asked_again() {
        let (fresh, asked) = (Fresh::new(Duration::ZERO), Arc::new(AtomicUsize::new(0)));
        for n in 0..3 {
            let asked = asked.clone();
            let answer = fresh.get(async move || Ok(asked.fetch_add(1, Ordering::Relaxed))).await;
            assert_eq!(answer.unwrap(), n);
        }
    }
}
