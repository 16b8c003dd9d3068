//! JSON into trees with places. Whether a text is JSON is decided by `serde_json`, strictly; then a scanner
//! goes over it again and notes where things stand. It may rely on the text being JSON, at most 128 deep.
//! A key given twice is an error, as in YAML: one of the two values would be lost.

use std::collections::HashSet;

use serde_json::Value;

use super::node::{Member, Node, Place, Shape};

/// The one document of a text.
pub(super) fn parse(text: &str) -> Result<Node, (Place, String)> {
    serde_json::from_str::<Value>(text).map_err(|e| {
        let reason = e.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
        (Place { line: e.line() as u64, column: e.column() as u64 }, reason)
    })?;
    Scanner { rest: text, place: Place::START }.value()
}

/// What is left of the text, and where that begins.
struct Scanner<'t> {
    rest: &'t str,
    place: Place,
}

impl<'t> Scanner<'t> {
    /// Goes on by this many bytes, which end at a character's end.
    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(bytes);
        for c in taken.chars() {
            match c {
                '\n' => self.place = Place { line: self.place.line + 1, column: 1 },
                _ => self.place.column += 1,
            }
        }
        self.rest = rest;
        taken
    }

    /// The next character that is no white space; the text is JSON, so there is one where it is asked for.
    fn next(&mut self) -> char {
        let blank = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.take(blank);
        self.rest.chars().next().unwrap_or_default()
    }

    fn value(&mut self) -> Result<Node, (Place, String)> {
        let first = self.next();
        let place = self.place;
        let shape = match first {
            '{' => self.map()?,
            '[' => self.list()?,
            '"' => Shape::Text(self.text()),
            _ => self.scalar(),
        };
        Ok(Node { place, shape })
    }

    fn map(&mut self) -> Result<Shape, (Place, String)> {
        let mut members = Vec::new();
        let mut seen = HashSet::new();
        while !self.is_closed_by('}') {
            self.next();
            let place = self.place;
            let key = self.text();
            if !seen.insert(key.clone()) {
                return Err((place, format!("the key `{key}` is given twice")));
            }
            self.next();
            self.take(':'.len_utf8());
            members.push(Member { key, place, value: self.value()? });
        }
        Ok(Shape::Map(members))
    }

    fn list(&mut self) -> Result<Shape, (Place, String)> {
        let mut items = Vec::new();
        while !self.is_closed_by(']') {
            items.push(self.value()?);
        }
        Ok(Shape::List(items))
    }

    /// Steps over the bracket or comma before the next element; true at the end of the elements.
    fn is_closed_by(&mut self, bracket: char) -> bool {
        let before = self.next();
        self.take(before.len_utf8());
        if before == bracket {
            return true;
        }
        let is_empty = before != ',' && self.next() == bracket;
        if is_empty {
            self.take(bracket.len_utf8());
        }
        is_empty
    }

    fn text(&mut self) -> String {
        let mut is_escaped = false;
        let end = self.rest.char_indices().skip(1).find(|&(_, c)| {
            let is_end = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        });
        let literal = self.take(end.map_or(self.rest.len(), |(at, quote)| at + quote.len_utf8()));
        serde_json::from_str(literal).expect("the whole text was read as JSON before")
    }

    fn scalar(&mut self) -> Shape {
        let end = self.rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(self.rest.len());
        let literal = self.take(end);
        match serde_json::from_str(literal).expect("the whole text was read as JSON before") {
            Value::Bool(value) => Shape::Bool(value),
            Value::Number(number) => Shape::Number(number),
            _ => Shape::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_json_is_read_as_it_is() {
        for text in [
            "{}",
            " [ ] ",
            "\"a \\\\\\\" ] } , \\ud83d\\ude00 é\"",
            "{\"a\": {}, \"b\": [], \"c\" : [ 1 , -2.5e3, true, false, null, [[]], {\"\": \"\"} ] , \"d\":18446744073709551615}",
            "[\"\\\\\", \"\\\\\\\"\", 0]",
            "null",
        ] {
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(parse(text).unwrap().to_json(), expected, "{text}");
        }
    }

    #[test]
    fn values_know_their_lines_and_columns() {
        let document =
            parse("{\n  \"kind\": \"日本\", \"id\":\r\n 1,\n  \"list\": [\n    1,\n    {\"x\": 2}]\n}")
                .unwrap();
        let at = |pointer: &str| {
            let Place { line, column } = document.place_of(pointer);
            (line, column)
        };
        assert_eq!(at(""), (1, 1));
        assert_eq!(at("/kind"), (2, 3));
        assert_eq!(at("/id"), (2, 17));
        assert_eq!(at("/list/0"), (5, 5));
        assert_eq!(at("/list/1/x"), (6, 6));
        assert_eq!(at("/spec"), (1, 1));
    }

    #[test]
    fn what_is_no_json_or_says_something_twice_is_an_error_with_its_place() {
        let check = |text: &str, line: u64, column: u64| {
            let (place, message) = parse(text).expect_err(text);
            assert_eq!((place.line, place.column), (line, column), "{text}: {message}");
        };
        check("{\n  \"kind\": ,\n}", 2, 11);
        check("{\"a\": 1}\n{\"b\": 2}", 2, 1);
        check("{\"a\": 1,\n \"\\u0061\": 2}", 2, 2);
        check("{\"a\": .5}", 1, 7);
        check("{\"a\": NaN}", 1, 7);
        assert!(parse(&"[".repeat(200)).is_err());
        assert_eq!(parse("[{\"a\": 1}, {\"a\": 2}]").unwrap().to_json(), json!([{"a": 1}, {"a": 2}]));
    }
}
