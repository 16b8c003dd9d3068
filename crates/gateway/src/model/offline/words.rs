//! From text to terms that can be compared: English stems and bigrams of Chinese characters.
//!
//! The question is also kept as tokens with their places, because dates, numbers and ids are read by
//! position. A token that one reader has understood is marked as used, so that the year of a date is not
//! taken for a count as well. Nothing here knows any domain; the lists hold grammar only.

use std::collections::BTreeSet;

use super::point::MONTHS;

/// What a token is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Letters, or letters with digits.
    Word,
    /// ASCII digits only.
    Number,
    /// One Chinese character.
    Han,
    /// Anything else that is not white space, one character.
    Mark,
}

/// A piece of the question.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// As written.
    pub(super) text: String,
    /// In small letters, full-width forms made narrow.
    pub(super) low: String,
    /// Byte range in the text.
    pub(super) start: usize,
    /// End of the byte range.
    pub(super) end: usize,
    /// Some reader has understood it.
    pub(super) used: bool,
}

impl Token {
    pub(super) fn is(&self, low: &str) -> bool {
        self.low == low
    }

    /// The value of a token of digits; `None` for others and for numbers over 18 digits.
    pub(super) fn number(&self) -> Option<i64> {
        (self.kind == Kind::Number && self.low.len() <= 18).then(|| self.low.parse().ok()).flatten()
    }
}

pub(super) fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '〇')
}

fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{301c}' => '~',
        '\u{2018}' | '\u{2019}' => '\'',
        _ => c,
    }
}

fn kind_of(c: char) -> Option<Kind> {
    let c = narrow(c);
    if c.is_whitespace() {
        None
    } else if is_han(c) {
        Some(Kind::Han)
    } else if c.is_ascii_digit() {
        Some(Kind::Number)
    } else if c.is_alphanumeric() {
        Some(Kind::Word)
    } else {
        Some(Kind::Mark)
    }
}

/// Cuts a text into tokens. `Q2` and `5th` are one word, `1997年` is a number and a character.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::new();
    for (start, c) in text.char_indices() {
        let Some(kind) = kind_of(c) else { continue };
        let low: String = narrow(c).to_lowercase().collect();
        let end = start + c.len_utf8();
        if let Some(last) = out.last_mut()
            && last.end == start
            && matches!(kind, Kind::Word | Kind::Number)
            && matches!(last.kind, Kind::Word | Kind::Number)
        {
            if last.kind != kind {
                last.kind = Kind::Word;
            }
            last.text.push(c);
            last.low.push_str(&low);
            last.end = end;
            continue;
        }
        out.push(Token { kind, text: c.into(), low, start, end, used: false });
    }
    out
}

const STOP_WORDS: &[&str] = &[
    "a", "about", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been", "being", "but",
    "by", "can", "could", "did", "do", "does", "each", "every", "far", "for", "from", "get", "give", "given",
    "had", "has", "have", "he", "her", "here", "hi", "hello", "him", "his", "how", "i", "if", "in", "into",
    "is", "it", "its", "let", "like", "many", "me", "much", "my", "need", "no", "not", "of", "on", "one",
    "only", "or", "our", "out", "per", "please", "s", "shall", "she", "should", "show", "so", "some", "such",
    "tell", "than", "thank", "thanks", "that", "the", "their", "them", "then", "there", "these", "they",
    "this", "those", "to", "up", "us", "use", "very", "want", "was", "we", "were", "what", "when", "where",
    "which", "who", "whose", "why", "will", "with", "would", "you", "your", "during", "between", "until",
    "since", "e", "g", "etc", "ii", "iso", "yyyy", "mm", "dd",
];

/// Says nothing about what is meant: a filler, or a month, which only dates are about.
fn is_stop_word(low: &str) -> bool {
    STOP_WORDS.contains(&low) || MONTHS.contains(&low)
}

const IRREGULAR: &[(&str, &str)] = &[
    ("bought", "buy"),
    ("sold", "sell"),
    ("sale", "sell"),
    ("sales", "sell"),
    ("selling", "sell"),
    ("spent", "spend"),
    ("paid", "pay"),
    ("made", "make"),
    ("went", "go"),
    ("gone", "go"),
    ("came", "come"),
    ("took", "take"),
    ("taken", "take"),
    ("found", "find"),
    ("sent", "send"),
    ("wrote", "write"),
    ("written", "write"),
    ("held", "hold"),
    ("kept", "keep"),
    ("left", "leave"),
    ("lost", "lose"),
    ("won", "win"),
    ("built", "build"),
    ("began", "begin"),
    ("grew", "grow"),
    ("grown", "grow"),
    ("knew", "know"),
    ("known", "know"),
    ("ran", "run"),
    ("saw", "see"),
    ("seen", "see"),
    ("told", "tell"),
    ("thought", "think"),
    ("drew", "draw"),
    ("drove", "drive"),
    ("flew", "fly"),
    ("rose", "rise"),
    ("fell", "fall"),
    ("met", "meet"),
    ("read", "read"),
    ("daily", "day"),
    ("people", "person"),
    ("children", "child"),
    ("men", "man"),
    ("women", "woman"),
    ("data", "data"),
    ("analyses", "analysis"),
    ("best", "top"),
    ("returning", "return"),
];

/// The light stem of a small-letter English word: endings of number, tense and adverb taken off.
pub(super) fn stem(word: &str) -> String {
    let word = word.strip_suffix("'s").unwrap_or(word);
    if let Some((_, to)) = IRREGULAR.iter().find(|(from, _)| *from == word) {
        return (*to).to_owned();
    }
    if word.len() <= 3 || !word.is_ascii() {
        return word.to_owned();
    }
    let mut out = word.to_owned();
    if let Some(head) = word.strip_suffix("ies") {
        out = format!("{head}y");
    } else if ["ches", "shes", "xes", "sses", "zes"].iter().any(|end| word.ends_with(end)) {
        out.truncate(word.len() - 2);
    } else if word.ends_with('s') && !["ss", "us", "is"].iter().any(|end| word.ends_with(end)) {
        out.truncate(word.len() - 1);
    }
    for (ending, keep) in [("ily", 3), ("ly", 3), ("ing", 3), ("ed", 3)] {
        if out.len() >= ending.len() + keep && out.ends_with(ending) {
            out.truncate(out.len() - ending.len());
            if ending == "ily" {
                out.push('y');
            }
            undouble(&mut out);
            break;
        }
    }
    if out.len() > 3 && out.ends_with('e') {
        out.pop();
    }
    if out.len() > 3 && out.ends_with('y') {
        out.pop();
        out.push('i');
    }
    out
}

fn undouble(word: &mut String) {
    let bytes = word.as_bytes();
    if let [.., a, b] = bytes
        && a == b
        && !matches!(b, b'l' | b's' | b'z' | b'e' | b'o')
    {
        word.pop();
    }
}

/// The terms of a text that carry meaning: stems without stop words, and pairs of neighbouring Chinese
/// characters. Names in snake_case and camelCase fall apart into their words.
pub(super) fn terms(text: &str) -> BTreeSet<String> {
    let mut split = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    for c in text.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            split.push(' ');
        }
        split.push(c);
        before = c;
    }
    terms_of(&tokens(&split))
}

/// The terms of some tokens.
pub(super) fn terms_of(tokens: &[Token]) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (i, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Word if !is_stop_word(&token.low) => {
                out.insert(stem(&token.low));
            }
            Kind::Han => {
                if let Some(next) =
                    tokens.get(i + 1).filter(|next| next.kind == Kind::Han && next.start == token.end)
                {
                    let pair = format!("{}{}", token.low, next.low);
                    if !STOP_PAIRS.contains(&pair.as_str()) {
                        out.insert(pair);
                    }
                }
            }
            _ => {}
        }
    }
    out
}

const STOP_PAIRS: &[&str] = &[
    "請問", "多少", "什麼", "怎麼", "如何", "可以", "我們", "你們", "他們", "告訴", "訴我", "給我", "我想",
    "想要", "想知", "知道", "哪些", "哪個", "幾個", "是多", "是什", "麼樣", "是誰", "是哪", "有多", "有哪",
    "有幾", "的是", "嗎請", "一下", "看看", "列出", "例如", "或是", "以及", "如果", "這個", "那個", "所有",
    "全部", "不含", "包含", "預設", "選填", "格式", "日期",
];

/// A question cut where a second request may begin: at `and`, `also`, 以及, 還有, and between sentences.
pub(super) fn clauses(text: &str) -> Vec<&str> {
    const PAIRS: &[&str] = &["以及", "還有", "並且", "另外"];
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < tokens.len() {
        let pair: String = tokens[at..].iter().take(2).map(|token| token.low.as_str()).collect();
        let length = if PAIRS.contains(&pair.as_str()) {
            2
        } else {
            usize::from(["and", "also", ";", "?", "!", "。", "plus"].contains(&tokens[at].low.as_str()))
        };
        if length > 0 {
            found.push(&text[start..tokens[at].start]);
            start = tokens[at + length - 1].end;
        }
        at += length.max(1);
    }
    found.push(&text[start..]);
    found.retain(|clause| clause.chars().any(char::is_alphanumeric));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_bring_forms_of_a_word_together() {
        for (a, b) in [
            ("orders", "ordered"),
            ("purchases", "purchasing"),
            ("monthly", "month"),
            ("cities", "city"),
            ("boxes", "box"),
            ("planned", "planning"),
            ("rates", "rate"),
            ("sold", "sales"),
            ("tickets", "ticket"),
            ("customer's", "customers"),
        ] {
            assert_eq!(stem(a), stem(b), "{a} {b}");
        }
        assert_ne!(stem("status"), stem("state"));
    }

    #[test]
    fn terms_are_stems_and_pairs_of_characters() {
        let found = terms("shop__topCustomers 最好的客戶");
        for term in ["shop", "top", "customer", "最好", "客戶"] {
            assert!(found.contains(term), "{term} in {found:?}");
        }
        assert!(terms("the of 的").is_empty());
    }

    #[test]
    fn full_width_digits_are_digits_and_huge_ones_are_no_number() {
        let all = tokens("１９９７ 99999999999999999999");
        assert_eq!(all[0].number(), Some(1997));
        assert_eq!(all[1].number(), None);
    }
}
