//! `repeat_rate`: how many customers came back, by the month of their first purchase.
//!
//! A cohort is the customers whose first order on record lies in one month. A customer repeated when they
//! have an order on a LATER DAY than their first; a second order on the same day is no repeat. The rate is
//! computed in whole hundredths of a percent, a half rounded up.

use std::collections::BTreeMap;

use rmcp::model::Tool;
use rmcp::schemars;
use serde::Serialize;
use serde_json::json;

use super::{ShopTool, define, input_schema};
use crate::money::thousands;
use crate::{Answer, Arguments, BadArguments, Month, Order, OrderBook};

pub(super) const TOOL: ShopTool = ShopTool { name: "repeat_rate", define: definition, answer };

const DESCRIPTION: &str = "Repeat purchase rate (retention, loyalty) by monthly cohort: of the people whose first \
purchase fell in a month, the share that came back and bought again on a later day. One cohort, or all cohorts. \
回購率、再購率、重複購買率：某月首次購買的新客中，有多少比例後來再次購買、回頭再買。";

/// The figures of the cohorts asked for.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars", deny_unknown_fields)]
struct Figures {
    /// The cohort asked for, or null for all.
    cohort: Option<String>,
    /// The last day on record: who came back, came back by then.
    #[schemars(extend("format" = "date"))]
    until: String,
    /// Customers of these cohorts together.
    customers: u64,
    /// Those of them who bought again on a later day.
    repeat_customers: u64,
    /// Their share in percent, rounded to two decimals.
    repeat_rate_percent: f64,
    /// Each cohort, in time order.
    cohorts: Vec<Cohort>,
}

/// The figures of one cohort.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars", inline, deny_unknown_fields)]
struct Cohort {
    /// The month of first purchase.
    cohort: String,
    /// Customers whose first purchase lies in it.
    customers: u64,
    /// Those of them who bought again on a later day.
    repeat_customers: u64,
    /// Their share in percent, rounded to two decimals.
    repeat_rate_percent: f64,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    customers: u64,
    repeated: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.customers += other.customers;
        self.repeated += other.repeated;
    }

    /// Hundredths of a percent; 0 of nobody.
    fn rate(self) -> u32 {
        let doubled = self.repeated * 20_000 + self.customers;
        let rate = doubled.checked_div(2 * self.customers).unwrap_or_default();
        u32::try_from(rate).expect("at most 10,000, as those who repeat are among the customers")
    }

    fn percent(self) -> f64 {
        f64::from(self.rate()) / 100.0
    }

    fn percent_in_words(self) -> String {
        format!("{}.{:02}%", self.rate() / 100, self.rate() % 100)
    }
}

fn definition() -> Tool {
    let properties = json!({
        "cohort": {
            "type": "string",
            "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$",
            "description": "The month of first purchase as YYYY-MM, such as 1997-01 (年月, 首次購買的月份). Without it: all cohorts.",
            "examples": ["1997-01"],
        },
    });
    define(TOOL.name, "Repeat purchase rate by cohort (回購率)", DESCRIPTION, input_schema(properties, &[]))
        .with_output_schema::<Figures>()
}

fn answer(book: &OrderBook, mut arguments: Arguments<'_>) -> Result<Answer, BadArguments> {
    let asked = arguments.take_cohort()?;
    arguments.finish()?;

    let mut cohorts: BTreeMap<Month, Tally> = BTreeMap::new();
    for (_, orders) in book.customers() {
        let (cohort, tally) = first_purchase(orders);
        if asked.is_none_or(|asked| asked == cohort) {
            cohorts.entry(cohort).or_default().add(tally);
        }
    }
    let mut total = Tally::default();
    cohorts.values().for_each(|tally| total.add(*tally));

    let until = book.period().to().to_string();
    let text = asked
        .map_or_else(|| all_in_words(&cohorts, total, &until), |cohort| one_in_words(cohort, total, &until));
    let figures = Figures {
        cohort: asked.map(|cohort| cohort.to_string()),
        until,
        customers: total.customers,
        repeat_customers: total.repeated,
        repeat_rate_percent: total.percent(),
        cohorts: cohorts.into_iter().map(|(cohort, tally)| figures_of(cohort, tally)).collect(),
    };
    Ok(Answer::new(text, &figures))
}

/// The cohort of a customer's orders (oldest first, never empty), and the customer as a tally of one.
fn first_purchase(orders: &[Order]) -> (Month, Tally) {
    let (first, last) = (orders[0].date, orders[orders.len() - 1].date);
    (Month::of(first), Tally { customers: 1, repeated: u64::from(last > first) })
}

fn figures_of(cohort: Month, tally: Tally) -> Cohort {
    Cohort {
        cohort: cohort.to_string(),
        customers: tally.customers,
        repeat_customers: tally.repeated,
        repeat_rate_percent: tally.percent(),
    }
}

fn one_in_words(cohort: Month, tally: Tally, until: &str) -> String {
    format!(
        "The repeat purchase rate of the {} cohort is {}: of its {} customers, {} bought again on a later day, up to {until}.",
        cohort.in_words(),
        tally.percent_in_words(),
        thousands(tally.customers),
        thousands(tally.repeated),
    )
}

fn all_in_words(cohorts: &BTreeMap<Month, Tally>, total: Tally, until: &str) -> String {
    let mut text = format!(
        "The repeat purchase rate of all customers is {}: of {}, {} bought again on a later day, up to {until}. By month of first purchase:",
        total.percent_in_words(),
        thousands(total.customers),
        thousands(total.repeated),
    );
    for (cohort, tally) in cohorts {
        text.push_str(&format!(
            "\n{cohort}: {} ({} of {})",
            tally.percent_in_words(),
            thousands(tally.repeated),
            thousands(tally.customers)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_order_on_the_first_day_is_no_repeat() {
        let book = OrderBook::parse(
            "1 1 19970101 1 1.00\n1 1 19970101 1 1.00\n2 2 19970131 1 1.00\n2 2 19970201 1 1.00\n3 3 19970201 1 1.00\n",
        )
        .expect("good rows");
        let answered =
            answer(&book, Arguments::new(&book, serde_json::Map::new())).expect("no arguments are good");
        assert_eq!(answered.figures["repeat_customers"], 1);
        assert_eq!(answered.figures["repeat_rate_percent"], 33.33);
        assert_eq!(answered.figures["cohorts"][0]["repeat_rate_percent"], 50.0);
        assert_eq!(answered.figures["cohorts"][1]["repeat_rate_percent"], 0.0);
    }

    #[test]
    fn rates_round_a_half_up() {
        for (repeated, customers, rate) in
            [(0, 0, 0), (0, 3, 0), (1, 3, 3333), (2, 3, 6667), (1, 800, 13), (3, 3, 10_000)]
        {
            assert_eq!(Tally { customers, repeated }.rate(), rate, "{repeated} of {customers}");
        }
    }
}
