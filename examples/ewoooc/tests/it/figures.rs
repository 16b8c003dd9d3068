//! The tools' figures against the figures of `facts`.

use serde_json::{Value, json};

use crate::client::Client;
use crate::facts;

/// One period's total, in figures and in the text.
fn check_sales(client: &mut Client, from: &str, to: &str) {
    let rows = facts::rows_of(from, to);
    let (cents, usd) = facts::paid(&rows);
    let (text, figures) = client.answer("sales_summary", &json!({ "from": from, "to": to }));
    assert_eq!(
        figures,
        json!({
            "from": from, "to": to, "group_by": "none", "groups": [],
            "orders": rows.len(), "customers": facts::customers(&rows), "cds": facts::cds(&rows),
            "revenue_cents": cents, "revenue_usd": usd,
        })
    );
    for said in [from, to, &usd] {
        assert!(text.replace(',', "").contains(said), "{said} in: {text}");
    }
}

#[test]
fn sales_of_many_periods_are_those_of_the_file() {
    let mut client = Client::connect();
    for (from, to) in [
        ("1997-01-01", "1998-06-30"),
        ("1997-03-01", "1997-03-31"),
        ("1997-01-01", "1997-12-31"),
        ("1998-01-01", "1998-06-30"),
        ("1997-10-01", "1997-12-31"),
        ("1997-02-28", "1997-02-28"),
        ("1997-12-31", "1998-01-01"),
        ("1998-06-30", "1998-06-30"),
        ("1998-04-13", "1998-04-13"),
        ("1996-01-01", "1997-01-01"),
        ("2031-01-01", "2032-01-01"),
        ("0001-01-01", "9999-12-31"),
    ] {
        check_sales(&mut client, from, to);
    }
}

#[test]
fn the_known_totals_of_the_file_are_said() {
    // Fixed numbers, so that a mistake shared by both paths would show as well.
    let mut client = Client::connect();
    let (text, figures) = client.answer("sales_summary", &json!({}));
    assert_eq!((&figures["orders"], &figures["customers"]), (&json!(6919), &json!(2357)));
    assert!(text.contains("6,919 orders") && text.contains("2,357 customers"), "{text}");
    assert!(text.starts_with("Sales from 1997-01-01 to 1998-06-30"), "{text}");
}

#[test]
fn groups_are_complete_in_order_and_add_up() {
    let mut client = Client::connect();
    for (group_by, from, to, labels) in [
        ("month", "1997-11-15", "1998-02-10", vec!["1997-11", "1997-12", "1998-01", "1998-02"]),
        ("quarter", "1997-01-01", "1997-12-31", vec!["1997-Q1", "1997-Q2", "1997-Q3", "1997-Q4"]),
        ("year", "1997-01-01", "1998-06-30", vec!["1997", "1998"]),
        ("month", "1996-06-01", "1997-01-31", vec!["1997-01"]),
        ("month", "2031-01-01", "2032-01-01", vec![]),
        ("month", "1998-04-13", "1998-04-13", vec!["1998-04"]),
    ] {
        let asked = json!({ "from": from, "to": to, "group_by": group_by });
        let (_, figures) = client.answer("sales_summary", &asked);
        let groups = figures["groups"].as_array().expect("groups");
        let shown: Vec<&str> = groups.iter().filter_map(|group| group["period"].as_str()).collect();
        assert_eq!(shown, labels, "{asked}");
        for column in ["orders", "cds", "revenue_cents"] {
            let sum: u64 = groups.iter().filter_map(|group| group[column].as_u64()).sum();
            assert_eq!(figures[column], sum, "{column} of {asked}");
        }
    }
}

#[test]
fn each_quarter_is_the_sales_of_its_three_months() {
    let mut client = Client::connect();
    let (text, figures) = client.answer("sales_summary", &json!({ "group_by": "quarter" }));
    let quarters = [
        ("1997-Q1", "1997-01-01", "1997-03-31"),
        ("1997-Q2", "1997-04-01", "1997-06-30"),
        ("1997-Q3", "1997-07-01", "1997-09-30"),
        ("1997-Q4", "1997-10-01", "1997-12-31"),
        ("1998-Q1", "1998-01-01", "1998-03-31"),
        ("1998-Q2", "1998-04-01", "1998-06-30"),
    ];
    for (index, (label, from, to)) in quarters.into_iter().enumerate() {
        let rows = facts::rows_of(from, to);
        let (cents, usd) = facts::paid(&rows);
        assert_eq!(
            figures["groups"][index],
            json!({
                "period": label, "orders": rows.len(), "customers": facts::customers(&rows),
                "cds": facts::cds(&rows), "revenue_cents": cents, "revenue_usd": usd,
            })
        );
        assert!(text.contains(&format!("\n{label}: $")), "{text}");
    }
}

fn check_ranking(client: &mut Client, arguments: &Value, column: &str, expected: &[(String, u64)]) {
    let (text, figures) = client.answer("top_customers", arguments);
    let listed = figures["customers"].as_array().expect("customers");
    assert_eq!(listed.len(), expected.len(), "{arguments}");
    for (index, (row, (customer, measure))) in listed.iter().zip(expected).enumerate() {
        assert_eq!(row["rank"], index + 1);
        assert_eq!(row["customer_id"], json!(customer), "rank {} of {arguments}", index + 1);
        assert_eq!(row[column], *measure);
        assert!(text.contains(&format!("\n{}. customer {customer}: $", index + 1)), "{text}");
    }
}

#[test]
fn the_best_customers_are_those_of_the_file() {
    let mut client = Client::connect();
    for (from, to, limit) in [
        ("1997-01-01", "1997-12-31", 5),
        ("1997-01-01", "1997-12-31", 3),
        ("1998-01-01", "1998-06-30", 1),
        ("1997-01-01", "1998-06-30", 50),
        ("1997-05-01", "1997-05-31", 10),
        ("1998-04-13", "1998-04-13", 10),
    ] {
        let rows = facts::rows_of(from, to);
        let mut expected = facts::ranking(&rows, |rows| facts::paid(rows).0);
        expected.truncate(limit);
        let arguments = json!({ "from": from, "to": to, "limit": limit });
        check_ranking(&mut client, &arguments, "revenue_cents", &expected);
    }
}

#[test]
fn customers_are_also_ranked_by_orders_and_by_cds() {
    let mut client = Client::connect();
    let rows = facts::rows();
    let mut by_orders = facts::ranking(&rows, |rows| rows.len() as u64);
    by_orders.truncate(20);
    check_ranking(&mut client, &json!({ "by": "orders", "limit": 20 }), "orders", &by_orders);
    let mut by_cds = facts::ranking(&rows, facts::cds);
    by_cds.truncate(10);
    check_ranking(&mut client, &json!({ "by": "cds" }), "cds", &by_cds);
}

#[test]
fn every_order_of_a_customer_is_listed_oldest_first() {
    let mut client = Client::connect();
    for (asked, customer) in [
        (json!("17"), "17"),
        (json!("00017"), "17"),
        (json!(17), "17"),
        (json!("1"), "1"),
        (json!("2357"), "2357"),
        (json!(1901), "1901"),
        (json!("0087"), "87"),
    ] {
        let mut rows: Vec<_> = facts::rows().into_iter().filter(|row| row.customer == customer).collect();
        rows.sort_by_key(|row| row.day);
        let (cents, usd) = facts::paid(&rows);
        let (text, figures) =
            client.answer("customer_orders", &json!({ "customer_id": asked, "limit": 100 }));
        let listed: Vec<Value> = rows
            .iter()
            .map(|row| {
                let (cents, usd) = (row.paid_cents(), format!("{}.{:02}", row.dollars, row.cents));
                json!({ "date": row.shown_day(), "cds": row.cds, "revenue_cents": cents, "revenue_usd": usd })
            })
            .collect();
        assert_eq!(
            figures,
            json!({
                "customer_id": customer, "from": "1997-01-01", "to": "1998-06-30", "orders": rows.len(),
                "cds": facts::cds(&rows), "revenue_cents": cents, "revenue_usd": usd, "rows": listed,
            })
        );
        assert!(text.starts_with(&format!("Customer {customer} placed ")), "{text}");
        assert_eq!(text.lines().count(), rows.len() + 1, "{text}");
    }
}

#[test]
fn a_cut_list_keeps_the_totals_of_all_orders() {
    let mut client = Client::connect();
    let all = facts::rows().into_iter().filter(|row| row.customer == "1901").count();
    assert!(all > 50, "the busiest customer has more than the default limit");
    let (text, figures) = client.answer("customer_orders", &json!({ "customer_id": "1901" }));
    assert_eq!(figures["orders"], all);
    assert_eq!(figures["rows"].as_array().map(Vec::len), Some(50));
    assert!(text.contains(&format!("{all} orders")) && text.contains("The first 50:"), "{text}");
}

#[test]
fn a_customers_orders_are_cut_to_the_period() {
    let mut client = Client::connect();
    let (from, to) = ("1997-06-01", "1997-12-31");
    let rows: Vec<_> = facts::rows_of(from, to).into_iter().filter(|row| row.customer == "157").collect();
    let (_, figures) =
        client.answer("customer_orders", &json!({ "customer_id": "157", "from": from, "to": to }));
    assert_eq!(figures["orders"], rows.len());
    assert_eq!(figures["revenue_cents"], facts::paid(&rows).0);

    let (text, figures) =
        client.answer("customer_orders", &json!({ "customer_id": "157", "to": "1990-01-01" }));
    assert_eq!((&figures["orders"], &figures["rows"]), (&json!(0), &json!([])));
    assert!(text.contains("0 orders") && text.contains("The records cover"), "{text}");
}

#[test]
fn repeat_rates_are_those_of_the_file() {
    let mut client = Client::connect();
    let (mut customers, mut repeated) = (0, 0);
    for (month, compact, words) in
        [("1997-01", "199701", "January"), ("1997-02", "199702", "February"), ("1997-03", "199703", "March")]
    {
        let (of, again) = facts::cohort(compact);
        (customers, repeated) = (customers + of, repeated + again);
        let (text, figures) = client.answer("repeat_rate", &json!({ "cohort": month }));
        assert_eq!(figures["cohort"], month);
        check_rate(&figures, of, again);
        check_rate(&figures["cohorts"][0], of, again);
        assert!(
            text.contains(&format!("{words} 1997 cohort")) && text.contains(&again.to_string()),
            "{text}"
        );
    }
    let (text, figures) = client.answer("repeat_rate", &json!({}));
    assert_eq!(customers, 2357, "each customer is in one cohort");
    check_rate(&figures, customers, repeated);
    assert_eq!(figures["cohorts"].as_array().map(Vec::len), Some(3));
    assert_eq!(figures["cohort"], Value::Null);
    assert_eq!(text.lines().count(), 4, "{text}");
}

fn check_rate(figures: &Value, customers: u64, repeated: u64) {
    assert_eq!(figures["customers"], customers);
    assert_eq!(figures["repeat_customers"], repeated);
    let percent = figures["repeat_rate_percent"].as_f64().expect("a number");
    let exact = repeated as f64 / customers as f64 * 100.0;
    assert!((percent - exact).abs() <= 0.005 + 1e-9, "{percent} is {exact} to two decimals");
}
