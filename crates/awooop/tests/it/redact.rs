//! `awooop redact` attacked from outside: what a generator plants must not survive, what is innocent must stay.
//!
//! The generator and its judge are Python and share no table with the redactor (`tests/redact`); run by hand with
//! another seed they look for more: `python tests/redact/main.py check target/debug/awooop --seed 7 --count 50000`.

use std::process::Command;

use crate::support::{python, root};

#[test]
fn nothing_planted_survives_and_nothing_innocent_is_masked() {
    let script = root().join("crates/awooop/tests/redact/main.py");
    let mut command = Command::new(python());
    command.arg("-B").arg(script).args(["check", env!("CARGO_BIN_EXE_awooop")]);
    let output = command.output().expect("the test's Python runs");
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}
