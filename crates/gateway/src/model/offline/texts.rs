//! Free text: what stands in quotation marks, an example the schema gives, a name after its noun or a
//! preposition, and in Chinese what is left when every word the tool knows is taken away.

use std::ops::Range;

use serde_json::{Value, json};

use super::arguments::mark;
use super::pick::Known;
use super::schema::Property;
use super::words::{Kind, Token, stem, terms, tokens as tokens_of};

const QUERY_NAMES: &[&str] =
    &["query", "q", "question", "text", "search", "keyword", "keywords", "message", "prompt"];

/// The text for this argument.
pub(super) fn text(tool: &Known<'_>, property: &Property, tokens: &mut [Token], text: &str) -> Option<Value> {
    let found = quoted(tokens, text)
        .or_else(|| example(property, tokens))
        .or_else(|| address(property, text, tokens))
        .or_else(|| after_own_noun(property, tokens))
        .or_else(|| property.is_required.then(|| capitalised(tokens)).flatten())
        .or_else(|| property.is_required.then(|| remaining_han(tool, tokens)).flatten());
    if let Some(range) = found {
        let value = json!(text[tokens[range.start].start..tokens[range.end - 1].end]);
        if property.accepts(&value) {
            mark(tokens, range);
            return Some(value);
        }
    }
    let is_query = QUERY_NAMES.contains(&property.name.to_lowercase().as_str());
    (property.is_required && is_query).then(|| json!(text.trim())).filter(|value| property.accepts(value))
}

fn quoted(tokens: &[Token], text: &str) -> Option<Range<usize>> {
    const PAIRS: &[(&str, &str)] =
        &[("\"", "\""), ("“", "”"), ("「", "」"), ("『", "』"), ("《", "》"), ("'", "'")];
    (0..tokens.len()).find_map(|at| {
        let (open, close) = PAIRS.iter().find(|(open, _)| tokens[at].is(open))?;
        // An apostrophe inside a word opens nothing.
        if *open == "'" && text[..tokens[at].start].ends_with(|c: char| c.is_alphanumeric()) {
            return None;
        }
        let length = tokens[at + 1..].iter().position(|token| token.is(close))?;
        let range = at + 1..at + 1 + length;
        (!range.is_empty() && tokens[range.clone()].iter().all(|token| !token.used)).then_some(range)
    })
}

fn example(property: &Property, tokens: &[Token]) -> Option<Range<usize>> {
    property.schema["examples"].as_array()?.iter().filter_map(Value::as_str).find_map(|example| {
        let wanted: Vec<String> = tokens_of(example).into_iter().map(|token| token.low).collect();
        let at = tokens.windows(wanted.len().max(1)).position(|here| {
            here.iter().zip(&wanted).all(|(token, word)| !token.used && token.is(word)) && !wanted.is_empty()
        })?;
        Some(at..at + wanted.len())
    })
}

/// An e-mail or web address, where the format asks for one.
fn address(property: &Property, text: &str, tokens: &[Token]) -> Option<Range<usize>> {
    let sign = match property.schema["format"].as_str()? {
        "email" => "@",
        "uri" | "url" => "://",
        _ => return None,
    };
    let word = text.split_whitespace().find(|word| word.contains(sign))?;
    let word = word.trim_end_matches(['.', ',', '?', '!', ';', ')']);
    let start = text.find(word)?;
    let first = tokens.iter().position(|token| token.start >= start)?;
    let end = tokens.iter().rposition(|token| token.end <= start + word.len())?;
    Some(first..end + 1)
}

fn is_name(token: &Token) -> bool {
    token.kind == Kind::Word && !token.used && token.text.starts_with(char::is_uppercase) && token.low != "i"
}

fn run_of_names(tokens: &[Token], start: usize) -> Option<Range<usize>> {
    let length = tokens.get(start..)?.iter().take_while(|token| is_name(token)).count();
    (length > 0).then_some(start..start + length)
}

/// `city of Lima`, `city: Lima`, `author Austen`.
fn after_own_noun(property: &Property, tokens: &[Token]) -> Option<Range<usize>> {
    let named = terms(&property.name);
    let at = tokens.iter().position(|token| token.kind == Kind::Word && named.contains(&stem(&token.low)))?;
    let mut start = at + 1;
    while tokens
        .get(start)
        .is_some_and(|token| ["of", "is", ":", "=", "named", "called"].contains(&token.low.as_str()))
    {
        start += 1;
    }
    run_of_names(tokens, start)
}

/// Names written large, after a preposition first, else anywhere but at the start of a sentence.
fn capitalised(tokens: &[Token]) -> Option<Range<usize>> {
    let is_start = |at: usize| at == 0 || [".", "?", "!", ":"].contains(&tokens[at - 1].low.as_str());
    let after = |at: usize| {
        at > 0 && ["in", "at", "for", "near", "of", "from", "to", "by"].contains(&tokens[at - 1].low.as_str())
    };
    let found = (0..tokens.len()).find(|at| is_name(&tokens[*at]) && after(*at));
    let found = found.or_else(|| (0..tokens.len()).find(|at| is_name(&tokens[*at]) && !is_start(*at)));
    run_of_names(tokens, found?)
}

/// Two to six characters in a row that neither the tool nor grammar has a use for.
fn remaining_han(tool: &Known<'_>, tokens: &[Token]) -> Option<Range<usize>> {
    const GRAMMAR: &str = "的在是了嗎呢與和或有我你請問多少什麼怎樣如何會這那哪個幾給看查";
    let mut known: Vec<bool> = tokens
        .iter()
        .map(|token| token.used || token.kind != Kind::Han || GRAMMAR.contains(&token.low))
        .collect();
    for at in 1..tokens.len() {
        let pair = format!("{}{}", tokens[at - 1].low, tokens[at].low);
        if tool.has_term(&pair) {
            known[at - 1] = true;
            known[at] = true;
        }
    }
    let mut at = 0;
    while at < known.len() {
        let length = known[at..].iter().take_while(|is_known| !**is_known).count();
        if (2..=6).contains(&length) {
            return Some(at..at + length);
        }
        at += length.max(1);
    }
    None
}
