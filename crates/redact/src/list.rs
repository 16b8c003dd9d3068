//! Lists of values: `"passwords": ["a", "b"]`, also nested, in any spelling of the quotes.
//!
//! A name stands for every string of its list and for nothing else in it: numbers, `null` and bare words are passed
//! over, a member's name or an object ends the walk.
//! A list is walked once, whatever names stand in it. In a stream it is held until its bracket closes.

use crate::ident::Strength;
use crate::judge::{self, Form};
use crate::keyed::Name;
use crate::mask::MAX_MASK;
use crate::open::{Open, Until};
use crate::scan::{Candidate, Scanner};

/// The deepest list in a list.
const MAX_DEPTH: u32 = 8;
/// The longest item without quotes, in bytes.
const MAX_BARE: usize = 64;

impl Scanner<'_> {
    /// The strings of the list that `open` begins.
    pub(crate) fn list(&mut self, name: &Name, open: usize) {
        if open < self.last_list_end {
            return;
        }
        let (mut at, mut depth) = (open + 1, 1);
        // Lists of names and features are lists of strings too.
        let key = self.quote_behind(name.start, name.end);
        let is_member = key.is_some();
        // Once one string has begun here, its quote begins the others, whatever sign they begin with.
        let mut known = key;
        let form = if is_member || name.strength == Strength::Strong { Form::Item } else { Form::Beside };
        let mut until = Until::Value;
        while (1..=MAX_DEPTH).contains(&depth) {
            at = self.text.skip_space(at);
            match self.text.at(at) {
                b'[' => depth += 1,
                b']' => depth -= 1,
                b',' => {}
                _ => {
                    let Some(quote) = self.opening_quote(at) else {
                        let Some(behind) = self.behind_bare(at) else { break };
                        at = behind;
                        continue;
                    };
                    let inside = Until::List { quote: Some(quote.byte), level: quote.level, depth };
                    until = Until::List { quote: None, level: quote.level, depth };
                    at += quote.len;
                    let is_known =
                        known.is_some_and(|known| known.byte == quote.byte && known.is_like(quote));
                    let Some(value) = self.string_at(at, quote, form, is_known) else {
                        // An empty string; or the quote closes the string in which the list begins.
                        if self.plain_quote(at) != Some(quote) {
                            until = inside;
                            break;
                        }
                        at += quote.len;
                        continue;
                    };
                    if self.text.at(self.text.skip_space(value.behind)) == b':' {
                        break;
                    }
                    known = Some(quote);
                    at = value.behind;
                    let text = &self.text.str[value.start..value.end];
                    self.candidates.push(Candidate {
                        start: value.start,
                        end: value.end,
                        class: name.class,
                        is_secret: judge::is_secret(name.strength, form, text, true),
                        is_quoted: value.is_quoted,
                    });
                    if !value.is_quoted {
                        until = inside;
                        break;
                    }
                    continue;
                }
            }
            at += 1;
            if let Until::List { depth: noted, .. } = &mut until {
                *noted = depth;
            }
        }
        self.last_list_end = at;
        if self.text.take_touched() {
            // What looks like a list may be a mask that is not whole.
            let is_near = self.text.bytes.len() - open < MAX_MASK;
            self.open(Open { from: open + usize::from(!is_near), class: name.class, until });
        }
    }

    /// Behind an item without quotes, or behind the letter before a string (`b"…"`).
    fn behind_bare(&self, at: usize) -> Option<usize> {
        let is_bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+' | b'_');
        let behind = at + self.text.span(at, MAX_BARE, is_bare);
        let next = self.text.at(self.text.skip_space(behind));
        let is_item = matches!(next, b',' | b']');
        let is_prefix = behind <= at + 2 && self.plain_quote(behind).is_some();
        (behind > at && (is_item || is_prefix)).then_some(behind)
    }
}
