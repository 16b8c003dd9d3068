//! The leases this worker knows of. A lease is known before its claim is sent and until the last of its runs
//! has left, so one that lies in the database under this worker's name and is not known here is nobody's:
//! the claim's answer was lost, or a task ended without a word. The reaper takes its runs back.
//!
//! Invariant: whoever looks for such leases reads the database first and asks here afterwards.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use uuid::Uuid;

/// All leases this worker knows of. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<Mutex<HashSet<Uuid>>>);

impl Held {
    /// Makes a lease known until the answer is dropped.
    pub(crate) fn hold(&self, lease_id: Uuid) -> Holding {
        self.0.lock().expect("no panic while held").insert(lease_id);
        Holding { held: self.clone(), lease_id }
    }

    /// Is it known?
    pub(crate) fn knows(&self, lease_id: &Uuid) -> bool {
        self.0.lock().expect("no panic while held").contains(lease_id)
    }
}

/// One known lease.
#[derive(Debug)]
pub(crate) struct Holding {
    held: Held,
    lease_id: Uuid,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.0.lock().expect("no panic while held").remove(&self.lease_id);
    }
}

#[derive(Debug)]
struct Batch {
    left: AtomicUsize,
    is_sure: AtomicBool,
    _holding: Holding,
}

/// One run's share in its claim's lease. The last to leave takes the lease with it, if every other left in
/// the knowledge that its run is not under this lease any more. A share that is only dropped (its task
/// panicked) leaves without that knowledge.
#[derive(Debug)]
pub(crate) struct Share {
    batch: Arc<Batch>,
    has_left: bool,
}

impl Share {
    /// As many shares as the claim took runs.
    pub(crate) fn of(holding: Holding, runs: usize) -> Vec<Share> {
        let left = AtomicUsize::new(runs);
        let batch = Arc::new(Batch { left, is_sure: AtomicBool::new(true), _holding: holding });
        std::iter::repeat_with(|| Share { batch: batch.clone(), has_left: false }).take(runs).collect()
    }

    /// Is this the only run that can still be under the lease?
    pub(crate) fn is_last(&self) -> bool {
        self.batch.is_sure.load(Ordering::Acquire) && self.batch.left.load(Ordering::Acquire) == 1
    }

    /// The run left, for sure or perhaps. True when no task has the lease any more.
    pub(crate) fn leave(&mut self, is_sure: bool) -> bool {
        self.has_left = true;
        if !is_sure {
            self.batch.is_sure.store(false, Ordering::Release);
        }
        self.batch.left.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.has_left {
            self.leave(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_known_until_the_last_share_is_gone() {
        let (held, lease_id) = (Held::default(), Uuid::from_u128(7));
        let mut shares = Share::of(held.hold(lease_id), 2);
        assert!(!shares[0].is_last());
        assert!(!shares[0].leave(true));
        assert!(shares[1].is_last() && held.knows(&lease_id));
        assert!(shares[1].leave(true));
        drop(shares);
        assert!(!held.knows(&lease_id));
    }

    #[test]
    fn after_a_share_that_was_only_dropped_nobody_takes_the_lease_away() {
        let held = Held::default();
        let mut shares = Share::of(held.hold(Uuid::from_u128(7)), 2);
        drop(shares.pop());
        assert!(!shares[0].is_last(), "a run may be left under it");
        assert!(shares[0].leave(true));
    }

    #[test]
    fn a_claim_that_took_nothing_is_forgotten() {
        let (held, lease_id) = (Held::default(), Uuid::from_u128(7));
        assert!(Share::of(held.hold(lease_id), 0).is_empty());
        assert!(!held.knows(&lease_id));
    }
}
