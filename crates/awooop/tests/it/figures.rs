//! The shop's figures by another path than the shop's: the file read as lines, days as numbers, money in
//! cents from the text with its point taken out. Nothing of the server or the shop is used.

use std::collections::BTreeMap;

use serde_json::{Value, json};

struct Order {
    customer: u32,
    day: u32,
    cds: u64,
    cents: u64,
}

/// All orders of the example's file.
pub(crate) struct Figures(Vec<Order>);

impl Figures {
    /// Reads the file.
    pub(crate) fn read() -> Figures {
        let text = include_str!("../../../../examples/ewoooc/data/CDNOW_sample.txt");
        let orders = text.lines().filter(|line| !line.trim().is_empty()).map(|line| {
            let part: Vec<&str> = line.split_whitespace().collect();
            let number = |n: usize| part[n].parse::<u64>().expect("a number");
            Order {
                customer: u32::try_from(number(1)).expect("a small number"),
                day: u32::try_from(number(2)).expect("a day"),
                cds: number(3),
                cents: part[4].replace('.', "").parse().expect("an amount"),
            }
        });
        let orders: Vec<Order> = orders.collect();
        assert_eq!(orders.len(), 6919, "the file is the sample");
        Figures(orders)
    }

    /// What `tool` must say for these arguments, as far as it is a figure.
    pub(crate) fn expected(&self, tool: &str, arguments: &Value) -> Value {
        let orders = self.within(arguments);
        match tool {
            "sales_summary" => summary(&orders),
            "top_customers" => {
                top(&orders, usize::try_from(arguments["limit"].as_u64().unwrap_or(10)).expect("a limit"))
            }
            "customer_orders" => customer(&orders, arguments["customer_id"].as_str().expect("a customer")),
            "repeat_rate" => self.repeat(arguments["cohort"].as_str()),
            other => panic!("no such tool: {other}"),
        }
    }

    fn within(&self, arguments: &Value) -> Vec<&Order> {
        let day = |name: &str, default: u32| {
            let text = arguments[name].as_str().map(|text| text.replace('-', ""));
            text.map_or(default, |text| text.parse().expect("a day"))
        };
        let (from, to) = (day("from", 0), day("to", u32::MAX));
        self.0.iter().filter(|order| (from..=to).contains(&order.day)).collect()
    }

    /// Of those whose first day lies in the month: how many, and how many came on a later day.
    fn repeat(&self, cohort: Option<&str>) -> Value {
        let mut span: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        for order in &self.0 {
            let (first, last) = span.entry(order.customer).or_insert((order.day, order.day));
            (*first, *last) = ((*first).min(order.day), (*last).max(order.day));
        }
        let month: Option<u32> = cohort.map(|text| text.replace('-', "").parse().expect("a month"));
        let of: Vec<_> =
            span.values().filter(|(first, _)| month.is_none_or(|month| first / 100 == month)).collect();
        let again = of.iter().filter(|(first, last)| last > first).count();
        json!({"customers": of.len(), "repeat_customers": again})
    }
}

fn summary(orders: &[&Order]) -> Value {
    let mut customers: Vec<u32> = orders.iter().map(|order| order.customer).collect();
    customers.sort_unstable();
    customers.dedup();
    json!({
        "orders": orders.len(), "customers": customers.len(),
        "cds": orders.iter().map(|order| order.cds).sum::<u64>(),
        "revenue_cents": orders.iter().map(|order| order.cents).sum::<u64>(),
    })
}

fn top(orders: &[&Order], limit: usize) -> Value {
    let mut spent: BTreeMap<u32, u64> = BTreeMap::new();
    for order in orders {
        *spent.entry(order.customer).or_default() += order.cents;
    }
    let mut ranking: Vec<(u32, u64)> = spent.into_iter().collect();
    ranking.sort_by_key(|&(customer, cents)| (std::cmp::Reverse(cents), customer));
    let listed = ranking.into_iter().take(limit);
    json!({"customers": listed
        .map(|(customer, cents)| json!({"customer_id": customer.to_string(), "revenue_cents": cents}))
        .collect::<Vec<_>>()})
}

fn customer(orders: &[&Order], id: &str) -> Value {
    let id: u32 = id.parse().expect("a customer");
    let own: Vec<&&Order> = orders.iter().filter(|order| order.customer == id).collect();
    json!({
        "customer_id": id.to_string(), "orders": own.len(),
        "cds": own.iter().map(|order| order.cds).sum::<u64>(),
        "revenue_cents": own.iter().map(|order| order.cents).sum::<u64>(),
    })
}

/// Is every figure of `expected` in `found`, in the same place?
pub(crate) fn agrees(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.iter().all(|(name, value)| found.get(name).is_some_and(|found| agrees(value, found)))
        }
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(e, f)| agrees(e, f))
        }
        _ => expected == found,
    }
}
