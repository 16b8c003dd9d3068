//! Credentials in arguments of a command: `--token={credential.token}` stands for the credential that the contract
//! calls `token`. What names no credential of the contract stays as it is written.

const OPEN: &str = "{credential.";

/// The names of credentials that an argument asks for, in its order.
pub fn credentials_in_argument(argument: &str) -> Vec<&str> {
    pieces(argument).into_iter().filter_map(|(_, name)| name).collect()
}

/// The argument with each credential in its place; `value` gives one by its name.
///
/// # Errors
/// Those of `value`.
pub fn fill_argument<E>(
    argument: &str,
    mut value: impl FnMut(&str) -> Result<Option<String>, E>,
) -> Result<String, E> {
    let mut text = String::new();
    for (before, name) in pieces(argument) {
        text.push_str(before);
        let Some(name) = name else { continue };
        match value(name)? {
            Some(value) => text.push_str(&value),
            None => text.push_str(&format!("{OPEN}{name}}}")),
        }
    }
    Ok(text)
}

/// Plain text, each piece with the name that follows it.
fn pieces(argument: &str) -> Vec<(&str, Option<&str>)> {
    let (mut found, mut rest) = (Vec::new(), argument);
    let mut from = 0;
    while let Some(open) = rest[from..].find(OPEN).map(|at| at + from) {
        let inner = &rest[open + OPEN.len()..];
        match inner.find('}').map(|end| &inner[..end]).filter(|name| is_name(name)) {
            Some(name) => {
                found.push((&rest[..open], Some(name)));
                rest = &inner[name.len() + 1..];
                from = 0;
            }
            None => from = open + OPEN.len(),
        }
    }
    found.push((rest, None));
    found
}

/// As the schema spells a credential's name.
fn is_name(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_braces_stands_for_its_credential_and_nothing_else_does() {
        for (argument, names, rendered) in [
            ("--token={credential.token}", vec!["token"], "--token=T"),
            ("{credential.token}:{credential.token}", vec!["token", "token"], "T:T"),
            ("{credential.a}{credential.token}", vec!["a", "token"], "{credential.a}T"),
            ("{credential.Token} {credential.} {token} {credential.x", vec![], ""),
            ("{credential.{credential.token}}", vec!["token"], "{credential.T}"),
            ("plain", vec![], ""),
        ] {
            assert_eq!(credentials_in_argument(argument), names, "{argument}");
            let value = |name: &str| Ok::<_, ()>((name == "token").then(|| "T".to_owned()));
            let expected = if rendered.is_empty() { argument } else { rendered };
            assert_eq!(fill_argument(argument, value).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_a_credential_holds_is_not_read_as_a_name() {
        let value = |_: &str| Ok::<_, ()>(Some("{credential.other}".to_owned()));
        assert_eq!(fill_argument("{credential.token}", value).as_deref(), Ok("{credential.other}"));
    }
}
