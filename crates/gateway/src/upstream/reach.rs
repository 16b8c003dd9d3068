//! Can another uid reach a program? A child that runs under its own uid needs the search permission on
//! every directory above its program; a 0700 home above it is the usual reason why it cannot start.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The first directory above `path`, from the root down, that `uid` (with a gid of the same number and no
/// other group) may not enter; `None` when all are open, or `uid` is 0. Symbolic links are followed. A
/// directory that does not exist or cannot be looked at by this process counts as closed.
pub fn closed_ancestor(path: &Path, uid: u32) -> Option<PathBuf> {
    if uid == 0 {
        return None;
    }
    let real = std::fs::canonicalize(path).ok();
    [Some(path), real.as_deref()].into_iter().flatten().find_map(|path| first_closed(path, uid))
}

fn first_closed(path: &Path, uid: u32) -> Option<PathBuf> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|dir| dir.is_absolute()).collect();
    above.reverse();
    above.into_iter().find(|dir| !may_enter(dir, uid)).map(Path::to_path_buf)
}

fn may_enter(dir: &Path, uid: u32) -> bool {
    let Ok(meta) = std::fs::metadata(dir) else { return false };
    let bit = if meta.uid() == uid {
        0o100
    } else if meta.gid() == uid {
        0o010
    } else {
        0o001
    };
    meta.is_dir() && meta.mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_closed_directory_is_named() {
        let root = tempfile::tempdir().unwrap();
        let open = root.path().join("open");
        let closed = open.join("closed");
        std::fs::create_dir_all(closed.join("below")).unwrap();
        let mode =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        mode(root.path(), 0o755);
        mode(&open, 0o711);
        mode(&closed, 0o700);
        let stranger = 3_999_999;
        assert_eq!(closed_ancestor(&open.join("program"), stranger), None);
        assert_eq!(closed_ancestor(&closed.join("below/program"), stranger), Some(closed.clone()));
        assert_eq!(closed_ancestor(&closed.join("below/program"), 0), None);
        let link = root.path().join("link");
        std::os::unix::fs::symlink(closed.join("below"), &link).unwrap();
        assert_eq!(closed_ancestor(&link, stranger), Some(closed));
    }
}
