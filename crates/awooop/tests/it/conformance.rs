//! The official conformance suite of the Model Context Protocol (npm `@modelcontextprotocol/conformance`),
//! in both revisions: directly against the fixture, which must not fail anything, and through the gateway,
//! which must do as well as the committed results say.
//!
//! `tests/conformance/<revision>.txt` has a line for each scenario. A line that is not what the suite finds
//! fails the test, for the better as for the worse: `AWOOOP_RENEW=1` writes the files and the table of
//! docs/mcp-conformance.md, and a change for the worse is then seen in review. With `--no-capture` it says
//! why each check failed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use awooop_journeys::fixture_everything::{FixtureEverything, Speaks};
use awooop_journeys::forwarder::Forwarder;
use serde_json::Value;

use crate::support::{make_everything, node, npm_peers, root, site};

const REVISIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];
const SUITE: &str = "node_modules/@modelcontextprotocol/conformance";
const RENEW: &str = "AWOOOP_RENEW=1 cargo nextest run -p awooop -E 'test(conformance)'";
const PAGE: &str = "docs/mcp-conformance.md";
/// What is shown at most of what the suite says about a check.
const REASON_CHARS: usize = 400;
/// What stands before and after the part of the page that is written here.
const MARKS: [&str; 2] = ["<!-- results: written by the test -->\n", "<!-- end of results -->\n"];

/// What the suite found in one scenario.
#[derive(Debug, Clone, Default, PartialEq)]
struct Outcome {
    /// `required`, or why the suite does not count it: `pending`, `added-after-release`.
    standing: String,
    passed: usize,
    failures: usize,
    failed: BTreeSet<String>,
    warned: BTreeSet<String>,
    /// Why checks failed or warned, for who reads the test's output; not written to the file.
    reasons: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &BTreeSet<String>| ids.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        write!(f, "{} | passed {}", self.standing, self.passed)?;
        if !self.failed.is_empty() {
            write!(f, " | failed {}: {}", self.failures, list(&self.failed))?;
        }
        if !self.warned.is_empty() {
            write!(f, " | warned: {}", list(&self.warned))?;
        }
        Ok(())
    }
}

/// What was found, by scenario.
type Outcomes = BTreeMap<String, Outcome>;

/// Every server scenario of a revision that is no extension, with its standing.
fn scenarios(peers: &Path, revision: &str) -> BTreeMap<String, String> {
    let path = peers.join(SUITE).join(format!("requirements/{revision}.yaml"));
    let text = std::fs::read_to_string(path).unwrap();
    let set: Value = serde_saphyr::from_str(&text).unwrap();
    let name = |value: &Value| value.as_str().unwrap().to_owned();
    let required = set["server"].as_array().unwrap().iter().map(|s| (name(s), "required".to_owned()));
    let others = set["not_scored"].as_array().unwrap().iter();
    let others = others.filter(|s| s["leg"] == "server" && s["reason"] != "extension");
    required.chain(others.map(|s| (name(&s["scenario"]), name(&s["reason"])))).collect()
}

/// Runs the suite against a server.
async fn run(peers: &Path, url: &str, revision: &str) -> Outcomes {
    let directory = tempfile::tempdir().unwrap();
    let mut command = node(peers);
    command.arg(peers.join(SUITE).join("dist/index.js"));
    command.args(["server", "--url", url, "--requirements", revision, "-o"]).arg(directory.path());
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let mut outcomes = Outcomes::new();
    for (name, standing) in scenarios(peers, revision) {
        let checks = checks(directory.path(), &name);
        let checks = checks.unwrap_or_else(|| panic!("{name} left no results. The suite said: {said}"));
        outcomes.insert(name, outcome(standing, &checks));
    }
    outcomes
}

/// What the suite wrote down about a scenario, in `server-<name>-<time>/checks.json`.
fn checks(directory: &Path, name: &str) -> Option<Vec<Value>> {
    let is_of_it = |path: &PathBuf| {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let rest = file.strip_prefix("server-").and_then(|rest| rest.strip_prefix(name));
        rest.and_then(|rest| rest.strip_prefix('-')).is_some_and(|time| time.starts_with("20"))
    };
    let found = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).find(is_of_it)?;
    serde_json::from_slice(&std::fs::read(found.join("checks.json")).unwrap()).unwrap()
}

fn outcome(standing: String, checks: &[Value]) -> Outcome {
    let ids = |status: &str| {
        let of_it = checks.iter().filter(|check| check["status"] == status);
        of_it.map(|check| check["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let set = |status: &str| ids(status).into_iter().collect();
    let (passed, failures) = (ids("SUCCESS").len(), ids("FAILURE").len());
    let bad = checks.iter().filter(|check| check["status"] == "FAILURE" || check["status"] == "WARNING");
    let reasons = bad.map(reason).collect();
    Outcome { standing, passed, failures, failed: set("FAILURE"), warned: set("WARNING"), reasons }
}

/// A failed check in a line: its id, and the head of what the suite says about it.
fn reason(check: &Value) -> String {
    let said = check["errorMessage"].as_str().unwrap_or("no reason given").replace('\n', " ");
    let line = format!("    {}: {said}", check["id"].as_str().unwrap_or_default());
    line.chars().take(REASON_CHARS).collect()
}

fn file(revision: &str) -> PathBuf {
    root().join(format!("crates/awooop/tests/conformance/{revision}.txt"))
}

fn written(revision: &str, outcomes: &Outcomes) -> String {
    let lines = outcomes.iter().map(|(name, outcome)| format!("{name} | {outcome}\n"));
    format!(
        "# What the official conformance suite finds through the gateway in revision {revision}: scenario, standing,\n\
         # checks that passed, checks that failed and their ids, ids of checks that warned. Extensions are left out.\n\
         # {RENEW}\n{}",
        lines.collect::<String>()
    )
}

/// The table of the page.
fn table(results: &[(&str, Outcomes)]) -> String {
    let mut text =
        "| revision | required scenarios without a failed check | checks passed | checks failed |\n\
                    | --- | --- | --- | --- |\n"
            .to_owned();
    for (revision, outcomes) in results {
        let required = || outcomes.values().filter(|outcome| outcome.standing == "required");
        let whole = required().filter(|outcome| outcome.failed.is_empty()).count();
        let passed: usize = outcomes.values().map(|outcome| outcome.passed).sum();
        let failed: usize = outcomes.values().map(|outcome| outcome.failures).sum();
        text += &format!("| {revision} | {whole} of {} | {passed} | {failed} |\n", required().count());
    }
    for (revision, outcomes) in results {
        let failing = |required: bool| {
            let of_it = outcomes
                .iter()
                .filter(|(_, o)| !o.failed.is_empty() && (o.standing == "required") == required);
            let names: Vec<String> = of_it.map(|(name, _)| format!("`{name}`")).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        text += &format!("\nFailing in {revision}, required: {}.\n", failing(true));
        text += &format!("Failing in {revision}, not counted by the suite: {}.\n", failing(false));
    }
    text
}

/// The page with its results replaced.
fn page(results: &[(&str, Outcomes)]) -> (String, String) {
    let old = std::fs::read_to_string(root().join(PAGE)).unwrap();
    let (head, rest) = old.split_once(MARKS[0]).expect("the page has a place for the results");
    let (_, tail) = rest.split_once(MARKS[1]).expect("the page has a place for the results");
    let new = [head, MARKS[0], "\n", &table(results), "\n", MARKS[1], tail].concat();
    (old, new)
}

/// The lines that are not as the file says, each with what the file says.
fn differences(revision: &str, outcomes: &Outcomes) -> Vec<String> {
    let known = std::fs::read_to_string(file(revision)).unwrap_or_default();
    let known: BTreeSet<&str> = known.lines().filter(|line| !line.starts_with('#')).collect();
    let found = written(revision, outcomes);
    let found: BTreeSet<&str> = found.lines().filter(|line| !line.starts_with('#')).collect();
    let gone = known.difference(&found).map(|line| format!("{revision} - {line}"));
    let come = found.difference(&known).map(|line| format!("{revision} + {line}{}", reasons(outcomes, line)));
    gone.chain(come).collect()
}

/// Why the scenario of a line failed, a line each.
fn reasons(outcomes: &Outcomes, line: &str) -> String {
    let name = line.split(" | ").next().unwrap_or_default();
    let reasons = outcomes.get(name).into_iter().flat_map(|outcome| &outcome.reasons);
    reasons.map(|reason| format!("\n{reason}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_the_fixture_passes_the_official_suite_in_both_revisions() {
    let peers = npm_peers();
    for revision in REVISIONS {
        // as a server of both revisions, and of the one alone
        let alone = if revision == "2025-11-25" { Speaks::Only2025 } else { Speaks::Only2026 };
        for speaks in [Speaks::Both, alone] {
            let fixture = FixtureEverything::start(speaks).await.unwrap();
            let mut outcomes = run(&peers, fixture.url(), revision).await;
            outcomes.retain(|_, outcome| !outcome.failed.is_empty() || !outcome.warned.is_empty());
            assert_eq!(outcomes, Outcomes::new(), "{revision}, {speaks:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_the_gateway_does_in_the_official_suite_what_its_results_say() {
    let peers = npm_peers();
    let (site, fixture) = (site().await, FixtureEverything::start(Speaks::Both).await.unwrap());
    let key = make_everything(site.server.api(), "conformance", &fixture).await;
    let forwarder = Forwarder::start(site.server.url(), &key).await.unwrap();
    let url = format!("{}/mcp/kit", forwarder.base());
    let mut results = Vec::new();
    for revision in REVISIONS {
        results.push((revision, run(&peers, &url, revision).await));
    }
    if std::env::var_os("AWOOOP_RENEW").is_some() {
        for (revision, outcomes) in &results {
            for line in written(revision, outcomes).lines() {
                println!("{line}{}", reasons(outcomes, line));
            }
            std::fs::write(file(revision), written(revision, outcomes)).unwrap();
        }
        std::fs::write(root().join(PAGE), page(&results).1).unwrap();
        return;
    }
    let differences: Vec<String> =
        results.iter().flat_map(|(revision, outcomes)| differences(revision, outcomes)).collect();
    assert!(
        differences.is_empty(),
        "the suite finds something else than the results say (- as written, + as found). Where that is for the \
         better, or meant: {RENEW}\n{}",
        differences.join("\n")
    );
    let (old, new) = page(&results);
    assert_eq!(old, new, "{PAGE} is out of date: {RENEW}");
}
