//! Stdio children: the conversation, its faults, and what a child may see and keep.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use awooop_core::ErrorCode;
use awooop_gateway::upstream::{Transport, UpstreamConfig, UpstreamError, UpstreamSpec, Upstreams};
use futures::future::join_all;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::fixture::TEST_NAME;
use super::{call, check_list_and_call, eventually, pool, spec};

fn child_of(program: PathBuf, uid: Option<u32>, mode: &str) -> UpstreamSpec {
    spec(Transport::Stdio {
        program,
        args: [TEST_NAME, "--exact", "--nocapture"].map(SecretString::from).into(),
        uid,
        env: vec![("AWOOOP_FIXTURE".to_owned(), SecretString::from(mode))],
    })
}

fn child(mode: &str) -> UpstreamSpec {
    child_of(std::env::current_exe().unwrap(), None, mode)
}

async fn about(pool: &Upstreams, spec: &UpstreamSpec) -> Value {
    pool.call_tool(spec, call("about", json!({}))).await.unwrap().structured_content.unwrap()
}

fn is_running(pid: u64) -> bool {
    // A zombie that nobody reaps has ended too.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_child_lists_and_answers() {
    let pool = pool();
    check_list_and_call(&pool, &child("stdio")).await;
    pool.shutdown().await;
}

#[tokio::test]
async fn fifty_parallel_calls_share_one_child_and_get_their_own_answers() {
    let (pool, spec) = (pool(), child("stdio"));
    let calls = (0..50).map(|n| {
        let (pool, spec) = (&pool, &spec);
        async move {
            let result = pool.call_tool(spec, call("echo", json!({"n": n}))).await.unwrap();
            assert_eq!(result.structured_content, Some(json!({"n": n})));
            about(pool, spec).await["pid"].as_u64().unwrap()
        }
    });
    let pids = join_all(calls).await;
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    pool.shutdown().await;
    assert!(!is_running(pids[0]), "shutdown waits for the child's end");
}

#[tokio::test]
async fn a_slow_tool_times_out_and_the_connection_goes_on() {
    let (pool, spec) = (pool(), child("stdio"));
    let pid = about(&pool, &spec).await["pid"].clone();
    let mut slow = call("hang", json!({}));
    slow.timeout = Some(Duration::from_millis(100));
    let error = pool.call_tool(&spec, slow.clone()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Upstream002);
    assert_eq!(error.to_string(), "the tool server did not finish the call within 100 ms");
    assert_eq!(about(&pool, &spec).await["pid"], pid);
    for _ in 0..3 {
        assert_eq!(pool.call_tool(&spec, slow.clone()).await.unwrap_err().code(), ErrorCode::Upstream002);
    }
    assert_ne!(about(&pool, &spec).await["pid"], pid, "a server that only stays silent is replaced");
    pool.shutdown().await;
}

#[tokio::test]
async fn a_child_that_dies_fails_its_calls_in_flight_and_the_next_call_starts_another() {
    let (pool, spec) = (pool(), child("stdio"));
    let before = about(&pool, &spec).await["pid"].clone();
    let (hanging, dying) = tokio::join!(
        pool.call_tool(&spec, call("hang", json!({}))),
        pool.call_tool(&spec, call("die", json!({})))
    );
    for outcome in [hanging, dying] {
        assert_eq!(outcome.unwrap_err().code(), ErrorCode::Upstream001);
    }
    assert_ne!(about(&pool, &spec).await["pid"], before);
    pool.shutdown().await;
}

#[tokio::test]
async fn an_answer_over_the_limit_fails_its_call_alone() {
    let pool = Upstreams::new(UpstreamConfig { max_result_bytes: 100_000, ..UpstreamConfig::default() });
    let spec = child("stdio");
    let pid = about(&pool, &spec).await["pid"].clone();
    let error = pool.call_tool(&spec, call("big", json!({"bytes": 3_000_000}))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the tool server broke the protocol: its answer is larger than 100000 bytes"
    );
    assert_eq!(error.code(), ErrorCode::Upstream003);
    let near = pool.call_tool(&spec, call("big", json!({"bytes": 90_000}))).await.unwrap();
    assert_eq!(near.text().len(), 90_000);
    assert_eq!(about(&pool, &spec).await["pid"], pid);
    pool.shutdown().await;
}

#[tokio::test]
async fn a_result_that_is_no_result_breaks_the_protocol() {
    let (pool, spec) = (pool(), child("stdio"));
    let error = pool.call_tool(&spec, call("nonsense", json!({}))).await.unwrap_err();
    assert!(matches!(error.error, UpstreamError::Protocol(_)), "{error}");
    pool.shutdown().await;
}

#[tokio::test]
async fn a_changed_list_is_asked_for_again() {
    let (pool, spec) = (pool(), child("stdio"));
    let first = pool.list_tools(&spec).await.unwrap();
    let again = pool.list_tools(&spec).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &again), "the list is cached");
    pool.call_tool(&spec, call("change-list", json!({}))).await.unwrap();
    // The notice came before the answer, but is handled beside it.
    for _ in 0..400 {
        if !std::sync::Arc::ptr_eq(&first, &pool.list_tools(&spec).await.unwrap()) {
            return pool.shutdown().await;
        }
        tokio::task::yield_now().await;
    }
    panic!("the notice changed nothing");
}

#[tokio::test]
async fn a_child_sees_only_what_it_is_given() {
    let (pool, spec) = (pool(), child("stdio"));
    let about = about(&pool, &spec).await;
    let mut environment: Vec<&str> =
        about["environment"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    environment.sort_unstable();
    assert_eq!(
        environment,
        ["AWOOOP_FIXTURE=stdio", "HOME=/nonexistent", "LANG=C.UTF-8", "PATH=/usr/bin:/bin"]
    );
    let mut descriptors: Vec<i64> =
        about["descriptors"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
    descriptors.sort_unstable();
    assert_eq!(descriptors[..3], [0, 1, 2]);
    assert!(descriptors.len() <= 3, "{descriptors:?}");
    assert_eq!(about["directory"], "/");
    assert!(about["status"].as_str().unwrap().contains("NoNewPrivs:\t1"));
    let limits = about["limits"].as_str().unwrap();
    for limit in [
        "Max open files            256 ",
        "Max core file size        0 ",
        "Max address space         2147483648 ",
    ] {
        assert!(limits.contains(limit), "{limits}");
    }
    let pid = about["pid"].as_u64().unwrap();
    let stat = about["stat"].as_str().unwrap();
    let after_name: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(after_name[2..4], [pid.to_string(), pid.to_string()], "its own process group and session");
    pool.shutdown().await;
}

#[tokio::test]
async fn as_root_a_child_runs_under_the_given_uid_and_no_group_of_ours() {
    if !nix::unistd::geteuid().is_root() {
        // Only root may switch; the refusal is what there is to see.
        let error = pool()
            .list_tools(&child_of(std::env::current_exe().unwrap(), Some(1), "stdio"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("may not switch"), "{error}");
        return;
    }
    let open = tempfile::tempdir().unwrap();
    let program = open.path().join("server");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    set_mode(open.path(), 0o700);
    let closed_pool = pool();
    let error = closed_pool.list_tools(&child_of(program.clone(), Some(54_321), "stdio")).await.unwrap_err();
    let directory = open.path().display();
    assert_eq!(
        error.to_string(),
        format!(
            "the tool server cannot be reached: its command cannot start: \
             uid 54321 may not enter the directory {directory}"
        )
    );
    set_mode(open.path(), 0o755);
    set_mode(&program, 0o755);
    let (pool, spec) = (pool(), child_of(program, Some(54_321), "stdio"));
    let about = about(&pool, &spec).await;
    let status = about["status"].as_str().unwrap();
    for line in
        ["Uid:\t54321\t54321\t54321\t54321", "Gid:\t54321\t54321\t54321\t54321", "CapEff:\t0000000000000000"]
    {
        assert!(status.contains(line), "{status}");
    }
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    assert_eq!(groups.trim(), "");
    pool.shutdown().await;
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_command_that_cannot_start_says_why() {
    let check = async |program: &str, expected: &str| {
        let error = pool().list_tools(&child_of(program.into(), None, "stdio")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Upstream001);
        assert!(error.to_string().ends_with(expected), "{program}: {error}");
    };
    check("/no/such/program", "its command does not exist").await;
    check("relative", "the command is not an absolute path").await;
    check("/etc/passwd", "its command may not be executed").await;
    check("/bin/true", "it closed the connection").await;
}

#[tokio::test]
async fn a_server_that_exits_or_prints_only_junk_is_given_up_without_its_timeout() {
    let started = Instant::now();
    let gone = pool().list_tools(&child("exit")).await.unwrap_err();
    assert_eq!(gone.code(), ErrorCode::Upstream001);
    let junk = pool().list_tools(&child("junk")).await.unwrap_err();
    assert!(junk.to_string().contains("no JSON-RPC"), "{junk}");
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
}

#[tokio::test]
async fn many_who_wait_for_a_failing_server_share_one_failure() {
    let pool = pool();
    let spec = child("exit");
    let outcomes = join_all((0..20).map(|_| pool.list_tools(&spec))).await;
    assert!(
        outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|e| e.code() == ErrorCode::Upstream001))
    );
}

#[tokio::test]
async fn an_idle_child_ends_and_a_new_version_gets_its_own() {
    let config = UpstreamConfig { idle_timeout: Duration::from_millis(200), ..UpstreamConfig::default() };
    let pool = Upstreams::new(config);
    let spec = child("stdio");
    let mut newer = spec.clone();
    newer.version = uuid::Uuid::from_u128(2);
    let pid = about(&pool, &spec).await["pid"].as_u64().unwrap();
    assert_ne!(about(&pool, &newer).await["pid"], json!(pid));
    eventually("the idle child ends", || !is_running(pid)).await;
    assert_ne!(about(&pool, &spec).await["pid"], json!(pid));
    pool.shutdown().await;
}

#[tokio::test]
async fn a_child_that_ignores_the_end_of_its_input_is_ended_by_shutdown_and_by_drop() {
    let spec = child("deaf");
    let shut = pool();
    let pid = about(&shut, &spec).await["pid"].as_u64().unwrap();
    shut.shutdown().await;
    assert!(!is_running(pid));
    let after = shut.list_tools(&spec).await.unwrap_err();
    assert!(after.to_string().contains("shutting down"), "{after}");

    let dropped = pool();
    let pid = about(&dropped, &spec).await["pid"].as_u64().unwrap();
    drop(dropped);
    eventually("a dropped pool's child ends", || !is_running(pid)).await;
}

#[tokio::test]
async fn a_parent_that_is_killed_takes_even_a_deaf_child_with_it() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args([TEST_NAME, "--exact", "--nocapture"])
        .env("AWOOOP_FIXTURE", "hold")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = std::io::BufReader::new(parent.stdout.take().unwrap());
    let pid = std::io::BufRead::lines(stdout)
        .find_map(|line| line.unwrap().strip_prefix("child ")?.parse::<u64>().ok())
        .unwrap();
    assert!(is_running(pid));
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("the child ends", || !is_running(pid)).await;
}

/// Opens a child that ignores the end of its input, prints its pid, and stays until it is killed.
pub(super) fn hold_a_child() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pool = pool();
    let about = runtime.block_on(about(&pool, &child("deaf")));
    println!("\nchild {}", about["pid"]);
    loop {
        std::thread::park();
    }
}
