//! What a former owner left of its server. We hold the data directory's lock, so that owner is dead: a
//! server that is still alive is stopped, and a `postmaster.pid` whose process is gone, a zombie, or not
//! this cluster's PostgreSQL is stale and removed. PostgreSQL itself would refuse to start when the process
//! id was given to somebody else, and it cannot tell a zombie from a server.
//!
//! Never signals a process unless its program is `postgres` and it works on this very directory. Should
//! backends of a dead server linger, PostgreSQL's own check of its shared memory refuses until they end.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::EmbeddedError;
use super::files;

/// How long a former server may take for each way of stopping it.
const PATIENCE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(10);

/// Stops a living former server of the cluster in `data` and removes a stale `postmaster.pid`. Blocks.
pub(super) fn clear(data: &Path) -> Result<(), EmbeddedError> {
    let file = data.join("postmaster.pid");
    let text = files::read_if_there(&file).map_err(EmbeddedError::io("read", &file))?;
    let Some(text) = text else { return Ok(()) };
    if let Some(pid) = first_pid(&text).filter(|&pid| serves(pid, data)) {
        tracing::warn!(pid = pid.as_raw(), "a former owner's PostgreSQL is still alive: stopping it");
        stop(pid, data)?;
    }
    files::remove_if_there(&file).map_err(EmbeddedError::io("remove", file))
}

/// A fast shutdown, then an immediate one.
fn stop(pid: Pid, data: &Path) -> Result<(), EmbeddedError> {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        if kill(pid, signal) == Err(Errno::ESRCH) {
            return Ok(());
        }
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if !serves(pid, data) {
                return Ok(());
            }
            std::thread::sleep(STEP);
        }
    }
    Err(EmbeddedError::FormerServerStays { pid: pid.as_raw(), path: data.to_owned() })
}

/// The process id on the first line; `None` for nonsense, and for ids that `kill` would read as a group.
fn first_pid(text: &[u8]) -> Option<Pid> {
    let line = text.split(|&byte| byte == b'\n').next()?;
    let pid: i32 = std::str::from_utf8(line).ok()?.trim().parse().ok()?;
    (pid > 1).then(|| Pid::from_raw(pid))
}

/// Is this process alive, a `postgres`, and a server of the cluster in `data`?
fn serves(pid: Pid, data: &Path) -> bool {
    matches!(kill(pid, None), Ok(()) | Err(Errno::EPERM))
        && !is_zombie(pid)
        && arguments(pid).is_ok_and(|arguments| is_server_of(&arguments, working_dir(pid).as_deref(), data))
}

/// A postmaster keeps its own arguments, and works in its data directory; its children rename themselves.
fn is_server_of(arguments: &[Vec<u8>], working_dir: Option<&Path>, data: &Path) -> bool {
    let Some((program, rest)) = arguments.split_first() else { return false };
    let name = Path::new(OsStr::from_bytes(program)).file_name();
    let is_postgres = name == Some(OsStr::new("postgres")) || name == Some(OsStr::new("postmaster"));
    let is_named = rest.iter().any(|argument| argument == data.as_os_str().as_bytes());
    is_postgres && (is_named || working_dir == Some(data))
}

#[cfg(target_os = "linux")]
fn arguments(pid: Pid) -> io::Result<Vec<Vec<u8>>> {
    let text = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    Ok(text.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect())
}

#[cfg(not(target_os = "linux"))]
fn arguments(pid: Pid) -> io::Result<Vec<Vec<u8>>> {
    let pid = pid.to_string();
    let output = std::process::Command::new("ps").args(["-ww", "-o", "args=", "-p", &pid]).output()?;
    Ok(output.stdout.trim_ascii().split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect())
}

/// Where the process works; `None` where that is not ours to know.
fn working_dir(pid: Pid) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// A process that ended and that nobody has waited for; unknown systems say no.
fn is_zombie(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_a_postgres_of_this_directory_is_a_former_server() {
        let data = Path::new("/d/pg/data");
        let check = |arguments: &[&str], cwd: Option<&str>, expected| {
            let arguments: Vec<Vec<u8>> = arguments.iter().map(|a| a.as_bytes().to_vec()).collect();
            assert_eq!(is_server_of(&arguments, cwd.map(Path::new), data), expected, "{arguments:?} {cwd:?}");
        };
        check(&["/usr/lib/postgresql/15/bin/postgres", "-D", "/d/pg/data", ""], None, true);
        check(&["postgres", "-D", "."], Some("/d/pg/data"), true);
        check(&["postgres", "-D", "/other"], Some("/other"), false);
        check(&["postgres: checkpointer "], Some("/d/pg/data"), false);
        check(&["/bin/sh", "-D", "/d/pg/data"], Some("/d/pg/data"), false);
        check(&[""], None, false);
        check(&[], None, false);
    }

    #[test]
    fn process_ids_without_sense_are_no_process_ids() {
        let check = |text: &str, expected: Option<i32>| {
            assert_eq!(first_pid(text.as_bytes()).map(Pid::as_raw), expected, "{text:?}");
        };
        check("4242\n/d/pg/data\n", Some(4242));
        check("1\n", None);
        check("0\n", None);
        check("-1\n", None);
        check("99999999999999\n", None);
        check("garbage\n4242\n", None);
        check("", None);
    }

    #[test]
    fn files_of_the_gone_of_zombies_and_of_strangers_are_removed_and_strangers_live() {
        let data = tempfile::tempdir().expect("a directory");
        let file = data.path().join("postmaster.pid");
        let mut stranger = Command::new("sleep").arg("600").spawn().expect("a stranger");
        let mut zombie = Command::new("true").spawn().expect("a process that ends");
        let zombie_pid = Pid::from_raw(zombie.id() as i32);
        while cfg!(target_os = "linux") && !is_zombie(zombie_pid) {
            std::thread::yield_now();
        }
        for text in
            ["1\n".into(), "nonsense".into(), format!("{}\n", stranger.id()), format!("{zombie_pid}\n")]
        {
            std::fs::write(&file, &text).expect("a leftover");
            clear(data.path()).expect("it is stale");
            assert!(!file.exists(), "{text}");
        }
        clear(data.path()).expect("nothing to do");
        assert!(stranger.try_wait().expect("ours to ask").is_none(), "the stranger was not touched");
        stranger.kill().expect("ours to end");
        stranger.wait().expect("ended");
        zombie.wait().expect("ended");
    }
}
