//! The embedded PostgreSQL, run for real: first and warm starts, kills, leftovers, refusals. Each test has
//! its own data directory below a temporary one that any account may pass. Nothing here sleeps: waits end
//! on the server's state or answer.
#![allow(clippy::print_stdout, reason = "times are reported, not asserted")]

use std::future::Future;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use awooop_store::embedded::{DataDir, EmbeddedError, EmbeddedPg, PgBin, PgState, Role, find_postgres};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;
use tokio_postgres::{Config, NoTls};

/// Set for the process that runs a test as an ordinary user, or that is to be killed.
const INNER: &str = "AWOOOP_TEST_EMBEDDED_DIR";
/// The uid of `nobody` on Linux.
const NOBODY: u32 = 65534;

fn temporary() -> TempDir {
    tempfile::Builder::new()
        .prefix("awooop-test-")
        .permissions(PermissionsExt::from_mode(0o711))
        .tempdir()
        .expect("a temporary directory")
}

fn server() -> PgBin {
    find_postgres(None).expect("PostgreSQL is installed where tests run")
}

/// Runs one future to its end on a runtime of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// Sends one text of statements and returns the first column of the last row.
async fn sql(config: &Config, text: &str) -> Result<String, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    let work = async move {
        let messages = client.simple_query(text).await?;
        let row = messages.iter().rev().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(row.unwrap_or_default())
    };
    tokio::join!(work, connection).0
}

async fn start(path: &Path) -> EmbeddedPg {
    let dir = DataDir::open(path).expect("the directory is free");
    EmbeddedPg::start(&server(), &dir).await.expect("it starts")
}

/// Starts a server where it must not start.
async fn refusal(bin: &PgBin, path: &Path) -> EmbeddedError {
    let dir = DataDir::open(path).expect("the directory is free");
    EmbeddedPg::start(bin, &dir).await.expect_err("it must not start")
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

async fn first_start_and_warm_start(path: &Path) {
    let began = Instant::now();
    let pg = start(path).await;
    println!("first start: {:?}", began.elapsed());
    let admin = pg.url(Role::Admin);
    let check = async |question: &str, expected: &str| {
        assert_eq!(sql(&admin, question).await.expect(question), expected, "{question}");
    };
    check("SELECT current_database()", "awooop").await;
    check("SHOW fsync", "on").await;
    check("SHOW listen_addresses", "").await;
    check("SHOW server_encoding", "UTF8").await;
    check("SHOW timezone", "UTC").await;
    check("SELECT string_agg(type || ' ' || auth_method, ',') FROM pg_hba_file_rules", "local scram-sha-256")
        .await;
    check("SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'awooop_admin'", "t")
        .await;
    check("CREATE TABLE kept(n int); INSERT INTO kept VALUES (7); SELECT n FROM kept", "7").await;
    let pid = pg.postmaster_pid().expect("it runs");
    let group = nix::unistd::getpgid(Some(Pid::from_raw(pid as i32))).expect("it runs");
    assert_eq!(group.as_raw() as u32, pid, "the terminal's Ctrl-C does not reach it");
    pg.stop().await;
    pg.stop().await;
    assert!(!is_alive(pid), "a stop waits for the end");
    assert_eq!(*pg.watch().borrow(), PgState::Stopped);
    drop(pg);

    let began = Instant::now();
    let pg = start(path).await;
    println!("warm start: {:?}", began.elapsed());
    assert_eq!(sql(&pg.url(Role::Admin), "SELECT n FROM kept").await.expect("kept"), "7");
    pg.stop().await;
}

#[test]
fn a_first_start_makes_a_safe_server_and_a_warm_start_keeps_its_data() {
    let parent = temporary();
    block_on(first_start_and_warm_start(&parent.path().join("d")));
}

#[test]
fn as_an_ordinary_user_everything_is_the_same_without_a_switch() {
    if let Some(path) = std::env::var_os(INNER) {
        assert!(!geteuid().is_root());
        return block_on(first_start_and_warm_start(Path::new(&path)));
    }
    let parent = temporary();
    std::fs::set_permissions(parent.path(), PermissionsExt::from_mode(0o777)).expect("open to all");
    let path = parent.path().join("d");
    if !geteuid().is_root() {
        return block_on(first_start_and_warm_start(&path));
    }
    let name = "embedded::as_an_ordinary_user_everything_is_the_same_without_a_switch";
    let output = inner(name, parent.path(), &path)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .output()
        .expect("the test binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "the inner test ran");
    assert_eq!(std::fs::metadata(path.join("pg/data")).expect("made").uid(), NOBODY);
    assert_eq!(std::fs::metadata(&path).expect("made").mode() & 0o777, 0o700);
}

/// This binary again with one test, copied to where any account may run it.
fn inner(test: &str, parent: &Path, data_dir: &Path) -> Command {
    let copy = parent.join("tests");
    std::fs::copy(std::env::current_exe().expect("this binary"), &copy).expect("a copy");
    let mut command = Command::new(copy);
    command.args(["--exact", test, "--nocapture"]).env(INNER, data_dir);
    command
}

#[test]
fn a_second_owner_is_refused_while_the_first_serves() {
    let parent = temporary();
    block_on(async {
        let pg = start(parent.path()).await;
        let message = DataDir::open(parent.path()).expect_err("it is taken").to_string();
        assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
        pg.stop().await;
        DataDir::open(parent.path()).expect("free when the server has stopped");
    });
}

#[test]
fn a_killed_postmaster_comes_back_with_all_committed_data() {
    let parent = temporary();
    block_on(async {
        let pg = start(parent.path()).await;
        let admin = pg.url(Role::Admin);
        sql(&admin, "CREATE TABLE kept(n int)").await.expect("made");
        for round in 1..=3 {
            sql(&admin, &format!("INSERT INTO kept VALUES ({round})")).await.expect("committed");
            let pid = pg.postmaster_pid().expect("it runs");
            let began = Instant::now();
            kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("ours to kill");
            let mut state = pg.watch();
            let is_new = |state: &PgState| matches!(state, PgState::Up { pid: new } if *new != pid);
            state.wait_for(is_new).await.expect("the supervisor lives");
            pg.wait_ready().await.expect("it answers again");
            println!("back after kill -9 in {:?}", began.elapsed());
            let count = sql(&admin, "SELECT count(*) FROM kept").await.expect("it is there");
            assert_eq!(count, round.to_string());
        }
        pg.stop().await;
    });
}

#[test]
fn a_killed_owner_leaves_no_server_and_the_next_one_finds_the_data() {
    if let Some(path) = std::env::var_os(INNER) {
        return block_on(async {
            let pg = start(Path::new(&path)).await;
            sql(&pg.url(Role::Admin), "CREATE TABLE kept(n int); INSERT INTO kept VALUES (7)")
                .await
                .expect("committed");
            let pid = pg.postmaster_pid().expect("it runs");
            std::fs::write(Path::new(&path).with_extension("pid"), pid.to_string()).expect("told");
            println!("ready");
            std::future::pending::<()>().await;
        });
    }
    let parent = temporary();
    let path = parent.path().join("d");
    let name = "embedded::a_killed_owner_leaves_no_server_and_the_next_one_finds_the_data";
    let mut owner = inner(name, parent.path(), &path).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(owner.stdout.take().expect("piped")));
    assert!(lines.any(|line| line.expect("text").contains("ready")), "the owner serves");
    let pid: u32 =
        std::fs::read_to_string(path.with_extension("pid")).expect("told").parse().expect("a process id");
    let began = Instant::now();
    owner.kill().expect("ours to kill");
    owner.wait().expect("ended");
    while cfg!(target_os = "linux") && is_alive(pid) {
        assert!(began.elapsed() < Duration::from_secs(30), "the kernel tells the server to end");
        std::thread::yield_now();
    }
    block_on(async {
        let pg = start(&path).await;
        println!("started after the owner's kill -9 in {:?}", began.elapsed());
        assert!(!is_alive(pid), "the former server is gone before the next one serves");
        assert_eq!(sql(&pg.url(Role::Admin), "SELECT n FROM kept").await.expect("kept"), "7");
        pg.stop().await;
    });
}

#[test]
fn a_living_server_of_a_dead_owner_is_stopped_first() {
    let parent = temporary();
    block_on(async {
        start(parent.path()).await.stop().await;
        let data = parent.path().canonicalize().expect("it exists").join("pg/data");
        let mut orphan = Command::new(server().dir.join("postgres"));
        orphan
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "unix_socket_directories=../s"])
            .current_dir("/")
            .stderr(Stdio::null());
        if geteuid().is_root() {
            let meta = std::fs::metadata(&data).expect("it exists");
            orphan.uid(meta.uid()).gid(meta.gid());
        }
        let mut orphan = orphan.spawn().expect("an orphan");
        let pid_file = data.join("postmaster.pid");
        let deadline = Instant::now() + Duration::from_secs(60);
        while orphan.try_wait().expect("ours to ask").is_none()
            && !std::fs::read_to_string(&pid_file).is_ok_and(|text| text.contains("ready"))
        {
            assert!(Instant::now() < deadline, "the orphan starts");
            tokio::task::yield_now().await;
        }
        assert!(orphan.try_wait().expect("ours to ask").is_none(), "the orphan serves");
        let pg = start(parent.path()).await;
        assert_ne!(pg.postmaster_pid(), Some(orphan.id()));
        assert!(orphan.try_wait().expect("ours to ask").is_some(), "it was stopped");
        pg.stop().await;
    });
}

#[test]
fn leftovers_of_cut_starts_do_not_hinder_the_next() {
    let parent = temporary();
    block_on(async {
        let pg = parent.path().join("pg");
        std::fs::create_dir_all(pg.join("data.new/base")).expect("a cut initdb");
        std::fs::write(pg.join("data.new/PG_VERSION"), "15\n").expect("a cut initdb");
        std::fs::write(pg.join("password.new"), "half").expect("a cut initdb");
        std::fs::create_dir(pg.join("data")).expect("an empty place");
        start(parent.path()).await.stop().await;
        assert!(!pg.join("data.new").exists() && !pg.join("password.new").exists());

        let own = std::process::id().to_string();
        for text in ["1\n", "garbage", "", "-1\n", &own] {
            std::fs::write(pg.join("data/postmaster.pid"), text).expect("a stale file");
            std::fs::write(pg.join("s/.s.PGSQL.5432.lock"), &own).expect("a stale lock");
            start(parent.path()).await.stop().await;
        }
    });
}

#[test]
fn a_cluster_of_another_major_version_is_refused_untouched() {
    let parent = temporary();
    block_on(async {
        let data = parent.path().join("pg/data");
        std::fs::create_dir_all(&data).expect("a place");
        std::fs::write(data.join("PG_VERSION"), "9\n").expect("an old cluster");
        let bin = server();
        let message = refusal(&bin, parent.path()).await.to_string();
        assert!(message.contains("written by PostgreSQL 9"), "{message}");
        assert!(message.contains(&format!("found is {}", bin.major)), "{message}");
        assert!(message.contains("AWOOOP_PG_BIN"), "{message}");
        assert_eq!(std::fs::read_dir(&data).expect("it stays").count(), 1);

        for nonsense in ["", "soup"] {
            std::fs::write(data.join("PG_VERSION"), nonsense).expect("nonsense");
            let error = refusal(&bin, parent.path()).await;
            assert!(matches!(error, EmbeddedError::NotACluster { .. }), "{error}");
        }
        std::fs::rename(data.join("PG_VERSION"), data.join("thesis.tex")).expect("foreign");
        let error = refusal(&bin, parent.path()).await;
        assert!(matches!(error, EmbeddedError::NotACluster { .. }), "{error}");
    });
}

#[test]
fn a_deep_directory_gets_a_short_socket_and_keeps_it() {
    let parent = temporary();
    block_on(async {
        let path = parent.path().join("a directory with spaces").join("x".repeat(120));
        let pg = start(&path).await;
        let first = pg.socket_dir().to_owned();
        assert!(first.as_os_str().len() < 90, "{}", first.display());
        assert_eq!(std::fs::metadata(&first).expect("it exists").mode() & 0o777, 0o700);
        assert_eq!(sql(&pg.url(Role::Admin), "SELECT 1").await.expect("it answers"), "1");
        pg.stop().await;
        drop(pg);
        let pg = start(&path).await;
        assert_eq!(pg.socket_dir(), first);
        pg.stop().await;
        std::fs::remove_dir(first).expect("nothing is left in it");
    });
}

#[test]
fn lost_or_wrong_passwords_are_said_and_never_replaced() {
    let parent = temporary();
    block_on(async {
        let pg = start(parent.path()).await;
        let password = secrecy::ExposeSecret::expose_secret(pg.passwords().get(Role::Admin)).to_owned();
        assert!(!format!("{pg:?} {:?} {}", pg.url(Role::Admin), pg.conninfo(Role::App)).contains(&password));
        let without = Config::clone(&pg.url(Role::Admin)).password("").to_owned();
        sql(&without, "SELECT 1").await.expect_err("no password, no entrance");
        pg.stop().await;
        drop(pg);
        let file = parent.path().join("keys/postgres.json");
        let kept = std::fs::read_to_string(&file).expect("written");
        assert_eq!(std::fs::metadata(&file).expect("written").mode() & 0o777, 0o600);
        std::fs::write(&file, kept.replace(&password, "another")).expect("changed");
        let error = refusal(&server(), parent.path()).await;
        assert!(matches!(error, EmbeddedError::Refused { .. }), "{error}");
        std::fs::write(&file, "{").expect("torn");
        let error = refusal(&server(), parent.path()).await;
        assert!(matches!(error, EmbeddedError::PasswordsUnreadable { .. }), "{error}");
        std::fs::remove_file(&file).expect("lost");
        let error = refusal(&server(), parent.path()).await;
        assert!(matches!(error, EmbeddedError::PasswordsLost { .. }), "{error}");
        std::fs::write(&file, kept).expect("restored");
        start(parent.path()).await.stop().await;
    });
}

#[test]
fn a_server_that_cannot_start_is_explained_by_its_own_words() {
    let parent = temporary();
    block_on(async {
        start(parent.path()).await.stop().await;
        let control = parent.path().join("pg/data/global/pg_control");
        std::fs::write(control, "").expect("a damaged cluster");
        let message = refusal(&server(), parent.path()).await.to_string();
        assert!(message.contains("pg_control"), "{message}");
    });
}

#[test]
fn an_installation_that_fails_to_make_a_cluster_is_explained_by_its_own_words() {
    let parent = temporary();
    let dir: PathBuf = parent.path().join("bin");
    std::fs::create_dir(&dir).expect("a fake installation");
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("passable");
    for (program, text) in [
        ("postgres", "#!/bin/sh\necho 'postgres (PostgreSQL) 15.99'\n"),
        ("initdb", "#!/bin/sh\necho 'initdb: no space left' >&2\nexit 1\n"),
    ] {
        std::fs::write(dir.join(program), text).expect("a fake program");
        std::fs::set_permissions(dir.join(program), PermissionsExt::from_mode(0o755)).expect("executable");
    }
    let bin = find_postgres(Some(&dir)).expect("it says a version");
    block_on(async {
        let path = parent.path().join("d");
        let message = refusal(&bin, &path).await.to_string();
        assert!(message.contains("no space left"), "{message}");
        assert!(!path.join("pg/data").exists() && !path.join("pg/password.new").exists());
        start(&path).await.stop().await;
    });
}
