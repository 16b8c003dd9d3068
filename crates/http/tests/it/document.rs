//! The OpenAPI document against the core's table of roles, and against the server itself.

use std::collections::BTreeSet;

use awooop_core::role::{OPERATIONS, Role, is_allowed};
use serde_json::{Value, json};

use crate::api::{Api, request};

fn document() -> Value {
    awooop_core::json::to_value(&awooop_http::openapi())
}

/// Method, path, operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().clone();
        let path = path.clone();
        methods.into_iter().map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
    };
    paths.iter().flat_map(of_path).collect()
}

fn needs_key(operation: &Value) -> bool {
    operation["security"].as_array().unwrap().iter().any(|s| s.get("bearer").is_some())
}

#[test]
fn each_operation_that_needs_a_key_has_a_row_in_the_table_of_roles_and_each_row_an_operation() {
    let document = document();
    let listed: BTreeSet<String> = operations(&document)
        .iter()
        .filter(|(_, _, operation)| needs_key(operation))
        .map(|(_, _, operation)| operation["operationId"].as_str().unwrap().to_owned())
        .collect();
    let rows: BTreeSet<String> = OPERATIONS.iter().map(|(id, _, _)| (*id).to_owned()).collect();
    assert_eq!(listed, rows);
    for row in &rows {
        assert!(is_allowed(Role::Admin, row));
    }
}

#[test]
fn the_document_is_openapi_3_1_with_two_ways_in_and_no_dangling_reference() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let scheme = &document["components"]["securitySchemes"]["bearer"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&json!("http"), &json!("bearer")));
    let scheme = &document["components"]["securitySchemes"]["person"];
    assert_eq!((&scheme["scheme"], &scheme["bearerFormat"]), (&json!("bearer"), &json!("JWT")));
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1) {
        let reference = reference.split('"').next().unwrap();
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn each_operation_says_who_may_call_it_as_the_table_has_it() {
    let document = document();
    for (method, path, operation) in operations(&document).into_iter().filter(|(_, _, o)| needs_key(o)) {
        let id = operation["operationId"].as_str().unwrap();
        let (_, scope, _) = OPERATIONS.iter().find(|(row, _, _)| *row == id).unwrap();
        let allowed: Vec<&str> =
            Role::ALL.into_iter().filter(|role| is_allowed(*role, id)).map(Role::as_str).collect();
        let mut said: Vec<&str> =
            operation["x-awooop-roles"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
        said.sort_by_key(|said| Role::ALL.iter().position(|role| role.as_str() == *said));
        assert_eq!(said, allowed, "{method} {path}");
        assert_eq!(operation["x-awooop-scope"], *scope, "{method} {path}");
        assert!(operation["description"].as_str().unwrap().contains(&format!("Scope: {scope}.")));
        assert_eq!(operation["security"], json!([{"bearer": []}, {"person": []}]), "{method} {path}");
    }
}

/// What is refused before it is known what is asked.
const OF_THE_EDGE: [&str; 2] = ["414", "431"];

#[test]
fn every_refusal_is_documented_as_a_problem() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        let responses = operation["responses"].as_object().unwrap();
        let mut expected = OF_THE_EDGE.to_vec();
        if needs_key(&operation) {
            expected.extend(["400", "401", "403", "429", "503"]);
        }
        if operation.get("requestBody").is_some() {
            expected.extend(["413"]);
        }
        if path.contains('{') {
            expected.push("404");
        }
        for status in expected {
            assert!(responses.contains_key(status), "{method} {path} {status}");
        }
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            let is_message = path.starts_with("/mcp") && !OF_THE_EDGE.contains(&status.as_str());
            let media = if is_message { "application/json" } else { "application/problem+json" };
            assert!(response["content"].get(media).is_some(), "{method} {path} {status}: {response}");
        }
    }
}

#[test]
fn no_header_path_or_query_value_can_be_null() {
    for (method, path, operation) in operations(&document()) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["schema"]["type"].is_string(), "{method} {path} {parameter}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_that_needs_a_key_answers_without_one() {
    let api = Api::new().await;
    let document = document();
    for (method, path, operation) in operations(&document) {
        let path = path
            .replace("{run_id}", "00000000-0000-7000-8000-000000000000")
            .replace("{key_id}", "000000000000");
        if needs_key(&operation) {
            let answer = api.send(request(&method, &path, "", &[], Some(&json!({})))).await;
            assert_eq!(answer.status, 401, "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_as_it_is() {
    let api = Api::new().await;
    let answer = api.get("", "/openapi.json").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.json(), document());
}
