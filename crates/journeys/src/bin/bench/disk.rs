//! What a small synchronous write takes here and now: a commit cannot be faster.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;

const WRITES: usize = 100;
/// A page of PostgreSQL's write-ahead log.
const PAGE: [u8; 8192] = [7; 8192];

/// The times of a hundred appended pages, each made durable by `fdatasync`, in the directory for temporary
/// files, where the measured databases lie too.
pub(crate) fn sync_times() -> anyhow::Result<Vec<Duration>> {
    let mut file = tempfile::tempfile().context("no temporary file")?;
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let began = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synchronous_writes_are_timed() {
        let times = sync_times().unwrap();
        assert!(times.len() == WRITES && times.iter().all(|time| !time.is_zero()));
    }
}
