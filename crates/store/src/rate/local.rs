//! What this process counts by itself. Bounded by the limits that were used within their windows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use awooop_core::ProjectId;
use awooop_core::rate::{Bound, Limit, PLACE_WAIT, Window};

/// A smaller table is not looked through for counts that are over.
const FEW: usize = 1024;

/// The counts of all projects.
pub(super) struct Local {
    began: Instant,
    table: Mutex<Table>,
}

struct Table {
    counts: HashMap<ProjectId, HashMap<String, Count>>,
    known: usize,
    look_at: usize,
}

enum Count {
    Calls(Window),
    Places(u32),
}

/// In which slice each limit counted a call; `None` for places.
pub(super) type Counted = Vec<Option<u64>>;

impl Default for Local {
    fn default() -> Self {
        let table = Table { counts: HashMap::new(), known: 0, look_at: FEW };
        Self { began: Instant::now(), table: Mutex::new(table) }
    }
}

impl Local {
    /// Is there room under all of them? Else the limit with the longest wait, and that.
    pub(super) fn look(&self, project: &ProjectId, limits: &[Limit]) -> Result<(), (usize, Duration)> {
        let now = self.now_ms();
        self.lock().look(project, limits, now)
    }

    /// Counts a call under all of them, or under none; one that `must` be made in any case.
    pub(super) fn take(
        &self,
        project: &ProjectId,
        limits: &[Limit],
        must: bool,
    ) -> Result<Counted, (usize, Duration)> {
        let now = self.now_ms();
        let mut table = self.lock();
        if !must {
            table.look(project, limits, now)?;
        }
        Ok(limits.iter().map(|limit| table.add(project, limit, now)).collect())
    }

    /// A call that was counted is not made.
    pub(super) fn take_back(&self, project: &ProjectId, limits: &[Limit], counted: &Counted) {
        let mut table = self.lock();
        for (limit, slice) in limits.iter().zip(counted) {
            match (table.count(project, limit), slice) {
                (Some(Count::Calls(window)), Some(slice)) => window.take_back(*slice),
                (Some(Count::Places(taken)), None) => *taken = taken.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// A call that was counted is over: its places are free.
    pub(super) fn leave(&self, project: &ProjectId, limits: &[Limit]) {
        let mut table = self.lock();
        for limit in limits {
            if let Some(Count::Places(taken)) = table.count(project, limit) {
                *taken = taken.saturating_sub(1);
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn count(&mut self, project: &ProjectId, limit: &Limit) -> Option<&mut Count> {
        self.counts.get_mut(project)?.get_mut(&limit.key)
    }

    fn look(&mut self, project: &ProjectId, limits: &[Limit], now: u64) -> Result<(), (usize, Duration)> {
        let mut longest: Option<(usize, Duration)> = None;
        for (i, limit) in limits.iter().enumerate() {
            let room = match (self.count(project, limit), limit.bound) {
                (Some(Count::Calls(window)), Bound::Calls { most, .. }) => window.look(most, now),
                (Some(Count::Places(taken)), Bound::Places { most }) if *taken >= most => Err(PLACE_WAIT),
                _ => Ok(()),
            };
            if let Err(wait) = room
                && longest.is_none_or(|(_, known)| wait > known)
            {
                longest = Some((i, wait));
            }
        }
        longest.map_or(Ok(()), Err)
    }

    fn add(&mut self, project: &ProjectId, limit: &Limit, now: u64) -> Option<u64> {
        if self.known >= self.look_at {
            self.forget(now);
        }
        if self.count(project, limit).is_none() {
            let count = match limit.bound {
                Bound::Calls { window, .. } => Count::Calls(Window::new(window)),
                Bound::Places { .. } => Count::Places(0),
            };
            self.counts.entry(project.clone()).or_default().insert(limit.key.clone(), count);
            self.known += 1;
        }
        match self.count(project, limit)? {
            Count::Calls(window) => Some(window.add(now)),
            Count::Places(taken) => {
                *taken += 1;
                None
            }
        }
    }

    /// Forgets the counts in which nothing counts any more.
    fn forget(&mut self, now: u64) {
        self.counts.retain(|_, counts| {
            counts.retain(|_, count| match count {
                Count::Calls(window) => !window.is_empty(now),
                Count::Places(taken) => *taken > 0,
            });
            !counts.is_empty()
        });
        self.known = self.counts.values().map(HashMap::len).sum();
        self.look_at = (self.known * 2).max(FEW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(key: impl Into<String>, bound: Bound) -> Limit {
        Limit { key: key.into(), bound, rule: String::new() }
    }

    #[test]
    fn a_call_is_counted_under_all_of_its_limits_or_under_none() {
        let (local, project) = (Local::default(), ProjectId::parse("mine").unwrap());
        let calls = limit("a", Bound::Calls { most: 2, window: Duration::from_secs(60) });
        let places = limit("b", Bound::Places { most: 1 });
        let both = [calls.clone(), places.clone()];
        let counted = local.take(&project, &both, false).unwrap();
        assert_eq!(local.take(&project, &both, false), Err((1, PLACE_WAIT)));
        assert!(local.look(&project, std::slice::from_ref(&calls)).is_ok(), "the refused one counts nowhere");
        local.take_back(&project, &both, &counted);
        local.take(&project, &both, false).unwrap();
        local.leave(&project, &both);
        local.take(&project, &both, false).unwrap();
        local.leave(&project, &both);
        let (full, wait) = local.take(&project, &both, false).unwrap_err();
        assert!(full == 0 && wait > Duration::from_secs(59), "{wait:?}");
        assert!(local.take(&project, &both, true).is_ok(), "what must be made is");
        let other = ProjectId::parse("other").unwrap();
        assert!(local.look(&other, &both).is_ok(), "another project's calls do not count");
    }

    #[test]
    fn counts_that_are_over_are_forgotten() {
        let (local, project) = (Local::default(), ProjectId::parse("mine").unwrap());
        for n in 0..5_000 {
            let places = [limit(n.to_string(), Bound::Places { most: 1 })];
            local.take(&project, &places, false).unwrap();
            local.leave(&project, &places);
        }
        let known = local.lock().known;
        assert!(known <= FEW + 1, "{known}");
    }
}
