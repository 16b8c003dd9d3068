//! Counts what a scan looks at, in bytes, so that a test can tell linear from quadratic work without a clock.
//!
//! Every walk whose length the text decides counts its bytes here. Outside of tests nothing is counted.

#[cfg(test)]
use std::cell::Cell;

#[cfg(test)]
thread_local! {
    static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
}

/// Notes that so many bytes were looked at.
#[inline]
pub(crate) fn count(bytes: usize) {
    #[cfg(test)]
    LOOKED_AT.set(LOOKED_AT.get() + bytes);
    #[cfg(not(test))]
    let _ = bytes;
}

#[cfg(test)]
#[path = "../examples/hostile/pieces.rs"]
mod pieces;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Redactor, Rules};

    /// How many bytes are looked at in `piece`, repeated over `size` bytes.
    fn work(redactor: &Redactor, piece: &str, size: usize) -> usize {
        LOOKED_AT.set(0);
        redactor.redact(&piece.repeat(size / piece.len()));
        LOOKED_AT.get()
    }

    #[test]
    fn no_text_costs_more_than_in_proportion_to_its_length() {
        let redactor = Redactor::with(Rules::everything(Action::Mask));
        let mut singles: Vec<String> = Redactor::anchors().map(str::to_owned).collect();
        singles.extend(pieces::PIECES.iter().map(|piece| (*piece).to_owned()));
        singles.extend(pieces::finds());
        let openers = ["", "\"", "'", "\\", "@", ":", "%41", "password=", "\"password\":\""];
        let all =
            openers.iter().flat_map(|opener| singles.iter().map(move |single| format!("{opener}{single}")));
        for piece in all {
            let (short, long) = (work(&redactor, &piece, 4 << 10), work(&redactor, &piece, 16 << 10));
            // Windows around spellings, and values that are judged in part, are full only in the longer text.
            assert!(long < 6 * short + (64 << 10), "{piece:?}: {short} for 4 KiB, {long} for 16 KiB");
        }
    }
}
