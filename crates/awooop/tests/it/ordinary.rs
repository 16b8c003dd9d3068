//! The built program in the hands of an ordinary user: its own PostgreSQL, the shop's tool server under the
//! same uid, and a clear word where there is no PostgreSQL. As root the tests step down to `nobody`'s uid.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use awooop_journeys::process::Process;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;

use crate::support::root;

const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(90);

/// The program as an ordinary user runs it, with nothing of ours in its environment.
fn program(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_awooop"));
    command.args(arguments).env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A home of that user's own, closed to others.
fn home() -> tempfile::TempDir {
    let home = tempfile::Builder::new().prefix("awooop-home-").tempdir().unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    if geteuid().is_root() {
        chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    home
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_an_ordinary_user_starts_it_applies_the_shop_and_is_answered() {
    let home = home();
    let mut server = program(home.path(), &["dev", "--port", "0"]);
    server.stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = Process::spawn(&mut server).unwrap();
    let dev_env = home.path().join(".local/share/awooop/dev.env");
    let began = Instant::now();
    while !dev_env.exists() {
        assert!(server.ended().unwrap().is_none() && began.elapsed() < PATIENCE, "it does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let shop = root().join("examples/ewoooc");
    let copy = home.path().join("shop");
    std::fs::create_dir(&copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    for entry in std::fs::read_dir(shop).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|e| e == "yaml") {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    let applied = output(program(home.path(), &["apply", "-f", copy.to_str().unwrap()])).await;
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let question = "How much did we sell in March 1997?";
    let answered =
        output(program(home.path(), &["run", "shop-analyst", question, "--project", "ewoooc", "--json"]))
            .await;
    let document: Value = serde_json::from_slice(&answered.stdout).expect("one document");
    assert_eq!(document["run"]["state"], "completed", "{document}");
    assert_eq!(document["output"]["data"]["orders"], 1204);
    server.signal(Signal::SIGTERM).unwrap();
    assert!(server.wait(PATIENCE).await.unwrap().is_some_and(|status| status.success()));
}

#[tokio::test]
async fn without_postgresql_it_says_so_and_ends_with_3() {
    let home = home();
    let mut command = program(home.path(), &["dev", "--port", "0"]);
    command.env("AWOOOP_PG_BIN", home.path());
    let ended = output(command).await;
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{told}");
    assert!(told.contains("AWOOOP_PG_BIN") && told.contains("PostgreSQL 15"), "{told}");
    assert!(!home.path().join(".local").exists(), "nothing was made");
}
