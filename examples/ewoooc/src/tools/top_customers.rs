//! `top_customers`: who bought most in a period, by revenue, orders or CDs.
//!
//! Only customers with an order in the period are ranked. Equal customers stand by their number, so that
//! the same question always has the same answer.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rmcp::model::Tool;
use rmcp::schemars;
use serde::Serialize;
use serde_json::json;

use super::{ShopTool, coverage_note, define, input_schema, with_period};
use crate::money::{count, thousands};
use crate::{Answer, Arguments, BadArguments, Cents, OrderBook};

pub(super) const TOOL: ShopTool = ShopTool { name: "top_customers", define: definition, answer };

const DESCRIPTION: &str = "Ranking of the best customers of a period, the biggest first: who the top N customers are \
and what each of them spent. Ranked by money spent, or by how often they came, or by how many CDs they took. \
客戶排行、顧客排名：前幾名客戶是誰（前三名、前五名、前十名）、消費最多的顧客、最大的客戶、最好的客戶。";

const DEFAULT_LIMIT: u64 = 10;
const MAX_LIMIT: u64 = 50;

/// What the ranking goes by.
#[derive(Clone, Copy, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(crate = "rmcp::schemars", inline)]
enum Measure {
    /// What was paid.
    Revenue,
    /// How many orders.
    Orders,
    /// How many CDs.
    Cds,
}

const MEASURES: [(&str, Measure); 3] =
    [("revenue", Measure::Revenue), ("orders", Measure::Orders), ("cds", Measure::Cds)];

/// The figures of a ranking.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars", deny_unknown_fields)]
struct Figures {
    /// First day of the period, included.
    #[schemars(extend("format" = "date"))]
    from: String,
    /// Last day of the period, included.
    #[schemars(extend("format" = "date"))]
    to: String,
    /// What the ranking goes by.
    by: Measure,
    /// How many customers bought in the period at all.
    customers_in_period: u64,
    /// The best of them, rank 1 first.
    customers: Vec<Row>,
}

/// One customer's place.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars", inline, deny_unknown_fields)]
struct Row {
    /// The place, from 1.
    rank: u64,
    /// The customer's number, without leading zeros.
    customer_id: String,
    /// Their orders in the period.
    orders: u64,
    /// CDs in them.
    cds: u64,
    /// What they paid, in US cents.
    revenue_cents: u64,
    /// The same in US dollars, with two decimals.
    revenue_usd: String,
}

struct Standing {
    customer: u32,
    orders: u64,
    cds: u64,
    paid: Cents,
}

impl Standing {
    fn measured(&self, by: Measure) -> u64 {
        match by {
            Measure::Revenue => self.paid.0,
            Measure::Orders => self.orders,
            Measure::Cds => self.cds,
        }
    }
}

fn definition() -> Tool {
    let properties = with_period(json!({
        "by": {
            "type": "string",
            "enum": ["revenue", "orders", "cds"],
            "default": "revenue",
            "description": "What to rank by: revenue (money spent, 消費金額), orders (how often they ordered, 訂單數) or cds (CDs bought, 張數). Without it: revenue.",
        },
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_LIMIT,
            "default": DEFAULT_LIMIT,
            "description": "How many customers to list: the N of top N (前 N 名), 1 to 50. Without it: 10.",
        },
    }));
    define(TOOL.name, "Top customers (客戶排行)", DESCRIPTION, input_schema(properties, &[]))
        .with_output_schema::<Figures>()
}

fn answer(book: &OrderBook, mut arguments: Arguments<'_>) -> Result<Answer, BadArguments> {
    let period = arguments.take_period()?;
    let by = arguments.take_choice("by", &MEASURES)?;
    let limit = arguments.take_limit(DEFAULT_LIMIT, MAX_LIMIT)?;
    arguments.finish()?;

    let mut standings: BTreeMap<u32, Standing> = BTreeMap::new();
    for order in book.in_period(period) {
        let nothing_yet = Standing { customer: order.customer, orders: 0, cds: 0, paid: Cents(0) };
        let standing = standings.entry(order.customer).or_insert(nothing_yet);
        standing.orders += 1;
        standing.cds += order.cds;
        standing.paid += order.paid;
    }
    let customers_in_period = standings.len() as u64;
    let mut standings: Vec<Standing> = standings.into_values().collect();
    standings.sort_by_key(|standing| (Reverse(standing.measured(by)), standing.customer));
    let rows: Vec<Row> =
        standings.iter().zip(1..=limit).map(|(standing, rank)| row(standing, rank)).collect();

    let mut text = headline(&rows, customers_in_period, by, &period.to_string());
    for (standing, row) in standings.iter().zip(&rows) {
        text.push_str(&format!(
            "\n{}. customer {}: {}, {}, {}",
            row.rank,
            row.customer_id,
            standing.paid,
            count(row.orders, "order"),
            count(row.cds, "CD")
        ));
    }
    text.push_str(&coverage_note(book, period));
    let (from, to) = (period.from().to_string(), period.to().to_string());
    Ok(Answer::new(text, &Figures { from, to, by, customers_in_period, customers: rows }))
}

fn row(standing: &Standing, rank: u64) -> Row {
    Row {
        rank,
        customer_id: standing.customer.to_string(),
        orders: standing.orders,
        cds: standing.cds,
        revenue_cents: standing.paid.0,
        revenue_usd: standing.paid.usd(),
    }
}

fn headline(rows: &[Row], customers_in_period: u64, by: Measure, period: &str) -> String {
    if rows.is_empty() {
        return format!("No customer bought anything from {period} (both days included).");
    }
    let by = match by {
        Measure::Revenue => "revenue",
        Measure::Orders => "number of orders",
        Measure::Cds => "number of CDs",
    };
    format!(
        "The top {} of {} customers who bought from {period} (both days included), by {by}:",
        rows.len(),
        thousands(customers_in_period)
    )
}
