//! YAML into trees with places, as the core schema of YAML 1.2 reads it: `yes` and `1_000` are text, `0o17`
//! and `0x1f` are numbers, and so is `0b11`, which the parser takes beyond the schema.
//!
//! What JSON has no form for is an error with its line: infinities, keys that are no text, tags of one's own.
//! Aliases cannot blow up, nothing refers to itself, and no key is given twice: the parser's own limits.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{DefaultMessageFormatter, Location, MessageFormatter, Spanned};

use super::node::{Member, Node, Place, Shape};

/// Up to here every whole number is a float of its own.
const WHOLE_MAX: f64 = 9_007_199_254_740_991.0;

/// How many pieces of YAML all aliases together may bring in: far more than a manifest needs, and read at once.
const ALIASED_MAX: usize = 100_000;

/// How many documents a text may hold: more than one request takes, so that its own limit is what a person meets.
const DOCUMENTS_MAX: usize = 4096;

/// The documents of a text, without empty ones.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, (Place, String)> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_documents: DOCUMENTS_MAX },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIASED_MAX },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        (error.location().map_or(Place::START, place), message(error))
    })
}

fn message(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` is given twice")
        }
        serde_saphyr::Error::NonFiniteFloat { .. } => "JSON has no such number".to_owned(),
        other => DefaultMessageFormatter.format_message(other).into_owned(),
    }
}

fn place(at: Location) -> Place {
    Place { line: at.line(), column: at.column() }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: shape, defined, .. } = Spanned::deserialize(deserializer)?;
        Ok(Node { place: place(defined), shape })
    }
}

/// A key of a map.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is text (put it in quotes)")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
        Ok(Key(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something that JSON can say")
    }

    fn visit_unit<E: Error>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Number(value.into()))
    }

    /// The parser reads `0755` and `1e3` as floats; they are whole numbers all the same.
    fn visit_f64<E: Error>(self, value: f64) -> Result<Shape, E> {
        if value.fract() == 0.0 && value.abs() <= WHOLE_MAX {
            return self.visit_i64(value as i64);
        }
        Number::from_f64(value).map(Shape::Number).ok_or_else(|| E::custom("JSON has no such number"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Shape::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        let mut members = Vec::new();
        while let Some(Spanned { value: Key(key), defined, .. }) = entries.next_key()? {
            members.push(Member { key, place: place(defined), value: entries.next_value()? });
        }
        Ok(Shape::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = parse(text).unwrap();
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    fn lines(document: &Node, pointers: &[(&str, u64)]) {
        for (pointer, line) in pointers {
            assert_eq!(document.place_of(pointer).line, *line, "{pointer}");
        }
    }

    #[test]
    fn a_member_stands_where_its_key_does_and_what_is_absent_where_it_would_be() {
        let text = "# a comment\nkind: agent\nspec:\n  grants:\n    - tool: a__b\n    - {tool: c}\n  a/b: |\n    x\n";
        let document = one(text);
        lines(
            &document,
            &[
                ("", 2),
                ("/kind", 2),
                ("/spec", 3),
                ("/spec/grants", 4),
                ("/spec/grants/0", 5),
                ("/spec/grants/1/tool", 6),
                ("/spec/grants/2", 4),
                ("/spec/a~1b", 7),
                ("/spec/model", 3),
                ("/spec/model/deeper", 3),
                ("/absent", 2),
                ("/kind/0", 2),
            ],
        );
        assert_eq!(document.place_of("/spec/grants/1/tool"), Place { line: 6, column: 8 });
    }

    #[test]
    fn what_an_alias_or_a_merge_brings_in_stands_where_it_was_written() {
        let text = "base: &b\n  x: 1\n  y: 2\nspec:\n  <<: *b\n  y: 3\nlist: [*b]\n";
        let document = one(text);
        assert_eq!(document.to_json()["spec"], json!({"x": 1, "y": 3}));
        lines(&document, &[("/spec/x", 2), ("/spec/y", 6), ("/list", 7), ("/list/0/y", 3)]);
    }

    #[test]
    fn scalars_are_those_of_yaml_1_2() {
        let check = |text: &str, expected: Value| {
            assert_eq!(one(&format!("v: {text}\n")).to_json()["v"], expected, "{text}");
        };
        for text in
            ["yes", "on", "No", "1_000", "12:30:45", "2001-01-01", "=", "nan", "0o8", "'1'", "\"true\""]
        {
            check(text, text.trim_matches(['\'', '"']).into());
        }
        check("TRUE", true.into());
        check("~", Value::Null);
        check("", Value::Null);
        check("0o17", 15.into());
        check("0x1f", 31.into());
        check("0755", 755.into());
        check("+5", 5.into());
        check("1e3", 1000.into());
        check("-.5", json!(-0.5));
        check("18446744073709551615", u64::MAX.into());
        check("!!str 1", "1".into());
        check("\"\\ud83d\\ude00\"", "😀".into());
    }

    #[test]
    fn what_json_cannot_say_is_an_error_with_its_line() {
        let check = |text: &str, line: u64, expected: &str| {
            let (place, message) = parse(text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
            assert_eq!(place.line, line, "{text}");
        };
        check("a: 1\nb: .nan\n", 2, "JSON has no such number");
        check("a: 1\nb: -.inf\n", 2, "JSON has no such number");
        check("a:\n  b: 1e999\n", 2, "JSON has no such number");
        check("a:\n  1: x\n", 2, "a key that is text");
        check("a:\n  true: x\n", 2, "a key that is text");
        check("a:\n  ~: x\n", 2, "a key that is text");
        check("a:\n  [1, 2]: x\n", 2, "a key that is text");
        check("a: 1\nb: !mine x\n", 2, "unsupported tag");
        check("a: 1\nb: !!set {x, y}\n", 2, "unsupported tag");
        check("a: 1\nb: !!timestamp 2001-01-01\n", 2, "tagged scalar");
        check("kind: agent\nkind: project\n", 2, "the key `kind` is given twice");
        check("a: &x [*x]\n", 1, "recursive");
        check("a: 1\nb: [1, 2\nc: 3\n", 3, "");
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let before = format!("*a{}", i - 1);
            text.push_str(&format!("a{i}: &a{i} [{}]\n", vec![before; 10].join(", ")));
        }
        assert!(parse(&text).is_err());
    }
}
