//! Telephone numbers: international ones, those of Taiwan and North America, and others where a word says so.
//!
//! Sources: ITU-T E.164 (country codes, at most 15 digits); the numbering plan of Taiwan's NCC (09 mobiles, area codes
//! and the length of their numbers); the North American plan (area and exchange begin with 2 to 9). A number in one
//! piece that is said to be an order's or a session's stays. An extension belongs to its number.

use super::Span;
use super::context::Topic;
use crate::scan::Scanner;

/// The most digits of a number, with a prefix such as `00`.
const MAX_DIGITS: usize = 18;
/// The most groups that a number is written in.
const MAX_GROUPS: usize = 8;

/// Taiwan's area codes and the lengths of the numbers behind them. Of two that fit the longer code stands first.
const TAIWAN: &[(&[u8], &[usize])] = &[
    (b"0826", &[5]),
    (b"0836", &[5]),
    (b"0800", &[6]),
    (b"0809", &[6]),
    (b"037", &[6]),
    (b"049", &[7]),
    (b"070", &[8]),
    (b"082", &[6]),
    (b"089", &[6]),
    (b"02", &[8]),
    (b"03", &[7]),
    (b"04", &[8, 7]),
    (b"05", &[7]),
    (b"06", &[7]),
    (b"07", &[7]),
    (b"08", &[7]),
];

/// Signs of an extension.
pub(super) const EXTENSIONS: &[&str] =
    &["#", "extension", "ext.", "ext", "x", "轉接", "轉", "分機", "转", "分机"];

/// Groups of digits with at most three signs between them.
struct Groups {
    digits: [u8; MAX_DIGITS],
    /// Digits of each group.
    lens: [usize; MAX_GROUPS],
    /// Where each ends in the text.
    ends: [usize; MAX_GROUPS],
    /// The first sign behind each.
    gaps: [u8; MAX_GROUPS],
    count: usize,
}

impl Groups {
    fn digits(&self) -> &[u8] {
        &self.digits[..self.sum(self.count)]
    }

    /// The digits of each group.
    fn lens(&self) -> &[usize] {
        &self.lens[..self.count]
    }

    /// How many digits the first `n` groups have.
    fn sum(&self, n: usize) -> usize {
        self.lens[..n].iter().sum()
    }

    /// Whether a number may end with the first `n` groups: nothing but a space is behind them.
    fn may_end(&self, n: usize) -> bool {
        n == self.count || self.gaps[n - 1] == b' '
    }

    /// How many groups have `digits` digits together and may end there.
    fn up_to(&self, digits: usize) -> Option<usize> {
        (1..=self.count).find(|n| self.sum(*n) == digits).filter(|n| self.may_end(*n))
    }
}

impl Scanner<'_> {
    /// The number whose first digits are `start..end`.
    pub(super) fn phone(&self, start: usize, end: usize) -> Option<Span> {
        let (first, len, after) = (self.text.at(start), end - start, self.text.at(end));
        let before = self.byte_before(start);
        let is_marked = matches!(before, b'+' | b'(') && len <= 15;
        let has_gap = len <= 8 && matches!(after, b' ' | b'-' | b'.' | b')') && self.goes_on(end);
        let is_long = (7..=MAX_DIGITS).contains(&len);
        if !(is_marked || is_long || has_gap) {
            return None;
        }
        let from = if is_marked { start - 1 } else { start };
        let is_open = self.is_open_before(from) && !matches!(self.byte_before(from), b'+' | b'-');
        if !is_open || !self.is_no_path(from) {
            return None;
        }
        let groups = self.groups(start).filter(|groups| groups.sum(groups.count) >= 7)?;
        let n = match before {
            b'+' if is_year_or_offset(&groups) => None,
            b'+' => international(groups.digits(), &groups, 0),
            _ if first == b'0' && len >= 2 => self.zero(&groups, start),
            _ => north_american(&groups, before == b'('),
        };
        let is_area = before == b'(' && groups.gaps[0] == b')';
        let from = if n.is_some() || before == b'+' || is_area { from } else { start };
        let n = n.or_else(|| self.said(&groups, start))?;
        self.end_of_all(groups.ends[n - 1]).map(|end| (from, end))
    }

    /// Where a number whose digits end at `end` ends with its extension; none if a word goes on there.
    fn end_of_all(&self, end: usize) -> Option<usize> {
        let (end, has_extension) = self.extension(end);
        (has_extension || self.is_open_after(end)).then_some(end)
    }

    /// Whether a slash before `at` parts two numbers and not the steps of a path.
    fn is_no_path(&self, at: usize) -> bool {
        let second = self.byte_before(at.saturating_sub(1));
        self.byte_before(at) != b'/' || second.is_ascii_digit() || second == b' ' || second == b'/'
    }

    /// Whether another group may follow the sign at `end`.
    fn goes_on(&self, end: usize) -> bool {
        let next = self.text.at(end + 1);
        next.is_ascii_digit() || matches!(next, b'(' | b' ' | b'-' | b'.')
    }

    /// The groups of digits from `start` on.
    fn groups(&self, start: usize) -> Option<Groups> {
        let bytes = self.text.bytes;
        let mut groups = Groups {
            digits: [0; MAX_DIGITS],
            lens: [0; MAX_GROUPS],
            ends: [0; MAX_GROUPS],
            gaps: [0; MAX_GROUPS],
            count: 0,
        };
        let (mut at, mut sum) = (start, 0);
        while groups.count < MAX_GROUPS {
            let len = bytes[at..].iter().take(MAX_DIGITS + 1).take_while(|b| b.is_ascii_digit()).count();
            let Some(place) = groups.digits.get_mut(sum..sum + len).filter(|_| len > 0) else { break };
            place.copy_from_slice(&bytes[at..at + len]);
            sum += len;
            at += len;
            (groups.lens[groups.count], groups.ends[groups.count]) = (len, at);
            groups.gaps[groups.count] = self.text.at(at);
            groups.count += 1;
            let is_sign = |b: &&u8| matches!(b, b' ' | b'-' | b'.' | b'(' | b')');
            let signs = bytes[at..].iter().take(4).take_while(is_sign).count();
            match &bytes[at..at + signs] {
                b" " | b"-" | b"." | b")" | b") " | b")-" | b")." | b" (" | b"-(" | b" - " => at += signs,
                _ => break,
            }
        }
        (groups.count > 0).then_some(groups)
    }

    /// Whether groups that begin with `00` at `start` go on something longer: other groups, a time, a sum with
    /// separators, an account in a name of parts, or the bytes of a dump.
    fn is_of_longer(&self, groups: &Groups, start: usize) -> bool {
        let before = &self.text.bytes[start.saturating_sub(2)..start];
        let is_inside = match before {
            b"::" => true,
            [digit, b' ' | b':'] => digit.is_ascii_digit(),
            [digit, b','] => digit.is_ascii_digit() && groups.lens[0] == 3 && groups.gaps[0] == b'.',
            _ => false,
        };
        let is_dump = (1..groups.count)
            .any(|n| groups.lens[n] == 2 && groups.digits()[groups.sum(n)..].starts_with(b"00"));
        is_inside || is_dump
    }

    /// A number with a leading zero: `00` and a country, or one of Taiwan.
    fn zero(&self, groups: &Groups, start: usize) -> Option<usize> {
        let digits = groups.digits();
        if let Some(abroad) = digits.strip_prefix(b"00") {
            return international(abroad, groups, 2)
                .filter(|_| !self.is_of_longer(groups, start) && !self.is_of_thing_or_id(start));
        }
        if digits.starts_with(b"09") {
            let n = groups.up_to(10)?;
            let is_usual = matches!(
                groups.lens()[..n],
                [10] | [4, 6]
                    | [4, 3, 3]
                    | [4, 2, 4]
                    | [4, 2, 2, 2]
                    | [2, 8]
                    | [2, 4, 4]
                    | [3, 7]
                    | [3, 3, 4]
            );
            return (is_usual && !self.is_of_thing_or_id(start)).then_some(n);
        }
        let (area, lens) = TAIWAN.iter().find(|(area, _)| digits.starts_with(area))?;
        if groups.lens[0] != area.len() {
            return None;
        }
        let n = lens.iter().find_map(|len| groups.up_to(area.len() + len))?;
        let is_usual = matches!(
            groups.lens()[1..n],
            [5..=8] | [4, 4] | [3, 4] | [4, 3] | [3, 3] | [2, 4] | [2, 3] | [3, 2]
        );
        let is_subscriber = area.len() == 4 || digits[area.len()] >= b'2';
        (is_usual && is_subscriber).then_some(n)
    }

    /// Any groups that a word before them calls a telephone number.
    fn said(&self, groups: &Groups, start: usize) -> Option<usize> {
        let lens = groups.lens();
        let in_one_piece = lens[0] >= 7;
        let go_on = lens.iter().skip(1).take_while(|len| **len >= 2).count();
        let most = if in_one_piece { 1 } else { 1 + go_on };
        let fits = |n: &usize| (7..=15).contains(&groups.sum(*n));
        let n = (1..=most).rev().find(fits)?;
        let is_year = matches!(groups.digits(), [b'1', b'9', ..] | [b'2', b'0', ..]);
        let is_date = matches!(lens[..n], [4, 1 | 2, 1 | 2, ..]) && is_year
            || matches!(lens[..n], [1 | 2, 1 | 2, 4, ..]);
        let is_years =
            lens[..n] == [4, 4] && is_year && matches!(groups.digits()[4..6], [b'1', b'9'] | [b'2', b'0']);
        let is_fraction = n == 2 && groups.gaps[0] == b'.';
        let is_time = in_one_piece && lens[0] > 12;
        let is_likely = !is_date
            && !is_years
            && !is_fraction
            && !is_time
            && self.end_of_all(groups.ends[n - 1]).is_some();
        (is_likely && self.is_about(Topic::Phone, start)).then_some(n)
    }

    /// The end of the extension behind a number that ends at `end`, if there is one.
    fn extension(&self, end: usize) -> (usize, bool) {
        let rest = &self.text.str
            [end..self.text.str.floor_char_boundary((end + super::LOOK_AHEAD).min(self.text.str.len()))];
        let rest = rest.strip_prefix([' ', ',']).unwrap_or(rest).trim_start_matches(' ');
        let sign = EXTENSIONS
            .iter()
            .find(|sign| rest.get(..sign.len()).is_some_and(|head| head.eq_ignore_ascii_case(sign)));
        let Some(behind) = sign.map(|sign| rest[sign.len()..].trim_start_matches([' ', ':', '.', '：']))
        else {
            return (end, false);
        };
        let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
        let start = behind.as_ptr() as usize - self.text.str.as_ptr() as usize;
        let is_extension = (1..=6).contains(&digits) && self.is_open_after(start + digits);
        if is_extension { (start + digits, true) } else { (end, false) }
    }
}

/// Whether what follows a `+` is a year of six digits in a date, or an offset with a fraction.
fn is_year_or_offset(groups: &Groups) -> bool {
    let (lens, gap) = (groups.lens(), groups.gaps[0]);
    (matches!(lens, [6, 2, 2, ..]) && gap == b'-') || (lens.len() > 1 && lens[0] >= 5 && gap == b'.')
}

/// How many groups are an international number, `digits` being those behind the prefix of `skipped` digits.
fn international(digits: &[u8], groups: &Groups, skipped: usize) -> Option<usize> {
    let code = country_code(digits)?;
    match code {
        // Where it is grouped as such, the exchange may begin with any digit.
        1 => groups.up_to(skipped + 11).filter(|n| {
            is_north_american(&digits[1..])
                || (matches!(groups.lens()[..*n], [1, 3, 3, 4]) && matches!(digits[1], b'2'..=b'9'))
        }),
        886 => [12, 13, 11].iter().find_map(|len| groups.up_to(skipped + len)),
        _ => {
            let fits =
                |n: &usize| (8..=15).contains(&groups.sum(*n).saturating_sub(skipped)) && groups.may_end(*n);
            (1..=groups.count).rev().find(fits)
        }
    }
}

/// The country code that begins `digits`: those of zones 1 and 7, the assigned ones of two digits, and three digits
/// where two are assigned to none.
fn country_code(digits: &[u8]) -> Option<u32> {
    let number = |n: usize| {
        digits.get(..n).map(|digits| digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
    };
    match number(2)? {
        0..=9 => None,
        10..=19 => Some(1),
        70..=79 => Some(7),
        two @ (20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81 | 82 | 84 | 86 | 90..=95 | 98) => {
            Some(two)
        }
        28 | 83 | 89 => None,
        _ => number(3).filter(|code| !matches!(code, 210 | 214 | 215 | 217 | 219 | 259 | 384 | 388 | 422 | 424..=429 | 693..=699 | 801..=807 | 809 | 851 | 854 | 857..=859 | 871..=879 | 884 | 885 | 887 | 889 | 969 | 978 | 990 | 991 | 997 | 999)),
    }
}

/// `(415) 555-2671`, `415-555-2671`, `1-415-555-2671`.
fn north_american(groups: &Groups, is_in_brackets: bool) -> Option<usize> {
    let digits = groups.digits();
    let lead = usize::from(digits.first() == Some(&b'1'));
    let n = groups.up_to(lead + 10)?;
    let gap = groups.gaps[lead];
    let is_usual = matches!((lead, &groups.lens()[..n]), (0, [3, 3, 4]) | (1, [1, 3, 3, 4]));
    // Three groups with spaces may be anything; a bracket, a leading 1 or one kind of sign makes them a number.
    let is_marked = is_in_brackets || lead == 1 || matches!(gap, b'-' | b'.') || gap == b')';
    let is_even = is_in_brackets || gap == b')' || groups.gaps[lead + 1] == gap;
    (is_usual && is_marked && is_even && is_north_american(&digits[lead..])).then_some(n)
}

/// Whether area code and exchange begin as they must.
fn is_north_american(national: &[u8]) -> bool {
    matches!(national, [b'2'..=b'9', _, _, b'2'..=b'9', ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn country_codes_are_those_assigned() {
        for (digits, code) in [
            ("886912", Some(886)),
            ("1415", Some(1)),
            ("7495", Some(7)),
            ("4420", Some(44)),
            ("353", Some(353)),
            ("852", Some(852)),
            ("0800", None),
            ("999", None),
            ("2100", None),
        ] {
            assert_eq!(country_code(digits.as_bytes()), code, "{digits}");
        }
    }
}
