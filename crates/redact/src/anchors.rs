//! The literal anchors: every credential this crate knows has one of them in or beside it.
//!
//! They are found in one pass without regard to case; the rule of an anchor checks case and everything else.
//! Matches do not overlap but for a full stop, leftmost first, so of two anchors with a common start the longer must
//! come first.
//! The pass is bound by how fast bytes are read: the three bytes at every place are hashed to a bit that says whether
//! an anchor may begin so, six places at a time, which is some three times as fast as an automaton of all anchors.

use crate::token::{PREFIXES, Prefix};

/// Which scanner looks around an anchor.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// A token that begins with the anchor.
    Prefixed(&'static Prefix),
    /// A JSON Web Token's first characters.
    Jwt,
    /// An AWS access key id.
    Aws,
    /// The middle of an Azure client secret.
    AzureSecret,
    /// The signature near the end of an Azure DevOps token.
    AzureDevops,
    /// The middle of a Terraform Cloud token.
    Terraform,
    /// A Mailgun key's first characters, which end the names of other keys too.
    Mailgun,
    /// A SAS signature's name.
    Sas,
    /// The middle of a Telegram bot token.
    Telegram,
    /// The constant part of a webhook's address. So many segments of the path behind it say nothing secret, and the
    /// rest has at least so many characters.
    Webhook { segments: usize, min: usize },
    /// A label of a PEM block, or the words in prose.
    PrivateKey,
    /// The part of a PuTTY key file that is secret.
    Putty,
    /// The border between a URL's scheme and the rest.
    Url,
    /// The same where its slashes are escaped, in a string or in strings within strings.
    EscapedUrl,
    /// An authentication scheme.
    Scheme,
    /// The name of the `Authorization` header.
    Authorization,
    /// A word that may be the name of a secret.
    Keyword,
    /// SQL's `IDENTIFIED BY`.
    Identified,
    /// The option of a command that takes `user:password`.
    User,
}

impl Rule {
    /// Whether the anchor is part of what is masked, and not only beside it. The first line of a private key is
    /// found by its dashes.
    fn masks_its_anchor(self) -> bool {
        matches!(
            self,
            Rule::Prefixed(_)
                | Rule::Jwt
                | Rule::Aws
                | Rule::AzureSecret
                | Rule::AzureDevops
                | Rule::Terraform
                | Rule::Mailgun
                | Rule::Telegram
                | Rule::Putty
        )
    }
}

const ANCHORS: &[(&str, Rule)] = &[
    ("private key", Rule::PrivateKey),
    ("private-lines:", Rule::Putty),
    ("eyj", Rule::Jwt),
    ("ewog", Rule::Jwt),
    ("akia", Rule::Aws),
    ("asia", Rule::Aws),
    ("q~", Rule::AzureSecret),
    ("azdo", Rule::AzureDevops),
    (".atlasv1.", Rule::Terraform),
    ("key-", Rule::Mailgun),
    ("sig=", Rule::Sas),
    (":aa", Rule::Telegram),
    ("hooks.slack.com/", Rule::Webhook { segments: 1, min: 20 }),
    ("/api/webhooks/", Rule::Webhook { segments: 1, min: 20 }),
    ("/incomingwebhook/", Rule::Webhook { segments: 0, min: 20 }),
    ("/bot/v2/hook/", Rule::Webhook { segments: 0, min: 20 }),
    ("/webhook/send?key=", Rule::Webhook { segments: 0, min: 20 }),
    ("hooks.zapier.com/hooks/catch/", Rule::Webhook { segments: 1, min: 5 }),
    ("://", Rule::Url),
    (":\\/", Rule::EscapedUrl),
    (":\\\\", Rule::EscapedUrl),
    ("bearer", Rule::Scheme),
    ("basic ", Rule::Scheme),
    ("authorization", Rule::Authorization),
    ("pass", Rule::Keyword),
    ("pwd", Rule::Keyword),
    ("secret", Rule::Keyword),
    ("token", Rule::Keyword),
    ("credential", Rule::Keyword),
    ("key", Rule::Keyword),
    ("密碼", Rule::Keyword),
    ("密码", Rule::Keyword),
    ("口令", Rule::Keyword),
    ("金鑰", Rule::Keyword),
    ("密鑰", Rule::Keyword),
    ("密钥", Rule::Keyword),
    ("パスワード", Rule::Keyword),
    ("비밀번호", Rule::Keyword),
    ("kennwort", Rule::Keyword),
    ("contraseña", Rule::Keyword),
    ("contraseÑa", Rule::Keyword),
    ("contrasena", Rule::Keyword),
    ("contrasen\u{303}a", Rule::Keyword),
    ("mot de passe", Rule::Keyword),
    ("senha", Rule::Keyword),
    ("wachtwoord", Rule::Keyword),
    ("пароль", Rule::Keyword),
    ("Пароль", Rule::Keyword),
    ("ПАРОЛЬ", Rule::Keyword),
    ("identified ", Rule::Identified),
    ("-u ", Rule::User),
    ("-user", Rule::User),
];

/// Every literal that is looked for, in small letters or as it is written.
pub(crate) fn literals() -> impl Iterator<Item = &'static str> {
    PREFIXES.iter().map(|prefix| prefix.literal).chain(ANCHORS.iter().map(|anchor| anchor.0))
}

/// Bytes of an anchor that are hashed.
const GRAM: usize = 3;
/// Places that are looked at together: those of eight bytes at which three begin.
const STEP: usize = 6;
/// Sets one bit of each byte: capitals become small letters, and some signs become others.
const FOLD: u64 = 0x2020_2020_2020_2020;

/// The compiled anchors.
pub(crate) struct Anchors {
    /// A bit for each hash with which an anchor may begin.
    begins: Box<[u64; 1024]>,
    /// The anchors by the low byte of their hash, in the order of the table.
    by_hash: Vec<Vec<Entry>>,
    masked: Vec<(&'static str, Rule)>,
}

impl Anchors {
    /// Compiles the table above and the token prefixes.
    pub(crate) fn built_in() -> Self {
        let prefixes = PREFIXES.iter().map(|prefix| (prefix.literal, Rule::Prefixed(prefix)));
        let table: Vec<(&'static str, Rule)> = prefixes.chain(ANCHORS.iter().copied()).collect();
        let masked = table.iter().filter(|(_, rule)| rule.masks_its_anchor()).copied().collect();
        let mut anchors = Anchors {
            begins: Box::new([0; 1024]),
            by_hash: std::iter::repeat_with(Vec::new).take(256).collect(),
            masked,
        };
        for (literal, rule) in table {
            anchors.add(literal.as_bytes(), rule);
        }
        anchors
    }

    /// The anchors that are part of what is masked.
    pub(crate) fn masked(&self) -> &[(&'static str, Rule)] {
        &self.masked
    }

    fn add(&mut self, literal: &'static [u8], rule: Rule) {
        match *literal {
            [a, b, c, ..] => self.add_beginning([a, b, c], literal, rule),
            // Of two bytes the third may be any.
            [a, b] => (0..=u8::MAX).for_each(|c| self.add_beginning([a, b, c], literal, rule)),
            _ => unreachable!("an anchor has two bytes or more"),
        }
    }

    fn add_beginning(&mut self, gram: [u8; GRAM], literal: &'static [u8], rule: Rule) {
        let hash = hash(u64::from_le_bytes([gram[0], gram[1], gram[2], 0, 0, 0, 0, 0]) | FOLD);
        self.begins[usize::from(hash >> 6)] |= 1 << (hash & 63);
        let bucket = &mut self.by_hash[usize::from(hash & 0xff)];
        if !bucket.iter().any(|entry| entry.literal == literal) {
            bucket.push(Entry::new(literal, rule));
        }
    }

    /// The anchors in `text` that begin between `from` and `to`, from left to right: rule, start, end.
    pub(crate) fn find<'a>(
        &'a self,
        text: &'a str,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = (Rule, usize, usize)> + 'a {
        let bytes = text.as_bytes();
        let mut at = from;
        std::iter::from_fn(move || {
            while at < to {
                let candidates = self.candidates(bytes, at);
                if candidates == 0 {
                    at += STEP;
                    continue;
                }
                at += usize::try_from(candidates.trailing_zeros()).expect("a bit of 32 has a small number");
                if at >= to {
                    break;
                }
                if let Some((rule, len)) = self.anchor_at(bytes, at) {
                    let (start, end) = (at, at + len);
                    at = next_place(bytes, end);
                    return Some((rule, start, end));
                }
                at += 1;
            }
            None
        })
    }

    /// At which of the next six places an anchor may begin, a bit a place.
    #[inline]
    fn candidates(&self, bytes: &[u8], at: usize) -> u32 {
        let word = folded(&bytes[at..]);
        let is_begin = |place: usize| {
            let hash = hash(word >> (8 * place));
            u32::from(self.begins[usize::from(hash >> 6)] >> (hash & 63) & 1 == 1) << place
        };
        is_begin(0) | is_begin(1) | is_begin(2) | is_begin(3) | is_begin(4) | is_begin(5)
    }

    /// The anchor that begins at `at`, and its length.
    fn anchor_at(&self, bytes: &[u8], at: usize) -> Option<(Rule, usize)> {
        let rest = &bytes[at..];
        let word = folded(rest);
        let bucket = &self.by_hash[usize::from(hash(word) & 0xff)];
        let is_here = |entry: &&Entry| {
            word & entry.mask == entry.head
                && rest
                    .get(..entry.literal.len())
                    .is_some_and(|head| head.eq_ignore_ascii_case(entry.literal))
        };
        bucket.iter().find(is_here).map(|entry| (entry.rule, entry.literal.len()))
    }
}

/// Where to go on behind an anchor that ends at `end`: its last full stop may be the first of the next, as in
/// `…SG.atlasv1.`.
fn next_place(bytes: &[u8], end: usize) -> usize {
    if bytes[end - 1] == b'.' { end - 1 } else { end }
}

/// An anchor among those whose beginning has the same hash.
struct Entry {
    literal: &'static [u8],
    rule: Rule,
    /// Its first eight bytes, folded, and which of them there are: most others are told apart by them.
    head: u64,
    mask: u64,
}

impl Entry {
    fn new(literal: &'static [u8], rule: Rule) -> Self {
        let missing = 8_u32.saturating_sub(u32::try_from(literal.len()).unwrap_or(8));
        let mask = u64::MAX.checked_shr(8 * missing).unwrap_or(0);
        Entry { literal, rule, head: folded(literal) & mask, mask }
    }
}

/// The first eight bytes, folded.
#[inline]
fn folded(bytes: &[u8]) -> u64 {
    let word = match bytes.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(eight)
        }
    };
    word | FOLD
}

/// Spreads the low three bytes over 16 bits (Fibonacci hashing: the factor is 2^32 over the golden ratio).
#[inline]
fn hash(word: u64) -> u16 {
    let gram = (word & 0x00ff_ffff) as u32;
    (gram.wrapping_mul(0x9e37_79b1) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pass_finds_what_a_plain_search_finds() {
        let anchors = Anchors::built_in();
        let all: Vec<&[u8]> = anchors.by_hash.iter().flatten().map(|entry| entry.literal).collect();
        let mut state = 1_u64;
        let mut text = String::new();
        for n in 0..4000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = usize::try_from(state >> 33).expect("31 bits") % all.len();
            let literal = std::str::from_utf8(all[pick]).expect("anchors are text");
            text.push_str(&if n % 2 == 0 { literal.to_uppercase() } else { literal.to_owned() });
            text.push_str(["", " ", "x", "密", "%%", "a b c d e f"][n % 6]);
        }
        let found: Vec<(usize, usize)> =
            anchors.find(&text, 0, text.len()).map(|(_, start, end)| (start, end)).collect();
        let mut expected = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text.as_bytes()[at..];
            let here = |l: &[u8]| rest.len() >= l.len() && rest[..l.len()].eq_ignore_ascii_case(l);
            // None is the beginning of an earlier one in the table, so the longest is the first.
            let longest = all.iter().filter(|l| here(l)).map(|l| l.len()).max();
            expected.extend(longest.map(|len| (at, at + len)));
            at = longest.map_or(at + 1, |len| next_place(text.as_bytes(), at + len));
        }
        assert_eq!(found, expected);
        for text in ["", "a", "ke", "key", "密碼", "q~", "xq~"] {
            assert_eq!(
                anchors.find(text, 0, text.len()).count(),
                usize::from(text.len() > 2 || text == "q~"),
                "{text}"
            );
        }
    }

    #[test]
    fn no_anchor_hides_a_longer_one() {
        let all: Vec<String> = PREFIXES
            .iter()
            .map(|p| p.literal.to_ascii_lowercase())
            .chain(ANCHORS.iter().map(|a| a.0.to_string()))
            .collect();
        for (i, early) in all.iter().enumerate() {
            for late in &all[i + 1..] {
                assert!(!late.starts_with(early.as_str()), "{early} hides {late}");
            }
        }
    }
}
