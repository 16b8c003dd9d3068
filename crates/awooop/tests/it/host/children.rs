//! What a hostile tool server reaches from inside, started by the server as a child: in a server that is root, where
//! each project's children have a uid of their own, and in one that is not, where they have the server's.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use awooop_journeys::client::Api;
use awooop_journeys::server::{Home, Server};
use serde_json::{Value, json};

use super::intruder::{ARMED, TEST_NAME};
use crate::gates::agent_client;
use crate::scripted::{agent, ask_mcp, manifest};

const GIVEN: (&str, &str) = ("AWOOOP_TEST_GIVEN", "given-value-7");
const KEPT: (&str, &str) = ("AWOOOP_TEST_KEPT", "kept-value-7");
/// Arguments that a shell would carry out.
const FOR_A_SHELL: [&str; 4] = ["; touch /tmp/x", "$(id)", "`id`", "| cat /etc/passwd > &2"];

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A directory that any uid can pass, with the intruder's program and, as root, one that would run as root.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn make() -> Place {
        let mode = PermissionsExt::from_mode(0o755);
        let directory = tempfile::Builder::new().prefix("awooop-child-").permissions(mode).tempdir().unwrap();
        let place = Place { directory };
        std::fs::copy(std::env::current_exe().unwrap(), place.program()).unwrap();
        set_mode(&place.program(), 0o755);
        std::fs::copy("/usr/bin/id", place.set_uid()).unwrap();
        set_mode(&place.set_uid(), 0o4755);
        let notes = place.notes();
        std::fs::create_dir(&notes).unwrap();
        set_mode(&notes, 0o1777);
        place
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("intruder")
    }

    fn set_uid(&self) -> PathBuf {
        self.directory.path().join("id")
    }

    /// Where any child may write.
    fn notes(&self) -> PathBuf {
        self.directory.path().join("notes")
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// The operator's list: the intruder for two projects, and secrets of theirs.
fn operator(place: &Place, secrets: &Path) -> String {
    let mut list = format!("allow_same_uid_children = {}\nsecrets = \"{}\"\n", !is_root(), secrets.display());
    for (project, uid) in [("gated", 200_021), ("guests", 200_022)] {
        list.push_str(&format!(
            "[projects.{project}]\nuid = {uid}\nenv = [\"{}\"]\ncommands = {{ intruder = \"{}\" }}\n",
            GIVEN.0,
            place.program().display()
        ));
    }
    list
}

/// Puts the operator's list where a server looks for it, for its user only, as the server itself would.
fn write_list(home: &Home, list: &str) {
    std::fs::create_dir(home.data_dir()).unwrap();
    let path = home.data_dir().join("operator.toml");
    std::fs::write(&path, list).unwrap();
    set_mode(&path, 0o600);
}

/// An intruder in a project, as the agent that calls it.
async fn intrude(server: &Server, project: &str) -> Api {
    let api = server.api().in_project(project);
    let arguments = [&[TEST_NAME, "--exact", "--nocapture"], &FOR_A_SHELL[..]].concat();
    let provider = |_: &str| {
        json!({"type": "mcp", "transport": "stdio", "command": "intruder", "args": arguments,
            "env": {ARMED: format!("env://{}", GIVEN.0)}, "tools": [{"name": "look", "risk": "read_only"}]})
    };
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    api.apply(&[
        manifest("project", project, project, json!({"display_name": "Children"})),
        manifest("provider", project, "brain", offline),
        manifest("provider", project, "host", provider("host")),
        manifest("provider", project, "beside", provider("beside")),
        agent(project, "tester", "brain/planner", &["host__look", "beside__look"], json!({})),
    ])
    .await
    .expect("the manifests are valid");
    agent_client(&api, "tester").await
}

/// What one of them reached, and what it is. Paths are told by their names in `wanted`.
async fn look(client: &Api, provider: &str, asked: &Value, wanted: &[Wanted]) -> (Vec<String>, Value) {
    let mut asked = asked.clone();
    asked["paths"] = wanted.iter().map(|(_, path)| json!(path)).collect();
    let call = json!({"name": format!("{provider}__look"), "arguments": asked});
    let said = ask_mcp(client, "tools/call", call).await.json();
    let seen = &said["result"]["structuredContent"];
    let reached = seen["reached"].as_array().unwrap_or_else(|| panic!("{said}"));
    let name = |told: &str| {
        let known = wanted.iter().find(|(_, path)| path.as_path() == Path::new(told));
        known.map_or(told, |(name, _)| *name).to_owned()
    };
    let mut reached: Vec<String> = reached.iter().map(|told| name(told.as_str().unwrap())).collect();
    reached.sort();
    (reached, seen["about"].clone())
}

fn pid(about: &Value) -> i64 {
    about["pid"].as_i64().expect("a process id")
}

/// What a child of any server is, whoever it runs as.
fn assert_bounded(about: &Value) {
    assert_eq!(about["environment"], json!(["HOME", "LANG", "PATH", ARMED]));
    assert_eq!(about["directory"], "/");
    assert_eq!(about["descriptors"].as_array().unwrap().len(), 3, "stdin, stdout and stderr: {about}");
    let words = about["arguments"].as_array().unwrap();
    for shell in FOR_A_SHELL {
        assert!(words.contains(&json!(shell)), "{shell} is a word, not a command: {words:?}");
    }
    let status = about["status"].as_str().unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let limits = about["limits"].as_str().unwrap();
    assert!(limits.contains("Max core file size        0 "), "{limits}");
    assert!(about["most_files"].as_u64().unwrap() < 256, "{about}");
    assert_eq!(about["has_memory"], false, "3 GiB are too many");
}

/// A file or a folder that a child could want, and what it is.
type Wanted = (&'static str, PathBuf);

/// All of them.
fn wanted(home: &Home, secrets: &Path) -> Vec<Wanted> {
    let data = home.data_dir();
    let wanted = vec![
        ("the keyring", data.join("keys/keyring.json")),
        ("the folder of keys", data.join("keys")),
        ("the data directory", data.clone()),
        ("the admin's key", data.join("dev.env")),
        ("the operator's list", data.join("operator.toml")),
        ("another project's secret", secrets.join("guests/token")),
        ("the folder of secrets", secrets.to_owned()),
        ("shadow", PathBuf::from("/etc/shadow")),
        ("PostgreSQL's folder", data.join("pg")),
        ("PostgreSQL's files", data.join("pg/data")),
    ];
    for (name, path) in &wanted {
        assert!(path.exists(), "{name} is not at {}, so nobody could reach it", path.display());
    }
    wanted
}

/// The folder of secrets, its one secret the guests'.
fn secrets(home: &Home) -> PathBuf {
    let secrets = home.path().join("secrets");
    std::fs::create_dir_all(secrets.join("guests")).unwrap();
    std::fs::write(secrets.join("guests/token"), "guests-secret").unwrap();
    set_mode(&secrets, 0o700);
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_child_with_a_uid_of_its_own_reaches_nothing_of_the_server_and_of_other_projects() {
    if !is_root() {
        // without root there are no other uids: the test below shows what holds then
        return;
    }
    let place = Place::make();
    // its own database too, so that there are PostgreSQL's files and its socket's folder to look for
    let home = Home::new().unwrap().env(GIVEN.0, GIVEN.1).env(KEPT.0, KEPT.1);
    let secrets = secrets(&home);
    write_list(&home, &operator(&place, &secrets));
    let server = home.start().await.expect("the server starts");
    let (mine, guests) = (intrude(&server, "gated").await, intrude(&server, "guests").await);
    let note = place.notes().join("of-guests");
    let (_, guest) = look(&guests, "host", &json!({"make": note}), &[]).await;
    assert!(note.exists(), "the guest may write where anybody may");
    let asked = json!({"processes": {"server": server.pid().as_raw(), "guest": guest["pid"]},
        "set_uid": place.set_uid()});
    let wanted = [wanted(&home, &secrets), vec![("a guest's file", note)]].concat();
    let (reached, about) = look(&mine, "host", &asked, &wanted).await;
    assert_eq!(reached, Vec::<String>::new());
    assert_bounded(&about);
    assert_ne!(about["set_uid"], "0", "a program that belongs to root makes nobody root");
    let status = about["status"].as_str().unwrap();
    for line in ["Uid:\t200021\t200021\t200021\t200021", "Gid:\t200021\t200021\t200021\t200021"] {
        assert!(status.contains(line), "{status}");
    }
    for line in ["CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{line}:\t0000000000000000")), "{status}");
    }
    let limits = about["limits"].as_str().unwrap();
    assert!(limits.contains("Max processes             512 "), "{limits}");

    // children of one project are one another's: their uid is the project's
    let (_, beside) = look(&mine, "beside", &json!({}), &[]).await;
    let beside = json!({"processes": {"beside": beside["pid"]}});
    let (reached, _) = look(&mine, "host", &beside, &[]).await;
    for what in ["environment", "memory", "open files", "its pipes", "signals"] {
        assert!(reached.contains(&format!("beside: {what}")), "{what}: {reached:?}");
    }
    assert_ne!(pid(&about), pid(&guest));
    let (code, found) = home.cli_json(&["doctor"]).await.unwrap();
    assert_eq!(code, 0, "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_child_with_the_servers_uid_reaches_its_files_and_not_its_memory() {
    let place = Place::make();
    let mut home = Home::new().unwrap().env(GIVEN.0, GIVEN.1).env(KEPT.0, KEPT.1);
    let secrets = secrets(&home);
    write_list(&home, &operator(&place, &secrets).replace("children = false", "children = true"));
    if is_root() {
        // a user that PostgreSQL too finds by its name
        let nobody = nix::unistd::User::from_name("nobody").unwrap().expect("a user without rights");
        home = home.under(nobody.uid.as_raw()).expect("root may");
    }
    let server = home.start().await.expect("the server starts");
    let mine = intrude(&server, "gated").await;
    let asked = json!({"processes": {"server": server.pid().as_raw()}});
    let (reached, about) = look(&mine, "host", &asked, &wanted(&home, &secrets)).await;
    assert_bounded(&about);
    // files are a user's, and so are signals: what the page on this setting says
    let open = [
        "PostgreSQL's files",
        "PostgreSQL's folder",
        "another project's secret",
        "parent: signals",
        "server: signals",
        "the admin's key",
        "the data directory",
        "the folder of keys",
        "the folder of secrets",
        "the keyring",
        "the operator's list",
    ];
    assert_eq!(reached, open, "no memory, no environment, no open file of the server");
}
