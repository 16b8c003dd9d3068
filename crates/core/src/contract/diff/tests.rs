//! Differences as people read them.

use serde_json::{Value, json};

use super::*;

/// The lines as `op path: from -> to`.
fn check(from: Value, to: Value, expected: &[&str]) {
    let value = |v: &Option<Value>| v.as_ref().map_or(String::new(), Value::to_string);
    let line = |l: &ChangeLine| format!("{:?} {}: {} -> {}", l.op, l.path, value(&l.from), value(&l.to));
    let found: Vec<String> = changes(Some(&from), &to).iter().map(line).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_tool_put_first_reads_as_one_addition() {
    let (a, b, c) = (json!({"name": "a", "risk": "write"}), json!({"name": "b"}), json!({"name": "c"}));
    check(json!({"tools": [a, b]}), json!({"tools": [c, a, b]}), &[r#"Added /tools/0:  -> {"name":"c"}"#]);
    let graver = json!({"name": "b", "risk": "write"});
    let expected =
        [r#"Removed /tools/0: {"name":"a","risk":"write"} -> "#, r#"Added /tools/0/risk:  -> "write""#];
    check(json!({"tools": [a, b]}), json!({"tools": [graver]}), &expected);
}

#[test]
fn grants_are_matched_by_tool_and_plain_values_by_themselves() {
    let grant = |tool: &str, max: u32| json!({"tool": tool, "constraints": {"maximum": max}});
    let expected = ["Changed /grants/1/constraints/maximum: 5 -> 9"];
    check(
        json!({"grants": [grant("x__a", 1), grant("x__b", 5)]}),
        json!({"grants": [grant("x__a", 1), grant("x__b", 9)]}),
        &expected,
    );
    check(
        json!({"deny": ["b", "c"]}),
        json!({"deny": ["a", "b"]}),
        &[r#"Removed /deny/1: "c" -> "#, r#"Added /deny/0:  -> "a""#],
    );
}

#[test]
fn another_order_of_a_named_list_is_one_line() {
    let (a, b) = (json!({"name": "a"}), json!({"name": "b"}));
    check(json!([a, b]), json!([b, a]), &[r#"Changed : ["a","b"] -> ["b","a"]"#]);
}

#[test]
fn other_lists_are_matched_by_position() {
    check(json!([1, 1, [2]]), json!([1, 3]), &["Changed /1: 1 -> 3", "Removed /2: [2] -> "]);
}

#[test]
fn members_come_go_and_change_with_their_pointers_escaped() {
    check(
        json!({"a/b": 1, "c~d": {"e": null}}),
        json!({"c~d": {"e": false}, "f": []}),
        &["Removed /a~1b: 1 -> ", "Changed /c~0d/e: null -> false", "Added /f:  -> []"],
    );
}

#[test]
fn the_same_number_written_otherwise_is_no_change() {
    check(json!({"n": 5, "list": [1, 2]}), json!({"n": 5.0, "list": [1.0, 2]}), &[]);
}

#[test]
fn a_first_version_is_one_addition() {
    let document = json!({"kind": "agent"});
    let line =
        ChangeLine { op: ChangeOp::Added, path: String::new(), from: None, to: Some(document.clone()) };
    assert_eq!(changes(None, &document), [line]);
}

#[test]
fn a_patch_is_of_rfc_6902() {
    let patch = patch(&json!({"a": 1, "b": [1]}), &json!({"a": 2, "b": [1, 3]}));
    let expected =
        json!([{"op": "replace", "path": "/a", "value": 2}, {"op": "add", "path": "/b/1", "value": 3}]);
    assert_eq!(patch, expected);
}
