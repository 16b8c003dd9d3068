//! Taiwan's numbers of persons and companies, which carry a check digit.
//!
//! National id: a letter, 1 or 2, eight digits. Resident certificate: a letter, 8 or 9, eight digits; before 2021 two
//! letters, the second A to D, and eight digits. Source: Ministry of the Interior, coding rules of the national id and
//! the UI number: the letter stands for two digits, the weights are 1, 9 to 1 and 1, the sum is a multiple of ten.
//! Company number: Ministry of Finance, checking rule of April 2023: weights 1 2 1 2 1 2 4 1, the digits of each
//! product are added, the sum is a multiple of five; where the seventh digit is 7, its 10 may count as 1 or as 0.
//! A number that leads with a small letter, or a company's, has too many doubles: the word before it must say so.

use super::Span;
use super::context::Topic;
use crate::scan::Scanner;

impl Scanner<'_> {
    /// The id whose digits are `start..end`.
    pub(super) fn national_id(&self, start: usize, end: usize) -> Option<Span> {
        let letters = 10 - (end - start);
        let first = start.checked_sub(letters)?;
        if !self.is_open_before(first) || !self.is_open_after(end) || self.text.at(end) == b'-' {
            return None;
        }
        let id = &self.text.bytes[first..end];
        // Before anything else: what stands before the digits may be half of a character.
        if !is_national_id(id) {
            return None;
        }
        let is_capital = id[..letters].iter().all(u8::is_ascii_uppercase);
        let is_likely =
            if is_capital { !self.is_of_thing(first) } else { self.is_about(Topic::NationalId, first) };
        is_likely.then_some((first, end))
    }

    /// The company number at `start..end`, where a word says that it is one.
    pub(super) fn company_number(&self, start: usize, end: usize) -> Option<Span> {
        let is_open =
            self.is_open_before(start) && self.is_open_after(end) && self.byte_before(start) != b'-';
        let is_number = is_open && is_company_number(&self.text.bytes[start..end]);
        (is_number && self.is_about(Topic::Company, start)).then_some((start, end))
    }
}

/// The number that a letter stands for.
fn letter_number(letter: u8) -> Option<u32> {
    const ORDER: &[u8; 26] = b"ABCDEFGHJKLMNPQRSTUVXYWZIO";
    let place = ORDER.iter().position(|listed| *listed == letter.to_ascii_uppercase())?;
    u32::try_from(place).ok().map(|place| place + 10)
}

/// Whether ten characters are a national id or a resident certificate's number.
fn is_national_id(id: &[u8]) -> bool {
    let [first, second, digits @ ..] = id else { return false };
    let Some(first) = letter_number(*first) else { return false };
    let second = match second {
        b'1' | b'2' | b'8' | b'9' => u32::from(second - b'0'),
        b'A'..=b'D' | b'a'..=b'd' => letter_number(*second).unwrap_or(0) % 10,
        _ => return false,
    };
    let weights = [7, 6, 5, 4, 3, 2, 1, 1];
    let sum: u32 =
        digits.iter().zip(weights).map(|(digit, weight)| u32::from(digit.wrapping_sub(b'0')) * weight).sum();
    digits.iter().all(u8::is_ascii_digit)
        && (first / 10 + first % 10 * 9 + second * 8 + sum).is_multiple_of(10)
}

/// Whether eight digits are a company's number.
fn is_company_number(digits: &[u8]) -> bool {
    let weights = [1, 2, 1, 2, 1, 2, 4, 1];
    let sum: u32 = digits
        .iter()
        .zip(weights)
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .map(|product| product / 10 + product % 10)
        .sum();
    let is_varied = digits.iter().any(|digit| *digit != digits[0]);
    // Seven times four is 28, whose digits add to 10 and theirs to 1 or 0; either may be meant.
    is_varied && (sum.is_multiple_of(5) || (digits[6] == b'7' && (sum + 1).is_multiple_of(5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_by_letter_and_check_digit() {
        for id in ["A123456789", "B123456780", "A800000014", "AC01234567", "a123456789"] {
            assert!(is_national_id(id.as_bytes()), "{id}");
        }
        for id in ["A123456788", "A323456789", "1123456789", "AE01234567", "AC01234568", "A12345678"] {
            assert!(!is_national_id(id.as_bytes()), "{id}");
        }
    }

    #[test]
    fn company_numbers_follow_the_rule_of_2023() {
        for number in ["04595257", "22099131", "12345675", "10458575", "10458574"] {
            assert!(is_company_number(number.as_bytes()), "{number}");
        }
        for number in ["04595253", "12345678", "00000000"] {
            assert!(!is_company_number(number.as_bytes()), "{number}");
        }
    }
}
