//! The planner on three unrelated domains, none of which its code knows.

use serde_json::{Value, json};

use super::super::{Message, ModelRequest, ToolSpec, schema_feedback};
use super::plan;

fn tool(name: &str, description: &str, properties: Value, required: &[&str]) -> ToolSpec {
    ToolSpec {
        name: name.into(),
        description: description.into(),
        input_schema: json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        }),
    }
}

fn shop() -> Vec<ToolSpec> {
    let day = |description: &str| json!({"type": "string", "format": "date", "description": description});
    let (from, to) = (day("First day, inclusive. 起始日"), day("Last day, inclusive. 結束日"));
    vec![
        tool(
            "shop__sales_summary",
            "Revenue, number of orders and items sold in a period, optionally by month, quarter or year. 期間銷售額、營收、訂單數",
            json!({
                "from": from, "to": to,
                "group_by": {"type": "string", "enum": ["none", "month", "quarter", "year"], "default": "none",
                    "description": "Break down by calendar unit"},
            }),
            &[],
        ),
        tool(
            "shop__top_customers",
            "The best customers of a period, ranked. 客戶排行、前幾名客戶",
            json!({
                "limit": {"type": "integer", "minimum": 1, "maximum": 50, "default": 10, "description": "How many"},
                "from": from, "to": to,
                "by": {"type": "string", "enum": ["revenue", "orders", "cds"], "default": "revenue",
                    "description": "Rank by revenue (money spent, 金額), orders (how often, 訂單數) or cds (discs bought, 張數)"},
            }),
            &[],
        ),
        tool(
            "shop__customer_orders",
            "All orders of one customer. 某位客戶的訂單、買了什麼",
            json!({
                "customer_id": {"type": "string", "description": "The customer's number. 客戶編號"},
                "from": from, "to": to,
                "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
            }),
            &["customer_id"],
        ),
        tool(
            "shop__repeat_rate",
            "Share of new customers of a month who bought again. 回購率",
            json!({"cohort": {"type": "string", "pattern": "^\\d{4}-\\d{2}$", "description": "Month of first purchase. 首購月份"}}),
            &[],
        ),
    ]
}

fn weather() -> Vec<ToolSpec> {
    vec![
        tool(
            "get_forecast",
            "Weather forecast for a city: temperature and rain. 天氣預報、氣溫",
            json!({
                "city": {"type": "string", "description": "Name of the city. 城市"},
                "days": {"type": ["integer", "null"], "minimum": 1, "maximum": 14, "description": "Days ahead"},
                "units": {"enum": ["metric", "imperial"], "default": "metric",
                    "description": "metric (celsius, 攝氏) or imperial (fahrenheit, 華氏)"},
            }),
            &["city"],
        ),
        tool(
            "air_quality",
            "Air pollution measured at a station on a day. 空氣品質",
            json!({
                "station_id": {"type": "string", "pattern": "^ST-[0-9]+$", "description": "Station"},
                "date": {"type": "string", "format": "date"},
            }),
            &["station_id", "date"],
        ),
    ]
}

fn tickets() -> Vec<ToolSpec> {
    vec![
        tool(
            "find_tickets",
            "Search support tickets by status, priority or words in the title. 搜尋工單",
            json!({
                "title": {"type": "string", "description": "Words in the title"},
                "status": {"type": "string", "enum": ["open", "closed", "in_progress"]},
                "created_after": {"type": "string", "format": "date-time"},
                "created_before": {"type": "string", "format": "date-time"},
                "max_results": {"type": "integer"},
                "include_archived": {"type": "boolean"},
            }),
            &[],
        ),
        tool(
            "get_ticket",
            "Everything about a single ticket with its comments. 查看單一工單",
            json!({"id": {"type": "integer", "description": "Ticket number. 工單編號"}}),
            &["id"],
        ),
        tool(
            "assign_ticket",
            "Assign a ticket to a person",
            json!({
                "ticket_id": {"type": "integer"},
                "email": {"type": "string", "format": "email", "description": "The person's address"},
            }),
            &["ticket_id", "email"],
        ),
    ]
}

fn request(tools: Vec<ToolSpec>, question: &str) -> ModelRequest {
    ModelRequest {
        model: "planner".into(),
        messages: vec![Message::System("Answer.".into()), Message::User(question.into())],
        tools,
        output_schema: Some(json!({
            "type": "object", "required": ["answer", "data"],
            "properties": {"answer": {"type": "string"}, "data": {"type": ["object", "null"]}},
        })),
        max_output_tokens: 4096,
        idempotency_key: "r:1".into(),
    }
}

fn calls(tools: Vec<ToolSpec>, question: &str) -> Vec<(String, Value)> {
    let reply = plan(&request(tools, question));
    let calls = reply.tool_calls.iter();
    calls.map(|call| (call.name.clone(), Value::Object(call.parse_arguments().unwrap()))).collect()
}

fn check(tools: fn() -> Vec<ToolSpec>, question: &str, name: &str, arguments: Value) {
    assert_eq!(calls(tools(), question), [(name.to_owned(), arguments)], "{question}");
}

fn says(tools: fn() -> Vec<ToolSpec>, question: &str) -> String {
    let reply = plan(&request(tools(), question));
    assert_eq!(reply.tool_calls, [], "{question}");
    let output: Value = serde_json::from_str(&reply.content.unwrap()).unwrap();
    assert_eq!(output["data"], Value::Null);
    output["answer"].as_str().unwrap().to_owned()
}

#[test]
fn english_questions_about_a_shop_find_their_tool_and_arguments() {
    let march = || json!({"from": "1997-03-01", "to": "1997-03-31"});
    check(shop, "How much revenue did we make in March 1997?", "shop__sales_summary", march());
    check(shop, "How much was sold in March 1997?", "shop__sales_summary", march());
    check(
        shop,
        "Revenue by month for 1997",
        "shop__sales_summary",
        json!({"from": "1997-01-01", "to": "1997-12-31", "group_by": "month"}),
    );
    check(
        shop,
        "quarterly sales between January and June 1997, please",
        "shop__sales_summary",
        json!({"from": "1997-01-01", "to": "1997-06-30", "group_by": "quarter"}),
    );
    check(shop, "Total sales", "shop__sales_summary", json!({}));
    check(shop, "Total sales since 1998-02-01", "shop__sales_summary", json!({"from": "1998-02-01"}));
    check(shop, "Who are the top 5 customers?", "shop__top_customers", json!({"limit": 5}));
    check(
        shop,
        "top ten customers by orders in Q2 1997",
        "shop__top_customers",
        json!({"limit": 10, "by": "orders", "from": "1997-04-01", "to": "1997-06-30"}),
    );
    check(shop, "our 3 best customers", "shop__top_customers", json!({"limit": 3}));
    check(shop, "Orders of customer 17", "shop__customer_orders", json!({"customer_id": "17"}));
    check(
        shop,
        "show customer #0017's last 5 orders in 1997",
        "shop__customer_orders",
        json!({"customer_id": "0017", "limit": 5, "from": "1997-01-01", "to": "1997-12-31"}),
    );
    check(shop, "How much did customer 1997 spend?", "shop__customer_orders", json!({"customer_id": "1997"}));
    check(
        shop,
        "Which share of the March 1997 cohort bought again?",
        "shop__repeat_rate",
        json!({"cohort": "1997-03"}),
    );
    check(shop, "repeat rate", "shop__repeat_rate", json!({}));
    check(
        shop,
        "top customers 1997",
        "shop__top_customers",
        json!({"from": "1997-01-01", "to": "1997-12-31"}),
    );
}

#[test]
fn chinese_questions_about_a_shop_find_their_tool_and_arguments() {
    check(
        shop,
        "1997年3月的營收是多少？",
        "shop__sales_summary",
        json!({"from": "1997-03-01", "to": "1997-03-31"}),
    );
    check(
        shop,
        "1997年上半年每月銷售額",
        "shop__sales_summary",
        json!({"from": "1997-01-01", "to": "1997-06-30", "group_by": "month"}),
    );
    check(
        shop,
        "1997年前三名客戶是誰？",
        "shop__top_customers",
        json!({"limit": 3, "from": "1997-01-01", "to": "1997-12-31"}),
    );
    check(shop, "前10名客戶，依訂單數", "shop__top_customers", json!({"limit": 10, "by": "orders"}));
    check(shop, "客戶 17 買了什麼？", "shop__customer_orders", json!({"customer_id": "17"}));
    check(shop, "請列出17號客戶的訂單", "shop__customer_orders", json!({"customer_id": "17"}));
    check(
        shop,
        "客戶編號１７在1998年第一季的訂單",
        "shop__customer_orders",
        json!({"customer_id": "１７", "from": "1998-01-01", "to": "1998-03-31"}),
    );
    check(shop, "1997年2月的回購率", "shop__repeat_rate", json!({"cohort": "1997-02"}));
}

#[test]
fn the_same_code_serves_other_domains() {
    check(
        weather,
        "What will the weather be in San Francisco?",
        "get_forecast",
        json!({"city": "San Francisco"}),
    );
    check(
        weather,
        "Forecast for Lima, next 3 days in fahrenheit",
        "get_forecast",
        json!({"city": "Lima", "days": 3, "units": "imperial"}),
    );
    check(weather, "台北的天氣如何？", "get_forecast", json!({"city": "台北"}));
    check(
        weather,
        "air pollution at station ST-12 on 5 March 2024",
        "air_quality",
        json!({"station_id": "ST-12", "date": "2024-03-05"}),
    );
    check(tickets, "Show ticket #42 with its comments", "get_ticket", json!({"id": 42}));
    check(tickets, "查看工單 42", "get_ticket", json!({"id": 42}));
    check(
        tickets,
        "find open tickets with \"disk full\" in the title, created after 2024-03-01",
        "find_tickets",
        json!({"title": "disk full", "status": "open", "created_after": "2024-03-02T00:00:00Z"}),
    );
    check(
        tickets,
        "search tickets in progress, 20 results, without archived",
        "find_tickets",
        json!({"status": "in_progress", "max_results": 20, "include_archived": false}),
    );
    check(
        tickets,
        "Assign ticket 7 to ann@example.org.",
        "assign_ticket",
        json!({"ticket_id": 7, "email": "ann@example.org"}),
    );
}

#[test]
fn a_missing_required_argument_is_asked_for_by_name_and_description() {
    let text = says(shop, "Show me the orders of a customer");
    assert!(text.contains("customer_id") && text.contains("The customer's number"), "{text}");
    let text = says(shop, "某位客戶買了什麼？");
    assert!(text.contains("customer_id") && text.contains("還需要"), "{text}");
    let text = says(weather, "How is the air quality at station ST-3?");
    assert!(text.contains("- date") && !text.contains("station_id"), "{text}");
}

#[test]
fn a_period_that_cannot_be_known_is_asked_for() {
    assert!(says(shop, "sales last month").contains("calendar of today"));
    assert!(says(shop, "sales in March").contains("Which year"));
    assert!(says(shop, "去年的營收").contains("不知道今天"));
    assert!(says(shop, "sales on 3/5/1997").contains("two ways"));
}

#[test]
fn without_a_fitting_tool_it_says_what_it_is_and_what_it_can_do() {
    for question in
        ["Write me a poem about the sea", "", "???", "17", "the of and", "\u{0}\u{202e}", "🦀🦀🦀"]
    {
        let text = says(shop, question);
        assert!(text.contains("not a language model") && text.contains("shop__top_customers"), "{text}");
    }
    assert!(says(shop, "寫一首關於海的詩").contains("不是語言模型"));
    assert!(says(Vec::new, "sales in 1997").contains("I may use no tool here"));
}

#[test]
fn nonsense_schemas_and_huge_questions_do_no_harm() {
    let odd = || {
        vec![
            ToolSpec { name: String::new(), description: String::new(), input_schema: Value::Null },
            tool(
                "count",
                "Counts sheep",
                json!({"n": {"$ref": "#/nowhere"}, "p": {"pattern": "("}, "q": 7}),
                &["q"],
            ),
            tool("loop", "Loops", json!({"a": {"$ref": "#/properties/a"}}), &[]),
        ]
    };
    for question in [
        "count sheep 5",
        "loop a",
        &"count ".repeat(2000),
        &"三".repeat(5000),
        &"1-".repeat(5000),
        &"\"".repeat(5000),
        &"customer 1".repeat(1000),
    ] {
        plan(&request(odd(), question));
    }
}

#[test]
fn two_requests_joined_by_and_become_two_calls() {
    let found = calls(shop(), "The sales in March 1997 and the top 3 customers");
    let march = json!({"from": "1997-03-01", "to": "1997-03-31"});
    assert_eq!(found[0], ("shop__sales_summary".to_owned(), march.clone()));
    let mut top = march;
    top["limit"] = json!(3);
    assert_eq!(found[1], ("shop__top_customers".to_owned(), top), "the period is taken over");
    let found = calls(shop(), "Compare the sales of March 1997 and March 1998");
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[1].1["from"], "1998-03-01");
}

fn with_results(results: &[(&str, Option<Value>, bool)]) -> ModelRequest {
    let mut request = request(shop(), "Total sales");
    let calls = plan(&request).tool_calls;
    request.messages.push(Message::Assistant { content: None, tool_calls: calls });
    for (text, structured, is_error) in results {
        request.messages.push(Message::Tool {
            call_id: "call_1".into(),
            name: "shop__sales_summary".into(),
            text: (*text).into(),
            structured: structured.clone(),
            is_error: *is_error,
        });
    }
    request
}

fn output(request: &ModelRequest) -> Value {
    let reply = plan(request);
    assert_eq!(reply.tool_calls, []);
    serde_json::from_str(&reply.content.unwrap()).unwrap()
}

#[test]
fn the_answer_is_the_tools_text_and_the_data_its_structured_content() {
    let one = with_results(&[("Sold 3.", Some(json!({"n": 3})), false)]);
    assert_eq!(output(&one), json!({"answer": "Sold 3.", "data": {"n": 3}}));
    let two = with_results(&[("A", Some(json!({"n": 1})), false), ("B", Some(json!({"n": 2})), false)]);
    assert_eq!(output(&two), json!({"answer": "A\n\nB", "data": {"n": 2}}));
    let text_only = with_results(&[("Sold 3.", None, false)]);
    assert_eq!(output(&text_only), json!({"answer": "Sold 3.", "data": null}));
}

#[test]
fn a_refused_call_is_told_with_its_reason_and_without_data() {
    let refused = with_results(&[("E-MCP-GATE-006 limit is over 50", Some(json!({"x": 1})), true)]);
    let output = output(&refused);
    assert!(output["answer"].as_str().unwrap().contains("E-MCP-GATE-006 limit is over 50"));
    assert_eq!(output["data"], Value::Null);
}

#[test]
fn a_demand_to_mend_the_answer_is_answered_from_the_same_results() {
    let mut request = with_results(&[("Sold 3.", Some(json!({"n": 3})), false)]);
    request.messages.push(Message::Assistant { content: Some("bad".into()), tool_calls: vec![] });
    request.messages.push(schema_feedback(&[]));
    assert_eq!(output(&request)["answer"], "Sold 3.");
    request.messages.push(Message::Assistant { content: Some("{}".into()), tool_calls: vec![] });
    request.messages.push(Message::User("And the top 2 customers?".into()));
    let next = plan(&request);
    assert_eq!(next.tool_calls[0].name, "shop__top_customers");
    assert_eq!(next.tool_calls[0].id, "call_2", "ids are unique in the conversation");
}

#[test]
fn other_output_schemas_are_filled_by_name_and_type_only() {
    let mut request = with_results(&[("Sold 3.", Some(json!({"n": 3, "extra": true})), false)]);
    request.output_schema = None;
    assert_eq!(plan(&request).content.unwrap(), "Sold 3.");
    request.output_schema = Some(json!({
        "type": "object", "additionalProperties": false, "required": ["n", "summary", "ratio"],
        "properties": {"n": {"type": "integer"}, "summary": {"type": "string"}, "ratio": {"type": "number"}},
    }));
    assert_eq!(output(&request), json!({"n": 3, "summary": "Sold 3."}), "no number is made up");
    request.output_schema = Some(json!({"type": "string"}));
    assert_eq!(output(&request), json!("Sold 3."));
}

#[test]
fn the_same_request_gives_the_same_reply_and_usage() {
    let request = request(shop(), "top 5 customers");
    let reply = plan(&request);
    assert_eq!(reply, plan(&request));
    let bytes = serde_json::to_vec(&request).unwrap().len() as u64;
    assert_eq!(reply.usage.input_tokens, bytes.div_ceil(4));
    assert!(reply.usage.is_estimated && reply.usage.output_tokens > 0);
}

#[test]
fn a_question_given_as_a_json_object_is_read() {
    check(
        shop,
        r#"{"question": "top 5 customers", "lang": "en"}"#,
        "shop__top_customers",
        json!({"limit": 5}),
    );
}
