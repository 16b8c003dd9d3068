//! The listener's certificate: which files are taken, which are not and why, and that a change is taken over whole. Made
//! with the `openssl` of the host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use awooop_http::{Tls, TlsError, TlsFiles};
use awooop_store::Clock;
use jiff::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate for 30 days and its key, `NAME.crt` and `NAME.key`.
fn make(directory: &Path, name: &str) -> TlsFiles {
    let path = |ending: &str| directory.join(format!("{name}.{ending}"));
    let files = TlsFiles { cert: path("crt"), key: path("key") };
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-subj", "/CN=localhost", "-days", "30", "-keyout"])
        .arg(&files.key)
        .arg("-out")
        .arg(&files.cert)
        .output();
    let made = made.expect("this test makes certificates with the host's openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    files
}

fn now() -> Timestamp {
    Clock::system().now() + Duration::from_secs(2)
}

fn refusal(files: &TlsFiles, now: Timestamp) -> TlsError {
    files.check(now).expect_err("they cannot be used")
}

#[test]
fn what_cannot_be_used_is_refused_and_says_which_file_and_why() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (make(directory.path(), "one"), make(directory.path(), "other"));
    let write = |name: &str, text: &str| -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ends_at = one.check(now()).unwrap();
    assert!(ends_at > now() + DAY * 29 && ends_at < now() + DAY * 31, "{ends_at}");
    let with = |cert: &PathBuf, key: &PathBuf| TlsFiles { cert: cert.clone(), key: key.clone() };
    let (empty, absent) = (write("empty", ""), directory.path().join("absent"));
    let nonsense = write("nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let table: [(TlsFiles, Timestamp, &str); 8] = [
        (with(&absent, &one.key), now(), "absent cannot be read"),
        (with(&one.cert, &absent), now(), "absent cannot be read"),
        (with(&empty, &one.key), now(), "empty holds no certificate in PEM"),
        (with(&one.cert, &empty), now(), "empty holds no private key in PEM"),
        (with(&one.key, &one.cert), now(), "one.key holds no certificate in PEM"),
        (with(&nonsense, &one.key), now(), "nonsense cannot be used"),
        (one.clone(), now() + DAY * 31, "one.crt ended at"),
        (one.clone(), now() - DAY, "one.crt begins at"),
    ];
    for (files, now, said) in table {
        let error = refusal(&files, now);
        assert!(error.to_string().contains(said), "expected `{said}`, got `{error}`");
        assert_eq!(error.code().as_str(), "E-TLS-001");
    }
    let mixed = refusal(&with(&one.cert, &other.key), now()).to_string();
    assert!(mixed.contains("other.key is not the one of the certificate in") && mixed.contains("one.crt"));
}

#[test]
fn a_certificate_tells_how_long_it_is_valid_and_goes_on_when_it_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(now());
    let tls = Tls::load(make(directory.path(), "one"), clock.clone()).unwrap();
    let day = DAY.as_secs_f64();
    assert!((29.0 * day..31.0 * day).contains(&tls.ends_in_seconds()), "{}", tls.ends_in_seconds());
    clock.advance(DAY * 40);
    assert!(tls.ends_in_seconds() < -9.0 * day, "{}", tls.ends_in_seconds());
}

/// When it begins to be valid.
fn begins_at(files: &TlsFiles) -> Timestamp {
    match refusal(files, now() - DAY) {
        TlsError::NotBegun { at, .. } => at,
        other => panic!("{other}"),
    }
}

#[test]
fn a_pair_that_begins_in_a_moment_is_taken_when_it_has_begun() {
    let directory = tempfile::tempdir().unwrap();
    let live = make(directory.path(), "live");
    // certificates count in seconds
    let next = std::iter::repeat_with(|| make(directory.path(), "next"))
        .find(|next| begins_at(next) > begins_at(&live))
        .unwrap();
    let clock = Clock::manual(begins_at(&next) - Duration::from_millis(1));
    let tls = Tls::load(live.clone(), clock.clone()).unwrap();
    let former = tls.ends_in_seconds();
    std::fs::copy(&next.cert, &live.cert).unwrap();
    std::fs::copy(&next.key, &live.key).unwrap();
    for _ in 0..2 {
        tls.look();
        assert_eq!(tls.ends_in_seconds(), former, "our clock is behind: the former pair goes on");
    }
    clock.advance(Duration::from_millis(1));
    tls.look();
    assert!(tls.ends_in_seconds() > former, "{former}");
}
