//! What a model gets of a tool's result: redacted first, truncated after, so that no cut can leave half a
//! secret that no pattern knows any more. The cap counts everything of one result, markers included. What is
//! let through this way may be masked on the next, so no cut goes through anything that any redactor knows.

use awooop_core::json::{canonical, hex, sha256};
use awooop_redact::{CleanJson, Redactor};
use awooop_store::redaction::{Blocked, Direction};
use serde_json::{Value, json};

use crate::upstream::ToolResult;

/// Characters of one result that reach a model.
pub const RESULT_CAP: usize = 16_384;

/// A result as models, journals and clients get it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shaped {
    /// Content parts, redacted and within the cap.
    pub content: Vec<Value>,
    /// Structured content, where it fits.
    pub structured: Option<Value>,
    /// The tool said that it failed.
    pub is_error: bool,
    /// The result's `_meta`, redacted.
    pub meta: Option<Value>,
    /// Characters of content and structured content together.
    pub chars: usize,
}

impl Shaped {
    /// The text parts, joined by line ends.
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self.content.iter().filter_map(|part| part.get("text")?.as_str()).collect();
        texts.join("\n")
    }

    /// As a step's journal keeps it and its model reads it.
    pub fn output(&self) -> Value {
        json!({"text": self.text(), "structured": self.structured, "is_error": self.is_error})
    }

    /// One text part of our own making.
    pub fn of_text(text: impl Into<String>, is_error: bool) -> Self {
        let text = text.into();
        let chars = text.chars().count();
        Self { content: vec![text_part(&text)], structured: None, is_error, meta: None, chars }
    }
}

/// Redacts and truncates a result; `whole` finds what must not be cut in two.
///
/// # Errors
/// [`Blocked`]: it holds what may not go this way.
pub fn shape(way: &Direction, whole: &Redactor, result: ToolResult) -> Result<Shaped, Blocked> {
    let mut left = RESULT_CAP;
    let clean = |value: Value| way.json(value).map(CleanJson::into_inner);
    let fit = |text: &str, left: usize| fit(whole, text, left);
    let structured = result.structured_content.map(clean).transpose()?;
    let mut content = Vec::with_capacity(result.content.len());
    // structured content that fits is kept whole: it is what programs read
    let mut kept = None;
    let mut replaced = None;
    if let Some(value) = structured {
        let size = chars(&canonical(&value));
        if size <= left {
            left -= size;
            kept = Some(value);
        } else {
            replaced = Some(canonical(&value));
        }
    }
    for part in result.content {
        let part = clean(part)?;
        match part.get("text").and_then(Value::as_str) {
            Some(text) if part["type"] == "text" => {
                let text = fit(text, left);
                left -= chars(&text);
                let mut part = part.clone();
                part["text"] = Value::String(text);
                content.push(part);
            }
            _ => {
                let size = chars(&part.to_string());
                if size <= left {
                    left -= size;
                    content.push(part);
                } else {
                    let text = fit(&omitted(&part, size), left);
                    left -= chars(&text);
                    content.push(text_part(&text));
                }
            }
        }
    }
    if let Some(text) = replaced {
        let text = fit(&text, left);
        left -= chars(&text);
        content.push(text_part(&text));
    }
    content.retain(|part| part.get("text").and_then(Value::as_str) != Some(""));
    let meta = result.meta.map(clean).transpose()?;
    Ok(Shaped { content, structured: kept, is_error: result.is_error, meta, chars: RESULT_CAP - left })
}

fn text_part(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn omitted(part: &Value, size: usize) -> String {
    let kind = part["type"].as_str().unwrap_or("content");
    format!("[omitted: {kind} of {size} characters, sha256 {}]", hex(&sha256(part.to_string().as_bytes())))
}

/// The whole text if it fits into `left` characters, else its head and a marker that says what is missing.
fn fit(whole: &Redactor, text: &str, left: usize) -> String {
    let total = chars(text);
    if total <= left {
        return text.to_owned();
    }
    let marker = |kept: usize| {
        format!("[truncated: {kept} of {total} characters, sha256 {}]", hex(&sha256(text.as_bytes())))
    };
    // the marker's own length depends on the number in it only by digits; `total` has the most
    let room = left.saturating_sub(chars(&marker(total)));
    if room == 0 {
        return marker(0).chars().take(left).collect();
    }
    let head = &text[..uncut(whole, text, room)];
    format!("{head}{}", marker(chars(head)))
}

/// Where the first `room` characters end, or earlier where that would cut a mask or a find in two.
fn uncut(whole: &Redactor, text: &str, room: usize) -> usize {
    let end = text.char_indices().nth(room).map_or(text.len(), |(at, _)| at);
    let found = whole.redact(text).findings;
    let end = found.iter().find(|f| f.start < end && end < f.end).map_or(end, |f| f.start);
    let head = &text[..end];
    match head.rfind('[') {
        Some(open) if !head[open..].contains(']') && is_mask(&text[open..]) => open,
        _ => end,
    }
}

/// Does a `[CLASS]` or `[CLASS:tag]` begin the text?
fn is_mask(text: &str) -> bool {
    let inner: String = text.chars().skip(1).take(60).take_while(|&c| c != ']').collect();
    let (name, tag) = inner.split_once(':').unwrap_or((&inner, ""));
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())
        && tag.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use awooop_redact::{Action, Rules};

    fn result(content: Vec<Value>, structured: Option<Value>) -> ToolResult {
        ToolResult { content, structured_content: structured, is_error: false, meta: None }
    }

    fn cut(result: ToolResult) -> Shaped {
        let passing = Direction::of(Redactor::new());
        shape(&passing, &order_numbers(), result).expect("nothing is blocked")
    }

    fn order_numbers() -> Redactor {
        let rules = Rules::credentials().pattern("ORDER_NO", r"\bEW-[0-9]{8}\b", Action::Mask);
        Redactor::with(rules.expect("the pattern compiles"))
    }

    fn all_chars(shaped: &Shaped) -> usize {
        let parts =
            shaped.content.iter().map(|p| p["text"].as_str().map_or_else(|| chars(&p.to_string()), chars));
        parts.sum::<usize>() + shaped.structured.as_ref().map_or(0, |v| chars(&canonical(v)))
    }

    #[test]
    fn a_long_text_is_cut_at_a_character_and_says_what_is_missing() {
        let text = "銷".repeat(100_000);
        let shaped = cut(result(vec![text_part(&text)], None));
        assert!(all_chars(&shaped) <= RESULT_CAP);
        assert_eq!(shaped.chars, all_chars(&shaped));
        let seen = shaped.text();
        assert!(seen.contains("of 100000 characters, sha256 "), "{}", &seen[seen.len() - 200..]);
    }

    #[test]
    fn structured_content_over_the_cap_becomes_text() {
        let value = json!({"rows": vec!["x".repeat(100); 1000]});
        let shaped = cut(result(vec![text_part("a summary")], Some(value)));
        assert_eq!(shaped.structured, None);
        assert!(all_chars(&shaped) <= RESULT_CAP);
        assert!(
            shaped.text().starts_with("a summary\n{\"rows\":[") && shaped.text().contains("[truncated: ")
        );
        let small = json!({"n": 1});
        let shaped = cut(result(vec![text_part("one")], Some(small.clone())));
        assert_eq!((shaped.structured, shaped.content.len()), (Some(small), 1));
    }

    #[test]
    fn a_large_picture_becomes_a_marker_and_a_small_one_stays() {
        let picture = |n: usize| json!({"type": "image", "mimeType": "image/png", "data": "A".repeat(n)});
        let shaped = cut(result(vec![picture(50_000), picture(10)], None));
        assert!(shaped.content[0]["text"].as_str().unwrap().starts_with("[omitted: image of "));
        assert_eq!(shaped.content[1]["type"], "image");
    }

    #[test]
    fn a_secret_on_the_cut_is_masked_before_and_its_mask_is_not_cut() {
        let key = format!("AKIA{}", "ABCDEFGHIJKLMNOP");
        for lead in RESULT_CAP - 150..RESULT_CAP - 80 {
            let text = format!("{} {key} {}", "a".repeat(lead), "b".repeat(500));
            let seen = cut(result(vec![text_part(&text)], None)).text();
            assert!(!seen.contains("AKIA"), "{lead}");
            let head = seen.split("[truncated").next().unwrap();
            assert!(
                !head.contains('[') || head.contains(']'),
                "a cut mask at {lead}: {}",
                &head[head.len() - 30..]
            );
        }
    }

    #[test]
    fn what_another_direction_masks_is_not_cut_in_two() {
        for lead in RESULT_CAP - 150..RESULT_CAP - 80 {
            let text =
                format!("{} EW-20260504 [ORDER_NO:0123456789ab] {}", "a".repeat(lead), "b".repeat(500));
            let seen = cut(result(vec![text_part(&text)], None)).text();
            let head = seen.split("[truncated").next().unwrap();
            let tail = head.trim_start_matches('a');
            let wholes = ["", " ", " EW-20260504", " EW-20260504 ", " EW-20260504 [ORDER_NO:0123456789ab]"];
            let is_whole =
                wholes.contains(&tail.trim_end_matches('b').trim_end_matches("] ")) || tail.contains("] ");
            assert!(is_whole, "{lead}: {tail}");
        }
    }

    #[test]
    fn a_result_that_holds_what_is_blocked_is_not_shown() {
        let rules = Rules::credentials().pattern("ORDER_NO", "EW-[0-9]{8}", Action::Block).unwrap();
        let way = Direction::of(Redactor::with(rules));
        let meta = Some(json!({"order": "EW-20260504"}));
        for held in [
            result(vec![text_part("EW-20260504")], None),
            result(vec![], Some(json!({"rows": [["EW-20260504"]]}))),
            ToolResult { meta, ..result(vec![], None) },
        ] {
            assert!(shape(&way, &Redactor::new(), held).is_err());
        }
    }
}
