//! Personal data: addresses and numbers that name a person, found by form, range, checksum and what stands before.
//!
//! E-mail addresses hang on their `@`. Numbers have no literal to look for: one pass stops at each run of digits and
//! each colon, eight bytes at a time, and asks only the rules that a run of this length and border can concern.
//! Invariants: a rule looks back at most [`LOOK_BACK`] bytes from where its value begins, and words of the context
//! count only on the same line; it looks ahead at most [`LOOK_AHEAD`] bytes from where its value ends; a run of
//! digits is taken whole or not at all; nothing runs for a class that is allowed.

mod card;
mod context;
mod email;
mod iban;
mod ip;
mod phone;
pub(crate) mod tail;
mod taiwan;

use crate::Class;
use crate::rules::Rules;
use crate::scan::Scanner;
use crate::work;

/// Most bytes before a value that its rule looks at: its context, or the sign before it.
const LOOK_BACK: usize = 48;
/// Most bytes behind a value that decide whether it ends there: the next group of digits.
const LOOK_AHEAD: usize = 24;

/// Which of the classes that consist of digits are looked for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    iban: bool,
    card: bool,
    national_id: bool,
    company: bool,
    phone: bool,
    ip: bool,
}

impl Wanted {
    fn by(rules: &Rules) -> Self {
        Wanted {
            iban: rules.looks_for(Class::Iban),
            card: rules.looks_for(Class::Card),
            national_id: rules.looks_for(Class::NationalId),
            company: rules.looks_for(Class::CompanyNumber),
            phone: rules.looks_for(Class::Phone),
            ip: rules.looks_for(Class::IpAddress),
        }
    }

    fn any(self) -> bool {
        self.iban || self.card || self.national_id || self.company || self.phone || self.ip
    }
}

/// Where a value is: first byte, and the byte after the last.
type Span = (usize, usize);

impl Scanner<'_> {
    /// Finds the personal data that the rules do not let stay.
    pub(crate) fn personal(&mut self) {
        if self.rules.looks_for(Class::Email) {
            self.emails();
        }
        let wanted = Wanted::by(self.rules);
        if wanted.any() {
            self.numbers(wanted);
        }
    }

    /// Visits every run of digits and every colon of the zones.
    fn numbers(&mut self, wanted: Wanted) {
        let mut at = 0;
        for (from, to) in self.zones.clone() {
            // A run of digits or colons is visited as a whole.
            let border = self.text.bytes[at.min(from)..from].iter().rposition(u8::is_ascii_whitespace);
            at = self.numbers_between(wanted, at + border.unwrap_or(0), to);
        }
    }

    /// Visits those that begin between `from` and `to`; says where the last ends.
    fn numbers_between(&mut self, wanted: Wanted, from: usize, to: usize) -> usize {
        let bytes = self.text.bytes;
        let zone = &bytes[..to];
        let (mut at, mut settled) = (from, 0);
        while let Some(stop) = next_digit_or_colon(zone, at) {
            if bytes[stop] == b':' {
                at = stop + 1;
                if wanted.ip && stop >= settled {
                    let (colons, found) = self.ipv6(stop);
                    settled = colons;
                    at = found.unwrap_or(at);
                }
                continue;
            }
            let len = bytes[stop..].iter().take_while(|b| b.is_ascii_digit()).count();
            let end = stop + len;
            work::count(len);
            at = end;
            if let Some((class, (first, last))) = self.number(wanted, self.behind_escape(stop), end) {
                self.push_personal(class, first, last);
                at = last;
            }
        }
        at
    }

    /// What the run of digits at `start..end` is part of.
    fn number(&self, wanted: Wanted, start: usize, end: usize) -> Option<(Class, Span)> {
        let (len, after) = (end.checked_sub(start)?, self.text.at(end));
        let by_letter = self.byte_before(start).is_ascii_alphabetic();
        if by_letter {
            if wanted.iban
                && len >= 2
                && let Some(span) = self.iban(start)
            {
                return Some((Class::Iban, span));
            }
            if wanted.national_id
                && matches!(len, 8 | 9)
                && let Some(span) = self.national_id(start, end)
            {
                return Some((Class::NationalId, span));
            }
        }
        if wanted.card
            && may_be_card(len, after)
            && let Some(span) = self.card(start, end)
        {
            return Some((Class::Card, span));
        }
        if wanted.ip
            && len <= 3
            && after == b'.'
            && let Some(span) = self.ipv4(start)
        {
            return Some((Class::IpAddress, span));
        }
        if wanted.company
            && len == 8
            && let Some(span) = self.company_number(start, end)
        {
            return Some((Class::CompanyNumber, span));
        }
        let span = if wanted.phone { self.phone(start, end) } else { None };
        span.map(|span| (Class::Phone, span))
    }

    /// Records a find, unless it lies in a mask: the digits of a tag are nobody's.
    fn push_personal(&mut self, class: Class, start: usize, end: usize) {
        if !self.is_in_mask(start, end) {
            self.push(class, start, end);
        }
    }

    /// The byte before `at`, or 0 at the beginning.
    fn byte_before(&self, at: usize) -> u8 {
        at.checked_sub(1).map_or(0, |before| self.text.at(before))
    }

    /// Where a run of digits begins that seems to begin at `start` but may do so inside `%20` or `\u8a71`.
    fn behind_escape(&self, start: usize) -> usize {
        let before = self.byte_before(start);
        if before == b'%' && self.text.at(start + 1).is_ascii_hexdigit() {
            return start + 2;
        }
        if !before.is_ascii_alphanumeric() {
            return start;
        }
        let bytes = self.text.bytes;
        let hex = bytes[..start].iter().rev().take(4).take_while(|b| b.is_ascii_hexdigit()).count();
        let is_escape = hex < 4 && bytes[..start - hex].ends_with(b"\\u");
        if is_escape { start + 4 - hex } else { start }
    }

    /// Whether a value may begin at `at`: no word, no number and no escape runs into it.
    fn is_open_before(&self, at: usize) -> bool {
        let before = self.byte_before(at);
        let joins = matches!(before, b'.' | b'-' | b',' | b'/') && {
            let second = self.byte_before(at.saturating_sub(1));
            if matches!(before, b',' | b'/') { false } else { second.is_ascii_alphanumeric() }
        };
        before != b'_' && !joins && self.text.is_free_before(at)
    }

    /// Whether a value may end at `at`: no word and no number goes on.
    fn is_open_after(&self, at: usize) -> bool {
        let after = self.text.at(at);
        let joins = matches!(after, b'.' | b'-') && self.text.at(at + 1).is_ascii_digit();
        !(after.is_ascii_alphanumeric() || after == b'_' || joins)
    }
}

fn may_be_card(len: usize, after: u8) -> bool {
    (card::MIN_DIGITS..=card::MAX_DIGITS).contains(&len) || (len == 4 && matches!(after, b' ' | b'-'))
}

/// The first digit or colon at or after `from`. Eight bytes are tested at a time: moved down by `0`, the wanted ones
/// are below 11, and those are the ones to which 117 can be added without a carry into their top bit.
fn next_digit_or_colon(bytes: &[u8], from: usize) -> Option<usize> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut at = from;
    while let Some(eight) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("the slice has eight bytes"));
        let moved = word ^ (EACH * 0x30);
        let other = ((moved & (EACH * 0x7f)) + EACH * 0x75) | moved;
        let wanted = !other & (EACH * 0x80);
        if wanted != 0 {
            return Some(at + wanted.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|b| b.is_ascii_digit() || *b == b':').map(|n| at + n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_and_colon_is_stopped_at_and_nothing_else() {
        for byte in 0..=255_u8 {
            for at in 0..11 {
                let mut text = [b'x'; 11];
                text[at] = byte;
                let expected = (byte.is_ascii_digit() || byte == b':').then_some(at);
                assert_eq!(next_digit_or_colon(&text, 0), expected, "{byte} at {at}");
            }
        }
        assert_eq!(next_digit_or_colon(b"1", 1), None);
        assert_eq!(next_digit_or_colon(b"", 0), None);
    }
}
