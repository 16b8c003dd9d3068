//! Values that cost a request: fetched once for all who ask at a time, and kept for as long as their fetch said.
//!
//! Whoever waited for a fetch gets what came of it, its failure as well; whoever asks after a failure tries anew.
//! Nothing is written anywhere, and what has expired goes with the next new value.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};

use super::CredentialError;

type Places<K, V> = HashMap<K, Arc<Place<V>>>;

/// Values by key.
pub(super) struct Kept<K, V> {
    places: Mutex<Places<K, V>>,
}

struct Place<V> {
    fetches: AtomicU64,
    state: tokio::sync::Mutex<Option<Fetched<V>>>,
}

enum Fetched<V> {
    Value(V, Instant),
    Failed(CredentialError),
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { places: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Kept<K, V> {
    /// The value of `key`, by `fetch` when none is kept; `fetch` says how long it may be.
    pub(super) async fn get(
        &self,
        key: K,
        fetch: impl AsyncFnOnce() -> Result<(V, Duration), CredentialError>,
    ) -> Result<V, CredentialError> {
        let place = self.place(key);
        let before = place.fetches.load(Ordering::Acquire);
        let mut state = place.state.lock().await;
        let was_fetched_meanwhile = place.fetches.load(Ordering::Acquire) != before;
        match state.as_ref() {
            Some(Fetched::Value(value, until)) if Instant::now() < *until => return Ok(value.clone()),
            Some(Fetched::Failed(error)) if was_fetched_meanwhile => return Err(error.clone()),
            _ => {}
        }
        let fetched = fetch().await;
        place.fetches.fetch_add(1, Ordering::AcqRel);
        match fetched {
            Ok((value, keep)) => {
                *state = Some(Fetched::Value(value.clone(), Instant::now() + keep));
                Ok(value)
            }
            Err(error) => {
                *state = Some(Fetched::Failed(error.clone()));
                Err(error)
            }
        }
    }

    /// Lets go of the value of `key`.
    pub(super) async fn forget(&self, key: &K) {
        let place = self.places().get(key).cloned();
        if let Some(place) = place {
            *place.state.lock().await = None;
        }
    }

    fn place(&self, key: K) -> Arc<Place<V>> {
        let mut places = self.places();
        if let Some(place) = places.get(&key) {
            return Arc::clone(place);
        }
        let now = Instant::now();
        // one that is locked is in use
        places.retain(|_, place| {
            place.state.try_lock().map_or(true, |state| match state.as_ref() {
                Some(Fetched::Value(_, until)) => now < *until,
                Some(Fetched::Failed(_)) | None => Arc::strong_count(place) > 1,
            })
        });
        let place = Arc::new(Place { fetches: AtomicU64::new(0), state: tokio::sync::Mutex::new(None) });
        places.insert(key, Arc::clone(&place));
        place
    }

    fn places(&self) -> MutexGuard<'_, Places<K, V>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> Kept<K, SecretString> {
    /// Lets go of this value wherever a key like that has it.
    pub(super) async fn forget_value(&self, is_meant: impl Fn(&K) -> bool, value: &SecretString) {
        let meant: Vec<_> = self
            .places()
            .iter()
            .filter(|(key, _)| is_meant(key))
            .map(|(_, place)| Arc::clone(place))
            .collect();
        for place in meant {
            let mut state = place.state.lock().await;
            let is_same = matches!(&*state, Some(Fetched::Value(kept, _))
                if kept.expose_secret() == value.expose_secret());
            if is_same {
                *state = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn all_who_ask_at_a_time_share_one_fetch_and_its_failure() {
        let (kept, fetched) = (Kept::<u8, u8>::default(), AtomicUsize::new(0));
        let ask = |answer: Result<(u8, Duration), CredentialError>| {
            let (kept, fetched) = (&kept, &fetched);
            kept.get(1, async move || {
                fetched.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                answer
            })
        };
        let away = || Err(CredentialError::Away("x".to_owned()));
        let failed = futures::future::join_all((0..8).map(|_| ask(away()))).await;
        assert!(failed.iter().all(Result::is_err));
        assert_eq!(fetched.load(Ordering::SeqCst), 1);
        let got = futures::future::join_all((0..8).map(|_| ask(Ok((7, LONG))))).await;
        assert!(got.iter().all(|value| *value == Ok(7)));
        assert_eq!(fetched.load(Ordering::SeqCst), 2, "who asks after a failure tries anew");
        assert_eq!(ask(away()).await, Ok(7));
        kept.forget(&1).await;
        assert!(ask(away()).await.is_err());
    }

    #[tokio::test]
    async fn what_has_expired_is_fetched_anew_and_goes_with_the_next_new_value() {
        let kept = Kept::<u8, u8>::default();
        assert_eq!(kept.get(1, async || Ok((1, Duration::ZERO))).await, Ok(1));
        assert_eq!(kept.get(1, async || Ok((2, Duration::ZERO))).await, Ok(2));
        assert_eq!(kept.get(2, async || Ok((3, LONG))).await, Ok(3));
        assert_eq!(kept.places().len(), 1);
    }

    #[tokio::test]
    async fn a_refused_value_is_let_go_of_and_one_fetched_since_is_not() {
        let kept = Kept::<u8, SecretString>::default();
        let get = |value: &'static str| kept.get(1, async move || Ok((SecretString::from(value), LONG)));
        let first = get("first").await.unwrap();
        kept.forget_value(|_| true, &first).await;
        assert_eq!(get("second").await.unwrap().expose_secret(), "second");
        kept.forget_value(|_| true, &first).await;
        assert_eq!(get("third").await.unwrap().expose_secret(), "second");
    }
}
