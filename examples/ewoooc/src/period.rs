//! Periods of days, calendar months, and how a period is cut into groups.
//!
//! A period includes both of its days. It may lie partly or wholly outside the records: what is outside
//! has no orders, which is an answer and not an error. Dates are civil dates without a time zone, as in
//! the file.

use std::fmt;

use jiff::civil::Date;
use rmcp::schemars;
use serde::Serialize;

/// From a first to a last day, both included; `from <= to` always. `Display`: `1997-01-01 to 1998-06-30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    from: Date,
    to: Date,
}

impl Period {
    /// The period of these two days, or `None` when the last lies before the first.
    pub fn new(from: Date, to: Date) -> Option<Self> {
        (from <= to).then_some(Self { from, to })
    }

    /// The first day, included.
    pub fn from(self) -> Date {
        self.from
    }

    /// The last day, included.
    pub fn to(self) -> Date {
        self.to
    }

    /// Whether the day lies in the period.
    pub fn contains(self, day: Date) -> bool {
        self.from <= day && day <= self.to
    }

    /// Whether every day of the other period lies in this one.
    pub fn covers(self, other: Self) -> bool {
        self.contains(other.from) && self.contains(other.to)
    }

    /// The days that both periods have, or `None` when there is none.
    pub fn overlap(self, other: Self) -> Option<Self> {
        Self::new(self.from.max(other.from), self.to.min(other.to))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.from, self.to)
    }
}

/// A calendar month. `Display`: `1997-01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// The month a day lies in.
    pub fn of(day: Date) -> Self {
        Self { year: day.year(), month: day.month() }
    }

    /// Reads `YYYY-MM` with a month of 01 to 12; `None` for any other shape.
    pub fn parse(text: &str) -> Option<Self> {
        parse_day(&format!("{text}-01")).map(Self::of)
    }

    /// The month for people: `January 1997`.
    pub fn in_words(self) -> String {
        const NAMES: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        let index = usize::from(self.month.unsigned_abs()) - 1;
        format!("{} {}", NAMES[index], self.year)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// Reads `YYYY-MM-DD`, and only a day that is in the calendar.
///
/// The shape is checked first because ISO 8601 knows others (`19970301`, a time after the day) that the
/// tools' schemas do not promise.
pub(crate) fn parse_day(text: &str) -> Option<Date> {
    let has_shape = text.len() == 10
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if has_shape { text.parse().ok() } else { None }
}

/// How a summary is cut into groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(crate = "rmcp::schemars", inline)]
pub enum Grouping {
    /// One total, no groups.
    None,
    /// Calendar months, labelled `1997-03`.
    Month,
    /// Calendar quarters, labelled `1997-Q1`.
    Quarter,
    /// Calendar years, labelled `1997`.
    Year,
}

impl Grouping {
    /// The label of the group a day belongs to, or `None` when there are no groups. Labels of one grouping
    /// sort in time order.
    pub fn label(self, day: Date) -> Option<String> {
        match self {
            Self::None => None,
            Self::Month => Some(Month::of(day).to_string()),
            Self::Quarter => Some(format!("{:04}-Q{}", day.year(), (day.month() + 2) / 3)),
            Self::Year => Some(format!("{:04}", day.year())),
        }
    }

    /// The labels of every group that the period touches, in time order, with or without orders in it.
    pub fn labels(self, period: Period) -> Vec<String> {
        let mut labels: Vec<String> = period
            .from
            .series(jiff::Span::new().days(1))
            .take_while(|day| *day <= period.to)
            .filter_map(|day| self.label(day))
            .collect();
        labels.dedup();
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn only_real_days_of_one_shape_are_read() {
        assert_eq!(parse_day("1997-03-31"), Some(date(1997, 3, 31)));
        assert_eq!(parse_day("1996-02-29"), Some(date(1996, 2, 29)));
        for text in
            ["", "1997-02-29", "1997-13-01", "1997-00-10", "19970301", "97-03-01", "1997-3-1", "1997/03/01"]
        {
            assert_eq!(parse_day(text), None, "{text}");
        }
        for text in ["1997-03-01T00:00", " 1997-03-01", "１９９７-03-01", "-001-01-01"] {
            assert_eq!(parse_day(text), None, "{text}");
        }
    }

    #[test]
    fn a_period_includes_both_days_and_is_never_reversed() {
        let march = Period::new(date(1997, 3, 1), date(1997, 3, 31)).expect("in order");
        assert!(march.contains(date(1997, 3, 1)) && march.contains(date(1997, 3, 31)));
        assert!(!march.contains(date(1997, 2, 28)) && !march.contains(date(1997, 4, 1)));
        assert!(Period::new(date(1997, 3, 1), date(1997, 3, 1)).is_some());
        assert!(Period::new(date(1997, 3, 2), date(1997, 3, 1)).is_none());
    }

    #[test]
    fn groups_are_every_label_the_period_touches() {
        let period = Period::new(date(1997, 11, 30), date(1998, 4, 1)).expect("in order");
        assert_eq!(
            Grouping::Month.labels(period),
            ["1997-11", "1997-12", "1998-01", "1998-02", "1998-03", "1998-04"]
        );
        assert_eq!(Grouping::Quarter.labels(period), ["1997-Q4", "1998-Q1", "1998-Q2"]);
        assert_eq!(Grouping::Year.labels(period), ["1997", "1998"]);
        assert!(Grouping::None.labels(period).is_empty());
    }

    #[test]
    fn months_are_read_and_shown_alike() {
        let month = Month::parse("1997-12").expect("a month");
        assert_eq!((month.to_string().as_str(), month.in_words().as_str()), ("1997-12", "December 1997"));
        for text in ["1997-13", "1997-00", "1997", "1997-1", "1997-01-01", "Jan 1997"] {
            assert_eq!(Month::parse(text), None, "{text}");
        }
    }
}
