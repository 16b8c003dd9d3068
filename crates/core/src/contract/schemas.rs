//! The shipped schemas, compiled once. Where a schema offers branches (`oneOf`), the validator alone would
//! say "fits none": the branch that the document's own `type` chose is compiled by itself, so that what is
//! wrong with that branch can be told.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::Kind;
use crate::error::Violation;
use crate::schema::Schema;

/// The text of `contracts/runtime_run_state/schema.json`.
pub const RUN_SCHEMA_TEXT: &str = include_str!("../../../../contracts/runtime_run_state/schema.json");

/// The schema every run the API shows fits: the seed's file.
pub static RUN_SCHEMA: LazyLock<Schema> = LazyLock::new(|| compile(&read(RUN_SCHEMA_TEXT)));

impl Kind {
    /// The text of `contracts/<kind>/schema.json`: JSON Schema 2020-12 of a whole manifest.
    pub fn schema_text(self) -> &'static str {
        match self {
            Kind::Project => include_str!("../../../../contracts/project/schema.json"),
            Kind::Provider => include_str!("../../../../contracts/provider/schema.json"),
            Kind::Agent => include_str!("../../../../contracts/agent/schema.json"),
            Kind::Policy => include_str!("../../../../contracts/policy/schema.json"),
            Kind::Channel => include_str!("../../../../contracts/channel/schema.json"),
        }
    }
}

/// A kind's schema, and one for each branch of its `spec`.
struct Compiled {
    whole: Schema,
    branches: Vec<Branch>,
}

/// One branch of `spec`, with the members whose constant values choose it, in the order they are asked.
struct Branch {
    chosen_by: Vec<(String, Value)>,
    schema: Schema,
}

/// Checks a document against its kind's schema.
pub(super) fn validate(kind: Kind, document: &Value) -> Result<(), Vec<Violation>> {
    static COMPILED: LazyLock<Vec<Compiled>> =
        LazyLock::new(|| Kind::ALL.map(|kind| Compiled::new(&read(kind.schema_text()))).into());
    let compiled = &COMPILED[kind as usize];
    let Err(found) = compiled.whole.validate(document) else { return Ok(()) };
    if found.iter().any(|v| v.keyword == "oneOf") {
        return Err(compiled.explain(document).unwrap_or(found));
    }
    Err(found.into_iter().map(plainer).collect())
}

impl Compiled {
    fn new(schema: &Value) -> Self {
        let choices = schema.pointer("/properties/spec/oneOf").and_then(Value::as_array);
        let branches = choices.into_iter().flatten().map(|branch| Branch::new(schema, branch)).collect();
        Self { whole: compile(schema), branches }
    }

    /// What is wrong with the branch that the document's own members chose, or with the choice.
    fn explain(&self, document: &Value) -> Option<Vec<Violation>> {
        let Some(spec) = document.get("spec")?.as_object() else {
            return Some(vec![Violation::new("/spec", "type", "spec must be an object")]);
        };
        let mut left: Vec<&Branch> = self.branches.iter().collect();
        for depth in 0.. {
            let (member, _) = left.first()?.chosen_by.get(depth)?;
            let offered: Vec<&Value> = left.iter().map(|b| &b.chosen_by[depth].1).collect();
            let Some(chosen) = spec.get(member).filter(|value| offered.contains(value)) else {
                return Some(vec![no_branch(member, spec.contains_key(member), &offered)]);
            };
            left.retain(|b| &b.chosen_by[depth].1 == chosen);
            if let [branch] = left[..] {
                let found = branch.schema.validate(document).err();
                return found.map(|found| found.into_iter().map(plainer).collect());
            }
        }
        None
    }
}

impl Branch {
    fn new(schema: &Value, branch: &Value) -> Self {
        let target = branch["$ref"].as_str().and_then(|r| schema.pointer(r.trim_start_matches('#')));
        let target = target.expect("a branch of a shipped schema refers to a definition");
        let chosen_by = target["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter_map(|name| Some((name.to_owned(), target["properties"][name].get("const")?.clone())))
            .collect();
        let mut alone = schema.clone();
        alone["properties"]["spec"] = json!({"$ref": branch["$ref"]});
        Self { chosen_by, schema: compile(&alone) }
    }
}

fn no_branch(member: &str, is_there: bool, offered: &[&Value]) -> Violation {
    let mut names: Vec<&str> = offered.iter().filter_map(|v| v.as_str()).collect();
    names.dedup();
    let message = format!("{member} must be {}", names.join(" or "));
    match is_there {
        true => Violation::new(format!("/spec/{member}"), "enum", message),
        false => Violation::new("/spec", "required", message),
    }
}

/// Only a policy's spec has `anyOf`, to ask for one section at least, and only a tool server's `auth` has `not`.
fn plainer(violation: Violation) -> Violation {
    let message = match violation.keyword.as_str() {
        "anyOf" => "at least one section is needed: deny, approvals, redaction, anomalies or rates",
        "not" => "it is either header and credential, or oauth",
        _ => return violation,
    };
    Violation { message: message.to_owned(), ..violation }
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).expect("a shipped schema is JSON")
}

fn compile(schema: &Value) -> Schema {
    Schema::compile(schema).expect("a shipped schema compiles")
}
