//! `customer_orders`: what one customer bought, order by order.
//!
//! Totals are those of every order in the period, also when the list is cut by `limit`. A customer without
//! orders in the period is zeros; a customer who does not exist is refused.

use rmcp::model::Tool;
use rmcp::schemars;
use serde::Serialize;
use serde_json::json;

use super::{ShopTool, coverage_note, define, input_schema, with_period};
use crate::money::count;
use crate::{Answer, Arguments, BadArguments, Cents, Order, OrderBook, Period};

pub(super) const TOOL: ShopTool = ShopTool { name: "customer_orders", define: definition, answer };

const DESCRIPTION: &str = "The order history of one customer, given by number: what customer N ordered, bought or \
purchased, each order with its date, CDs and amount, oldest first, and their total. \
某一位客戶（顧客編號）的訂單明細、購買紀錄、消費紀錄：這位客戶買了什麼、買過什麼、訂購了哪些、花了多少錢。";

const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 100;

/// The figures of one customer.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars", deny_unknown_fields)]
struct Figures {
    /// The customer's number, without leading zeros.
    customer_id: String,
    /// First day of the period, included.
    #[schemars(extend("format" = "date"))]
    from: String,
    /// Last day of the period, included.
    #[schemars(extend("format" = "date"))]
    to: String,
    /// Their orders in the period, listed or not.
    orders: u64,
    /// CDs in all of these.
    cds: u64,
    /// What they paid for all of these, in US cents.
    revenue_cents: u64,
    /// The same in US dollars, with two decimals.
    revenue_usd: String,
    /// The orders, oldest first, at most `limit` of them.
    rows: Vec<Row>,
}

/// One order.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars", inline, deny_unknown_fields)]
struct Row {
    /// The day of the order.
    #[schemars(extend("format" = "date"))]
    date: String,
    /// CDs in it.
    cds: u64,
    /// What was paid, in US cents.
    revenue_cents: u64,
    /// The same in US dollars, with two decimals.
    revenue_usd: String,
}

fn definition() -> Tool {
    let properties = with_period(json!({
        "customer_id": {
            "type": ["string", "integer"],
            "pattern": "^[0-9]{1,10}$",
            "minimum": 1,
            "description": "The customer's number (customer id, customer no., 客戶編號, 顧客編號), 1 to 2357, with or without leading zeros.",
            "examples": ["17"],
        },
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_LIMIT,
            "default": DEFAULT_LIMIT,
            "description": "List only the first N orders, 1 to 100 (前 N 筆). Without it: 50.",
        },
    }));
    let input = input_schema(properties, &["customer_id"]);
    define(TOOL.name, "One customer's orders (客戶訂單明細)", DESCRIPTION, input)
        .with_output_schema::<Figures>()
}

fn answer(book: &OrderBook, mut arguments: Arguments<'_>) -> Result<Answer, BadArguments> {
    let customer = arguments.take_customer()?;
    let period = arguments.take_period()?;
    let limit = arguments.take_limit(DEFAULT_LIMIT, MAX_LIMIT)?;
    arguments.finish()?;

    let all = book.find_customer(customer).unwrap_or_default();
    let orders: Vec<&Order> = all.iter().filter(|order| period.contains(order.date)).collect();
    let paid: Cents = orders.iter().map(|order| order.paid).sum();
    let rows: Vec<Row> = orders.iter().zip(0..limit).map(|(order, _)| row(order)).collect();
    let figures = Figures {
        customer_id: customer.to_string(),
        from: period.from().to_string(),
        to: period.to().to_string(),
        orders: orders.len() as u64,
        cds: orders.iter().map(|order| order.cds).sum(),
        revenue_cents: paid.0,
        revenue_usd: paid.usd(),
        rows,
    };

    let mut text = headline(&figures, paid, period);
    for order in orders.iter().take(figures.rows.len()) {
        text.push_str(&format!("\n{}: {}, {}", order.date, count(order.cds, "CD"), order.paid));
    }
    text.push_str(&coverage_note(book, period));
    Ok(Answer::new(text, &figures))
}

fn row(order: &Order) -> Row {
    Row {
        date: order.date.to_string(),
        cds: order.cds,
        revenue_cents: order.paid.0,
        revenue_usd: order.paid.usd(),
    }
}

fn headline(figures: &Figures, paid: Cents, period: Period) -> String {
    let cut = if (figures.rows.len() as u64) < figures.orders {
        format!(" The first {}:", figures.rows.len())
    } else {
        String::new()
    };
    format!(
        "Customer {} placed {} from {period} (both days included): {} for {paid} in all.{cut}",
        figures.customer_id,
        count(figures.orders, "order"),
        count(figures.cds, "CD"),
    )
}
