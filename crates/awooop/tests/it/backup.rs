//! Backups from outside: taken of a server at work, restored into an empty data directory and into an empty database,
//! where everything goes on; and every way in which one is damaged, locked, cut off or in the wrong place.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use awooop_journeys::client::Api;
use awooop_journeys::cluster::ClusterUrls;
use awooop_journeys::db::connect;
use awooop_journeys::process::Process;
use awooop_journeys::server::Home;
use serde_json::{Value, json};

use crate::scripted::{
    PATIENCE, Say, Scripted, Stage, agent, calls, end, given, id_of, manifest, mcp, result, says, until,
};
use crate::serving::{Empty, Site, install, output};
use crate::support::home_on;

const PROJECT: &str = "kept";
/// What the operator allows: a tool server on this machine.
const OPERATOR: &str = "private_addresses = [\"127.0.0.0/8\"]\n";

/// `holds` answers when it is let go, `sends` at once.
fn tools_server(message: &Value) -> Say {
    let tool =
        |name| json!({"name": name, "description": "Does something", "inputSchema": {"type": "object"}});
    mcp(message, json!(["sends", "holds"].map(tool)), |name, _| {
        let said = json!({"content": [{"type": "text", "text": format!("{name}: done")}]});
        match name {
            "holds" => Say::WhenLetGo(json!({"jsonrpc": "2.0", "id": message["id"], "result": said})),
            _ => result(message, said),
        }
    })
}

/// A model that makes the one call its run's input names, if it names one, then answers.
fn caller(request: &Value) -> Say {
    let name = request["messages"][1]["content"].as_str().unwrap_or_default().to_owned();
    match given(request) == 0 && ["sends", "holds"].contains(&name.as_str()) {
        true => Say::Json(calls(&[(&format!("kit__{name}"), "{}")])),
        false => Say::Json(says(&json!({"answer": "done"}).to_string())),
    }
}

/// A server with a project in which a run waits for a person, one is in a tool, and one is paused before it begins.
struct Original {
    stage: Stage,
    tools: Scripted,
    _model: Scripted,
    api: Api,
    /// A key of the project's own administrator.
    key: String,
    waiting: String,
    running: String,
    pending: String,
}

impl Original {
    async fn start() -> Original {
        let tools = Scripted::start(tools_server).await;
        let model = Scripted::start(caller).await;
        let stage = Stage::start(&[], Some(OPERATOR)).await;
        let mut kit = tools.tool_spec(&["sends", "holds"].map(|name| (name, "write")));
        kit["tools"][1]["idempotent"] = json!(true);
        let granted = ["kit__sends", "kit__holds"];
        let agents = [("careful", "suggest"), ("bold", "live"), ("paused", "live")]
            .map(|(id, mode)| agent(PROJECT, id, "brain/caller", &granted, json!({"mode": mode})));
        let mut manifests = vec![
            manifest("project", PROJECT, PROJECT, json!({"display_name": "Kept"})),
            manifest("provider", PROJECT, "kit", kit),
            manifest("provider", PROJECT, "brain", model.model_spec(&["caller"])),
        ];
        manifests.extend(agents);
        let api = stage.apply(PROJECT, &manifests).await;
        let key = api.create_key(&json!({"name": "owner", "role": "admin"})).await.unwrap();
        let paused =
            stage.home.cli(&["pause", "--agent", "paused", "--project", PROJECT, "--reason", "later"]);
        let paused = paused.await.unwrap();
        assert!(paused.status.success(), "{paused:?}");
        let waiting = api.create_run("careful", &json!("sends")).await.unwrap();
        let running = api.create_run("bold", &json!("holds")).await.unwrap();
        let pending = api.create_run("paused", &json!("nothing")).await.unwrap();
        until("one waits for a person", async || state(&api, &waiting).await == "waiting_approval").await;
        until("one is in its tool", async || tools.calls_of("holds") == 1).await;
        Original { stage, tools, _model: model, api, key, waiting, running, pending }
    }

    /// `awooop backup`, as an operator runs it beside the server.
    async fn backup(&self, words: &[&str]) -> (i32, String, String) {
        output(self.command(&[&["backup"], words].concat())).await
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.stage.home.command(words);
        command.env("AWOOOP_BACKUP_DATABASE_URL", &self.stage.database.urls().backup);
        command
    }

    fn keys(&self) -> PathBuf {
        self.stage.home.data_dir().join("keys")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.stage.home.path().join(name)
    }
}

async fn state(api: &Api, run_id: &str) -> String {
    let run = api.get_run(run_id).await.unwrap();
    run["run"]["state"].as_str().unwrap_or_default().to_owned()
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `awooop restore` into an outside database.
fn into(home: &Home, urls: &ClusterUrls, words: &[&str]) -> Command {
    let keys = home.path().join("restored-keys");
    home.command(&[&["restore", "--admin-url", &urls.admin, "--keys", shown(&keys)], words].concat())
}

/// What is under way in the copy goes on: the approved run ends, the one that a dead worker had ends, the paused one
/// stays, and a key of before works.
async fn goes_on(original: &Original, admin: &Api, base: &str) {
    let inside = Api::new(base, Some(&original.key)).unwrap();
    assert_eq!(state(&inside, &original.waiting).await, "waiting_approval", "the key of before works");
    assert_eq!(state(&inside, &original.pending).await, "pending");
    let admin = admin.in_project(PROJECT);
    let person = json!({"name": "mei", "role": "approver", "person": "mei"});
    let mei = admin.with_key(Some(&admin.create_key(&person).await.unwrap()));
    let run = mei.get_run(&original.waiting).await.unwrap();
    let approval = run["waiting"]["approval_id"].as_str().unwrap_or_else(|| panic!("{run}")).to_owned();
    let body = json!({"decision": "approve"});
    let decided = mei.post(&format!("/v1/platform/approvals/{approval}/decide"), &body).await.unwrap();
    assert_eq!(decided.status, 200, "{}", decided.text);
    for run_id in [&original.waiting, &original.running] {
        let ended = inside.wait_for_end(run_id, PATIENCE).await.unwrap();
        assert_eq!((end(&ended), id_of(&ended)), (("completed", ""), run_id.as_str()), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_backup_of_a_server_at_work_is_restored_and_everything_goes_on() {
    let original = Original::start().await;
    let identity = age_key(&original.at("identity"));
    let backup = original.at("monday");
    let busy = async {
        for n in 0..30 {
            original.api.create_run("bold", &json!(n)).await.unwrap();
        }
    };
    let keys = original.keys();
    let words = [shown(&backup), "--recipient", &identity, "--keys", shown(&keys), "--json"];
    let ((), taken) = tokio::join!(busy, original.backup(&words));
    assert_eq!(taken.0, 0, "{taken:?}");
    let told: Value = serde_json::from_str(&taken.1).unwrap();
    assert_eq!(
        (&told["manifest"]["projects"], &told["manifest"]["is_encrypted"]),
        (&json!(2), &json!(true)),
        "{told}"
    );
    let names = ["database.dump.age", "keyring.json.age", "manifest.json"];
    let mut found: Vec<String> =
        std::fs::read_dir(&backup).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, names);
    assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o700);
    let file = original.at("identity");
    let checked = original.backup(&[shown(&backup), "--check", "--identity", shown(&file)]).await;
    assert!(checked.0 == 0 && checked.2.contains("it is whole"), "{checked:?}");

    // its tool answers from now on, so that what is repeated ends
    original.tools.let_go();

    // an empty data directory of `dev`
    let home = Home::new().unwrap();
    std::fs::create_dir(home.data_dir()).unwrap();
    std::fs::write(home.data_dir().join("operator.toml"), OPERATOR).unwrap();
    let words = ["restore", shown(&backup), "--identity", shown(&file)];
    let (code, document) = home.cli_json(&words).await.unwrap();
    assert_eq!((code, &document["is_well"]), (0, &json!(true)), "{document}");
    assert_eq!((&document["audit"]["projects"], &document["has_written_keyring"]), (&json!(2), &json!(true)));
    let again = home.cli(&words).await.unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.code() == Some(1) && said.contains("the database is not empty"), "{said}");
    let server = home.start().await.unwrap();
    goes_on(&original, server.api(), server.url()).await;
    let (code, found) = home.cli_json(&["doctor"]).await.unwrap();
    assert_eq!(code, 0, "{found}");
    // `dev` backs itself up without a word about where its database is
    let second = home.path().join("second");
    let taken = home.cli(&["backup", shown(&second)]).await.unwrap();
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(taken.status.success() && said.contains("it is not encrypted"), "{said}");
    assert!(second.join("database.dump").exists() && !second.join("keyring.json").exists());
    drop(server);

    // an empty database for `serve`
    let empty = Empty::new().await;
    let urls = empty.urls();
    let home = home_on(&urls);
    let restored = output(into(&home, &urls, &[shown(&backup), "--identity", shown(&file)])).await;
    assert_eq!(restored.0, 0, "{restored:?}");
    for said in ["doctor: nothing is wrong", "2 projects verify", "wrote the keyring"] {
        assert!(restored.1.contains(said), "{restored:?}");
    }
    let (keys, list) = (home.path().join("restored-keys"), home.path().join("operator.toml"));
    std::fs::write(&list, OPERATOR).unwrap();
    let site = Site { home, keys, list, key: original.stage.server.key().to_owned() };
    let node = site.serve("all", "copy").await;
    let address = node.log().split("serves ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let admin = Api::new(&address, Some(&site.key)).unwrap();
    goes_on(&original, &admin, &address).await;
    assert!(node.stop().await.success());
    empty.drop().await;
}

/// Writes a private key and returns the public one.
fn age_key(path: &Path) -> String {
    let identity = age::x25519::Identity::generate();
    let text = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
    std::fs::write(path, format!("# a key of this test\n{text}\n")).unwrap();
    identity.to_public().to_string()
}

/// A backup with one of its files changed.
fn copy(backup: &Path, to: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(backup).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let mut bytes = std::fs::read(to.join(name)).unwrap();
    change(&mut bytes);
    std::fs::write(to.join(name), bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_is_damaged_locked_or_in_the_wrong_place_is_refused_and_nothing_is_changed() {
    let source = Empty::new().await;
    let site = install(&source.urls()).await;
    let at = |name: &str| site.home.path().join(name);
    let backup = at("backup");
    std::fs::write(at("right"), "a passphrase of this test\n").unwrap();
    std::fs::write(at("wrong"), "another passphrase\n").unwrap();
    let take = async |words: &[&str]| {
        let mut command = site.home.command(&[&["backup"], words].concat());
        command.env("AWOOOP_BACKUP_DATABASE_URL", &source.urls().backup);
        output(command).await
    };
    let right = at("right");
    let taken =
        take(&[shown(&backup), "--passphrase-file", shown(&right), "--keys", shown(&site.keys)]).await;
    assert_eq!(taken.0, 0, "{taken:?}");
    let plain = at("plain");
    let taken = take(&[shown(&plain), "--keys", shown(&site.keys)]).await;
    assert!(taken.0 == 0 && taken.2.contains("not encrypted"), "{taken:?}");
    let again = take(&[shown(&plain)]).await;
    assert!(again.0 == 2 && again.2.contains("exists already"), "{again:?}");
    let mut unsafe_role = site.home.command(&["backup", shown(&at("never"))]);
    unsafe_role.env("AWOOOP_BACKUP_DATABASE_URL", &source.urls().app);
    let refused = output(unsafe_role).await;
    assert!(refused.0 == 2 && refused.2.contains("awooop_app") && !at("never").exists(), "{refused:?}");
    let mut without = site.home.command(&["backup", shown(&at("never"))]);
    without.env("AWOOOP_BACKUP_DATABASE_URL", &source.urls().backup).env("AWOOOP_PG_BIN", site.home.path());
    let refused = output(without).await;
    assert!(refused.0 == 1 && refused.2.contains("The pg_dump of PostgreSQL"), "{refused:?}");
    assert!(!at("never").exists());

    let database = "database.dump.age";
    copy(&backup, &at("damaged"), database, |bytes| *bytes.last_mut().unwrap() ^= 1);
    copy(&backup, &at("truncated"), database, |bytes| bytes.truncate(bytes.len() - 100));
    copy(&backup, &at("newer"), "manifest.json", |bytes| {
        *bytes = String::from_utf8_lossy(bytes)
            .replace("\"schema_version\": ", "\"schema_version\": 9")
            .into_bytes();
    });
    copy(&backup, &at("foreign"), "manifest.json", |bytes| {
        *bytes = String::from_utf8_lossy(bytes).replace(database, "../database").into_bytes();
    });
    copy(&plain, &at("keyed"), "manifest.json", |bytes| {
        let entry = r#""files": [{"name": "keyring.json", "bytes": 2, "sha256": ""},"#;
        *bytes = String::from_utf8_lossy(bytes).replace("\"files\": [", entry).into_bytes();
    });
    let unkeyed = at("unkeyed");
    assert_eq!(take(&[shown(&unkeyed)]).await.0, 0);
    let target = Empty::new().await;
    let home = home_on(&target.urls());
    let passphrase = |file: &Path| ["--passphrase-file".to_owned(), shown(file).to_owned()];
    for (name, key, code, said) in [
        ("damaged", "right", 2, "its hash differs"),
        ("truncated", "right", 2, "bytes, and must have"),
        ("newer", "right", 2, "newer than this binary's"),
        ("foreign", "right", 2, "which no backup has"),
        ("nothing", "right", 2, "it has no manifest.json"),
        ("backup", "wrong", 2, "does not open with this key or passphrase"),
        ("plain", "right", 2, "is not encrypted, and a key to open it was given"),
        ("keyed", "right", 2, "it holds a keyring in clear"),
    ] {
        let (directory, key) = (at(name), passphrase(&at(key)));
        let words: Vec<&str> = [shown(&directory), &key[0], &key[1]].to_vec();
        let refused = output(into(&home, &target.urls(), &words)).await;
        assert!(refused.0 == code && refused.2.contains(said), "{name}: {refused:?}");
        assert!(is_empty(&target.urls()).await, "{name}");
        assert!(!home.path().join("restored-keys").exists(), "{name}");
    }
    for directory in [&plain, &unkeyed] {
        let refused = output(into(&home, &target.urls(), &[shown(directory)])).await;
        assert!(refused.0 == 2 && refused.2.contains("the backup holds no keyring"), "{refused:?}");
    }
    let opened = [shown(&backup), "--passphrase-file", shown(&right)];
    for (name, url) in [
        ("AWOOOP_OWNER_DATABASE_URL", &source.urls().owner),
        ("AWOOOP_DATABASE_URL", &source.urls().app),
        ("AWOOOP_DISPATCH_DATABASE_URL", &source.urls().dispatch),
    ] {
        let mut elsewhere = into(&home, &target.urls(), &opened);
        elsewhere.env(name, url);
        let refused = output(elsewhere).await;
        let said = format!("{name} names another database than --admin-url");
        assert!(refused.0 == 2 && refused.2.contains(&said), "{refused:?}");
    }
    let both = [&opened[..], &["--data-dir", shown(home.path())]].concat();
    let refused = output(into(&home, &target.urls(), &both)).await;
    assert!(refused.0 == 2 && refused.2.contains("name one of them"), "{refused:?}");
    assert!(is_empty(&target.urls()).await && !home.path().join("restored-keys").exists());
    let locked = output(into(&home, &target.urls(), &[shown(&backup)])).await;
    assert!(locked.0 == 2 && locked.2.contains("name --identity or --passphrase-file"), "{locked:?}");

    let (other, key) = (home.path().join("restored-keys"), passphrase(&right));
    std::fs::create_dir(&other).unwrap();
    let foreign = site.home.command(&["keys", "rotate", "audit_seal", "--keys", shown(&site.keys)]);
    std::fs::copy(site.keys.join("keyring.json"), other.join("keyring.json")).unwrap();
    assert_eq!(output(foreign).await.0, 0);
    let later = at("later");
    let taken = take(&[shown(&later), "--passphrase-file", &key[1], "--keys", shown(&site.keys)]).await;
    assert_eq!(taken.0, 0, "{taken:?}");
    let refused = output(into(&home, &target.urls(), &[shown(&later), &key[0], &key[1]])).await;
    assert!(
        refused.0 == 2 && refused.2.contains("is not the one of this backup (it lacks the key audit_seal"),
        "{refused:?}"
    );
    assert!(is_empty(&target.urls()).await);

    // the keyring that is there is the right one for the first backup, and for those in clear
    let restored = output(into(&home, &target.urls(), &[shown(&unkeyed)])).await;
    assert!(restored.0 == 0 && !restored.1.contains("wrote the keyring"), "{restored:?}");
    assert!(restored.1.contains("keyring: NOT COMPARED"), "{restored:?}");
    let refused = output(into(&home, &target.urls(), &[shown(&plain)])).await;
    assert!(refused.0 == 1 && refused.2.contains("the database is not empty"), "{refused:?}");
    target.drop().await;
    source.drop().await;
}

async fn is_empty(urls: &ClusterUrls) -> bool {
    let admin = connect(&urls.admin).await.unwrap();
    let sql = "SELECT count(*) FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = 'awooop'";
    admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
}

/// A directory of PostgreSQL's programs, of which this one is a script that goes on only while its caller lives. The
/// script touches `reached` in the directory when it is in the middle. A `before` in it is carried out when the program
/// is asked for its version, which is after a backup was read through and before its archive goes in.
fn half_way(directory: &Path, program: &str, script: &str) {
    std::fs::create_dir(directory).unwrap();
    let real = awooop_store::embedded::find_postgres(None).unwrap().dir;
    let path = directory.join(program);
    let text = format!(
        "#!/bin/sh\nreal={real}/{program}\nhere={here}\n\
         if [ \"$1\" = --version ]; then [ -e $here/before ] && . $here/before; exec $real --version; fi\n\
         hold() {{ touch $here/reached; while kill -0 $PPID 2>/dev/null; do sleep 0.02; done; }}\n{script}\n",
        real = real.display(),
        here = directory.display(),
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Starts it with these programs, kills it with -9 once it is in the middle.
async fn killed(mut command: Command, programs: &Path) {
    command.env("AWOOOP_PG_BIN", programs).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process::spawn(&mut command).unwrap();
    until("it is in the middle", async || programs.join("reached").exists()).await;
    assert!(process.ended().unwrap().is_none(), "it ended early");
    process.kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_backup_or_restore_that_is_killed_or_changed_underneath_leaves_nothing_half_done() {
    let source = Empty::new().await;
    let site = install(&source.urls()).await;
    let at = |name: &str| site.home.path().join(name);
    let (backup, keys) = (at("backup"), shown(&site.keys).to_owned());
    let take = || {
        let mut command = site.home.command(&["backup", shown(&at("backup")), "--keys", &keys]);
        command.env("AWOOOP_BACKUP_DATABASE_URL", &source.urls().backup);
        command
    };
    half_way(&at("dumping"), "pg_dump", "$real \"$@\" | head -c 4000; hold");
    killed(take(), &at("dumping")).await;
    assert!(!backup.exists() && at(".backup.partial").exists());
    half_way(
        &at("failing"),
        "pg_dump",
        "$real \"$@\" | head -c 4000; echo 'the disk is on fire' >&2; exit 3",
    );
    let mut failing = take();
    failing.env("AWOOOP_PG_BIN", at("failing"));
    let failed = output(failing).await;
    assert!(failed.0 == 1 && failed.2.contains("the disk is on fire"), "{failed:?}");
    assert!(!backup.exists() && !at(".backup.partial").exists(), "what was left is taken away");
    let keyring = site.keys.join("keyring.json");
    let text = std::fs::read(&keyring).unwrap();
    let gone = r#"0,/"id": *"[0-9a-f]*"/s//"id": "00000000"/"#;
    half_way(&at("retiring"), "pg_dump", &format!("$real \"$@\"; sed -i '{gone}' {} >&2", shown(&keyring)));
    let mut retired = take();
    retired.env("AWOOOP_PG_BIN", at("retiring"));
    let retired = output(retired).await;
    assert!(retired.0 == 1 && retired.2.contains("was retired while the backup was taken"), "{retired:?}");
    std::fs::write(&keyring, text).unwrap();
    assert_eq!(output(take()).await.0, 0);
    assert!(backup.exists() && !at(".backup.partial").exists());

    let target = Empty::new().await;
    let home = home_on(&target.urls());
    std::fs::create_dir(home.path().join("restored-keys")).unwrap();
    std::fs::copy(site.keys.join("keyring.json"), home.path().join("restored-keys/keyring.json")).unwrap();
    half_way(&at("restoring"), "pg_restore", "(head -c 20000; hold) | $real \"$@\"");
    killed(into(&home, &target.urls(), &[shown(&backup)]), &at("restoring")).await;
    let admin = connect(&target.urls().admin).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    until("nobody is in it", async || admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0).await;
    assert!(is_empty(&target.urls()).await);

    let changing = at("changing");
    copy(&backup, &changing, "manifest.json", |_| {});
    half_way(&at("meanwhile"), "pg_restore", "exec $real \"$@\"");
    let change = format!("printf x >> {}/database.dump\n", shown(&changing));
    std::fs::write(at("meanwhile").join("before"), change).unwrap();
    let mut changed = into(&home, &target.urls(), &[shown(&changing)]);
    changed.env("AWOOOP_PG_BIN", at("meanwhile"));
    let changed = output(changed).await;
    assert!(changed.0 == 2 && changed.2.contains("its hash differs"), "{changed:?}");
    assert!(is_empty(&target.urls()).await);

    let restored = output(into(&home, &target.urls(), &[shown(&backup)])).await;
    assert!(restored.0 == 0 && restored.1.contains("doctor: nothing is wrong"), "{restored:?}");
    target.drop().await;
    source.drop().await;
}
