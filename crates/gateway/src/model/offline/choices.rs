//! Arguments with listed values, and yes-or-no arguments.
//!
//! A value is chosen by its own words, by a phrase the description puts in parentheses after it, or, for
//! calendar units, by the ways both languages say "by month". A month that is merely named (`March`) or
//! mentioned (`that month`) chooses nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::pick::Known;
use super::schema::Property;
use super::words::{Kind, Token, stem, terms, terms_of};

/// Unit, adverb, and how Chinese says it.
const UNITS: &[(&str, &[&str], &[&str])] = &[
    ("day", &["daily"], &["日", "天"]),
    ("week", &["weekly"], &["週", "周"]),
    ("month", &["monthly"], &["月", "個月"]),
    ("quarter", &["quarterly"], &["季", "個季"]),
    ("year", &["yearly", "annual", "annually"], &["年"]),
];

/// The value the question names, if it names one.
pub(super) fn choose(
    tool: &Known<'_>,
    property: &Property,
    values: &[Value],
    tokens: &mut [Token],
) -> Option<Value> {
    let asked = terms_of(tokens);
    let mut best: Option<(usize, &Value)> = None;
    for value in values {
        let Some(word) = value.as_str() else { continue };
        let score = match unit_of(word) {
            Some(unit) => {
                if says_by_unit(tokens, unit) {
                    4
                } else {
                    0
                }
            }
            None => score(tool, property, values, word, &asked, tokens),
        };
        if score > 0 && best.is_none_or(|(top, _)| score > top) {
            best = Some((score, value));
        }
    }
    best.map(|(_, value)| value.clone())
}

fn score(
    tool: &Known<'_>,
    property: &Property,
    values: &[Value],
    word: &str,
    asked: &BTreeSet<String>,
    tokens: &[Token],
) -> usize {
    let own = terms(word);
    if !own.is_empty() && own.is_subset(asked) {
        let is_after_by = tokens.windows(2).any(|pair| {
            ["by", "per", "依", "按"].contains(&pair[0].low.as_str()) && own.contains(&stem(&pair[1].low))
        });
        if is_after_by {
            return 5;
        }
        if !own.is_subset(&tool.named) {
            return 3;
        }
    }
    let is_glossed = glosses(&property.description, values, word).iter().any(|gloss| {
        let gloss = terms(gloss);
        !gloss.is_empty() && gloss.is_subset(asked)
    });
    if is_glossed { 2 } else { 0 }
}

/// The phrases in parentheses right after a value in the description: `orders (how often, 訂單數)`.
fn glosses(description: &str, values: &[Value], word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in description.match_indices(word) {
        let rest = description[at + word.len()..].trim_start_matches(['`', '"', '\'']).trim_start();
        let rest = rest.strip_prefix([':', '=', '：']).map_or(rest, str::trim_start);
        let Some(inside) = rest.strip_prefix(['(', '（']) else { continue };
        let inside = inside.split([')', '）']).next().unwrap_or_default();
        let is_value = |phrase: &str| values.iter().any(|value| value == phrase);
        found.extend(
            inside
                .split([',', '，', '、', ';', '/'])
                .map(str::trim)
                .filter(|phrase| !phrase.is_empty() && !is_value(phrase))
                .map(str::to_owned),
        );
    }
    found
}

type CalendarUnit = &'static (&'static str, &'static [&'static str], &'static [&'static str]);

fn unit_of(word: &str) -> Option<CalendarUnit> {
    let low = word.to_lowercase();
    let bare = low.strip_prefix("by_").unwrap_or(&low);
    UNITS.iter().find(|(unit, adverbs, _)| *unit == stem(bare) || adverbs.contains(&bare))
}

fn says_by_unit(tokens: &[Token], (unit, adverbs, han): CalendarUnit) -> bool {
    (0..tokens.len()).any(|at| {
        let token = &tokens[at];
        if token.kind == Kind::Han {
            let rest: String = tokens[at..].iter().take(4).map(|token| token.low.as_str()).collect();
            return han.iter().any(|name| {
                ["每", "按", "依", "各", "逐", "分", "以"].iter().any(|lead| {
                    rest.strip_prefix(lead)
                        .map(|rest| rest.strip_prefix("一").unwrap_or(rest))
                        .is_some_and(|rest| rest.starts_with(name))
                }) || rest.starts_with(&format!("{name}別"))
            });
        }
        let leads = ["by", "per", "each", "every"].contains(&token.low.as_str());
        adverbs.contains(&token.low.as_str())
            || leads && tokens.get(at + 1).is_some_and(|next| stem(&next.low) == *unit)
    })
}

/// Yes when the argument's words are mentioned, no when a denial stands right before them.
pub(super) fn flag(property: &Property, tokens: &[Token]) -> Option<Value> {
    let mut named = terms(&property.name);
    for lead in ["include", "with", "only", "show", "is", "has"] {
        named.remove(&stem(lead));
    }
    let at = tokens.iter().position(|token| token.kind == Kind::Word && named.contains(&stem(&token.low)))?;
    if !named.is_subset(&terms_of(tokens)) {
        return None;
    }
    let is_denied = at
        .checked_sub(1)
        .is_some_and(|i| ["no", "not", "without", "except", "excluding"].contains(&tokens[i].low.as_str()));
    Some(json!(!is_denied))
}
