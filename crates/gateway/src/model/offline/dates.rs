//! Periods named in a question, in English and Chinese, as first and last day (both inclusive).
//!
//! A point (`March 1997`, `Q2 1997`, `1997年3月5日`, `1997/3/5`, 民國 years) stands alone, joins another to a
//! range (`from … to …`, `between … and …`, `…到…`), or is open on one side (`since`, `until`, `以前`).
//! A point without a year takes it from its partner or from the only year in the text. There is no clock
//! here, so `last month` cannot be resolved: such words are reported as [`Unclear`] and the planner asks,
//! rather than answer for another period than the one meant.

use std::collections::BTreeSet;

use jiff::civil::Date;

use super::point::{Point, Unit, bare_day, point};
use super::words::{Kind, Token};

/// A stretch of days; an open side is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) first: Option<Date>,
    pub(super) last: Option<Date>,
    /// The calendar unit, when the period is exactly one.
    pub(super) unit: Option<Unit>,
}

/// Why a period that was meant cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unclear {
    /// A month or quarter, and no year anywhere.
    NoYear,
    /// Relative to today, or vague (`early 1997`).
    Relative,
    /// `3/5/1997`: March or May?
    DayOrMonth,
}

impl Period {
    /// The same period in a form that [`read`] understands; `None` when a side is open.
    pub(super) fn in_words(&self) -> Option<String> {
        let (first, last) = (self.first?, self.last?);
        Some(match self.unit {
            Some(Unit::Month(_)) => first.strftime("%Y-%m").to_string(),
            _ => format!("from {first} to {last}"),
        })
    }
}

/// What a text says about time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dates {
    /// In the order of the text.
    pub(super) periods: Vec<Period>,
    pub(super) unclear: Option<Unclear>,
}

/// One mention, before years are shared.
#[derive(Debug, Clone)]
struct Mention {
    from: Option<Point>,
    to: Option<Point>,
    side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Closed,
    Since,
    After,
    Until,
    Before,
}

/// Reads the periods and marks their tokens as used.
pub(super) fn read(tokens: &mut [Token]) -> Dates {
    let mut dates = Dates::default();
    let mut mentions = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].used {
            at += 1;
            continue;
        }
        let Some((mention, next, is_vague)) = mention(tokens, at) else {
            at += 1;
            continue;
        };
        if is_vague {
            dates.unclear = Some(Unclear::Relative);
        }
        tokens[at..next].iter_mut().for_each(|token| token.used = true);
        mentions.push(mention);
        at = next;
    }
    let years: BTreeSet<i16> =
        mentions.iter().flat_map(|m| [m.from, m.to]).flatten().filter_map(|point| point.year).collect();
    let only_year = if years.len() == 1 { years.first().copied() } else { None };
    for mention in mentions {
        match resolve(mention, only_year) {
            Some(period) if !dates.periods.contains(&period) => dates.periods.push(period),
            Some(_) => {}
            None => dates.unclear = dates.unclear.or(Some(Unclear::NoYear)),
        }
    }
    if has_ambiguous_slashes(tokens) {
        dates.unclear = Some(Unclear::DayOrMonth);
    } else if dates.unclear.is_none() && has_relative_words(tokens) {
        dates.unclear = Some(Unclear::Relative);
    }
    dates
}

fn mention(tokens: &[Token], at: usize) -> Option<(Mention, usize, bool)> {
    if let Some((from, to, next)) = days_of_one_month(tokens, at) {
        return Some((Mention { from: Some(from), to: Some(to), side: Side::Closed }, next, false));
    }
    let (from, next) = point(tokens, at)?;
    if let Some((to, next)) = partner(tokens, at, next, from) {
        return Some((Mention { from: Some(from), to: Some(to), side: Side::Closed }, next, false));
    }
    let (side, next) = side(tokens, at, next);
    let is_vague = side == Side::Closed && is_vague(tokens, at, next);
    Some((Mention { from: Some(from), to: None, side }, next, is_vague))
}

/// `5 to 10 March 1997`, `5-10 March 1997`.
fn days_of_one_month(tokens: &[Token], at: usize) -> Option<(Point, Point, usize)> {
    let (day, next) = bare_day(tokens, at)?;
    let (joined, _) = joiner(tokens, next, false)?;
    let (to, end) = point(tokens, joined)?;
    let Unit::Day(month, _) = to.unit else { return None };
    Some((Point { year: to.year, unit: Unit::Day(month, day) }, to, end))
}

/// The second point of a range that began with the point `at..next`.
fn partner(tokens: &[Token], at: usize, next: usize, from: Point) -> Option<(Point, usize)> {
    let is_between = before(tokens, at, &["between", "介於", "從", "自", "from"]);
    let (start, is_and) = joiner(tokens, next, true)?;
    let start = skip(tokens, start, &["the", "end", "of", "beginning"]);
    if let Some((to, end)) = point(tokens, start) {
        let is_between = is_between || word_at(tokens, end, "之間") || word_at(tokens, end, "間");
        let joins = !is_and || is_between || (from.year.is_none() && from.is_followed_by(to));
        return joins.then_some((to, end));
    }
    // `March 5-10, 1997`, `3月5日到10日`
    let Unit::Day(month, first) = from.unit else { return None };
    let (day, mut end) = bare_day(tokens, start)?;
    if is_and && !is_between || day <= first {
        return None;
    }
    end = skip(tokens, end, &["日", "號", ",", "of"]);
    let mut year = from.year;
    if let Some(n) = tokens.get(end).and_then(Token::number).filter(|n| (1000..3000).contains(n)) {
        year = i16::try_from(n).ok();
        end += 1;
    }
    Some((Point { year, unit: Unit::Day(month, day) }, end))
}

/// The place after a joining word, and whether it only lists (`and`).
fn joiner(tokens: &[Token], at: usize, may_list: bool) -> Option<(usize, bool)> {
    const TO: &[&str] = &["to", "until", "till", "through", "thru", "-", "~", "到", "至"];
    let token = tokens.get(at)?;
    if token.is("up") && tokens.get(at + 1)?.is("to") {
        return Some((at + 2, false));
    }
    if TO.contains(&token.low.as_str()) {
        return Some((at + 1, false));
    }
    (may_list && ["and", "&", "和", "與", "及", "跟"].contains(&token.low.as_str())).then_some((at + 1, true))
}

/// Which side a single point leaves open, by the words around it.
fn side(tokens: &[Token], at: usize, next: usize) -> (Side, usize) {
    for (words, side) in [
        (&["以前", "之前"][..], Side::Before),
        (&["以來", "開始", "以後", "onwards", "onward"], Side::Since),
        (&["之後"], Side::After),
        (&["為止"], Side::Until),
    ] {
        if let Some(word) = words.iter().find(|word| word_at(tokens, next, word)) {
            return (side, next + if word.is_ascii() { 1 } else { 2 });
        }
    }
    for (word, side) in [("起", Side::Since), ("前", Side::Before), ("後", Side::After), ("止", Side::Until)]
    {
        if word_at(tokens, next, word) && !word_at(tokens, next + 1, "幾") && !is_count_after(tokens, next) {
            return (side, next + 1);
        }
    }
    if before(tokens, at, &["from"]) && word_at(tokens, next, "on") {
        return (Side::Since, next + 1);
    }
    let side = if before(tokens, at, &["since", "starting", "自"]) {
        Side::Since
    } else if before(tokens, at, &["after"]) {
        Side::After
    } else if before(tokens, at, &["until", "till", "through", "to", "by", "到", "至", "截至"]) {
        Side::Until
    } else if before(tokens, at, &["before"]) {
        Side::Before
    } else {
        Side::Closed
    };
    (side, next)
}

/// `前三名` after a period begins a count, not a side.
fn is_count_after(tokens: &[Token], at: usize) -> bool {
    super::numbers::number_at(tokens, at + 1).is_some()
}

fn is_vague(tokens: &[Token], at: usize, next: usize) -> bool {
    before(tokens, at, &["early", "late", "mid", "around", "about", "approximately"])
        || ["初", "底", "末", "左右"].iter().any(|word| word_at(tokens, next, word))
}

/// Does one of these words stand before `at`, with nothing but small words between?
fn before(tokens: &[Token], at: usize, words: &[&str]) -> bool {
    let mut at = at;
    while at > 0
        && ["the", "end", "beginning", "start", "of", "in", "year", "-"]
            .contains(&tokens[at - 1].low.as_str())
    {
        at -= 1;
    }
    words.iter().any(|word| {
        let length = if word.is_ascii() { 1 } else { word.chars().count() };
        at >= length && word_at(tokens, at - length, word)
    })
}

/// Is this word at this place? Chinese words are one token a character.
fn word_at(tokens: &[Token], at: usize, word: &str) -> bool {
    if word.is_ascii() {
        return tokens.get(at).is_some_and(|token| token.is(word));
    }
    word.chars().enumerate().all(|(i, c)| {
        let mut buffer = [0; 4];
        tokens.get(at + i).is_some_and(|token| token.is(c.encode_utf8(&mut buffer)))
    })
}

pub(super) fn skip(tokens: &[Token], mut at: usize, words: &[&str]) -> usize {
    while tokens.get(at).is_some_and(|token| words.contains(&token.low.as_str())) {
        at += 1;
    }
    at
}

fn resolve(mention: Mention, only_year: Option<i16>) -> Option<Period> {
    let mut from = mention.from?;
    let Some(mut to) = mention.to else {
        let (first, last) = from.days(only_year)?;
        let year = from.year.or(only_year);
        return Some(match mention.side {
            Side::Closed => Period { first: Some(first), last: Some(last), unit: year.map(|_| from.unit) },
            Side::Since => Period { first: Some(first), last: None, unit: None },
            Side::After => Period { first: last.tomorrow().ok(), last: None, unit: None },
            Side::Until => Period { first: None, last: Some(last), unit: None },
            Side::Before => Period { first: None, last: first.yesterday().ok(), unit: None },
        });
    };
    match (from.year, to.year) {
        (None, None) => (from.year, to.year) = (only_year, only_year),
        (None, Some(year)) => from.year = Some(if from.order() > to.order() { year - 1 } else { year }),
        (Some(year), None) => to.year = Some(if to.order() < from.order() { year + 1 } else { year }),
        (Some(_), Some(_)) => {}
    }
    let (mut first, mut last) = (from.days(None)?, to.days(None)?);
    if last.1 < first.0 {
        std::mem::swap(&mut first, &mut last);
    }
    Some(Period { first: Some(first.0), last: Some(last.1), unit: None })
}

fn has_relative_words(tokens: &[Token]) -> bool {
    const HAN: &[&str] = &[
        "昨天",
        "昨日",
        "今天",
        "今日",
        "明天",
        "明日",
        "上個月",
        "上月",
        "本月",
        "這個月",
        "下個月",
        "去年",
        "今年",
        "明年",
        "前年",
        "上週",
        "上周",
        "本週",
        "本周",
        "這週",
        "下週",
        "上星期",
        "這星期",
        "上一季",
        "上季",
        "本季",
        "這一季",
        "上一年",
        "近期",
    ];
    const NEAR: &[&str] = &["last", "this", "next", "past", "previous", "current", "coming"];
    const UNITS: &[&str] = &["day", "week", "weekend", "month", "quarter", "year"];
    (0..tokens.len()).any(|at| {
        let token = &tokens[at];
        if token.used {
            return false;
        }
        let unit_at = |at: usize| {
            tokens.get(at).is_some_and(|t| !t.used && UNITS.contains(&t.low.trim_end_matches('s')))
        };
        match token.kind {
            Kind::Han => HAN.iter().any(|word| word_at(tokens, at, word)),
            Kind::Word if NEAR.contains(&token.low.as_str()) => {
                let is_counted = tokens
                    .get(at + 1)
                    .is_some_and(|t| t.kind == Kind::Number || super::numbers::word_number(&t.low).is_some());
                unit_at(at + 1) || (is_counted && unit_at(at + 2))
            }
            Kind::Word if UNITS.contains(&token.low.trim_end_matches('s')) => word_at(tokens, at + 1, "ago"),
            Kind::Word => ["yesterday", "today", "tomorrow", "tonight"].contains(&token.low.as_str()),
            _ => false,
        }
    })
}

fn has_ambiguous_slashes(tokens: &[Token]) -> bool {
    tokens.windows(5).any(|w| {
        let small = |t: &Token| t.number().is_some_and(|n| (1..=31).contains(&n)) && t.text.len() <= 2;
        let touching = w.windows(2).all(|pair| pair[0].end == pair[1].start);
        touching
            && small(&w[0])
            && w[1].is("/")
            && small(&w[2])
            && w[3].is("/")
            && w[4].text.len() == 4
            && w[4].kind == Kind::Number
    })
}

#[cfg(test)]
mod tests {
    use super::super::words::tokens;
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let dates = read(&mut tokens(text));
        assert_eq!(dates.unclear, None, "{text}");
        let shown = |date: Option<Date>| date.map(|d| d.to_string()).unwrap_or_default();
        let found: Vec<(String, String)> =
            dates.periods.iter().map(|p| (shown(p.first), shown(p.last))).collect();
        let expected: Vec<(String, String)> =
            expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn english_periods_are_read() {
        for text in [
            "March 1997",
            "in Mar. 1997?",
            "during March of 1997",
            "orders from March 1997",
            "1997-03 please",
            "MARCH, 1997",
            "in 1997-03",
        ] {
            check(text, &[("1997-03-01", "1997-03-31")]);
        }
        for text in ["in 1997", "the year 1997", "1997 sales", "for 1997?", "1997's total"] {
            check(text, &[("1997-01-01", "1997-12-31")]);
        }
        for text in [
            "Q2 1997",
            "q2 of 1997",
            "second quarter of 1997",
            "the 2nd quarter of 1997",
            "1997 Q2",
            "1997Q2",
            "1997-Q2",
            "quarter 2 of 1997",
            "the second quarter 1997",
        ] {
            check(text, &[("1997-04-01", "1997-06-30")]);
        }
        for text in [
            "on 5 March 1997",
            "5th of March 1997",
            "March 5, 1997",
            "March 5th, 1997",
            "1997-03-05",
            "1997/3/5",
            "1997.03.05",
        ] {
            check(text, &[("1997-03-05", "1997-03-05")]);
        }
        check("first half of 1997", &[("1997-01-01", "1997-06-30")]);
        check("H2 1997", &[("1997-07-01", "1997-12-31")]);
        check("in the last quarter of 1997", &[("1997-10-01", "1997-12-31")]);
        check("February 1996", &[("1996-02-01", "1996-02-29")]);
    }

    #[test]
    fn ranges_are_read_and_share_their_year() {
        check("from 1997-01-05 to 1997-02-10", &[("1997-01-05", "1997-02-10")]);
        check("between January and March 1997", &[("1997-01-01", "1997-03-31")]);
        check("between January 1997 and March 1997", &[("1997-01-01", "1997-03-31")]);
        check("from November 1997 to February 1998", &[("1997-11-01", "1998-02-28")]);
        check("November to February 1998", &[("1997-11-01", "1998-02-28")]);
        check("November 1997 through February", &[("1997-11-01", "1998-02-28")]);
        check("March and April 1997", &[("1997-03-01", "1997-04-30")]);
        check("1997-1998", &[("1997-01-01", "1998-12-31")]);
        check("from 5 to 10 March 1997", &[("1997-03-05", "1997-03-10")]);
        check("March 5-10, 1997", &[("1997-03-05", "1997-03-10")]);
        check("from March 1998 to March 1997", &[("1997-03-01", "1998-03-31")]);
        check("Q1 to Q3 1997", &[("1997-01-01", "1997-09-30")]);
        check("since March 1997", &[("1997-03-01", "")]);
        check("from March 1997 onwards", &[("1997-03-01", "")]);
        check("after March 1997", &[("1997-04-01", "")]);
        check("until the end of March 1997", &[("", "1997-03-31")]);
        check("before March 1997", &[("", "1997-02-28")]);
    }

    #[test]
    fn chinese_periods_are_read() {
        check("1997年3月的銷售", &[("1997-03-01", "1997-03-31")]);
        check("一九九七年三月", &[("1997-03-01", "1997-03-31")]);
        check("民國86年3月", &[("1997-03-01", "1997-03-31")]);
        check("1997年3月份", &[("1997-03-01", "1997-03-31")]);
        check("1997年第一季", &[("1997-01-01", "1997-03-31")]);
        check("1997年第2季度", &[("1997-04-01", "1997-06-30")]);
        check("1997年1月到3月", &[("1997-01-01", "1997-03-31")]);
        check("1997 年 11 月至 1998 年 2 月", &[("1997-11-01", "1998-02-28")]);
        check("1997年3月5日到10日", &[("1997-03-05", "1997-03-10")]);
        check("從1997/3/5到1997/4/2", &[("1997-03-05", "1997-04-02")]);
        check("1997年上半年", &[("1997-01-01", "1997-06-30")]);
        check("1997下半年", &[("1997-07-01", "1997-12-31")]);
        check("1997年全年", &[("1997-01-01", "1997-12-31")]);
        check("1997年3月和4月之間", &[("1997-03-01", "1997-04-30")]);
        check("1997年3月以前", &[("", "1997-02-28")]);
        check("自1997年3月起", &[("1997-03-01", "")]);
        check("1997年前三名", &[("1997-01-01", "1997-12-31")]);
        check("１９９７年３月", &[("1997-03-01", "1997-03-31")]);
    }

    #[test]
    fn two_periods_side_by_side_stay_two() {
        check(
            "compare March 1997 and March 1998",
            &[("1997-03-01", "1997-03-31"), ("1998-03-01", "1998-03-31")],
        );
        check("March 1997 and April 1997", &[("1997-03-01", "1997-03-31"), ("1997-04-01", "1997-04-30")]);
        check(
            "in March, and again in May 1997",
            &[("1997-03-01", "1997-03-31"), ("1997-05-01", "1997-05-31")],
        );
    }

    #[test]
    fn what_is_no_date_is_left_alone() {
        for text in [
            "you may march on",
            "order 17",
            "top 5",
            "三個月",
            "30 days",
            "99999 people",
            "",
            "第三名",
            "1997-13-40",
            "February 30 1997x",
        ] {
            let dates = read(&mut tokens(text));
            assert!(dates.periods.iter().all(|p| p.unit.is_some()), "{text}: {dates:?}");
        }
        check("you may march on", &[]);
        check("customer 17 and top 5", &[]);
        check("三個月", &[]);
    }

    #[test]
    fn what_cannot_be_known_is_unclear() {
        for (text, why) in [
            ("in March", Unclear::NoYear),
            ("三月的訂單", Unclear::NoYear),
            ("last month", Unclear::Relative),
            ("the past 3 weeks", Unclear::Relative),
            ("去年", Unclear::Relative),
            ("tomorrow", Unclear::Relative),
            ("in early 1997", Unclear::Relative),
            ("1997年底", Unclear::Relative),
            ("on 3/5/1997", Unclear::DayOrMonth),
            ("two days ago", Unclear::Relative),
        ] {
            assert_eq!(read(&mut tokens(text)).unclear, Some(why), "{text}");
        }
        assert_eq!(read(&mut tokens("the last 5 orders")).unclear, None);
    }
}
