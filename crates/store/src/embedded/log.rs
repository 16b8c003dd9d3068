//! The server's log file. It grows while a server runs, so each start that finds it large sets it aside
//! as `log.1` (one old file is kept). Its tail is what a failed start is explained with.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A log above this many bytes is set aside at the next start.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// How much of the end explains a failure, in bytes.
const TAIL_BYTES: u64 = 2048;

/// Opens the log to append, 0600, after setting a large one aside.
pub(super) fn open(path: &Path) -> io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() > MAX_BYTES) {
        std::fs::rename(path, path.with_extension("1"))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The last lines written after `from` (a length in bytes); empty when there are none.
pub(super) fn tail(path: &Path, from: u64) -> String {
    read_tail(path, from).unwrap_or_default()
}

fn read_tail(path: &Path, from: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = from.max(length.saturating_sub(TAIL_BYTES));
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_log_is_set_aside_once_and_a_small_one_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        std::fs::write(&path, vec![b'x'; MAX_BYTES as usize + 1]).expect("a large log");
        open(&path).expect("opens");
        assert_eq!(std::fs::metadata(&path).expect("new").len(), 0);
        assert_eq!(std::fs::metadata(dir.path().join("log.1")).expect("old").len(), MAX_BYTES + 1);
        std::fs::write(&path, "kept\nlast\n").expect("a small log");
        open(&path).expect("opens");
        assert_eq!(tail(&path, 0), "kept\nlast");
        assert_eq!(tail(&path, 5), "last");
        assert_eq!(tail(&path, 5000), "");
        assert_eq!(tail(&dir.path().join("none"), 0), "");
    }
}
