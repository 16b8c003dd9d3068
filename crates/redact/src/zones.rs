//! Where a masked text is read once more: around what changed.
//!
//! A mask may change what the text beside it means, but only to a rule that looks at it. So a scan notes the stretches
//! that its rules looked at. One that no change touches is as it was, and what was found there is masked already.
//! Reading again begins and ends between stretches, where no rule remembers anything of what came before; if a rule
//! then looks further than its zone, the zone is widened to there.
//! Not noted are looks of less than [`BEFORE`] bytes ahead and [`AFTER`] bytes back: each zone has those as its edges.

/// The farthest that a rule looks ahead without noting it: from the sign of an e-mail address.
const BEFORE: usize = 320;
/// The farthest that a rule looks back: from a name to the value before it, and to the words of a login.
const AFTER: usize = 320;
/// Stretches that are nearer to each other are one, which bounds how many there are.
const JOINED: usize = 64;

/// A part of a text: its first byte, and the byte behind it.
pub(crate) type Span = (usize, usize);

/// What rules looked at, by position and apart from each other.
#[derive(Default)]
pub(crate) struct Stretches(Vec<Span>);

impl Stretches {
    /// Adds a stretch that begins behind the beginnings of all others.
    pub(crate) fn add(&mut self, from: usize, to: usize) {
        match self.0.last_mut() {
            Some(last) if from <= last.1 + JOINED => last.1 = last.1.max(to),
            _ => self.0.push((from, to)),
        }
    }

    /// Adds stretches in any order.
    pub(crate) fn extend(&mut self, more: impl Iterator<Item = Span>) {
        let mut all = std::mem::take(&mut self.0);
        all.extend(more);
        all.sort_unstable();
        all.into_iter().for_each(|(from, to)| self.add(from, to));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Span> {
        self.0.iter().copied()
    }

    /// The zones around `changes` in a text of `len` bytes, by position and apart; all of the text if they are almost
    /// all of it.
    pub(crate) fn zones(&self, changes: &[Span], len: usize) -> Vec<Span> {
        let mut changes = changes.to_vec();
        changes.sort_unstable();
        let mut zones = Stretches::default();
        for (start, end) in changes {
            let from =
                self.around(start.saturating_sub(BEFORE)).map_or(start.saturating_sub(BEFORE), |s| s.0);
            let to = self.around(end + AFTER).map_or(end + AFTER, |s| s.1).min(len);
            zones.add(from, to);
        }
        let read: usize = zones.iter().map(|(from, to)| to - from).sum();
        if read > len / 8 * 7 { vec![(0, len)] } else { zones.0 }
    }

    /// The stretch that goes over `at`.
    fn around(&self, at: usize) -> Option<Span> {
        let before = self.0.partition_point(|(from, _)| *from < at).checked_sub(1)?;
        Some(self.0[before]).filter(|(_, to)| at < *to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_the_stretches_that_it_meets_whole() {
        let mut looked = Stretches::default();
        [(100, 200), (250, 300), (5000, 9000), (20_000, 20_010)]
            .into_iter()
            .for_each(|(a, b)| looked.add(a, b));
        assert_eq!(looked.0, [(100, 300), (5000, 9000), (20_000, 20_010)]);
        for (change, zone) in [
            ((600, 610), (100, 930)),
            ((3000, 3010), (2680, 3330)),
            ((4900, 4950), (4580, 9000)),
            ((9300, 9310), (5000, 9630)),
            ((20_005, 20_005), (19_685, 20_325)),
            ((99_990, 99_995), (99_670, 100_000)),
        ] {
            assert_eq!(looked.zones(&[change], 100_000), [zone], "{change:?}");
        }
        assert_eq!(looked.zones(&[(600, 610), (1, 2), (3000, 3001)], 100_000), [(0, 930), (2680, 3321)]);
        assert_eq!(looked.zones(&[(350, 360)], 500), [(0, 500)]);
    }

    #[test]
    fn stretches_in_any_order_are_joined() {
        let mut looked = Stretches::default();
        looked.add(1000, 1100);
        looked.extend([(3000, 3001), (0, 10), (1050, 1500)].into_iter());
        assert_eq!(looked.0, [(0, 10), (1000, 1500), (3000, 3001)]);
    }
}
