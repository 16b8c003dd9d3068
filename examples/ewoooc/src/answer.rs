//! What a tool says: an answer, or why the arguments were not good.
//!
//! An answer has two halves with the same figures: a text for people and models, and an object for
//! programs. A refusal is one sentence that says what would have been right; what it repeats of the
//! caller's words is quoted and cut short.

use serde::Serialize;
use serde_json::Value;

use crate::{Month, Period};

/// A complete answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// English sentences or short lines, without JSON.
    pub text: String,
    /// The figures: always an object, of the tool's output schema.
    pub figures: Value,
}

impl Answer {
    /// An answer from its text and its typed figures.
    pub fn new(text: String, figures: &impl Serialize) -> Self {
        let figures = serde_json::to_value(figures).expect("figures are structs of numbers and strings");
        Self { text, figures }
    }
}

/// Why a call was not answered. `Display` is the sentence for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadArguments {
    /// An argument that the tool does not have.
    #[error("there is no argument {name}; this tool takes {known}")]
    UnknownArgument {
        /// What was sent, quoted.
        name: String,
        /// The arguments that there are.
        known: String,
    },
    /// Not a string of the shape YYYY-MM-DD, or not a day of the calendar.
    #[error(
        "`{name}` must be a day of the calendar as YYYY-MM-DD, not {value}; the records cover {records}, both days included"
    )]
    NotADay {
        /// The argument.
        name: &'static str,
        /// What was sent, quoted.
        value: String,
        /// The days on record.
        records: Period,
    },
    /// The period ends before it begins.
    #[error(
        "the period ends before it begins (`from` {from}, `to` {to}); the records cover {records}, both days included"
    )]
    Reversed {
        /// The first day asked for.
        from: jiff::civil::Date,
        /// The last day asked for.
        to: jiff::civil::Date,
        /// The days on record.
        records: Period,
    },
    /// Not one of a closed list of words.
    #[error("`{name}` must be one of {choices}, not {value}")]
    NotAChoice {
        /// The argument.
        name: &'static str,
        /// What was sent, quoted.
        value: String,
        /// The words that there are.
        choices: String,
    },
    /// Not a whole number in its range.
    #[error("`{name}` must be a whole number from 1 to {max}, not {value}")]
    NotALimit {
        /// The argument.
        name: &'static str,
        /// What was sent, quoted.
        value: String,
        /// The highest number allowed.
        max: u64,
    },
    /// No customer was named.
    #[error("`customer_id` is required; customers are numbered {first} to {last}")]
    NoCustomer {
        /// The lowest id.
        first: u32,
        /// The highest id.
        last: u32,
    },
    /// Not a customer's number, or nobody's.
    #[error("there is no customer {value}; customers are numbered {first} to {last}")]
    UnknownCustomer {
        /// What was sent, quoted.
        value: String,
        /// The lowest id.
        first: u32,
        /// The highest id.
        last: u32,
    },
    /// Not a month, or one in which nobody bought for the first time.
    #[error("there is no cohort {value}; customers bought for the first time in {}", months(.cohorts))]
    UnknownCohort {
        /// What was sent, quoted.
        value: String,
        /// The cohorts that there are.
        cohorts: Vec<Month>,
    },
}

fn months(cohorts: &[Month]) -> String {
    cohorts.iter().map(Month::to_string).collect::<Vec<_>>().join(", ")
}
