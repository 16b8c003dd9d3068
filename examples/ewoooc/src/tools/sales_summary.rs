//! `sales_summary`: what the shop sold in a period, as one total and, if asked, by month, quarter or year.
//!
//! Groups are those that the period touches within the records, also when they are empty; a group at an
//! edge holds only the period's part of it. A period without orders is zeros.

use std::collections::{BTreeMap, HashSet};

use rmcp::model::Tool;
use rmcp::schemars;
use serde::Serialize;
use serde_json::json;

use super::{ShopTool, coverage_note, define, input_schema, with_period};
use crate::money::count;
use crate::{Answer, Arguments, BadArguments, Cents, Grouping, Order, OrderBook};

pub(super) const TOOL: ShopTool = ShopTool { name: "sales_summary", define: definition, answer };

const DESCRIPTION: &str = "How much the shop sold in a period: total sales revenue (turnover, income) in US dollars, \
how many orders were placed, how many CDs were sold and to how many buyers; as one total or broken down by month \
(monthly), by quarter (quarterly) or by year (yearly). \
某段期間的銷售總額、營收、營業額、業績、收入，賣了多少張 CD、總共有多少筆訂單；可按月、按季或按年統計。";

const GROUPINGS: [(&str, Grouping); 4] = [
    ("none", Grouping::None),
    ("month", Grouping::Month),
    ("quarter", Grouping::Quarter),
    ("year", Grouping::Year),
];

/// The figures of a whole period.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars", deny_unknown_fields)]
struct Figures {
    /// First day of the period, included.
    #[schemars(extend("format" = "date"))]
    from: String,
    /// Last day of the period, included.
    #[schemars(extend("format" = "date"))]
    to: String,
    /// How the groups are cut.
    group_by: Grouping,
    /// Orders in the period.
    orders: u64,
    /// Different customers who placed them.
    customers: u64,
    /// CDs in them.
    cds: u64,
    /// What was paid for them, in US cents.
    revenue_cents: u64,
    /// The same in US dollars, with two decimals.
    revenue_usd: String,
    /// The groups in time order; none when not grouped.
    groups: Vec<Group>,
}

/// The figures of one group.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars", inline, deny_unknown_fields)]
struct Group {
    /// The month (1997-03), quarter (1997-Q1) or year (1997).
    period: String,
    /// Orders in it.
    orders: u64,
    /// Different customers who placed them.
    customers: u64,
    /// CDs in them.
    cds: u64,
    /// What was paid for them, in US cents.
    revenue_cents: u64,
    /// The same in US dollars, with two decimals.
    revenue_usd: String,
}

#[derive(Default)]
struct Tally {
    orders: u64,
    customers: HashSet<u32>,
    cds: u64,
    revenue: Cents,
}

impl Tally {
    fn add(&mut self, order: &Order) {
        self.orders += 1;
        self.customers.insert(order.customer);
        self.cds += order.cds;
        self.revenue += order.paid;
    }

    fn buyers(&self) -> u64 {
        self.customers.len() as u64
    }

    fn in_words(&self) -> String {
        format!(
            "{} ({}, {}, {})",
            self.revenue,
            count(self.orders, "order"),
            count(self.cds, "CD"),
            count(self.buyers(), "customer")
        )
    }
}

fn definition() -> Tool {
    let properties = with_period(json!({
        "group_by": {
            "type": "string",
            "enum": ["none", "month", "quarter", "year"],
            "default": "none",
            "description": "Break the total down: by month (monthly, per month, 按月, 每月), by quarter (quarterly, per quarter, 按季, 每季) or by year (yearly, per year, 按年, 每年). Without it: none, one total.",
        },
    }));
    define(TOOL.name, "Sales summary by period (銷售總額)", DESCRIPTION, input_schema(properties, &[]))
        .with_output_schema::<Figures>()
}

fn answer(book: &OrderBook, mut arguments: Arguments<'_>) -> Result<Answer, BadArguments> {
    let period = arguments.take_period()?;
    let group_by = arguments.take_choice("group_by", &GROUPINGS)?;
    arguments.finish()?;

    let mut total = Tally::default();
    let shown = period.overlap(book.period());
    let labels = shown.map(|shown| group_by.labels(shown)).unwrap_or_default();
    let mut groups: BTreeMap<String, Tally> =
        labels.into_iter().map(|label| (label, Tally::default())).collect();
    for order in book.in_period(period) {
        total.add(order);
        if let Some(label) = group_by.label(order.date) {
            groups.entry(label).or_default().add(order);
        }
    }

    let mut text = format!("Sales from {period} (both days included) were {}.", total.in_words());
    for (label, tally) in &groups {
        text.push_str(&format!("\n{label}: {}", tally.in_words()));
    }
    text.push_str(&coverage_note(book, period));
    let figures = Figures {
        from: period.from().to_string(),
        to: period.to().to_string(),
        group_by,
        orders: total.orders,
        customers: total.buyers(),
        cds: total.cds,
        revenue_cents: total.revenue.0,
        revenue_usd: total.revenue.usd(),
        groups: groups.into_iter().map(|(period, tally)| group(period, &tally)).collect(),
    };
    Ok(Answer::new(text, &figures))
}

fn group(period: String, tally: &Tally) -> Group {
    Group {
        period,
        orders: tally.orders,
        customers: tally.buyers(),
        cds: tally.cds,
        revenue_cents: tally.revenue.0,
        revenue_usd: tally.revenue.usd(),
    }
}
