//! Money of the shop: whole US cents.
//!
//! Sums are exact because there is no float anywhere: a price is read digit by digit and printed from
//! integers. Amounts are never negative; the whole file sums to far less than a `u64` holds.

use std::fmt;
use std::iter::Sum;
use std::ops::AddAssign;

/// An amount of US cents, zero or more. `Display` is for people: `$1,234.56`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cents(pub u64);

impl Cents {
    /// Reads dollars with exactly two decimals (`29.33`); `None` for any other shape.
    pub fn parse_dollars(text: &str) -> Option<Self> {
        let (dollars, cents) = text.split_once('.')?;
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if cents.len() != 2 || !is_digits(dollars) || !is_digits(cents) {
            return None;
        }
        let dollars: u64 = dollars.parse().ok()?;
        let cents: u64 = cents.parse().ok()?;
        dollars.checked_mul(100)?.checked_add(cents).map(Self)
    }

    /// Dollars with two decimals and nothing else (`1234.56`), for figures that a program reads.
    pub fn usd(self) -> String {
        format!("{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:02}", thousands(self.0 / 100), self.0 % 100)
    }
}

impl AddAssign for Cents {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sum for Cents {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.map(|amount| amount.0).sum())
    }
}

/// A whole number with commas between groups of three digits: `6,919`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count with its noun, `1 order` or `6,919 orders`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_exactly_or_not_at_all() {
        for (text, cents) in [("0.00", 0), ("0.07", 7), ("29.33", 2933), ("506.97", 50697)] {
            assert_eq!(Cents::parse_dollars(text), Some(Cents(cents)), "{text}");
        }
        for text in ["", ".", "1", "1.", ".50", "1.5", "1.505", "-1.00", "1.+5", "1,0.00", "1e3.00"] {
            assert_eq!(Cents::parse_dollars(text), None, "{text}");
        }
        assert_eq!(Cents::parse_dollars("184467440737095516.16"), None, "more than a u64 of cents");
    }

    #[test]
    fn amounts_print_for_people_and_for_programs() {
        for (cents, people, program) in [
            (0, "$0.00", "0.00"),
            (5, "$0.05", "0.05"),
            (99_999, "$999.99", "999.99"),
            (100_000, "$1,000.00", "1000.00"),
            (123_456_789, "$1,234,567.89", "1234567.89"),
        ] {
            assert_eq!(Cents(cents).to_string(), people);
            assert_eq!(Cents(cents).usd(), program);
        }
    }

    #[test]
    fn a_count_of_one_is_singular() {
        assert_eq!(count(1, "order"), "1 order");
        assert_eq!(count(0, "order"), "0 orders");
        assert_eq!(count(6919, "order"), "6,919 orders");
    }
}
