//! The forms in which a known value is looked for.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::SHORTEST;

/// Characters from which on a line of a value counts by itself.
const LONG_LINE: usize = 16;

/// The forms of a value, in lower case and at least [`SHORTEST`] bytes each.
pub(super) fn of_value(value: &str) -> Vec<Vec<u8>> {
    let value = value.trim();
    let lines =
        value.lines().map(str::trim).filter(|line| line.len() >= LONG_LINE && line.len() < value.len());
    let mut forms: Vec<Vec<u8>> = std::iter::once(value).chain(lines).flat_map(of_text).collect();
    forms.retain(|form| form.len() >= SHORTEST);
    for form in &mut forms {
        form.make_ascii_lowercase();
    }
    forms
}

fn of_text(text: &str) -> Vec<Vec<u8>> {
    if text.len() < SHORTEST {
        return Vec::new();
    }
    let bytes = text.as_bytes();
    let mut forms = vec![bytes.to_vec(), text.chars().rev().collect::<String>().into_bytes()];
    forms.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
    for before in 0..3 {
        forms.push(within_base64(bytes, before, |all| STANDARD_NO_PAD.encode(all)));
        forms.push(within_base64(bytes, before, |all| URL_SAFE_NO_PAD.encode(all)));
    }
    // without white space, as it is compared with a text from which that was taken
    forms.push(bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect());
    forms
}

/// What Base64 of a text has in it when `bytes` stand in that text after `before` others (counted modulo 3): the
/// characters that depend on `bytes` alone.
fn within_base64(bytes: &[u8], before: usize, encode: impl Fn(&[u8]) -> String) -> Vec<u8> {
    let mut all = vec![0; before];
    all.extend_from_slice(bytes);
    let first = (before * 8).div_ceil(6);
    let last = all.len() * 8 / 6;
    encode(&all).as_bytes()[first..last].to_vec()
}
