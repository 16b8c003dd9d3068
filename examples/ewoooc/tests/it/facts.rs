//! The figures by a second path: the file read again, with other types and other arithmetic.
//!
//! Dates stay strings and are compared as strings, customers stay strings, and dollars and cents are added
//! apart and carried at the end. Nothing of the crate is used.

use std::collections::{BTreeMap, BTreeSet};

/// A row as it stands in the file.
#[derive(Clone)]
pub(crate) struct Row {
    /// Without leading zeros.
    pub(crate) customer: &'static str,
    /// `YYYYMMDD`.
    pub(crate) day: &'static str,
    pub(crate) cds: u64,
    pub(crate) dollars: u64,
    pub(crate) cents: u64,
}

impl Row {
    /// The day as the tools show it.
    pub(crate) fn shown_day(&self) -> String {
        format!("{}-{}-{}", &self.day[0..4], &self.day[4..6], &self.day[6..8])
    }

    pub(crate) fn paid_cents(&self) -> u64 {
        paid(std::slice::from_ref(self)).0
    }
}

/// All rows, in the file's order.
pub(crate) fn rows() -> Vec<Row> {
    include_str!("../../data/CDNOW_sample.txt")
        .replace('\r', "")
        .leak()
        .split('\n')
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').filter(|field| !field.is_empty()).collect();
            let [_, customer, day, cds, price] = fields[..] else { return None };
            Some(Row {
                customer: customer.trim_start_matches('0'),
                day,
                cds: cds.parse().expect("CDs"),
                dollars: price[..price.len() - 3].parse().expect("dollars"),
                cents: price[price.len() - 2..].parse().expect("cents"),
            })
        })
        .collect()
}

/// The rows of a period, both days (`YYYY-MM-DD`) included.
pub(crate) fn rows_of(from: &str, to: &str) -> Vec<Row> {
    let (from, to) = (from.replace('-', ""), to.replace('-', ""));
    rows().into_iter().filter(|row| row.day >= from.as_str() && row.day <= to.as_str()).collect()
}

/// What was paid: in cents, and as `1234.56`.
pub(crate) fn paid(rows: &[Row]) -> (u64, String) {
    let dollars: u64 = rows.iter().map(|row| row.dollars).sum();
    let cents: u64 = rows.iter().map(|row| row.cents).sum();
    let (dollars, cents) = (dollars + cents / 100, cents % 100);
    (dollars * 100 + cents, format!("{dollars}.{cents:02}"))
}

/// How many different customers there are.
pub(crate) fn customers(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.customer).collect::<BTreeSet<_>>().len()
}

/// CDs in all of the rows.
pub(crate) fn cds(rows: &[Row]) -> u64 {
    rows.iter().map(|row| row.cds).sum()
}

/// Customers with their measure, the highest first, equal ones by number.
pub(crate) fn ranking(rows: &[Row], measure: impl Fn(&[Row]) -> u64) -> Vec<(String, u64)> {
    let mut by_customer: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for row in rows {
        by_customer.entry(row.customer).or_default().push(row.clone());
    }
    let mut ranking: Vec<(String, u64)> =
        by_customer.iter().map(|(customer, rows)| ((*customer).to_owned(), measure(rows))).collect();
    ranking.sort_by(|(one, high), (other, low)| {
        low.cmp(high).then(one.len().cmp(&other.len())).then(one.cmp(other))
    });
    ranking
}

/// Of the customers whose first day lies in a month (`YYYYMM`): how many, and how many came on another day.
pub(crate) fn cohort(month: &str) -> (u64, u64) {
    let mut days: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in rows() {
        days.entry(row.customer).or_default().insert(row.day);
    }
    let cohort: Vec<_> =
        days.values().filter(|days| days.first().is_some_and(|first| first.starts_with(month))).collect();
    let repeated = cohort.iter().filter(|days| days.len() > 1).count();
    (cohort.len() as u64, repeated as u64)
}
