//! Measures the worst texts known: one piece, repeated over the whole text, against plain text of the same size.
//!
//! Pieces are the anchors, signs of syntax, beginnings of values that never end, and finds of every class: alone, and
//! all pairs. Each is measured in a short text, the worst of them in one of ten megabytes. Prints those that take
//! longest, and how their time grows when the text does fourfold; 4 is linear. Run with `--release`, for some minutes;
//! the first argument is the greater size in KiB, the second says that of so many pairs one is measured. 0 instead
//! measures the anchors alone, all of them in the long text.
//! The best of several readings counts, since the machine may be busy.

#![expect(clippy::print_stdout, reason = "an example prints its result")]

mod pieces;

use std::time::Instant;

use awooop_redact::{Action, Redactor, Rules};

/// Bytes of the text in which every piece is measured: a reading fits into a time slice.
const SHORT: usize = 32 << 10;
/// How many of the worst are measured in a long text.
const WORST: usize = 25;

/// Plain text: prose as people write it, of which only the lines count in which nothing is found.
const PLAIN: &str = include_str!("../../README.md");

/// Seconds a byte for `piece`, repeated over `size` bytes.
fn measure(redactor: &Redactor, piece: &str, size: usize) -> f64 {
    let text = piece.repeat((size / piece.len()).max(1));
    let once = || {
        let begin = Instant::now();
        std::hint::black_box(redactor.redact(&text));
        begin.elapsed().as_secs_f64()
    };
    (0..3).map(|_| once()).fold(f64::INFINITY, f64::min) / text.len() as f64
}

/// Seconds a byte for plain text.
fn plain(redactor: &Redactor, size: usize) -> f64 {
    let is_plain = |line: &&str| redactor.redact(line).findings.is_empty();
    let lines: Vec<&str> = PLAIN.split_inclusive('\n').filter(is_plain).collect();
    measure(redactor, &lines.concat(), size)
}

/// The pieces that cost most in a short text, and how many were measured; without a stride the anchors.
fn worst(redactor: &Redactor, stride: usize) -> (Vec<String>, usize) {
    let mut singles: Vec<String> = Redactor::anchors().map(str::to_owned).collect();
    if stride == 0 {
        let count = singles.len();
        return (singles, count);
    }
    singles.extend(pieces::PIECES.iter().map(|piece| (*piece).to_owned()));
    singles.extend(pieces::finds());
    let pairs = singles.iter().flat_map(|first| singles.iter().map(move |second| format!("{first}{second}")));
    let all = singles.iter().cloned().chain(pairs.step_by(stride));
    let mut costs: Vec<(f64, String)> = all.map(|piece| (measure(redactor, &piece, SHORT), piece)).collect();
    let count = costs.len();
    costs.sort_by(|a, b| b.0.total_cmp(&a.0));
    costs.truncate(WORST);
    (costs.into_iter().map(|(_, piece)| piece).collect(), count)
}

fn main() {
    let argument = |n: usize| std::env::args().nth(n).and_then(|value| value.parse().ok());
    let size = argument(1).unwrap_or(10_240_usize) << 10;
    let redactor = Redactor::with(Rules::everything(Action::Mask));
    let (worst, count) = worst(&redactor, argument(2).unwrap_or(1));
    let base = plain(&redactor, size);
    println!("{count} pieces; plain text: {:.0} MB/s", 1e-6 / base);
    let reading = |piece: String| {
        let (quarter, whole) = (measure(&redactor, &piece, size / 4), measure(&redactor, &piece, size));
        (whole / base, 4.0 * whole / quarter, piece)
    };
    let mut results: Vec<(f64, f64, String)> = worst.into_iter().map(reading).collect();
    results.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (ratio, growth, piece) in &results {
        println!("{ratio:8.1} times plain text, {growth:.1} times for four times the size: {piece:?}");
    }
}
