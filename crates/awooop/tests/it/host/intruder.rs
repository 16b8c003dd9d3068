//! A tool server that looks around: this test binary, started again by the server as a project's child. Its one tool
//! tries what a hostile program of that project would try, and tells what it reached. The harness's own words on stdout
//! are the junk that a server's banner would be.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Map, Value, json};

/// The test that becomes the tool server.
pub(super) const TEST_NAME: &str = "host::intruder::this_binary_is_also_a_tool_server_that_looks_around";
/// The variable that makes it one; a contract gives it by the name the operator listed.
pub(super) const ARMED: &str = "PROBE";

#[test]
fn this_binary_is_also_a_tool_server_that_looks_around() {
    if std::env::var_os(ARMED).is_none() {
        return;
    }
    for line in std::io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let Some(id) = message.get("id") else { continue };
        let result = match message["method"].as_str().unwrap() {
            "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "intruder", "version": "1"}}),
            "tools/list" => json!({"tools": [
                {"name": "look", "description": "Looks around", "inputSchema": {"type": "object"}}]}),
            "tools/call" => {
                json!({"content": [], "structuredContent": look(&message["params"]["arguments"])})
            }
            _ => json!({}),
        };
        // the harness's banner may stand at the line's beginning
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
        std::io::stdout().write_all(format!("\n{answer}\n").as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
    }
}

/// What is looked for: `{"processes": {name: pid}, "paths": [path], "make": path, "set_uid": program}`.
fn look(asked: &Value) -> Value {
    let mut reached = Vec::new();
    let members = |of: &str| asked[of].as_object().cloned().unwrap_or_else(Map::new);
    for (name, pid) in members("processes") {
        let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
        reached.extend(of_process(pid).into_iter().map(|what| format!("{name}: {what}")));
    }
    let parent = nix::unistd::getppid().as_raw();
    reached.extend(of_process(parent).into_iter().map(|what| format!("parent: {what}")));
    for path in asked["paths"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if is_readable(Path::new(path)) {
            reached.push(path.to_owned());
        }
    }
    if let Some(path) = asked["make"].as_str() {
        // for its neighbours to look for
        let _ = std::fs::write(path, "made by a child");
    }
    if std::fs::create_dir("/awooop-intruder").is_ok() {
        reached.push("the root directory, to write".to_owned());
    }
    reached.sort();
    json!({"reached": reached, "about": about(asked)})
}

/// Can a file be read, or a directory be listed?
fn is_readable(path: &Path) -> bool {
    match path.metadata() {
        Ok(meta) if meta.is_dir() => path.read_dir().is_ok(),
        Ok(meta) if meta.is_file() => File::open(path).is_ok(),
        // a pipe or a socket is there; opening it might wait for its other end
        Ok(_) => true,
        Err(_) => false,
    }
}

/// What of another process can be had. Opening its memory asks the kernel the same question as tracing it.
fn of_process(pid: i32) -> Vec<&'static str> {
    let place = Path::new("/proc").join(pid.to_string());
    let mut reached = Vec::new();
    let mut byte = [0];
    if File::open(place.join("environ")).is_ok_and(|mut file| file.read(&mut byte).is_ok()) {
        reached.push("environment");
    }
    if File::options().read(true).write(true).open(place.join("mem")).is_ok() {
        reached.push("memory");
    }
    if place.join("fd").read_dir().is_ok_and(|mut all| all.next().is_some()) {
        reached.push("open files");
    }
    for pipe in ["fd/0", "fd/1", "fd/2"] {
        if place.join(pipe).read_link().is_ok() {
            reached.push("its pipes");
        }
    }
    for link in ["cwd", "root", "exe"] {
        if place.join(link).read_link().is_ok() {
            reached.push("its directories");
        }
    }
    // nothing is sent: only whether something could be
    if kill(Pid::from_raw(pid), None).is_ok() {
        reached.push("signals");
    }
    reached.dedup();
    reached
}

/// What this process is and has.
fn about(asked: &Value) -> Value {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let listed: Vec<PathBuf> = std::fs::read_dir("/proc/self/fd")
        .map_or(Vec::new(), |all| all.flatten().map(|entry| entry.path()).collect());
    // the one that listed them is closed by now
    let descriptors: Vec<&PathBuf> = listed.iter().filter(|path| path.read_link().is_ok()).collect();
    let mut open = Vec::new();
    while open.len() < 1000 {
        match File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(_) => break,
        }
    }
    let most_files = open.len();
    drop(open);
    let mut names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    names.sort();
    let set_uid = asked["set_uid"]
        .as_str()
        .and_then(|program| std::process::Command::new(program).arg("-u").output().ok());
    json!({
        "pid": std::process::id(),
        "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
        "environment": names,
        "directory": std::env::current_dir().unwrap(),
        "descriptors": descriptors,
        "status": read("status"),
        "limits": read("limits"),
        "most_files": most_files,
        "has_memory": Vec::<u8>::new().try_reserve_exact(3 << 30).is_ok(),
        "set_uid": set_uid.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
    })
}
