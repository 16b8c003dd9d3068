//! `file://` references: read below the project's own folder of secrets, judged after every link was followed.

use std::path::Path;

/// Largest file taken as a credential, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a file is not read.
pub(super) enum Refused {
    /// It lies, or leads, outside the folder.
    Outside,
    /// It is not there.
    Absent,
}

/// Reads a file below `root`, judged after every symbolic link was followed. `None` of what is no small text.
pub(super) fn read_below(root: &Path, path: &Path) -> Result<Option<String>, Refused> {
    if path.is_absolute() {
        return Err(Refused::Outside);
    }
    let root = root.canonicalize().map_err(|_| Refused::Absent)?;
    let file = root.join(path).canonicalize().map_err(|_| Refused::Absent)?;
    if !file.starts_with(&root) {
        return Err(Refused::Outside);
    }
    Ok(read_small(&file))
}

/// Reads a file; `None` of what is no small text.
pub(super) fn read_small(file: &Path) -> Option<String> {
    let is_small_file = file.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_BYTES);
    if is_small_file { std::fs::read_to_string(file).ok() } else { None }
}
