//! API keys: `awp_<project>_<id 12>_<secret 43>`, parsed from the right because a project id may hold `_`.
//! Only the shape lives here; hashing and comparison need the server's pepper and lie in `store`.

use crate::ids::ProjectId;

/// Length of a key's id in characters of `[0-9A-Za-z]`.
pub const KEY_ID_LEN: usize = 12;
/// Length of a key's secret in characters of `[0-9A-Za-z]`: 43 * log2(62) = 256 bits.
pub const KEY_SECRET_LEN: usize = 43;

/// The parts of a key as it was presented. It has no `Debug`, so a secret cannot slip into a log.
pub struct PresentedKey<'a> {
    /// The project the key claims.
    pub project: ProjectId,
    /// The key's public id.
    pub id: &'a str,
    /// The secret, still to be checked.
    pub secret: &'a str,
}

/// Takes a key apart; `None` for anything that is not exactly a key.
pub fn parse(text: &str) -> Option<PresentedKey<'_>> {
    let rest = text.strip_prefix("awp_")?;
    let (rest, secret) = rest.rsplit_once('_')?;
    let (project, id) = rest.rsplit_once('_')?;
    let is_alnum = |t: &str, n: usize| t.len() == n && t.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_alnum(id, KEY_ID_LEN) || !is_alnum(secret, KEY_SECRET_LEN) {
        return None;
    }
    Some(PresentedKey { project: ProjectId::parse(project).ok()?, id, secret })
}

/// Puts a key together.
pub fn format(project: &ProjectId, id: &str, secret: &str) -> String {
    format!("awp_{project}_{id}_{secret}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_parsed_from_the_right() {
        let text = format(&ProjectId::parse("a_b_c").unwrap(), "Id0123456789", &"s".repeat(43));
        let key = parse(&text).expect("a key");
        assert_eq!((key.project.as_str(), key.id), ("a_b_c", "Id0123456789"));
        for bad in
            ["", "awp_", &text[1..], &text[..text.len() - 1], &format!("{text}x"), &text.replace("Id", "I-")]
        {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
