//! Where the personal data begins that may stand at the end of a text that goes on.
//!
//! It knows nothing of the single rules but what they have in common: an address is one word, a number is groups
//! with a blank between them, an extension may follow it, and a line break ends all of it.

use super::phone::EXTENSIONS;

/// Most bytes of an e-mail address; of a word that is not one yet, the local part.
const MAX_ADDRESS: usize = 64 + 1 + 255;
const MAX_WORD: usize = 68;
/// Most bytes of an account number in groups of four.
const MAX_IBAN: usize = 34 + 8;
/// Most bytes of groups before the last word.
const MAX_GROUPS: usize = 64;

/// The first byte that may be part of personal data which is not over.
pub(crate) fn open_from(text: &str) -> usize {
    let word = |end: usize, max: usize| {
        let head = &text[text.floor_char_boundary(end.saturating_sub(max))..end];
        head.chars().rev().take_while(|c| is_word(*c)).map(char::len_utf8).sum::<usize>()
    };
    let end = text.len();
    let last = word(end, MAX_WORD);
    let last = if text[end - last..].contains('@') { word(end, MAX_ADDRESS) } else { last };
    let stop = (end - last).saturating_sub(MAX_GROUPS);
    let mut from = end - last;
    while from > stop {
        let blanks = text.as_bytes()[..from].iter().rev().take(2).take_while(|b| **b == b' ').count();
        let group = word(from - blanks, MAX_WORD);
        if blanks == 0 || group == 0 || !is_group(&text[from - blanks - group..from - blanks]) {
            break;
        }
        from -= blanks + group;
    }
    from.min(open_iban(text.as_bytes()))
}

/// Where an account number in groups of four begins that may go on; its letters may all be small ones.
fn open_iban(bytes: &[u8]) -> usize {
    let is_sign = |b: &&u8| b.is_ascii_alphanumeric() || matches!(**b, b' ' | b'-');
    let near = bytes.len() - bytes.iter().rev().take(MAX_IBAN).take_while(is_sign).count();
    let is_number = |at: &usize| {
        let head = bytes[*at..].first_chunk::<4>().is_some_and(|[a, b, c, d]| {
            a.is_ascii_alphabetic() && b.is_ascii_alphabetic() && c.is_ascii_digit() && d.is_ascii_digit()
        });
        head && bytes[*at..].chunks(5).all(|group| {
            let (letters, sign) = group.split_at(group.len().min(4));
            letters.iter().all(u8::is_ascii_alphanumeric) && sign.iter().all(|b| matches!(b, b' ' | b'-'))
        })
    };
    (near..bytes.len()).find(is_number).unwrap_or(bytes.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '+' | '(' | ')' | '.' | '-' | ':' | '/' | '@' | '_' | '%' | '#')
}

/// Whether a number may have such a group: digits, a few letters of an IBAN, or what announces an extension.
fn is_group(word: &str) -> bool {
    let is_short = word.len() <= 4 && word.bytes().all(|b| b.is_ascii_uppercase());
    let announces = |sign: &&str| word.get(..sign.len()).is_some_and(|head| head.eq_ignore_ascii_case(sign));
    word.bytes().any(|b| b.is_ascii_digit())
        || is_short
        || !word.contains(char::is_alphanumeric)
        || EXTENSIONS.iter().any(announces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_held_whole_and_prose_is_not() {
        for (text, held) in [
            ("", ""),
            ("a sentence ends.\n", ""),
            ("call +886 2 2345 67", "+886 2 2345 67"),
            ("call (02) 2345-6789 ", "(02) 2345-6789 "),
            ("call 02 2345 6789 ext. 1", "02 2345 6789 ext. 1"),
            ("card 4111 1111 1111 ", "4111 1111 1111 "),
            ("GB82 WEST 1234 56", "GB82 WEST 1234 56"),
            ("to ie89 shaa 1942 ", "ie89 shaa 1942 "),
            ("to ie89-shaa-wxyz", "ie89-shaa-wxyz"),
            ("an id of ab12 that is ", ""),
            ("mail to ann.lee@exam", "ann.lee@exam"),
            ("寫給王小明@例子", "寫給王小明@例子"),
            ("謝謝。請問", "請問"),
        ] {
            assert_eq!(&text[open_from(text)..], held, "{text}");
        }
    }
}
