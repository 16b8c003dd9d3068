//! Values that are known exactly, such as the credentials a project uses: found wherever they stand, whatever they look
//! like, as they are and in the forms in which programs repeat things.
//!
//! Those are: any case, reversed, hexadecimal, Base64 of both alphabets (also within a longer Base64 text), escaped for
//! URLs, JSON or HTML (up to three times over), with white space or invisible characters in between, and in several
//! strings of one document that follow each other. Whoever holds a value and wants to hide it can still do so; this is
//! for what is repeated by accident or by habit.
//! A value shorter than [`SHORTEST`] is not looked for: it would be found in ordinary text.

mod document;
mod forms;
mod view;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;

use self::view::View;

/// Bytes that a value must have to be looked for.
pub const SHORTEST: usize = 8;

/// What stands in a value's place.
const MASK: &str = "[SECRET]";

/// Escapes within escapes that are undone.
const ROUNDS: usize = 3;

/// The least part of a value that counts where a text was cut off within it.
const SHORTEST_PART: usize = 4;

/// Finds and masks values that are known. Its `Debug` shows none of them.
#[derive(Clone, Default)]
pub struct Known {
    finder: Option<AhoCorasick>,
    /// In lower case, for ends that were cut.
    forms: Vec<Vec<u8>>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("forms", &self.forms.len()).finish_non_exhaustive()
    }
}

impl Known {
    /// Looks for these values; of one with several lines also for each long line.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms: Vec<Vec<u8>> = values.into_iter().flat_map(forms::of_value).collect();
        forms.sort_unstable();
        forms.dedup();
        if forms.is_empty() {
            return Self::default();
        }
        let finder = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(&forms);
        Self { finder: Some(finder.expect("the values are far fewer than the finder takes")), forms }
    }

    /// Is nothing looked for?
    pub fn is_empty(&self) -> bool {
        self.finder.is_none()
    }

    /// The text with `[SECRET]` in the place of each value.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        masked(text, &self.ranges(text))
    }

    /// The same of a text that was cut off at its end, maybe within a value: then its beginning is masked too.
    pub fn mask_cut<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let lower = text.as_bytes().to_ascii_lowercase();
        let parts = self.forms.iter().filter_map(|form| {
            let longest = form.len().saturating_sub(1).min(lower.len());
            (SHORTEST_PART..=longest).rev().find(|&n| lower.ends_with(&form[..n]))
        });
        let Some(part) = parts.max() else { return self.mask(text) };
        let mut ranges = self.ranges(text);
        ranges.push(char_floor(text, text.len() - part)..text.len());
        masked(text, &merged(ranges))
    }

    /// The value with `[SECRET]` in the place of each known value, in strings, names and numbers.
    pub fn mask_json(&self, value: Value) -> Value {
        if self.is_empty() { value } else { document::mask(self, value) }
    }

    /// Where known values stand, in order and without overlaps, on character borders.
    fn ranges(&self, text: &str) -> Vec<Range<usize>> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut found = self.plain(text.as_bytes());
        let mut views: Vec<View> = Vec::new();
        for _ in 0..ROUNDS {
            let source = views.last().map_or(text.as_bytes(), View::bytes);
            let Some(view) = View::unescaped(source) else { break };
            views.push(view);
            self.through(&views, &mut found);
        }
        for depth in [0, views.len()] {
            let source = depth.checked_sub(1).map_or(text.as_bytes(), |last| views[last].bytes());
            let Some(view) = View::unspaced(source) else { continue };
            let mut chain: Vec<View> = views[..depth].to_vec();
            chain.push(view);
            self.through(&chain, &mut found);
            if views.is_empty() {
                break;
            }
        }
        merged(found)
    }

    /// What the last of these views shows, as places in the text under the first.
    fn through(&self, views: &[View], found: &mut Vec<Range<usize>>) {
        let Some(last) = views.last() else { return };
        let back = |range: Range<usize>| views.iter().rev().fold(range, |range, view| view.source(range));
        found.extend(self.plain(last.bytes()).into_iter().map(back));
    }

    /// Places in bytes that are not looked at in any other way.
    fn plain(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        self.finder.iter().flat_map(|finder| finder.find_iter(bytes)).map(|m| m.start()..m.end()).collect()
    }
}

fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

fn masked<'a>(text: &'a str, ranges: &[Range<usize>]) -> Cow<'a, str> {
    if ranges.is_empty() {
        return Cow::Borrowed(text);
    }
    let (mut masked, mut at) = (String::with_capacity(text.len()), 0);
    for range in ranges {
        masked.push_str(&text[at..char_floor(text, range.start).max(at)]);
        masked.push_str(MASK);
        at = char_ceil(text, range.end);
    }
    masked.push_str(&text[at..]);
    Cow::Owned(masked)
}

fn char_floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

fn char_ceil(text: &str, at: usize) -> usize {
    (at..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests;
