//! Starting a stdio child, and the only `unsafe` of this crate: what runs between fork and exec.
//!
//! The child gets another session (Ctrl-C at our terminal does not reach it), no new privileges, death
//! with the thread that forked it, limits, and no descriptor above stderr. The kernel sends the death
//! signal when the spawning THREAD ends, so all children are forked by one thread that lives as long as
//! the process. The order matters: the standard library has dropped groups, gid and uid before the hook,
//! and a change of uid would clear the death signal.
#![allow(unsafe_code, reason = "pre_exec is unsafe: its closure runs in a forked copy of a threaded process")]

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Limits of a child.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of address space.
    pub(super) address_space_bytes: Option<u64>,
    /// Processes and threads of its uid; only sensible when no other work runs under that uid.
    pub(super) processes: Option<u64>,
}

const OPEN_FILES: u64 = 256;
/// How far descriptors are looked for where the kernel cannot mark them all at once.
const MOST_DESCRIPTORS: libc::c_int = 65_536;

struct Job {
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// Forks and executes `command` on the spawning thread, in the caller's runtime.
pub(super) async fn spawn(mut command: Command, limits: Limits) -> io::Result<Child> {
    harden(&mut command, limits);
    let (answer, child) = oneshot::channel();
    let job = Job { command, runtime: Handle::current(), answer };
    let gone = || io::Error::other("the thread that starts children is gone");
    spawner().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
    child.await.map_err(|_| gone())?
}

fn spawner() -> Option<&'static mpsc::Sender<Job>> {
    static SPAWNER: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();
    SPAWNER
        .get_or_init(|| {
            let (jobs, queue) = mpsc::channel::<Job>();
            let serve = move || {
                for mut job in queue {
                    let _context = job.runtime.enter();
                    // A caller that left drops the child, which kills it.
                    let _ = job.answer.send(job.command.spawn());
                }
            };
            std::thread::Builder::new().name("stdio-spawner".to_owned()).spawn(serve).ok().map(|_| jobs)
        })
        .as_ref()
}

fn harden(command: &mut Command, limits: Limits) {
    let parent = std::process::id();
    // SAFETY: `before_exec` makes system calls only (setsid, umask, prctl, getppid, setrlimit,
    // close_range, fcntl), all async-signal-safe. It allocates nothing, takes no lock and touches no memory
    // but its own copies of integers. Its errors are made from errno, which does not allocate.
    unsafe {
        command.pre_exec(move || before_exec(parent, limits));
    }
}

fn before_exec(parent: u32, limits: Limits) -> io::Result<()> {
    nix::unistd::setsid()?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    set_limit(Resource::RLIMIT_CORE, Some(0))?;
    set_limit(Resource::RLIMIT_NOFILE, Some(OPEN_FILES))?;
    set_limit(Resource::RLIMIT_AS, limits.address_space_bytes)?;
    set_limit(Resource::RLIMIT_NPROC, limits.processes)?;
    // SAFETY: prctl with these options takes integers and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: as above.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
    // The parent may have died before the signal was set.
    if nix::unistd::getppid().as_raw().unsigned_abs() != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    close_on_exec()
}

/// Marks every descriptor above stderr to be closed by exec. Not closed now: the standard library reports
/// a failed exec through one of them.
fn close_on_exec() -> io::Result<()> {
    let flag = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: marks descriptors of this process; no pointer is passed. The raw system call because not
    // every C library has the function.
    let marked = check(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flag) });
    let Err(error) = marked else { return Ok(()) };
    if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) {
        return Err(error);
    }
    // Linux before 5.11: one by one. An error means that the number is not open.
    for descriptor in 3..MOST_DESCRIPTORS {
        // SAFETY: as above.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

fn set_limit(resource: Resource, limit: Option<u64>) -> io::Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    let (_, hard) = nix::sys::resource::getrlimit(resource)?;
    let limit = limit.min(hard);
    Ok(setrlimit(resource, limit, limit)?)
}

fn check<T: Into<i64>>(result: T) -> io::Result<()> {
    if result.into() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
