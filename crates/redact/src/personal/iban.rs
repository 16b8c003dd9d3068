//! International Bank Account Numbers: a country, its length, and the remainder by 97.
//!
//! Source: ISO 13616-1 and the IBAN registry of SWIFT, release 99 (countries and lengths); the remainder is that of
//! ISO/IEC 7064 MOD 97-10. Any case, in one piece or in groups of four with spaces or dashes.

use super::Span;
use crate::scan::Scanner;

/// Country codes by length.
const COUNTRIES: &[(usize, &str)] = &[
    (15, "NO"),
    (16, "BE BI"),
    (18, "DK FI FK FO GL NL SD"),
    (19, "MK SI"),
    (20, "AT BA EE KZ LT LU MN XK"),
    (21, "CH CR HR LI LV"),
    (22, "BG BH DE GB GE IE ME RS VA"),
    (23, "AE GI IL IQ OM SO TL"),
    (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
    (25, "LY PT ST"),
    (26, "IS TR"),
    (27, "BF BJ CI CM DJ FR GR IT MC MG ML MR SM SN"),
    (28, "AL AZ BY CY DO GT HN HU LB NI PL SV"),
    (29, "BR EG PS QA UA"),
    (30, "JO KW MU YE"),
    (31, "MT SC"),
    (32, "LC"),
    (33, "RU"),
];

impl Scanner<'_> {
    /// The account number whose check digits begin at `digits`, behind the two letters of the country.
    pub(super) fn iban(&self, digits: usize) -> Option<Span> {
        let start = digits.checked_sub(2)?;
        let country = &self.text.bytes[start..digits];
        if !country[0].is_ascii_alphabetic()
            || matches!(self.byte_before(start), b'+' | b'-')
            || !self.is_open_before(start)
        {
            return None;
        }
        let len = length_in(country)?;
        let end = self.end_of_iban(start, len)?;
        let value = self.text.bytes[start..end].iter().copied();
        (remainder(value.filter(u8::is_ascii_alphanumeric)) == 1).then_some((start, end))
    }

    /// Where `len` letters and digits from `start` end, in one piece or in groups of four.
    fn end_of_iban(&self, start: usize, len: usize) -> Option<usize> {
        let gap = Some(self.text.at(start + 4)).filter(|b| matches!(b, b' ' | b'-'));
        let mut at = start;
        for n in 0..len {
            if n > 0 && n % 4 == 0 && gap.is_some() {
                at += usize::from(Some(self.text.at(at)) == gap);
            }
            if !self.text.at(at).is_ascii_alphanumeric() {
                return None;
            }
            at += 1;
        }
        self.is_open_after(at).then_some(at)
    }
}

/// How long the numbers of a country are.
fn length_in(country: &[u8]) -> Option<usize> {
    if !country.iter().all(u8::is_ascii_alphabetic) {
        return None;
    }
    let is_listed =
        |codes: &str| codes.as_bytes().chunks(3).any(|code| code[..2].eq_ignore_ascii_case(country));
    COUNTRIES.iter().find(|(_, codes)| is_listed(codes)).map(|(len, _)| *len)
}

/// The remainder by 97 of the number that the characters make, the first four moved to the end, letters as 10 to 35.
fn remainder(characters: impl Iterator<Item = u8> + Clone) -> u32 {
    characters.clone().skip(4).chain(characters.take(4)).fold(0, |sum, byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        _ => (sum * 100 + u32::from(byte.to_ascii_uppercase() - b'A') + 10) % 97,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_s_examples_have_remainder_one_and_their_length() {
        for example in [
            "NO9386011117947",
            "BE68539007547034",
            "NL91ABNA0417164300",
            "AT611904300234573201",
            "CH9300762011623852957",
            "DE89370400440532013000",
            "GB29NWBK60161331926819",
            "AE070331234567890123456",
            "ES9121000418450200051332",
            "SE4550000000058398257466",
            "FR1420041010050500013M02606",
            "IT60X0542811101000000123456",
            "PL61109010140000071219812874",
            "BR1800360305000010009795493C1",
            "MT84MALT011000012345MTLCAST001S",
        ] {
            assert_eq!(remainder(example.bytes()), 1, "{example}");
            assert_eq!(length_in(&example.as_bytes()[..2]), Some(example.len()), "{example}");
        }
        assert_eq!(length_in(b"US"), None);
        assert_eq!(length_in(b" D"), None);
    }
}
