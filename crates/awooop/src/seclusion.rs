//! This program holds keys, whatever it is asked to do: no other process of the same user may look into it. The kernel
//! then refuses them its memory, its environment, its open files and to trace it, and writes no core of it to a disk.
//!
//! Deliberately not for children: a program that is executed begins as it always does. Root may look all the same.

/// Closes this process to others of its user, for good.
pub(crate) fn seclude() {
    // fails on no kernel that runs this program; one that did would leave it as open as any program is
    let _ = nix::sys::prctl::set_dumpable(false);
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_can_close_itself() {
        super::seclude();
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
    }
}
