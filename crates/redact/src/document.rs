//! Is the text so far the beginning of a JSON document?
//!
//! Whether a `"` ends the string a secret stands in depends on it. The question is answered by what stands before the
//! secret and not by the rest of the text, so a stream and a whole text get the same answer.
//! One pass, a state of a few words, no copy. Numbers are not checked closely; nesting beyond 128 is no document.

use crate::bare::quotes;

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Document,
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    /// The rest of a string.
    String {
        is_key: bool,
        is_escaped: bool,
    },
    Number,
    /// The rest of `true`, `false` or `null`.
    Word(&'static [u8]),
    /// Nothing but white space.
    End,
    /// It is no document.
    Nothing,
}

/// The state of reading a text that may be a JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Document {
    expect: Expect,
    depth: u32,
    /// One bit a level, the innermost lowest: is it an object?
    objects: u128,
    /// The byte that was read last.
    last: u8,
    /// The first byte that is no white space.
    first: Option<u8>,
    /// Whether a string is open, and the next byte escaped.
    quotes: (bool, bool),
}

impl Document {
    /// Nothing was read.
    pub(crate) fn new() -> Self {
        Document {
            expect: Expect::Document,
            depth: 0,
            objects: 0,
            last: 0,
            first: None,
            quotes: (false, false),
        }
    }

    /// Whether what was read is the beginning of a document, or all of one.
    pub(crate) fn is_one(&self) -> bool {
        !matches!(self.expect, Expect::Nothing | Expect::Document)
    }

    /// The first byte that is no white space, if one was read.
    pub(crate) fn first(&self) -> Option<u8> {
        self.first
    }

    /// Where the quotes of the next text count from, and whether a string is open there.
    pub(crate) fn quotes(&self) -> (usize, bool) {
        (usize::from(self.quotes.1), self.quotes.0)
    }

    /// The byte that was read last, or 0.
    pub(crate) fn last(&self) -> u8 {
        self.last
    }

    /// Reads on.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        self.last = bytes.last().copied().unwrap_or(self.last);
        self.first = self.first.or_else(|| bytes.iter().copied().find(|b| !b.is_ascii_whitespace()));
        if matches!(self.first, Some(b'{' | b'[')) && !bytes.is_empty() {
            let (end, is_open) = quotes(bytes, self.quotes(), bytes.len());
            self.quotes = (is_open, end > bytes.len());
        }
        for byte in bytes {
            if self.expect == Expect::Nothing {
                return;
            }
            self.expect = self.after(*byte);
        }
    }

    fn after(&mut self, byte: u8) -> Expect {
        match self.expect {
            Expect::String { is_key, is_escaped: true } => Expect::String { is_key, is_escaped: false },
            Expect::String { is_key, .. } => match byte {
                b'\\' => Expect::String { is_key, is_escaped: true },
                b'"' if is_key => Expect::Colon,
                b'"' => self.behind_value(),
                0..0x20 => Expect::Nothing,
                _ => Expect::String { is_key, is_escaped: false },
            },
            Expect::Word([next, rest @ ..]) if byte == *next => {
                if rest.is_empty() {
                    self.behind_value()
                } else {
                    Expect::Word(rest)
                }
            }
            Expect::Number if matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') => {
                Expect::Number
            }
            Expect::Number => {
                self.expect = self.behind_value();
                self.after(byte)
            }
            same if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') && !matches!(same, Expect::Word(_)) => same,
            expected => self.sign(expected, byte),
        }
    }

    /// What follows a sign outside strings, words and numbers.
    fn sign(&mut self, expected: Expect, byte: u8) -> Expect {
        match (expected, byte) {
            (Expect::Document, b'{' | b'[' | b'"') => self.value(byte),
            (
                Expect::Value | Expect::ValueOrEnd,
                b'{' | b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9',
            ) => self.value(byte),
            (Expect::Key | Expect::KeyOrEnd, b'"') => Expect::String { is_key: true, is_escaped: false },
            (Expect::Colon, b':') => Expect::Value,
            (Expect::CommaOrEnd, b',') if self.is_in_object() => Expect::Key,
            (Expect::CommaOrEnd, b',') => Expect::Value,
            (Expect::CommaOrEnd | Expect::KeyOrEnd, b'}') if self.is_in_object() => self.close(),
            (Expect::CommaOrEnd | Expect::ValueOrEnd, b']') if !self.is_in_object() => self.close(),
            _ => Expect::Nothing,
        }
    }

    fn value(&mut self, byte: u8) -> Expect {
        match byte {
            b'{' | b'[' if self.depth == u128::BITS => Expect::Nothing,
            b'{' | b'[' => {
                self.depth += 1;
                self.objects = self.objects << 1 | u128::from(byte == b'{');
                if byte == b'{' { Expect::KeyOrEnd } else { Expect::ValueOrEnd }
            }
            b'"' => Expect::String { is_key: false, is_escaped: false },
            b't' => Expect::Word(b"rue"),
            b'f' => Expect::Word(b"alse"),
            b'n' => Expect::Word(b"ull"),
            _ => Expect::Number,
        }
    }

    fn close(&mut self) -> Expect {
        self.depth -= 1;
        self.objects >>= 1;
        self.behind_value()
    }

    fn behind_value(&self) -> Expect {
        if self.depth == 0 { Expect::End } else { Expect::CommaOrEnd }
    }

    fn is_in_object(&self) -> bool {
        self.depth > 0 && self.objects & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_one(text: &str) -> bool {
        let mut document = Document::new();
        document.read(text.as_bytes());
        document.is_one()
    }

    #[test]
    fn every_beginning_of_a_document_is_one() {
        let text =
            r#" {"a": [1, -2.5e10, {}, [], "x\"\\y", true, false, null, {"é": "密"}], "b": {"c": []}} "#;
        for end in (2..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert!(is_one(&text[..end]), "{}", &text[..end]);
        }
        assert!(is_one("\"a string\""));
    }

    #[test]
    fn logs_code_and_prose_are_none() {
        for text in [
            "",
            "  ",
            "prose",
            "[INFO] x",
            "[2026-05-01] password='a",
            "{'a': 1}",
            "{user: 1}",
            "{{x}}",
            "{\"a\" 1",
            "[1]]",
            "[1}",
            "{} and",
            "\"a\" or",
            "[trues",
            "[t rue",
            "{,",
            "[\"a\nb",
            "12",
        ] {
            assert!(!is_one(text), "{text}");
        }
        assert!(!is_one(&"[".repeat(129)));
    }
}
