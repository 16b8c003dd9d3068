//! The one place of this crate with `unsafe`: code between fork and exec that makes the kernel signal a
//! child when its parent dies, so that `kill -9` of this process leaves no server behind.
//!
//! Measured facts: the signal is sent when the spawning THREAD ends, so the spawner must live as long as
//! the child; a change of uid clears the setting, and closures given to `pre_exec` run after the
//! change. A parent that died before the setting was made is noticed by asking for the parent again.
//! Where the kernel has no such setting the child stays, and the next start stops it (see `previous`).
#![allow(unsafe_code, reason = "CommandExt::pre_exec is unsafe; no safe API sets PR_SET_PDEATHSIG")]

use std::process::Command;

/// Asks that the child gets SIGINT (for PostgreSQL: a fast shutdown, which writes a checkpoint; for
/// initdb: clean up and end) when the thread that spawns it ends.
#[cfg(target_os = "linux")]
pub(super) fn interrupt_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    use nix::errno::Errno;
    use nix::sys::prctl::set_pdeathsig;
    use nix::sys::signal::Signal;
    use nix::unistd::{getpid, getppid};

    let parent = getpid();
    // SAFETY: the closure runs in the forked child before exec. It makes two system calls (prctl, getppid)
    // that are async-signal-safe, reads one captured integer, allocates nothing and takes no lock;
    // io::Error from a raw errno does not allocate either.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGINT).map_err(std::io::Error::from)?;
            if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
        });
    }
}

/// No such setting here.
#[cfg(not(target_os = "linux"))]
pub(super) fn interrupt_with_parent(_: &mut Command) {}
