//! The shop's orders: the file, read once and held in memory.
//!
//! An order is a row of `data/CDNOW_sample.txt` (its columns are in the NOTICE beside it). Two rows of one
//! customer on one day are two orders. The file is embedded, so reading it can fail only in a build whose
//! data were changed; the tests read all of it.

use std::collections::BTreeMap;

use jiff::civil::Date;

use crate::{Cents, Month, Period};

const EMBEDDED: &str = include_str!("../data/CDNOW_sample.txt");

/// One order of one customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The customer: the sample's id, 1 to 2357.
    pub customer: u32,
    /// The day it was placed.
    pub date: Date,
    /// How many CDs, at least 1.
    pub cds: u64,
    /// What was paid for all of them; may be zero.
    pub paid: Cents,
}

/// A row of the file that is not an order.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line} of the orders is not `id id YYYYMMDD CDs dollars`")]
pub struct BadRow {
    /// The line, counted from 1.
    pub line: usize,
}

/// All orders, by customer and then in the file's own order, which is by date.
#[derive(Debug)]
pub struct OrderBook {
    customers: BTreeMap<u32, Vec<Order>>,
    period: Period,
}

impl OrderBook {
    /// The orders that are part of this binary.
    ///
    /// # Errors
    /// [`BadRow`] when the embedded file is not what its NOTICE says.
    pub fn embedded() -> Result<Self, BadRow> {
        Self::parse(EMBEDDED)
    }

    /// Reads orders, one a line; blank lines are passed over.
    ///
    /// # Errors
    /// [`BadRow`] names the first line that is not an order; an empty text is line 1.
    pub fn parse(text: &str) -> Result<Self, BadRow> {
        let mut customers: BTreeMap<u32, Vec<Order>> = BTreeMap::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let order = parse_row(line).ok_or(BadRow { line: index + 1 })?;
            customers.entry(order.customer).or_default().push(order);
        }
        for orders in customers.values_mut() {
            orders.sort_by_key(|order| order.date);
        }
        let days = || customers.values().flatten().map(|order| order.date);
        let period = days().min().zip(days().max()).and_then(|(first, last)| Period::new(first, last));
        Ok(Self { period: period.ok_or(BadRow { line: 1 })?, customers })
    }

    /// The days of the first and the last order on record.
    pub fn period(&self) -> Period {
        self.period
    }

    /// The lowest and the highest customer id.
    pub fn customer_range(&self) -> (u32, u32) {
        let first = self.customers.keys().next().copied().unwrap_or_default();
        let last = self.customers.keys().next_back().copied().unwrap_or_default();
        (first, last)
    }

    /// Each customer, by id, with all of their orders, oldest first and never empty.
    pub fn customers(&self) -> impl Iterator<Item = (u32, &[Order])> {
        self.customers.iter().map(|(id, orders)| (*id, orders.as_slice()))
    }

    /// All orders of one customer, oldest first, or `None` when there is no such customer.
    pub fn find_customer(&self, customer: u32) -> Option<&[Order]> {
        self.customers.get(&customer).map(Vec::as_slice)
    }

    /// The orders of a period, by customer.
    pub fn in_period(&self, period: Period) -> impl Iterator<Item = &Order> {
        self.customers.values().flatten().filter(move |order| period.contains(order.date))
    }

    /// The months in which some customer bought for the first time, in time order.
    pub fn cohorts(&self) -> Vec<Month> {
        let mut months: Vec<Month> = self
            .customers
            .values()
            .filter_map(|orders| orders.first())
            .map(|first| Month::of(first.date))
            .collect();
        months.sort_unstable();
        months.dedup();
        months
    }
}

fn parse_row(line: &str) -> Option<Order> {
    let mut columns = line.split_whitespace();
    let _id_in_the_full_set: u32 = columns.next()?.parse().ok()?;
    let customer = columns.next()?.parse().ok()?;
    let date = parse_compact_day(columns.next()?)?;
    let cds = columns.next()?.parse().ok()?;
    let paid = Cents::parse_dollars(columns.next()?)?;
    columns.next().is_none().then_some(Order { customer, date, cds, paid })
}

fn parse_compact_day(text: &str) -> Option<Date> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Date::new(text[..4].parse().ok()?, text[4..6].parse().ok()?, text[6..].parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_file_is_what_its_notice_says() {
        let book = OrderBook::embedded().expect("every row is an order");
        assert_eq!(book.in_period(book.period()).count(), 6919);
        assert_eq!(book.customers().count(), 2357);
        assert_eq!(book.customer_range(), (1, 2357));
        assert_eq!(book.period().to_string(), "1997-01-01 to 1998-06-30");
    }

    #[test]
    fn a_row_that_is_no_order_is_named_by_its_line() {
        let good = " 00004 0001 19970101  2   29.33\r\n";
        for bad in [
            "00004 0001 19970101 2",
            "00004 0001 19970101 2 29.33 more",
            "00004 0001 19970230 2 29.33",
            "00004 0001 1997011 2 29.33",
            "00004 x 19970101 2 29.33",
            "00004 0001 19970101 -2 29.33",
            "00004 0001 19970101 2 29.3",
        ] {
            let text = format!("{good}\n{bad}\n");
            assert_eq!(OrderBook::parse(&text).expect_err(bad), BadRow { line: 3 });
        }
        assert_eq!(OrderBook::parse("").expect_err("no orders at all"), BadRow { line: 1 });
    }

    #[test]
    fn two_rows_of_a_day_are_two_orders() {
        let book = OrderBook::parse("1 7 19970102 1 1.00\n1 7 19970101 1 2.00\n1 7 19970101 1 3.00\n")
            .expect("good");
        let paid: Vec<u64> = book.find_customer(7).expect("there").iter().map(|order| order.paid.0).collect();
        assert_eq!(paid, [200, 300, 100], "by day, and within a day as in the file");
    }
}
