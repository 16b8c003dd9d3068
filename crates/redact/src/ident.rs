//! Names that say their value is secret: `db_password`, `clientSecret`, `X-API-Key`, `密碼`.
//!
//! A name is compared by its end, without separators and case, so `AWS_SECRET_ACCESS_KEY` and `accessKey` meet
//! `accesskey`. Names that only sound secret (`page_token`, `max_tokens`, `public_key`) are not in it.

use crate::Class;

/// How much a name says about its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strength {
    /// The value of a password is a secret whatever it looks like.
    Strong,
    /// Prose and code use the word for other things too; the value must look the part.
    Weak,
}

const STRONG: &[&str] = &[
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "dbpass",
    "userpass",
    "密碼",
    "密码",
    "口令",
    "パスワード",
    "비밀번호",
    "passwort",
    "kennwort",
    "contraseña",
    "contraseÑa",
    "contrasena",
    "motdepasse",
    "senha",
    "wachtwoord",
    "пароль",
    "Пароль",
    "ПАРОЛЬ",
];

const WEAK: &[&str] = &[
    "secret",
    "secrets",
    "token",
    "credential",
    "credentials",
    "apikey",
    "accesskey",
    "privatekey",
    "secretkey",
    "signingkey",
    "encryptionkey",
    "accountkey",
    "masterkey",
    "authkey",
    "sharedkey",
    "sessionkey",
    "servicekey",
    "sshkey",
    "deploykey",
    "金鑰",
    "密鑰",
    "密钥",
];

/// Tokens that are cursors, correlation ids or vocabulary, not credentials.
const HARMLESS: &[&str] = &[
    "pagetoken",
    "nexttoken",
    "synctoken",
    "continuationtoken",
    "paginationtoken",
    "progresstoken",
    "canceltoken",
    "cancellationtoken",
    "stoptoken",
    "bostoken",
    "eostoken",
    "padtoken",
    "unktoken",
    "pertoken",
];

/// Words of [`WEAK`] that alone say little: prose and logs are full of them.
const VAGUE: &[&str] = &["secret", "secrets", "token", "credential", "credentials"];

/// Words that stand before `key`, `token`, `secret` in a name of two words.
const QUALIFIERS: &[&str] = &[
    "access",
    "account",
    "api",
    "auth",
    "bearer",
    "client",
    "deploy",
    "encryption",
    "master",
    "oauth",
    "private",
    "refresh",
    "secret",
    "service",
    "session",
    "shared",
    "signing",
    "ssh",
    "webhook",
];

/// The longest name that is looked at, in bytes.
pub(crate) const MAX_NAME: usize = 64;

/// What `name` says about its value; `None` if nothing.
pub(crate) fn judge(name: &str) -> Option<(Strength, Class)> {
    if name.len() > 2 * MAX_NAME || is_working_directory(name) {
        return None;
    }
    let mut plain = [0; 2 * MAX_NAME];
    let mut len = 0;
    for c in name.chars().filter(|c| is_part(*c)) {
        len += c.to_ascii_lowercase().encode_utf8(&mut plain[len..]).len();
    }
    let plain = std::str::from_utf8(&plain[..len]).expect("it was made of characters");
    let plain = plain.trim_end_matches(|c: char| c.is_ascii_digit());
    let last = plain.as_bytes().last();
    // Most words end otherwise, which one byte tells.
    let ends_in = |list: &[&str]| {
        list.iter().filter(|word| word.as_bytes().last() == last).any(|word| plain.ends_with(word))
    };
    if plain.ends_with("authorization") {
        return Some((Strength::Strong, Class::Authorization));
    }
    if ends_in(STRONG) || is_pass(name, plain) {
        return Some((Strength::Strong, Class::Secret));
    }
    if !ends_in(WEAK) || ends_in(HARMLESS) {
        return None;
    }
    let class = match plain {
        _ if plain.ends_with("accountkey") || plain.ends_with("sharedaccesskey") => Class::AzureKey,
        _ if plain.contains("aws") || plain.ends_with("secretaccesskey") => Class::AwsKey,
        _ => Class::Secret,
    };
    Some((Strength::Weak, class))
}

/// Whether a character of a name counts when names are compared: separators and the accents of Unicode's decomposed
/// forms do not. What else is not ASCII is a letter of the word that was found.
fn is_part(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() } else { !('\u{300}'..='\u{36f}').contains(&c) }
}

/// Whether `name` is that of a shell's working directory, which some settings use for a password.
pub(crate) fn is_working_directory(name: &str) -> bool {
    matches!(name, "PWD" | "OLDPWD")
}

/// Whether `name` is only a word such as `token`, or `pass` in any name: without a sign behind it that says little.
pub(crate) fn is_vague(name: &str) -> bool {
    let word = name.rsplit(['-', '_', '.']).next().unwrap_or(name);
    word.eq_ignore_ascii_case("pass")
        || VAGUE.iter().any(|word| name.trim_start_matches('-').eq_ignore_ascii_case(word))
}

/// Whether `word` before the last word of a name belongs to it, as in `access token`.
pub(crate) fn is_qualifier(word: &str) -> bool {
    QUALIFIERS.iter().any(|listed| listed.eq_ignore_ascii_case(word))
}

/// `pass` as a word of its own, unlike `bypass` and `compass`.
fn is_pass(name: &str, plain: &str) -> bool {
    let Some(before) = name.len().checked_sub(5) else { return plain == "pass" };
    plain.ends_with("pass") && (name.ends_with("Pass") || !name.as_bytes()[before].is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_by_their_end() {
        for name in ["password", "DB_PASS", "dbPass", "pass", "MYSQL_PWD", "userPassword2", "新密碼"] {
            assert_eq!(judge(name), Some((Strength::Strong, Class::Secret)), "{name}");
        }
        for name in ["api_key", "X-API-Key", "clientSecret", "auth.token", "private key", "credentials"] {
            assert_eq!(judge(name), Some((Strength::Weak, Class::Secret)), "{name}");
        }
        for name in [
            "bypass",
            "compass",
            "PWD",
            "tokens",
            "max_tokens",
            "page_token",
            "public_key",
            "key",
            "keyboard",
            "",
            "é",
        ] {
            assert_eq!(judge(name), None, "{name}");
        }
        assert_eq!(judge("AWS_SECRET_ACCESS_KEY").map(|found| found.1), Some(Class::AwsKey));
        assert_eq!(judge("AccountKey").map(|found| found.1), Some(Class::AzureKey));
    }
}
