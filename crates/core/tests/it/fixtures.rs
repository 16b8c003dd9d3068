//! The golden fixtures: every file of `contracts/<kind>/valid` is accepted and comes back from its type with
//! nothing lost; every file of `invalid` is refused by the schema alone, first at the place that
//! `invalid/expected.yaml` names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use awooop_core::contract::{
    self, Kind, Manifest, RUN_SCHEMA, RUN_SCHEMA_TEXT, RunStateDocument, Spec, check_references,
};
use awooop_core::error::Violation;
use awooop_core::json::{canonical, to_value, whole_numbers};
use awooop_core::schema::Schema;
use serde_json::Value;

/// The interface contract, which is no [`Kind`].
pub(crate) const RUN: &str = "runtime_run_state";

/// All six kinds of `contracts/`.
pub(crate) fn kinds() -> Vec<&'static str> {
    Kind::ALL.into_iter().map(Kind::as_str).chain([RUN]).collect()
}

/// A kind's schema as it is shipped.
pub(crate) fn schema_of(kind: &str) -> Value {
    let text = Kind::parse(kind).map_or(RUN_SCHEMA_TEXT, Kind::schema_text);
    serde_json::from_str(text).unwrap()
}

/// Reads the content of a document into its kind's type, without asking the schema, and writes it again.
pub(crate) fn through_type(kind: &str, document: &Value) -> Result<Value, String> {
    let Some(kind) = Kind::parse(kind) else {
        let run: Result<RunStateDocument, _> = serde_json::from_value(whole_numbers(document.clone()));
        return run.map(|run| to_value(&run)).map_err(|e| e.to_string());
    };
    let spec = Spec::of_document(kind, document).map_err(|found| format!("{found:?}"))?;
    let mut written = document.clone();
    written["spec"] = spec.to_value();
    Ok(written)
}

/// Does every member of `given` stand in `written`, with an equal value? Returns the first that does not.
pub(crate) fn lost(given: &Value, written: &Value, path: &str) -> Option<String> {
    match (given, written) {
        (Value::Object(given), Value::Object(written)) => given.iter().find_map(|(name, value)| {
            let path = format!("{path}/{name}");
            written.get(name).map_or(Some(path.clone()), |found| lost(value, found, &path))
        }),
        (Value::Array(given), Value::Array(written)) if given.len() == written.len() => {
            let mut pairs = given.iter().zip(written).enumerate();
            pairs.find_map(|(i, (a, b))| lost(a, b, &format!("{path}/{i}")))
        }
        _ => (canonical(given) != canonical(written)).then(|| path.to_owned()),
    }
}

/// A folder's documents by file name.
pub(crate) fn fixtures(kind: &str, verdict: &str) -> BTreeMap<String, Value> {
    let names = std::fs::read_dir(folder(kind, verdict)).unwrap().map(|entry| entry.unwrap().path());
    let documents = names.filter(|path| path.extension().is_some_and(|e| e == "json"));
    documents
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_str(&text).unwrap())
        })
        .collect()
}

fn folder(kind: &str, verdict: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../contracts", kind, verdict].iter().collect()
}

fn expected(kind: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder(kind, "invalid").join("expected.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// What is wrong with a document, by everything that would be asked of it.
fn refusal(kind: &str, document: &Value) -> Vec<Violation> {
    if kind == RUN {
        return RUN_SCHEMA.validate(document).err().unwrap_or_default();
    }
    contract::parse(document.clone()).err().unwrap_or_default()
}

#[test]
fn every_kind_has_enough_fixtures_and_every_invalid_one_its_place() {
    for kind in kinds() {
        let (valid, invalid) = (fixtures(kind, "valid"), fixtures(kind, "invalid"));
        assert!(valid.len() >= 8 && invalid.len() >= 12, "{kind}: {} and {}", valid.len(), invalid.len());
        let named: Vec<String> = expected(kind).into_keys().collect();
        assert_eq!(named, invalid.into_keys().collect::<Vec<_>>(), "{kind}: expected.yaml names the files");
    }
}

#[test]
fn every_valid_fixture_comes_back_from_its_type_with_nothing_lost() {
    for kind in kinds() {
        let schema = Schema::compile(&schema_of(kind)).unwrap();
        for (name, document) in fixtures(kind, "valid") {
            assert_eq!(refusal(kind, &document), [], "{kind}/{name}");
            let written = through_type(kind, &document).unwrap_or_else(|e| panic!("{kind}/{name}: {e}"));
            assert_eq!(lost(&document, &written, ""), None, "{kind}/{name} stands in {written}");
            assert_eq!(schema.validate(&written), Ok(()), "{kind}/{name}: {written}");
            assert_eq!(through_type(kind, &written).as_ref(), Ok(&written), "{kind}/{name}");
        }
    }
}

#[test]
fn a_manifest_written_and_read_again_says_the_same() {
    for kind in Kind::ALL {
        for (name, document) in fixtures(kind.as_str(), "valid") {
            let first = contract::parse(document.clone()).unwrap();
            let written = first.to_document();
            assert_eq!(lost(&document, &written, ""), None, "{kind}/{name}");
            let second = contract::parse(written).unwrap_or_else(|e| panic!("{kind}/{name}: {e:?}"));
            assert_eq!((first.spec, first.id, first.project), (second.spec, second.id, second.project));
        }
    }
}

#[test]
fn every_invalid_fixture_is_refused_by_the_schema_alone_and_first_where_expected() {
    for kind in kinds() {
        let schema = Schema::compile(&schema_of(kind)).unwrap();
        let expected = expected(kind);
        for (name, document) in fixtures(kind, "invalid") {
            assert!(schema.validate(&document).is_err(), "{kind}/{name} passes the schema");
            let found = refusal(kind, &document);
            assert_eq!(found[0].path, expected[&name], "{kind}/{name}: {found:?}");
        }
    }
}

#[test]
fn a_wrong_branch_is_told_by_what_the_document_itself_chose() {
    let check = |kind: &str, spec: Value, path: &str, keyword: &str, message: &str| {
        let document = serde_json::json!({"kind": kind, "project": "ewoooc", "id": "shop", "spec": spec});
        let found = contract::parse(document).unwrap_err();
        assert_eq!((found[0].path.as_str(), found[0].keyword.as_str()), (path, keyword), "{found:?}");
        assert!(found[0].message.contains(message), "{found:?}");
    };
    use serde_json::json;
    check("provider", json!({"type": "ftp"}), "/spec/type", "enum", "llm or mcp");
    check("provider", json!({}), "/spec", "required", "type must be llm or mcp");
    check("provider", json!({"type": "llm"}), "/spec", "required", "dialect must be offline or openai");
    let shell = json!({"type": "mcp", "transport": "stdio", "command": "/bin/sh", "tools": []});
    check("provider", shell, "/spec/command", "pattern", "");
    check("provider", json!([]), "/spec", "type", "must be an object");
    check("channel", json!({"type": 5}), "/spec/type", "enum", "telegram or webhook");
    check("policy", json!({"description": "x"}), "/spec", "anyOf", "at least one section");
}

#[test]
fn what_is_no_manifest_is_told_so_and_the_platforms_own_contract_cannot_be_applied() {
    let first = |document: Value| contract::parse(document).unwrap_err().remove(0);
    assert_eq!(first(serde_json::json!("agent")).path, "");
    assert_eq!(first(serde_json::json!({"id": "x"})).path, "");
    let unknown = first(serde_json::json!({"kind": "tenant"}));
    assert_eq!(unknown.message, "kind must be project, provider, agent, policy or channel");
    let run = first(serde_json::json!({"kind": RUN}));
    assert_eq!(run.path, "/kind");
    assert!(run.message.contains("cannot be applied"));
}

#[test]
fn the_example_project_is_whole() {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../examples/ewoooc"].iter().collect();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let manifests: Vec<Manifest> = files
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            serde_saphyr::from_multiple::<Value>(&text).unwrap()
        })
        .map(|document| contract::parse(document).unwrap())
        .collect();
    assert!(manifests.len() >= 4);
    assert_eq!(check_references(&manifests, &[], &[]), []);
}
