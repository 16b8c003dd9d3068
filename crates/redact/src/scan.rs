//! One scan of a text: anchors to scanners, their finds to one list without overlaps.
//!
//! Two kinds of finds: those certain by their shape, and values of names that say "secret", which are judged after
//! all shapes are known, since a value that holds a credential is masked whole.
//! Overlaps are resolved the same way every time: a credential names the mask before anything else does, then earliest
//! start, then longest, then the more precise class; what sticks out is added to the mask, so an overlap never leaves
//! a tail.

use crate::anchors::Rule;
use crate::class::Family;
use crate::document::Document;
use crate::judge::Crowd;
use crate::mask::MAX_MASK;
use crate::open::{Open, Until};
use crate::rules::{Action, Rules};
use crate::shaped::MIN_SHAPED;
use crate::text::Text;
use crate::zones::{Span, Stretches};
use crate::{Class, Finding, Redactor, encoded, view, work};

/// The value of a name that says it is secret.
pub(crate) struct Candidate {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) class: Class,
    /// Whether the value is a secret by itself, whatever else is found in it.
    pub(crate) is_secret: bool,
    pub(crate) is_quoted: bool,
}

/// A line of a PEM block that names a private key.
pub(crate) struct PemMark {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) opens: bool,
    /// Whether it may go on.
    pub(crate) is_open: bool,
}

/// The state of a scan.
pub(crate) struct Scanner<'a> {
    pub(crate) text: Text<'a>,
    pub(crate) rules: &'a Rules,
    pub(crate) redactor: &'a Redactor,
    /// Whether finds were masked before. Masks bring nothing nearer to a key that was not beside it.
    pub(crate) is_again: bool,
    /// Whether more text may follow; what is open then is noted.
    pub(crate) goes_on: bool,
    pub(crate) candidates: Vec<Candidate>,
    /// Values of names in what is spelled in another way, whether they are masked or not.
    pub(crate) spans: Vec<(usize, usize)>,
    pub(crate) pem_marks: Vec<PemMark>,
    /// Where the last JWT header ended, and how many that end there were decoded.
    pub(crate) jwt_tries: (usize, u32),
    /// End of the last name looked at, so that `secret_key` is judged once and not for each of its words.
    pub(crate) last_name_end: usize,
    /// End of the last list of values.
    pub(crate) last_list_end: usize,
    /// Remembered extent of the last unquoted value, and whether the end of the text was in sight.
    pub(crate) last_value: (usize, usize, bool),
    /// Remembered extent of the last value that reaches to the end of its line.
    pub(crate) last_header: (usize, usize),
    /// Named values with a common end.
    pub(crate) values: Crowd,
    /// Tokens with a common end.
    pub(crate) tokens: Crowd,
    /// End of the last PuTTY key found.
    pub(crate) putty_end: usize,
    /// The earliest find that is not decided, key blocks apart.
    pub(crate) open: Option<Open>,
    /// The earliest key block that is not decided.
    pub(crate) open_block: Option<Open>,
    /// From where the end of the text could become part of a find, as far as it is spelled in another way.
    pub(crate) tail_in_view: usize,
    /// The same for the secret of an AWS key that may follow.
    pub(crate) secret_in_view: usize,
    /// Where the user information of each URL ends: those signs are no e-mail address's.
    pub(crate) userinfo_ends: Vec<usize>,
    /// Runs of the characters of base64 that are long enough to say something.
    long_runs: Vec<(usize, usize)>,
    /// The name the text is the value of, such as the key of a JSON member; empty if it has none.
    pub(crate) name: &'a str,
    /// What is read of the text, by position and apart.
    pub(crate) zones: Vec<Span>,
    /// What rules looked at.
    pub(crate) looked: Stretches,
    /// Where a rule asked what all of the text before it decides.
    pub(crate) asked: Vec<Span>,
    /// Whether a rule looked beyond its zone.
    pub(crate) is_beyond: bool,
    hits: Vec<Finding>,
}

impl<'a> Scanner<'a> {
    /// A scan of a text that is whole and is the value of `name`.
    pub(crate) fn new(redactor: &'a Redactor, text: Text<'a>, name: &'a str) -> Self {
        Scanner {
            redactor,
            rules: &redactor.rules,
            is_again: false,
            goes_on: false,
            candidates: Vec::new(),
            spans: Vec::new(),
            pem_marks: Vec::new(),
            jwt_tries: (0, 0),
            last_name_end: 0,
            last_list_end: 0,
            last_value: (0, 0, false),
            last_header: (0, 0),
            values: Crowd::default(),
            tokens: Crowd::default(),
            putty_end: 0,
            open: None,
            open_block: None,
            tail_in_view: usize::MAX,
            secret_in_view: usize::MAX,
            userinfo_ends: Vec::new(),
            long_runs: Vec::new(),
            name,
            zones: vec![(0, text.bytes.len())],
            looked: Stretches::default(),
            asked: Vec::new(),
            is_beyond: false,
            hits: Vec::new(),
            text,
        }
    }

    /// A scan of the zones of a text in which finds were masked.
    pub(crate) fn again(redactor: &'a Redactor, text: Text<'a>, name: &'a str, zones: Vec<Span>) -> Self {
        Scanner { is_again: true, zones, ..Scanner::new(redactor, text, name) }
    }

    /// Scans, and gives what it finds, by position, without overlaps: in the text as it stands, in what it says to a
    /// reader who decodes it, and in base64.
    pub(crate) fn findings(&mut self) -> Vec<Finding> {
        self.read();
        self.views();
        self.encoded();
        // A block that begins may end anywhere.
        self.is_beyond |= self.pem_marks.iter().any(|mark| mark.opens);
        self.pem_blocks();
        self.finish()
    }

    /// Looks around every anchor, at every long run, and for what the rules name.
    fn read(&mut self) {
        for (from, to) in self.zones.clone() {
            for (rule, start, end) in self.redactor.anchors.find(self.text.str, from, to) {
                work::count(end - start);
                self.apply(rule, start, end);
                let reach = self.text.take_reach().max(end);
                self.looked.add(start, reach);
                self.is_beyond |= reach > to;
                if self.text.take_document_asked() {
                    self.asked.push((start, end));
                }
            }
        }
        self.long_runs = encoded::long_runs(self.text.str).collect();
        for n in 0..self.long_runs.len() {
            let (start, end) = self.long_runs[n];
            if end - start >= MIN_SHAPED {
                self.shaped(start, end);
                self.open_shaped(start);
            }
        }
        self.custom();
    }

    /// Looks at what is spelled in another way.
    fn views(&mut self) {
        let text = std::mem::replace(&mut self.text, Text::new("", Document::new()));
        let zones = self.zones.clone();
        let is_wanted = |start: usize, end: usize| {
            let next = zones.partition_point(|(_, to)| to + view::REACH < start);
            zones.get(next).is_some_and(|(from, _)| *from < end + view::REACH)
        };
        for view in view::windows(text.str, is_wanted).filter(|view| !view.text.is_empty()) {
            let mut inner = Scanner::new(self.redactor, Text::of_view(&view, &text), self.name);
            (inner.is_again, inner.goes_on) = (self.is_again, self.goes_on);
            inner.read();
            if text.take_document_asked() {
                self.asked.push((view.start, view.end));
            }
            // A block that begins in a window may end anywhere.
            for mark in std::mem::take(&mut inner.pem_marks) {
                let (start, end) = view.in_original(mark.start, mark.end);
                self.pem_marks.push(PemMark { start, end, ..mark });
            }
            for found in inner.finish() {
                let (start, end) = view.in_original(found.start, found.end);
                self.hits.push(Finding { start, end, ..found });
            }
            if self.goes_on && view.end == text.bytes.len() {
                self.open_in_view(&mut inner, &view);
            }
        }
        self.text = text;
    }

    /// Looks into base64.
    fn encoded(&mut self) {
        let is_cut = encoded::is_base64(self.text.before().last());
        let bytes = self.text.bytes;
        for (start, end) in std::mem::take(&mut self.long_runs) {
            // Of a run that begins before the text its beginning told that it says nothing.
            let run = encoded::decode(bytes, start, end);
            let Some(run) = run.filter(|run| !is_cut || run.start >= encoded::MAX_OFFSET) else { continue };
            let mut inner = Scanner::new(self.redactor, Text::new(&run.text, Document::new()), self.name);
            inner.read();
            inner.views();
            inner.pem_blocks();
            if let Some(found) = inner.finish().first() {
                self.hits.push(Finding { class: found.class, start: run.start, end: run.end });
            }
        }
        self.open_encoded();
    }

    /// All that was found. What else is personal data says nothing about whether a value is a secret, so it comes
    /// after the verdicts.
    fn finish(&mut self) -> Vec<Finding> {
        let shapes = merged(std::mem::take(&mut self.hits));
        let mut found = self.judged(&shapes);
        self.personal();
        found.append(&mut self.hits);
        if found.is_empty() {
            return shapes;
        }
        found.extend(shapes);
        merged(found)
    }

    /// Records a find at `start..end`, unless the rules let it stay.
    pub(crate) fn push(&mut self, class: Class, start: usize, end: usize) {
        let stays = || {
            class.family() != Family::Credential
                && (self.rules.action(class) == Action::Allow
                    || self.rules.allows(class, &self.text.str[start..end]))
        };
        // Of many that end together, as in `sk-sk-sk-`, the first says all there is to say.
        let is_known = self
            .hits
            .last()
            .is_some_and(|last| last.class == class && last.start <= start && end <= last.end);
        if start < end && !is_known && !stays() {
            self.hits.push(Finding { class, start, end });
        }
    }

    /// Finds what the patterns of the rules match.
    fn custom(&mut self) {
        for pattern in self.rules.patterns() {
            for found in pattern.regex.find_iter(self.text.str) {
                if !self.is_in_mask(found.start(), found.end()) {
                    self.push(Class::Custom(pattern.name), found.start(), found.end());
                }
            }
        }
    }

    /// Where the match of a pattern begins that goes over `at`, or `at`.
    pub(crate) fn open_match(&self, at: usize) -> usize {
        let matches = self.rules.patterns().flat_map(|pattern| pattern.regex.find_iter(self.text.str));
        let over = matches.filter(|found| found.start() < at && at < found.end());
        over.map(|found| found.start()).min().unwrap_or(at)
    }

    /// Whether `start..end` lies within a mask, which then says all there is to say.
    pub(crate) fn is_in_mask(&self, start: usize, end: usize) -> bool {
        let bytes = self.text.bytes;
        let open = bytes[..=start.min(bytes.len() - 1)].iter().rev().take(MAX_MASK).position(|b| *b == b'[');
        open.is_some_and(|back| {
            let at = start - back;
            self.rules.mask_len(&bytes[at..]).is_some_and(|len| end <= at + len)
        })
    }

    fn apply(&mut self, rule: Rule, start: usize, end: usize) {
        match rule {
            Rule::Prefixed(prefix) => self.prefixed(prefix, start),
            Rule::Jwt => self.jwt(start),
            Rule::Aws => self.aws(start),
            Rule::AzureSecret => self.azure_secret(start),
            Rule::AzureDevops => self.azure_devops(start),
            Rule::Terraform => self.terraform(start, end),
            Rule::Mailgun => {
                self.mailgun(start, end);
                self.keyword(start, end - 1);
            }
            Rule::Sas => self.sas(start),
            Rule::Telegram => self.telegram(start, end),
            Rule::Webhook { segments, min } => self.webhook(end, segments, min),
            Rule::PrivateKey => {
                self.pem_mark(start, end);
                self.keyword(start, end);
            }
            Rule::Putty => self.putty(start, end),
            Rule::Url => self.url(end),
            Rule::EscapedUrl => self.escaped_url(start + 1),
            Rule::Scheme => self.scheme(start, end),
            Rule::Authorization => self.authorization(start, end),
            Rule::Keyword => self.keyword(start, end),
            Rule::Identified => self.identified(start, end),
            Rule::User => self.user_option(start, end),
        }
        self.open_rule(rule, start, end);
    }

    /// The named values that are to be masked, each with whatever was found in it.
    fn judged(&mut self, shapes: &[Finding]) -> Vec<Finding> {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort_by_key(|candidate| candidate.start);
        let mut masked = Vec::new();
        let mut next = 0;
        // The end of the last masked value that took in all that touches it.
        let mut covered = 0;
        for candidate in &mut candidates {
            if candidate.end <= covered {
                continue;
            }
            while shapes.get(next).is_some_and(|shape| shape.end <= candidate.start) {
                next += 1;
            }
            loop {
                let inside = shapes[next..].partition_point(|shape| shape.start < candidate.end);
                let Some(last) = inside.checked_sub(1).map(|n| shapes[next + n]) else { break };
                candidate.is_secret = true;
                if candidate.is_quoted || last.end <= candidate.end {
                    break;
                }
                candidate.end = self.unquoted_end(last.end).max(last.end);
                if self.text.take_touched() {
                    let (from, class) = (candidate.start, candidate.class);
                    self.open(Open { from, class, until: Until::Value });
                }
            }
            if candidate.is_secret {
                covered = if candidate.is_quoted { covered } else { candidate.end };
                masked.push(Finding { class: candidate.class, start: candidate.start, end: candidate.end });
            }
        }
        self.candidates = candidates;
        masked
    }
}

pub(crate) fn merged(mut hits: Vec<Finding>) -> Vec<Finding> {
    hits.sort_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end), hit.class));
    let mut result: Vec<Finding> = Vec::with_capacity(hits.len());
    for hit in hits {
        match result.last_mut() {
            Some(last) if hit.start < last.end => {
                last.end = last.end.max(hit.end);
                if hit.class.family() == Family::Credential && last.class.family() != Family::Credential {
                    last.class = hit.class;
                }
            }
            _ => result.push(hit),
        }
    }
    result
}
