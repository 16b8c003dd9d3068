//! Filling a tool's arguments from the words of a question.
//!
//! Each argument's role says what to look for; what was found is marked as used, most telling first: ids
//! after their noun, then periods, counts, choices, other numbers, and text last. Nothing is invented:
//! what the question does not say is left out (the server has its defaults), and a required argument that
//! stays empty is reported as missing, for the planner to ask. Values out of a schema's range are kept as
//! said: the gate refuses them and the person learns why.

use serde_json::{Map, Value, json};

use super::dates::{self, Dates, Period, Unclear};
use super::pick::Known;
use super::point::Unit;
use super::schema::{Property, Role};
use super::words::{Token, tokens};
use super::{choices, counts, ids, texts};

/// What became of a tool's arguments.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub(super) arguments: Map<String, Value>,
    /// Places of required arguments that the question says nothing of.
    pub(super) missing: Vec<usize>,
    /// A period was meant that cannot be known, and the tool has a place for it.
    pub(super) unclear: Option<Unclear>,
    /// How much the arguments speak for this tool.
    pub(super) evidence: f64,
    /// Ids that stood after their own noun.
    pub(super) named_ids: usize,
    /// Periods in the question, when the tool has a place for one.
    pub(super) periods: usize,
}

/// Fills the arguments; `period` says which of several periods in the text to use.
pub(super) fn fill(tool: &Known<'_>, text: &str, period: usize) -> Filled {
    let mut tokens = tokens(text);
    let mut filled = Filled::default();
    fill_each(tool, &mut filled, |property| match &property.role {
        Role::Id(nouns) => ids::after_noun(property, nouns, &mut tokens, text),
        _ => None,
    });
    filled.named_ids = filled.arguments.len();
    filled.evidence += 2.5 * filled.named_ids as f64;

    let dates = dates::read(&mut tokens);
    fill_dates(tool, &mut filled, &dates, period);
    fill_each(tool, &mut filled, |property| match &property.role {
        Role::Count => counts::count(tool, property, &mut tokens),
        Role::Choice(values) => choices::choose(tool, property, values, &mut tokens),
        Role::Flag => choices::flag(property, &tokens),
        _ => None,
    });
    fill_each(tool, &mut filled, |property| match &property.role {
        Role::Number => counts::number(property, &mut tokens),
        Role::Id(nouns) if property.is_required => ids::only_one(property, nouns, &mut tokens, text),
        _ => None,
    });
    for want_required in [true, false] {
        fill_each(tool, &mut filled, |property| match property.role {
            Role::Text if property.is_required == want_required => {
                texts::text(tool, property, &mut tokens, text)
            }
            _ => None,
        });
    }
    note_missing(tool, &mut filled, &tokens);
    filled
}

fn fill_each(tool: &Known<'_>, filled: &mut Filled, mut find: impl FnMut(&Property) -> Option<Value>) {
    for property in &tool.properties {
        if filled.arguments.contains_key(&property.name) {
            continue;
        }
        let Some(value) = find(property) else { continue };
        filled.evidence += 0.3;
        if property.schema.get("default") != Some(&value)
            || property.is_required
            || property.role == Role::Count
        {
            filled.arguments.insert(property.name.clone(), value);
        }
    }
}

fn note_missing(tool: &Known<'_>, filled: &mut Filled, tokens: &[Token]) {
    for (place, property) in tool.properties.iter().enumerate() {
        if property.is_required && !filled.arguments.contains_key(&property.name) {
            match property.schema.get("default").or_else(|| property.schema.get("const")) {
                Some(value) => drop(filled.arguments.insert(property.name.clone(), value.clone())),
                None => {
                    filled.missing.push(place);
                    // A tool about one thing is hardly meant where that thing is not even named.
                    let is_unnamed =
                        matches!(&property.role, Role::Id(nouns) if !ids::is_named(nouns, tokens));
                    filled.evidence -= if is_unnamed { 3.0 } else { 0.7 };
                }
            }
        }
    }
}

fn is_calendar(role: &Role) -> bool {
    matches!(role, Role::From | Role::To | Role::Day | Role::Month | Role::CalendarNumber(_))
}

fn fill_dates(tool: &Known<'_>, filled: &mut Filled, dates: &Dates, period: usize) {
    let has_place = tool.properties.iter().any(|property| is_calendar(&property.role));
    if !has_place {
        if !dates.periods.is_empty() {
            filled.evidence -= 1.0;
        }
        return;
    }
    filled.unclear = dates.unclear;
    filled.periods = dates.periods.len();
    let Some(period) = dates.periods.get(period) else { return };
    let mut is_placed = false;
    for property in &tool.properties {
        if let Some(value) = date_value(property, period) {
            filled.arguments.insert(property.name.clone(), value);
            is_placed = true;
        }
    }
    filled.evidence += if is_placed { 0.3 } else { -1.0 };
}

fn date_value(property: &Property, period: &Period) -> Option<Value> {
    let with_time = property.schema["format"] == "date-time";
    let day = |date: jiff::civil::Date, time: &str| {
        if with_time { json!(format!("{date}T{time}Z")) } else { json!(date.to_string()) }
    };
    let unit = period.unit;
    match property.role {
        Role::From => period.first.map(|date| day(date, "00:00:00")),
        Role::To => period.last.map(|date| day(date, "23:59:59")),
        Role::Day if matches!(unit, Some(Unit::Day(..))) => period.first.map(|date| day(date, "00:00:00")),
        Role::Month if matches!(unit, Some(Unit::Month(_))) => {
            period.first.map(|date| json!(date.strftime("%Y-%m").to_string()))
        }
        Role::CalendarNumber(wanted) => calendar_number(wanted, period).map(|n| json!(n)),
        _ => None,
    }
}

fn calendar_number(wanted: &str, period: &Period) -> Option<i16> {
    let (first, last) = (period.first?, period.last?);
    match (wanted, period.unit?) {
        ("year", _) => (first.year() == last.year()).then(|| first.year()),
        ("quarter", Unit::Quarter(n)) | ("month", Unit::Month(n) | Unit::Day(n, _)) => Some(n.into()),
        _ => None,
    }
}

/// Marks some tokens as used.
pub(super) fn mark(tokens: &mut [Token], range: std::ops::Range<usize>) {
    tokens[range].iter_mut().for_each(|token| token.used = true);
}
