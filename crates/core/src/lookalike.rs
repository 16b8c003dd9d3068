//! Names that a person takes for one another: `shop` and `sh0p`, `mail-server` and `rnail_server`.
//!
//! Two names are alike when they have the same skeleton (case, separators and characters that look the same do not
//! count) or, where they are long, when they differ by one slip of a finger. Numbered names (`node-1`, `node-2`) and names
//! that differ by a whole word (`shop-a`, `shop-b`) are ordinary and are not alike.

/// Names with a shorter skeleton are compared by skeleton only: short words are too near each other.
const LONG: usize = 8;

/// Do two names that differ look like one another?
pub fn are_alike(a: &str, b: &str) -> bool {
    if a == b {
        return false;
    }
    let (by_word, one, other) = (differing_words(a, b), skeleton(a), skeleton(b));
    if one == other {
        let is_numbered = !by_word.is_empty() && by_word.iter().all(|(a, b)| is_number(a) && is_number(b));
        return !is_numbered;
    }
    let is_long = one.chars().count().min(other.chars().count()) >= LONG;
    let is_ordinary = is_numbered(a, b) || by_word.iter().any(|(a, b)| is_short(a, b));
    is_long && !is_ordinary && is_one_slip(a, b)
}

/// What is left of a name when everything is taken away that the eye passes over.
pub fn skeleton(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars().flat_map(char::to_lowercase) {
        match latin(c) {
            '_' | '-' | '.' | ' ' => {}
            '0' => text.push('o'),
            '1' | 'i' | '|' | '!' => text.push('l'),
            '5' | '$' => text.push('s'),
            other if is_invisible(other) => {}
            other => text.push(other),
        }
    }
    text.replace("rn", "m").replace("vv", "w")
}

/// The Latin letter that a full-width, Cyrillic or Greek one looks like; any other character as it is.
pub fn latin(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => CONFUSABLE.iter().find(|(other, _)| *other == c).map_or(c, |(_, latin)| *latin),
    }
}

/// Is it a letter of another alphabet that looks like a Latin one?
pub fn is_confusable(c: char) -> bool {
    CONFUSABLE.iter().any(|(other, _)| *other == c)
}

/// Does it leave no mark on a screen, and is it neither a space nor a line's end?
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Letters of other alphabets with the Latin one that each looks like (from Unicode's list of confusables, UTS 39; only
/// what fonts draw the same).
const CONFUSABLE: [(char, char); 34] = [
    ('а', 'a'),
    ('в', 'b'),
    ('с', 'c'),
    ('ԁ', 'd'),
    ('е', 'e'),
    ('һ', 'h'),
    ('і', 'i'),
    ('ј', 'j'),
    ('к', 'k'),
    ('м', 'm'),
    ('о', 'o'),
    ('р', 'p'),
    ('ԛ', 'q'),
    ('ѕ', 's'),
    ('т', 't'),
    ('ѵ', 'v'),
    ('ԝ', 'w'),
    ('х', 'x'),
    ('у', 'y'),
    ('А', 'A'),
    ('В', 'B'),
    ('С', 'C'),
    ('Е', 'E'),
    ('Н', 'H'),
    ('І', 'I'),
    ('К', 'K'),
    ('М', 'M'),
    ('О', 'O'),
    ('Р', 'P'),
    ('Ѕ', 'S'),
    ('Т', 'T'),
    ('Х', 'X'),
    ('ο', 'o'),
    ('Ο', 'O'),
];

fn words(name: &str) -> Vec<&str> {
    name.split(['_', '-', '.']).collect()
}

/// Of names with as many words: those that differ.
fn differing_words<'a>(a: &'a str, b: &'a str) -> Vec<(&'a str, &'a str)> {
    match (words(a), words(b)) {
        (a, b) if a.len() == b.len() => a.into_iter().zip(b).filter(|(a, b)| a != b).collect(),
        _ => Vec::new(),
    }
}

/// `a` and `b`, `eu` and `us`: a word so short that its letters are read one by one.
fn is_short(a: &str, b: &str) -> bool {
    a.len() <= 2 && b.len() <= 2
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit())
}

/// The same but for the digits: `orders2024` and `orders2025`.
fn is_numbered(a: &str, b: &str) -> bool {
    let letters = |name: &str| -> String { name.chars().filter(|c| !c.is_ascii_digit()).collect() };
    letters(a) == letters(b)
}

/// One character more, fewer, other, or two neighbours changed about.
fn is_one_slip(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let head = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let most = a.len().min(b.len()) - head;
    let tail = a.iter().rev().zip(b.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    match (a, b) {
        ([_], [_] | []) | ([], [_]) => true,
        ([one, two], [other, another]) => one == another && two == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_one_another_are_alike_and_ordinary_neighbours_are_not() {
        for (a, b) in [
            ("shop", "sh0p"),
            ("shop", "Shop"),
            ("shop", "5hop"),
            ("my-shop", "my_shop"),
            ("mail", "mai1"),
            ("mail", "rnail"),
            ("windows", "vvindows"),
            ("mail", "ma1l"),
            ("shop", "ѕhор"),
            ("calendar", "calender"),
            ("inventory", "invnetory"),
            ("warehouse", "warehouses"),
            ("send_mail", "send\u{200b}_mail"),
            ("send_mail", "ｓend_mail"),
            ("filesystem", "filesytem"),
        ] {
            assert!(are_alike(a, b) && are_alike(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("shop", "shop"),
            ("shop", "ship"),
            ("crm", "erp"),
            ("github", "gitlab"),
            ("node-1", "node-2"),
            ("node-1", "node-0"),
            ("orders2024", "orders2025"),
            ("warehouse-a", "warehouse-b"),
            ("warehouse-eu", "warehouse-us"),
            ("warehouse-10", "warehouse-1"),
            ("orders", "orders-archive"),
            ("inventory-read", "inventory-write"),
            ("銷售查詢", "銷售總額"),
        ] {
            assert!(!are_alike(a, b) && !are_alike(b, a), "{a} {b}");
        }
    }
}
