//! The four tools: each a file with its definition, its figures and its answer.
//!
//! Titles and descriptions name the same thing in English and Traditional Chinese, and each tool keeps to
//! its own words, so that a planner that only compares words can tell them apart. Every tool reads and
//! none writes: the annotations say so, and the order book is shared behind an immutable reference.
//! An answer stays under 12,000 characters, text and figures together, whatever is asked.

mod customer_orders;
mod repeat_rate;
mod sales_summary;
mod top_customers;

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::{Answer, Arguments, BadArguments, OrderBook, Period};

/// One tool: what it says of itself, and how it answers.
pub struct ShopTool {
    /// The name it is called by.
    pub name: &'static str,
    /// Its definition as `tools/list` shows it.
    pub define: fn() -> Tool,
    /// Its answer to arguments, from the orders and nothing else.
    pub answer: fn(&OrderBook, Arguments<'_>) -> Result<Answer, BadArguments>,
}

/// Every tool, in the order of the list.
pub const TOOLS: [ShopTool; 4] =
    [sales_summary::TOOL, top_customers::TOOL, customer_orders::TOOL, repeat_rate::TOOL];

/// A definition with what all four have in common.
fn define(name: &'static str, title: &str, description: &'static str, input: Value) -> Tool {
    let annotations = ToolAnnotations::with_title(title)
        .read_only(true)
        .destructive(false)
        .idempotent(true)
        .open_world(false);
    Tool::new(name, description, as_object(input)).with_title(title).with_annotations(annotations)
}

/// The schema of an arguments object that allows nothing but these.
fn input_schema(properties: Value, required: &[&str]) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// `from` and `to`, and the tool's own arguments after them.
fn with_period(own: Value) -> Value {
    let day = |description: &str| {
        json!({
            "type": "string",
            "format": "date",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
            "description": description,
        })
    };
    let mut properties = as_object_map(json!({
        "from": day("Start date, the first day of the period, included (YYYY-MM-DD). Without it: the first day on record, 1997-01-01. 開始日期"),
        "to": day("End date, the last day of the period, included (YYYY-MM-DD). Without it: the last day on record, 1998-06-30. 結束日期"),
    }));
    properties.extend(as_object_map(own));
    Value::Object(properties)
}

fn as_object(value: Value) -> Arc<JsonObject> {
    Arc::new(as_object_map(value))
}

fn as_object_map(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        other => unreachable!("schemas here are written as objects, not {other}"),
    }
}

/// A last line for a period that the records do not cover, or nothing.
fn coverage_note(book: &OrderBook, asked: Period) -> String {
    if book.period().covers(asked) {
        return String::new();
    }
    format!("\nThe records cover {} only.", book.period())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_closed_described_and_read_only() {
        for tool in &TOOLS {
            let defined = (tool.define)();
            assert_eq!(defined.name, tool.name);
            let annotations = defined.annotations.as_ref().expect("annotated");
            assert_eq!(annotations.read_only_hint, Some(true));
            assert_eq!(defined.input_schema["additionalProperties"], json!(false), "{}", tool.name);
            let properties = defined.input_schema["properties"].as_object().expect("properties");
            for (name, property) in properties {
                let words = property["description"].as_str().unwrap_or_default();
                assert!(words.len() > 20, "{}.{name} is described", tool.name);
            }
            let output = defined.output_schema.as_ref().expect("an output schema");
            assert_eq!(output["additionalProperties"], json!(false), "{}", tool.name);
        }
    }

    #[test]
    fn the_ranges_in_the_schemas_are_those_of_the_records() {
        let book = OrderBook::embedded().expect("the embedded file");
        let described = |tool: &ShopTool, name: &str| {
            (tool.define)().input_schema["properties"][name]["description"].to_string()
        };
        for tool in &TOOLS[..3] {
            assert!(described(tool, "from").contains(&book.period().from().to_string()), "{}", tool.name);
            assert!(described(tool, "to").contains(&book.period().to().to_string()), "{}", tool.name);
        }
        let (first, last) = book.customer_range();
        assert!(described(&TOOLS[2], "customer_id").contains(&format!("{first} to {last}")));
        assert!(described(&TOOLS[3], "cohort").contains(&book.cohorts()[0].to_string()));
    }

    #[test]
    fn the_largest_answers_stay_under_twelve_thousand_characters() {
        let book = OrderBook::embedded().expect("the embedded file");
        let busiest = book.customers().max_by_key(|(_, orders)| orders.len()).expect("customers").0;
        for (tool, arguments) in [
            (&TOOLS[0], json!({"group_by": "month"})),
            (&TOOLS[1], json!({"limit": 50})),
            (&TOOLS[2], json!({"customer_id": busiest, "limit": 100})),
            (&TOOLS[3], json!({})),
        ] {
            let arguments = Arguments::new(&book, as_object_map(arguments));
            let answer = (tool.answer)(&book, arguments).expect("good arguments");
            let size = answer.text.chars().count() + answer.figures.to_string().chars().count();
            assert!(size < 12_000, "{}: {size} characters", tool.name);
        }
    }
}
