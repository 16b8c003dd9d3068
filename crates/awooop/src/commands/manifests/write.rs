//! A manifest as text that reads back as the same manifest.
//!
//! YAML, because people read it; what would not come back exactly as it is (by our own reading, after the
//! terminal's filter) is written as JSON, which standard input takes just as well.

use awooop_core::json;
use serde::Serialize;
use serde_json::Value;

use super::yaml;
use crate::output::printable;

/// The members in the order in which people write them.
#[derive(Serialize)]
struct Ordered<'a> {
    kind: &'a Value,
    project: &'a Value,
    id: &'a Value,
    spec: &'a Value,
}

/// The manifest's text, without a newline at its end.
pub(crate) fn to_text(document: &Value) -> String {
    let [kind, project, id, spec] = ["kind", "project", "id", "spec"].map(|name| &document[name]);
    let written = serde_saphyr::to_string(&Ordered { kind, project, id, spec }).unwrap_or_default();
    let text = printable(&written).trim_end_matches('\n').to_owned();
    if reads_back(&text, document) { text } else { as_json(document) }
}

fn reads_back(text: &str, document: &Value) -> bool {
    let Ok(read) = yaml::parse(&format!("{text}\n")) else { return false };
    matches!(read.as_slice(), [one] if json::canonical(&one.to_json()) == json::canonical(document))
}

/// JSON in which every control character is escaped, also those that JSON itself would let be.
fn as_json(document: &Value) -> String {
    let escape = |c: char| match c {
        '\n' => c.to_string(),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("{document:#}").chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::manifests::json as json_text;

    /// Is this text, as a spec's value, the same once it is written and read?
    fn check(value: &Value) {
        let document = json!({"kind": "agent", "project": "shop", "id": "clerk", "spec": {"a": value}});
        let text = to_text(&document);
        assert_eq!(printable(&text), text, "{value}");
        let is_json = text.starts_with('{');
        let read =
            if is_json { json_text::parse(&text) } else { yaml::parse(&text).map(|mut all| all.remove(0)) };
        let read = read.unwrap_or_else(|(_, why)| panic!("{why}: {text}")).to_json();
        assert_eq!(json::canonical(&read), json::canonical(&document), "{text}");
    }

    #[test]
    fn every_value_comes_back_as_it_was() {
        for text in [
            "",
            " ",
            "yes",
            "null",
            "~",
            "1e3",
            "0x1f",
            "0b11",
            "1_000",
            "2024-01-01",
            "- a",
            "a: b",
            "# c",
            "'",
            "\"",
            "two\nlines",
            "ends\n\n",
            "\n begins",
            "tab\tin",
            "trailing \nspace ",
            "${NAME}",
            "%x",
            "@x",
            "&a *b !c",
            "---",
            "\u{7f}",
            "\u{85}",
            "\u{1b}[2J",
            "\u{feff}x",
            "\u{2028}",
            "多少錢？",
            "a\r\nb",
        ] {
            check(&json!(text));
            check(&json!({text: [text]}));
        }
        let long = "word ".repeat(60);
        for value in [
            json!(1.5),
            json!(1e300),
            json!(-0.1),
            json!(u64::MAX),
            json!([]),
            json!({}),
            json!([[[]]]),
            json!(long),
        ] {
            check(&value);
        }
    }

    #[test]
    fn people_read_yaml_in_their_own_order() {
        let document = json!({"id": "clerk", "kind": "agent", "project": "shop", "spec": {"model": "a/b"}});
        assert_eq!(to_text(&document), "kind: agent\nproject: shop\nid: clerk\nspec:\n  model: a/b");
    }
}
