//! Finding tools by words: BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009) over names, titles
//! and descriptions, a word in a name counting for more than one in a description.
//!
//! A word is a run of letters and digits, split where `camelCase` and `snake_case` split it, in lower case and without its
//! plural `s`; a run of Chinese, Japanese or Korean characters counts as its pairs. Nothing is indexed: a thousand tools are
//! read in a few milliseconds, and what was read cannot be stale.

use std::collections::HashMap;

/// How much one more occurrence of a word still adds.
const K1: f64 = 1.2;
/// How much a long text's words count for less.
const B: f64 = 0.75;
/// Most words of a query that count.
const MOST_WORDS: usize = 32;
/// Occurrences in a name, a title and a description weigh so much.
const WEIGHTS: [f64; 3] = [4.0, 2.0, 1.0];
/// A longer word that begins with a word of the query, of at least four characters.
const PREFIX: f64 = 0.5;
const SHORTEST_PREFIX: usize = 4;

/// What is known of a tool.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its title, or nothing.
    pub title: &'a str,
    /// What it does, or nothing.
    pub description: &'a str,
}

/// Positions of the entries in which a word of the query occurs, the best first; at most `limit`. Those that are equally
/// good stay in their order.
pub fn rank(entries: &[Entry<'_>], query: &str, limit: usize) -> Vec<usize> {
    let mut asked: Vec<String> = Vec::new();
    each_word(query, &mut |word| {
        if asked.len() < MOST_WORDS && !asked.iter().any(|known| known == word) {
            asked.push(word.to_owned());
        }
    });
    let places: HashMap<&str, usize> = asked.iter().enumerate().map(|(i, word)| (word.as_str(), i)).collect();
    let counted: Vec<Counted> = entries.iter().map(|entry| Counted::of(entry, &asked, &places)).collect();
    let mean = counted.iter().map(|c| c.length).sum::<f64>() / (counted.len().max(1) as f64);
    let rarity: Vec<f64> = (0..asked.len())
        .map(|i| {
            let with = counted.iter().filter(|c| c.occurs[i] > 0.0).count() as f64;
            (1.0 + (counted.len() as f64 - with + 0.5) / (with + 0.5)).ln()
        })
        .collect();
    let mut scored: Vec<(usize, f64)> = counted
        .iter()
        .enumerate()
        .map(|(i, c)| (i, c.score(&rarity, mean)))
        .filter(|(_, s)| *s > 0.0)
        .collect();
    scored.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    scored.into_iter().take(limit).map(|(i, _)| i).collect()
}

/// How often each word of the query occurs in an entry, weighed, and how long the entry is.
struct Counted {
    occurs: Vec<f64>,
    length: f64,
}

impl Counted {
    fn of(entry: &Entry<'_>, asked: &[String], places: &HashMap<&str, usize>) -> Self {
        let mut counted = Self { occurs: vec![0.0; asked.len()], length: 0.0 };
        for (text, weight) in [entry.name, entry.title, entry.description].into_iter().zip(WEIGHTS) {
            each_word(text, &mut |word| {
                counted.length += 1.0;
                if let Some(i) = places.get(word) {
                    counted.occurs[*i] += weight;
                    return;
                }
                let begins =
                    |asked: &&String| asked.len() >= SHORTEST_PREFIX && word.starts_with(asked.as_str());
                if let Some(i) = asked.iter().find(begins).and_then(|asked| places.get(asked.as_str())) {
                    counted.occurs[*i] += weight * PREFIX;
                }
            });
        }
        counted
    }

    fn score(&self, rarity: &[f64], mean: f64) -> f64 {
        let long = K1 * (1.0 - B + B * self.length / mean.max(1.0));
        self.occurs.iter().zip(rarity).map(|(n, rare)| rare * n * (K1 + 1.0) / (n + long)).sum()
    }
}

/// Every word of a text, in order.
fn each_word(text: &str, take: &mut impl FnMut(&str)) {
    let (mut word, mut last, mut before) = (String::new(), None::<char>, None::<char>);
    for c in text.chars() {
        if is_ideograph(c) {
            end(&mut word, take);
            if let Some(first) = before {
                take([first, c].iter().collect::<String>().as_str());
            }
            (before, last) = (Some(c), None);
            continue;
        }
        before = None;
        let is_hump = c.is_uppercase() && last.is_some_and(|last| last.is_lowercase() || last.is_numeric());
        if is_hump || !c.is_alphanumeric() {
            end(&mut word, take);
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        last = Some(c);
    }
    end(&mut word, take);
}

fn end(word: &mut String, take: &mut impl FnMut(&str)) {
    let stem = match word.strip_suffix('s') {
        Some(stem) if stem.len() >= 3 && !stem.ends_with('s') => stem,
        _ => word,
    };
    if !stem.is_empty() {
        take(stem);
    }
    word.clear();
}

/// Written without spaces between words.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOLS: [(&str, &str, &str); 6] = [
        ("shop__refund_order", "Refund", "Gives the customer of an order their money back."),
        ("shop__list_orders", "Orders", "Lists orders by day, newest first."),
        ("shop__sales_summary", "銷售總額", "每日銷售總額與客戶數量的摘要。"),
        ("crm__findCustomer", "", "Finds a customer by name or e-mail address."),
        ("files__read", "", "Reads a file below the shared folder."),
        ("mail__send", "寄送郵件", "寄出一封電子郵件給客戶。"),
    ];

    fn found(query: &str) -> Vec<&'static str> {
        let entries: Vec<Entry<'_>> =
            TOOLS.map(|(name, title, description)| Entry { name, title, description }).into();
        rank(&entries, query, 3).into_iter().map(|i| TOOLS[i].0).collect()
    }

    #[test]
    fn the_tool_that_is_named_so_comes_before_those_that_mention_it() {
        for (query, first) in [
            ("refund", "shop__refund_order"),
            ("give money back to a customer", "shop__refund_order"),
            ("orders", "shop__list_orders"),
            ("find customers", "crm__findCustomer"),
            ("read files", "files__read"),
            ("SALES", "shop__sales_summary"),
            ("銷售總額", "shop__sales_summary"),
            ("電子郵件", "mail__send"),
            ("寄郵件", "mail__send"),
            ("cust", "crm__findCustomer"),
        ] {
            assert_eq!(found(query).first(), Some(&first), "{query}: {:?}", found(query));
        }
    }

    #[test]
    fn what_no_tool_says_finds_none_and_no_more_are_told_than_asked_for() {
        for nothing in ["", "   ", "weather", "天氣", "!?"] {
            assert_eq!(found(nothing), Vec::<&str>::new(), "{nothing}");
        }
        assert_eq!(found("customer order file mail sales").len(), 3);
    }
}
