//! `awooop config check`: what it finds, how it ends, and that it changes nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use awooop_journeys::db::TestDatabase;
use serde_json::{Value, json};

const APP: (&str, &str) = ("AWOOOP_DATABASE_URL", "postgres://awooop_app:s3cret-app@127.0.0.1:1/awooop");
const DISPATCH: (&str, &str) =
    ("AWOOOP_DISPATCH_DATABASE_URL", "postgres://awooop_dispatch:s3cret-dispatch@127.0.0.1:1/awooop");
const OWNER: (&str, &str) =
    ("AWOOOP_OWNER_DATABASE_URL", "postgres://awooop_owner:s3cret-owner@127.0.0.1:1/awooop");

/// A keyring with a key of every name.
fn keyring() -> String {
    let secret = format!("{}=", "A".repeat(43));
    let keys = json!([{"id": "00000000", "created_at": "2026-01-01T00:00:00Z", "secret": secret}]);
    json!({"publish": keys, "approval": keys, "audit_seal": keys, "redaction_tag": keys, "key_pepper": keys})
        .to_string()
}

/// A directory with a keyring, an operator's list and an empty data directory.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        for name in ["keys", "data"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let place = Place { directory };
        place.write("keys/keyring.json", &keyring(), 0o600);
        place.write("operator.toml", "private_addresses = []\n", 0o644);
        place
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// The exit code and the document.
    fn check(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_awooop"));
        command.args(["config", "check", "--json"]).args(arguments);
        if !arguments.contains(&"--data-dir") {
            command.args(["--data-dir", "data"]);
        }
        command.env_clear().envs(environment.iter().copied()).current_dir(self.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let all = format!("{}{stderr}", String::from_utf8_lossy(&output.stdout));
        assert!(!all.contains("s3cret"), "no secret is shown: {all}");
        let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {all}"));
        (output.status.code().unwrap(), document)
    }

    /// The same for `serve`, with this place's files.
    fn check_serve(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, Value) {
        let files = [["--role", "all"], ["--keys", "keys"], ["--operator", "operator.toml"]];
        let defaults = files.iter().filter(|[name, _]| !arguments.contains(name)).flatten().copied();
        self.check(&defaults.chain(arguments.iter().copied()).collect::<Vec<_>>(), environment)
    }
}

/// The findings that are not ok, as `subject: message`.
fn problems(document: &Value) -> Vec<String> {
    let findings = document["findings"].as_array().unwrap().iter().filter(|f| f["status"] != "ok");
    findings
        .map(|f| format!("{}: {}", f["subject"].as_str().unwrap(), f["message"].as_str().unwrap()))
        .collect()
}

#[test]
fn settings_that_are_right_end_with_0() {
    let place = Place::new();
    let (code, document) = place.check_serve(&["--offline"], &[APP, DISPATCH]);
    assert_eq!(
        (code, &document["is_well"], &document["role"]),
        (0, &json!(true), &json!("all")),
        "{document}"
    );
    let (code, document) = place.check(&["--role", "migrate", "--offline"], &[APP, DISPATCH, OWNER]);
    assert_eq!((code, problems(&document)), (0, vec![]), "{document}");
    let redis = ("AWOOOP_REDIS_URL", "rediss://:s3cret@cache.internal:6379/0");
    assert_eq!(place.check_serve(&["--offline"], &[APP, DISPATCH, redis]).0, 0);
    assert_eq!(std::fs::read_dir(place.path().join("data")).unwrap().count(), 0, "nothing was changed");
}

#[test]
fn each_wrong_setting_is_named_with_what_to_do_and_ends_with_2() {
    let check =
        |change: &dyn Fn(&Place), arguments: &[&str], environment: &[(&str, &str)], expected: &str| {
            let place = Place::new();
            change(&place);
            let (code, document) = place.check_serve(&[&["--offline"], arguments].concat(), environment);
            let problems = problems(&document);
            assert_eq!((code, &document["is_well"]), (2, &json!(false)), "{expected}: {document}");
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
        };
    let nothing = |_: &Place| {};
    let both = [APP, DISPATCH];
    check(&nothing, &[], &[APP], "database: AWOOOP_DISPATCH_DATABASE_URL is not set");
    check(
        &nothing,
        &[],
        &[("AWOOOP_DATABASE_URL", "s3cret nonsense"), DISPATCH],
        "AWOOOP_DATABASE_URL is not a PostgreSQL URL",
    );
    check(
        &nothing,
        &[],
        &[APP, ("AWOOOP_DISPATCH_DATABASE_URL", APP.1)],
        "must name the role awooop_dispatch",
    );
    check(&nothing, &["--role", "migrate"], &both, "AWOOOP_OWNER_DATABASE_URL is not set");
    for bad in ["http://h", "redis:///0", "nonsense"] {
        check(
            &nothing,
            &[],
            &[APP, DISPATCH, ("AWOOOP_REDIS_URL", bad)],
            "redis: AWOOOP_REDIS_URL must look like",
        );
    }
    check(&nothing, &[], &[APP, DISPATCH, ("AWOOOP_DATABSE_URL", "x")], "AWOOOP_DATABASE_URL is meant?");
    let open = |place: &Place| place.write("keys/keyring.json", &keyring(), 0o644);
    check(&open, &[], &both, "keyring: keyring.json can be read by others (mode 644)");
    let damaged = |place: &Place| place.write("keys/keyring.json", "{", 0o600);
    check(&damaged, &[], &both, "keyring.json is damaged");
    let old = |place: &Place| place.write("keys/keyring.json", "{}", 0o600);
    check(&old, &[], &both, "`awooop migrate --keys DIR` adds what is missing");
    check(&nothing, &["--keys", "elsewhere"], &both, "`awooop migrate --keys DIR` makes one");
    check(&nothing, &["--operator", "elsewhere.toml"], &both, "cannot read elsewhere.toml");
    let dev_env = |place: &Place| place.write("data/dev.env", "AWOOOP_KEY=s3cret\n", 0o640);
    check(&dev_env, &[], &both, "dev.env can be read by others (mode 640)");
    check(&nothing, &["--data-dir", "operator.toml"], &both, "is no directory");
    for (list, expected) in [
        ("# a list\n\n[projects.shop]\nuids = 3\n", "operator.toml:4: unknown field `uids`"),
        ("secrets = 3\n", "operator.toml:1: "),
        ("secrets = \"/no/such/folder\"\n", "the secrets folder /no/such/folder is no directory"),
        ("[projects.shop]\nuid = 0\n", "may not have uid 0"),
        (
            "[projects.shop]\nuid = 7001\ncommands = { x = \"/no/such/program\" }\n",
            "/no/such/program is not there",
        ),
        (
            "[projects.shop]\nuid = 7001\ncommands = { x = \"/etc/passwd\" }\n",
            "/etc/passwd is not executable",
        ),
    ] {
        let listed = |place: &Place| place.write("operator.toml", list, 0o644);
        check(&listed, &[], &both, expected);
    }
}

#[test]
fn what_is_only_odd_is_a_warning_and_ends_with_0() {
    let place = Place::new();
    place.write("operator.toml", "[projects.shop]\nenv = [\"SHOP_KEY\"]\n", 0o644);
    let of_kubernetes = ("AWOOOP_PORT_7700_TCP", "tcp://10.0.0.1:7700");
    let (code, document) = place.check_serve(&["--offline"], &[APP, DISPATCH, of_kubernetes]);
    let problems = problems(&document);
    assert_eq!((code, problems.len()), (0, 2), "{problems:?}");
    assert!(problems[0].contains("may use the variable SHOP_KEY, which is not set"), "{problems:?}");
    assert!(problems[1].contains("AWOOOP_PORT_7700_TCP is read by nothing"), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_the_database_is_asked_for_its_roles_and_its_schema() {
    let database = TestDatabase::private().await.unwrap();
    let urls = database.urls().clone();
    let place = Place::new();
    let check = |app: &str, dispatch: &str| {
        let environment = [("AWOOOP_DATABASE_URL", app), ("AWOOOP_DISPATCH_DATABASE_URL", dispatch)];
        let (code, document) = place.check_serve(&[], &environment);
        (code, problems(&document).join("\n"))
    };
    assert_eq!(check(&urls.app, &urls.dispatch), (0, String::new()));
    let (code, said) = check(&urls.owner, &urls.dispatch);
    assert!(
        code == 2 && said.contains("the role `awooop_owner` of AWOOOP_DATABASE_URL owns the tables"),
        "{said}"
    );
    let (code, said) = check(&urls.admin, &urls.dispatch);
    assert!(code == 2 && said.contains("is a superuser"), "{said}");
    let (code, said) = check(APP.1, DISPATCH.1);
    assert!(code == 4 && said.starts_with("database: cannot be reached"), "{said}");
    let absent = urls.in_database("no_such_database");
    let (code, said) = check(&absent.app, &absent.dispatch);
    assert!(code == 2 && said.contains("refuses the connection"), "{said}");
    let unmade = urls.in_database("postgres");
    let (code, said) = check(&unmade.app, &unmade.dispatch);
    assert!(code == 2 && said.contains("run `awooop migrate`"), "{said}");
}
