//! Payment card numbers: an issuer's range, a length it uses, the check digit, and a grouping that people use.
//!
//! Sources: ISO/IEC 7812-1 (the number's parts, its check digit by Luhn's formula, annex B); the ranges and lengths
//! as the networks publish them for Visa, Mastercard (51-55, 2221-2720), American Express, Discover, Diners Club, JCB,
//! UnionPay, Maestro and Mir. One order number in thirty would pass both tests, so digits in one piece that are said to
//! be an order, a session or a time stay, and lengths that hardly any card has ask for the word `card` before them.

use super::context::Topic;
use super::{LOOK_BACK, Span};
use crate::scan::Scanner;

/// The shortest and the longest number.
pub(super) const MIN_DIGITS: usize = 12;
pub(super) const MAX_DIGITS: usize = 19;

/// A number of so many digits may as well be one of 64 bits.
const LONG: usize = 17;

/// How sure a range makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Issued {
    /// Cards have this length.
    Usually,
    /// Few have: a word must say so.
    Rarely,
}

impl Scanner<'_> {
    /// The card number whose first digits are `start..end`.
    pub(super) fn card(&self, start: usize, end: usize) -> Option<Span> {
        if self.byte_before(start) == b'-' || !self.is_open_before(start) {
            return None;
        }
        if end - start > 4 {
            let issued = card_of(&self.text.bytes[start..end])?;
            let is_card = self.ends_number(end) && self.is_card_in_one_piece(issued, start, end - start);
            return is_card.then_some((start, end));
        }
        self.grouped_card(start)
    }

    /// Whether digits without a gap are a card's, by what stands before them.
    fn is_card_in_one_piece(&self, issued: Issued, start: usize, len: usize) -> bool {
        let word = self.word_before(start);
        if word.is_some_and(|word| word.is_about(Topic::Card)) {
            return true;
        }
        issued == Issued::Usually
            && self.byte_before(start) != b'/'
            && !(len >= LONG && self.is_in_table(start))
            && !self.is_of_thing_or_id(start)
    }

    /// Whether the number before it is as long and no card's: then both are numbers of 64 bits in a table.
    fn is_in_table(&self, start: usize) -> bool {
        let bytes = self.text.bytes;
        let is_gap = |b: &&u8| b.is_ascii_whitespace() || matches!(b, b',' | b';' | b'(' | b'"');
        let end =
            start - bytes[..start].iter().rev().take(LOOK_BACK - MAX_DIGITS - 1).take_while(is_gap).count();
        let len = bytes[..end].iter().rev().take(MAX_DIGITS + 1).take_while(|b| b.is_ascii_digit()).count();
        len >= LONG && end < start && card_of(&bytes[end - len..end]).is_none()
    }

    /// Groups with one kind of gap: fours, or 4-6-5 and 4-6-4.
    fn grouped_card(&self, start: usize) -> Option<Span> {
        let gap = self.text.at(start + 4);
        let bytes = self.text.bytes;
        // A group of four before it with the same gap: the middle of something longer.
        let is_middle = self.byte_before(start) == b' '
            && bytes[..start - 1].iter().rev().take(5).take_while(|b| b.is_ascii_digit()).count() == 4;
        let second = bytes[start + 5..].iter().take(7).take_while(|b| b.is_ascii_digit()).count();
        if is_middle || !matches!(second, 4 | 6) {
            return None;
        }
        let (mut digits, mut groups) = ([0; MAX_DIGITS], Vec::with_capacity(5));
        let (mut count, mut at) = (0, start);
        loop {
            let len = bytes[at..].iter().take(7).take_while(|b| b.is_ascii_digit()).count();
            if len == 0 {
                break;
            }
            let place = digits.get_mut(count..count + len);
            let fits = place.map(|place| place.copy_from_slice(&bytes[at..at + len])).is_some();
            count += len;
            at += len;
            groups.push((len, at));
            // A group too many is noted, for it may show that the groups before it are no card either.
            if !fits || len == 7 || self.text.at(at) != gap {
                break;
            }
            at += 1;
        }
        let lens: Vec<usize> = groups.iter().map(|group| group.0).collect();
        // The longest number first: a code behind a card looks like its last group.
        (3..=groups.len()).rev().find_map(|n| {
            let (sum, end) = (lens[..n].iter().sum::<usize>(), groups[n - 1].1);
            let is_last = n == groups.len() || (gap == b' ' && lens[n] != 4);
            let is_usual = is_usual_grouping(&lens[..n]) && is_last && self.ends_number(end);
            (is_usual && digits.get(..sum).is_some_and(|digits| card_of(digits).is_some()))
                .then_some((start, end))
        })
    }

    /// Whether a number ends at `end`: neither word, fraction nor dash goes on.
    fn ends_number(&self, end: usize) -> bool {
        self.is_open_after(end) && self.text.at(end) != b'-'
    }
}

fn is_usual_grouping(lens: &[usize]) -> bool {
    match lens {
        [4, 6, 4 | 5] => true,
        [fours @ .., last] => fours.len() >= 3 && fours.iter().all(|len| *len == 4) && *last <= 4,
        [] => false,
    }
}

/// Whether `digits` are a card's number, and how usual its length is.
fn card_of(digits: &[u8]) -> Option<Issued> {
    if !(MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) || !is_luhn(digits) {
        return None;
    }
    let head = digits[..6].iter().fold(0_u32, |n, digit| n * 10 + u32::from(digit - b'0'));
    let is_varied = digits.iter().any(|digit| *digit != digits[0]);
    issued(head, digits.len()).filter(|_| is_varied)
}

/// What the first six digits and the length say.
fn issued(head: u32, len: usize) -> Option<Issued> {
    use Issued::{Rarely, Usually};
    let of = |usual: &[usize], rare: std::ops::RangeInclusive<usize>| {
        if usual.contains(&len) { Some(Usually) } else { rare.contains(&len).then_some(Rarely) }
    };
    match head {
        // Visa
        400_000..=499_999 => of(&[16, 19], 13..=19).filter(|_| matches!(len, 13 | 16 | 19)),
        // Mir
        220_000..=220_499 => of(&[16, 17, 18, 19], 16..=19),
        // Mastercard
        510_000..=559_999 | 222_100..=272_099 => of(&[16], 16..=16),
        // American Express
        340_000..=349_999 | 370_000..=379_999 => of(&[15], 15..=15),
        // Diners Club
        300_000..=305_999 | 309_500..=309_599 | 360_000..=369_999 | 380_000..=399_999 => of(&[14], 14..=19),
        // JCB, and what it gave out before ISO gave it this range
        352_800..=358_999 => of(&[16], 16..=19),
        350_000..=359_999 => of(&[], 16..=16),
        180_000..=180_099 | 213_100..=213_199 => of(&[], 15..=15),
        // Maestro, before the wider ranges of Discover and UnionPay
        501_800..=501_899
        | 502_000..=502_099
        | 503_800..=503_899
        | 561_200..=561_299
        | 589_300..=589_399
        | 630_400..=630_499
        | 670_600..=670_699
        | 675_900..=675_999
        | 676_100..=676_399
        | 677_100..=677_199 => of(&[13, 14, 15, 16, 17, 18, 19], 12..=19),
        560_000..=589_999 | 639_000..=639_099 => of(&[], 12..=19),
        // Discover
        601_100..=601_199 | 644_000..=659_999 => of(&[16], 16..=19),
        // UnionPay
        620_000..=629_999 | 810_000..=817_199 => of(&[16, 19], 16..=19),
        _ => None,
    }
}

/// Luhn's formula: from the right every second digit counts double, the sum is a multiple of ten.
fn is_luhn(digits: &[u8]) -> bool {
    const DOUBLED: [u32; 10] = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
    let sum: u32 = digits.iter().rev().enumerate().fold(0, |sum, (i, digit)| {
        let digit = digit - b'0';
        sum + if i % 2 == 1 { DOUBLED[usize::from(digit)] } else { u32::from(digit) }
    });
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_networks_test_numbers_are_cards() {
        for number in [
            "4111111111111111",
            "4012888888881881",
            "5555555555554444",
            "5105105105105100",
            "2223003122003222",
            "378282246310005",
            "371449635398431",
            "6011111111111117",
            "6011000990139424",
            "30569309025904",
            "38520000023237",
            "3530111333300000",
            "3566002020360505",
            "6200000000000005",
            "6759649826438453",
        ] {
            assert_eq!(card_of(number.as_bytes()), Some(Issued::Usually), "{number}");
            let last =
                if number.ends_with('9') { '0' } else { char::from(number.as_bytes()[number.len() - 1] + 1) };
            let wrong = format!("{}{last}", &number[..number.len() - 1]);
            assert_eq!(card_of(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(card_of(b"4222222222222"), Some(Issued::Rarely));
        assert_eq!(card_of(b"1111111111111117"), None);
        assert_eq!(card_of(b"0000000000000000"), None);
    }
}
