//! What was proven lately, and from where: a key or token that was valid a while ago is tried from the same address even
//! when others there guess, so that many who share an address are not refused for one of them.
//!
//! Of each only a keyed hash of address and credential is kept, which means nothing outside this process. So another
//! secret under the same key's id is not known here: it is one more guess. What failed is forgotten at once, and the
//! table is bounded: whoever finds it full is not remembered.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::address::Block;

/// Most that are remembered: about 2 MB.
const MOST: usize = 65_536;
/// How long after it was proven last.
const LATELY: Duration = Duration::from_secs(3600);
/// Between two looks through a table that stays full.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Addresses with what was proven from them.
#[derive(Debug)]
pub(crate) struct Proven {
    most: usize,
    secret: RandomState,
    began: Instant,
    table: Mutex<Table>,
}

/// Times are measured from the table's beginning.
#[derive(Debug, Default)]
struct Table {
    last: HashMap<u64, Duration>,
    looked_at: Duration,
}

impl Default for Proven {
    fn default() -> Self {
        Self { most: MOST, secret: RandomState::new(), began: Instant::now(), table: Mutex::default() }
    }
}

impl Proven {
    /// Was this credential valid lately, and came from there?
    pub(crate) fn has(&self, from: Block, credential: &str) -> bool {
        self.has_at(self.of(from, credential), self.began.elapsed())
    }

    /// It was valid now.
    pub(crate) fn remember(&self, from: Block, credential: &str) {
        self.remember_at(self.of(from, credential), self.began.elapsed());
    }

    /// It is not.
    pub(crate) fn forget(&self, from: Block, credential: &str) {
        let it = self.of(from, credential);
        self.lock().last.remove(&it);
    }

    fn of(&self, from: Block, credential: &str) -> u64 {
        self.secret.hash_one((from, credential))
    }

    fn has_at(&self, it: u64, now: Duration) -> bool {
        self.lock().last.get(&it).is_some_and(|at| now < *at + LATELY)
    }

    fn remember_at(&self, it: u64, now: Duration) {
        let mut table = self.lock();
        if let Some(at) = table.last.get_mut(&it) {
            *at = now;
            return;
        }
        if table.last.len() >= self.most && now >= table.looked_at + LOOK_AGAIN {
            table.last.retain(|_, at| now < *at + LATELY);
            table.looked_at = now;
        }
        if table.last.len() < self.most {
            table.last.insert(it, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_one_credential_from_one_address() {
        let (proven, here) = (Proven::default(), Block::V4([192, 0, 2, 1].into()));
        proven.remember(here, "key one");
        assert!(proven.has(here, "key one"));
        assert!(!proven.has(here, "key two"));
        assert!(!proven.has(Block::V4([192, 0, 2, 2].into()), "key one"));
        proven.forget(here, "key one");
        assert!(!proven.has(here, "key one"));
    }

    #[test]
    fn what_was_proven_long_ago_makes_room_and_the_table_is_bounded() {
        let proven = Proven { most: 2, ..Proven::default() };
        let (began, later) = (LOOK_AGAIN, LOOK_AGAIN + LATELY);
        for it in 0..3 {
            proven.remember_at(it, began);
        }
        assert_eq!([0, 1, 2].map(|it| proven.has_at(it, began)), [true, true, false], "no room");
        assert!(!proven.has_at(0, later), "an hour is over");
        proven.remember_at(2, later);
        assert!(proven.has_at(2, later));
        assert_eq!(proven.lock().last.len(), 1);
    }
}
