//! One point of a calendar as people write it: a day, month, quarter, half or year.
//!
//! Only forms that have one meaning are read; a point may lack its year, which [`super::dates`] supplies.
//! A day that does not exist (30 February) is no point.

use jiff::civil::Date;

use super::dates::skip;
use super::numbers::{number_at, ordinal};
use super::words::{Kind, Token};

/// The calendar unit of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Year,
    /// 1 or 2.
    Half(i8),
    /// 1 to 4.
    Quarter(i8),
    /// 1 to 12.
    Month(i8),
    /// Month and day of the month.
    Day(i8, i8),
}

/// A point, perhaps without its year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) year: Option<i16>,
    pub(super) unit: Unit,
}

impl Point {
    /// First and last day; `None` without a year or when there is no such day.
    pub(super) fn days(self, year: Option<i16>) -> Option<(Date, Date)> {
        let year = self.year.or(year)?;
        let months = |first: i8, last: i8| {
            let first = Date::new(year, first, 1).ok()?;
            Some((first, Date::new(year, last, 1).ok()?.last_of_month()))
        };
        match self.unit {
            Unit::Year => months(1, 12),
            Unit::Half(n) => months(n * 6 - 5, n * 6),
            Unit::Quarter(n) => months(n * 3 - 2, n * 3),
            Unit::Month(n) => months(n, n),
            Unit::Day(month, day) => Date::new(year, month, day).ok().map(|date| (date, date)),
        }
    }

    /// Its place within a year: first month and day.
    pub(super) fn order(self) -> (i8, i8) {
        match self.unit {
            Unit::Year => (1, 1),
            Unit::Half(n) => (n * 6 - 5, 1),
            Unit::Quarter(n) => (n * 3 - 2, 1),
            Unit::Month(n) => (n, 1),
            Unit::Day(month, day) => (month, day),
        }
    }

    /// Is `next` the very next unit of the same kind within a year?
    pub(super) fn is_followed_by(self, next: Self) -> bool {
        match (self.unit, next.unit) {
            (Unit::Month(a), Unit::Month(b))
            | (Unit::Quarter(a), Unit::Quarter(b))
            | (Unit::Half(a), Unit::Half(b)) => a + 1 == b,
            _ => false,
        }
    }
}

pub(super) const MONTHS: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn month_name(low: &str) -> Option<i8> {
    let low = if low == "sept" { "sep" } else { low };
    let found = MONTHS.iter().position(|name| *name == low || (low.len() == 3 && name.starts_with(low)))?;
    i8::try_from(found + 1).ok()
}

/// The point that begins at `at`, and the place after it.
pub(super) fn point(tokens: &[Token], at: usize) -> Option<(Point, usize)> {
    let found = numeric(tokens, at)
        .or_else(|| chinese(tokens, at))
        .or_else(|| day_month(tokens, at))
        .or_else(|| month(tokens, at))
        .or_else(|| part_of_year(tokens, at))
        .or_else(|| year_first(tokens, at))?;
    // A leap year admits every day that some year has.
    found.0.days(Some(2000)).map(|_| found)
}

/// A day of the month standing alone: 1 to 31.
pub(super) fn bare_day(tokens: &[Token], at: usize) -> Option<(i8, usize)> {
    let token = tokens.get(at)?;
    let (day, next) = match ordinal(&token.low) {
        Some(day) if token.kind == Kind::Word => (day, at + 1),
        _ => number_at(tokens, at)?,
    };
    i8::try_from(day).ok().filter(|day| (1..=31).contains(day)).map(|day| (day, next))
}

fn year_at(tokens: &[Token], at: usize) -> Option<(i16, usize)> {
    let token = tokens.get(at)?;
    let low = token.low.strip_suffix('s').unwrap_or(&token.low);
    let year: i16 = (low.len() == 4 && token.kind == Kind::Number).then(|| low.parse().ok()).flatten()?;
    (1000..3000).contains(&year).then_some((year, at + 1))
}

/// A year after small words (`of 1997`, `, 1997`), or none and the place unchanged.
fn trailing_year(tokens: &[Token], at: usize) -> (Option<i16>, usize) {
    let start = skip(tokens, at, &[".", ",", "of", "in", "the", "year", "'"]);
    match year_at(tokens, start) {
        Some((year, next)) if !is_iso_ahead(tokens, start) => (Some(year), next),
        _ => (None, at),
    }
}

fn is_iso_ahead(tokens: &[Token], at: usize) -> bool {
    numeric(tokens, at).is_some()
}

fn touching(tokens: &[Token], at: usize, count: usize) -> Option<&[Token]> {
    let slice = tokens.get(at..at + count)?;
    slice.windows(2).all(|pair| pair[0].end == pair[1].start).then_some(slice)
}

fn small(token: &Token, most: i64) -> Option<i8> {
    let number = token.number().filter(|n| token.low.len() <= 2 && (1..=most).contains(n))?;
    i8::try_from(number).ok()
}

/// `1997-03-05`, `1997/3/5`, `1997-03`, `1997-Q2`, `1997Q2`; `25/12/1997` where only one reading exists.
fn numeric(tokens: &[Token], at: usize) -> Option<(Point, usize)> {
    if let Some(found) = day_first(tokens, at) {
        return Some(found);
    }
    let first = tokens.get(at)?;
    if let Some((year, rest)) = first.low.split_at_checked(4).filter(|_| first.kind == Kind::Word) {
        let year = year.parse().ok()?;
        return part(rest).map(|unit| (Point { year: Some(year), unit }, at + 1));
    }
    let (year, _) = year_at(tokens, at)?;
    let [_, mark, second] = touching(tokens, at, 3)? else { return None };
    if !["-", "/", "."].contains(&mark.low.as_str()) {
        return None;
    }
    if let Some(unit) = part(&second.low) {
        return Some((Point { year: Some(year), unit }, at + 3));
    }
    let month = small(second, 12)?;
    if let Some([_, _, _, next_mark, third]) = touching(tokens, at, 5)
        && next_mark.is(&mark.low)
    {
        let day = small(third, 31)?;
        return Some((Point { year: Some(year), unit: Unit::Day(month, day) }, at + 5));
    }
    (!mark.is(".")).then_some((Point { year: Some(year), unit: Unit::Month(month) }, at + 3))
}

fn day_first(tokens: &[Token], at: usize) -> Option<(Point, usize)> {
    let [a, mark, b, again, _] = touching(tokens, at, 5)? else { return None };
    if !mark.is("/") || !again.is("/") {
        return None;
    }
    let (year, _) = year_at(tokens, at + 4)?;
    let (month, day) = match (small(a, 31)?, small(b, 31)?) {
        (day, month) if day > 12 && month <= 12 => (month, day),
        (month, day) if day > 12 && month <= 12 => (month, day),
        (same, day) if same == day => (same, day),
        _ => return None,
    };
    Some((Point { year: Some(year), unit: Unit::Day(month, day) }, at + 5))
}

/// `q2`, `h1`.
fn part(low: &str) -> Option<Unit> {
    match low.as_bytes() {
        [b'q', n @ b'1'..=b'4'] => Some(Unit::Quarter((n - b'0') as i8)),
        [b'h', n @ b'1'..=b'2'] => Some(Unit::Half((n - b'0') as i8)),
        _ => None,
    }
}

/// `5 March 1997`, `5th of March`.
fn day_month(tokens: &[Token], at: usize) -> Option<(Point, usize)> {
    let (day, next) = bare_day(tokens, at).filter(|_| tokens[at].kind != Kind::Han)?;
    let next = skip(tokens, next, &["of"]);
    let month = month_name(&tokens.get(next)?.low)?;
    let (year, next) = trailing_year(tokens, next + 1);
    Some((Point { year, unit: Unit::Day(month, day) }, next))
}

/// `March 1997`, `March 5, 1997`, `March`.
fn month(tokens: &[Token], at: usize) -> Option<(Point, usize)> {
    let month = month_name(&tokens.get(at)?.low)?;
    let (year, next) = trailing_year(tokens, at + 1);
    if year.is_some() {
        return Some((Point { year, unit: Unit::Month(month) }, next));
    }
    let start = skip(tokens, at + 1, &[".", "the"]);
    if let Some((day, next)) = bare_day(tokens, start).filter(|_| is_touching_or_spaced(tokens, start)) {
        let (year, next) = trailing_year(tokens, next);
        return Some((Point { year, unit: Unit::Day(month, day) }, next));
    }
    let is_verb_too = ["may", "march", "mar", "dec", "jan", "sep"].contains(&tokens[at].low.as_str());
    let is_named = at > 0
        && [
            "in", "during", "from", "since", "until", "to", "and", "between", "of", "for", "before", "after",
            "through",
        ]
        .contains(&tokens[at - 1].low.as_str());
    let is_joined =
        tokens.get(at + 1).is_some_and(|t| ["to", "and", "-", "through", "until"].contains(&t.low.as_str()))
            && tokens.get(at + 2).is_some_and(|t| month_name(&t.low).is_some());
    (!is_verb_too || is_named || is_joined)
        .then_some((Point { year: None, unit: Unit::Month(month) }, at + 1))
}

fn is_touching_or_spaced(tokens: &[Token], at: usize) -> bool {
    tokens[at].kind != Kind::Han
}

/// `Q2 1997`, `second quarter of 1997`, `quarter 2`, `first half of 1997`, `第一季`, `上半年`.
fn part_of_year(tokens: &[Token], at: usize) -> Option<(Point, usize)> {
    if let Some((unit, next)) = chinese_part(tokens, at) {
        return Some((Point { year: None, unit }, next));
    }
    let token = tokens.get(at)?;
    let noun = |at: usize| tokens.get(at).map(|token| token.low.as_str());
    let (unit, next) = if let Some(unit) = part(&token.low) {
        (unit, at + 1)
    } else if let Some("quarter") = noun(at) {
        (Unit::Quarter(small(tokens.get(at + 1)?, 4)?), at + 2)
    } else {
        let is_last = token.is("last");
        let n = if is_last { 0 } else { i8::try_from(ordinal(&token.low)?).ok()? };
        match (noun(at + 1)?, n) {
            ("quarter", 0) if is_last => (Unit::Quarter(4), at + 2),
            ("half", 0) if is_last => (Unit::Half(2), at + 2),
            ("quarter", 1..=4) => (Unit::Quarter(n), at + 2),
            ("half", 1..=2) => (Unit::Half(n), at + 2),
            _ => return None,
        }
    };
    let (year, next) = trailing_year(tokens, next);
    // `the last quarter` alone is relative to today.
    (year.is_some() || !token.is("last")).then_some((Point { year, unit }, next))
}

fn chinese_part(tokens: &[Token], at: usize) -> Option<(Unit, usize)> {
    let han = |at: usize| tokens.get(at).map_or("", |token| token.low.as_str());
    if ["上", "下"].contains(&han(at)) && han(at + 1) == "半" && han(at + 2) == "年" {
        return Some((Unit::Half(if han(at) == "上" { 1 } else { 2 }), at + 3));
    }
    let start = skip(tokens, at, &["第"]);
    let (n, next) = number_at(tokens, start).filter(|_| start > at)?;
    let n = i8::try_from(n).ok().filter(|n| (1..=4).contains(n))?;
    (han(next) == "季").then(|| (Unit::Quarter(n), skip(tokens, next + 1, &["度"])))
}

/// `1997年3月5日`, `民國86年`, `三月`, `1997年第一季`.
fn chinese(tokens: &[Token], at: usize) -> Option<(Point, usize)> {
    let han = |at: usize| tokens.get(at).map_or("", |token| token.low.as_str());
    let is_republic = han(at) == "民" && han(at + 1) == "國";
    let is_common = ["西", "公"].contains(&han(at)) && han(at + 1) == "元";
    let start = if is_republic || is_common { at + 2 } else { at };
    let (n, next) = number_at(tokens, start)?;
    if han(next) == "月" {
        return chinese_month(tokens, start).map(|(unit, next)| (Point { year: None, unit }, next));
    }
    if han(next) != "年" {
        return None;
    }
    let year = if is_republic { n.checked_add(1911)? } else { n };
    let year = i16::try_from(year).ok().filter(|year| (1000..3000).contains(year))?;
    let after = skip(tokens, next + 1, &["度", "的", "之"]);
    let rest = chinese_month(tokens, after)
        .or_else(|| chinese_part(tokens, after))
        .or_else(|| part(han(after)).map(|unit| (unit, after + 1)));
    let (unit, end) = rest.unwrap_or_else(|| {
        let is_whole = han(after) == "全" && han(after + 1) == "年";
        (Unit::Year, if is_whole { after + 2 } else { next + 1 })
    });
    Some((Point { year: Some(year), unit }, end))
}

/// `3月`, `三月份`, `3月5日`.
fn chinese_month(tokens: &[Token], at: usize) -> Option<(Unit, usize)> {
    let han = |at: usize| tokens.get(at).map_or("", |token| token.low.as_str());
    let (n, next) = number_at(tokens, at)?;
    let month = i8::try_from(n).ok().filter(|n| (1..=12).contains(n) && han(next) == "月")?;
    let next = skip(tokens, next + 1, &["份"]);
    if let Some((day, after)) = bare_day(tokens, next)
        && ["日", "號"].contains(&han(after))
    {
        return Some((Unit::Day(month, day), after + 1));
    }
    Some((Unit::Month(month), next))
}

/// `1997`, `1997 Q2`, `1997 March`, `1997上半年`.
fn year_first(tokens: &[Token], at: usize) -> Option<(Point, usize)> {
    let (year, next) = year_at(tokens, at).filter(|(year, _)| (1900..2100).contains(year))?;
    let before = at.checked_sub(1).and_then(|i| tokens.get(i));
    if before.is_some_and(|token| token.is("#") || token.is("$") || token.is(".")) {
        return None;
    }
    let part = chinese_part(tokens, next)
        .or_else(|| tokens.get(next).and_then(|token| part(&token.low)).map(|unit| (unit, next + 1)))
        .or_else(|| {
            let month = month_name(&tokens.get(next)?.low).filter(|_| tokens[next].low.len() > 3)?;
            year_at(tokens, next + 1).is_none().then_some((Unit::Month(month), next + 1))
        });
    let (unit, next) = part.unwrap_or((Unit::Year, next));
    Some((Point { year: Some(year), unit }, next))
}
