//! What stands in a text in place of a find: `[CLASS]`, or `[CLASS:tag]` where equal values shall join.
//!
//! The tag is the first six bytes of HMAC-SHA256 over class and value under the project's key, in hexadecimal:
//! whoever lacks the key cannot test a guess, and two of a million values share a tag once in five hundred texts.
//! The value is first brought to one spelling, so that `+886 912-345-678` and `0912345678` are one.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Class;

/// Hexadecimal digits of a tag.
pub(crate) const TAG_DIGITS: usize = 12;

/// The longest mask: brackets, name, colon and tag.
pub(crate) const MAX_MASK: usize = 2 + 40 + 1 + TAG_DIGITS;

/// The key under which equal values get equal tags.
#[derive(Clone)]
pub struct TagKey(Arc<[u8]>);

impl TagKey {
    /// A key of any length, 16 bytes or more to be one; who has it can test whether a tag stands for a value.
    pub fn new(secret: impl AsRef<[u8]>) -> Self {
        TagKey(secret.as_ref().into())
    }

    /// The tag of `value` as a find of `class`.
    pub(crate) fn tag(&self, class: Class, value: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("an HMAC key may have any length");
        mac.update(class.as_str().as_bytes());
        mac.update(b"\0");
        mac.update(one_spelling(class, value).as_bytes());
        let digest = mac.finalize().into_bytes();
        digest[..TAG_DIGITS / 2].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for TagKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TagKey")
    }
}

/// The value as it is compared: without what people group and decorate it with.
pub(crate) fn one_spelling(class: Class, value: &str) -> String {
    let alphanumeric = || value.chars().filter(char::is_ascii_alphanumeric);
    match class {
        Class::Email => value.to_lowercase(),
        Class::Iban | Class::NationalId => alphanumeric().map(|c| c.to_ascii_uppercase()).collect(),
        Class::Card | Class::CompanyNumber => value.chars().filter(char::is_ascii_digit).collect(),
        Class::Phone => {
            let digits: String = alphanumeric().collect::<String>().to_lowercase().replace("ext", "x");
            match (value.starts_with('+'), digits.strip_prefix("00"), digits.strip_prefix('0')) {
                (true, ..) => digits,
                (_, Some(international), _) => international.to_owned(),
                (.., Some(national)) => format!("886{national}"),
                _ => digits,
            }
        }
        Class::IpAddress => value
            .parse::<std::net::IpAddr>()
            .map_or_else(|_| value.to_lowercase(), |address| address.to_canonical().to_string()),
        _ => value.to_owned(),
    }
}

/// The length in bytes of the mask that begins `bytes`, if one does: a built-in class's, plain or tagged.
pub(crate) fn mask_len(bytes: &[u8]) -> Option<usize> {
    mask_len_by(bytes, |name| is_class(&Class::CREDENTIALS, name) || is_class(&Class::PERSONAL, name))
}

/// The same for masks of credentials.
pub(crate) fn credential_mask_len(bytes: &[u8]) -> Option<usize> {
    mask_len_by(bytes, |name| is_class(&Class::CREDENTIALS, name))
}

/// The same for masks of these names.
pub(crate) fn mask_len_of<'a>(bytes: &[u8], mut names: impl Iterator<Item = &'a str>) -> Option<usize> {
    mask_len_by(bytes, |name| names.any(|listed| listed.as_bytes() == name))
}

/// The same for masks whose name is known.
fn mask_len_by(bytes: &[u8], is_known: impl FnOnce(&[u8]) -> bool) -> Option<usize> {
    let rest = bytes.strip_prefix(b"[")?;
    let is_name = |b: &&u8| b.is_ascii_uppercase() || b.is_ascii_digit() || **b == b'_';
    let len = rest.iter().take(MAX_MASK).take_while(is_name).count();
    let behind = &rest[len..];
    let len_of_all = match behind.first()? {
        b']' => len + 2,
        b':' => {
            let tag = behind.get(1..=TAG_DIGITS)?;
            let is_tag = tag.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
            (is_tag && behind.get(TAG_DIGITS + 1) == Some(&b']')).then_some(len + TAG_DIGITS + 3)?
        }
        _ => return None,
    };
    is_known(&rest[..len]).then_some(len_of_all)
}

fn is_class(classes: &[Class], name: &[u8]) -> bool {
    name.len() > 2 && classes.iter().any(|class| class.as_str().as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_in_other_spellings_have_one_tag() {
        let key = TagKey::new([7; 32]);
        for (class, spellings) in [
            (Class::Email, &["Ann@Example.org", "ann@example.org"][..]),
            (Class::Phone, &["+886 912-345-678", "0912345678", "00886912345678", "0912-345-678"]),
            (Class::Card, &["4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111"]),
            (Class::Iban, &["GB82 WEST 1234 5698 7654 32", "gb82west12345698765432"]),
            (Class::IpAddress, &["2001:DB8::1", "2001:db8:0:0:0:0:0:1"]),
        ] {
            let tags: Vec<String> = spellings.iter().map(|s| key.tag(class, s)).collect();
            assert!(tags.iter().all(|tag| *tag == tags[0]), "{class}: {tags:?}");
        }
        assert_ne!(key.tag(Class::Email, "a@b.tw"), key.tag(Class::Email, "b@b.tw"));
        assert_ne!(key.tag(Class::Email, "1"), key.tag(Class::Phone, "1"));
        assert_ne!(key.tag(Class::Email, "a@b.tw"), TagKey::new([8; 32]).tag(Class::Email, "a@b.tw"));
    }

    #[test]
    fn a_mask_is_known_again_and_nothing_else_is() {
        assert_eq!(mask_len(b"[JWT] and"), Some(5));
        assert_eq!(mask_len(b"[EMAIL:0123456789ab]"), Some(20));
        for other in ["[EMAIL", "[EMAIL:0123]", "[EMAIL:0123456789AB]", "[HUNTER2]", "[]", "JWT]", "["] {
            assert_eq!(mask_len(other.as_bytes()), None, "{other}");
        }
    }
}
