//! Numbers as people write them: digits, Chinese numerals, English number words and ordinals. What cannot be
//! read is `None`, never a guess; numerals are bounded, so that a long run of them is seen to be none.

use super::words::{Kind, Token};

/// The value of a numeral in Chinese characters: `二十三`, `十`, `一九九七`.
/// 0 to 9,999.
pub(super) fn han_number(text: &str) -> Option<i64> {
    let digit = |c: char| {
        "〇一二三四五六七八九".chars().position(|d| d == c).or(match c {
            '零' => Some(0),
            '兩' => Some(2),
            _ => None,
        })
    };
    let chars: Vec<char> = text.chars().collect();
    if chars.is_empty() || chars.len() > 8 {
        return None;
    }
    if chars.len() > 1 && chars.iter().all(|c| digit(*c).is_some()) {
        return chars
            .iter()
            .try_fold(0i64, |sum, c| Some(sum * 10 + digit(*c)? as i64))
            .filter(|n| *n < 10_000);
    }
    let (mut sum, mut last) = (0i64, None);
    for c in chars {
        let unit = match c {
            '十' => 10,
            '百' => 100,
            '千' => 1000,
            _ => {
                last = Some(digit(c)? as i64);
                continue;
            }
        };
        sum += last.take().unwrap_or(1) * unit;
    }
    Some(sum + last.unwrap_or(0))
}

const NUMBER_WORDS: &[&str] = &[
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];
const TENS: &[(&str, i64)] = &[("dozen", 12), ("thirty", 30), ("forty", 40), ("fifty", 50), ("hundred", 100)];
const ORDINALS: &[&str] = &["zeroth", "first", "second", "third", "fourth", "fifth", "sixth"];

/// The value of an English number word, up to twenty and the round ones after.
pub(super) fn word_number(low: &str) -> Option<i64> {
    let small = NUMBER_WORDS.iter().position(|word| *word == low).map(|n| n as i64);
    small.or_else(|| TENS.iter().find(|(word, _)| *word == low).map(|(_, n)| *n))
}

/// The value of an ordinal: `first` to `sixth`, `1st`, `22nd`.
pub(super) fn ordinal(low: &str) -> Option<i64> {
    if let Some(n) = ORDINALS.iter().position(|word| *word == low) {
        return Some(n as i64);
    }
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|end| low.strip_suffix(end))?;
    digits.parse().ok().filter(|_| digits.len() <= 4)
}

/// A whole number that starts at token `at`: digits, or characters as far as they go. The value and the
/// place after it.
pub(super) fn number_at(tokens: &[Token], at: usize) -> Option<(i64, usize)> {
    let token = tokens.get(at)?;
    if let Some(n) = token.number() {
        return Some((n, at + 1));
    }
    if token.kind != Kind::Han {
        return None;
    }
    let mut end = at;
    let mut text = String::new();
    // One more than any numeral has, so that a longer run is seen to be none.
    while let Some(next) =
        tokens.get(end).filter(|t| t.kind == Kind::Han && "〇零一二兩三四五六七八九十百千".contains(&t.low))
    {
        text.push_str(&next.low);
        end += 1;
        if end - at > 8 {
            break;
        }
    }
    han_number(&text).map(|n| (n, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chinese_numerals_are_read() {
        for (text, n) in
            [("十", 10), ("二十三", 23), ("一百零五", 105), ("一九九七", 1997), ("三", 3), ("兩", 2)]
        {
            assert_eq!(han_number(text), Some(n), "{text}");
        }
        assert_eq!(han_number("客"), None);
        assert_eq!(han_number(""), None);
    }
}
