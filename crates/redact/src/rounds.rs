//! Rounds: a text in which finds were masked is read again until nothing new is found.
//!
//! A mask may change what stands beside it means. What a later round finds is told in places of the input, and only
//! the surroundings of what changed are read again (`zones`).

use std::borrow::Cow;

use crate::bare::Bare;
use crate::document::Document;
use crate::rules::Rules;
use crate::scan::{Scanner, merged};
use crate::text::Text;
use crate::zones::Span;
use crate::{Finding, Redactor, work};

/// How often a masked text is scanned again at most. One more round than the first is the rule.
pub(crate) const MAX_ROUNDS: usize = 8;
/// How often zones are widened to where their rules looked before the whole text is read.
const MAX_ATTEMPTS: usize = 3;

/// All finds in `text`, by position, without overlaps, and such that the masked text holds no more: a mask may
/// change what its surroundings mean, so the masked text is scanned until nothing new is found.
pub(crate) fn findings(redactor: &Redactor, text: &str, name: &str) -> Vec<Finding> {
    findings_behind(redactor, text, name, Document::new())
}

/// The same for a text that follows `before`.
pub(crate) fn findings_behind(redactor: &Redactor, text: &str, name: &str, before: Document) -> Vec<Finding> {
    findings_within(redactor, text, name, before, MAX_ATTEMPTS)
}

/// The same, where zones are widened so often before the whole text is read.
fn findings_within(
    redactor: &Redactor,
    text: &str,
    name: &str,
    before: Document,
    attempts: usize,
) -> Vec<Finding> {
    let mut scanner = Scanner::new(redactor, Text::new(text, before), name);
    let mut found = scanner.findings();
    let Scanner { mut looked, mut asked, .. } = scanner;
    let mut changed: Vec<Span> = found.iter().map(span).collect();
    for _ in 0..MAX_ROUNDS {
        if changed.is_empty() {
            break;
        }
        let (masked, masks) = mask_with_places(&redactor.rules, text, &found, before);
        looked.extend(found.iter().map(span));
        changed.extend(&asked);
        let mut more = Vec::new();
        for attempt in 0..=attempts {
            let zones = match attempt == attempts {
                true => vec![(0, masked.len())],
                false => looked
                    .zones(&changed, text.len())
                    .into_iter()
                    .map(|zone| in_masked(&masks, zone))
                    .collect(),
            };
            let mut scanner = Scanner::again(redactor, Text::new(&masked, before), name, zones);
            more = scanner.findings();
            let place = |(start, end): Span| {
                (position_in_input(&masks, start, false), position_in_input(&masks, end, true))
            };
            looked.extend(scanner.looked.iter().map(place));
            asked.extend(scanner.asked.iter().copied().map(place));
            if !scanner.is_beyond {
                break;
            }
        }
        let known = found.clone();
        found.extend(in_input(&masks, &more));
        found = merged(found);
        let is_known = |finding: &Finding| {
            let at = known.partition_point(|earlier| earlier.start < finding.start);
            known.get(at) == Some(finding)
        };
        changed = found.iter().filter(|finding| !is_known(finding)).map(span).collect();
    }
    found
}

fn span(finding: &Finding) -> Span {
    (finding.start, finding.end)
}

/// Replaces each finding by its mask.
pub(crate) fn mask<'a>(rules: &Rules, text: &'a str, findings: &[Finding]) -> Cow<'a, str> {
    if findings.is_empty() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(mask_with_places(rules, text, findings, Document::new()).0)
}

/// A mask in a masked text, and what it stands for.
pub(crate) struct Mask {
    start: usize,
    end: usize,
    finding: Finding,
}

pub(crate) fn mask_with_places(
    rules: &Rules,
    text: &str,
    findings: &[Finding],
    before: Document,
) -> (String, Vec<Mask>) {
    work::count(text.len());
    let mut masked = String::with_capacity(text.len());
    let mut masks = Vec::with_capacity(findings.len());
    let mut bare = Bare::behind(text, before);
    let mut copied = 0;
    for finding in findings {
        masked.push_str(&text[copied..finding.start]);
        let start = masked.len();
        let quote = bare.quote(finding.start, finding.end);
        masked.push_str(&quote);
        masked.push_str(&rules.mask(finding.class, &text[finding.start..finding.end]));
        masked.push_str(&quote);
        masks.push(Mask { start, end: masked.len(), finding: *finding });
        copied = finding.end;
    }
    masked.push_str(&text[copied..]);
    (masked, masks)
}

/// Translates finds in the masked text to the input; where one begins or ends in a mask, it takes in all of what the
/// mask stands for.
pub(crate) fn in_input(masks: &[Mask], more: &[Finding]) -> Vec<Finding> {
    let position = |at: usize, is_end: bool| position_in_input(masks, at, is_end);
    more.iter()
        .map(|m| Finding { class: m.class, start: position(m.start, false), end: position(m.end, true) })
        .collect()
}

/// Where a position in the masked text lies in the input; one within a mask is where what the mask stands for begins
/// or ends.
pub(crate) fn position_in_input(masks: &[Mask], at: usize, is_end: bool) -> usize {
    // The last mask that begins before `at`, or at it for a start.
    let before = masks.partition_point(|mask| mask.start < at || (mask.start == at && !is_end));
    let Some(mask) = before.checked_sub(1).map(|n| &masks[n]) else { return at };
    match at.checked_sub(mask.end) {
        Some(behind) => mask.finding.end + behind,
        None if is_end => mask.finding.end,
        None => mask.finding.start,
    }
}

/// Where a part of the input lies in the masked text, of whose masks it has none in part.
fn in_masked(masks: &[Mask], (start, end): Span) -> Span {
    let place = |at: usize| {
        let before = masks.partition_point(|mask| mask.finding.end <= at);
        match before.checked_sub(1).map(|n| &masks[n]) {
            Some(mask) => mask.end + (at - mask.finding.end),
            None => at,
        }
    };
    (place(start), place(end))
}

/// What one scan of `text` finds, by position, without overlaps.
pub(crate) fn first_findings(redactor: &Redactor, text: &str, name: &str) -> Vec<Finding> {
    Scanner::new(redactor, Text::new(text, Document::new()), name).findings()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Action;

    /// Finds, what changes the meaning of what stands beside it, and room between them.
    fn any_text() -> impl Strategy<Value = String> {
        let token = "q7Rw2Zk9Xb4Nc6Vm1Lp8Td3Hs5Gf0JyQeUaIoWxPzKn";
        let mut pieces: Vec<String> = [
            "password=",
            "password ",
            "token: ",
            "\"",
            "'",
            "\\\"",
            ",",
            ";",
            " ",
            "\n",
            "://",
            "@",
            ":",
            "[",
            "]",
            "{",
            "}",
            "login ",
            "machine x ",
            "curl ",
            "-u a:",
            "identified by ",
            "user ",
            "config a.password ",
            "| password | ",
            "\"name\":\"password\",\"value\":",
            "\"value\":\"x1y2z3\",\"name\":\"password\"",
            "Private-Lines:",
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "Authorization: ",
            "Bearer ",
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "4111 1111 1111 1111",
            "ann@example.org",
            "phone ",
            "02-2345-6789",
            "\u{200b}",
            "%3D",
            "\\u0041",
            "密碼",
            "：",
            "eyJ",
            ".",
            "required",
            "**",
            "(",
            ")",
            "-",
        ]
        .map(str::to_owned)
        .to_vec();
        pieces.extend([format!("ghp_{}", &token[..36]), token[..7].to_owned(), token.to_owned()]);
        pieces.extend([
            "and so on ".repeat(5),
            "word ".repeat(60),
            "and so on ".repeat(15),
            "word ".repeat(33),
            "12 ".repeat(120),
            "a".repeat(400),
        ]);
        prop::collection::vec(prop::sample::select(pieces), 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn reading_the_surroundings_again_finds_what_reading_everything_again_finds(text in any_text()) {
            let redactor = Redactor::with(Rules::everything(Action::Mask));
            let all = |attempts| findings_within(&redactor, &text, "", Document::new(), attempts);
            prop_assert_eq!(all(MAX_ATTEMPTS), all(0));
        }
    }
}
