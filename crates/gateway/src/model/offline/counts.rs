//! How many (`top 5`, `10 best`, `five customers`, `前三名`, `10筆`), and other numbers after their name.

use serde_json::{Value, json};

use super::arguments::mark;
use super::numbers::{number_at, word_number};
use super::pick::Known;
use super::schema::Property;
use super::words::{Kind, Token, stem, terms};

const LEADS: &[&str] = &[
    "top", "first", "best", "last", "latest", "newest", "recent", "biggest", "largest", "highest",
    "greatest", "worst", "lowest", "smallest", "bottom", "oldest", "limit", "max", "maximum", "most",
];
const UNITS: &[&str] = &["day", "week", "month", "quarter", "year", "half", "hour", "minute", "percent", "%"];
const MEASURES: &str = "名位筆家項張大高";

/// The number of things asked for.
pub(super) fn count(tool: &Known<'_>, property: &Property, tokens: &mut [Token]) -> Option<Value> {
    let own = terms(&property.name);
    (0..tokens.len()).find_map(|at| {
        let (number, end) = number_here(tokens, at)?;
        let next = tokens.get(end);
        if next.is_some_and(|token| UNITS.contains(&stem(&token.low).as_str()) || token.is("%")) {
            return None;
        }
        let before = at.checked_sub(1).map(|i| tokens[i].low.clone()).unwrap_or_default();
        let is_led = LEADS.contains(&before.as_str()) || before == "前" || before == "最";
        let is_measured = next.is_some_and(|t| t.kind == Kind::Han && MEASURES.contains(&t.low))
            || next.is_some_and(|t| t.is("個")) && tokens.get(end + 1).is_some_and(|t| !t.is("月"));
        let is_followed = tokens[at].low != "one"
            && tokens[end..].iter().take(2).any(|token| {
                token.kind == Kind::Word
                    && (LEADS.contains(&token.low.as_str())
                        || tool.named.contains(&stem(&token.low))
                        || own.contains(&stem(&token.low)))
            });
        let is_ordinal = before == "第";
        if is_ordinal || !(is_led || is_measured || is_followed) {
            return None;
        }
        mark(tokens, at..end);
        Some(json!(number))
    })
}

fn number_here(tokens: &[Token], at: usize) -> Option<(i64, usize)> {
    let token = &tokens[at];
    if token.used
        || (at > 0
            && tokens[at - 1].kind == Kind::Han
            && token.kind == Kind::Han
            && is_numeral(&tokens[at - 1]))
    {
        return None;
    }
    match token.kind {
        Kind::Word => word_number(&token.low).map(|n| (n, at + 1)),
        _ => number_at(tokens, at),
    }
}

fn is_numeral(token: &Token) -> bool {
    "〇零一二兩三四五六七八九十百千".contains(&token.low)
}

/// A number beside the argument's own name: `5 days` or `days 5` for `days`, `within 3 km` by its unit.
pub(super) fn number(property: &Property, tokens: &mut [Token]) -> Option<Value> {
    let named = terms(&property.name);
    let is_own = |token: &Token| token.kind == Kind::Word && named.contains(&stem(&token.low));
    let is_integer = property.schema["type"] == "integer";
    let mut free = Vec::new();
    for at in 0..tokens.len() {
        let Some((number, mut end)) = number_here(tokens, at) else { continue };
        let mut value = json!(number);
        if !is_integer && let Some((decimal, after)) = decimal(tokens, at) {
            value = json!(decimal);
            end = after;
        }
        let is_beside = tokens.get(end).is_some_and(is_own)
            || at.checked_sub(1).is_some_and(|i| is_own(&tokens[i]))
            || at.checked_sub(2).is_some_and(|i| {
                is_own(&tokens[i]) && ["of", "=", ":", "is", "to"].contains(&tokens[i + 1].low.as_str())
            });
        if is_beside {
            mark(tokens, at..end);
            return Some(value);
        }
        if tokens[at].kind == Kind::Number {
            free.push((value, at..end));
        }
    }
    if !property.is_required || free.len() != 1 {
        return None;
    }
    let (value, range) = free.remove(0);
    mark(tokens, range);
    Some(value)
}

fn decimal(tokens: &[Token], at: usize) -> Option<(f64, usize)> {
    let [whole, point, part] = tokens.get(at..at + 3)? else { return None };
    let is_decimal =
        point.is(".") && whole.end == point.start && point.end == part.start && part.kind == Kind::Number;
    is_decimal.then(|| format!("{}.{}", whole.low, part.low).parse().ok().map(|n| (n, at + 3))).flatten()
}
