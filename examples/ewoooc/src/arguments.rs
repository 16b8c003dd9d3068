//! The arguments of a call, taken out one by one.
//!
//! Read by hand and not by a derive, because a caller that is a model corrects itself only from a sentence
//! that says what would be right. Each tool takes what it knows and calls [`Arguments::finish`], which
//! refuses whatever is left. `null` is not "absent": the schemas do not allow it.

use rmcp::model::JsonObject;
use serde_json::Value;

use crate::period::parse_day;
use crate::{BadArguments, Month, OrderBook, Period};

/// How much of a caller's value a refusal repeats, in characters.
const QUOTED_CHARS: usize = 40;

/// The arguments of one call, and the records that give their ranges.
pub struct Arguments<'a> {
    book: &'a OrderBook,
    given: JsonObject,
    known: Vec<&'static str>,
}

impl<'a> Arguments<'a> {
    /// The arguments as they came; no arguments are an empty object.
    pub fn new(book: &'a OrderBook, given: JsonObject) -> Self {
        Self { book, given, known: Vec::new() }
    }

    /// Takes `from` and `to`: days, both included; each is the records' own end when absent.
    ///
    /// # Errors
    /// [`BadArguments::NotADay`], [`BadArguments::Reversed`].
    pub fn take_period(&mut self) -> Result<Period, BadArguments> {
        let records = self.book.period();
        let from = self.take_day("from")?;
        let to = self.take_day("to")?;
        // An end left open never turns the period around: outside the records it is that one day.
        let (from, to) = match (from, to) {
            (Some(from), Some(to)) => (from, to),
            (Some(from), None) => (from, records.to().max(from)),
            (None, Some(to)) => (records.from().min(to), to),
            (None, None) => (records.from(), records.to()),
        };
        Period::new(from, to).ok_or(BadArguments::Reversed { from, to, records })
    }

    fn take_day(&mut self, name: &'static str) -> Result<Option<jiff::civil::Date>, BadArguments> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let day = value.as_str().and_then(parse_day);
        day.map(Some).ok_or_else(|| BadArguments::NotADay {
            name,
            value: quote(&value),
            records: self.book.period(),
        })
    }

    /// Takes one of a closed list of words; the first is the default.
    ///
    /// # Errors
    /// [`BadArguments::NotAChoice`].
    pub fn take_choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<T, BadArguments> {
        let Some(value) = self.take(name) else { return Ok(choices[0].1) };
        let chosen = choices.iter().find(|(word, _)| value.as_str() == Some(word));
        chosen.map(|(_, choice)| *choice).ok_or_else(|| BadArguments::NotAChoice {
            name,
            value: quote(&value),
            choices: choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "),
        })
    }

    /// Takes `limit`, a whole number from 1 to `max`.
    ///
    /// # Errors
    /// [`BadArguments::NotALimit`].
    pub fn take_limit(&mut self, default: u64, max: u64) -> Result<u64, BadArguments> {
        let name = "limit";
        let Some(value) = self.take(name) else { return Ok(default) };
        let limit = value.as_u64().filter(|limit| (1..=max).contains(limit));
        limit.ok_or_else(|| BadArguments::NotALimit { name, value: quote(&value), max })
    }

    /// Takes `customer_id`, required: a whole number, or a string of digits with or without leading zeros.
    ///
    /// # Errors
    /// [`BadArguments::NoCustomer`], [`BadArguments::UnknownCustomer`].
    pub fn take_customer(&mut self) -> Result<u32, BadArguments> {
        let (first, last) = self.book.customer_range();
        let value = self.take("customer_id").ok_or(BadArguments::NoCustomer { first, last })?;
        let number = match &value {
            Value::String(text) => digits(text),
            other => other.as_u64(),
        };
        let customer = number.and_then(|number| u32::try_from(number).ok());
        customer
            .filter(|customer| self.book.find_customer(*customer).is_some())
            .ok_or_else(|| BadArguments::UnknownCustomer { value: quote(&value), first, last })
    }

    /// Takes `cohort`, the month (YYYY-MM) of some customer's first purchase.
    ///
    /// # Errors
    /// [`BadArguments::UnknownCohort`].
    pub fn take_cohort(&mut self) -> Result<Option<Month>, BadArguments> {
        let Some(value) = self.take("cohort") else { return Ok(None) };
        let cohorts = self.book.cohorts();
        let month = value.as_str().and_then(Month::parse).filter(|month| cohorts.contains(month));
        month.map(Some).ok_or_else(|| BadArguments::UnknownCohort { value: quote(&value), cohorts })
    }

    /// Ends the reading: whatever was not taken is not an argument of this tool.
    ///
    /// # Errors
    /// [`BadArguments::UnknownArgument`].
    pub fn finish(self) -> Result<(), BadArguments> {
        match self.given.keys().next() {
            None => Ok(()),
            Some(name) => Err(BadArguments::UnknownArgument {
                name: quote(&Value::String(name.clone())),
                known: self.known.join(", "),
            }),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.given.remove(name)
    }
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn quote(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with<T>(
        given: Value,
        take: impl FnOnce(&mut Arguments<'_>) -> Result<T, BadArguments>,
    ) -> Result<T, BadArguments> {
        let book = OrderBook::embedded().expect("the embedded file");
        let Value::Object(given) = given else { panic!("arguments are an object") };
        let mut arguments = Arguments::new(&book, given);
        let taken = take(&mut arguments)?;
        arguments.finish().map(|()| taken)
    }

    #[test]
    fn an_open_end_of_a_period_is_the_records_own() {
        for (given, period) in [
            (json!({}), "1997-01-01 to 1998-06-30"),
            (json!({"from": "1998-01-01"}), "1998-01-01 to 1998-06-30"),
            (json!({"to": "1997-01-31"}), "1997-01-01 to 1997-01-31"),
            (json!({"from": "2020-01-01"}), "2020-01-01 to 2020-01-01"),
            (json!({"to": "1990-01-01"}), "1990-01-01 to 1990-01-01"),
        ] {
            let taken =
                with(given.clone(), |arguments| arguments.take_period()).map(|period| period.to_string());
            assert_eq!(taken.as_deref(), Ok(period), "{given}");
        }
    }

    #[test]
    fn a_customer_is_a_number_however_it_is_written() {
        for id in [json!("17"), json!("0017"), json!("00017"), json!(17)] {
            assert_eq!(with(json!({"customer_id": id}), |arguments| arguments.take_customer()), Ok(17));
        }
        for id in [
            json!(0),
            json!(2358),
            json!(-17),
            json!(17.5),
            json!(""),
            json!("17 "),
            json!("+17"),
            json!("１７"),
            json!("99999999999999999999999"),
            json!(null),
            json!([17]),
            json!(u64::from(u32::MAX) + 18),
        ] {
            let refused = with(json!({"customer_id": id}), |arguments| arguments.take_customer())
                .expect_err("nobody's id");
            assert!(refused.to_string().contains("numbered 1 to 2357"), "{refused}");
        }
    }

    #[test]
    fn an_argument_that_is_not_taken_is_refused_with_those_that_are() {
        let refused = with(json!({"limit": 3, "sort": "asc"}), |arguments| arguments.take_limit(10, 50));
        assert_eq!(
            refused.expect_err("no such argument").to_string(),
            "there is no argument \"sort\"; this tool takes limit"
        );
    }

    #[test]
    fn a_refusal_repeats_only_the_start_of_a_long_value() {
        let refused = with(json!({"from": "長".repeat(5000)}), |arguments| arguments.take_period())
            .expect_err("not a day");
        assert!(refused.to_string().chars().count() < 200, "{refused}");
    }
}
