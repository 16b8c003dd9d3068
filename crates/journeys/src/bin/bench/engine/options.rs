//! How much of the engine is measured. Few and bounded, so that no measurement runs for ever.

/// Sizes of a measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Runs and jobs of one measurement.
    pub(crate) jobs: usize,
    /// The same of peers that do some hundreds a second.
    pub(crate) slow_jobs: usize,
    /// Seconds of a latency measurement, and most seconds of adding one at a time.
    pub(crate) seconds: usize,
    /// How often everybody is measured.
    pub(crate) rounds: usize,
    /// Projects of the widest measurement.
    pub(crate) projects: usize,
    /// Queued runs of the deepest measurement.
    pub(crate) queued: usize,
    /// Peers to measure; all of them when empty.
    pub(crate) only: Vec<String>,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            jobs: 10_000,
            slow_jobs: 2000,
            seconds: 5,
            rounds: 3,
            projects: 1000,
            queued: 1_000_000,
            only: Vec::new(),
        }
    }
}

impl Sizes {
    /// Under three minutes in all.
    fn quick() -> Self {
        Self {
            jobs: 5000,
            slow_jobs: 500,
            seconds: 3,
            rounds: 1,
            projects: 100,
            queued: 50_000,
            ..Self::default()
        }
    }

    /// Reads the command line: `--quick` before the others, `--rounds N`, `--queued N`, `--only PEER,PEER`. The error
    /// says what is wrong with it.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self, String> {
        let mut sizes = Self::default();
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let mut number = |most: usize| {
                let value = arguments.next().copied().unwrap_or_default();
                let number = value.parse().ok().filter(|n| (1..=most).contains(n));
                number.ok_or_else(|| format!("{name} takes a number from 1 to {most}, not `{value}`"))
            };
            match *name {
                "--quick" => sizes = Self::quick(),
                "--rounds" => sizes.rounds = number(10)?,
                "--queued" => sizes.queued = number(2_000_000)?,
                "--only" => {
                    let names = arguments.next().copied().unwrap_or_default();
                    sizes.only = names.split(',').map(str::to_owned).collect();
                }
                _ => return Err(format!("there is no option `{name}`")),
            }
        }
        Ok(sizes)
    }

    /// Is this peer to be measured?
    pub(crate) fn wants(&self, peer: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_bounded() {
        assert_eq!(Sizes::parse(&[]), Ok(Sizes::default()));
        let read = Sizes::parse(&["--quick", "--rounds", "2", "--only", "dbos,pgboss"]).unwrap();
        assert_eq!((read.rounds, read.queued), (2, Sizes::quick().queued));
        assert!(read.wants("dbos") && !read.wants("restate"));
        for nonsense in [&["--rounds", "0"][..], &["--rounds"], &["--queued", "3000000"], &["--fast"]] {
            assert!(Sizes::parse(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
