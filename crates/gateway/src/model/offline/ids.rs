//! Ids: what follows the noun they belong to (`customer 17`, `ticket #T-1001`, `客戶編號 17`, `17號客戶`).
//!
//! An id has a digit in it and is kept exactly as written, leading zeros included.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

use super::arguments::mark;
use super::schema::Property;
use super::words::{Kind, Token, stem};

const BETWEEN: &[&str] = &[
    "id",
    "number",
    "no",
    "nr",
    "num",
    "code",
    "ref",
    "reference",
    ".",
    "#",
    ":",
    "=",
    "is",
    "with",
    "the",
    "'",
    "s",
    "\"",
    "編",
    "號",
    "代",
    "碼",
    "為",
    "是",
    "第",
    "「",
    "單",
];

/// The id after one of the argument's nouns.
pub(super) fn after_noun(
    property: &Property,
    nouns: &BTreeSet<String>,
    tokens: &mut [Token],
    text: &str,
) -> Option<Value> {
    for at in 0..tokens.len() {
        let Some(after) = nouns.iter().filter_map(|noun| noun_at(tokens, at, noun)).max() else { continue };
        let mut start = after;
        while tokens.get(start).is_some_and(|token| BETWEEN.contains(&token.low.as_str())) {
            start += 1;
        }
        let mut found = id_at(tokens, start);
        if found.is_none() {
            found = id_before(tokens, at);
        }
        let Some(range) = found else { continue };
        let Some(value) = admit(property, tokens, &range, text) else { continue };
        mark(tokens, range);
        return Some(value);
    }
    None
}

/// The one id-like thing in a question that at least names its noun.
pub(super) fn only_one(
    property: &Property,
    nouns: &BTreeSet<String>,
    tokens: &mut [Token],
    text: &str,
) -> Option<Value> {
    let is_named = is_named(nouns, tokens);
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match id_at(tokens, at) {
            Some(range) => {
                at = range.end;
                found.push(range);
            }
            None => at += 1,
        }
    }
    let [range] = found.as_slice() else { return None };
    let value = admit(property, tokens, range, text).filter(|_| is_named)?;
    mark(tokens, range.clone());
    Some(value)
}

/// Is one of the nouns mentioned at all, in any number?
pub(super) fn is_named(nouns: &BTreeSet<String>, tokens: &[Token]) -> bool {
    (0..tokens.len()).any(|at| {
        nouns.iter().any(|noun| {
            noun_at(tokens, at, noun).is_some()
                || tokens[at].kind == Kind::Word && noun.is_ascii() && stem(&tokens[at].low) == stem(noun)
        })
    })
}

fn admit(property: &Property, tokens: &[Token], range: &Range<usize>, text: &str) -> Option<Value> {
    property.admit(&text[tokens[range.start].start..tokens[range.end - 1].end])
}

/// The place after the noun, when it stands here as written: a plural is about many, not about one.
fn noun_at(tokens: &[Token], at: usize, noun: &str) -> Option<usize> {
    if noun.is_ascii() {
        return tokens[at].is(noun).then_some(at + 1);
    }
    let length = noun.chars().count();
    let here: String = tokens.get(at..at + length)?.iter().map(|token| token.low.as_str()).collect();
    (here == noun).then_some(at + length)
}

/// A run of letters, digits, `-` and `_` that has a digit and is no date.
fn id_at(tokens: &[Token], start: usize) -> Option<Range<usize>> {
    let is_part =
        |token: &Token| matches!(token.kind, Kind::Word | Kind::Number) || token.is("-") || token.is("_");
    let mut end = start;
    while let Some(token) = tokens.get(end) {
        let is_joined = end == start || tokens[end - 1].end == token.start;
        if !is_part(token) || !is_joined || token.used || (end == start && token.kind == Kind::Mark) {
            break;
        }
        end += 1;
    }
    while end > start && tokens[end - 1].kind == Kind::Mark {
        end -= 1;
    }
    let run = tokens.get(start..end)?;
    let has_digit = run.iter().any(|token| token.low.bytes().any(|b| b.is_ascii_digit()));
    let is_ordinal = run.len() == 1 && super::numbers::ordinal(&run[0].low).is_some();
    let is_calendar =
        tokens.get(end).is_some_and(|token| ["年", "月", "日", "/"].contains(&token.low.as_str()));
    let is_iso =
        run.len() >= 3 && run[0].low.len() == 4 && run.iter().step_by(2).all(|t| t.kind == Kind::Number);
    (has_digit && !is_ordinal && !is_calendar && !is_iso).then_some(start..end)
}

/// `17號客戶`: the number stands before its noun.
fn id_before(tokens: &[Token], noun: usize) -> Option<Range<usize>> {
    let mut at = noun;
    while at > 0 && tokens[at - 1].is("的") {
        at -= 1;
    }
    let is_marked = at >= 2 && tokens[at - 1].is("號");
    (is_marked && tokens[at - 2].kind == Kind::Number && !tokens[at - 2].used).then(|| at - 2..at - 1)
}
