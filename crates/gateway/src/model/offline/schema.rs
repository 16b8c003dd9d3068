//! A tool's arguments as its schema describes them: what kind of thing each one wants.
//!
//! The role of an argument is found by trying: a schema whose pattern takes `1997-03` and refuses
//! `1997-03-05` wants a month. Only where type, format, enum and pattern say nothing do the words of the
//! name and description decide. A schema that cannot be compiled accepts everything; gate 4 has the last
//! word in any case.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::words::{self, stem, terms};

/// What an argument wants.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Role {
    /// The first day of a period.
    From,
    /// The last day of a period.
    To,
    /// A single day.
    Day,
    /// A month, `YYYY-MM`.
    Month,
    /// A year, quarter or month as a number.
    CalendarNumber(&'static str),
    /// One of these values.
    Choice(Vec<Value>),
    /// How many of something to return.
    Count,
    /// Some other number.
    Number,
    /// Yes or no.
    Flag,
    /// The id of something; the nouns that may stand before it, in small letters.
    Id(BTreeSet<String>),
    /// Words.
    Text,
    /// Nothing that words can fill.
    Other,
}

/// One argument.
#[derive(Debug)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) schema: Value,
    pub(super) is_required: bool,
    pub(super) role: Role,
    validator: Option<jsonschema::Validator>,
}

impl Property {
    /// Would the schema take this value?
    pub(super) fn accepts(&self, value: &Value) -> bool {
        self.validator.as_ref().is_none_or(|validator| validator.is_valid(value))
    }

    /// Text or number, whichever the schema takes.
    pub(super) fn admit(&self, text: &str) -> Option<Value> {
        let number = text.parse::<i64>().ok().map(|n| json!(n));
        [Some(json!(text)), number].into_iter().flatten().find(|value| self.accepts(value))
    }
}

/// The arguments of an input schema, in the schema's order.
pub(super) fn properties(input_schema: &Value) -> Vec<Property> {
    let required: Vec<&str> =
        input_schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(properties) = input_schema["properties"].as_object() else { return Vec::new() };
    properties
        .iter()
        .map(|(name, schema)| {
            property(name, resolve(schema, input_schema), required.contains(&name.as_str()))
        })
        .collect()
}

fn property(name: &str, schema: Value, is_required: bool) -> Property {
    let description = ["title", "description"]
        .iter()
        .filter_map(|key| schema[*key].as_str())
        .collect::<Vec<_>>()
        .join(". ");
    let validator = jsonschema::validator_for(&schema).ok();
    let mut property =
        Property { name: name.to_owned(), description, schema, is_required, role: Role::Other, validator };
    property.role = role(&property);
    property
}

/// Follows a local `$ref`, and takes the one branch of `anyOf`/`oneOf` that is not null.
fn resolve(schema: &Value, root: &Value) -> Value {
    let mut schema = schema.clone();
    for _ in 0..4 {
        let next = if let Some(pointer) = schema["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
            root.pointer(pointer).cloned()
        } else {
            let branches = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
            let real: Vec<&Value> =
                branches.into_iter().flatten().filter(|branch| branch["type"] != "null").collect();
            if let [one] = real.as_slice() { Some((*one).clone()) } else { None }
        };
        let Some(mut next) = next else { break };
        for key in ["description", "title", "default", "examples"] {
            if !schema[key].is_null() && next.is_object() {
                next[key] = schema[key].clone();
            }
        }
        schema = next;
    }
    schema
}

fn has_type(schema: &Value, wanted: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == wanted,
        Value::Array(several) => several.iter().any(|one| one == wanted),
        _ => false,
    }
}

fn choices(schema: &Value) -> Vec<Value> {
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().filter(|value| !value.is_null()).cloned().collect();
    }
    let branches = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    let constants: Vec<Value> =
        branches.into_iter().flatten().filter_map(|branch| branch.get("const").cloned()).collect();
    constants
}

fn role(property: &Property) -> Role {
    let schema = &property.schema;
    let named = terms(&property.name);
    let choices = choices(schema);
    if !choices.is_empty() {
        return Role::Choice(choices);
    }
    let is_text = has_type(schema, "string");
    if has_type(schema, "boolean") {
        return Role::Flag;
    }
    if !is_text && (has_type(schema, "integer") || has_type(schema, "number")) {
        return number_role(property, &named);
    }
    if !is_text {
        return Role::Other;
    }
    if let Some(role) = calendar_role(property, &named) {
        return role;
    }
    let nouns = id_nouns(property);
    if is_id(property) && !nouns.is_empty() { Role::Id(nouns) } else { Role::Text }
}

fn number_role(property: &Property, named: &BTreeSet<String>) -> Role {
    const COUNTS: &[&str] =
        &["limit", "top", "count", "max", "maximum", "n", "siz", "size", "row", "result", "number", "num"];
    for unit in ["year", "quarter", "month"] {
        if named.contains(unit) {
            return Role::CalendarNumber(unit);
        }
    }
    if is_id(property) {
        let nouns = id_nouns(property);
        if !nouns.is_empty() {
            return Role::Id(nouns);
        }
    }
    if named.iter().any(|term| COUNTS.contains(&term.as_str())) { Role::Count } else { Role::Number }
}

fn calendar_role(property: &Property, named: &BTreeSet<String>) -> Option<Role> {
    let has_pattern = property.schema["pattern"].is_string();
    let format = property.schema["format"].as_str().unwrap_or_default();
    let takes = |text: &str| property.accepts(&json!(text));
    let says = |text: &str| property.description.contains(text);
    let is_day = match (format, has_pattern) {
        ("date" | "date-time", _) => true,
        (_, true) => takes("1997-03-05") && !takes("x1") && !takes("17"),
        _ => says("YYYY-MM-DD") || named.contains("dat") || named.contains("date"),
    };
    if !is_day {
        let is_month = if has_pattern {
            takes("1997-03") && !takes("1997-03-05") && !takes("x1")
        } else {
            says("YYYY-MM")
        };
        return is_month.then_some(Role::Month);
    }
    const FROM: &[&str] =
        &["from", "start", "since", "begin", "after", "earliest", "first", "開始", "起始", "起日"];
    const TO: &[&str] =
        &["to", "end", "until", "till", "before", "latest", "last", "結束", "截止", "迄日", "through"];
    let words_of = |text: &str| {
        let found = words::tokens(&text.replace('_', " "));
        let mut all: BTreeSet<String> = found.iter().map(|token| stem(&token.low)).collect();
        all.extend(terms(text));
        all
    };
    let side = |text: &str| {
        let all = words_of(text);
        let hit = |list: &[&str]| list.iter().filter(|word| all.contains(&stem(word))).count();
        match (hit(FROM), hit(TO)) {
            (a, b) if a > b => Some(Role::From),
            (a, b) if b > a => Some(Role::To),
            _ => None,
        }
    };
    side(&property.name).or_else(|| side(&property.description)).or(Some(Role::Day))
}

const ID_WORDS: &[&str] =
    &["id", "ids", "number", "no", "num", "code", "key", "identifier", "ref", "reference"];
const ID_HAN: &[&str] = &["編號", "代號", "號碼", "代碼", "單號"];

fn is_id(property: &Property) -> bool {
    let name_words = name_words(&property.name);
    name_words
        .iter()
        .any(|word| ID_WORDS[..3].contains(&word.as_str()) || ID_WORDS[5..].contains(&word.as_str()))
        && name_words.last().is_some_and(|word| ID_WORDS.contains(&word.as_str()))
        || ID_HAN.iter().any(|word| property.description.contains(word))
        || terms(&property.description).contains("identifier")
}

fn name_words(name: &str) -> Vec<String> {
    let mut split = String::new();
    let mut before = ' ';
    for c in name.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            split.push(' ');
        }
        split.push(c);
        before = c;
    }
    words::tokens(&split)
        .into_iter()
        .filter(|token| token.kind != words::Kind::Mark)
        .map(|token| token.low)
        .collect()
}

/// The nouns an id may follow: from the name, and from the words before `id` or 編號 in the description.
fn id_nouns(property: &Property) -> BTreeSet<String> {
    let is_noun = |word: &String| word.len() > 1 && !ID_WORDS.contains(&word.as_str());
    let mut nouns: BTreeSet<String> = name_words(&property.name).into_iter().filter(is_noun).collect();
    let described = words::tokens(&property.description);
    let plain: Vec<&words::Token> =
        described.iter().filter(|token| !["'", "s", "’"].contains(&token.low.as_str())).collect();
    for pair in plain.windows(2) {
        if pair[0].kind == words::Kind::Word
            && ID_WORDS.contains(&pair[1].low.as_str())
            && !terms(&pair[0].low).is_empty()
        {
            nouns.insert(pair[0].low.clone());
        }
    }
    for mark in ID_HAN {
        for (at, _) in property.description.match_indices(mark) {
            let before: Vec<char> = property.description[..at].chars().rev().take(2).collect();
            if before.len() == 2 && before.iter().all(|c| words::is_han(*c)) {
                nouns.insert(before.into_iter().rev().collect());
            }
        }
    }
    nouns
}
