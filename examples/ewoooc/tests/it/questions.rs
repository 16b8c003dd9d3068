//! The sample questions: each must be answerable as written, and its tool the one its words point to.
//!
//! Words are compared here as plainly as possible, without any of the platform's code: if even this finds
//! the right tool, the descriptions tell the tools apart.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::Client;

const STOP_WORDS: [&str; 20] = [
    "a", "an", "and", "by", "did", "do", "for", "from", "how", "i", "in", "is", "of", "on", "the", "to",
    "was", "we", "were", "what",
];

fn questions() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(include_str!("../questions.yaml")).expect("YAML");
    file["questions"].as_array().expect("questions").clone()
}

/// English words of two letters or more without stop words, and every pair of Chinese characters.
fn words(text: &str) -> BTreeSet<String> {
    let is_english = |letter: char| letter.is_ascii_alphanumeric();
    let english = text
        .split(|letter| !is_english(letter))
        .map(|word| word.to_lowercase().trim_end_matches('s').to_owned())
        .filter(|word| word.len() > 1 && !STOP_WORDS.contains(&word.as_str()));
    let letters: Vec<char> = text.chars().collect();
    let pairs = letters
        .windows(2)
        .filter(|pair| pair.iter().all(|letter| ('\u{4e00}'..='\u{9fff}').contains(letter)))
        .map(|pair| pair.iter().collect());
    english.chain(pairs).collect()
}

#[test]
fn there_are_questions_for_every_tool_in_both_languages() {
    let questions = questions();
    assert!(questions.len() >= 14);
    for tool in ["sales_summary", "top_customers", "customer_orders", "repeat_rate"] {
        for language in ["en", "zh-TW"] {
            let some =
                questions.iter().any(|question| question["tool"] == tool && question["language"] == language);
            assert!(some, "{tool} in {language}");
        }
    }
}

#[test]
fn every_question_is_answered_by_its_tool_with_its_arguments() {
    let mut client = Client::connect();
    let tools = client.tools();
    for question in questions() {
        let (asked, name) = (&question["ask"], question["tool"].as_str().expect("a tool"));
        let tool = tools.iter().find(|tool| tool["name"] == name).expect("a tool that exists");
        let schema = jsonschema::validator_for(&tool["inputSchema"]).expect("a schema");
        assert!(schema.is_valid(&question["arguments"]), "{asked}: the schema allows the arguments");
        let (text, figures) = client.answer(name, &question["arguments"]);
        assert!(!text.is_empty() && figures != json!({}), "{asked}");
    }
}

#[test]
fn plain_word_overlap_finds_the_tool_of_every_question() {
    let tools = Client::connect().tools();
    let mut lost = Vec::new();
    for question in questions() {
        let asked = question["ask"].as_str().expect("a question");
        let mut scores: Vec<(usize, &str)> = tools
            .iter()
            .map(|tool| {
                let part = |key: &str| tool[key].as_str().expect("a text");
                let own = words(&format!(
                    "{} {} {}",
                    part("name").replace('_', " "),
                    part("title"),
                    part("description")
                ));
                (words(asked).intersection(&own).count(), part("name"))
            })
            .collect();
        scores.sort_unstable();
        scores.reverse();
        if scores[0].1 != question["tool"] || scores[0].0 == scores[1].0 {
            lost.push(format!("{asked}: {scores:?}"));
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}
