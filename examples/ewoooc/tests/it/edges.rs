//! Arguments that are not good, and what is said of them.

use serde_json::{Value, json};

use crate::client::Client;

#[test]
fn bad_arguments_are_refused_in_a_sentence_that_says_what_is_right() {
    let mut client = Client::connect();
    let days = "1997-01-01 to 1998-06-30";
    let long = "x".repeat(100_000);
    let cases: Vec<(&str, Value, &str)> = vec![
        ("sales_summary", json!({ "from": "1997-03-31", "to": "1997-03-01" }), days),
        ("sales_summary", json!({ "from": "1997-02-30" }), days),
        ("sales_summary", json!({ "to": "1997-13-01" }), days),
        ("sales_summary", json!({ "from": "March 1997" }), days),
        ("sales_summary", json!({ "from": "" }), days),
        ("sales_summary", json!({ "from": 19970301 }), days),
        ("sales_summary", json!({ "from": null }), days),
        ("sales_summary", json!({ "from": long }), days),
        ("sales_summary", json!({ "group_by": "week" }), "none, month, quarter, year"),
        ("sales_summary", json!({ "group_by": "Month" }), "none, month, quarter, year"),
        ("sales_summary", json!({ "limit": 3 }), "this tool takes from, to, group_by"),
        ("top_customers", json!({ "limit": 0 }), "from 1 to 50"),
        ("top_customers", json!({ "limit": 51 }), "from 1 to 50"),
        ("top_customers", json!({ "limit": -1 }), "from 1 to 50"),
        ("top_customers", json!({ "limit": 2.5 }), "from 1 to 50"),
        ("top_customers", json!({ "limit": "5" }), "from 1 to 50"),
        ("top_customers", json!({ "limit": 1e300 }), "from 1 to 50"),
        ("top_customers", json!({ "by": "name" }), "revenue, orders, cds"),
        ("top_customers", json!({ "from": "1998-01-01", "to": "1997-01-01" }), days),
        ("customer_orders", json!({}), "`customer_id` is required; customers are numbered 1 to 2357"),
        ("customer_orders", json!({ "customer_id": "2358" }), "no customer \"2358\""),
        ("customer_orders", json!({ "customer_id": 0 }), "numbered 1 to 2357"),
        ("customer_orders", json!({ "customer_id": "Alice" }), "no customer \"Alice\""),
        ("customer_orders", json!({ "customer_id": "1; DROP TABLE" }), "numbered 1 to 2357"),
        ("customer_orders", json!({ "customer_id": "17", "limit": 101 }), "from 1 to 100"),
        (
            "customer_orders",
            json!({ "customer_id": "17", "name": "x" }),
            "takes customer_id, from, to, limit",
        ),
        ("repeat_rate", json!({ "cohort": "1997-04" }), "1997-01, 1997-02, 1997-03"),
        ("repeat_rate", json!({ "cohort": "1997-13" }), "1997-01, 1997-02, 1997-03"),
        ("repeat_rate", json!({ "cohort": "1997-01-01" }), "1997-01, 1997-02, 1997-03"),
        ("repeat_rate", json!({ "cohort": 1 }), "1997-01, 1997-02, 1997-03"),
        ("repeat_rate", json!({ "until": "1998-01-01" }), "takes cohort"),
    ];
    for (tool, arguments, said) in cases {
        let sentence = client.refusal(tool, &arguments);
        assert!(sentence.starts_with("Bad arguments: "), "{sentence}");
        assert!(sentence.contains(said), "{said} in: {sentence}");
        assert!(sentence.len() < 400, "a sentence, not a page: {sentence}");
    }
    client.answer("repeat_rate", &json!({}));
}

#[test]
fn a_day_without_orders_is_zeros_and_not_an_error() {
    let mut client = Client::connect();
    let day = json!({ "from": "1998-04-13", "to": "1998-04-13" });
    let (text, figures) = client.answer("sales_summary", &day);
    assert_eq!((&figures["orders"], &figures["revenue_usd"]), (&json!(0), &json!("0.00")));
    assert!(
        text.contains("were $0.00 (0 orders, 0 CDs, 0 customers)") && !text.contains("records cover"),
        "{text}"
    );
    let (text, figures) = client.answer("top_customers", &day);
    assert_eq!((&figures["customers"], &figures["customers_in_period"]), (&json!([]), &json!(0)));
    assert!(text.starts_with("No customer bought anything"), "{text}");
}

#[test]
fn a_period_outside_the_records_says_what_they_cover() {
    let mut client = Client::connect();
    for period in [
        json!({ "from": "2031-01-01", "to": "2031-12-31" }),
        json!({ "from": "1996-12-31", "to": "1997-01-01" }),
        json!({ "from": "1998-06-30", "to": "1998-07-01" }),
    ] {
        for tool in ["sales_summary", "top_customers"] {
            let (text, _) = client.answer(tool, &period);
            assert!(text.ends_with("The records cover 1997-01-01 to 1998-06-30 only."), "{text}");
        }
    }
}
