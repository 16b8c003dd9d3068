//! Token buckets: how often a second somebody may do something, with a burst after a rest.
//!
//! A bucket is one time: when it is full again. A bucket that is full says nothing and is forgotten, so the table holds
//! only those that were used lately, and no more than its bound: whoever comes when it is full of such shares one bucket
//! with all others who do.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most buckets of a table: about 6 MB of keys' ids, less of addresses.
const MOST: usize = 65_536;
/// A smaller table is not looked through for full buckets.
const FEW: usize = 1024;
/// Between two looks through a table that stays full.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One token each `interval`, and no more than `room` worth of them.
#[derive(Debug, Clone, Copy)]
struct Pace {
    interval: Duration,
    room: Duration,
}

/// The buckets of everybody who did it lately.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    pace: Option<Pace>,
    most: usize,
    began: Instant,
    table: Mutex<Table<K>>,
}

/// Times are measured from the table's beginning.
#[derive(Debug)]
struct Table<K> {
    full_at: HashMap<K, Duration>,
    rest_full_at: Duration,
    look_at: usize,
    looked_at: Duration,
}

impl<K: Eq + Hash> Buckets<K> {
    /// `rate` tokens a second, at most `burst` at once. With a rate of 0 there is always one.
    pub(crate) fn new(rate: u32, burst: u32) -> Self {
        let pace = (rate > 0).then(|| {
            let interval = Duration::from_secs(1) / rate;
            Pace { interval, room: interval * burst.max(1) }
        });
        let table = Table {
            full_at: HashMap::new(),
            rest_full_at: Duration::ZERO,
            look_at: FEW,
            looked_at: Duration::ZERO,
        };
        Self { pace, most: MOST, began: Instant::now(), table: Mutex::new(table) }
    }

    /// Takes one token, or says after how long there is one.
    pub(crate) fn take(&self, key: K) -> Result<(), Duration> {
        self.at(key, self.began.elapsed(), true)
    }

    /// The same, and leaves it there.
    pub(crate) fn look(&self, key: K) -> Result<(), Duration> {
        self.at(key, self.began.elapsed(), false)
    }

    fn at(&self, key: K, now: Duration, is_taken: bool) -> Result<(), Duration> {
        let Some(pace) = self.pace else { return Ok(()) };
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = table.full_at(&key, self.most).max(now) + pace.interval;
        if full_at > now + pace.room {
            return Err(full_at - pace.room - now);
        }
        if is_taken {
            table.put(key, full_at, now, self.most);
        }
        Ok(())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.table.lock().unwrap().full_at.len()
    }
}

impl<K: Eq + Hash> Table<K> {
    /// When this bucket is full. One that is not here is full already, or, without room for it, shared by the rest.
    fn full_at(&self, key: &K, most: usize) -> Duration {
        let rest = if self.full_at.len() < most { Duration::ZERO } else { self.rest_full_at };
        self.full_at.get(key).copied().unwrap_or(rest)
    }

    fn put(&mut self, key: K, full_at: Duration, now: Duration, most: usize) {
        if let Some(known) = self.full_at.get_mut(&key) {
            *known = full_at;
            return;
        }
        if self.full_at.len() >= self.look_at.min(most) && now >= self.looked_at + LOOK_AGAIN {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.look_at = (self.full_at.len() * 2).max(FEW);
            self.looked_at = now;
        }
        if self.full_at.len() < most {
            self.full_at.insert(key, full_at);
        } else {
            self.rest_full_at = full_at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn take(buckets: &Buckets<u32>, key: u32, now: Duration) -> Result<(), Duration> {
        buckets.at(key, now, true)
    }

    /// How many can be taken at this moment.
    fn burst(buckets: &Buckets<u32>, key: u32, now: Duration) -> usize {
        (0..10_000).take_while(|_| take(buckets, key, now).is_ok()).count()
    }

    #[test]
    fn a_burst_then_the_rate_and_each_for_itself() {
        let buckets = Buckets::new(10, 20);
        assert_eq!(burst(&buckets, 1, S), 20);
        assert_eq!(take(&buckets, 1, S), Err(S / 10));
        assert_eq!(burst(&buckets, 2, S), 20);
        assert_eq!(burst(&buckets, 1, S * 2), 10, "a second later");
        assert_eq!(burst(&buckets, 1, S * 60), 20, "never more than a burst");
    }

    #[test]
    fn a_look_takes_nothing_and_a_rate_of_0_is_none() {
        let buckets = Buckets::new(1, 1);
        assert_eq!((buckets.at(1, S, false), buckets.at(1, S, false)), (Ok(()), Ok(())));
        assert_eq!((take(&buckets, 1, S), buckets.at(1, S, false)), (Ok(()), Err(S)));
        assert_eq!(burst(&Buckets::new(0, 0), 1, S), 10_000);
    }

    #[test]
    fn full_buckets_are_forgotten_and_the_table_is_bounded() {
        let mut buckets = Buckets::new(1, 2);
        for key in 0..5_000 {
            take(&buckets, key, S * key).unwrap();
        }
        assert!(buckets.len() <= 2 * FEW, "{}", buckets.len());
        buckets = Buckets { most: FEW, ..Buckets::new(1, 2) };
        let many = 2 * u32::try_from(FEW).unwrap();
        let taken = (0..many).filter(|key| take(&buckets, *key, S).is_ok()).count();
        assert_eq!((buckets.len(), taken), (FEW, FEW + 2), "those beyond the bound share one bucket");
        assert!(take(&buckets, many, S * 60).is_ok());
        assert_eq!(buckets.len(), 1);
    }
}
