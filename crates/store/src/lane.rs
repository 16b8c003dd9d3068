//! Lanes: work of one kind for one key, done in batches. What arrives while a batch is under way is the next batch; an
//! idle lane begins at once. So nobody waits for a timer, and the busier a lane, the more share one commit.
//!
//! A batch runs in a task of its own: a caller that goes away takes nobody's answer with it. What a caller that is gone
//! had not yet begun is left out. A batch that panics answers [`Lost`] to those who wait for it.
//! Bounded by its callers: each waits for its answer, so a lane holds no more than there are callers.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::scope::{self, ProjectScope};

/// The batch ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work this was done with ended without an answer")]
pub(crate) struct Lost;

struct Waiting<T, R> {
    item: T,
    answer: oneshot::Sender<R>,
}

type Queues<K, T, R> = HashMap<K, VecDeque<Waiting<T, R>>>;

/// All lanes of one kind of work. A lane is there while it is busy. Clones share them.
pub(crate) struct Lanes<K, T, R> {
    name: &'static str,
    most: usize,
    busy: Arc<Mutex<Queues<K, T, R>>>,
}

impl<K, T, R> Clone for Lanes<K, T, R> {
    fn clone(&self) -> Self {
        Self { name: self.name, most: self.most, busy: self.busy.clone() }
    }
}

impl<K, T, R> Lanes<K, T, R>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Send + 'static,
    R: Send + 'static,
{
    /// Lanes whose batches have at most `most` items.
    pub(crate) fn new(name: &'static str, most: usize) -> Self {
        Self { name, most, busy: Arc::default() }
    }

    /// Does `item` in the next batch of the lane `key`. `work` answers a batch, one answer an item in their order; the
    /// one that found the lane idle is used for as long as it is busy, so it may depend on nothing but the key.
    pub(crate) async fn run<W, F>(&self, scope: &ProjectScope, key: K, item: T, work: W) -> Result<R, Lost>
    where
        W: Fn(Vec<T>) -> F + Send + 'static,
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { item, answer };
        let is_idle = {
            let mut busy = self.lock();
            match busy.get_mut(&key) {
                Some(queue) => {
                    queue.push_back(waiting);
                    false
                }
                None => {
                    busy.insert(key.clone(), VecDeque::from([waiting]));
                    true
                }
            }
        };
        if is_idle {
            scope::spawn(scope, self.name, self.clone().work_off(key, work));
        }
        answered.await.map_err(|_| Lost)
    }

    async fn work_off<W, F>(self, key: K, work: W)
    where
        W: Fn(Vec<T>) -> F,
        F: Future<Output = Vec<R>>,
    {
        let busy = Busy { lanes: &self, key };
        while let Some(batch) = busy.next() {
            let (items, answers): (Vec<T>, Vec<_>) =
                batch.into_iter().filter(|w| !w.answer.is_closed()).map(|w| (w.item, w.answer)).unzip();
            if items.is_empty() {
                continue;
            }
            for (answer, result) in answers.into_iter().zip(work(items).await) {
                // a caller that went away asks for no answer
                let _ = answer.send(result);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queues<K, T, R>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane's work under way; whatever ends it leaves the lane idle, and tells those who still wait.
struct Busy<'a, K: Eq + Hash, T, R> {
    lanes: &'a Lanes<K, T, R>,
    key: K,
}

impl<K: Eq + Hash, T, R> Busy<'_, K, T, R> {
    /// The next batch; none when nothing waits, and then the lane is idle.
    fn next(&self) -> Option<Vec<Waiting<T, R>>> {
        let mut busy = self.lanes.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = busy.get_mut(&self.key)?;
        if queue.is_empty() {
            busy.remove(&self.key);
            return None;
        }
        let most = self.lanes.most.min(queue.len());
        Some(queue.drain(..most).collect())
    }
}

impl<K: Eq + Hash, T, R> Drop for Busy<'_, K, T, R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lanes.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use awooop_core::ProjectId;
    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    fn scope() -> ProjectScope {
        ProjectScope::new(ProjectId::platform(), "a test")
    }

    #[tokio::test]
    async fn what_arrives_while_a_batch_is_under_way_is_the_next_batch() {
        let lanes = Lanes::<u8, usize, usize>::new("test", 8);
        let (gate, batches) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (turns, done) = (gate.clone(), batches.clone());
        let work = move |items: Vec<usize>| {
            let (gate, batches) = (turns.clone(), done.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                batches.lock().unwrap().push(items.clone());
                items.into_iter().map(|n| n * 10).collect()
            }
        };
        let scope = scope();
        let all = (0..12).map(|n| lanes.run(&scope, 1, n, work.clone()));
        let open = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
                gate.add_permits(1);
            }
        };
        let (answers, ()) = tokio::join!(join_all(all), open);
        let answers: Vec<usize> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (0..12).map(|n| n * 10).collect::<Vec<_>>());
        let sizes: Vec<usize> = batches.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 12);
        assert!(sizes.len() <= 3 && sizes.iter().all(|n| *n <= 8), "{sizes:?}");
        while !lanes.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_takes_no_other_answer_with_it() {
        let lanes = Lanes::<u8, usize, usize>::new("test", 8);
        let (gate, done) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (turns, counted) = (gate.clone(), done.clone());
        let work = move |items: Vec<usize>| {
            let (gate, done) = (turns.clone(), counted.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                done.fetch_add(items.len(), Ordering::SeqCst);
                items
            }
        };
        let scope = scope();
        let soon = Duration::from_millis(1);
        // the first is under way, the second waits in the lane; both callers leave
        assert!(tokio::time::timeout(soon, lanes.run(&scope, 1, 1, work.clone())).await.is_err());
        assert!(tokio::time::timeout(soon, lanes.run(&scope, 1, 2, work.clone())).await.is_err());
        let third = lanes.run(&scope, 1, 3, work.clone());
        let (third, ()) = tokio::join!(third, async { gate.add_permits(2) });
        assert_eq!(third, Ok(3));
        assert_eq!(done.load(Ordering::SeqCst), 2, "what nobody waits for was not begun");
    }

    #[tokio::test]
    async fn a_batch_that_panics_is_told_and_the_lane_goes_on() {
        let lanes = Lanes::<u8, bool, ()>::new("test", 8);
        let work = async |items: Vec<bool>| {
            assert!(!items.contains(&true), "as this test wants it");
            vec![(); items.len()]
        };
        let scope = scope();
        assert_eq!(lanes.run(&scope, 1, true, work).await, Err(Lost));
        while !lanes.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(lanes.run(&scope, 1, false, work).await, Ok(()));
    }
}
