//! `docs/contracts.md`, made from the schemas: for each kind what it is, an example, every field with its
//! limits, and the rules that a schema cannot say.
//!
//! The page is kept in the repository; the test fails when it is stale. Renew it with
//! `AWOOOP_RENEW=1 cargo test -p awooop-core contracts_page`.

mod ordered;
mod table;

use std::path::PathBuf;

use awooop_core::contract::{BREAKING_RULES, Kind, RUN_SCHEMA_TEXT};

use crate::fixtures::{RUN, kinds};
use ordered::Ordered;
use table::{fields, table};

const RENEW: &str = "AWOOOP_RENEW=1 cargo test -p awooop-core contracts_page";

/// What is checked besides the schema, by kind.
const RULES: [(Kind, &[&str]); 5] = [
    (
        Kind::Project,
        &[
            "`id` is the same as `project`.",
            "`activation.signers` lists at least `activation.signatures` people.",
            "An active agent that names no model needs `default_model`, so it cannot be dropped before.",
            "In `personal_data.allow`, what begins with `@` is a domain, and what is an address with a `/` is a network.",
        ],
    ),
    (
        Kind::Provider,
        &[
            "No model and no tool is listed twice.",
            "A provider's id does not look like another provider's of the project (`sh0p` like `shop`, `calender` like `calendar`), nor like `awooop`; no tool's name begins with `awooop__`.",
            "Addresses are URLs, and the operator's settings allow them; so it is with commands, credential references and credentials in arguments.",
            "An argument names no credential that `credentials` lacks, and each of those is named by an argument.",
            "A model or tool that an active agent names cannot be dropped, nor can a tool's risk be raised above what an active grant says.",
        ],
    ),
    (
        Kind::Agent,
        &[
            "The model, its own or the project's default, is one that a provider of the project lists.",
            "Each granted tool is one that a provider of the project lists, and none is granted twice.",
            "A grant's `risk` is not lower than the tool's own.",
            "`input_schema`, `output_schema` and `constraints` are JSON Schemas without remote references.",
            "In `constraints` every keyword and every `format` is one that is checked, and they are not such that no arguments could fit them, unless they are a bare `false`.",
            "No two schedules have one id. A schedule's cron line has five fields and fits some day, its zone is known to this release, its `mode` is at most the agent's, and its `input` fits `input_schema`.",
        ],
    ),
    (
        Kind::Policy,
        &[
            "`escalate_after_s` is less than `expires_in_s`.",
            "No two redaction patterns have one name, and none that of a class the platform finds by itself.",
            "A redaction pattern is a regular expression that compiles to at most 1 MiB and cannot match the empty text; it finds something in each of `matches` and nothing in any of `misses`.",
        ],
    ),
    (Kind::Channel, &["`agent` is an active agent of the project, or one applied in the same request."]),
];

/// The interface contract's schema is fixed as it is, in Chinese: its fields in English.
const RUN_FIELDS: [(&str, &str); 19] = [
    ("run_id", "The run, a UUID of version 7."),
    ("project_id", "The project it belongs to."),
    ("agent_id", "The agent that works on it."),
    ("state", "Where it stands. The last four are final."),
    ("trace_id", "W3C trace id."),
    ("parent_run_id", "The run that started it."),
    ("trigger", "What started it."),
    ("trigger.trigger_type", "Which way it came."),
    ("trigger.channel_event_id", "The message that started it."),
    ("trigger.schedule_id", "The schedule that started it."),
    ("trigger.triggered_by", "Who started it."),
    ("input_sha256", "SHA-256 of its input."),
    ("output_sha256", "SHA-256 of its output; null until it completed."),
    ("started_at", "When work on it began, RFC 3339."),
    ("completed_at", "When it ended, however it ended, RFC 3339."),
    ("timeout_at", "When it times out, RFC 3339."),
    ("error_code", "The `E-…` code of a run that failed or timed out."),
    ("cost_usd", "What its model calls cost so far, in US dollars."),
    ("step_count", "Steps so far."),
];

fn page() -> String {
    let mut page = format!("<!-- Made from contracts/*/schema.json. Renew with: {RENEW} -->\n\n");
    page.push_str(include_str!("contracts_page/intro.md"));
    page.push_str("\n## Kinds\n\n");
    for name in kinds() {
        let schema = read(name);
        let about = match name {
            RUN => "A run as the platform shows it to others.",
            _ => schema.text("description").unwrap(),
        };
        page.push_str(&format!("- [`{name}`](#{name}): {about}\n"));
    }
    for kind in Kind::ALL {
        page.push_str(&section(kind));
    }
    page.push_str(&run_section());
    page.push_str(&breaking_section());
    page
}

fn read(kind: &str) -> Ordered {
    serde_json::from_str(Kind::parse(kind).map_or(RUN_SCHEMA_TEXT, Kind::schema_text)).unwrap()
}

fn section(kind: Kind) -> String {
    let schema = read(kind.as_str());
    let describe = |_: &str, field: &Ordered| field.text("description").unwrap_or_default().to_owned();
    let mut text = format!("\n## {kind}\n\n{}\n\n", schema.text("description").unwrap());
    text.push_str(&yaml(&schema.get("examples").unwrap().items()[0]));
    text.push_str(&format!("\n{}", table(&schema, &schema, "", &describe)));
    let spec = schema.at("#/properties/spec");
    for branch in spec.get("oneOf").map_or(&[][..], Ordered::items) {
        let branch = schema.at(branch.text("$ref").unwrap());
        let title = format!(
            "\n### {kind}: {}\n\n{}\n\n",
            branch.text("title").unwrap(),
            branch.text("description").unwrap()
        );
        text.push_str(&title);
        let example = branch.get("examples").unwrap().items()[0].clone();
        text.push_str(&yaml(&Ordered::Object(vec![("spec".to_owned(), example)])));
        text.push_str(&format!("\n{}", table(branch, &schema, "spec", &describe)));
    }
    let (_, rules) = RULES.into_iter().find(|(k, _)| *k == kind).unwrap();
    text.push_str("\nBesides the schema:\n\n");
    rules.iter().for_each(|rule| text.push_str(&format!("- {rule}\n")));
    text
}

fn run_section() -> String {
    let schema = read(RUN);
    let describe = |path: &str, _: &Ordered| {
        let described = RUN_FIELDS.iter().find(|(field, _)| *field == path);
        described.unwrap_or_else(|| panic!("{path} is described")).1.to_owned()
    };
    let example = include_str!("../../../../contracts/runtime_run_state/valid/completed.json");
    let example: Ordered = serde_json::from_str(example).unwrap();
    format!(
        "\n## {RUN}\n\nA run as the platform shows it to others: the `run` of the API's answers fits it. It is an \
         interface contract of the platform; a project never writes one, and applying it is refused.\n\n{}\n{}",
        yaml(&example),
        table(&schema, &schema, "", &describe)
    )
}

fn breaking_section() -> String {
    let mut text = String::from(
        "\n## Breaking changes\n\nA change of a contract is told as breaking when it can hurt somebody who relied on it, or \
         loosens what was agreed. What cannot be compared counts as breaking.\n\n| Rule | What changed |\n| --- | --- |\n",
    );
    for (rule, about) in BREAKING_RULES {
        text.push_str(&format!("| `{rule}` | {about} |\n"));
    }
    text.push_str(
        "\nA schema is narrowed when a document it accepted may be refused: a type or a listed value less, a member no longer \
         accepted or now required, a bound tightened, a pattern or format added or changed, and the same of items and \
         members inside.\n",
    );
    text
}

fn yaml(value: &Ordered) -> String {
    format!("```yaml\n{}```\n", serde_saphyr::to_string(value).unwrap())
}

#[test]
fn contracts_page_is_what_the_schemas_say() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../docs/contracts.md"].iter().collect();
    let page = page();
    if std::env::var_os("AWOOOP_RENEW").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let stale = kept.lines().zip(page.lines()).position(|(a, b)| a != b);
    let line = stale.unwrap_or_else(|| kept.lines().count().min(page.lines().count())) + 1;
    assert!(kept == page, "docs/contracts.md is stale from line {line}. Renew it with: {RENEW}");
}

#[test]
fn contracts_page_describes_every_field_of_a_run_and_none_besides() {
    let schema = read(RUN);
    let mut found = Vec::new();
    fields(&schema, &schema, "", &mut |path, _, _| found.push(path.to_owned()));
    assert_eq!(found, RUN_FIELDS.map(|(field, _)| field));
}
