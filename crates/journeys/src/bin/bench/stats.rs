//! Percentiles, and the options of a measurement.
//!
//! The options are few and bounded, so that no measurement runs for ever.

use std::time::Duration;

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Runs in one throughput measurement.
    pub(crate) runs: usize,
    /// Callers at the same time.
    pub(crate) callers: usize,
    /// How often everything is measured.
    pub(crate) rounds: usize,
    /// Runs a second in the latency measurement.
    pub(crate) rate: u32,
    /// Seconds of the latency measurement.
    pub(crate) seconds: u32,
    /// Sample what PostgreSQL's sessions do.
    pub(crate) is_profiled: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { runs: 2000, callers: 64, rounds: 3, rate: 50, seconds: 10, is_profiled: false }
    }
}

impl Options {
    /// Reads the command line. The error says what is wrong with it.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            if name == "--profile" {
                options.is_profiled = true;
                continue;
            }
            let mut number = |most: usize| {
                let value = arguments.next().unwrap_or_default();
                let number = value.parse().ok().filter(|n| (1..=most).contains(n));
                number.ok_or_else(|| format!("{name} takes a number from 1 to {most}, not `{value}`"))
            };
            let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            match name.as_str() {
                "--runs" => options.runs = number(100_000)?,
                "--callers" => options.callers = number(512)?,
                "--rounds" => options.rounds = number(20)?,
                "--rate" => options.rate = narrow(number(1000)?),
                "--seconds" => options.seconds = narrow(number(120)?),
                _ => return Err(format!("there is no option `{name}`")),
            }
        }
        Ok(options)
    }
}

/// The value below which `part` (0 to 1) of the sorted durations lie, in milliseconds; 0 for none.
pub(crate) fn percentile_ms(sorted: &[Duration], part: f64) -> f64 {
    let at = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |duration| duration.as_secs_f64() * 1000.0)
}

/// `p50 / p99` in milliseconds.
pub(crate) fn halves(mut durations: Vec<Duration>) -> String {
    durations.sort_unstable();
    let (half, most) = (percentile_ms(&durations, 0.5), percentile_ms(&durations, 0.99));
    format!("{half:.1} / {most:.1} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_and_bounded() {
        assert_eq!(parse(""), Ok(Options::default()));
        let read = parse("--runs 10 --callers 2 --rounds 1 --rate 5 --seconds 3 --profile");
        let expected = Options { runs: 10, callers: 2, rounds: 1, rate: 5, seconds: 3, is_profiled: true };
        assert_eq!(read, Ok(expected));
        for nonsense in ["--runs", "--runs 0", "--runs -1", "--runs x", "--rate 1001", "--fast", "10"] {
            assert!(parse(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile_ms(&values, 0.5), 51.0);
        assert_eq!(percentile_ms(&values, 0.99), 100.0);
        assert_eq!(percentile_ms(&values[..1], 0.99), 1.0);
        assert_eq!(percentile_ms(&[], 0.5), 0.0);
    }
}
