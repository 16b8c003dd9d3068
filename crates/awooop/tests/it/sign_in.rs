//! Signing in from the command line, as a person does it: `login`, a browser that is sent back, `whoami`, work,
//! `logout`; against an issuer of our own and against the npm package oauth2-mock-server, which knows nothing of us.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use awooop_journeys::client::Api;
use awooop_journeys::fixture_issuer::{Behaviour, FixtureIssuer};
use serde_json::{Value, json};

use crate::scripted::Stage;
use crate::support::npm_peers;

const SHOP: &str = "shop";

/// What the operator of a server with this issuer listed.
fn list(sign_in: &str) -> String {
    format!(
        "private_addresses = [\"127.0.0.1\"]\n{sign_in}\n\
         [projects.{SHOP}]\ngroups = {{ staff = \"operator\", leads = \"approver\", heads = \"admin\" }}\n\
         [projects.platform]\ngroups = {{ root = \"admin\" }}\n"
    )
}

/// A server whose people sign in at this issuer, with one project.
async fn stage(sign_in: &str) -> Stage {
    let stage = Stage::start(&[], Some(&list(sign_in))).await;
    let project = json!({"kind": "project", "project": SHOP, "id": SHOP, "spec": {"display_name": "A shop"}});
    stage.apply(SHOP, &[project]).await;
    stage
}

/// A person's terminal: their own settings, no key.
struct Terminal<'a> {
    stage: &'a Stage,
    settings: tempfile::TempDir,
}

impl<'a> Terminal<'a> {
    fn new(stage: &'a Stage) -> Self {
        Self { stage, settings: tempfile::tempdir().unwrap() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.stage.home.command(words);
        command
            .args(["--url", self.stage.server.url(), "--json"])
            .env("XDG_CONFIG_HOME", self.settings.path());
        // an empty directory: the key in dev.env must not help
        command.arg("--data-dir").arg(self.settings.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, words: &[&str]) -> (i32, Value) {
        let mut command = self.command(words);
        ended(tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap())
    }

    /// Begins to sign in; the address that the terminal shows.
    async fn begin(&self) -> (Child, String) {
        let mut command = self.command(&["login", "--no-browser"]);
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
            let address = said.find(|line| line.trim_start().starts_with("http")).expect("an address");
            // what it says later must find a reader
            std::thread::spawn(move || said.count());
            (child, address.trim().to_owned())
        })
        .await
        .unwrap()
    }

    async fn sign_in(&self) -> (i32, Value) {
        let (child, address) = self.begin().await;
        let page = open(&address).await;
        let outcome =
            ended(tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap());
        assert!(page.contains("Close this window"), "{page} {outcome:?}");
        outcome
    }

    fn file(&self) -> PathBuf {
        self.settings.path().join("awooop/sign-in.json")
    }

    fn kept(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.file()).unwrap()).unwrap()
    }
}

fn ended(output: Output) -> (i32, Value) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let document = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {said}"));
    (output.status.code().unwrap_or(-1), document)
}

/// What a browser shows in the end.
async fn open(address: &str) -> String {
    let (origin, rest) = address.split_at(address.find('/').unwrap() + 2);
    let (host, path) = rest.split_once('/').unwrap();
    let browser = Api::new(&format!("{origin}{host}"), None).unwrap();
    browser.get(&format!("/{path}")).await.unwrap().text
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_person_signs_in_works_and_signs_out() {
    let issuer = FixtureIssuer::start().await.unwrap();
    let stage = stage(&issuer.settings_toml()).await;
    let terminal = Terminal::new(&stage);
    let (code, without) = terminal.run(&["whoami"]).await;
    assert_eq!((code, without["error"]["title"].as_str()), (2, Some("Invalid input")), "{without}");

    issuer.signs_in("ana", &["staff", "leads"]);
    let (code, signed_in) = terminal.sign_in().await;
    assert_eq!((code, &signed_in["whoami"]["project_id"]), (0, &json!(SHOP)), "{signed_in}");
    let mode = std::fs::metadata(terminal.file()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let (code, who) = terminal.run(&["whoami"]).await;
    assert_eq!((code, &who["roles"], &who["kind"]), (0, &json!(["operator", "approver"]), &json!("human")));
    assert_eq!(terminal.run(&["runs", "list"]).await.0, 0);
    let (code, refused) = terminal.run(&["key", "list"]).await;
    assert_eq!((code, refused["error"]["code"].as_str()), (3, Some("E-AUTH-002")));
    let (code, elsewhere) = terminal.run(&["runs", "list", "--project", "platform"]).await;
    assert_eq!((code, elsewhere["error"]["code"].as_str()), (3, Some("E-AUTH-003")));

    // a key that is given goes before the sign-in
    let key = stage.api(SHOP).create_key(&json!({"name": "ci", "role": "viewer"})).await.unwrap();
    let mut with_key = terminal.command(&["whoami"]);
    with_key.env("AWOOOP_KEY", &key);
    let (code, who) = ended(with_key.output().unwrap());
    assert_eq!((code, &who["name"]), (0, &json!("ci")));

    let (code, out) = terminal.run(&["logout"]).await;
    assert_eq!((code, &out["was_signed_in"]), (0, &json!(true)));
    assert_eq!((terminal.kept(), terminal.run(&["whoami"]).await.0), (json!({"logins": {}}), 2));
    assert_eq!(terminal.run(&["logout"]).await.1["was_signed_in"], false);
    let log = stage.home.log();
    assert!(!log.contains("eyJ"), "no token is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_sign_in_is_refreshed_until_the_issuer_says_no() {
    let issuer = FixtureIssuer::start().await.unwrap();
    let stage = stage(&issuer.settings_toml()).await;
    let terminal = Terminal::new(&stage);
    issuer.signs_in("ana", &["heads"]);
    // so short that every command finds it over
    issuer.tokens_live(1);
    assert_eq!(terminal.sign_in().await.0, 0);
    let before = terminal.kept();
    let together = (0..4).map(|_| terminal.run(&["whoami"]));
    for (code, who) in futures::future::join_all(together).await {
        assert_eq!(
            (code, &who["roles"]),
            (0, &json!(["admin"])),
            "each command refreshed in its turn: {who}"
        );
    }
    let after = terminal.kept();
    let token = |kept: &Value| kept["logins"][stage.server.url()]["refresh_token"].clone();
    assert!(token(&before).is_string() && token(&before) != token(&after));
    // another person's groups are another's; of a group that is taken the next token says nothing
    issuer.signs_in("bob", &[]);
    assert_eq!(terminal.run(&["whoami"]).await.0, 0);
    // the issuer knows the refresh token no more
    let mut spoilt = terminal.kept();
    spoilt["logins"][stage.server.url()]["refresh_token"] = json!("never-given");
    std::fs::write(terminal.file(), spoilt.to_string()).unwrap();
    let (code, over) = terminal.run(&["whoami"]).await;
    assert_eq!(code, 2);
    assert!(over["error"]["detail"].as_str().unwrap().contains("is over"), "{over}");
    issuer.behave(Behaviour::Down);
    let (code, _) = terminal.run(&["whoami"]).await;
    assert_ne!(code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_browser_that_brings_another_sign_in_s_answer_is_turned_away() {
    let issuer = FixtureIssuer::start().await.unwrap();
    let stage = stage(&issuer.settings_toml()).await;
    let terminal = Terminal::new(&stage);
    issuer.signs_in("ana", &["staff"]);
    let (mut child, address) = terminal.begin().await;
    let parameter = |name: &str| {
        let (_, rest) = address.split_once(&format!("{name}=")).expect(name);
        rest.split('&').next().unwrap().to_owned()
    };
    let callback = parameter("redirect_uri").replace("%3A", ":").replace("%2F", "/");
    for forged in ["code=stolen&state=guessed", "code=stolen", "error=access_denied"] {
        let page = open(&format!("{callback}?{forged}")).await;
        assert!(page.contains("nothing here"), "{page}");
        assert!(child.try_wait().unwrap().is_none(), "it waits on");
    }
    let (code, refused) = {
        let denied = open(&format!("{callback}?error=access_denied&state={}", parameter("state"))).await;
        assert!(denied.contains("not signed in"), "{denied}");
        ended(child.wait_with_output().unwrap())
    };
    assert_eq!(code, 1, "{refused}");
    assert!(!terminal.file().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_where_nobody_signs_in_login_says_so() {
    let stage = Stage::start(&[], None).await;
    let terminal = Terminal::new(&stage);
    let (code, refused) = terminal.run(&["login", "--no-browser"]).await;
    assert_eq!(code, 1);
    assert!(refused["error"]["detail"].as_str().unwrap().contains("nobody signs in"), "{refused}");
}

/// The npm package as a process, and its address.
struct Mock(Child, String);

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mock(peers: &Path, groups: &str) -> Mock {
    let script = crate::support::root().join("crates/awooop/tests/peers/issuer.mjs");
    // a module's imports are looked for beside it
    let beside = peers.join("issuer.mjs");
    std::fs::copy(script, &beside).unwrap();
    let mut command = Command::new("node");
    command.arg(&beside).arg(groups).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("node runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Mock(child, line.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_person_signs_in_at_an_issuer_that_knows_nothing_of_us() {
    let Some(peers) = npm_peers() else { return println!("oauth2-mock-server is absent: NOT tested") };
    let mock = mock(&peers, "leads,cooks");
    let sign_in =
        format!("[sign_in]\nissuer = \"{}\"\nclient_id = \"awooop-cli\"\naudience = \"awooop\"\n", mock.1);
    let stage = stage(&sign_in).await;
    let terminal = Terminal::new(&stage);
    let (code, signed_in) = terminal.sign_in().await;
    assert_eq!((code, &signed_in["whoami"]["roles"]), (0, &json!(["approver"])), "{signed_in}");
    assert_eq!(signed_in["whoami"]["credential"]["subject"], "ana-at-the-mock");
    let (code, approvals) = terminal.run(&["approvals", "list"]).await;
    assert_eq!((code, &approvals["items"]), (0, &json!([])));
    // an ID token of the same issuer opens nothing
    let token = terminal.kept()["logins"][stage.server.url()]["access_token"].as_str().unwrap().to_owned();
    let api = stage.server.api();
    assert_eq!(api.with_key(Some(&token)).get("/v1/platform/whoami").await.unwrap().status, 200);
    let asked = json!({"grant_type": "client_credentials", "scope": "openid", "aud": "awooop-cli"});
    let other = Api::new(&mock.1, None).unwrap().post("/token", &asked).await.unwrap();
    let not_ours = other.json()["access_token"].as_str().expect("a token").to_owned();
    assert_eq!(api.with_key(Some(&not_ours)).get("/v1/platform/whoami").await.unwrap().status, 401);
}
