//! One scan of a text that may go on: what is found, and up to where that is certain.
//!
//! The first round looks at the text itself. What is open then: a find whose rule looked past the end; the last bytes
//! where they could begin an anchor, or be the secret of an AWS key that follows; and, with patterns, the last 256.
//! Whatever open part lies in a find or in the value of a name opens all of it, since the two would be one mask.
//! The other rounds look at the masked text, as for a whole one, but only at what is certain so far; they may open more.

use crate::document::Document;
use crate::open::{Open, Until};
use crate::rounds::{self, MAX_ROUNDS};
use crate::scan::{self, Scanner};
use crate::text::Text;
use crate::{Class, Finding, Redactor, view};

/// The longest match of a pattern that a stream finds exactly.
const MAX_MATCH: usize = 256;

/// What is known about a text that may go on.
pub(super) struct Window {
    /// By position, without overlaps; none begins at or behind `decided`.
    pub(super) findings: Vec<Finding>,
    /// Where what may go out ends.
    pub(super) cut: usize,
    /// The same, matches of patterns apart.
    pub(super) decided: usize,
    /// The find that is open, key blocks apart.
    pub(super) open: Option<Open>,
    /// The key block that is open.
    pub(super) block: Option<Open>,
    /// Of which class the find is that begins at `decided`.
    next: Option<Class>,
}

/// One round.
struct Round {
    findings: Vec<Finding>,
    next: Option<Class>,
    decided: usize,
    patterns_decided: usize,
    open: Option<Open>,
    block: Option<Open>,
}

impl Window {
    pub(super) fn scan(redactor: &Redactor, text: &str, before: Document) -> Window {
        let first = Round::of(redactor, text, before, false);
        let mut window = Window {
            findings: first.findings,
            cut: first.patterns_decided,
            decided: first.decided,
            open: first.open,
            block: first.block,
            next: first.next,
        };
        for _ in 0..MAX_ROUNDS {
            if window.findings.is_empty() || !window.next_round(redactor, text, before) {
                break;
            }
        }
        window.hold_what_an_open_find_touches(redactor, text, before);
        window.cut = settle(window.cut.min(window.decided), window.findings.iter().map(|f| (f.start, f.end)));
        window.cut = text.floor_char_boundary(window.cut);
        window
    }

    /// The mask of a find that is open, or held with what is, may become part of a find before it, as in
    /// `password ,Private-Lines:`: what would then be masked with it is not certain either.
    fn hold_what_an_open_find_touches(&mut self, redactor: &Redactor, text: &str, before: Document) {
        let open = self.open.or(self.block).map(|open| open.class);
        let Some(class) = open.or(self.next) else { return };
        let certain = &text[..text.floor_char_boundary(self.decided)];
        let (mut masked, masks) = rounds::mask_with_places(&redactor.rules, certain, &self.findings, before);
        masked.push_str(&redactor.rules.mask(class, ""));
        let round = Round::of(redactor, &masked, before, true);
        let settled = rounds::position_in_input(&masks, round.decided, false);
        self.decided = settle(settled.min(self.decided), self.findings.iter().map(|f| (f.start, f.end)));
        take_from(&mut self.findings, self.decided);
    }

    /// Scans the masked text; says whether that found more.
    fn next_round(&mut self, redactor: &Redactor, text: &str, before: Document) -> bool {
        let (masked, masks) =
            rounds::mask_with_places(&redactor.rules, &text[..self.decided], &self.findings, before);
        let round = Round::of(redactor, &masked, before, true);
        let place = |at: usize| rounds::position_in_input(&masks, at, false);
        let more = rounds::in_input(&masks, &round.findings);
        let is_more = !more.is_empty();
        self.findings.extend(more);
        self.findings = scan::merged(std::mem::take(&mut self.findings));
        self.cut = self.cut.min(place(round.patterns_decided));
        if round.decided < masked.len() {
            self.decided = settle(place(round.decided), self.findings.iter().map(|f| (f.start, f.end)));
            self.next = take_from(&mut self.findings, self.decided).or(self.next);
            let in_input = |open: Open| Open { from: place(open.from), ..open };
            // What was open before is the reason; behind it this round saw an end where there is none.
            self.open = self.open.or(round.open.map(in_input));
            self.block = self.block.or(round.block.map(in_input));
        }
        is_more
    }
}

impl Round {
    fn of(redactor: &Redactor, text: &str, before: Document, is_again: bool) -> Round {
        let mut scanner = Scanner::new(redactor, Text::new(text, before), "");
        (scanner.goes_on, scanner.is_again) = (true, is_again);
        let mut findings = scanner.findings();
        let (open, block) = (scanner.open, scanner.open_block);
        let opens = [open, block].into_iter().flatten().map(|open| open.from);
        let rules_decided = opens.min().unwrap_or(text.len());
        let mut tail = scanner.open_tail(rules_decided);
        let partial = view::partial(text);
        if partial < text.len() {
            // What stands before half an escape may be followed by anything.
            tail = tail.min(Round::of(redactor, &text[..partial], before, is_again).decided);
        }
        let named = scanner.candidates.iter().map(|candidate| (candidate.start, candidate.end));
        let named = named.chain(scanner.spans.iter().copied());
        let found = findings.iter().map(|finding| (finding.start, finding.end));
        let decided = text.floor_char_boundary(settle(tail, named.chain(found)));
        // A key block whose last line is there is held whole as long as something behind it is open.
        let held = findings.iter().find(|found| found.class == Class::PrivateKey && found.start >= decided);
        let held = held.map(|found| Open {
            from: found.start,
            class: Class::PrivateKey,
            until: Until::Block { is_in_string: None },
        });
        let block = block.or(held);
        let patterns_decided = match redactor.rules.patterns().next() {
            Some(_) => scanner.open_match(text.floor_char_boundary(text.len().saturating_sub(MAX_MATCH))),
            None => text.len(),
        };
        let next = take_from(&mut findings, decided);
        Round { findings, next, decided, patterns_decided, open, block }
    }
}

/// Removes the finds from `decided` on; says of which class the one is that begins there.
fn take_from(findings: &mut Vec<Finding>, decided: usize) -> Option<Class> {
    let next = findings.iter().find(|finding| finding.start == decided).map(|finding| finding.class);
    findings.retain(|finding| finding.start < decided);
    next
}

/// The greatest position up to `at` that lies within none of `ranges`.
fn settle(at: usize, ranges: impl Iterator<Item = (usize, usize)> + Clone) -> usize {
    let mut settled = at;
    while let Some((start, _)) = ranges.clone().find(|(start, end)| *start < settled && settled < *end) {
        settled = start;
    }
    settled
}
