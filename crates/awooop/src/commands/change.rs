//! What changes, what could break and who signed, as lines for a person.
//!
//! Nothing is cut short: whoever signs for a change has read all of it here. Of long texts only the lines
//! between the first and the last difference are shown.

use serde_json::Value;

use crate::cli::{ClientArgs, ContractName};
use crate::output::cell;

/// A change of a value this short fits on one line, in characters.
const SHORT: usize = 80;

/// ` --project P` for a command that goes on where this one was, or nothing.
pub(super) fn in_project(client: &ClientArgs) -> String {
    client.server.project.as_deref().map(|p| format!(" --project {p}")).unwrap_or_default()
}

/// A contract's path in the API, and what follows it.
pub(super) fn path<'a>(name: &'a ContractName, rest: &[&'a str]) -> Vec<&'a str> {
    [&["v1", "platform", "contracts", name.kind.as_str(), name.id.as_str()], rest].concat()
}

/// `KIND/ID@N` of an item.
pub(super) fn named(item: &Value) -> String {
    format!("{}/{}@{}", cell(&item["kind"]), cell(&item["id"]), item["version"])
}

/// One line or more for each difference.
pub(super) fn differences(changes: &Value) -> Vec<String> {
    changes.as_array().into_iter().flatten().flat_map(difference).collect()
}

/// One line for each thing that could hurt whoever relies on the contract.
pub(super) fn breaking(found: &Value) -> Vec<String> {
    let line = |b: &Value| {
        let at = b["path"].as_str().filter(|path| !path.is_empty()).map(|path| format!("{path}: "));
        format!("! {}{} ({})", at.unwrap_or_default(), cell(&b["message"]), cell(&b["rule"]))
    };
    found.as_array().into_iter().flatten().map(line).collect()
}

/// `1 of 2 (ana)`.
pub(super) fn signatures(found: &Value) -> String {
    let signed = found["signed"].as_array().map(Vec::as_slice).unwrap_or_default();
    let who = if signed.is_empty() { String::new() } else { format!(" ({})", cell(&found["signed"])) };
    format!("{} of {}{who}", signed.len(), found["needed"])
}

/// Are there as many signatures as are needed?
pub(super) fn is_enough(found: &Value) -> bool {
    let signed = found["signed"].as_array().map_or(0, Vec::len);
    found["needed"].as_u64().is_some_and(|needed| signed as u64 >= needed)
}

/// Signatures that do not count, with the reason.
pub(super) fn uncounted(found: &Value) -> Vec<String> {
    let reasons = [
        ("expired", "signed longer ago than the project's rule allows"),
        ("overtaken", "signed while another version was active"),
        ("invalid", "has a signature that is not what was signed"),
    ];
    let of = |(field, why): (&str, &str)| {
        let people = found[field].as_array().filter(|people| !people.is_empty())?;
        Some(format!("{} {why}", people.iter().map(cell).collect::<Vec<_>>().join(", ")))
    };
    reasons.into_iter().filter_map(of).collect()
}

fn difference(change: &Value) -> Vec<String> {
    let (path, from, to) = (cell(&change["path"]), &change["from"], &change["to"]);
    match change["op"].as_str() {
        Some("added") if path.is_empty() => members(to),
        Some("added") => vec![format!("+ {path} {to}")],
        Some("removed") => vec![format!("- {path} {from}")],
        _ => changed(&path, from, to),
    }
}

/// A whole new manifest: what it says, member by member.
fn members(document: &Value) -> Vec<String> {
    let spec = document["spec"].as_object().into_iter().flatten();
    spec.map(|(name, value)| format!("+ /spec/{name} {value}")).collect()
}

fn changed(path: &str, from: &Value, to: &Value) -> Vec<String> {
    if let (Value::String(from), Value::String(to)) = (from, to)
        && (from.contains('\n') || to.contains('\n'))
    {
        return text(path, from, to);
    }
    let (from, to) = (from.to_string(), to.to_string());
    if from.chars().count() + to.chars().count() <= SHORT {
        return vec![format!("~ {path} {from} -> {to}")];
    }
    vec![format!("~ {path}"), format!("  - {from}"), format!("  + {to}")]
}

/// A text of several lines, without those that both begin and end with.
fn text(path: &str, from: &str, to: &str) -> Vec<String> {
    let (from, to): (Vec<&str>, Vec<&str>) = (from.split('\n').collect(), to.split('\n').collect());
    let head = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let (from, to) = (&from[head..], &to[head..]);
    let tail = from.iter().rev().zip(to.iter().rev()).take_while(|(a, b)| a == b).count();
    let (from, to) = (&from[..from.len() - tail], &to[..to.len() - tail]);
    let mut lines = vec![format!("~ {path} from line {}", head + 1)];
    lines.extend(from.iter().map(|line| format!("  - {line}")));
    lines.extend(to.iter().map(|line| format!("  + {line}")));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_a_line_and_a_long_text_shows_the_lines_that_differ() {
        let shown = differences(&json!([
            {"op": "added", "path": "/spec/tools/1", "from": null, "to": {"name": "b"}},
            {"op": "removed", "path": "/spec/description", "from": "x", "to": null},
            {"op": "changed", "path": "/spec/max_steps", "from": 8, "to": 12},
            {"op": "changed", "path": "/spec/instructions", "from": "a\nb\nc", "to": "a\nB\nB2\nc"},
            {"op": "changed", "path": "/spec/t", "from": "a\na\n", "to": "a\na\na\n"},
        ]));
        let expected = [
            r#"+ /spec/tools/1 {"name":"b"}"#,
            r#"- /spec/description "x""#,
            "~ /spec/max_steps 8 -> 12",
            "~ /spec/instructions from line 2",
            "  - b",
            "  + B",
            "  + B2",
            "~ /spec/t from line 3",
            "  + a",
        ];
        assert_eq!(shown, expected);
        let whole = json!([{"op": "added", "path": "", "to": {"kind": "agent", "spec": {"model": "a/b"}}}]);
        assert_eq!(differences(&whole), [r#"+ /spec/model "a/b""#]);
    }

    #[test]
    fn signatures_are_counted_and_those_that_do_not_count_have_their_reason() {
        let found =
            json!({"needed": 2, "signed": ["ana"], "expired": ["bob"], "overtaken": [], "invalid": []});
        assert_eq!((signatures(&found).as_str(), is_enough(&found)), ("1 of 2 (ana)", false));
        assert_eq!(uncounted(&found), ["bob signed longer ago than the project's rule allows"]);
        assert!(is_enough(&json!({"needed": 1, "signed": ["ana"]})));
    }
}
