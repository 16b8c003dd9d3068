//! The operating system account that the database runs as. PostgreSQL refuses to run as root, so root
//! drops to `postgres` or another account; anybody else runs it as themselves.
//!
//! The account must be able to reach its files, so a path below a closed directory (a 0700 home) is
//! refused early, by the name of the ancestor that is closed: the server's own message would not say it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid};

/// Accounts to try, best first. `nobody` is the last resort: every system has it.
const CANDIDATES: [&str; 4] = ["postgres", "_postgres", "awooop", "nobody"];

/// A passwd entry the server is switched to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }
    }
}

/// Who this process is.
pub(super) fn own_uid() -> u32 {
    geteuid().as_raw()
}

/// Finds the account to switch to; `Ok(None)` for an ordinary user, who needs no switch. The owner of an
/// existing cluster wins, because its files are not handed from one account to another.
pub(super) fn server_account(cluster_owner: Option<u32>) -> Result<Option<Account>, &'static str> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    if let Some(uid) = cluster_owner.filter(|&uid| uid != 0) {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        return user.map(|user| Some(user.into())).ok_or("the cluster's owner has no passwd entry");
    }
    CANDIDATES
        .iter()
        .filter_map(|name| User::from_name(name).ok().flatten())
        .find(|user| !user.uid.is_root())
        .map(|user| Some(user.into()))
        .ok_or("none of the accounts postgres, _postgres, awooop, nobody exists")
}

/// The first directory from the root down to `path` (itself included) that `account` may not pass.
/// Reads mode bits only: access control lists can make it stricter or looser than the truth.
pub(super) fn first_closed(path: &Path, account: &Account) -> std::io::Result<Option<PathBuf>> {
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    for ancestor in ancestors {
        let meta = std::fs::metadata(ancestor)?;
        if meta.is_dir() && !may_pass(meta.mode(), meta.uid(), meta.gid(), account) {
            return Ok(Some(ancestor.to_owned()));
        }
    }
    Ok(None)
}

/// May the account search a directory of this mode and owner? The server keeps no supplementary groups.
fn may_pass(mode: u32, owner: u32, group: u32, account: &Account) -> bool {
    let bit = if owner == account.uid {
        0o100
    } else if group == account.gid {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_class_that_applies_decides_who_may_pass() {
        let account = Account { name: "postgres".into(), uid: 101, gid: 104 };
        let check = |mode, owner, group, expected| {
            assert_eq!(may_pass(mode, owner, group, &account), expected, "{mode:o} {owner} {group}");
        };
        check(0o711, 0, 0, true);
        check(0o700, 0, 0, false);
        check(0o700, 101, 0, true);
        check(0o077, 101, 0, false); // an owner without the bit is refused even if others have it
        check(0o710, 0, 104, true);
        check(0o701, 0, 104, false);
    }

    #[test]
    fn an_ordinary_user_needs_no_switch_and_root_never_stays_root() {
        match server_account(None) {
            Ok(None) => assert_ne!(own_uid(), 0),
            Ok(Some(account)) => assert_ne!(account.uid, 0),
            Err(why) => assert!(why.contains("nobody")),
        }
    }
}
