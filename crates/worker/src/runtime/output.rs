//! The output validator: a final answer must fit the agent's schema. An answer that does not goes back to
//! the model with what was wrong; three answers in all, then the run fails with E-SCHEMA-001.
//!
//! Models put JSON into Markdown fences and words around them, so an answer is read in this order, and the
//! first reading that fits counts: the text as JSON; the one fence it consists of; the text itself, as an
//! agent whose schema is a string may simply answer; the only fence among other words. JSON is read
//! strictly: a property that appears twice is a fault, because readers would differ on which one counts.
//! Numbers are 64-bit integers or doubles, as JSON's readers have them; one beyond a double is a fault.

use awooop_core::error::Violation;
use awooop_core::schema::Schema;
use serde_json::Value;

use super::strict;

/// Answers a run may give in all.
pub(crate) const MAX_ANSWERS: u32 = 3;
/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Reads and checks a final answer. The violations are for the model and repeat no value of the answer.
pub(crate) fn check(schema: &Value, content: &str) -> Result<Value, Vec<Violation>> {
    let compiled = Schema::compile(schema).map_err(|e| vec![Violation::new("", "schema", e.to_string())])?;
    if content.len() > MAX_ANSWER_BYTES {
        let message = format!("the answer is longer than {MAX_ANSWER_BYTES} bytes");
        return Err(vec![Violation::new("", "size", message)]);
    }
    let text = content.trim_start_matches('\u{feff}').trim();
    let fence = only_fence(text);
    let whole = fence.filter(|fence| fence.is_alone).map_or(text, |fence| fence.inside);
    let found = match fits(&compiled, whole) {
        Ok(value) => return Ok(value),
        Err(found) => found,
    };
    let as_text = Value::String(content.to_owned());
    if compiled.validate(&as_text).is_ok() {
        return Ok(as_text);
    }
    match fence {
        Some(fence) if !fence.is_alone => fits(&compiled, fence.inside),
        _ => Err(found),
    }
}

/// Reads `text` as JSON and validates it.
fn fits(schema: &Schema, text: &str) -> Result<Value, Vec<Violation>> {
    let value = strict::parse(text)
        .map_err(|error| vec![Violation::new("", "json", format!("expected one JSON document: {error}"))])?;
    schema.validate(&value).map(|()| value)
}

/// A Markdown code block.
#[derive(Clone, Copy)]
struct Fence<'t> {
    /// Its content, trimmed.
    inside: &'t str,
    /// There is nothing beside it.
    is_alone: bool,
}

/// The only fence of a text: between two lines or ends of ```` ``` ````, marked `json` or not at all.
/// With several it would be a guess which one is the answer.
fn only_fence(text: &str) -> Option<Fence<'_>> {
    let (before, rest) = text.split_once("```")?;
    // the last mark closes it: what is inside may have marks in its strings
    let (inside, after) = rest.rsplit_once("```")?;
    let is_alone = before.is_empty() && after.is_empty();
    if !is_alone && inside.lines().any(|line| line.trim_start().starts_with("```")) {
        return None;
    }
    let is_marked = inside.get(..4).is_some_and(|mark| mark.eq_ignore_ascii_case("json"));
    let inside = if is_marked { &inside[4..] } else { inside };
    Some(Fence { inside: inside.trim(), is_alone })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object() -> Value {
        json!({"type": "object", "required": ["answer"], "additionalProperties": false,
            "properties": {"answer": {"type": ["string", "number"]}}})
    }

    fn fault(content: &str) -> String {
        let found = check(&object(), content).unwrap_err();
        format!("{} ({}): {}", found[0].path, found[0].keyword, found[0].message)
    }

    #[test]
    fn an_answer_fits_as_json_in_a_fence_or_as_plain_text() {
        let expected = Ok(json!({"answer": "x"}));
        for content in [
            "{\"answer\":\"x\"}",
            "\u{feff}{\"answer\":\"x\"}\n",
            "```json\n{\"answer\":\"x\"}\n```",
            "```\n{\"answer\":\"x\"}\n```",
            " ```JSON {\"answer\":\"x\"}```\r\n",
            "Here it is:\n\n```json\n{\"answer\":\"x\"}\n```\nAnything else?",
            "\u{feff}```json\n{\"answer\":\"x\"}\n```",
        ] {
            assert_eq!(check(&object(), content), expected, "{content:?}");
        }
        let with_marks = json!({"answer": "run ```make``` twice"});
        assert_eq!(check(&object(), &format!("```json\n{with_marks}\n```")), Ok(with_marks.clone()));
        assert_eq!(check(&object(), &with_marks.to_string()), Ok(with_marks));
        assert_eq!(fault("{\"answer\":null}"), "/answer (type): expected number or string");
    }

    #[test]
    fn a_schema_of_text_takes_the_answer_as_it_is() {
        let text = json!({"type": "string"});
        for content in ["plain words", "42", "see:\n```json\n\"x\"\n```\nabove", "", "{\"a\":1}"] {
            assert_eq!(check(&text, content), Ok(json!(content)));
        }
        assert_eq!(check(&text, "\"quoted\""), Ok(json!("quoted")));
        assert!(check(&json!({"enum": ["yes", "no"]}), "yes").is_ok());
        assert!(check(&json!({"enum": ["yes", "no"]}), "perhaps").is_err());
    }

    #[test]
    fn what_is_not_json_is_told_where_and_never_repeated() {
        let place = |message: &str| format!(" (json): expected one JSON document: {message}");
        assert_eq!(fault("sk-secret words"), place("expected value at line 1 column 1"));
        assert_eq!(fault("{\"answer\": 1,}"), place("trailing comma at line 1 column 14"));
        assert_eq!(fault("{\"answer\": NaN}"), place("expected value at line 1 column 12"));
        assert_eq!(fault("{\"answer\": 1} thanks"), place("trailing characters at line 1 column 15"));
        assert_eq!(fault("{\"answer\": 1e400}"), place("number out of range at line 1 column 16"));
        assert_eq!(fault("{\"answer\": \"x"), place("EOF while parsing a string at line 1 column 13"));
        assert_eq!(fault(""), place("EOF while parsing a value at line 1 column 0"));
        let twice = "{\"answer\": \"sk-1\", \"answer\": \"sk-2\"}";
        assert_eq!(fault(twice), place("a property appears twice in one object at line 1 column 27"));
        let two = "```json\n{\"answer\":1}\n```\nor\n```json\n{\"answer\":2}\n```";
        assert!(fault(two).starts_with(" (json)"), "{}", fault(two));
    }

    #[test]
    fn numbers_keep_what_a_double_or_a_64_bit_integer_holds() {
        let number =
            |text: &str| check(&object(), &format!("{{\"answer\":{text}}}")).unwrap()["answer"].clone();
        assert_eq!(number("18446744073709551615"), json!(u64::MAX));
        assert_eq!(number("-9223372036854775808"), json!(i64::MIN));
        assert_eq!(
            number("123456789012345678901234567890"),
            json!(123_456_789_012_345_678_901_234_567_890_f64)
        );
        assert_eq!(number("1.5e300"), json!(1.5e300));
    }

    #[test]
    fn deep_and_large_answers_are_refused_in_a_few_words() {
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(fault(&deep(100)), " (depth): nests deeper than 64 levels");
        assert!(fault(&deep(200_000)).starts_with(" (json): expected one JSON document: recursion limit"));
        let large = format!("{{\"answer\":\"{}\"}}", "x".repeat(MAX_ANSWER_BYTES));
        assert_eq!(fault(&large), " (size): the answer is longer than 1048576 bytes");
        let unknown: serde_json::Map<String, Value> =
            (0..5_000).map(|n| (format!("k{n}"), json!(n))).collect();
        assert!(fault(&Value::Object(unknown).to_string()).len() < 400);
    }
}
